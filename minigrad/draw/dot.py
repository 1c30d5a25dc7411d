"""A picture as DOT text, with every position in it: `neato -n2` renders it and searches nothing."""

from __future__ import annotations

from .finish import SWATCH, legend_entries
from .labels import clean, text_width
from .model import SIZE, SMALL, Box, Cluster, Edge, Picture
from .palette import LIGHT, THEMES, Theme, heat_color, heat_width
from .svg import ARROW, arrow

_SHAPES = {
    "box": ("box", "filled"),
    "round": ("box", "filled,rounded"),
    "pill": ("box", "filled,rounded"),
    "circle": ("circle", "filled"),
    "cylinder": ("cylinder", "filled"),
    "note": ("note", "filled"),
    "double": ("box", "filled"),
}


def quote(text: str, longest: int = 400) -> str:
    """A DOT string that means just this text: not an escape, not HTML, not the end of the string."""
    lines = [
        clean(line, longest).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
        for line in text.split("\n")
    ]
    return '"' + "\\n".join(lines) + '"'


def dot(picture: Picture, theme: str = "light") -> str:
    """DOT text. The same picture gives the same text."""
    colors = THEMES.get(theme, LIGHT)
    ids = {box: f"n{i}" for i, box in enumerate(picture.boxes)}
    flip = picture.height
    rows = [
        f"digraph {quote(picture.title)} {{",
        f'  graph [bgcolor="{colors.background}", fontname="Helvetica", fontsize={SIZE:g}, '
        f"outputorder=edgesfirst, pad=0.05, "
        f"splines=true, tooltip={quote(picture.title)}];",
        f'  node [fontname="Helvetica", fontsize={SIZE:g}, fontcolor="{colors.text}", margin=0, '
        f"penwidth=1.1, "
        f"fixedsize=true];",
        f'  edge [fontname="Helvetica", fontsize={SMALL:g}, fontcolor="{colors.text}", '
        f'color="{colors.edge}", '
        f"arrowsize=0.6, penwidth=0.9];",
    ]
    rows += [_cluster(i, c, ids, colors, flip) for i, c in enumerate(picture.clusters)]
    rows += [_node(ids[box], box, colors, flip) for box in picture.boxes]
    rows += [_edge(edge, ids, colors, flip) for edge in picture.edges]
    rows += _extras(picture, colors, flip)
    return "\n".join([*rows, "}", ""])


def _point(x: float, y: float, flip: float) -> str:
    return f"{x:.1f},{flip - y:.1f}"


def _node(name: str, box: Box, theme: Theme, flip: float) -> str:
    fill, stroke = theme.fills[box.kind]
    shape, style = _SHAPES[box.shape]
    if box.kind in ("detach", "elided", "backward"):
        style += ",dashed"
    if box.kind == "constant":
        style += ",dotted"
    width = ""
    if box.heat:
        stroke, width = heat_color(box.heat, theme), ", penwidth=2.6"
    double = box.shape == "double"
    w, h = (box.w - 6, box.h - 6) if double else (box.w, box.h)
    size = f", fontsize={box.size:g}" if box.size != SIZE else ""
    label = "\n".join(("", *box.lines)) if box.shape == "cylinder" and len(box.lines) == 1 else "\n".join(box.lines)
    if box.shape == "cylinder":
        label = "\n".join(box.lines)
    return (
        f'  {name} [pos="{_point(box.x, box.y, flip)}", width={w / 72:.3f}, height={h / 72:.3f}, '
        f"shape={shape}, "
        f'style="{style}"{", peripheries=2" if double else ""}, fillcolor="{fill}", '
        f'color="{stroke}"{width}{size}, '
        f"label={quote(label)}, tooltip={quote(box.tooltip or box.lines[0] if box.lines else '')}, "
        f'class="{box.kind}"];'
    )


def _edge(edge: Edge, ids: dict[Box, str], theme: Theme, flip: float) -> str:
    color, width, style = theme.edge, 0.9, ""
    if edge.heat:
        color, width = heat_color(edge.heat, theme), heat_width(edge.heat)
    elif edge.style == "rail":
        color, width = theme.rail, 0.8
    elif edge.style == "dashed":
        style = "dashed"
    elif edge.style == "backward":
        color, style = theme.fills["backward"][1], "dashed"
    elif edge.style == "saved":
        style = "dotted"
    path, end = edge.path, ""
    attributes = []
    if edge.arrow:
        length = ARROW + (width - 0.9) * 1.4
        path, corners = arrow(path, length, 1.0)
        end = f"e,{_point(*corners[0], flip)} "
        if edge.style == "rail":
            attributes.append("arrowsize=0.45")
        elif edge.heat:
            attributes.append("arrowsize=0.7")
    else:
        attributes.append("arrowhead=none")
    attributes.append(f'pos="{end}{" ".join(_point(x, y, flip) for x, y in path)}"')
    if color != theme.edge:
        attributes.append(f'color="{color}"')
    if width != 0.9:
        attributes.append(f"penwidth={width:g}")
    if style:
        attributes.append(f"style={style}")
    if edge.label:
        attributes += [f"label={quote(edge.label)}", f'lp="{_point(*edge.label_at, flip)}"']
    if edge.tooltip:
        attributes.append(f"tooltip={quote(edge.tooltip)}")
    return f"  {ids[edge.source]} -> {ids[edge.target]} [{', '.join(attributes)}];"


def _cluster(number: int, cluster: Cluster, ids: dict[Box, str], theme: Theme, flip: float) -> str:
    fill, stroke = theme.fills[cluster.kind]
    bb = f"{_point(cluster.left, cluster.bottom, flip)},{_point(cluster.right, cluster.top, flip)}"
    at = _point(cluster.title_start + text_width(cluster.title, SIZE) * 0.46, cluster.top + 9 + cluster.drop, flip)
    members = "".join(f" {ids[box]};" for box in cluster.members)
    return (
        f'  subgraph cluster_{number} {{ graph [bb="{bb}", label={quote(cluster.title)}, lp="{at}", '
        f'style="filled,rounded", fillcolor="{fill}", color="{stroke}", fontcolor="{theme.text}", '
        f"tooltip={quote(cluster.tooltip or cluster.title)}];{members} }}"
    )


def _extras(picture: Picture, theme: Theme, flip: float) -> list[str]:
    """Strips and legend: nodes without edges."""
    rows: list[str] = []

    def text(words: str, left: float, y: float, size: float = SMALL) -> None:
        w = text_width(words, size)
        rows.append(
            f'  l{len(rows)} [pos="{_point(left + w / 2, y, flip)}", width={w / 72:.3f}, height=0.167, '
            f"shape=plaintext, fontsize={size:g}, label={quote(words)}];"
        )

    def swatch(
        color: str,
        stroke: str,
        x: float,
        y: float,
        w: float,
        h: float,
        style: str = "filled",
        shape: str = "box",
    ) -> None:
        rows.append(
            f'  l{len(rows)} [pos="{_point(x + w / 2, y, flip)}", width={w / 72:.3f}, height={h / 72:.3f}, '
            f'shape={shape}, style="{style}", fillcolor="{color}", color="{stroke}", label=""];'
        )

    for c in picture.clusters:
        if c.other_title:
            text(c.other_title, c.right - 7 - text_width(c.other_title, SIZE) * 0.97, c.top + 9, SIZE)
    for strip in picture.strips:
        text(strip.title, strip.x - 7 - text_width(strip.title, SMALL), strip.y + 6)
        for i, level in enumerate(strip.levels):
            color = heat_color(level, theme)
            swatch(color, color, strip.x + i * strip.cell, strip.y + 6, max(strip.cell - 1.2, 0.4), 11)
        text(strip.end, strip.x + len(strip.levels) * strip.cell + 6, strip.y + 6)
    for entry in legend_entries(picture):
        if entry.kind == "text":
            text(entry.text, entry.x, entry.y)
        elif entry.kind == "heat":
            color = heat_color(entry.text, theme)
            swatch(color, color, entry.x, entry.y, SWATCH - 2, SWATCH - 1)
        else:
            box = Box(entry.kind, (), w=SWATCH, h=SWATCH)
            shape, style = _SHAPES[box.shape]
            swatch(*theme.fills[entry.kind], entry.x, entry.y, SWATCH, SWATCH, style, shape)
    return rows

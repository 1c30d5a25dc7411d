"""A picture as SVG. Plain shapes with plain attributes, so that every viewer and office program reads it.

With `theme="auto"` a style sheet of a few rules follows the reader's light or dark setting.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from .finish import SWATCH, legend_entries
from .labels import clean, text_width
from .model import DASHES, LINE, SIZE, SMALL, Box, Cluster, Edge, Picture, Point, Strip
from .palette import DARK, LEVELS, LIGHT, THEMES, Theme, heat_color, heat_width

ARROW = 6.0


def svg(picture: Picture, theme: str = "light") -> str:
    """SVG text. The same picture gives the same text.

    Args:
        picture: what to draw.
        theme: "light", "dark", or "auto" to follow the reader's setting.
    """
    colors = THEMES.get(theme, LIGHT)
    body = [*(_cluster(c, colors) for c in picture.clusters), *(_edge(e, colors) for e in picture.edges)]
    ids = {box: f"n{i}" for i, box in enumerate(picture.boxes)}
    drawn = [(ids[box], _box(box, colors)) for box in picture.boxes]
    tail = [*(_strip(s, colors) for s in picture.strips), *_legend(picture, colors)]
    w, h = _f(picture.width), _f(picture.height)
    content = "\n".join([_text(picture.title), w, h, *body, *(t for _, t in drawn), *tail])
    key = "mg" + sha256(content.encode()).hexdigest()[:8]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" class="{key}" role="img" '
            f'aria-labelledby="{key}-title {key}-desc" font-family="Helvetica" font-size="{_f(SIZE)}" '
            f'text-anchor="middle" style="max-width:{_f(picture.width * 4 / 3)}px">',
            f'<title id="{key}-title">{_text(picture.title)}</title>',
            f'<desc id="{key}-desc">{_text(picture.description, 2000)}</desc>',
            *([_style(key)] if theme == "auto" else []),
            f'<rect class="background" width="{w}" height="{h}" fill="{colors.background}"/>',
            *body,
            *(f'<g id="{key}-{name}">{shape}</g>' for name, shape in drawn),
            *tail,
            "</svg>",
            "",
        ]
    )


def _style(key: str) -> str:
    """Rules that turn the light attributes into the dark theme."""
    rules = [
        f".{key} .background{{fill:{DARK.background}}}",
        f".{key} text{{fill:{DARK.text}}}",
        f".{key} .line{{stroke:{DARK.edge}}}",
        f".{key} .head{{fill:{DARK.edge}}}",
        f".{key} .line.rail{{stroke:{DARK.rail}}}",
        f".{key} .head.rail{{fill:{DARK.rail}}}",
        f".{key} .line.backward{{stroke:{DARK.fills['backward'][1]}}}",
        f".{key} .head.backward{{fill:{DARK.fills['backward'][1]}}}",
    ]
    rules += [
        f".{key} .k-{kind.replace(' ', '-')}{{fill:{fill};stroke:{stroke}}}"
        for kind, (fill, stroke) in DARK.fills.items()
    ]
    for level in ["heat-none", "heat-nan", *(f"heat{i:+d}" for i in range(-LEVELS, LEVELS + 1))]:
        name, color = _class(level), heat_color(level, DARK)
        rules.append(
            f".{key} .{name}{{stroke:{color}}}.{key} .head.{name},.{key} .cell.{name}{{fill:{color};stroke:none}}"
        )
    return "<style>@media (prefers-color-scheme:dark){" + "".join(rules) + "}</style>"


def _class(level: str) -> str:
    """The class of a heat level: a plus sign would mean something in a style sheet."""
    return level.replace("+", "p")


def _f(value: float) -> str:
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def _text(text: str, longest: int = 400) -> str:
    text = "\n".join(clean(line, longest) for line in text.split("\n"))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _tip(text: str) -> str:
    return f"<title>{_text(text)}</title>" if text else ""


def _path(points: list[Point]) -> str:
    pairs = [f"{_f(x)} {_f(y)}" for x, y in points]
    return f"M{pairs[0]}" + "".join(f"C{' '.join(pairs[i : i + 3])}" for i in range(1, len(pairs), 3))


def _label(lines: Iterable[str], x: float, y: float, size: float, theme: Theme, extra: str = "") -> str:
    lines = list(lines)
    first = y - (len(lines) - 1) * size * LINE / 2 + size * 0.35
    return "".join(
        f'<text x="{_f(x)}" y="{_f(first + i * size * LINE)}" font-size="{_f(size)}" '
        f'fill="{theme.text}"{extra}>{_text(line)}</text>'
        for i, line in enumerate(lines)
    )


def _box(box: Box, theme: Theme) -> str:
    fill, stroke = theme.fills[box.kind]
    width = 1.1
    names = f"k-{box.kind}"
    if box.heat:
        stroke, width, names = heat_color(box.heat, theme), 2.6, f"{names} {_class(box.heat)}"
    paint = f'class="{names}" fill="{fill}" stroke="{stroke}" stroke-width="{width}"'
    if box.kind in DASHES:
        paint += f' stroke-dasharray="{DASHES[box.kind]}"'
    return (
        _tip(box.tooltip)
        + _shape(box, paint)
        + _label(box.lines, box.x, box.y + (3.5 if box.shape == "cylinder" else 0), box.size, theme)
    )


def _shape(box: Box, paint: str) -> str:
    left, top, w, h = box.left, box.top, box.w, box.h
    frame = f'x="{_f(left)}" y="{_f(top)}" width="{_f(w)}" height="{_f(h)}"'
    if box.shape == "circle":
        return f'<circle cx="{_f(box.x)}" cy="{_f(box.y)}" r="{_f(w / 2)}" {paint}/>'
    if box.shape in ("round", "pill"):
        radius = min(8.0 if box.shape == "round" else 12.0, h / 3 if h < 15 else h / 2)
        return f'<rect {frame} rx="{_f(radius)}" {paint}/>'
    if box.shape == "double":
        inner = f'x="{_f(left + 3)}" y="{_f(top + 3)}" width="{_f(w - 6)}" height="{_f(h - 6)}"'
        return f'<rect {frame} {paint} fill-opacity="0"/><rect {inner} {paint}/>'
    if box.shape == "cylinder":
        r = 3.5
        right, bottom = left + w, top + h
        return (
            f'<path d="M{_f(left)} {_f(top + r)}V{_f(bottom - r)}'
            f"A{_f(w / 2)} {r} 0 0 0 {_f(right)} {_f(bottom - r)}"
            f"V{_f(top + r)}A{_f(w / 2)} {r} 0 0 0 {_f(left)} {_f(top + r)}"
            f"A{_f(w / 2)} {r} 0 0 0 {_f(right)} "
            f'{_f(top + r)}A{_f(w / 2)} {r} 0 0 0 {_f(left)} {_f(top + r)}" {paint}/>'
        )
    if box.shape == "note":
        ear, right = 6.0, left + w
        return (
            f'<path d="M{_f(left)} {_f(top)}H{_f(right - ear)}L{_f(right)} {_f(top + ear)}'
            f"V{_f(top + h)}H{_f(left)}Z"
            f'M{_f(right - ear)} {_f(top)}V{_f(top + ear)}H{_f(right)}" {paint}/>'
        )
    return f"<rect {frame} {paint}/>"


def _edge(edge: Edge, theme: Theme) -> str:
    points = list(edge.drawn or edge.path)
    color, width, dash, names = theme.edge, 0.9, "", "line"
    if edge.heat:
        color, width = heat_color(edge.heat, theme), heat_width(edge.heat)
    elif edge.style == "rail":
        color, width = theme.rail, 0.8
    elif edge.style == "dashed":
        dash = ' stroke-dasharray="4,3"'
    elif edge.style == "backward":
        color, dash = theme.fills["backward"][1], ' stroke-dasharray="4,2.5"'
    elif edge.style == "saved":
        dash = ' stroke-dasharray="1.2,2.6"'
    names = " ".join(filter(None, ["line", edge.style, _class(edge.heat)]))
    head = ""
    if edge.arrow:
        length = ARROW + (width - 0.9) * 1.4 if edge.style != "rail" else 4.5
        points, corners = arrow(points, length, length * 0.38 + width * 0.25)
        head = (
            f'<path class="{names.replace("line", "head")}" d="M'
            + "L".join(f"{_f(x)} {_f(y)}" for x, y in corners)
            + f'Z" fill="{color}"/>'
        )
    label = ""
    if edge.label:
        x, y = edge.label_at
        words = edge.label.split("\n")
        wide, high = max(text_width(w, SMALL) for w in words), len(words) * SMALL * LINE
        label = (
            f'<rect class="background" x="{_f(x - wide / 2 - 1)}" y="{_f(y - high / 2 - 1)}" '
            f'width="{_f(wide + 2)}" '
            f'height="{_f(high + 2)}" fill="{theme.background}" fill-opacity="0.6"/>'
        ) + _label(words, x, y, SMALL, theme)
    shape = (
        f'<path class="{names}" d="{_path(points)}" fill="none" stroke="{color}" '
        f'stroke-width="{width}"{dash}/>' + head + label
    )
    return f"<g>{_tip(edge.tooltip)}{shape}</g>" if edge.tooltip else shape


def arrow(path: list[Point], length: float, half: float) -> tuple[list[Point], list[Point]]:
    """The path cut short by an arrow's length, and the arrow's three corners."""
    (x3, y3) = path[-1]
    x2, y2 = next(((x, y) for x, y in reversed(path[:-1]) if abs(x - x3) + abs(y - y3) > length * 0.3), path[0])
    distance = ((x3 - x2) ** 2 + (y3 - y2) ** 2) ** 0.5 or 1.0
    ux, uy = (x3 - x2) / distance, (y3 - y2) / distance
    base = (x3 - ux * length, y3 - uy * length)
    shorter = list(path)
    shorter[-1] = (x3 - ux * length * 0.8, y3 - uy * length * 0.8)
    c = shorter[-2]
    # the last control point must not lie beyond the new end
    if (c[0] - shorter[-1][0]) * ux + (c[1] - shorter[-1][1]) * uy > 0:
        shorter[-2] = shorter[-1]
    return shorter, [
        (x3, y3),
        (base[0] - uy * half, base[1] + ux * half),
        (base[0] + uy * half, base[1] - ux * half),
    ]


def _cluster(cluster: Cluster, theme: Theme) -> str:
    fill, stroke = theme.fills[cluster.kind]
    title = ""
    if cluster.title:
        x = cluster.right - 7 if cluster.to_right else cluster.title_start
        anchor = "end" if cluster.to_right else "start"
        title = (
            f'<text x="{_f(x)}" y="{_f(cluster.top + 13 + cluster.drop)}" text-anchor="{anchor}" fill="{theme.text}">'
            f"{_text(cluster.title)}</text>"
        )
    if cluster.other_title:
        title += (
            f'<text x="{_f(cluster.right - 7)}" y="{_f(cluster.top + 13)}" text-anchor="end" fill="{theme.text}">'
            f"{_text(cluster.other_title)}</text>"
        )
    return (
        f'<g>{_tip(cluster.tooltip)}<rect class="k-{cluster.kind.replace(" ", "-")}" x="{_f(cluster.left)}" '
        f'y="{_f(cluster.top)}" width="{_f(cluster.right - cluster.left)}" '
        f'height="{_f(cluster.bottom - cluster.top)}" rx="9" fill="{fill}" '
        f'stroke="{stroke}" stroke-width="0.9"/>'
        f"{title}</g>"
    )


def _strip(strip: Strip, theme: Theme) -> str:
    parts = [_label([strip.title], strip.x - 7, strip.y + 6, SMALL, theme, ' text-anchor="end"')]
    for i, (level, tip) in enumerate(zip(strip.levels, strip.tooltips, strict=True)):
        color = heat_color(level, theme)
        parts.append(
            f'<rect class="cell {_class(level)}" x="{_f(strip.x + i * strip.cell)}" y="{_f(strip.y)}" '
            f'width="{_f(max(strip.cell - 0.6, 0.4))}" height="12" fill="{color}">{_tip(tip)}</rect>'
        )
    parts.append(
        _label(
            [strip.end],
            strip.x + len(strip.levels) * strip.cell + 6,
            strip.y + 6,
            SMALL,
            theme,
            ' text-anchor="start"',
        )
    )
    return "<g>" + "".join(parts) + "</g>"


def _legend(picture: Picture, theme: Theme) -> list[str]:
    parts = []
    for entry in legend_entries(picture):
        if entry.kind == "text":
            parts.append(_label([entry.text], entry.x, entry.y, SMALL, theme, ' text-anchor="start"'))
        elif entry.kind == "heat":
            parts.append(
                f'<rect class="cell {_class(entry.text)}" x="{_f(entry.x)}" y="{_f(entry.y - SWATCH / 2)}" '
                f'width="{_f(SWATCH - 1)}" height="{_f(SWATCH)}" fill="{heat_color(entry.text, theme)}"/>'
            )
        else:
            swatch = Box(entry.kind, (), shape={"double": "double"}.get("", ""), w=SWATCH, h=SWATCH)
            swatch.x, swatch.y = entry.x + SWATCH / 2, entry.y
            parts.append(_box(swatch, theme))
    return parts

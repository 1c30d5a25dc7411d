"""The last steps of a picture: margins, heat strips, the legend, notes on what was left out."""

from __future__ import annotations

from dataclasses import dataclass

from .labels import text_width
from .model import SIZE, SMALL, Picture

MARGIN = 14.0
SWATCH = 14.0

WORDS = {
    "input": "input",
    "parameter": "parameter",
    "op": "operation",
    "named": "named value",
    "state": "carried state",
    "constant": "constant",
    "mask": "mask",
    "detach": "cut: no gradient passes",
    "output": "output",
    "elided": "steps not drawn",
    "module": "module",
    "backward": "gradient operation",
    "gradient": "gradient",
}


@dataclass(slots=True)
class LegendEntry:
    """A swatch (`kind` of a box, or "heat" with a level) or a "text", at its left end and middle height."""

    kind: str
    text: str
    x: float
    y: float


def finish(picture: Picture, legend: bool = True) -> Picture:
    """Set margins and size, and make room for strips, legend and notes below."""
    xs: list[float] = []
    ys: list[float] = []
    for box in picture.boxes:
        xs += [box.left, box.right]
        ys += [box.top, box.bottom]
    for cluster in picture.clusters:
        xs += [cluster.left, cluster.right]
        if cluster.aside:
            xs.append(cluster.right + 5 + text_width(cluster.title, SIZE))
        ys += [cluster.top, cluster.bottom]
    for edge in picture.edges:
        xs += [x for x, _ in edge.path]
        ys += [y for _, y in edge.path]
        if edge.label:
            half = max(text_width(w, SMALL) for w in edge.label.split("\n")) / 2
            xs += [edge.label_at[0] - half, edge.label_at[0] + half]
            ys += [edge.label_at[1] - 7, edge.label_at[1] + 7]
    dx, dy = MARGIN - min(xs, default=0.0), MARGIN - min(ys, default=0.0)
    _move(picture, dx, dy)
    picture.width = max(xs, default=0.0) + dx + MARGIN
    picture.height = max(ys, default=0.0) + dy + MARGIN
    for strip in picture.strips:
        room = text_width(strip.title, SMALL) + text_width(strip.end, SMALL) + 2 * MARGIN + 14
        picture.width = max(picture.width, room + 200)
        strip.cell = max(min(14.0, (picture.width - room) / len(strip.levels)), 0.5)
        strip.x = max((picture.width - strip.cell * len(strip.levels)) / 2, MARGIN + 7 + text_width(strip.title, SMALL))
        strip.y = picture.height + 2
        picture.height += 22
    if legend:
        picture.legend_y = picture.height + 10
        entries = legend_entries(picture)
        picture.height = max((e.y for e in entries), default=picture.height - 14) + 20
        picture.width = max(
            picture.width,
            max((e.x + text_width(e.text, SMALL) for e in entries if e.kind == "text"), default=0.0) + MARGIN,
        )
    return picture


def _move(picture: Picture, dx: float, dy: float) -> None:
    for box in picture.boxes:
        box.x, box.y = round(box.x + dx, 2), round(box.y + dy, 2)
    for c in picture.clusters:
        c.left, c.right, c.top, c.bottom = c.left + dx, c.right + dx, c.top + dy, c.bottom + dy
    for edge in picture.edges:
        edge.path = [(x + dx, y + dy) for x, y in edge.path]
        edge.label_at = (edge.label_at[0] + dx, edge.label_at[1] + dy)
        if edge.drawn is not None:
            edge.drawn = [(x + dx, y + dy) for x, y in edge.drawn]


def legend_entries(picture: Picture) -> list[LegendEntry]:
    """The legend, with only the kinds that occur, broken into rows that fit; and the notes."""
    if not picture.legend_y:
        return []
    present = {box.kind for box in picture.boxes}
    groups: list[list[tuple[str, str]]] = [[(kind, WORDS[kind])] for kind in WORDS if kind in present]
    if picture.heat_title:
        exponent = {3.0: "³", 6.0: "⁶"}.get(picture.heat_span, "")
        groups.append(
            [
                ("text", f"{picture.heat_title} 10⁻{exponent}"),
                *(("heat", f"heat{i:+d}") for i in (-12, -8, -4, 0, 4, 8, 12)),
                ("text", f" 10{exponent}"),
            ]
        )
    rows: list[list[tuple[list[tuple[str, str]], float]]] = [[]]
    room = max(picture.width, 300.0) - 2 * MARGIN
    used = 0.0
    for group in groups:
        width = sum(_width(kind, text) for kind, text in group) + 12
        if rows[-1] and used + width > room:
            rows.append([])
            used = 0.0
        rows[-1].append((group, width))
        used += width
    entries: list[LegendEntry] = []
    y = picture.legend_y
    for row in rows:
        x = max(MARGIN, (max(picture.width, 300.0) - sum(width for _, width in row)) / 2)
        for group, _ in row:
            for kind, text in group:
                if kind == "text":
                    entries.append(LegendEntry("text", text, x, y))
                elif kind == "heat":
                    entries.append(LegendEntry("heat", text, x, y))
                else:
                    entries.append(LegendEntry(kind, "", x, y))
                    entries.append(LegendEntry("text", text, x + SWATCH + 5, y))
                x += _width(kind, text)
            x += 12
        y += 20
    for note in picture.notes:
        entries.append(LegendEntry("text", note, MARGIN, y))
        y += 16
    return entries


def _width(kind: str, text: str) -> float:
    if kind == "heat":
        return SWATCH
    return text_width(text, SMALL) + 6 + (0 if kind == "text" else SWATCH + 5)

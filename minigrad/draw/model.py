"""What a picture is made of, with every position in it: boxes, edges, clusters. Views make it, writers
read it.

Coordinates are points, y downwards. Writers add nothing and move nothing, so a picture looks the same
whoever renders it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

from .labels import text_width

Point = tuple[float, float]

SIZE = 11.0  # of text in boxes
SMALL = 9.0  # of parameters, states, the legend
LINE = 1.22  # line height, in sizes

SHAPES = {
    "input": "box",
    "parameter": "cylinder",
    "op": "round",
    "named": "round",
    "state": "pill",
    "constant": "round",
    "mask": "note",
    "detach": "box",
    "output": "double",
    "elided": "box",
    "module": "round",
    "backward": "round",
    "gradient": "box",
}
DASHES = {"constant": "1.5,2.5", "detach": "5,3", "elided": "6,4", "backward": "4,2.5"}


@dataclass(slots=True, eq=False)
class Box:
    """A thing with a place. `x`, `y` is its middle."""

    kind: str
    lines: tuple[str, ...]
    tooltip: str = ""
    shape: str = ""
    x: float = 0.0
    y: float = 0.0
    w: float = 0.0
    h: float = 0.0
    heat: str = ""
    number: int = -1

    def __post_init__(self) -> None:
        self.shape = self.shape or SHAPES[self.kind]
        if self.shape == "circle" and self.w > 30:
            self.shape = "round"
        if not self.w:
            self.w, self.h = self.natural_size()

    @property
    def size(self) -> float:
        """Size of its text."""
        return SMALL if self.kind in ("parameter", "state", "detach", "constant") else SIZE

    def natural_size(self) -> tuple[float, float]:
        """Width and height that the text needs."""
        if self.shape == "circle":
            return 19.0, 19.0
        width = max((text_width(line, self.size) for line in self.lines), default=0.0)
        height = len(self.lines) * self.size * LINE
        extra = {"cylinder": (12, 15), "double": (18, 14), "note": (22, 8), "pill": (16, 7)}.get(self.shape, (11, 7))
        return round(width + extra[0], 1), round(height + extra[1], 1)

    @property
    def left(self) -> float:
        """x of its left side."""
        return self.x - self.w / 2

    @property
    def right(self) -> float:
        """x of its right side."""
        return self.x + self.w / 2

    @property
    def top(self) -> float:
        """y of its upper side."""
        return self.y - self.h / 2

    @property
    def bottom(self) -> float:
        """y of its lower side."""
        return self.y + self.h / 2


@dataclass(slots=True, eq=False)
class Edge:
    """An arrow. `path` is a chain of cubic Bézier curves: a start, then three points for each curve.

    Attributes:
        style: "", "rail", "dashed" (a value without gradient), "backward" or "saved".
        heat: a heat level for its colour and width, or "".
        drawn: the part of the path to draw where another edge already shows the rest; None for all.
    """

    source: Box
    target: Box
    path: list[Point]
    style: str = ""
    heat: str = ""
    label: str = ""
    label_at: Point = (0.0, 0.0)
    tooltip: str = ""
    arrow: bool = True
    drawn: list[Point] | None = None


@dataclass(slots=True, eq=False)
class Cluster:
    """A rounded rectangle around boxes, with a title."""

    title: str
    left: float
    top: float
    right: float
    bottom: float
    members: list[Box] = field(default_factory=list)
    kind: str = "cluster"
    tooltip: str = ""
    aside: bool = False  # the title stands beside the right side
    to_left: bool = False  # or, if so, the left one
    drop: float = 0.0  # and so much below the upper side
    to_right: bool = False  # the title ends at the right
    other_title: str = ""  # a second part of the title, at the right
    indent: float = 7.0  # of the title from the left side

    @property
    def full_title(self) -> str:
        """All that is written on it."""
        return " · ".join(filter(None, (self.title, self.other_title)))

    @property
    def title_start(self) -> float:
        """x at which the title begins."""
        if self.aside:
            return self.left - 5 - text_width(self.title, SIZE) * 0.97 if self.to_left else self.right + 5
        return self.right - 7 - text_width(self.title, SIZE) * 0.97 if self.to_right else self.left + self.indent


@dataclass(slots=True)
class Strip:
    """One cell per time step, coloured by the gradient at that step."""

    title: str
    levels: list[str]
    tooltips: list[str]
    end: str = ""
    x: float = 0.0
    y: float = 0.0
    cell: float = 10.0


@dataclass(slots=True)
class Picture:
    """A finished drawing.

    Attributes:
        listing: what the text has besides the graph.
    """

    title: str
    description: str = ""
    boxes: list[Box] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    clusters: list[Cluster] = field(default_factory=list)
    strips: list[Strip] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    listing: list[str] = field(default_factory=list)
    heat_title: str = ""
    heat_span: float = 3.0
    width: float = 0.0
    height: float = 0.0
    legend_y: float = 0.0


# -----------------------------------------------------------------------------------------------------------
# Paths
# -----------------------------------------------------------------------------------------------------------


def line(points: Sequence[Point]) -> list[Point]:
    """Straight pieces through the points."""
    path = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        path += [
            (x0 + (x1 - x0) / 3, y0 + (y1 - y0) / 3),
            (x0 + (x1 - x0) * 2 / 3, y0 + (y1 - y0) * 2 / 3),
            (x1, y1),
        ]
    return path


def polyline(path: Sequence[Point], pieces: int = 12) -> list[Point]:
    """Points along a path, close enough together to see what it runs through."""
    points = [path[0]]
    weights = _weights(pieces)
    for k in range(0, len(path) - 3, 3):
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = path[k : k + 4]
        points += [(a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3) for a, b, c, d in weights]
    return points


@cache
def _weights(pieces: int) -> list[tuple[float, float, float, float]]:
    """How much each of the four points of a curve counts, along the way."""
    ways = [i / pieces for i in range(1, pieces + 1)]
    return [((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3) for t in ways]


def rounded(points: Sequence[Point], radius: float = 9.0) -> list[Point]:
    """Straight pieces through the points with rounded corners."""
    kept = [points[0]]
    for p in points[1:]:
        if abs(p[0] - kept[-1][0]) + abs(p[1] - kept[-1][1]) > 0.01:
            kept.append(p)
    if len(kept) < 3:
        return line(kept if len(kept) > 1 else [*kept, points[-1]])
    path = [kept[0]]
    for before, corner, after in zip(kept, kept[1:], kept[2:], strict=False):
        a, b = _towards(corner, before, radius), _towards(corner, after, radius)
        path += line([path[-1], a])[1:]
        path += [
            _towards(a, corner, 0.6 * _distance(a, corner), exact=True),
            _towards(b, corner, 0.6 * _distance(b, corner), exact=True),
            b,
        ]
    return path + line([path[-1], kept[-1]])[1:]


def flowing(points: Sequence[Point], stub: float = 0.0) -> list[Point]:
    """A curve through the points that is vertical at each of them."""
    path = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        bend = (y1 - y0) * 0.45
        if abs(x1 - x0) < 0.5:
            path += line([(x0, y0), (x1, y1)])[1:]
        else:
            path += [(x0, y0 + bend), (x1, y1 - bend), (x1, y1)]
    return path


def _distance(a: Point, b: Point) -> float:
    return float(((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5)


def _towards(a: Point, b: Point, length: float, exact: bool = False) -> Point:
    """The point `length` away from `a` on the way to `b`, at most half way unless `exact`."""
    whole = _distance(a, b)
    share = length / whole if whole else 0.0
    share = share if exact else min(share, 0.5)
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share

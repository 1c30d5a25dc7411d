"""Where the titles of modules inside a step stand: beside their frame, where no box, no arrow and no other title is."""

from __future__ import annotations

from ..labels import text_width
from ..model import SIZE, Cluster, Picture, Point, polyline

HEIGHT = 14.0
LOWER = 7.0

Area = tuple[float, float, float, float]  # left, top, right, bottom


def settle_titles(picture: Picture) -> None:
    """Find a place for each title that stands beside a frame."""
    aside = [cluster for cluster in picture.clusters if cluster.aside]
    if not aside:
        return
    lines = [polyline(edge.drawn or edge.path) for edge in picture.edges]
    spans = [(min(y for _, y in line), max(y for _, y in line), line) for line in lines]
    taken: list[Area] = []
    for cluster in aside:
        outer = [c for c in picture.clusters if c is not cluster and not c.aside and _holds(c, cluster)]
        best: tuple[int, bool, float] | None = None
        for left_side in (False, True):
            drop = 0.0
            while drop <= max(cluster.bottom - cluster.top - HEIGHT, 0.0) and (best is None or best[0]):
                cluster.drop, cluster.to_left = drop, left_side
                area = _area(cluster)
                inside = all(c.left < area[0] and area[2] < c.right for c in outer)
                if inside and not any(_meet(area, (b.left, b.top, b.right, b.bottom)) for b in picture.boxes):
                    crossed = sum(_meet(area, other) for other in taken) * 100
                    near = (line for low, high, line in spans if low < area[3] and high > area[1])
                    crossed += sum(_crosses(line, area) for line in near)
                    if best is None or crossed < best[0]:
                        best = crossed, left_side, drop
                drop += LOWER
        _, cluster.to_left, cluster.drop = best or (0, False, 0.0)
        taken.append(_area(cluster))


def _area(cluster: Cluster) -> Area:
    left, top = cluster.title_start, cluster.top + 2 + cluster.drop
    return left, top, left + text_width(cluster.title, SIZE) * 0.97, top + HEIGHT


def _holds(outer: Cluster, inner: Cluster) -> bool:
    return outer.left <= inner.left and inner.right <= outer.right and outer.top <= inner.top <= outer.bottom


def _meet(a: Area, b: Area) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _crosses(line: list[Point], area: Area) -> bool:
    left, top, right, bottom = area
    before = line[0]
    for point in line[1:]:
        low, high = min(before[1], point[1]), max(before[1], point[1])
        if low < bottom and high > top and min(before[0], point[0]) < right and max(before[0], point[0]) > left:
            return True
        before = point
    return False

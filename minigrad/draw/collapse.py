"""The graph of groups, drawn: layers of boxes, with a frame and an arrow back around a loop."""

from __future__ import annotations

import math
from collections.abc import Hashable

from .flow import connect, port, spread, straight
from .graph import Item
from .group_boxes import group_box, loop_title, loop_words, room_of
from .groups import Group, topological
from .labels import clean
from .layered import Layout, arrange
from .model import Box, Cluster, Edge, Picture, Point, rounded
from .palette import heat_level
from .runs import Analysis, Run

BETWEEN = 34.0


def draw_groups(found: Analysis, title: str, keys: dict[Item, Hashable], horizontal: bool) -> Picture:
    picture = Picture(title)
    groups: dict[Hashable, Group] = {}
    for item in found.graph.items:
        groups.setdefault(keys[item], Group(keys[item])).items.append(item)
    for item in found.graph.items:
        group = groups[keys[item]]
        for source in item.inputs:
            groups[keys[source]].feeds.setdefault(group, []).append(source)
    for group in groups.values():
        group.run = group.key if isinstance(group.key, Run) else None
        group.box = group_box(found, group)
    order = topological(list(groups.values()))
    place = {group: i for i, group in enumerate(order)}
    edges = [(place[a], place[b]) for a in order for b in a.feeds if place[b] > place[a]]
    back = [(a, b) for a in order for b in a.feeds if place[b] <= place[a]]
    size = {group: room_of(found, group) for group in order}
    across = [size[g][1 if horizontal else 0] for g in order]
    along = [size[g][0 if horizontal else 1] for g in order]
    layout = arrange(across, edges, gap=20.0)
    starts, at = [], 0.0
    for layer in range(layout.depth):
        starts.append(at)
        at += max((along[i] for i in layout.order[layer]), default=0.0)
        starts.append(at)
        at += BETWEEN + (16.0 if horizontal else 0.0)
    for i, group in enumerate(order):
        box = group.box
        assert box is not None
        middle = (starts[2 * layout.layer[i]] + starts[2 * layout.layer[i] + 1]) / 2
        # laid out from top to bottom; a horizontal picture is turned at the end
        box.x, box.y = layout.x[i], middle
        if group.run is not None:
            box.x += _lower(size[group], box.h)
        if horizontal:
            box.w, box.h = box.h, box.w
        picture.boxes.append(box)
    _arrows(picture, order, edges, layout, starts, [(across[i], along[i]) for i in range(len(order))])
    if horizontal:
        _turn(picture)
    grown = [abs(math.log10(g)) for run in found.runs if (g := _growth(run)) and math.isfinite(g)]
    picture.heat_span = 6.0 if max(grown, default=0.0) > 3 else 3.0
    for group in order:
        if group.run is not None:
            _loop(found, picture, group, size[group])
    _back(picture, [(a.box, b.box) for a, b in back if a is not b and a.box and b.box], horizontal)
    return picture


def _back(picture: Picture, pairs: list[tuple[Box, Box]], horizontal: bool) -> None:
    """Arrows against the direction of the picture: below what is between, or at the right of it."""
    for n, (a, b) in enumerate(pairs):
        if horizontal:
            low, high = min(a.left, b.left), max(a.right, b.right)
            lane = max(
                *(c.bottom for c in picture.clusters if c.right > low and c.left < high),
                *(box.bottom for box in picture.boxes if box.right > low and box.left < high),
                a.bottom,
            )
            lane += 10 + 6 * n
            x0, x1 = a.x + a.w * 0.25, b.x - b.w * 0.25
            points = [(x0, a.bottom), (x0, lane), (x1, lane), (x1, b.bottom)]
        else:
            low, high = min(a.top, b.top), max(a.bottom, b.bottom)
            lane = max(box.right for box in picture.boxes if box.bottom > low and box.top < high) + 12 + 6 * n
            points = [(a.right, a.y), (lane, a.y), (lane, b.y), (b.right, b.y)]
        picture.edges.append(Edge(a, b, rounded(points), "dashed", tooltip="back to an earlier call"))


def _growth(run: Run) -> float | None:
    """The norm of the gradient of a run's state at its first step, relative to that at the last."""
    if not run.states:
        return None
    state = next((s for s in run.states if s.name == "h"), run.states[-1])
    grads = [g for g in run.grads(state) if g is not None]
    return grads[0] / grads[-1] if len(grads) > 1 and grads[-1] else None


def _loop(found: Analysis, picture: Picture, group: Group, size: tuple[float, float]) -> None:
    """The cluster around a run's box, and the arrow of the carried state."""
    run, box = group.run, group.box
    assert run is not None and box is not None
    left, right = box.x - size[0] / 2, box.x + size[0] / 2
    middle = box.y - _lower(size, box.h)
    top, bottom = middle - size[1] / 2, middle + size[1] / 2
    picture.clusters.append(
        Cluster(
            loop_title(run),
            left,
            top,
            right,
            bottom,
            [box],
            tooltip=clean(run.scopes[0].path, 200),
        )
    )
    if not run.states:
        return
    words = loop_words(found, run)
    level = ""
    growth = _growth(run)
    if growth is not None:
        level = heat_level(growth, picture.heat_span)
        picture.heat_title = "‖∂L/∂state‖, first relative to last step:"
    y = box.top
    path: list[Point] = [(box.x - 34, y), (box.x - 34, y - 30), (box.x + 34, y - 30), (box.x + 34, y)]
    picture.edges.append(
        Edge(box, box, path, "", level or "heat-none", "\n".join(words), (box.x, y - 28 - len(words) * 6))
    )


def _lower(room: tuple[float, float], height: float) -> float:
    """How far below the middle of its frame the box of a loop stands."""
    return room[1] / 2 - 11 - height / 2


def _arrows(
    picture: Picture,
    order: list[Group],
    edges: list[tuple[int, int]],
    layout: Layout,
    starts: list[float],
    rooms: list[tuple[float, float]],
) -> None:
    bends, xs, layer = layout.bends, layout.x, layout.layer
    # what an arrow must not touch: boxes, and the frames of loops
    walls = [group.box if group.run is None else _frame(group, xs[i], rooms[i]) for i, group in enumerate(order)]
    incoming: dict[int, list[tuple[float, int]]] = {}
    outgoing: dict[int, list[tuple[float, int]]] = {}
    for e, (a, b) in enumerate(edges):
        incoming.setdefault(b, []).append((bends[e][-1][1] if e in bends else xs[a], e))
        outgoing.setdefault(a, []).append((bends[e][0][1] if e in bends else xs[b], e))
    ends: dict[int, Point] = {}
    begins: dict[int, Point] = {}
    for i, group in enumerate(order):
        assert group.box is not None
        come, go = sorted(incoming.get(i, [])), sorted(outgoing.get(i, []))
        for at, (_, e) in zip(spread(max(len(come), 1), group.box), come, strict=False):
            ends[e] = port(group.box, at, top=True)
        for at, (_, e) in zip(spread(max(len(go), 1), group.box), go, strict=False):
            begins[e] = port(group.box, at * 0.7, top=False)
    for e, (a, b) in enumerate(edges):
        source, target = order[a].box, order[b].box
        assert source is not None and target is not None
        way: list[Point] = []
        for at, x in bends.get(e, ()):
            way += [(x, starts[2 * at] - 2), (x, starts[2 * at + 1] + 2)]
        near = [wall for i, wall in enumerate(walls) if wall and layer[a] <= layer[i] <= layer[b] and i not in (a, b)]
        path = straight(begins[e], ends[e], near, (source, target)) or connect(
            begins[e], ends[e], way, starts[2 * layer[a] + 1], starts[2 * layer[b]]
        )
        style = {"parameter": "rail", "detach": "dashed"}.get(source.kind, "")
        picture.edges.append(Edge(source, target, path, style))


def _frame(group: Group, x: float, room: tuple[float, float]) -> Box:
    assert group.box is not None
    return Box("module", (), x=x, y=group.box.y, w=room[0], h=room[1])


def _turn(picture: Picture) -> None:
    """From top-to-bottom to left-to-right."""
    for box in picture.boxes:
        box.x, box.y, box.w, box.h = box.y, box.x, box.h, box.w
    for edge in picture.edges:
        edge.path = [(y, x) for x, y in edge.path]

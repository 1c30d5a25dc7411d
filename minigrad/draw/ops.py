"""The plain view: every operation, from the inputs at the top to the outputs at the bottom."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Generic, TypeVar

from ..recording import Scope
from .flow import RAIL_STEP, Tap, connect, port, rails, spread, straight
from .graph import Graph, Item
from .labels import clean, text_width
from .layered import Layout, arrange, assign_layers
from .model import SIZE, Box, Cluster, Edge, Picture, Point, polyline
from .scopes import gradient_scope, scope_chain, scope_title
from .words import box_kind, box_lines, full_kind, tooltip

BETWEEN = 24.0  # layers
TITLE = 17.0  # room for the title of a cluster
PAD = 9.0  # inside a cluster

Thing = TypeVar("Thing")


def item_box(item: Item, name: str, mixed: bool) -> Box:
    """The box of an item."""
    return Box(box_kind(item), box_lines(item, name, mixed), tooltip(item, name), full_kind(item), number=item.index)


def extent(graph: Graph) -> int:
    """How much there is to lay out: the values, and every layer that an arrow passes on its way."""
    at = {item: i for i, item in enumerate(graph.items)}
    edges = [(at[s], at[i]) for i in graph.items for s in i.inputs if s.kind != "parameter"]
    layers = assign_layers(len(at), edges)
    return len(at) + sum(layers[b] - layers[a] - 1 for a, b in edges)


def draw_ops(graph: Graph, title: str, names: Callable[[Item], str], clusters: bool = True) -> Picture:
    """Lay out all items in layers."""
    picture = Picture(title)
    uses = graph.consumers()
    railed = [item for item in graph.items if item.kind == "parameter" and len(uses[item]) > 1 and not item.output]
    on_rail = set(railed)
    items = [item for item in graph.items if item not in on_rail]
    position = {item: i for i, item in enumerate(items)}
    boxes = {item: item_box(item, names(item), graph.mixed_dtypes) for item in items}
    edges = [(position[source], position[item]) for item in items for source in item.inputs if source in position]
    cache: dict[Scope | None, tuple[Scope, ...]] = {None: ()}
    chains: list[tuple[Scope, ...]] = []
    for item in items:
        if item.kind == "op":
            chains.append(scope_chain(item.scope, cache))
        else:
            # a parameter used once stands inside its module, data outside
            user = uses[item][0] if item.kind == "parameter" and uses[item] else None
            chains.append(scope_chain(user.scope, cache) if user is not None else ())
    layout = arrange([boxes[item].w for item in items], edges, groups=chains if clusters else None, gap=20.0)
    lanes: dict[int, list[Item]] = {}
    for item in railed:
        for layer in sorted({layout.layer[position[user]] for user in uses[item]}):
            lanes.setdefault(layer, []).append(item)
    titles = _titles(layout, chains) if clusters else {}
    tops, bottoms = _rows(layout, [boxes[item] for item in items], lanes, titles)
    for item, i in position.items():
        box = boxes[item]
        box.x, box.y = layout.x[i], (tops[layout.layer[i]] + bottoms[layout.layer[i]]) / 2
        picture.boxes.append(box)
    if clusters:
        above = [len(lanes.get(layer, ())) * RAIL_STEP for layer in layout.layer]
        picture.clusters = _clusters(items, chains, boxes, picture.boxes, above)
    _edges(picture, items, edges, boxes, position, layout, tops, bottoms, uses, on_rail, lanes)
    _move_titles(picture)
    return picture


class _Heights(Generic[Thing]):
    """Things by their place from top to bottom, so that what is near a cluster is found among thousands."""

    def __init__(self, things: Iterable[tuple[float, float, Thing]]) -> None:
        self._things = sorted(things, key=lambda t: t[0])
        self._tops = [top for top, _, _ in self._things]
        self._tallest = max((bottom - top for top, bottom, _ in self._things), default=0.0)

    def between(self, top: float, bottom: float) -> Iterator[Thing]:
        """What reaches into a stretch."""
        low, high = bisect_left(self._tops, top - self._tallest), bisect_right(self._tops, bottom)
        return (thing for _, end, thing in self._things[low:high] if end > top)


def _move_titles(picture: Picture) -> None:
    """Put each title where no arrow runs through it; a cluster that has no such place gets wider, if it can."""
    if not picture.clusters:
        return
    curves = [edge.path[k : k + 4] for edge in picture.edges for k in range(0, len(edge.path) - 3, 3)]
    lines = _Heights((min(y for _, y in c), max(y for _, y in c), polyline(c)) for c in curves)
    boxes = _Heights((box.top, box.bottom, box) for box in picture.boxes)
    clusters = _Heights((c.top, c.bottom, c) for c in picture.clusters)
    for cluster in picture.clusters:
        title = cluster.title
        # the whole path is in the tooltip
        for cluster.title in dict.fromkeys((title, title.partition(" · ")[0])):
            if _place_title(cluster, lines, boxes, clusters):
                break
        else:
            while len(cluster.title) > 2 and text_width(cluster.title, SIZE) > cluster.right - cluster.left - 10:
                cluster.title = cluster.title.rstrip("…")[:-1] + "…"


def _place_title(
    cluster: Cluster,
    lines: _Heights[list[Point]],
    boxes: _Heights[Box],
    clusters: _Heights[Cluster],
) -> bool:
    """Put a title where no arrow runs through it, in a wider cluster if need be; False if it cannot be."""
    wide = text_width(cluster.title, SIZE) + 4
    top, bottom = cluster.top - 1, cluster.top + TITLE
    # on both sides, so that a flat arrow leaves no gap
    crossed = sorted(
        x
        for points in lines.between(top, bottom)
        for a, b in pairwise(points)
        if max(a[1], b[1]) > top and min(a[1], b[1]) < bottom
        for x in (a[0], (a[0] + b[0]) / 2, b[0])
        if cluster.left < x < cluster.right
    )
    old = cluster.left, cluster.right
    if old[1] - old[0] > wide + 10:
        if not any(x < cluster.left + 7 + wide for x in crossed):
            return True
        if not any(x > cluster.right - 7 - wide for x in crossed):
            cluster.to_right = True
            return True
        gap = next((a for a, b in pairwise(crossed) if b - a > wide + 6), None)
        if gap is not None:
            cluster.indent = gap + 5 - cluster.left
            return True
    first, last = (crossed[0], crossed[-1]) if crossed else (old[1], old[0])
    wider = (old[0], max(last + wide + 12, old[1])), (min(first - wide - 12, old[0]), old[1])
    for cluster.left, cluster.right in wider:
        if _free(cluster, old, lines, boxes) and all(
            _nested_or_apart(cluster, o) or _nested_or_apart(o, cluster)
            for o in clusters.between(cluster.top, cluster.bottom)
        ):
            cluster.to_right = bool(crossed) and cluster.right > old[1]
            return True
    cluster.left, cluster.right = old
    return False


def _free(
    cluster: Cluster, old: tuple[float, float], lines: _Heights[list[Point]], boxes: _Heights[Box]
) -> bool:
    """Whether nothing stands where a cluster was made wider."""
    inside = set(cluster.members)
    added = [(a - 3, b + 3) for a, b in ((cluster.left, old[0]), (old[1], cluster.right)) if a < b]
    top, bottom = cluster.top, cluster.bottom
    return not any(
        box.right > low and box.left < high
        for box in boxes.between(top, bottom)
        if box not in inside
        for low, high in added
    ) and not any(
        low < x < high and not old[0] <= x <= old[1] and top < y < bottom
        for points in lines.between(top, bottom)
        for x, y in points
        for low, high in added
    )


def _titles(layout: Layout, chains: list[tuple[Scope, ...]]) -> dict[int, float]:
    """Extra room above a layer for the titles of clusters that begin there."""
    first: dict[Scope, int] = {}
    depth: dict[Scope, int] = {}
    for i, chain in enumerate(chains):
        for d, scope in enumerate(chain):
            first[scope] = min(first.get(scope, layout.depth), layout.layer[i])
            depth[scope] = d
    room: dict[int, float] = {}
    nested: dict[tuple[int, int], bool] = {}
    for scope, layer in first.items():
        nested[layer, depth[scope]] = True
    for layer, _ in nested:
        room[layer] = room.get(layer, 0.0) + TITLE + 2
    return room


def _rows(
    layout: Layout,
    boxes: list[Box],
    lanes: dict[int, list[Item]],
    titles: dict[int, float],
) -> tuple[list[float], list[float]]:
    heights = [0.0] * layout.depth
    for i, box in enumerate(boxes):
        heights[layout.layer[i]] = max(heights[layout.layer[i]], box.h)
    widest: dict[int, float] = {}
    last = 0.0
    tops, bottoms = [], []
    for layer, height in enumerate(heights):
        crossing = widest.get(layer, 0.0)
        last += titles.get(layer, 0.0) + len(lanes.get(layer, ())) * RAIL_STEP + (BETWEEN if layer else 0.0) + crossing
        tops.append(last)
        last += height
        bottoms.append(last)
    return tops, bottoms


def _edges(
    picture: Picture,
    items: list[Item],
    edges: list[tuple[int, int]],
    boxes: dict[Item, Box],
    position: dict[Item, int],
    layout: Layout,
    tops: list[float],
    bottoms: list[float],
    uses: dict[Item, list[Item]],
    on_rail: set[Item],
    lanes: dict[int, list[Item]],
) -> None:
    incoming: dict[int, list[tuple[float, int]]] = {}
    outgoing: dict[int, list[tuple[float, int]]] = {}
    for e, (a, b) in enumerate(edges):
        bends = layout.bends.get(e)
        incoming.setdefault(b, []).append((bends[-1][1] if bends else layout.x[a], e))
        outgoing.setdefault(a, []).append((bends[0][1] if bends else layout.x[b], e))
    ends: dict[int, Point] = {}
    starts: dict[int, Point] = {}
    taps: dict[Item, list[Tap]] = {}
    for i, item in enumerate(items):
        arriving = sorted(incoming.get(i, []))
        railing = [source for source in item.inputs if source in on_rail]
        for at, (_, e) in zip(
            spread(len(arriving) + len(railing), boxes[item]) if arriving else [], arriving, strict=False
        ):
            ends[e] = port(boxes[item], at, top=True)
        rest = spread(len(arriving) + len(railing), boxes[item])[len(arriving) :] if railing else []
        for at, source in zip(rest, railing, strict=True):
            layer = layout.layer[i]
            y = tops[layer] - 9 - RAIL_STEP * lanes[layer].index(source)
            taps.setdefault(source, []).append(Tap(boxes[item], port(boxes[item], at, top=True), y))
        leaving = sorted(outgoing.get(i, []))
        step = min(8.0, boxes[item].w * 0.5 / max(len(leaving), 1))
        for k, (_, e) in enumerate(leaving):
            starts[e] = port(boxes[item], (k - (len(leaving) - 1) / 2) * step, top=False)
    for e, (a, b) in enumerate(edges):
        way: list[Point] = []
        for layer, x in layout.bends.get(e, ()):
            way += [(x, tops[layer] - 2), (x, bottoms[layer] + 2)]
        near = [boxes[items[i]] for layer in range(layout.layer[a], layout.layer[b] + 1) for i in layout.order[layer]]
        path = (len(near) < 200 and straight(starts[e], ends[e], near, (boxes[items[a]], boxes[items[b]]))) or connect(
            starts[e], ends[e], way, bottoms[layout.layer[a]], tops[layout.layer[b]]
        )
        style = "" if not items[b].gradient else "backward" if items[a].gradient else "saved"
        style = "dashed" if items[a].cut is not None or items[b].cut is not None else style
        picture.edges.append(Edge(boxes[items[a]], boxes[items[b]], path, style))
    if taps:
        left = min(min(box.left for box in picture.boxes), min((c.left for c in picture.clusters), default=0.0))
        rails(picture, [(item_box(item, item.name, False), found) for item, found in taps.items()], left)


def _clusters(
    items: list[Item],
    chains: list[tuple[Scope, ...]],
    boxes: dict[Item, Box],
    everything: list[Box],
    above: list[float],
) -> list[Cluster]:
    """A rectangle for each scope whose members stand together; others would enclose what is not theirs.

    `above` is, for each item, the room that rails take above its row: titles stand over them.
    """
    members: dict[Scope, list[int]] = {}
    depth: dict[Scope, int] = {}
    for i, chain in enumerate(chains):
        for d, scope in enumerate(chain):
            members.setdefault(scope, []).append(i)
            depth[scope] = d
    inside: dict[Scope, Cluster] = {}
    orders = [scope for scope in members if gradient_scope(scope) is scope]
    for scope in sorted(members, key=lambda s: -depth[s]):
        own = [boxes[items[i]] for i in members[scope]]
        left, right = min(b.left for b in own) - PAD, max(b.right for b in own) + PAD
        top = min(boxes[items[i]].top - above[i] for i in members[scope]) - PAD / 2 - TITLE
        bottom = max(b.bottom for b in own) + PAD
        for inner, c in inside.items():
            if inner.parent is scope:
                left, right = min(left, c.left - 5), max(right, c.right + 5)
                top, bottom = min(top, c.top - TITLE), max(bottom, c.bottom + 5)
        title, kind = scope_title(scope), "cluster"
        if scope in orders:
            title, kind = f"{'second ' if orders.index(scope) == 1 else ''}{title}", "cluster backward"
        inside[scope] = Cluster(title, left, top, right, bottom, own, kind, clean(scope.path, 200))
    result: list[Cluster] = []
    heights = _Heights((box.top, box.bottom, box) for box in everything)
    for scope in sorted(inside, key=lambda s: (depth[s], members[s][0])):
        c = inside[scope]
        mine = set(c.members)
        clean_cut = not any(
            b.right > c.left and b.left < c.right and b.top < c.bottom
            for b in heights.between(c.top, c.bottom)
            if b not in mine
        )
        if clean_cut and all(_nested_or_apart(c, other) for other in result):
            result.append(c)
    taken: set[Box] = set()
    for c in reversed(result):
        c.members = [b for b in c.members if b not in taken]
        taken.update(c.members)
    return result


def _nested_or_apart(a: Cluster, b: Cluster) -> bool:
    """Whether `a` lies inside `b` or they do not touch."""
    apart = a.left >= b.right or b.left >= a.right or a.top >= b.bottom or b.top >= a.bottom
    within = a.left >= b.left and a.right <= b.right and a.top >= b.top and a.bottom <= b.bottom
    return apart or within

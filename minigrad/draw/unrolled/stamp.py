"""One step of a run laid out once, to be stamped for every step that is drawn.

Layers count upwards. The pattern of the cell stands in a block of layers of its own: what only prepares
its input is below, what only uses its output is above.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from ...recording import Scope
from ..flow import RAIL_STEP
from ..graph import Item
from ..labels import text_width
from ..layered import Layout, arrange, assign_layers
from ..model import SIZE, Box
from ..runs import Key, Run
from ..scopes import scope_chain, scope_title

CHANNEL = 21.0  # between layers
TITLE = 18.0  # of the cell's cluster
PAD = 9.0
PILL_GAP = 6.0


@dataclass(slots=True, eq=False)
class Stamp:
    """Where everything of a step is, relative to the left bottom of its row.

    Attributes:
        keys: of the things drawn, in order; then come ports, where arrows enter from below or leave at
        the top. x: middle of each, ports included.
        layer: of each, ports included.
        edges: between numbers of things and ports.
        middle, half: y of each layer (upwards, from the bottom of the row) and half its height.
        cell: first and last layer of the cell; cell_left, cell_right, cell_bottom, cell_top: its rectangle.
        title: where the cell's title stands: "left", "right", or in two parts, "split" or "swapped".
        enter, leave: key -> number of its port (or its own).
    """

    keys: list[Key]
    x: list[float]
    layer: list[int]
    edges: list[tuple[int, int]]
    layout: Layout
    width: float
    middle: list[float] = field(default_factory=list)
    half: list[float] = field(default_factory=list)
    cell: tuple[int, int] = (0, 0)
    height: float = 0.0
    cell_bottom: float = 0.0
    cell_top: float = 0.0
    enter: dict[Key, int] = field(default_factory=dict)
    leave: dict[Key, int] = field(default_factory=dict)
    rails: dict[int, list[Item]] = field(default_factory=dict)
    number: dict[Key, int] = field(default_factory=dict)
    cell_left: float = 0.0
    cell_right: float = 0.0
    title: str = "left"


def make_stamp(
    run: Run,
    columns: Sequence[dict[Key, Item]],
    widths: dict[Key, tuple[float, float]],
    from_below: Callable[[Item, Item], bool],
    to_above: set[Key],
    railed: Callable[[Item], bool],
    pills: dict[Key, int],
    titles: tuple[float, float] = (0.0, 0.0),
) -> Stamp:
    """Lay out one column.

    Args:
        run: the run.
        columns: the things of each drawn column, the one that serves as the pattern first.
        widths: size of each box, the largest in any drawn step.
        from_below: whether (source, user) is an arrow that comes from below the row.
        to_above: keys whose value is used above the row.
        railed: whether an input comes by a rail.
        pills: key -> how many carried states enter at its layer first.
        titles: widths of the two parts of the cell's title, its name and its time.
    """
    items, edges = _union(columns)
    keys = [key for key, _ in items]
    in_cell = [isinstance(key, tuple) and len(key) == 2 and key[0] == "at" for key in keys]
    layer, first, last = _layers(len(keys), edges, in_cell, items)
    top = max(layer)
    stamp = Stamp(keys, [], layer, edges, Layout([], []), 0.0, cell=(first, last))
    sizes = [widths[key][0] for key in keys]
    for i, key in enumerate(keys):
        stamp.number[key] = i
        alike = [column[key] for column in columns if key in column]
        if any(from_below(source, other) for other in alike for source in other.inputs):
            stamp.enter[key] = i if layer[i] == 0 else _port(0, sizes, layer)
        if key in to_above:
            stamp.leave[key] = i if layer[i] == top else _port(top, sizes, layer)
    # the layered drawing wants its nodes in topological order
    ports = [(stamp.enter[k], stamp.number[k]) for k in stamp.enter if stamp.enter[k] >= len(keys)]
    ports += [(stamp.number[k], stamp.leave[k]) for k in stamp.leave if stamp.leave[k] >= len(keys)]
    every = [*edges, *ports]
    pull = {stamp.number[("at", p)]: -1.0 for state in run.states for p, _ in state.uses if ("at", p) in stamp.number}
    groups = _groups(run, items, in_cell, layer, first, last)
    layout = arrange(sizes, every, layers=layer, pull=pull, groups=groups)
    stamp.layout, stamp.edges, stamp.layer = layout, every, layer
    if run.reverse:
        layout.x = [layout.width - x for x in layout.x]
        layout.bends = {e: [(at, layout.width - x) for at, x in bends] for e, bends in layout.bends.items()}
    _cell(stamp, sizes[: len(keys)], titles, _inner_titles(groups[: len(keys)], sum(in_cell)))
    stamp.x, stamp.width = layout.x, layout.width
    for i, (key, _) in enumerate(items):
        for source in [s for column in columns if key in column for s in column[key].inputs]:
            lane = stamp.rails.setdefault(layer[i], [])
            if railed(source) and source not in lane:
                lane.append(source)
    _heights(stamp, [widths[key][1] for key in keys], pills, widths)
    return stamp


def _inner_titles(groups: Sequence[tuple[Hashable, ...]], cell: int) -> list[tuple[list[int], float]]:
    """Modules inside the cell: what is in each, and the width of its title, which stands at its right."""
    members: dict[Scope, list[int]] = {}
    for i, group in enumerate(groups):
        for scope in group:
            if isinstance(scope, Scope) and scope.label and group[0] == "cell":
                members.setdefault(scope, []).append(i)
    return [(m, text_width(scope_title(scope), SIZE)) for scope, m in members.items() if 1 < len(m) < cell]


def _cell(
    stamp: Stamp, sizes: Sequence[float], titles: tuple[float, float], inner: Sequence[tuple[list[int], float]]
) -> None:
    """The sides of the cell, and where its title stands so that no arrow runs through it."""
    layout, layer, (first, last) = stamp.layout, stamp.layer, stamp.cell
    sides = [(layout.x[i] - w / 2, layout.x[i] + w / 2) for i, w in enumerate(sizes) if first <= layer[i] <= last]
    left, right = min(a for a, _ in sides) - PAD, max(b for _, b in sides) + PAD
    for members, width in inner:
        right = max(right, max(layout.x[i] + sizes[i] / 2 for i in members) + 7 + 5 + width + 4)
    passing = [x for bends in layout.bends.values() for at, x in bends if first <= at <= last]
    left, right = min([left, *(x - 4 for x in passing)]), max([right, *(x + 4 for x in passing)])
    crossing = [layout.x[b] for a, b in stamp.edges if layer[a] <= last < layer[b]]
    crossing += [layout.x[n] for n in stamp.leave.values() if layer[n] <= last]
    name, time = titles
    both = name + time
    lacking = max(0.0, (both + 14 - (right - left)) / 2)
    left, right = left - lacking, right + lacking
    places = {
        "left": [(left, both)],
        "right": [(right - both - 7, both)],
        "split": [(left, name), (right - time - 7, time)],
        "swapped": [(left, time), (right - name - 7, name)],
    }
    for stamp.title, spans in places.items():
        if not any(at + 1 < x < at + 11 + width for x in crossing for at, width in spans):
            break
    else:
        # no room beside the arrows: the cell is made wider
        stamp.title = "split"
        left, right = min(left, min(crossing) - name - 14), max(right, max(crossing) + time + 14)
    shift = max(0.0, -left)
    layout.x = [x + shift for x in layout.x]
    layout.bends = {e: [(at, x + shift) for at, x in bends] for e, bends in layout.bends.items()}
    stamp.cell_left, stamp.cell_right = left + shift, right + shift
    layout.width = max(layout.width + shift, stamp.cell_right)


def _union(columns: Sequence[dict[Key, Item]]) -> tuple[list[tuple[Key, Item]], list[tuple[int, int]]]:
    """All keys of some columns, each with an item that has it, inputs first; and the edges between them."""
    items: dict[Key, Item] = {}
    sources: dict[Key, dict[Key, None]] = {}
    for column in columns:
        key_of = {item: key for key, item in column.items()}
        for key, item in sorted(column.items(), key=lambda pair: pair[1].index):
            items.setdefault(key, item)
            found = sources.setdefault(key, {})
            for source in item.inputs:
                if source in key_of:
                    found[key_of[source]] = None
    order: dict[Key, int] = {}
    for first in items:
        stack = [first]
        while stack:
            missing = [key for key in sources[stack[-1]] if key not in order]
            if missing:
                stack += missing[:1]
            else:
                order.setdefault(stack.pop(), len(order))
    edges = [(order[source], order[key]) for key in order for source in sources[key]]
    return [(key, items[key]) for key in order], edges


def _port(at: int, sizes: list[float], layer: list[int]) -> int:
    sizes.append(5.0)
    layer.append(at)
    return len(sizes) - 1


def _layers(
    count: int,
    edges: Sequence[tuple[int, int]],
    in_cell: list[bool],
    items: Sequence[tuple[Key, Item]],
) -> tuple[list[int], int, int]:
    """Layers, with the cell in a block of its own; and the first and last layer of the cell."""
    fed_by: list[list[int]] = [[] for _ in range(count)]
    feeds: list[list[int]] = [[] for _ in range(count)]
    for a, b in edges:
        fed_by[b].append(a)
        feeds[a].append(b)
    after = [False] * count
    depth = [0] * count
    for i in range(count):
        after[i] = not in_cell[i] and any(in_cell[a] or after[a] for a in fed_by[i])
        if not in_cell[i] and not after[i]:
            depth[i] = max((depth[a] + 1 for a in fed_by[i]), default=0)
    into_cell = [False] * count
    for i in reversed(range(count)):
        into_cell[i] = any(in_cell[b] or into_cell[b] for b in feeds[i])
    before = [i for i in range(count) if not in_cell[i] and not after[i] and into_cell[i]]
    floor = [0] * count
    first = max((depth[i] for i in before), default=-1) + 1
    for i in range(count):
        if in_cell[i]:
            floor[i] = first
    inner = assign_layers(count, [(a, b) for a, b in edges if in_cell[b]], floor)
    # a source inside the cell (it takes only carried states and parameters) stands just below its user
    cell = [i for i in range(count) if in_cell[i]]
    last = max((inner[i] for i in cell), default=first - 1)
    first = min((inner[i] for i in cell), default=first)
    for i in range(count):
        if not in_cell[i] and not into_cell[i]:
            floor[i] = last + 1
        elif in_cell[i]:
            floor[i] = inner[i]
    layer = assign_layers(count, edges, floor)
    for i in range(count):
        if i in before and not fed_by[i] and layer[i] <= first + 1:
            layer[i] = min(layer[i], max(first - 1, 0))
    return layer, first, last


def _groups(
    run: Run,
    items: Sequence[tuple[Key, Item]],
    in_cell: list[bool],
    layer: list[int],
    first: int,
    last: int,
) -> list[tuple[Hashable, ...]]:
    step = run.scopes[run.pattern]
    cache: dict[Scope | None, tuple[Scope, ...]] = {None: ()}
    outside = {*scope_chain(step, cache), *run.scopes}
    groups: list[tuple[Hashable, ...]] = []
    for (_, item), inside in zip(items, in_cell, strict=True):
        chain = tuple(s for s in scope_chain(item.scope, cache) if s not in outside) if item.kind == "op" else ()
        groups.append(("cell", *chain) if inside else chain)
    # a port in a layer of the cell goes through the cell
    return groups + [("cell",) if first <= layer[i] <= last else () for i in range(len(items), len(layer))]


def _heights(stamp: Stamp, heights: list[float], pills: dict[Key, int], widths: dict[Key, tuple[float, float]]) -> None:
    count = max(stamp.layer) + 1
    room = [6.0] * count
    for i, h in enumerate(heights):
        room[stamp.layer[i]] = max(room[stamp.layer[i]], h)
    stacked: dict[int, int] = {}
    for key, n in pills.items():
        stacked[stamp.layer[stamp.number[key]]] = stacked.get(stamp.layer[stamp.number[key]], 0) + n
    for at, n in stacked.items():
        room[at] = max(room[at], n * (29 + PILL_GAP) - PILL_GAP)
    y = 0.0
    first, last = stamp.cell
    for at in range(count):
        y += 0.0 if at == 0 else CHANNEL
        y += len(stamp.rails.get(at, ())) * RAIL_STEP
        if at == first:
            stamp.cell_bottom = y - (0.0 if at == 0 else 3.0)
            y += PAD + (0.0 if at else len(stamp.rails.get(at, ())) * RAIL_STEP)
        stamp.half.append(room[at] / 2)
        stamp.middle.append(y + room[at] / 2)
        y += room[at]
        if at == last:
            y += TITLE + PAD / 2
            stamp.cell_top = y
    stamp.height = y


def place_box(stamp: Stamp, key: Key, box: Box, left: float, bottom: float) -> None:
    """Move a box to its place in the column whose left bottom corner is given."""
    i = stamp.number[key]
    box.x, box.y = left + stamp.x[i], bottom - stamp.middle[stamp.layer[i]]

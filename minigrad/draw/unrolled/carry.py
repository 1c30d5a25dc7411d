"""States carried through the gutters: from each drawn step to the next, and into the first."""

from __future__ import annotations

from ..flow import port
from ..graph import Item
from ..labels import clean, norm, shape_text, subscript
from ..model import Box, Edge, Point, rounded
from ..runs import Run, State
from ..words import box_lines, tooltip
from .between import go_around
from .heat import level, state_box
from .sheet import LANE, Column, Sheet, Shelf
from .sizes import first_use
from .stamp import PILL_GAP, Stamp


def carry(sheet: Sheet, shelf: Shelf) -> None:
    """States in the gutters: from each drawn step to the next, and into the first."""
    run, stamp = shelf.run, shelf.stamp
    assert run is not None and stamp is not None
    order = list(reversed(shelf.columns)) if run.reverse else shelf.columns
    stacks: dict[int, list[State]] = {}
    for state in run.states:
        stacks.setdefault(stamp.layer[stamp.number["at", first_use(sheet, run, state)]], []).append(state)
    for i, state in enumerate(run.states):
        layer = stamp.layer[stamp.number["at", first_use(sheet, run, state)]]
        stack = stacks[layer]
        y = sheet.y(shelf, layer) + (stack.index(state) - (len(stack) - 1) / 2) * (29 + PILL_GAP)
        for before, after in zip([None, *order], order, strict=False):
            _one_state(sheet, shelf, state, i, y, before, after)


def _one_state(
    sheet: Sheet, shelf: Shelf, state: State, i: int, y: float, before: Column | None, after: Column
) -> None:
    """A state from one drawn step to the next; `before` is None for the first."""
    run = shelf.run
    assert run is not None
    sign = -1 if run.reverse else 1
    out_lane = None
    if before is not None:
        edge_of = before.left + before.width if sign > 0 else before.left
        out_lane = edge_of + sign * LANE * (i + 0.7)
    in_edge = after.left if sign > 0 else after.left + after.width
    in_lane = in_edge - sign * LANE * (i + 0.7)
    if after.step is None:
        assert before is not None and before.step is not None and after.elided is not None
        source = _source_box(sheet, run, state, before)
        if source is not None:
            points = _out(sheet, shelf, before, source, out_lane, y, sign)[:-1]
            points.append((after.elided.left if sign > 0 else after.elided.right, points[-1][1]))
            item = run.bodies[before.step][state.source]
            _heated(sheet, source, after.elided, points, state, item.grad if item is not None else None)
        return
    users = [(run.bodies[after.step][p], k) for p, k in state.uses]
    targets = [(u, sheet.make(u)) for u, k in users if u is not None and k < len(u.inputs)]
    if not targets:
        return
    e = after.step - 1
    if after.step == 0:
        _starts(sheet, shelf, state, y, after, in_edge, in_lane, sign)
        return
    first = next((u, k) for u, k in users if u is not None and k < len(u.inputs))
    given = first[0].inputs[first[1]]
    if sheet.found.place.get(given) == (run, e):
        pill, style = state_box(sheet, run, state, e), ""
    else:
        name = clean(state.name or "state", 40) + subscript(run.times[e])
        pill, style = (
            Box("detach", ("✂ detach", f"{name} value only"), "the gradient stops here"),
            "dashed",
        )
    _place(sheet, run, pill, in_edge, sign, y)
    item = run.bodies[e][state.source]
    grad = item.grad if item is not None and not style else None
    if before is not None:
        if before.step is None:
            assert before.elided is not None
            side = before.elided.right if sign > 0 else before.elided.left
            near = pill.left if sign > 0 else pill.right
            _heated(sheet, before.elided, pill, [(side, y), (near, y)], state, grad, style)
        else:
            source = _source_box(sheet, run, state, before)
            if source is not None:
                points = _out(sheet, shelf, before, source, out_lane, y, sign)
                points.append((pill.left if sign > 0 else pill.right, y))
                _heated(sheet, source, pill, points, state, grad, style)
    _into_step(sheet, shelf, state, pill, dict(targets), after, in_lane, sign, grad, style)


def _starts(
    sheet: Sheet, shelf: Shelf, state: State, y: float, first: Column, in_edge: float, in_lane: float, sign: int
) -> None:
    """What a state starts from: one box, or several, if not all who take it up begin with the same."""
    run, stamp = shelf.run, shelf.stamp
    assert run is not None and stamp is not None
    users: dict[Item, dict[Item, Box]] = {}
    for p, k in state.uses:
        user = run.bodies[0][p]
        if user is not None and k < len(user.inputs):
            users.setdefault(user.inputs[k], {})[user] = sheet.make(user)
    for n, (item, targets) in enumerate(users.items()):
        pill = _start(sheet, run, state, item)
        if n:
            y = sheet.y(shelf, min(stamp.layer[stamp.number["at", sheet.found.position[user]]] for user in targets))
        _place(sheet, run, pill, in_edge, sign, y, n > 0)
        _into_step(sheet, shelf, state, pill, targets, first, in_lane, sign, None, "")


def _place(sheet: Sheet, run: Run, pill: Box, in_edge: float, sign: int, y: float, moved: bool = False) -> None:
    """Put a pill into a gutter; if it is `moved`, lower than what stands there already."""
    pill.x = in_edge - sign * (LANE * (len(run.states) + 0.7) + pill.w / 2 + 1)
    pill.y = y
    for box in sorted(sheet.picture.boxes, key=lambda b: b.top) if moved else ():
        if box.left < pill.right and pill.left < box.right and box.top < pill.bottom + 4 and pill.top - 4 < box.bottom:
            pill.y = box.bottom + PILL_GAP + pill.h / 2
    sheet.picture.boxes.append(pill)


def _into_step(
    sheet: Sheet,
    shelf: Shelf,
    state: State,
    pill: Box,
    targets: dict[Item, Box],
    after: Column,
    in_lane: float,
    sign: int,
    grad: float | None,
    style: str,
) -> None:
    """Arrows from a pill to those who take up the state."""
    y = pill.y
    for user, box in targets.items():
        points = [(pill.right if sign > 0 else pill.left, y)]
        assert shelf.stamp is not None
        at = shelf.stamp.layer[shelf.stamp.number["at", sheet.found.position[user]]]
        if _clear(sheet, after, shelf.stamp, box, at, -sign):
            points += [(in_lane, y), (in_lane, box.y), (box.left if sign > 0 else box.right, box.y)]
        else:
            channel = sheet.y(shelf, at) + shelf.stamp.half[at] + 5
            x = box.x - sign * min(box.w * 0.3, 10)
            points += [
                (in_lane, y),
                (in_lane, channel),
                (x, channel),
                (x, port(box, x - box.x, top=False)[1]),
            ]
        _heated(sheet, pill, box, points, state, grad, style)


def _start(sheet: Sheet, run: Run, state: State, item: Item) -> Box:
    """The box of an initial state."""
    name = clean(state.name or "state", 40) + "₀"
    if item.kind == "input" and item.name and item.cut is None and item.name not in (state.name, f"{state.name}0"):
        name = clean(item.name, 40)  # of the user's own
    if item.kind == "op":
        box = Box(
            "state",
            (f"{name} {shape_text(item.shape)}", *((norm(item.grad),) if item.grad is not None else ())),
            tooltip(item, name),
        )
        box.heat = level(sheet, state, item.grad)
    elif item.kind == "parameter":
        box = Box("parameter", box_lines(item, item.name or name), tooltip(item, name))
    elif item.cut is not None:
        box = Box("detach", ("✂ detach", f"{name} value only"), tooltip(item, name))
    else:
        box = Box("constant", (f"{name} {shape_text(item.shape)}", "constant"), tooltip(item, name))
    source = item if item in sheet.shelf_of else sheet.cut_from(item)
    if source in sheet.shelf_of:
        style = "" if source is item else "dashed"
        go_around(sheet, source, box, row=sheet.shelves[sheet.row_of[run]], style=style)
    return box


def _source_box(sheet: Sheet, run: Run, state: State, column: Column) -> Box | None:
    assert column.step is not None
    item = run.bodies[column.step][state.source]
    return sheet.make(item) if item is not None else None


def _clear(sheet: Sheet, column: Column, stamp: Stamp, box: Box, layer: int, side: int) -> bool:
    """Whether nothing stands beside a box on one side of its layer."""
    for key, other in column.boxes.items():
        if other is not box and stamp.layer[stamp.number[key]] == layer and (other.x - box.x) * side > 0:
            return False
    return True


def _out(sheet: Sheet, shelf: Shelf, column: Column, box: Box, lane: float | None, y: float, sign: int) -> list[Point]:
    """From a box to the lane beside its column, at the height of the pill."""
    stamp = shelf.stamp
    assert stamp is not None and lane is not None
    key = next(k for k, b in column.boxes.items() if b is box)
    layer = stamp.layer[stamp.number[key]]
    if _clear(sheet, column, stamp, box, layer, sign):
        points = [(box.right if sign > 0 else box.left, box.y), (lane, box.y)]
    else:
        channel = sheet.y(shelf, layer) - stamp.half[layer] - 6
        x = box.x + sign * min(box.w * 0.3, 10)
        points = [(x, port(box, x - box.x, top=True)[1]), (x, channel), (lane, channel)]
    return [*points, (lane, y)]


def _heated(
    sheet: Sheet, source: Box, target: Box, points: list[Point], state: State, grad: float | None, style: str = ""
) -> None:
    heat = "" if style else level(sheet, state, grad)
    sheet.picture.edges.append(Edge(source, target, rounded(points), style, heat))

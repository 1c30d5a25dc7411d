"""The modules view and the rolled view: many values drawn as one box.

Both sort the items into groups and draw the graph of groups. In the modules view a group is a call of a
module; in the rolled view it is everything that repeats: the steps of a run, the output layer of each
step, the inputs of all.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from ..recording import Scope
from .flow import connect, port, spread, straight
from .graph import Item
from .labels import clean, number, shape_text, subscript, text_width
from .layered import Layout, arrange
from .model import SIZE, SMALL, Box, Cluster, Edge, Picture, Point
from .palette import heat_level
from .runs import Analysis, Run, cell_title
from .scopes import scope_chain, scope_title
from .words import box_kind, box_lines, full_kind, tooltip

BETWEEN = 34.0
TOO_MANY = 120


@dataclass(slots=True, eq=False)
class Group:
    """Items drawn as one box."""

    key: Hashable
    items: list[Item] = field(default_factory=list)
    run: Run | None = None
    box: Box | None = None
    feeds: dict[Group, list[Item]] = field(default_factory=dict)


def draw_modules(found: Analysis, title: str, depth: int | None = None) -> Picture:
    """A box for each call of a module, down to `depth` scopes; as deep as stays readable when left out."""
    cache: dict[Scope | None, tuple[Scope, ...]] = {None: ()}
    chains = {item: scope_chain(item.scope, cache) for item in found.graph.items if item.kind == "op"}
    uses = found.graph.consumers()
    deepest = max((len(chain) for chain in chains.values()), default=0)

    def keys(at: int) -> dict[Item, Hashable]:
        result: dict[Item, Hashable] = {}
        for item in found.graph.items:
            chain = chains.get(item, ())
            result[item] = chain[:at][-1] if chain and at else item
        for item in reversed(found.graph.items):
            # a slice belongs to whoever takes it
            if item.kind == "slice" and uses[item]:
                result[item] = result[uses[item][0]]
        return _gather_sources(found, result)

    if depth is None:
        depth = 1
        while depth < deepest and len(set(keys(depth + 1).values())) <= 40:
            depth += 1
        # a picture of all operations is the ops view
        depth = max(1, depth - 1) if depth == deepest and deepest > 1 else depth
    chosen = keys(depth)
    if len(set(chosen.values())) > TOO_MANY:
        chosen = _merge_repeats(found, chosen)
    if len(set(chosen.values())) > TOO_MANY:
        chosen = _merge_loose(found, chosen)
    return _draw(found, title, chosen, horizontal=False)


def draw_rolled(found: Analysis, title: str) -> Picture:
    """Each run as one box with an arrow back to itself."""
    keys: dict[Item, Hashable] = {}
    cache: dict[Scope | None, tuple[Scope, ...]] = {None: ()}
    steps = {scope for run in found.runs for scope in run.scopes}
    initial = {(run.bodies[0][p], k): run for run in found.runs for s in run.states for p, k in s.uses}
    starts: dict[Item, Run] = {}
    for (user, k), run in initial.items():
        if user is not None and k < len(user.inputs) and user.inputs[k].kind in ("input", "constant"):
            starts[user.inputs[k]] = run
    around = {outer for step in steps for outer in scope_chain(step.parent, cache)}
    names = {item: key for run in found.runs for column in run.columns for key, item in column.items()}
    for item in found.graph.items:
        home = found.place.get(item)
        if home is None:
            chain = scope_chain(item.scope, cache) if item.kind == "op" else ()
            labelled = [s for s in chain if s.label and s not in around]
            keys[item] = ("start", starts[item]) if item in starts else labelled[0] if labelled else item
        elif item in found.position:
            keys[item] = home[0]
        else:
            run, e = home
            name = names[item]
            chain = scope_chain(item.scope, cache) if item.kind == "op" else ()
            labelled = [s for s in chain if s.label and s not in steps and s not in around]
            keys[item] = ("each", run, labelled[0].label, labelled[0].name) if labelled else ("each", run, name)
    return _draw(found, title, _gather_sources(found, keys), horizontal=True)


def _gather_sources(found: Analysis, keys: dict[Item, Hashable]) -> dict[Item, Hashable]:
    """Parameters that the same group uses are one box; so are data of one kind."""
    users: dict[Item, set[Hashable]] = {}
    for item in found.graph.items:
        for source in item.inputs:
            if source.kind != "op":
                users.setdefault(source, set()).add(keys[item])
    result = dict(keys)
    data: dict[tuple[str, Hashable], list[Item]] = {}
    for item in found.graph.items:
        group = users.get(item)
        if item.output or not group or not (isinstance(keys[item], Item) or _is_parameters(keys[item])):
            continue
        if item.kind == "parameter":
            result[item] = (
                ("parameters", *sorted(group, key=id)) if len(group) > 1 else ("parameters", next(iter(group)))
            )
        elif item.kind in ("input", "mask", "constant") and len(group) == 1:
            data.setdefault((item.kind, next(iter(group))), []).append(item)
    for (kind, group_key), items in data.items():
        if len(items) > 3:
            result.update(dict.fromkeys(items, ("data", kind, group_key)))
    return result


def _is_parameters(key: Hashable) -> bool:
    return isinstance(key, tuple) and bool(key) and key[0] == "parameters"


def _merge_repeats(found: Analysis, keys: dict[Item, Hashable]) -> dict[Item, Hashable]:
    """Calls of the same module from the same place become one box."""
    merged: dict[Item, Hashable] = {}
    for item, key in keys.items():
        if isinstance(key, Scope):
            merged[item] = ("calls", key.parent, key.label or key.name if key.step is None else "step")
        else:
            merged[item] = key
    return _gather_sources(found, merged)


def _merge_loose(found: Analysis, keys: dict[Item, Hashable]) -> dict[Item, Hashable]:
    """The last resort for huge graphs without modules: one box per operation and kind."""
    result: dict[Item, Hashable] = {}
    for item, key in keys.items():
        loose = isinstance(key, Item) or (isinstance(key, tuple) and key and key[0] == "parameters")
        result[item] = ("all", item.kind, item.op) if loose and not item.output else key
    return result


# -----------------------------------------------------------------------------------------------------------
# The graph of groups
# -----------------------------------------------------------------------------------------------------------


def _draw(found: Analysis, title: str, keys: dict[Item, Hashable], horizontal: bool) -> Picture:
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
        group.box = _group_box(found, group)
    order = _topological(list(groups.values()))
    place = {group: i for i, group in enumerate(order)}
    edges = [(place[a], place[b]) for a in order for b in a.feeds if place[b] > place[a]]
    back = [(a, b) for a in order for b in a.feeds if place[b] <= place[a]]
    size = {group: _room(found, group) for group in order}
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
        if horizontal:
            box.w, box.h = box.h, box.w
        picture.boxes.append(box)
    _arrows(picture, order, edges, layout, starts, [(across[i], along[i]) for i in range(len(order))])
    if horizontal:
        _turn(picture)
    for group in order:
        if group.run is not None:
            _loop(found, picture, group, size[group])
    for a, b in back:
        if a is not b and a.box is not None and b.box is not None:
            ends = [
                (a.box.right, a.box.y),
                (max(a.box.right, b.box.right) + 22, (a.box.y + b.box.y) / 2),
                (b.box.right, b.box.y),
            ]
            curve: list[Point] = [ends[0], (ends[1][0], ends[0][1]), (ends[1][0], ends[2][1]), ends[2]]
            picture.edges.append(Edge(a.box, b.box, curve, "dashed", tooltip="back to an earlier call"))
    return picture


def _topological(groups: list[Group]) -> list[Group]:
    """Inputs before users where there is no cycle; in a cycle, the one that begins first."""
    waiting = dict.fromkeys(groups, 0)
    for group in groups:
        for user in group.feeds:
            if user is not group:
                waiting[user] += 1
    order: list[Group] = []
    left = dict.fromkeys(groups)
    ready = [group for group in groups if not waiting[group]]
    while left:
        if not ready:
            ready = [next(iter(left))]
        group = ready.pop(0)
        if group not in left:
            continue
        del left[group]
        order.append(group)
        for user in group.feeds:
            if user in left and user is not group:
                waiting[user] -= 1
                if not waiting[user]:
                    ready.append(user)
    return order


def _group_box(found: Analysis, group: Group) -> Box:
    items, key = group.items, group.key
    first = items[0]
    if group.run is not None:
        run = group.run
        per = sum(item.kind == "op" for item in run.columns[run.pattern].values() if item in found.position)
        shapes = [
            f"{clean(state.name, 20)} {shape_text(item.shape)}"
            for state in run.states
            if (item := run.bodies[run.pattern][state.source]) is not None
        ]
        lines = (
            cell_title(run, run.pattern),
            f"{per} ops per step, {len(items) + per * run.gone} in all",
            *([f"carries {', '.join(shapes)}"] if shapes else []),
        )
        return Box("named", lines, f"{run.title}: {run.length} steps")
    if isinstance(key, tuple) and key and key[0] == "parameters":
        words = [f"{clean(i.name, 24) or 'parameter'} {shape_text(i.shape)}" for i in items]
        lines = tuple("  ".join(words[i : i + 2]) for i in range(0, min(len(words), 6), 2))
        if len(words) > 6:
            lines += (f"and {len(words) - 6} more",)
        grads = [i.grad for i in items if i.grad is not None]
        if grads and len(grads) == len(items) and len(items) <= 4:
            lines += ("‖grad‖ " + "  ".join(number(g, 2) for g in grads),)
        return Box("parameter", lines, "\n".join(tooltip(i) for i in items[:20]))
    if isinstance(key, tuple) and key and key[0] == "data":
        names = list(dict.fromkeys(clean(i.name, 20) or i.kind for i in items))
        shapes = list(dict.fromkeys(shape_text(i.shape) for i in items))
        return Box(
            first.kind,
            (
                ", ".join(names[:3]) + (" …" if len(names) > 3 else "") + f" × {_count(items)}",
                " ".join(shapes[:2]) + (" …" if len(shapes) > 2 else ""),
            ),
            f"{_count(items)} of them",
        )
    if isinstance(key, tuple) and key and key[0] == "start":
        states = [clean(s.name, 30) or "state" for s in key[1].states]
        return Box("constant", (" ".join(f"{s}₀" for s in states[:6]), shape_text(first.shape)), "initial states")
    if isinstance(key, tuple) and key and key[0] == "each":
        return _each_box(found, group, key[1])
    if isinstance(key, tuple) and key and key[0] in ("calls", "all"):
        word = key[2] or key[1]
        if key[0] == "calls":
            calls = sum(_calls(found, scope) for scope in {i.scope for i in items})
            return Box("module", (clean(str(word)), f"{_count(items)} ops, {calls} calls"), str(word))
        return Box(
            "parameter" if key[1] == "parameter" else "input" if key[1] != "op" else "op",
            (clean(str(word)), f"× {_count(items)}"),
            str(word),
        )
    if isinstance(key, Scope):
        ops = [i for i in items if i.kind == "op"]
        out = next((i for i in reversed(ops) if i.output), ops[-1])
        kind = "output" if out.output else "module"
        calls = _calls(found, key)
        detail = f", {calls} calls" if calls > 1 else f" · {shape_text(out.shape)}"
        return Box(
            kind,
            (scope_title(key), f"{_ops(_count(ops))}{detail}"),
            f"{clean(key.path, 200)}\n{_count(ops)} operations",
        )
    assert isinstance(key, Item)
    if key.count > 1:
        return Box(box_kind(key), (clean(key.name) or key.symbol or key.kind, f"× {key.count}"), f"{key.count} of them")
    return Box(
        box_kind(key) if key.kind != "slice" else "input",
        box_lines(key, found.name(key), found.graph.mixed_dtypes),
        tooltip(key, found.name(key)),
        full_kind(key),
        number=key.index,
    )


def _count(items: Iterable[Item]) -> int:
    """How many values some items stand for."""
    return sum(item.count for item in items)


def _ops(count: int) -> str:
    return "1 op" if count == 1 else f"{count} ops"


def _calls(found: Analysis, scope: Scope | None) -> int:
    """How many calls of a module a scope stands for."""
    return found.graph.calls.get(scope, 1) if found.graph.calls is not None and scope is not None else 1


def _each_box(found: Analysis, group: Group, run: Run) -> Box:
    """What stands in every column: `x₁ … x₅₀`, or an output layer `× 50`."""
    first = group.items[0]
    ops = [item for item in group.items if item.kind == "op"]
    key = group.key
    if not ops:
        names = sorted({i.name or ("x" if i.kind != "mask" else "mask") for i in group.items})
        low, high = min(run.times), max(run.times)
        name = clean(names[0], 30)
        kind = "input" if first.kind == "slice" else first.kind
        return Box(
            kind,
            (
                f"{name}{subscript(low)} … {name}{subscript(high)}",
                f"{len(group.items) + run.gone} × {shape_text(first.shape)}",
            ),
            "one for each step",
        )
    label = key[2] if isinstance(key, tuple) and len(key) == 4 else first.name or first.symbol
    if isinstance(key, tuple) and len(key) == 3 and first.name:
        label = f"{first.name}ₜ = {first.symbol}"
    steps = len({found.place[item] for item in ops})
    every = len(ops) // steps * (steps + run.gone)
    steps += run.gone
    return Box("named", (clean(str(label)), f"× {steps}"), f"{every} operations in {steps} steps")


def _room(found: Analysis, group: Group) -> tuple[float, float]:
    assert group.box is not None
    w, h = group.box.w, group.box.h
    if group.run is None or not group.run.states:
        return (w, h) if group.run is None else (max(w + 24, _title_room(group.run)), h + 44)
    widest = max(text_width(line, SMALL) for line in _loop_words(found, group.run))
    return max(max(w, widest, 150.0) + 24, _title_room(group.run)), h + 96


def _loop_title(run: Run) -> str:
    return f"{run.title or 'loop'} × {run.length} time steps"


def _title_room(run: Run) -> float:
    return text_width(_loop_title(run), SIZE) + 16


def _loop_words(found: Analysis, run: Run) -> list[str]:
    states = ", ".join(f"{clean(s.name, 20) or 'state'}ₜ" for s in run.states)
    words = [f"{states} → t + 1   (× {run.length - 1})"]
    for state in run.states:
        series = [
            item for body in run.bodies[:-1] if (item := body[state.source]) is not None and item.grad is not None
        ]
        if series and series[0].grad is not None and series[-1].grad is not None:
            name = clean(state.name, 20) or "state"
            words.append(
                f"‖∂L/∂{name}‖: {number(series[0].grad, 2)} (t = {run.times[0]}) … "
                f"{number(series[-1].grad, 2)} (t = {run.times[len(series) - 1]})"
            )
    return words[:3]


def _loop(found: Analysis, picture: Picture, group: Group, size: tuple[float, float]) -> None:
    """The cluster around a run's box, and the arrow of the carried state."""
    run, box = group.run, group.box
    assert run is not None and box is not None
    left, right = box.x - size[0] / 2, box.x + size[0] / 2
    top, bottom = box.y - size[1] / 2, box.y + size[1] / 2
    box.y = bottom - 11 - box.h / 2
    for edge in picture.edges:
        dy = box.y - (top + bottom) / 2
        if edge.source is box:
            edge.path[0] = (box.right, edge.path[0][1] + dy)
            edge.path[1] = (edge.path[1][0], edge.path[1][1] + dy)
        if edge.target is box:
            edge.path[-1] = (box.left, edge.path[-1][1] + dy)
            edge.path[-2] = (edge.path[-2][0], edge.path[-2][1] + dy)
    picture.clusters.append(
        Cluster(
            _loop_title(run),
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
    words = _loop_words(found, run)
    level = ""
    state = next((s for s in run.states if s.name == "h"), run.states[-1])
    grads = [item.grad for body in run.bodies if (item := body[state.source]) is not None and item.grad is not None]
    if len(grads) > 1 and grads[-1]:
        level = heat_level(grads[0] / grads[-1], 3.0)
        picture.heat_title = "‖∂L/∂state‖, first relative to last step:"
    y = box.top
    path: list[Point] = [(box.x - 34, y), (box.x - 34, y - 30), (box.x + 34, y - 30), (box.x + 34, y)]
    picture.edges.append(
        Edge(box, box, path, "", level or "heat-none", "\n".join(words), (box.x, y - 28 - len(words) * 6))
    )


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
    walls = [group.box if group.run is None else _frame(group, rooms[i]) for i, group in enumerate(order)]
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
        rail = "rail" if source.kind == "parameter" else ""
        picture.edges.append(Edge(source, target, path, rail))


def _frame(group: Group, room: tuple[float, float]) -> Box:
    assert group.box is not None
    return Box("module", (), x=group.box.x, y=group.box.y, w=room[0], h=room[1])


def _turn(picture: Picture) -> None:
    """From top-to-bottom to left-to-right."""
    for box in picture.boxes:
        box.x, box.y, box.w, box.h = box.y, box.x, box.h, box.w
    for edge in picture.edges:
        edge.path = [(y, x) for x, y in edge.path]

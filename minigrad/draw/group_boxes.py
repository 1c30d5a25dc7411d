"""Words and sizes for boxes that stand for many values."""

from __future__ import annotations

from collections.abc import Iterable

from ..recording import Scope
from .graph import Item, own_name
from .groups import Group
from .labels import clean, number, shape_text, subscript, text_width
from .model import SIZE, SMALL, Box
from .runs import Analysis, Run, cell_title
from .scopes import scope_title
from .words import box_kind, box_lines, full_kind, tooltip


def group_box(found: Analysis, group: Group) -> Box:
    items, key = group.items, group.key
    first = items[0]
    if group.run is not None:
        run = group.run
        per = sum(item.kind == "op" for item in run.usual)
        shapes = [f"{clean(s.name, 20) or 'state'} {shape_text(run.usual[s.source].shape)}" for s in run.states]
        lines = (
            _parts(run) or cell_title(run, run.pattern),
            f"{per} ops per step, {len(items) + per * run.gone} in all",
            *([f"carries {', '.join(shapes)}"] if shapes else []),
        )
        return Box("named", lines, f"{run.title}: {run.length} steps")
    if isinstance(key, tuple) and key and key[0] == "parameters":
        # the arrow says whose they are
        words = [f"{clean(own_name(i), 24) or 'parameter'} {shape_text(i.shape)}" for i in items]
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
        starts = " ".join(f"{s}₀" for s in states[:6])
        if all(i.cut is not None for i in items):
            return Box("detach", ("✂ detach", f"{starts} value only"), "initial states: the gradient stops here")
        sizes = dict.fromkeys(shape_text(i.shape) for i in items)
        return Box("constant", (starts, " ".join(list(sizes)[:3])), "initial states")
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
        name = f"{clean(out.name, 30)} · " if out.output and out.name else ""
        return Box(
            kind,
            (f"{name}{scope_title(key)}", f"{_ops(_count(ops))}{detail}"),
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


def _parts(run: Run) -> str:
    """The modules that a step consists of, where there are several."""
    step = run.scopes[run.pattern]
    names: dict[str, None] = {}
    for item in run.usual:
        found, scope = None, item.scope
        while scope is not None and scope.step is None:
            found, scope = scope, scope.parent
        if found is not None and found.label and found is not step:
            names[scope_title(found)] = None
    return clean(", ".join(names)) if len(names) > 1 else ""


def _each_box(found: Analysis, group: Group, run: Run) -> Box:
    """What stands in every column: `x₁ … x₅₀`, or an output layer `× 50`."""
    first = group.items[0]
    ops = [item for item in group.items if item.kind == "op"]
    key = group.key
    if not ops:
        names = sorted({i.name or ("x" if i.kind != "mask" else "mask") for i in group.items})
        name = clean(names[0], 30)
        kind = "input" if first.kind == "slice" else first.kind
        if len(group.items) == 1 and not run.gone:
            return Box(kind, (clean(found.name(first)) or name, shape_text(first.shape)), tooltip(first))
        times = [run.times[found.place[item][1]] for item in group.items]
        low, high = min(times), max(times)
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


def _count(items: Iterable[Item]) -> int:
    """How many values some items stand for."""
    return sum(item.count for item in items)


def _ops(count: int) -> str:
    return "1 op" if count == 1 else f"{count} ops"


def _calls(found: Analysis, scope: Scope | None) -> int:
    """How many calls of a module a scope stands for."""
    return found.graph.calls.get(scope, 1) if found.graph.calls is not None and scope is not None else 1


def room_of(found: Analysis, group: Group) -> tuple[float, float]:
    assert group.box is not None
    w, h = group.box.w, group.box.h
    if group.run is None or not group.run.states:
        return (w, h) if group.run is None else (max(w + 24, _title_room(group.run)), h + 44)
    widest = max(text_width(line, SMALL) for line in loop_words(found, group.run))
    return max(max(w, widest, 150.0) + 24, _title_room(group.run)), h + 96


def loop_title(run: Run) -> str:
    return f"{run.title or 'loop'} × {run.length} time steps"


def _title_room(run: Run) -> float:
    return text_width(loop_title(run), SIZE) + 16


def loop_words(found: Analysis, run: Run) -> list[str]:
    states = ", ".join(f"{clean(s.name, 20) or 'state'}ₜ" for s in run.states)
    words = [f"{states} → t {'−' if run.reverse else '+'} 1   (× {run.length - 1})"]
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

"""Where every value of a loop lives.

Arrays that outlive a step have time as their first axis and are written where they belong: the history of each state,
the outputs, the values that the backward reads, the operands of products over all steps. Everything else shares a few
buffers, each reused as soon as its value is dead. The parts of a concatenation are written straight into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..rules.shape import _concatenate, _reshape
from .lower import Lowered, contiguous_part
from .passes import is_view
from .program import Instruction, Value

Unit = list[Instruction]


@dataclass(frozen=True)
class Root:
    """An array of the generated function.

    Attributes:
        name: its variable.
        kind: "closure", "input", "stack" (T, ...), "history" (T + 1, ...), "ring" (2, ...), "plain" or "carry".
        shape, dtype: of one step.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Place:
    """Where a value lives: a root, the time index into it ("t", or "p" before and "n" after the step), a part of it."""

    root: Root
    time: str = ""
    part: tuple[Any, ...] = ()


class Layout:
    """Places for all values of one loop that are not views.

    Attributes:
        place: value -> Place.
        roots: the arrays that the function makes itself, in order.
        copies: pairs (value, place) to be copied at the end of each step.
        in_place: parts of concatenations that need no copy, (id of the instruction, operand number).
    """

    def __init__(self) -> None:
        self.place: dict[Value, Place] = {}
        self.roots: list[Root] = []
        self.copies: list[tuple[Value, Place]] = []
        self.in_place: set[tuple[int, int]] = set()
        self._names: dict[str, int] = {}

    def fresh(self, stem: str) -> str:
        """An unused variable name."""
        k = self._names[stem] = self._names.get(stem, -1) + 1
        return f"{stem}{k}"

    def root(self, stem: str, kind: str, v: Value) -> Root:
        """A new array that the function makes."""
        made = Root(self.fresh(stem), kind, v.shape, v.dtype)
        self.roots.append(made)
        return made


def origin(v: Value, made: dict[Value, Instruction]) -> Value:
    """The value whose memory `v` is a view of."""
    while v in made and is_view(made[v]):
        v = made[v].values[0]
    return v


# Whether the k-th unit may write its value over another, which it reads: (k, new, old).
Safe = Callable[[int, Value, Value], bool]


def forward_layout(lowered: Lowered, units: Sequence[Unit], hidden: Iterable[Value] = ()) -> Layout:
    """Places of the forward loop. `hidden` values get none: a fused kernel does not store them."""
    program, layout = lowered.program, Layout()
    for k, v in enumerate(program.closures):
        layout.place[v] = Place(Root(f"w{k}", "closure", v.shape, v.dtype))
    for k, v in enumerate(program.constants):
        layout.place[v] = Place(Root(f"k{k}", "closure", v.shape, v.dtype))
    for k, v in enumerate(program.xs):
        layout.place[v] = Place(Root(f"X{k}", "input", v.shape, v.dtype), "t")
    for k, (before, after) in enumerate(zip(program.state, program.new_state, strict=True)):
        long = before in lowered.kept or after in lowered.kept or after in program.ys
        root = Root(f"S{k}", "history" if long else "ring", before.shape, before.dtype)
        layout.roots.append(root)
        layout.place[before], layout.place[after] = Place(root, "p"), Place(root, "n")
    for k, v in enumerate(program.ys):
        if v not in layout.place:
            root = Root(f"Y{k}", "stack", v.shape, v.dtype)
            layout.roots.append(root)
            layout.place[v] = Place(root, "t")
    made_here = [v for i in lowered.forward for v in i.results]
    for v in made_here:
        if v in lowered.kept and v not in layout.place:
            layout.place[v] = Place(layout.root("R", "stack", v), "t")
    _temporaries(layout, lowered, units, set(hidden), {}, None)
    return layout


def backward_layout(lowered: Lowered, forward: Layout, units: Sequence[Unit], hidden: Iterable[Value] = (),
                    safe: Safe | None = None) -> Layout:
    """Places of the loop back; values of the forward loop stay where it left them."""
    program, layout = lowered.program, Layout()
    layout.place.update({v: p for v, p in forward.place.items()
                         if v in lowered.kept or p.root.kind in ("closure", "input")})
    carries: dict[Value, tuple[Value, Place]] = {}
    n = len(program.new_state)
    for k, (g, new) in enumerate(zip(program.cotangents[:n], program.dstate, strict=True)):
        if g is not None:
            root = Root(f"D{k}", "carry", g.shape, g.dtype)
            layout.roots.append(root)
            layout.place[g] = Place(root)
            if new is not None:
                carries[new] = (g, layout.place[g])
    for k, g in enumerate(program.cotangents[n:]):
        if g is not None:
            layout.place[g] = Place(Root(f"G{k}", "input", g.shape, g.dtype), "t")
    for k, v in enumerate(program.dxs):
        if v is not None and v not in carries:
            root = Root(f"DX{k}", "stack", v.shape, v.dtype)
            layout.roots.append(root)
            layout.place[v] = Place(root, "t")
    made_here = {v for i in lowered.backward for v in i.results}
    for leaf in lowered.leaves:
        if leaf.kind == "add":
            continue
        for v in leaf.operands:
            if v in made_here and v not in layout.place:
                layout.place[v] = Place(layout.root("L", "stack", v), "t")
    _temporaries(layout, lowered, units, set(hidden), carries, safe)
    return layout


def _temporaries(layout: Layout, lowered: Lowered, units: Sequence[Unit], hidden: set[Value],
                 carries: dict[Value, tuple[Value, Place]], safe: Safe | None) -> None:
    """Give every value that has no place yet a buffer, reusing those whose values are dead."""
    made = lowered.made_by
    place = layout.place
    last: dict[Value, int] = {}
    for k, unit in enumerate(units):
        for i in unit:
            for v in (*i.values, *i.results):
                last[origin(v, made)] = k
    for leaf in lowered.leaves:
        if leaf.kind == "add":
            for v in leaf.operands:
                last[origin(v, made)] = len(units)
    for v in carries:  # copied at the end of the step, if it cannot be written where it belongs
        last[v] = len(units)
    stacked = {v for leaf in lowered.leaves if leaf.kind != "add" for v in leaf.operands}

    reshaped = {origin(i.values[0], made) for unit in units for i in unit if i.primitive is _reshape}
    # parts of concatenations: the first one that a value is a part of decides
    part_of: dict[Value, tuple[Instruction, int]] = {}
    defined = {v: k for k, unit in enumerate(units) for i in unit for v in i.results}
    for unit in units:
        for i in unit:
            if i.primitive is not _concatenate or i.result in hidden:
                continue
            for k, v in enumerate(i.operands):
                if i.result not in carries and type(v) is Value and v in defined and v not in place \
                        and v not in carries and v not in part_of \
                        and v not in hidden and not is_view(made[v]) and not made[v].primitive.outputs \
                        and v.dtype == i.result.dtype and v not in stacked and v not in reshaped:
                    part_of[v] = (i, k)

    for v, (i, _) in reversed(part_of.items()):
        last[i.result] = max(last[i.result], last[v])

    free: dict[tuple[tuple[int, ...], Any], list[Root]] = {}
    in_use: list[tuple[int, Root]] = []

    def buffer(v: Value) -> Root:
        pool = free.get((v.shape, v.dtype))
        return pool.pop() if pool else layout.root("B", "plain", v)

    def until(v: Value) -> int:
        end = last[v]
        if v in part_of:
            end = max(end, until(part_of[v][0].result))
        return end

    def settle(v: Value) -> None:
        if v in place or v in hidden:
            return
        if v in part_of:
            i, k = part_of[v]
            settle(i.result)
            if i.result in place:
                whole = place[i.result]
                index = contiguous_part(i, k)
                if whole.part:
                    index = _nested(whole.part, index)
                place[v] = Place(whole.root, whole.time, index)
                layout.in_place.add((id(i), k))
                return
        root = buffer(v)
        place[v] = Place(root)
        in_use.append((until(v), root))

    for k, unit in enumerate(units):
        # a buffer may take the result of the very unit that reads it last if that is one elementwise operation, and
        # reads it entry by entry: a column of it, spread over the others, would be overwritten too soon
        alone = len(unit) == 1 and isinstance(unit[0].primitive.forward, np.ufunc) and not any(
            v.shape != unit[0].result.shape == origin(v, made).shape for v in unit[0].values)
        for entry in [e for e in in_use if e[0] < k + alone]:
            in_use.remove(entry)
            free.setdefault((entry[1].shape, entry[1].dtype), []).append(entry[1])
        for i in unit:
            if is_view(i):
                continue
            for v in i.results:
                if v in carries:
                    g, target = carries[v]
                    if v in place:  # it is an operand of a product over all steps too
                        layout.copies.append((v, target))
                    elif last.get(g, -1) < k or (last[g] == k and (
                            (safe is not None and safe(k, v, g))
                            or (alone and v.shape == g.shape and g in unit[0].operands))):
                        place[v] = target
                    else:
                        settle(v)
                        layout.copies.append((v, target))
                else:
                    settle(v)


def _nested(outer: tuple[Any, ...], inner: tuple[Any, ...]) -> tuple[Any, ...]:
    """A slice of a slice."""
    found = []
    for k in range(max(len(outer), len(inner))):
        a = outer[k] if k < len(outer) else slice(None)
        b = inner[k] if k < len(inner) else slice(None)
        if a == slice(None) or b == slice(None):
            found.append(b if a == slice(None) else a)
        else:
            found.append(slice(a.start + b.start, a.start + b.stop))
    return tuple(found)

"""Lowering: what is computed before the loop, in it, and after it.

    before    what depends on nothing that changes from step to step
    forward   the loop over time
    backward  the loop back
    leaves    sums over time that the gradients of closures need: Σ_t aᵀ g as one product of all rows, Σ_t g over a
              batch as one sum, anything else added up in the loop
    after     what is linear in such sums, done once: Σ_t f(v_t) = f(Σ_t v_t)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..accumulate import cast, unbroadcast
from ..primitive import TABLE, Primitive
from ..rules.indexing import _gather, scatter
from ..rules.linear_algebra import matmul
from ..rules.reduction import _mean, _sum
from ..rules.shape import (
    _broadcast_to,
    _concatenate,
    _flip,
    _moveaxis,
    _reshape,
    _roll,
    _split,
    _stack,
    _swapaxes,
    _transpose,
    _unstack,
)
from .passes import COPY, is_view
from .program import Instruction, Program, Value

# f(Σ v) = Σ f(v), for all their operands together.
LINEAR: frozenset[Any] = frozenset({
    TABLE[np.add], TABLE[np.subtract], TABLE[np.negative], _reshape, _transpose, _swapaxes, _moveaxis, _gather, scatter,
    _concatenate, _stack, _split, _unstack, cast, _sum, _mean, _broadcast_to, _flip, _roll})
# The same for the first operand, or either, when the other does not change from step to step.
BILINEAR: frozenset[Any] = frozenset({TABLE[np.multiply], matmul})
DIVIDE = TABLE[np.divide]


@dataclass(frozen=True)
class Leaf:
    """A sum over all time steps.

    Attributes:
        kind: "product", Σ aᵀ g of operands (a, g); "sum", Σ unbroadcast(g); "add", Σ g.
        operands: values of each step.
        total: stands for the sum in `after`.
    """

    kind: Literal["product", "sum", "add"]
    operands: tuple[Value, ...]
    total: Value


@dataclass
class Lowered:
    """A program whose loops are laid out; see the module. `dclosures` are totals or values of `after`."""

    program: Program
    before: list[Instruction]
    forward: list[Instruction]
    before_backward: list[Instruction]
    backward: list[Instruction]
    leaves: list[Leaf]
    after: list[Instruction]
    dclosures: list[Value | None]
    kept: set[Value] = field(default_factory=set)
    made_by: dict[Value, Instruction] = field(default_factory=dict)
    invariant: set[Value] = field(default_factory=set)


def lower(program: Program) -> Lowered:
    """Part the instructions of `program` into before, loop and after."""
    outputs = {*program.new_state, *program.ys, *(v for v in (*program.dstate, *program.dxs) if v is not None)}
    invariant: set[Value] = {*program.closures, *program.constants}
    before, forward = _hoisted(program.forward, invariant, outputs)
    before_backward, backward = _hoisted(program.backward, invariant, outputs)
    after, wanted = _movable(backward, invariant, program, outputs)
    moved = set(map(id, after))
    backward = [i for i in backward if id(i) not in moved]
    made = {v: i for i in (*forward, *backward) for v in i.results}
    leaves, new = [], {}
    for v in wanted:
        leaf = _leaf(v, made, invariant)
        leaves.append(leaf)
        new[v] = leaf.total
    after = [i.with_operands(new.get(o, o) if type(o) is Value else o for o in i.operands) for i in after]
    dclosures = [None if v is None else new.get(v, v) for v in program.dclosures]

    forward_made = {v for i in forward for v in i.results}
    leaves = [Leaf(leaf.kind, tuple(_stackable(v, program, made, forward, backward, forward_made, invariant)
                                    for v in leaf.operands) if leaf.kind != "add" else leaf.operands, leaf.total)
              for leaf in leaves]
    forward_made = {v for i in forward for v in i.results}
    backward = _live(backward, [*(v for v in (*program.dstate, *program.dxs) if v is not None),
                                *(v for leaf in leaves for v in leaf.operands)])
    made = {v: i for i in (*before, *forward, *before_backward, *backward) for v in i.results}
    read = {v for i in backward for v in i.values} | {v for leaf in leaves for v in leaf.operands}
    kept = set()
    for v in read:
        while v in forward_made and is_view(made[v]):
            v = made[v].values[0]
        if v in forward_made or v in program.state:
            kept.add(v)
    read |= {v for i in after for v in i.values}
    before_needed = _live([*before, *before_backward], read)
    return Lowered(program, before, forward, before_needed, backward, leaves, after, dclosures, kept, made, invariant)


def _hoisted(instructions: list[Instruction], invariant: set[Value], outputs: set[Value],
             ) -> tuple[list[Instruction], list[Instruction]]:
    """Loop-invariant code motion; `invariant` grows."""
    before, loop = [], []
    for i in instructions:
        if all(v in invariant for v in i.values) and not any(v in outputs for v in i.results):
            invariant.update(i.results)
            before.append(i)
        else:
            loop.append(i)
    return before, loop


def _movable(backward: list[Instruction], invariant: set[Value], program: Program, outputs: set[Value],
             ) -> tuple[list[Instruction], list[Value]]:
    """The linear instructions that only gradients of closures depend on, and the values of the loop they need."""
    users: dict[Value, list[Instruction]] = {}
    for i in backward:
        for v in i.values:
            users.setdefault(v, []).append(i)
    asked = {v for v in program.dclosures if v is not None}
    moved: set[int] = set()
    after = []
    for i in reversed(backward):
        alive = any(v in asked or v in users for v in i.results)
        free = all(v not in outputs and all(id(u) in moved for u in users.get(v, ())) for v in i.results)
        if alive and free and _linear(i, invariant):
            moved.add(id(i))
            after.append(i)
    after.reverse()
    results = {v for i in after for v in i.results}
    needed = [v for i in after for v in i.values] + [v for v in program.dclosures if v is not None]
    wanted = dict.fromkeys(v for v in needed if v not in results and (v not in invariant or v in asked))
    return after, list(wanted)


def _linear(i: Instruction, invariant: set[Value]) -> bool:
    changing = [type(o) is Value and o not in invariant for o in i.operands]
    if i.primitive in LINEAR:
        return all(changing)
    if i.primitive in BILINEAR:
        return sum(changing) == 1
    return i.primitive is DIVIDE and changing == [True, False]


def _leaf(v: Value, made: dict[Value, Instruction], invariant: set[Value]) -> Leaf:
    total = v.like()
    i = made.get(v)
    if i is not None and i.primitive is matmul and len(v.shape) == 2:
        left, g = i.operands
        flip = made.get(left)
        if flip is not None and flip.primitive in (_transpose, _swapaxes) and len(left.shape) == 2 \
                and flip.metadata.get("axes") in (None, (1, 0)) and type(g) is Value \
                and g not in invariant and g.dtype == left.dtype:
            return Leaf("product", (flip.values[0], g), total)
    if i is not None and i.primitive is unbroadcast:
        return Leaf("sum", (i.values[0],), total)
    return Leaf("add", (v,), total)


def _stackable(v: Value, program: Program, made: dict[Value, Instruction], forward: list[Instruction],
               backward: list[Instruction], in_forward: set[Value], invariant: set[Value]) -> Value:
    """`v`, or a copy of it, that has memory of its own at every time step."""
    if v in program.state or v in program.xs or v in program.cotangents[len(program.new_state):]:
        return v
    if v in made and not is_view(made[v]) and not made[v].primitive.outputs:
        return v
    copy = v.like()
    i = Instruction(COPY, (v,), {}, (copy,))
    (forward if v in in_forward else backward).append(i)
    made[copy] = i
    return copy


def _live(instructions: Iterable[Instruction], roots: Iterable[Value]) -> list[Instruction]:
    live = set(roots)
    found = []
    for i in reversed(list(instructions)):
        if any(v in live for v in i.results):
            live.update(i.values)
            found.append(i)
    return found[::-1]


def contiguous_part(i: Instruction, k: int) -> tuple[Any, ...]:
    """Where operand k of a concatenation lies in its result."""
    axis = i.metadata["axis"] % len(i.result.shape)
    ends = i.metadata["ends"]
    return (*(slice(None),) * axis, slice(ends[k - 1] if k else 0, ends[k]))


def is_primitive(i: Instruction | None, *primitives: Primitive) -> bool:
    """Whether `i` applies one of these."""
    return i is not None and i.primitive in primitives

"""Rewrites of programs. Each is a function from a Program to a Program that computes the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..accumulate import cast, unbroadcast
from ..primitive import TABLE, Primitive
from ..rules.elementwise import _clip_gradient, sigmoid
from ..rules.indexing import _gather, is_basic, scatter
from ..rules.shape import (
    _broadcast_to,
    _concatenate,
    _moveaxis,
    _reshape,
    _split,
    _swapaxes,
    _transpose,
    _unstack,
)
from ..tensor import _DETACH
from .program import Instruction, Program, Value, frozen

POSITIVE = TABLE[np.positive]
MULTIPLY = TABLE[np.multiply]
DIVIDE = TABLE[np.divide]
NEGATIVE = TABLE[np.negative]

# What `own_outputs` inserts.
COPY = Primitive("copy", np.array)

# Their results are views of their first operand.
VIEWS = frozenset({_split, _unstack, _transpose, _swapaxes, _moveaxis, _broadcast_to, _reshape})


def is_view(i: Instruction) -> bool:
    """Whether the results are views of the first operand (a reshape only of something contiguous)."""
    return i.primitive in VIEWS or (i.primitive is _gather and is_basic(i.metadata["index"]))


# ---------------------------------------------------------------------------------------------------------------
# Fewer instructions
# ---------------------------------------------------------------------------------------------------------------


def dead_code(program: Program) -> Program:
    """Without the instructions that no output depends on."""
    live = set(program.outputs())

    def kept(instructions: list[Instruction]) -> list[Instruction]:
        found = []
        for i in reversed(instructions):
            if any(v in live for v in i.results):
                live.update(i.values)
                found.append(i)
        return found[::-1]

    backward = kept(program.backward)
    return program.replaced(kept(program.forward), backward)


def _up_to_date(i: Instruction, new: dict[Value, Value]) -> Instruction:
    """`i` with operands that have been replaced by others as those."""
    if not any(type(o) is Value and o in new for o in i.operands):
        return i
    return i.with_operands(new.get(o, o) if type(o) is Value else o for o in i.operands)


def _rewritten(program: Program, rewrite: Callable[[Instruction], Value | Instruction]) -> Program:
    """Apply `rewrite` to each instruction, whose operands are up to date; a Value stands for its only result."""
    new: dict[Value, Value] = {}

    def through(instructions: list[Instruction]) -> list[Instruction]:
        found = []
        for i in instructions:
            i = _up_to_date(i, new)
            outcome = rewrite(i)
            if isinstance(outcome, Value):
                new[i.result] = outcome
                if outcome.name is None:
                    outcome.name = i.result.name
            else:
                found.append(outcome)
        return found

    forward = through(program.forward)
    return program.replaced(forward, through(program.backward), new)


def identities(program: Program) -> Program:
    """Without operations that change nothing: x · 1, x / 1, a cast to the same dtype, a reshape to the same shape."""

    def rewrite(i: Instruction) -> Value | Instruction:
        x = i.operands[0] if i.operands else None
        if i.primitive.outputs:
            return i
        result = i.result
        if i.primitive is MULTIPLY and type(x) is not Value and _is(x, 1):
            x = i.operands[1]
        elif i.primitive in (MULTIPLY, DIVIDE):
            if type(i.operands[1]) is Value or not _is(i.operands[1], 1):
                return i
        elif i.primitive not in (cast, _reshape, _broadcast_to, unbroadcast, POSITIVE, _DETACH, _clip_gradient):
            return i
        if type(x) is Value and x.shape == result.shape and x.dtype == result.dtype:
            return x
        return i

    return _rewritten(program, rewrite)


def _is(x: Any, number: float) -> bool:
    return isinstance(x, (int, float)) and x == number


def common_subexpressions(program: Program) -> Program:
    """What is computed twice from the same values is computed once."""
    known: dict[Any, tuple[Value, ...]] = {}
    new: dict[Value, Value] = {}

    def through(instructions: list[Instruction]) -> list[Instruction]:
        found = []
        for i in instructions:
            i = _up_to_date(i, new)
            key = (i.primitive, tuple(id(o) if type(o) is Value else frozen(o) for o in i.operands),
                   frozen(i.metadata))
            same = known.get(key)
            if same is None:
                known[key] = i.results
                found.append(i)
            else:
                new.update(zip(i.results, same, strict=True))
        return found

    forward = through(program.forward)
    return program.replaced(forward, through(program.backward), new)


def slices_joined(program: Program) -> Program:
    """The gradient of slices that tile an axis, a scatter into zeros, is a concatenation."""

    def rewrite(i: Instruction) -> Value | Instruction:
        if i.primitive is not scatter:
            return i
        shape = i.metadata["shape"]
        spans = [_span(index, shape) for index in i.metadata["indices"]]
        if any(s is None for s in spans) or len({s[0] for s in spans if s}) != 1:
            return i
        order = sorted(range(len(spans)), key=lambda k: spans[k][1])  # type: ignore[index]
        axis = spans[0][0]  # type: ignore[index]
        end = 0
        for k in order:
            if spans[k][1] != end:  # type: ignore[index]
                return i
            end = spans[k][2]  # type: ignore[index]
        if end != shape[axis] or any(i.operands[k].dtype != i.result.dtype for k in order):
            return i
        ends = tuple(spans[k][2] for k in order)  # type: ignore[index]
        return Instruction(_concatenate, (i.operands[k] for k in order), {"axis": axis, "ends": ends}, i.results,
                           i.scope)

    return _rewritten(program, rewrite)


def _span(index: Any, shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(axis, start, end) of an index that is one plain slice along one axis."""
    parts = index if isinstance(index, tuple) else (index,)
    if any(p is ... for p in parts):
        at = [p is ... for p in parts].index(True)
        parts = (*parts[:at], *(slice(None),) * (len(shape) - len(parts) + 1), *parts[at + 1:])
    if len(parts) > len(shape) or not all(isinstance(p, slice) and p.step in (None, 1) for p in parts):
        return None
    bounds = [p.indices(n)[:2] for p, n in zip(parts, shape, strict=False)]
    cut = [k for k, (bound, n) in enumerate(zip(bounds, shape, strict=False)) if bound != (0, n)]
    if len(cut) != 1:
        return None
    return cut[0], *bounds[cut[0]]


def contiguous_reshapes(program: Program) -> Program:
    """A reshape of a view gets a copy to look at, so that every reshape is a view of an array of its own."""
    made = {v: i for i in (*program.forward, *program.backward) for v in i.results}

    def through(instructions: list[Instruction]) -> list[Instruction]:
        found = []
        for i in instructions:
            if i.primitive is _reshape:
                (x,) = i.values
                if x in made and is_view(made[x]) and made[x].primitive is not _reshape:
                    copy = x.like()
                    found.append(Instruction(COPY, (x,), {}, (copy,)))
                    i = i.with_operands([copy])
            found.append(i)
        return found

    return program.replaced(through(program.forward), through(program.backward))


def own_outputs(program: Program) -> Program:
    """Every output gets an instruction of its own that makes it, so that it can be written where it belongs.

    A state that is passed on unchanged, a value returned twice, or a view of another value is copied.
    """
    forward, backward = list(program.forward), list(program.backward)
    made = {v: i for i in (*forward, *backward) for v in i.results}
    in_forward = {v for i in forward for v in i.results}

    def own(values: list[Any], taken: set[Value], body: list[Instruction],
            inside: Callable[[Value], bool]) -> list[Any]:
        out: list[Any] = []
        for v in values:
            if v is None:
                out.append(None)
                continue
            if v in taken or v not in made or not inside(v) or is_view(made[v]) or made[v].primitive.outputs:
                copy = v.like()
                body.append(Instruction(COPY, (v,), {}, (copy,)))
                made[copy] = body[-1]
                v = copy
            taken.add(v)
            out.append(v)
        return out

    taken: set[Value] = set()
    new_state = own(program.new_state, taken, forward, lambda v: True)
    # an output may share the memory of a new state
    replaced = dict(zip(program.new_state, new_state, strict=True))
    ys = []
    for y in program.ys:
        shared = replaced.get(y)
        ys.append(shared if shared is not None else own([y], taken, forward, lambda v: True)[0])
    taken = set()
    dstate = own(program.dstate, taken, backward, lambda v: v not in in_forward)
    dxs = own(program.dxs, taken, backward, lambda v: v not in in_forward)
    out = program.replaced(forward, backward)
    out.new_state, out.ys, out.dstate, out.dxs = new_state, ys, dstate, dxs
    return out


# ---------------------------------------------------------------------------------------------------------------
# All of them
# ---------------------------------------------------------------------------------------------------------------

PASSES: tuple[Callable[[Program], Program], ...] = (
    identities, slices_joined, common_subexpressions, dead_code, contiguous_reshapes, own_outputs)


def rewritten(program: Program, passes: Iterable[Callable[[Program], Program]] = PASSES) -> Program:
    """`program` after all passes."""
    for rewrite in passes:
        program = rewrite(program)
    return program


__all__ = ["COPY", "NEGATIVE", "PASSES", "VIEWS", "common_subexpressions", "dead_code", "identities", "is_view",
           "own_outputs", "rewritten", "sigmoid", "slices_joined"]

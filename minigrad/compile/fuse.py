"""Fusion: which elementwise instructions of a loop form one kernel, and what the kernel computes in which order.

A kernel walks over the rows of its arrays; within a row it runs a few short loops over contiguous entries, each of one
expression. Such loops vectorise, one large loop over many arrays does not. A value that is used once is computed where
it is used; one that is used several times gets a row of scratch memory; one that is needed outside goes to its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from ..accumulate import cast
from ..primitive import TABLE
from ..rules.elementwise import _clip, _where, relu, sigmoid
from ..rules.indexing import _gather
from ..rules.shape import _reshape, _split
from .layout import origin
from .lower import Lowered
from .passes import COPY, is_view
from .program import Instruction, Value

# primitive -> how it is written, given its operands; None for those that are spelled out by the back end.
EXPRESSIONS: dict[Any, str] = {
    TABLE[np.add]: "{0} + {1}", TABLE[np.subtract]: "{0} - {1}", TABLE[np.multiply]: "{0} * {1}",
    TABLE[np.divide]: "{0} / {1}", TABLE[np.negative]: "-{0}", TABLE[np.positive]: "{0}",
    TABLE[np.square]: "{0} * {0}", TABLE[np.sqrt]: "np.sqrt({0})", TABLE[np.exp]: "np.exp({0})",
    TABLE[np.log]: "np.log({0})", TABLE[np.reciprocal]: "{one} / {0}", TABLE[np.absolute]: "abs({0})",
    TABLE[np.log1p]: "np.log1p({0})", TABLE[np.expm1]: "np.expm1({0})", TABLE[np.sin]: "np.sin({0})",
    TABLE[np.cos]: "np.cos({0})", TABLE[np.floor]: "np.floor({0})",
    TABLE[np.maximum]: "({0} if {0} >= {1} or {0} != {0} else {1})",
    TABLE[np.minimum]: "({0} if {0} <= {1} or {0} != {0} else {1})",
    relu: "({zero} if {0} <= {zero} else {0})", COPY: "{0}",
    _where: "({1} if {0} else {2})", _clip: "({1} if {0} < {1} else ({2} if {0} > {2} else {0}))",
    TABLE[np.greater]: "{0} > {1}", TABLE[np.greater_equal]: "{0} >= {1}", TABLE[np.less]: "{0} < {1}",
    TABLE[np.less_equal]: "{0} <= {1}", TABLE[np.equal]: "{0} == {1}", TABLE[np.not_equal]: "{0} != {1}",
    TABLE[np.logical_and]: "{0} and {1}", TABLE[np.logical_or]: "{0} or {1}", TABLE[np.logical_not]: "not {0}",
    cast: "{0}", sigmoid: "", TABLE[np.tanh]: "",
}
COMPARISONS = frozenset(TABLE[f] for f in (np.greater, np.greater_equal, np.less, np.less_equal, np.equal,
                                           np.not_equal))
LOGICAL = frozenset(TABLE[f] for f in (np.logical_and, np.logical_or, np.logical_not))

# More arrays than this in one loop, and it is cut: the compiler must check each pair for overlap.
MOST_ARRAYS = 6
MOST_OPERATIONS = 24


def rows_and_columns(shape: tuple[int, ...]) -> tuple[int, int]:
    """A shape as a matrix: all axes but the last, and the last."""
    return math.prod(shape[:-1]), shape[-1] if shape else 1


def mode(shape: tuple[int, ...], whole: tuple[int, ...]) -> str | None:
    """How an operand of `shape` is read by a result of shape `whole`.

    "full" entry by entry, "row" the same row for all, "column" one entry for a row, "scalar"; None for other
    broadcasts.
    """
    if math.prod(shape) == 1:
        return "scalar" if math.prod(whole) != 1 else "full"
    lead = len(whole) - len(shape)
    padded = (1,) * lead + shape
    if lead < 0:
        return None
    if padded == whole:
        return "full"
    if padded[-1] == whole[-1] and all(n == 1 for n in padded[:-1]):
        return "row"
    return "column" if padded[-1] == 1 and padded[:-1] == whole[:-1] else None


@dataclass
class Access:
    """Where an operand is read: a value that is not a view, from a column on, in a mode."""

    value: Value
    start: int
    mode: str


def resolve(v: Value, lowered: Lowered) -> tuple[Value, int] | None:
    """The value that `v` is a slice of along the last axis, and where it starts; None for other views."""
    start = 0
    made = lowered.made_by
    while v in made and is_view(made[v]) and v not in lowered.invariant:
        i = made[v]
        base = i.values[0]
        if i.primitive is _split and i.metadata["axis"] % len(base.shape) == len(base.shape) - 1:
            for r in i.results:
                if r is v:
                    break
                start += r.shape[-1]
        elif i.primitive is _reshape and v.shape[-1:] == base.shape[-1:] and v.shape:
            if start:
                return None
        elif i.primitive is _gather:
            index = i.metadata["index"] if isinstance(i.metadata["index"], tuple) else (i.metadata["index"],)
            if len(v.shape) != len(base.shape) or not base.shape or not all(
                    p is ... or (isinstance(p, slice) and p.step in (None, 1)) for p in index):
                return None
            if v.shape[:-1] != base.shape[:-1]:
                return None
            complete = len(index) == len(base.shape) or any(p is ... for p in index)
            last = index[-1] if complete and index[-1] is not ... else slice(None)
            start += last.indices(base.shape[-1])[0]
        else:
            return None
        v = base
    return v, start


def accesses(i: Instruction, lowered: Lowered) -> list[Access | None] | None:
    """How a fusable instruction reads its operands, None for a number; None if it is not fusable."""
    if i.primitive not in EXPRESSIONS or i.primitive.outputs:
        return None
    result = i.result
    if result.dtype not in (np.float32, np.float64, np.bool_) or not math.prod(result.shape):
        return None
    found: list[Access | None] = []
    floats = {o.dtype for o in i.values if o.dtype.kind == "f"}
    if any(o.dtype not in (np.float32, np.float64, np.bool_) for o in i.values):
        return None
    if i.primitive in COMPARISONS and len(floats) != 1:
        return None
    if i.primitive in LOGICAL and floats:
        return None
    copies = i.primitive in (cast, COPY)
    if i.primitive not in COMPARISONS | LOGICAL | {_where} and not (i.primitive is COPY and result.dtype.kind == "b") \
            and (result.dtype.kind != "f" or not (floats or copies)):
        return None
    if i.primitive is _where and (type(i.operands[0]) is not Value or i.values[0].dtype.kind != "b"
                                  or result.dtype.kind != "f"):
        return None
    if i.primitive is _clip and not (all(isinstance(b, (int, float)) for b in i.operands[1:])
                                     and i.operands[1] <= i.operands[2]):
        return None
    for o in i.operands:
        if type(o) is not Value:
            if not isinstance(o, (int, float, np.floating, np.bool_)):
                return None
            found.append(None)
            continue
        how = mode(o.shape, result.shape)
        place = resolve(o, lowered)
        if how is None or place is None:
            return None
        found.append(Access(place[0], place[1], how))
    return found


@dataclass
class Loop:
    """One loop over the columns of a row: computes `value`, with `inlined` instructions spelled out in it."""

    value: Value
    instructions: list[Instruction]
    reads: dict[tuple[Value, int, str], None] = field(default_factory=dict)


@dataclass
class Group:
    """The instructions of one kernel.

    Attributes:
        rows: how many rows it walks over.
        instructions: in order.
        loops: one per value that is stored, kept in scratch, or a number of its own for each row.
        hidden: values that are not stored.
    """

    rows: int
    instructions: list[Instruction]
    loops: list[Loop] = field(default_factory=list)
    hidden: set[Value] = field(default_factory=set)


def units(body: Sequence[Instruction], lowered: Lowered, outside: Iterable[Value]) -> list[Group | Instruction]:
    """The body of a loop as kernels and other instructions, in an order that respects what needs what.

    `outside` are values that are read after the loop body: outputs, saved values, operands of sums.
    """
    made = lowered.made_by
    here = {v for i in body for v in i.results}
    work = [i for i in body if not is_view(i)]
    rows = {id(i): rows_and_columns(i.result.shape)[0] if accesses(i, lowered) is not None else 0 for i in work}
    makers = {v: i for i in work for v in i.results}
    users: dict[int, list[Instruction]] = {id(i): [] for i in work}
    stage: dict[int, int] = {}  # even for kernels, odd for everything else
    for i in work:
        before = [makers[w] for w in dict.fromkeys(origin(v, made) for v in i.values) if w in makers]
        for j in before:
            users[id(j)].append(i)
        if rows[id(i)]:
            stage[id(i)] = max((stage[id(j)] if rows[id(j)] == rows[id(i)] else stage[id(j)] // 2 * 2 + 2
                                for j in before), default=0)
        else:
            stage[id(i)] = max(((stage[id(j)] + 1) // 2 * 2 + 1 for j in before), default=1)
    for i in reversed(work):  # as late as its first user: fewer kernels
        after = users[id(i)]
        if rows[id(i)] and after and all(rows[id(u)] == rows[id(i)] for u in after):
            stage[id(i)] = min(stage[id(u)] for u in after)
    staged: dict[tuple[int, int], list[Instruction]] = {}
    singles: dict[int, list[Instruction]] = {}
    for i in work:
        if rows[id(i)]:
            staged.setdefault((stage[id(i)], rows[id(i)]), []).append(i)
        else:
            singles.setdefault(stage[id(i)], []).append(i)
    ordered: list[Group | Instruction] = []
    keys = sorted({*staged, *((s, 0) for s in singles)})
    for s, n in keys:
        if n:
            ordered.append(Group(n, staged[s, n]))
        else:
            ordered += singles[s]
    outside = {origin(v, made) for v in outside} | set(outside)
    for unit in ordered:
        if isinstance(unit, Group):
            _plan(unit, body, lowered, outside, here)
    return ordered


def _plan(group: Group, body: Sequence[Instruction], lowered: Lowered, outside: set[Value], here: set[Value]) -> None:
    """Decide what is stored, what is inlined, and the loops."""
    made = lowered.made_by
    mine = {i.result: i for i in group.instructions}
    inside = {id(i) for i in group.instructions}
    uses: dict[Value, list[tuple[int, int]]] = {v: [] for v in mine}
    stored = {v for v in mine if v in outside}
    for i in body:
        if is_view(i):
            continue
        if id(i) in inside:
            for access, o in zip(accesses(i, lowered) or (), i.operands, strict=True):
                if access is not None and access.value in mine:
                    uses[access.value].append((access.start, access.start + rows_and_columns(o.shape)[1])
                                              if access.mode == "full" else (-1, -1))
        else:
            stored.update(o for o in (origin(v, made) for v in i.values) if o in mine)
    inlined: dict[Value, tuple[int, set[tuple[Value, int, str]]]] = {}
    for i in group.instructions:
        v = i.result
        loop = Loop(v, [i])
        size = 1 + 6 * (i.primitive is sigmoid or not EXPRESSIONS[i.primitive])
        for access in accesses(i, lowered) or ():
            if access is None:
                continue
            if access.value in inlined:
                n, reads = inlined[access.value]
                size += n
                loop.reads.update(dict.fromkeys((w, start + (access.start if how == "full" else 0), how)
                                                for w, start, how in reads))
            else:
                loop.reads[access.value, access.start, access.mode] = None
        columns = rows_and_columns(v.shape)[1]
        disjoint = _disjoint(uses[v])
        alone = columns > 1 and v not in stored and (disjoint or (size == 1 and len(loop.reads) <= 1))
        if alone and len(loop.reads) <= MOST_ARRAYS - 2 and size <= MOST_OPERATIONS and (-1, -1) not in uses[v]:
            inlined[v] = (size, set(loop.reads))
        else:
            group.loops.append(loop)
        if v not in stored:
            group.hidden.add(v)


def _disjoint(spans: list[tuple[int, int]]) -> bool:
    """Whether no entry is used twice."""
    ordered = sorted(spans)
    return all(a[1] <= b[0] for a, b in pairwise(ordered))


def safe_in_place(group: Group, new: Value, old: Value) -> bool:
    """Whether `new` may be written over `old` by this kernel: every loop that reads `old` comes before, or is it."""
    at = [k for k, loop in enumerate(group.loops) if loop.value is new]
    if not at or new.shape != old.shape:
        return False
    for k, loop in enumerate(group.loops):
        for v, start, how in loop.reads:
            if v is old and (k > at[0] or (k == at[0] and (start or how != "full"))):
                return False
    return True

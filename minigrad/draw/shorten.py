"""Long loops made short, before anything else looks at them: what a picture of thousands of steps costs.

Only the first and the last steps of a long loop are drawn. So the middle of the tape is taken out where it shows
nothing new: each step must do what some step that stays does, operation by operation, and take its inputs from the
same places. What remains is the tape of the same loop with fewer turns, and all that is done to it afterwards costs
as little as for a short loop. Steps need not be all of one kind: with truncated backpropagation every tenth begins
anew, and a step may choose what it does. A loop in which every step does something else is left as it is.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from ..recording import Scope
from ..tape import Node, Output, Variable
from .graph import DATA, is_foldable
from .reading import Cut, Reading

LEAST = 40  # shorter loops are left whole


@dataclass(slots=True, eq=False)
class _Loop:
    """The steps of a loop: their scopes, and where each begins in the list of nodes.

    Attributes:
        beside: other modules called once in every step, with a state of their own.
    """

    scopes: list[Scope]
    starts: list[int]
    beside: list[_Loop] = field(default_factory=list)


def shorten(reading: Reading, keep: int, uneven: bool = True) -> Reading:
    """What is left of it without the middle of its long loops.

    Args:
        reading: what there is.
        keep: so many steps stay at either end.
        uneven: also where the steps taken out are of several kinds.
    """
    nodes = reading.nodes
    if len(nodes) < LEAST:
        return reading
    loops = _loops(reading)
    if not loops:
        return reading
    place = {node: i for i, node in enumerate(nodes)}
    cuts = [cut for loop in loops if (cut := _cut(reading, place, loop, keep, uneven)) is not None]
    return (_without(reading, place, cuts) if cuts else None) or reading


# -----------------------------------------------------------------------------------------------------------
# Which loops are long
# -----------------------------------------------------------------------------------------------------------


def _loops(reading: Reading) -> list[_Loop]:
    """The long loops that are in no other: numbered steps, or calls that use what the call before made."""
    nodes = reading.nodes
    groups: dict[Hashable, _Loop] = {}
    seen: set[Scope | None] = {None}
    for i, node in enumerate(nodes):
        scope = reading.scope_of(node)
        while scope not in seen:
            assert scope is not None
            seen.add(scope)
            key = (scope.parent, None) if scope.step is not None else (scope.parent, scope.name, scope.label)
            found = groups.get(key)
            if found is None:
                found = groups[key] = _Loop([], [])
            found.scopes.append(scope)
            found.starts.append(i)
            scope = scope.parent
    long = [part for group in groups.values() if len(group.scopes) >= LEAST for part in _one_way(group)]
    long = [loop for loop in long if loop.scopes[0].step is not None or _carries(reading, loop)]
    steps = {scope for loop in long for scope in loop.scopes}
    outermost = sorted((loop for loop in long if not _inside(loop.scopes[0].parent, steps)), key=lambda o: o.starts[0])
    apart: list[_Loop] = []
    for loop in outermost:
        last = apart[-1] if apart else None
        if last is None or loop.starts[0] >= last.starts[-1]:
            apart.append(loop)
        elif len(loop.starts) == len(last.starts) and all(
            low <= at < high for low, at, high in zip(last.starts, loop.starts, last.starts[1:], strict=False)
        ):
            last.beside.append(loop)
        else:
            return []
    return apart


def _one_way(loop: _Loop) -> list[_Loop]:
    """Stretches in which the steps are counted one by one, up or down."""
    if loop.scopes[0].step is None:
        return [loop]
    numbers = [scope.step or 0 for scope in loop.scopes]
    parts, begin = [], 0
    for k in range(1, len(numbers) + 1):
        if k == len(numbers) or (
            abs(numbers[k] - numbers[k - 1]) != 1
            or (k - begin > 1 and numbers[k] - numbers[k - 1] != numbers[k - 1] - numbers[k - 2])
        ):
            if k - begin >= LEAST:
                parts.append(_Loop(loop.scopes[begin:k], loop.starts[begin:k]))
            begin = k
    return parts


def _inside(scope: Scope | None, steps: set[Scope]) -> bool:
    """Whether a scope is one of some, or in one of them, or in a step."""
    while scope is not None:
        if scope in steps or scope.step is not None:
            return True
        scope = scope.parent
    return False


def _carries(reading: Reading, loop: _Loop) -> bool:
    """Whether the third call uses what the second made."""
    earlier, later, end = loop.scopes[1], loop.scopes[2], loop.starts[3]
    for node in reading.nodes[loop.starts[2] : end]:
        if not _within(reading.scope_of(node), later):
            continue
        for source in reading.inputs(node):
            origin = source.node if type(source) is Output else source
            while type(origin) is Node:
                if _within(reading.scope_of(origin), earlier):
                    return True
                inner = reading.inputs(origin)[0] if is_foldable(origin) else None
                origin = inner.node if type(inner) is Output else inner
    return False


def _within(scope: Scope | None, outer: Scope) -> bool:
    while scope is not None and scope is not outer:
        scope = scope.parent
    return scope is outer


# -----------------------------------------------------------------------------------------------------------
# What can be taken out of one
# -----------------------------------------------------------------------------------------------------------


def _cut(reading: Reading, place: dict[Node, int], loop: _Loop, keep: int, uneven: bool) -> Cut | None:
    """The longest stretch of steps that can be taken out of a loop; None if it is not worth it."""
    kinds = _kinds(reading, place, loop.starts)
    first: dict[int, int] = {}  # of each kind, which step shows it; the very first step is like no other
    new = [k for k in range(1, len(kinds)) if first.setdefault(kinds[k], k) == k]
    best = (0, 0)
    for begin, end in pairwise([*new, len(kinds)]):
        # between two steps that show something new; what is left must fit together as one step does with the next
        low, high = max(begin + 1, keep), min(end, len(loop.starts) - keep)
        for start in range(low, min(low + 3, high)):
            stop = high
            while stop > start and kinds[stop - 1] != kinds[start - 1]:
                stop -= 1
            if not uneven:
                stop = next((k for k in range(start, stop) if kinds[k] != kinds[start - 1]), stop)
            best = max(best, (start, stop), key=lambda pair: pair[1] - pair[0])
    start, stop = best
    if stop - start < LEAST // 2:
        return None
    models = [first[kinds[k]] for k in range(start, stop)]
    return Cut(
        [each.scopes[start - 1] for each in (loop, *loop.beside)],
        [start - 1 - model for model in models],
        loop.starts[start:stop],
        [loop.starts[model] for model in models],
        range(loop.starts[stop], loop.starts[stop + 1]),
        range(loop.starts[0], loop.starts[-1]),
        loop.starts[stop - 1] - loop.starts[start - 1],
    )


def _kinds(reading: Reading, place: dict[Node, int], starts: Sequence[int]) -> list[int]:
    """A number for each step but the last: the same for steps that do the same to things in the same places."""
    nodes, other_inputs = reading.nodes, reading.other_inputs
    begin, before = starts[0], starts[0]
    numbers: dict[Any, int] = {}
    insides: dict[Scope | None, int] = {}
    known: dict[Any, int] = {}
    result: list[int] = []
    for start, end in pairwise(starts):
        step = []
        for i in range(start, end):
            node = nodes[i]
            scope = reading.scope_of(node)
            inside = insides.get(scope)
            if inside is None:
                inside = insides[scope] = known.setdefault(_path(scope), len(known))
            entry: list[Any] = [node.primitive, node.name, inside, len(node.shape)]
            for source in other_inputs.get(node, node.inputs) if other_inputs else node.inputs:
                kind = type(source)
                if kind is Node or kind is Output:
                    at = place[source if kind is Node else source.node]
                    if at >= start:
                        entry.append(at - start)
                    elif at >= before:
                        entry.append(before - 1 - at)
                    elif at >= begin:
                        return []  # from farther back: no step stands for another
                    else:
                        entry.append(("outside", at))
                    if kind is Output and at >= begin:
                        entry.append(source.slot)
                elif isinstance(source, Variable):
                    # data of its own for each step; a parameter must be the same
                    own = not source._requires_grad
                    entry.append(("data", source._data.ndim, bool(source._name)) if own else id(source))
                else:
                    entry.append(("data", source.ndim, False) if isinstance(source, np.ndarray) else "number")
            if node.metadata:
                entry += [key for key in DATA if isinstance(node.metadata.get(key), np.ndarray)]
            key = tuple(entry)
            step.append(numbers.setdefault(key, len(numbers)))
        result.append(numbers.setdefault(("step", *step), len(numbers)))
        before = start
    return result


def _path(scope: Scope | None) -> tuple[Any, ...]:
    """Where a scope is, as seen from the step it is in."""
    names: list[Any] = []
    while scope is not None and scope.step is None:
        names += [scope.name, scope.label]
        scope = scope.parent
    return (scope is None, *names)


# -----------------------------------------------------------------------------------------------------------
# What is left
# -----------------------------------------------------------------------------------------------------------


def _without(reading: Reading, place: dict[Node, int], cuts: list[Cut]) -> Reading | None:
    """A reading without what the cuts take out; None if something else needs a part of it."""
    nodes = reading.nodes
    gone = bytearray(len(nodes))
    shift = {}
    for cut in cuts:
        low, high = cut.starts[0], cut.next.start
        gone[low:high] = b"\1" * (high - low)
        shift.update(dict.fromkeys(cut.next, cut.shift))
    result = Reading([], reading.roots, nodes, {s: cut for cut in cuts for s in cut.after}, dict(reading.other_inputs),
                     scopes=reading.scopes, turns=reading.turns, loose=reading.loose)
    kept: list[Node] = []
    instead: dict[Node, Any] = {}
    for i, node in enumerate(nodes):
        if gone[i]:
            continue
        changed = False
        inputs: list[Any] = []
        for source in reading.inputs(node):
            kind = type(source)
            origin = source if kind is Node else source.node if kind is Output else None
            if origin is None:
                inputs.append(source)
            elif origin in instead:
                inputs.append(instead[origin])
                changed = True
            elif not gone[place[origin]]:
                inputs.append(source)
            else:
                changed = True
                back = shift.get(i)
                if back is not None and not gone[place[origin] - back]:
                    earlier = nodes[place[origin] - back]
                    inputs.append(earlier if kind is Node else _slot(earlier, source))
                elif not _adds(node) or any(i in cut.loop for cut in cuts):
                    return None
        if not changed:
            kept.append(node)
            continue
        if not inputs:
            return None
        if not node.primitive.variadic and len(inputs) < len(reading.inputs(node)):
            # a term of a long sum that belongs to a step taken out
            if node.name:
                return None
            instead[node] = inputs[0]
            continue
        result.other_inputs[node] = tuple(inputs)
        kept.append(node)
    for root in reading.roots:
        origin = root.node if isinstance(root, Output) else root
        if isinstance(origin, Node) and (origin in instead or gone[place[origin]]):
            return None
    result.nodes = kept
    result.find_used()
    return result


def _adds(node: Node) -> bool:
    """Whether an operation may have one input less."""
    return node.primitive.variadic or node.primitive.name == "add"


def _slot(node: Node, like: Output) -> Output:
    """The output of a node in the same slot as another's."""
    found = Output(node, like.slot)
    found.name = like.name
    return found

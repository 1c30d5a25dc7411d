"""Long loops made short, before anything else looks at them: what a picture of thousands of steps costs.

Only the first and the last steps of a long loop are drawn. So the middle of the tape is taken out where it
repeats: operation by operation each step must be what the step before it is, and take its inputs from the same
places, one step on. What remains is the tape of the same loop with fewer turns, and all that is done to it
afterwards costs as little as for a short loop. Loops that do not repeat exactly are left as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..recording import Scope
from ..tape import Node, Output, Variable
from .reading import Cut, Reading

LEAST = 40  # shorter loops are left whole
LONGEST_TURN = 100  # how many steps truncated backpropagation may keep together


def shorten(reading: Reading, keep: int, turns: bool = True) -> Reading:
    """What is left of it without the middle of its long loops.

    Args:
        reading: what there is.
        keep: so many steps stay at either end.
        turns: also loops that repeat only every few steps, with truncated backpropagation.
    """
    nodes = reading.nodes
    if len(nodes) < LEAST:
        return reading
    place = {node: i for i, node in enumerate(nodes)}
    cuts = [cut for steps in _loops(nodes) if (cut := _cut(reading, place, steps, keep, turns)) is not None]
    return (_without(reading, place, cuts) if cuts else None) or reading


def _loops(nodes: Sequence[Node]) -> list[list[tuple[Scope, int]]]:
    """The steps of each long loop, in order: their scopes and where they begin in the list of nodes."""
    outermost: dict[Scope | None, Scope | None] = {None: None}
    loops: dict[Scope | None, list[tuple[Scope, int]]] = {}
    seen: set[Scope] = set()
    for i, node in enumerate(nodes):
        scope = node.scope
        if scope in outermost:
            step = outermost[scope]
        else:
            step, outer = None, scope
            while outer is not None:
                if outer.step is not None:
                    step = outer
                outer = outer.parent
            outermost[scope] = step
        if step is not None and step not in seen:
            seen.add(step)
            loops.setdefault(step.parent, []).append((step, i))
    return [steps for steps in loops.values() if len(steps) >= LEAST]


def _cut(
    reading: Reading, place: dict[Node, int], steps: list[tuple[Scope, int]], keep: int, turns: bool
) -> Cut | None:
    """The stretch of steps that can be taken out of the middle of a loop; None if it is not worth it."""
    numbers = [scope.step or 0 for scope, _ in steps]
    starts = [at for _, at in steps]
    direction = numbers[1] - numbers[0]
    if abs(direction) != 1:
        return None
    # with truncated backpropagation a step is not like the one before it, but like the one before the last cut
    for turn in range(1, min(len(steps) // 4, LONGEST_TURN) if turns else 2):
        first = max(keep, turn + 1)
        last = first
        inside: dict[Scope | None, tuple[Any, ...]] = {}
        for k in range(first, len(steps) - keep + 1):
            period = starts[first] - starts[first - 1]
            even = starts[k] - starts[k - 1] == period and numbers[k] - numbers[k - 1] == direction
            if k < len(steps) - 1:
                even = even and starts[k + 1] - starts[k] == period
            if not even or not _alike(reading, place, starts[k], period, turn * period, starts[0], inside):
                break
            last = k
        last -= (last - first) % turn
        if last - first >= LEAST // 2:
            return Cut(steps[first - 1][0], last - first, starts[first], starts[first] - starts[first - 1])
    return None


def _alike(
    reading: Reading,
    place: dict[Node, int],
    at: int,
    period: int,
    distance: int,
    begin: int,
    inside: dict[Scope | None, tuple[Any, ...]],
) -> bool:
    """Whether the nodes of the step at `at` do what those some distance earlier do, to things as much earlier."""
    before_that = at - period
    nodes, other_inputs = reading.nodes, reading.other_inputs
    for i in range(at, at + period):
        node, other = nodes[i], nodes[i - distance]
        inputs = other_inputs.get(node, node.inputs) if other_inputs else node.inputs
        usual_inputs = other_inputs.get(other, other.inputs) if other_inputs else other.inputs
        if (
            node.primitive is not other.primitive
            or node.name != other.name
            or len(inputs) != len(usual_inputs)
            or node.shape != other.shape
            or (node.scope is not other.scope and _inside(node.scope, inside) != _inside(other.scope, inside))
            or (node.metadata and not _same_numbers(node.metadata, other.metadata))
        ):
            return False
        for source, usual in zip(inputs, usual_inputs, strict=True):
            if source is usual:
                made = source.node if type(source) is Output else source
                if type(made) is Node and place[made] >= begin:
                    return False
                continue
            kind = type(source)
            if kind is not type(usual):
                return False
            if kind is Node:
                a = place[source]
                if a - place[usual] != distance or a < before_that:
                    return False
            elif kind is Output:
                a, b = place[source.node], place[usual.node]
                if a == b:
                    # part t of something made before the loop
                    if a >= begin:
                        return False
                elif a - b != distance or a < before_that or source.slot != usual.slot:
                    return False
            elif isinstance(source, Variable):
                # data of its own for each step; a parameter must be the same
                if source._requires_grad or usual._requires_grad or source.shape != usual.shape:
                    return False
            elif isinstance(source, np.ndarray):
                if source.shape != usual.shape:
                    return False
            elif source != usual:
                return False
    return True


def _same_numbers(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(b[key] == v for key, v in a.items() if type(v) in (int, float, str))


def _inside(scope: Scope | None, known: dict[Scope | None, tuple[Any, ...]]) -> tuple[Any, ...]:
    """Where a scope is, as seen from the step it is in."""
    found = known.get(scope)
    if found is None:
        names: list[Any] = []
        outer = scope
        while outer is not None and outer.step is None:
            names += [outer.name, outer.label]
            outer = outer.parent
        found = known[scope] = (outer is None, *names)
    return found


def _without(reading: Reading, place: dict[Node, int], cuts: list[Cut]) -> Reading | None:
    """A reading without what the cuts take out; None if something else needs a part of it."""
    nodes = reading.nodes
    gone = bytearray(len(nodes))
    shift = {}
    for cut in cuts:
        length = cut.count * cut.period
        gone[cut.start : cut.start + length] = b"\1" * length
        for i in range(cut.start + length, cut.start + length + cut.period):
            shift[i] = length
    result = Reading([], reading.roots, nodes, {cut.after: cut for cut in cuts}, dict(reading.other_inputs))
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
                elif not node.primitive.variadic and node.primitive.name != "add":
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


def _slot(node: Node, like: Output) -> Output:
    """The output of a node in the same slot as another's."""
    found = Output(node, like.slot)
    found.name = like.name
    return found


"""Long loops made short, before anything else looks at them: what a picture of thousands of steps costs.

Only the first and the last steps of a long loop are drawn. So the middle of the tape is taken out where it
repeats: operation by operation each step must be what the step before it is, and take its inputs from the same
places, one step on. What remains is the tape of the same loop with fewer turns, and all that is done to it
afterwards costs as little as for a short loop. Loops that do not repeat exactly are left as they are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np

from ..recording import Scope
from ..tape import Node, Output, Tape, Variable

LEAST = 40  # shorter loops are left whole


@dataclass(slots=True, eq=False)
class Cut:
    """Steps taken out of a loop.

    Attributes:
        after: the scope of the last step before the gap.
        count: how many steps are missing.
        start, period: where the first missing step begins in the whole list of nodes, and how long a step is.
    """

    after: Scope
    count: int
    start: int
    period: int


@dataclass(slots=True, eq=False)
class Reading:
    """What the drawing reads of a tape: its nodes, less the middle of long loops.

    Attributes:
        nodes: the operations, oldest first.
        roots: what was asked for.
        operations: how many operations there are, with those taken out.
        cuts: by the scope of the last step before the gap.
    """

    nodes: Sequence[Node]
    roots: Sequence[Any]
    operations: int
    every: Sequence[Node]
    cuts: dict[Scope, Cut] = field(default_factory=dict)
    other_inputs: dict[Node, tuple[Any, ...]] = field(default_factory=dict)
    used: dict[Node, dict[int, Output]] = field(default_factory=dict)

    def inputs(self, node: Node) -> tuple[Any, ...]:
        """The inputs of a node; what was taken out is replaced, or missing."""
        return self.other_inputs.get(node, node.inputs)

    def outputs(self, node: Node) -> dict[int, Output]:
        """Of a node with several outputs, those that are used, by slot."""
        return self.used.get(node, {})

    def missing(self, cut: Cut, number: int) -> list[int]:
        """The numbers of the nodes taken out that are in their steps what node `number` is in the last before."""
        at = bisect_left(self.every, number, key=attrgetter("number"))
        return [self.every[at + k * cut.period].number for k in range(1, cut.count + 1)]


def whole(tape: Tape) -> Reading:
    """A tape with nothing taken out."""
    reading = Reading(tape.nodes, tape.roots, len(tape.nodes), tape.nodes)
    reading.used = {node: found for node in tape.nodes if (found := tape.outputs(node))}
    return reading


def shorten(tape: Tape, keep: int) -> Reading:
    """A tape without the middle of its long loops; `keep` steps stay at either end."""
    nodes = tape.nodes
    if len(nodes) < LEAST:
        return whole(tape)
    place = {node: i for i, node in enumerate(nodes)}
    cuts = [cut for steps in _loops(nodes) if (cut := _cut(nodes, place, steps, keep)) is not None]
    if cuts:
        found = _without(tape, place, cuts)
        if found is not None:
            return found
    return whole(tape)


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


def _cut(nodes: Sequence[Node], place: dict[Node, int], steps: list[tuple[Scope, int]], keep: int) -> Cut | None:
    """The longest stretch of steps that can be taken out of the middle of a loop; None if it is not worth it."""
    first, last = keep, len(steps) - keep
    if last - first < LEAST // 2:
        return None
    starts = [at for _, at in steps]
    period = starts[first] - starts[first - 1]
    direction = (steps[first][0].step or 0) - (steps[first - 1][0].step or 0)
    if abs(direction) != 1:
        return None
    # step by step against the one before, as long as they are alike; the step after the gap must be so too
    inside: dict[Scope | None, tuple[Any, ...]] = {}
    for k in range(first, last + 1):
        scope, at = steps[k]
        alike = starts[k] - starts[k - 1] == period and (scope.step or 0) - (steps[k - 1][0].step or 0) == direction
        if alike and k < len(steps) - 1 and starts[k + 1] - at != period:
            alike = False
        if not alike or not _alike(nodes, place, at, period, starts[0], inside):
            last = k - 1
            break
    if last - first < LEAST // 2:
        return None
    return Cut(steps[first - 1][0], last - first, starts[first], period)


def _alike(
    nodes: Sequence[Node],
    place: dict[Node, int],
    at: int,
    period: int,
    begin: int,
    inside: dict[Scope | None, tuple[Any, ...]],
) -> bool:
    """Whether the nodes from `at` on do what those one period earlier do, to the same things one step on."""
    before_that = at - period
    for i in range(at, at + period):
        node, other = nodes[i], nodes[i - period]
        if (
            node.primitive is not other.primitive
            or node.name != other.name
            or len(node.inputs) != len(other.inputs)
            or node.shape != other.shape
            or (node.scope is not other.scope and _inside(node.scope, inside) != _inside(other.scope, inside))
            or (node.metadata and not _same_numbers(node.metadata, other.metadata))
        ):
            return False
        for source, usual in zip(node.inputs, other.inputs, strict=True):
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
                if a - place[usual] != period or a < before_that:
                    return False
            elif kind is Output:
                a, b = place[source.node], place[usual.node]
                if a == b:
                    # part t of something made before the loop
                    if a >= begin or abs(source.slot - usual.slot) != 1:
                        return False
                elif a - b != period or a < before_that or source.slot != usual.slot:
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


def _without(tape: Tape, place: dict[Node, int], cuts: list[Cut]) -> Reading | None:
    """The tape without what the cuts take out; None if something else needs a part of it."""
    nodes = tape.nodes
    gone = bytearray(len(nodes))
    shift = {}
    for cut in cuts:
        length = cut.count * cut.period
        gone[cut.start : cut.start + length] = b"\1" * length
        for i in range(cut.start + length, cut.start + length + cut.period):
            shift[i] = length
    reading = Reading([], tape.roots, len(nodes), nodes, {cut.after: cut for cut in cuts})
    kept: list[Node] = []
    instead: dict[Node, Any] = {}
    for i, node in enumerate(nodes):
        if gone[i]:
            continue
        changed = False
        inputs: list[Any] = []
        for source in node.inputs:
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
        if not node.primitive.variadic and len(inputs) < len(node.inputs):
            # a term of a long sum that belongs to a step taken out
            if node.name:
                return None
            instead[node] = inputs[0]
            continue
        reading.other_inputs[node] = tuple(inputs)
        kept.append(node)
    if any((r.node if isinstance(r, Output) else r) in instead or _is_gone(r, gone, place) for r in tape.roots):
        return None
    reading.nodes = kept
    for node in kept:
        for source in reading.inputs(node):
            if type(source) is Output:
                reading.used.setdefault(source.node, {})[source.slot] = source
    for root in tape.roots:
        if isinstance(root, Output):
            reading.used.setdefault(root.node, {})[root.slot] = root
    return reading


def _slot(node: Node, like: Output) -> Output:
    """The output of a node in the same slot as another's."""
    found = Output(node, like.slot)
    found.name = like.name
    return found


def _is_gone(root: Any, gone: bytearray, place: dict[Node, int]) -> bool:
    node = root.node if isinstance(root, Output) else root
    return isinstance(node, Node) and bool(gone[place[node]])

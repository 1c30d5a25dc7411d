"""Compiled loops drawn like any other: the one node of a compiled scan becomes the steps it stands for.

The program of one step is put on paper once for each time step, as nodes without values, with the scopes that the
eager loop would have had. Nothing is computed for that; norms of gradients inside are there if they were recorded,
statistics of values if they were asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ..primitive import Primitive
from ..recording import Scope
from ..rules.shape import _stack, _unstack
from ..tape import Node, Output, Tape, next_number
from .reading import Reading, whole

if TYPE_CHECKING:
    from ..compile.inside import Key
    from ..compile.run import Call
    from ..probe import Gradients

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Steps:
    """What a compiled scan is drawn as.

    Attributes:
        nodes: of all steps, with the slices before and the stacks after them.
        outputs: what stands for each output of the scan.
        made: (time, number of the instruction) -> its node.
        slices, stacks: for each sequence that goes in or comes out, the node that takes it apart or makes it.
    """

    nodes: list[Node] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    made: dict[tuple[int, int], Node] = field(default_factory=dict)
    slices: list[Node] = field(default_factory=list)
    stacks: list[Node] = field(default_factory=list)

    def drawn(self, key: Key) -> int:
        """The number of the node that stands for a value inside, by its key in `compile.inside`."""
        kind, first, second, _ = key
        if kind == "step":
            return self.made[first, second].number
        return (self.slices if kind == "input" else self.stacks)[first].number


def expand(tape: Tape) -> tuple[Reading, dict[Node, Steps]]:
    """A reading of a tape in which compiled scans are loops, and what each has become."""
    reading = whole(tape)
    scans = [node for node in tape.nodes if node.primitive.name == "scan" and "call" in node.metadata]
    if not scans:
        return reading, {}
    steps: dict[Node, Steps] = {}
    instead: dict[tuple[Node, int], Any] = {}

    def now(source: Any) -> Any:
        return instead.get((source.node, source.slot), source) if type(source) is Output else source

    nodes: list[Node] = []
    for node in tape.nodes:
        if node in scans:
            steps[node] = found = _unrolled(node, [now(source) for source in node.inputs])
            nodes += found.nodes
            for slot in reading.outputs(node):
                instead[node, slot] = found.outputs[slot]
            continue
        inputs = tuple(now(source) for source in node.inputs)
        if any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
            reading.other_inputs[node] = inputs
        nodes.append(node)
    result = Reading(nodes, [now(root) for root in tape.roots], nodes, other_inputs=reading.other_inputs)
    result.find_used()
    return result, steps


def _node(primitive: Primitive, inputs: Sequence[Any], metadata: dict[str, Any], shape: Any, dtype: Any,
          scope: Scope | None) -> Node:  # fmt: skip
    node = Node(next_number(), primitive, tuple(inputs), (), metadata, None, shape, dtype, scope)
    node.free()
    return node


def _unrolled(node: Node, inputs: list[Any]) -> Steps:
    """The steps of a scan, as nodes whose inputs are those of the scan."""
    call: Call = node.metadata["call"]
    from ..compile.program import Value

    a, b, _ = call.counts
    program = call.scan.traced
    state, xs, closures = inputs[:a], inputs[a : a + b], inputs[a + b :]
    result = Steps()
    outside = dict(zip(program.closures, closures, strict=True))
    slices = []
    for value, x in zip(program.xs, xs, strict=True):
        parts = _node(_unstack, [x], {"axis": 0}, [value.shape] * call.length, [value.dtype] * call.length, node.scope)
        result.nodes.append(parts)
        result.slices.append(parts)
        slices.append([Output(parts, t) for t in range(call.length)])
    ys: list[list[Any]] = [[] for _ in program.ys]
    order = range(call.length)
    for t in reversed(order) if call.scan.reverse else order:
        known: dict[Any, Any] = dict(outside)
        known.update(zip(program.state, state, strict=True))
        known.update((value, parts[t]) for value, parts in zip(program.xs, slices, strict=True))
        step = Scope(f"t = {t + 1}", node.scope, "", t + 1)
        scopes = {"": step}
        for k, i in enumerate(program.forward):
            several = i.primitive.outputs
            shapes, dtypes = [v.shape for v in i.results], [v.dtype for v in i.results]
            made = _node(
                i.primitive,
                [known[o] if type(o) is Value else o for o in i.operands],
                i.metadata,
                shapes if several else shapes[0],
                dtypes if several else dtypes[0],
                _inner(i.scope, scopes),
            )
            result.nodes.append(made)
            result.made[t, k] = made
            for slot, value in enumerate(i.results):
                known[value] = output = Output(made, slot) if several else made
                output.name = value.name
        state = [known[v] for v in program.new_state]
        for column, value in zip(ys, program.ys, strict=True):
            column.append(known[value])
    result.outputs = list(state)
    for column, value in zip(ys, program.ys, strict=True):
        stacked = column[::-1] if call.scan.reverse else column
        made = _node(_stack, stacked, {"axis": 0}, (call.length, *value.shape), value.dtype, node.scope)
        result.nodes.append(made)
        result.outputs.append(made)
        result.stacks.append(made)
    return result


def _inner(path: str, known: dict[str, Scope]) -> Scope:
    """The scope of a path inside a step."""
    found = known.get(path)
    if found is None:
        outer, _, name = path.rpartition("/")
        found = known[path] = Scope(name, _inner(outer, known))
    return found


def with_inside(steps: dict[Node, Steps], gradients: Gradients) -> Gradients:
    """Recorded gradients, with those inside compiled scans under the numbers of the nodes that are drawn for them."""
    if not any(node.number in gradients.inside for node in steps):
        return gradients
    result = gradients.copy()
    result.norms.update(inside(steps, gradients.inside))
    return result


def inside(steps: dict[Node, Steps], known: dict[int, dict[Key, T]]) -> Iterator[tuple[tuple[int, int], T]]:
    """What is known of values inside compiled scans, under the numbers and slots of the nodes that are drawn."""
    for node, found in steps.items():
        for key, fact in known.get(node.number, {}).items():
            yield (found.drawn(key), key[3]), fact

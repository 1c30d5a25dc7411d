"""Compiled loops drawn like any other: the one node of a compiled scan becomes the steps it stands for.

The program of one step is put on paper once for each time step, as nodes without values, with the scopes that the
eager loop would have had. Nothing is computed for that. Only the norms of gradients inside the loop, if they are
wanted, are computed: the steps are run again one by one, and walked back from the gradients that reach the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..primitive import Primitive
from ..recording import Scope, watching
from ..rules.shape import _stack, _unstack
from ..tape import Node, Output, Tape, next_number
from ..tensor import Tensor, apply, grad, tensor
from .reading import Reading, whole

if TYPE_CHECKING:
    from ..compile.run import Call
    from ..probe import Gradients


@dataclass(slots=True, eq=False)
class Steps:
    """What a compiled scan is drawn as.

    Attributes:
        nodes: of all steps, with the slices before and the stacks after them.
        outputs: what stands for each output of the scan.
        made: (time, number of the instruction) -> its node.
    """

    nodes: list[Node] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    made: dict[tuple[int, int], Node] = field(default_factory=dict)


def is_compiled_scan(node: Node) -> bool:
    """Whether a node is a whole loop."""
    return node.primitive.name == "scan" and "call" in node.metadata


def expand(tape: Tape) -> tuple[Reading, dict[Node, Steps]]:
    """A reading of a tape in which compiled scans are loops, and what each has become."""
    reading = whole(tape)
    scans = [node for node in tape.nodes if is_compiled_scan(node)]
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
    return result


def _inner(path: str, known: dict[str, Scope]) -> Scope:
    """The scope of a path inside a step."""
    found = known.get(path)
    if found is None:
        outer, _, name = path.rpartition("/")
        found = known[path] = Scope(name, _inner(outer, known))
    return found


# -----------------------------------------------------------------------------------------------------------
# Gradients inside
# -----------------------------------------------------------------------------------------------------------


class Arriving:
    """A watcher that keeps the gradients which reach compiled scans."""

    def __init__(self) -> None:
        self.found: dict[Node, tuple[Sequence[Any], list[Any]]] = {}

    def watch(self, phase: str, primitive: Primitive, node: Node | None, arguments: Sequence[Any], g: Any) -> None:
        """See a cotangent pass; for `minigrad.recording.watching`."""
        if phase == "backward" and node is not None and is_compiled_scan(node):
            self.found[node] = (arguments, list(g))


def add_norms(steps: dict[Node, Steps], arriving: Arriving, gradients: Gradients) -> None:
    """Add the norms of the gradients inside compiled scans to those that were recorded."""
    from ..compile.program import replay

    for node, (arguments, g) in arriving.found.items():
        found = steps.get(node)
        if found is None:
            continue
        call: Call = node.metadata["call"]
        a, b, _ = call.counts
        program = call.scan.traced
        leaves = [tensor(np.asarray(getattr(v, "_data", v)), requires_grad=wanted)
                  for v, wanted in zip(arguments, call.mask, strict=True)]  # fmt: skip
        state: list[Any] = list(leaves[:a])
        number: dict[int, int] = {}  # of the nodes of this run -> of those drawn
        ys: list[list[Any]] = [[] for _ in program.ys]
        order = range(call.length)
        slices: list[Any] = [np.unstack(x) for x in leaves[a : a + b]]
        for parts, drawn in zip(slices, found.nodes, strict=False):
            if parts[0].node is not None:
                number[parts[0].node.number] = drawn.number
        for t in reversed(order) if call.scan.reverse else order:
            known: dict[Any, Any] = dict(zip(program.closures, leaves[a + b :], strict=True))
            known.update(zip(program.state, state, strict=True))
            known.update((value, parts[t]) for value, parts in zip(program.xs, slices, strict=True))
            replay(program.forward, known, apply)
            for k, i in enumerate(program.forward):
                made = known[i.results[0]]
                if isinstance(made, Tensor) and made.node is not None:
                    number[made.node.number] = found.made[t, k].number
            state = [known[v] for v in program.new_state]
            for column, value in zip(ys, program.ys, strict=True):
                column.append(known[value])
        outputs = [*state, *(np.stack(c[::-1] if call.scan.reverse else c) for c in ys)]

        for made, part in zip(found.outputs[a:], g[a:], strict=True):
            gradients.norms[made.number, 0] = float(np.linalg.norm(part))

        def watch(
            phase: str, primitive: Primitive, inner: Node | None, values: Sequence[Any], h: Any,
            number: dict[int, int] = number,
        ) -> None:  # fmt: skip
            drawn = number.get(inner.number) if inner is not None and phase == "backward" else None
            if drawn is not None:
                for slot, part in enumerate(h if primitive.outputs else [h]):
                    gradients.norms[drawn, slot] = float(np.linalg.norm(part))

        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        seeds = [(o, part) for o, part in zip(outputs, g, strict=True) if isinstance(o, Tensor) and o.requires_grad]
        with watching(watch):
            grad([o for o, _ in seeds], wanted, [tensor(part) for _, part in seeds])


__all__ = ["Arriving", "Steps", "add_norms", "expand", "is_compiled_scan"]

"""Values and gradients inside a compiled loop, for those who look on: its steps are run again one by one.

The compiled form computes what the loop returns, and what its inputs receive, and nothing that could be watched on the
way. Whoever records gradients (`mg.record_gradients`, `mg.draw(loss, gradients=True)`) or asks for statistics
(`mg.draw(loss, statistics=True)`) pays for the loop once more, as plain operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..primitive import Primitive
from ..recording import LOCAL, recording
from ..tape import Node
from ..tensor import Tensor, apply, grad, tensor
from .program import replay

if TYPE_CHECKING:
    from .run import Call

Key = tuple[str, int, int, int]
T = TypeVar("T")


def is_compiled_scan(node: Node) -> bool:
    """Whether a node is a whole loop."""
    return node.primitive.name == "scan" and "call" in node.metadata


def values_inside(node: Node, see: Callable[[Key, Any], None]) -> None:
    """Compute every value inside a compiled scan again, and show each.

    Args:
        node: of the scan. If a backward freed it, nothing is shown.
        see: called with the key of a value, as in `gradients_inside`, and the array.
    """
    if node.arguments is None:
        return
    call: Call = node.metadata["call"]
    a, b, _ = call.counts
    program = call.scan.traced
    values = [np.asarray(getattr(v, "_data", v)) for v in node.arguments]
    state, xs = values[:a], values[a : a + b]
    for j, x in enumerate(xs):
        for t in range(call.length):
            see(("input", j, 0, t), x[t])
    outputs: dict[int, list[Any]] = {}
    for t, known in replayed(call, state, xs, values[a + b :]):
        for k, i in enumerate(program.forward):
            for slot, value in enumerate(i.results):
                see(("step", t, k, slot), np.asarray(known[value]))
        outputs[t] = [known[v] for v in program.ys]
    for j, column in enumerate(in_time(outputs)):
        see(("output", j, 0, 0), np.stack(column))


def replayed(
    call: Call, state: Sequence[Any], xs: Sequence[Any], closures: Sequence[Any]
) -> Iterator[tuple[int, dict[Any, Any]]]:
    """Run a scan step by step: for each, in the order of computation, when it is and all its values."""
    program = call.scan.traced
    order = range(call.length)
    for t in reversed(order) if call.scan.reverse else order:
        known: dict[Any, Any] = dict(zip(program.closures, closures, strict=True))
        known.update(zip(program.state, state, strict=True))
        known.update((value, x[t]) for value, x in zip(program.xs, xs, strict=True))
        replay(program.forward, known, apply)
        yield t, known
        state = [known[v] for v in program.new_state]


def in_time(outputs: dict[int, list[Any]]) -> Iterator[tuple[Any, ...]]:
    """Each output at all steps, the earliest first, from the outputs of each step."""
    return zip(*(outputs[t] for t in sorted(outputs)), strict=True)


def gradients_inside(
    node: Node, arguments: Sequence[Any], cotangents: Sequence[Any], measure: Callable[[Any], T]
) -> dict[Key, T]:
    """What there is to say of the gradients of every value inside a compiled scan.

    Args:
        node: of the scan.
        arguments: its arguments, as tensors, arrays or numbers.
        cotangents: the gradients that reach its outputs.
        measure: what to keep of each.

    Returns:
        By ("step", t, number of the instruction, slot), ("input", number of the sequence, 0, t), or
        ("output", number of the stacked output, 0, 0).
    """
    call: Call = node.metadata["call"]
    a, b, _ = call.counts
    program = call.scan.traced
    found: dict[Key, T] = {}
    state_of_thread = LOCAL.state
    watchers, state_of_thread.watchers = state_of_thread.watchers, ()
    try:
        with recording(True):
            leaves = [
                tensor(np.asarray(getattr(v, "_data", v)), requires_grad=wanted)
                for v, wanted in zip(arguments, call.mask, strict=True)
            ]
            made: dict[int, tuple[str, int, int]] = {}  # number of a node -> what it is
            slices: list[Any] = [np.unstack(x) for x in leaves[a : a + b]]
            for j, parts in enumerate(slices):
                if parts[0].node is not None:
                    made[parts[0].node.number] = ("input", j, 0)
            state: list[Any] = list(leaves[:a])
            ys: dict[int, list[Any]] = {}
            for t, values in replayed(call, state, slices, leaves[a + b :]):
                for k, i in enumerate(program.forward):
                    value = values[i.results[0]]
                    if isinstance(value, Tensor) and value.node is not None:
                        made[value.node.number] = ("step", t, k)
                state = [values[v] for v in program.new_state]
                ys[t] = [values[v] for v in program.ys]
            outputs = [*state, *(np.stack(column) for column in in_time(ys))]
        for j, part in enumerate(cotangents[a:]):
            found["output", j, 0, 0] = measure(part)

        def watch(phase: str, primitive: Primitive, inner: Node | None, _: Sequence[Any], h: Any) -> None:
            known = made.get(inner.number) if inner is not None and phase == "backward" else None
            if known is not None:
                for slot, part in enumerate(h if primitive.outputs else [h]):
                    found[(*known, slot)] = measure(part)

        state_of_thread.watchers = (watch,)
        pairs = [(o, g) for o, g in zip(outputs, cotangents, strict=True) if isinstance(o, Tensor) and o.requires_grad]
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        grad([o for o, _ in pairs], wanted, [tensor(np.asarray(getattr(g, "_data", g))) for _, g in pairs])
    finally:
        state_of_thread.watchers = watchers
    return found

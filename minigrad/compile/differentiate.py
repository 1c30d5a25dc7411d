"""The gradient of a program, from the same rule table that eager backward uses.

The program is run once with Tensors, `mg.grad` walks back over that tape with Tensors too, and what both recorded is
the program with its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..recording import Untraceable, recording, watching
from ..tape import Output
from ..tensor import Tensor, apply, grad
from .program import Instruction, Program, Value, replay, signature
from .trace import Tracer, placeholder, same, tracing


def differentiate(program: Program, xs: Sequence[bool], closures: Sequence[bool]) -> Program:
    """`program` with its gradient by the state and by those inputs and closures that want one.

    Raises:
        Untraceable: some rule looks at values in a way that one time step cannot stand for all.
    """
    found, arrays = _once(program, xs, closures, np.random.default_rng(1))
    again, others = _once(program, xs, closures, np.random.default_rng(2))
    if signature(found) != signature(again) or len(arrays) != len(others) or not all(map(same, arrays, others)):
        raise Untraceable("the gradient of the step depends on values in a way that one step cannot stand for all")
    return found


def _once(program: Program, xs: Sequence[bool], closures: Sequence[bool], rng: np.random.Generator,
          ) -> tuple[Program, list[Any]]:
    def sample(v: Value) -> Tensor:
        if v.dtype.kind == "f":
            return placeholder(rng.standard_normal(v.shape).astype(v.dtype), v.name)
        return placeholder(np.ones(v.shape, v.dtype), v.name)

    inputs = {v: sample(v) for v in program.placeholders}
    seeds = [sample(v) if v.dtype.kind == "f" else None for v in (*program.new_state, *program.ys)]
    wanted = [*(v for v in program.state), *(v if on else None for v, on in zip(program.xs, xs, strict=True)),
              *(v if on else None for v, on in zip(program.closures, closures, strict=True))]
    wanted = [v if v is not None and v.dtype.kind == "f" else None for v in wanted]
    tracer = Tracer([*inputs.values(), *(s for s in seeds if s is not None)])
    with tracing(), recording(True), watching(tracer.watch), np.errstate(all="ignore"):
        tensors = replay(program.forward, dict(inputs), apply)
        n_forward = len(tracer.nodes)
        pairs = [(tensors[v], s) for v, s in zip((*program.new_state, *program.ys), seeds, strict=True)
                 if s is not None and tensors[v]._requires_grad]
        asked = [inputs[v] for v in wanted if v is not None]
        gradients = iter(grad([o for o, _ in pairs], asked, [s for _, s in pairs], create_graph=True))
        results = [None if v is None else next(gradients) for v in wanted]

    # the values of the program under their numbers, then one more per operation of the gradient
    values: dict[int, Value] = {tracer.number[id(t)]: v for v, t in inputs.items()}
    cotangents: list[Value | None] = []
    for v, s in zip((*program.new_state, *program.ys), seeds, strict=True):
        cotangents.append(None if s is None else Value(v.shape, v.dtype, f"d{v.name}" if v.name else None))
        if s is not None:
            values[tracer.number[id(s)]] = cotangents[-1]  # type: ignore[assignment]
    extra, arrays = [], []
    for k, source, array in zip(tracer.source_numbers, tracer.sources, tracer.values, strict=True):
        # a constant that a rule made: the same whatever the values, or the check would not pass
        values[k] = Value(array.shape, array.dtype)
        extra.append((values[k], array, source))
        arrays.append(array)
    for instruction, numbers in zip(program.forward, tracer.results, strict=False):
        values.update(zip(numbers, instruction.results, strict=True))
    backward = []
    for node, codes, numbers in zip(tracer.nodes[n_forward:], tracer.operands[n_forward:], tracer.results[n_forward:],
                                    strict=True):
        operands = [source if k is None else values[k] for source, k in zip(node.inputs, codes, strict=True)]
        several = node.primitive.outputs
        made = [Value(s, d) for s, d in zip(node.shape, node.dtype, strict=True)] if several \
            else [Value(node.shape, node.dtype)]
        values.update(zip(numbers, made, strict=True))
        backward.append(Instruction(node.primitive, operands, node.metadata, made))

    def gradient(t: Any) -> Value | None:
        if t is None:
            return None
        key = (id(t.origin.node), t.origin.slot) if type(t.origin) is Output else id(t.origin or t)
        if key not in tracer.number:  # a constant of its own, made by a rule
            values[tracer.find(t, t._data)] = made = Value(t.shape, t.dtype)
            extra.append((made, t._data, t))
            arrays.append(t._data)
        return values[tracer.number[key]]

    returned = [gradient(t) for t in results]
    a, b = len(program.state), len(program.state) + len(program.xs)
    out = Program(program.state, program.xs, program.closures, program.forward, program.new_state, program.ys,
                  cotangents, backward, returned[:a], returned[a:b], returned[b:], {v: a for v, a, _ in extra})
    return out, arrays + tracer.arrays_inside[:]

"""The loops as Python source over NumPy: `np.add(a, b, out=c)`, every array made before the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..accumulate import cast, unbroadcast
from ..rules.elementwise import _clip, _constant_power, _where, relu, sigmoid, softplus
from ..rules.linear_algebra import matmul
from ..rules.reduction import _mean, _sum
from ..rules.shape import _concatenate
from .layout import Layout, Place, backward_layout, forward_layout
from .lower import Lowered, contiguous_part
from .passes import COPY, is_view
from .program import Instruction, Value
from .source import Writer


@dataclass(frozen=True)
class Loops:
    """Two generated functions and their source.

    `forward(T, state, xs, closures)` returns (final state, ys, saved); `backward(T, saved, xs, closures, dstate, dys)`
    returns (dstate, dxs, dclosures), with None where there is no gradient.
    """

    forward: Callable[..., Any]
    backward: Callable[..., Any] | None
    source: str
    kind: str


def compile_numpy(lowered: Lowered, reverse: bool, differentiate: bool) -> Loops:
    """Generate the loops."""
    units = [[i] for i in lowered.forward]
    layout = forward_layout(lowered, units)
    forward = Writer(lowered, layout, reverse)
    source = write_forward(forward, emit_numpy)
    parts = [source]
    namespace = dict(forward.namespace)
    exec(compile(source, "<compiled scan, forward>", "exec"), namespace)  # our own text, made above
    back = None
    if differentiate:
        units = [[i] for i in lowered.backward]
        writer = Writer(lowered, backward_layout(lowered, layout, units), reverse)
        text = write_backward(writer, layout, emit_numpy)
        parts.append(text)
        space = dict(writer.namespace)
        exec(compile(text, "<compiled scan, backward>", "exec"), space)
        back = space["backward"]
    return Loops(namespace["forward"], back, "\n\n".join(parts), "numpy")


Emit = Callable[[Writer], None]


def emit_numpy(w: Writer, instructions: list[Instruction]) -> None:
    """The body of a loop, one instruction after the other."""
    for i in instructions:
        w.loop += statements(w, i)


def saved_roots(layout: Layout) -> list[str]:
    """The arrays that the forward hands to the backward."""
    return [r.name for r in layout.roots if r.kind in ("history", "stack")]


def unpack(names: list[str], whole: str) -> list[str]:
    """A line that unpacks a tuple, if there is anything in it."""
    return [f"({', '.join(names)},) = {whole}"] if names else []


def write_forward(w: Writer, emit: Any) -> str:
    """The source of `forward`."""
    lowered, layout, program = w.lowered, w.layout, w.lowered.program
    w.before += unpack([f"s{k}" for k in range(len(program.state))], "state")
    w.before += unpack([f"X{k}" for k in range(len(program.xs))], "xs")
    w.before += unpack([f"w{k}" for k in range(len(program.closures))], "closures")
    _constants(w)
    w.allocate(layout.roots)
    _invariants(w, lowered.before)
    first, last = ("T", "0") if w.reverse else ("0", "T")
    for k, v in enumerate(program.state):
        root = layout.place[v].root
        at = {"0": "0", "T": "T & 1"}[first] if root.kind == "ring" else first
        w.before.append(f"{root.name}[{at}] = s{k}")
    emit(w, lowered.forward)
    final, ys = [], []
    for value in program.new_state:
        root = layout.place[value].root
        at = {"0": "0", "T": "T & 1"}[last] if root.kind == "ring" else last
        final.append(f"{root.name}[{at}, ...].copy()")
    for value in program.ys:
        ys.append(w.over_time(value))
    saved = saved_roots(layout)
    returned = f"({_tuple(final)}, {_tuple(ys)}, {_tuple(saved)})"
    return w.render("forward", ["T", "state", "xs", "closures"], returned, backward=False)


def write_backward(w: Writer, forward: Layout, emit: Any) -> str:
    """The source of `backward`."""
    lowered, layout, program = w.lowered, w.layout, w.lowered.program
    n = len(program.new_state)
    w.before += unpack(saved_roots(forward), "saved")
    w.before += unpack([f"X{k}" for k in range(len(program.xs))], "xs")
    w.before += unpack([f"w{k}" for k in range(len(program.closures))], "closures")
    w.before += unpack([f"g{k}" for k in range(n)], "dstate")
    w.before += unpack([f"G{k}" for k in range(len(program.ys))], "dys")
    _constants(w)
    w.allocate(layout.roots)
    _invariants(w, lowered.before_backward)
    for k, g in enumerate(program.cotangents[:n]):
        if g is not None:
            w.before.append(f"copyto({layout.place[g].root.name}, g{k})")
    for k, leaf in enumerate(lowered.leaves):
        if leaf.kind == "add":
            w.before.append(f"A{k} = np.zeros({leaf.total.shape!r}, {w.constant(leaf.total.dtype)})")
    emit(w, lowered.backward)
    for k, leaf in enumerate(lowered.leaves):
        if leaf.kind == "add":
            w.loop.append(f"A{k} += {w.operand(leaf.operands[0])}")
    for v, place in w.layout.copies:
        w.loop.append(f"copyto({w.place(place)}, {w.value(v)})")
    for cotangent, new in zip(program.cotangents[:n], program.dstate, strict=True):
        if cotangent is not None and new is None:  # the state before does not matter to the state after
            w.loop.append(f"{layout.place[cotangent].root.name}[...] = 0.0")
    for k, leaf in enumerate(lowered.leaves):
        total = w.text[leaf.total] = f"A{k}"
        if leaf.kind == "product":
            rows = ", ".join(f"{w.over_time(v)}.reshape(-1, {v.shape[-1]})" for v in leaf.operands)
            w.after.append(f"{total} = {w.constant(weight_product)}({rows})")
        elif leaf.kind == "sum":
            rows = w.over_time(leaf.operands[0])
            w.after.append(f"{total} = {w.constant(unbroadcast.forward)}({rows}, shape={leaf.total.shape!r})")
    for i in lowered.after:
        names = [w.unique("v") for _ in i.results]
        w.text.update(zip(i.results, names, strict=True))
        w.after.append(f"{', '.join(names)}{',' if i.primitive.outputs else ''} = {call(w, i)}")
    dstate = ["None" if g is None or v is None else layout.place[g].root.name
              for g, v in zip(program.cotangents[:n], program.dstate, strict=True)]
    dxs = ["None" if v is None else w.over_time(v) for v in program.dxs]
    dclosures = ["None" if v is None else w.value(v) for v in lowered.dclosures]
    returned = f"({_tuple(dstate)}, {_tuple(dxs)}, {_tuple(dclosures)})"
    return w.render("backward", ["T", "saved", "xs", "closures", "dstate", "dys"], returned, backward=True)


def weight_product(a: Any, g: Any) -> Any:
    """aᵀ g of all rows of all steps."""
    return a.T @ g


def _constants(w: Writer) -> None:
    for k, array in enumerate(w.lowered.program.constants.values()):
        w.namespace[f"k{k}"] = array


def _invariants(w: Writer, instructions: list[Instruction]) -> None:
    """What does not change from step to step, computed once."""
    for i in instructions:
        if is_view(i):
            continue  # bound when it is used
        names = [w.name(v) for v in i.results]
        expression = call(w, i)
        w.text.update(zip(i.results, names, strict=True))
        w.before.append(f"{', '.join(names)}{',' if i.primitive.outputs else ''} = {expression}")


def call(w: Writer, i: Instruction) -> str:
    """The instruction as a plain call that returns a new array."""
    words = [w.operand(o) for o in i.operands]
    words += [f"{k}={w.constant(v)}" for k, v in i.metadata.items()]
    return f"{w.constant(i.primitive.forward)}({', '.join(words)})"


def statements(w: Writer, i: Instruction) -> list[str]:
    """The instruction as lines that write into the places of its results."""
    if is_view(i):
        return []
    a = [w.operand(o) for o in i.operands]
    out = [w.value(v) for v in i.results]
    p, m, o = i.primitive, i.metadata, out[0]
    if isinstance(p.forward, np.ufunc):
        return [f"np.{p.forward.__name__}({', '.join(a)}, out={o})"] if hasattr(np, p.forward.__name__) \
            else [f"{w.constant(p.forward)}({', '.join(a)}, out={o})"]
    if p is COPY or p is cast:
        return [f"copyto({o}, {a[0]}, casting='unsafe')"] if p is cast else [f"copyto({o}, {a[0]})"]
    if p is matmul and i.values == list(i.operands) and i.result.shape \
            and all(0 < len(v.shape) <= 2 for v in i.values) and len({v.dtype for v in (*i.values, i.result)}) == 1:
        return [f"np.matmul({a[0]}, {a[1]}, out={o})"]
    if p is sigmoid and i.result.dtype == np.float32:
        return [f"np.multiply({a[0]}, 0.5, out={o})", f"np.tanh({o}, out={o})", f"np.multiply({o}, 0.5, out={o})",
                f"np.add({o}, 0.5, out={o})"]
    if p is sigmoid:
        return [f"np.negative({a[0]}, out={o})", f"np.exp({o}, out={o})", f"np.add({o}, 1.0, out={o})",
                f"np.divide(1.0, {o}, out={o})"]
    if p is relu:
        return [f"np.maximum({a[0]}, 0, out={o})"]
    if p is softplus:
        return [f"np.logaddexp({a[0]}, 0.0, out={o})"]
    if p is _constant_power:
        return [f"np.power({a[0]}, {w.constant(m['b'])}, out={o})"]
    if p is _where and i.values and i.values[0] is i.operands[0] and i.values[0].dtype.kind == "b":
        return [f"copyto({o}, {a[2]})", f"copyto({o}, {a[1]}, where={a[0]})"]
    if p is _clip:
        low, high = (None if v == limit else text for v, limit, text in
                     ((i.operands[1], -np.inf, a[1]), (i.operands[2], np.inf, a[2])))
        return [f"np.clip({a[0]}, {low}, {high}, out={o})"] if low or high else [f"copyto({o}, {a[0]})"]
    if p in (_sum, _mean):
        name = "np.sum" if p is _sum else "np.mean"
        return [f"{name}({a[0]}, axis={m['axis']!r}, keepdims={m['keepdims']!r}, out={o})"]
    if p is _concatenate:
        found = []
        for k, v in enumerate(i.operands):
            if (id(i), k) not in w.layout.in_place:
                part = ", ".join(f"{s.start}:{s.stop}" if s != slice(None) else ":" for s in contiguous_part(i, k))
                found.append(f"{o}[{part}] = {w.operand(v)}")
        return found
    if p.outputs:
        made = w.unique("parts")
        return [f"{made} = {call(w, i)}", *(f"copyto({name}, {made}[{k}])" for k, name in enumerate(out))]
    return [f"{o}[...] = {call(w, i)}"]


def _tuple(items: list[str]) -> str:
    return f"({', '.join(items)},)" if items else "()"


__all__ = ["Loops", "Place", "Value", "compile_numpy"]

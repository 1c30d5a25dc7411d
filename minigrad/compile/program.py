"""A program: the instructions of one time step, in order, over typed values.

It is the tape without the arrays. An Instruction applies a primitive of the rule table to values and numbers; a
Value is a placeholder or the result of one instruction. Programs are printed like tapes, compared by structure, and
can be run again with Tensors, which puts them back on a tape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..primitive import Primitive
from ..tape import _short

Array = NDArray[Any]


class Value:
    """A placeholder, or the result of an instruction. Compared by identity.

    Attributes:
        shape, dtype: of one time step's array.
        name: what the user calls it, or None.
    """

    __slots__ = ("dtype", "name", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], name: str | None = None) -> None:
        self.shape = shape
        self.dtype = dtype
        self.name = name

    def like(self) -> Value:
        """Another value of the same description."""
        return Value(self.shape, self.dtype, self.name)

    def __repr__(self) -> str:
        return f"<value {self.name or ''}: {self.dtype}{list(self.shape)}>"


# An operand is a Value, or a Python or NumPy number.
Operand = Any


class Instruction:
    """One application of a primitive.

    Attributes:
        primitive: what is computed.
        operands: Values and numbers.
        metadata: the keyword arguments.
        results: one Value, or several for a primitive with several outputs.
        scope: where in the step it was made, relative to the step: `attention/query`, or "".
    """

    __slots__ = ("metadata", "operands", "primitive", "results", "scope")

    def __init__(self, primitive: Primitive, operands: Iterable[Operand], metadata: dict[str, Any],
                 results: Iterable[Value], scope: str = "") -> None:
        self.primitive = primitive
        self.operands = tuple(operands)
        self.metadata = metadata
        self.results = tuple(results)
        self.scope = scope

    @property
    def result(self) -> Value:
        """The only result."""
        (value,) = self.results
        return value

    @property
    def values(self) -> list[Value]:
        """Those operands that are not numbers."""
        return [o for o in self.operands if type(o) is Value]

    def with_operands(self, operands: Iterable[Operand]) -> Instruction:
        """The same instruction, with the same results, of other operands."""
        return Instruction(self.primitive, operands, self.metadata, self.results, self.scope)


@dataclass
class Program:
    """One time step, and its gradient if it has been differentiated.

    Attributes:
        state, xs, closures: placeholders for the state before the step, the step's inputs, and everything that the
            step uses from outside, the same at each step.
        forward: the instructions of the step.
        new_state, ys: what the step returns.
        cotangents: placeholders for the cotangents of new_state, then of ys; None where there is none.
        backward: the instructions of the gradient; they use values of `forward` too.
        dstate, dxs, dclosures: the gradients; None where there is none or it is not wanted.
        constants: arrays that rules made, the same whatever the values.
    """

    state: list[Value]
    xs: list[Value]
    closures: list[Value]
    forward: list[Instruction]
    new_state: list[Value]
    ys: list[Value]
    cotangents: list[Value | None] = field(default_factory=list)
    backward: list[Instruction] = field(default_factory=list)
    dstate: list[Value | None] = field(default_factory=list)
    dxs: list[Value | None] = field(default_factory=list)
    dclosures: list[Value | None] = field(default_factory=list)
    constants: dict[Value, Array] = field(default_factory=dict)

    @property
    def placeholders(self) -> list[Value]:
        """All values that are not results."""
        return [*self.state, *self.xs, *self.closures, *(c for c in self.cotangents if c is not None),
                *self.constants]

    @property
    def gradients(self) -> list[Value | None]:
        """What the backward part gives, in the order state, xs, closures."""
        return [*self.dstate, *self.dxs, *self.dclosures]

    def outputs(self) -> list[Value]:
        """All values that somebody outside asks for."""
        return [*self.new_state, *self.ys, *(g for g in self.gradients if g is not None)]

    def replaced(self, forward: list[Instruction], backward: list[Instruction],
                 new: Mapping[Value, Value] | None = None) -> Program:
        """This program with other instructions, and outputs renamed as `new` says."""
        new = new or {}

        def renamed(values: Sequence[Any]) -> list[Any]:
            return [None if v is None else new.get(v, v) for v in values]

        return Program(self.state, self.xs, self.closures, forward, renamed(self.new_state), renamed(self.ys),
                       self.cotangents, backward, renamed(self.dstate), renamed(self.dxs), renamed(self.dclosures),
                       self.constants)

    # -- printing ---------------------------------------------------------------------------------------------------

    def labels(self) -> dict[Value, str]:
        """A short unique name for each value: the user's where there is one."""
        labels: dict[Value, str] = {}
        taken: set[str] = set()

        def assign(value: Value, name: str) -> None:
            label, k = name, 2
            while label in taken:
                label, k = f"{name}.{k}", k + 1
            taken.add(label)
            labels[value] = label

        for kind, values in (("s", self.state), ("x", self.xs), ("w", self.closures), ("g", self.cotangents),
                             ("k", list(self.constants))):
            for k, value in enumerate(values):
                if value is not None and value not in labels:
                    assign(value, value.name or f"{kind}{k}")
        unnamed = 0
        for instruction in (*self.forward, *self.backward):
            for value in instruction.results:
                if value.name is None:
                    unnamed += 1
                assign(value, value.name or f"%{unnamed}")
        return labels

    def __str__(self) -> str:
        labels = self.labels()

        def text(v: Any) -> str:
            return labels.get(v, "?") if type(v) is Value else repr(v)

        def typed(v: Value) -> str:
            return f"{text(v)}: {v.dtype}{list(v.shape)}"

        def rows(instructions: Iterable[Instruction]) -> list[tuple[str, str, str]]:
            found = []
            for i in instructions:
                words = [text(o) for o in i.operands] + [f"{k}={_short(v)}" for k, v in i.metadata.items()]
                found.append((", ".join(map(typed, i.results)), f"{i.primitive.name}({', '.join(words)})", i.scope))
            return found

        forward, backward = rows(self.forward), rows(self.backward)
        width = min(max((len(left) for left, _, _ in forward + backward), default=0), 48)

        def lines(part: list[tuple[str, str, str]]) -> list[str]:
            return [f"    {left:<{width}} = {right}" + (f"  # {scope}" if scope else "") for left, right, scope in part]

        def listed(values: Iterable[Value | None]) -> str:
            return ", ".join("–" if v is None else text(v) for v in values)

        parts = [f"state    {', '.join(map(typed, self.state))}", f"input    {', '.join(map(typed, self.xs))}",
                 f"outside  {', '.join(map(typed, self.closures))}", "step", *lines(forward),
                 f"    → state {listed(self.new_state)}; output {listed(self.ys)}"]
        if self.cotangents:
            parts += [f"gradient, given {listed(self.cotangents)}", *lines(backward),
                      f"    → state {listed(self.dstate)}; input {listed(self.dxs)}; outside {listed(self.dclosures)}"]
        return "\n".join(parts)


# ---------------------------------------------------------------------------------------------------------------
# Structure
# ---------------------------------------------------------------------------------------------------------------


def frozen(x: Any) -> Any:
    """Metadata or a number as something hashable that is equal exactly when the original is the same."""
    if isinstance(x, np.ndarray):
        return ("array", x.shape, x.dtype.str, x.tobytes())
    if isinstance(x, (tuple, list)):
        return (type(x).__name__, *map(frozen, x))
    if isinstance(x, dict):
        return tuple((k, frozen(v)) for k, v in x.items())
    if isinstance(x, slice):
        return ("slice", x.start, x.stop, x.step)
    if isinstance(x, (float, np.floating)):
        return (type(x), float(x).hex())  # 0.0 is not -0.0 here, and NaN is NaN
    return (type(x), x)


def signature(program: Program) -> tuple[Any, ...]:
    """A hashable description: two programs with the same one compute the same from the same arrays."""
    number: dict[Value, int] = {}
    for value in program.placeholders:
        number.setdefault(value, len(number))
    body = []
    for i in (*program.forward, *program.backward):
        operands = tuple(number[o] if type(o) is Value else frozen(o) for o in i.operands)
        for value in i.results:
            number[value] = len(number)
        body.append((i.primitive, operands, frozen(i.metadata) if i.metadata else None,
                     tuple((v.shape, v.dtype, v.name) for v in i.results), i.scope))
    return (tuple((v.shape, v.dtype) for v in program.placeholders),
            len(program.state), len(program.xs), len(program.closures), len(program.forward), tuple(body),
            tuple(None if v is None else number[v]
                  for v in (*program.new_state, None, *program.ys, None, *program.gradients)))


# ---------------------------------------------------------------------------------------------------------------
# Running a program with Tensors
# ---------------------------------------------------------------------------------------------------------------


def replay(instructions: Iterable[Instruction], known: dict[Value, Any],
           apply: Callable[[Primitive, tuple[Any, ...], dict[str, Any]], Any]) -> dict[Value, Any]:
    """Run `instructions` one by one, from the values in `known`, to which the results are added."""
    for i in instructions:
        results = apply(i.primitive, tuple(known[o] if type(o) is Value else o for o in i.operands), i.metadata)
        for value, result in zip(i.results, results if i.primitive.outputs else [results], strict=True):
            known[value] = result
            if value.name is not None and hasattr(result, "origin"):
                result.name = value.name
    return known

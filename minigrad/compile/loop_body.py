"""The body of one loop of a kernel as statements for numba: operands, expressions, tanh as a quotient."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from ..primitive import TABLE
from ..rules.elementwise import sigmoid
from .fuse import COMPARISONS, EXPRESSIONS, LOGICAL, Access, accesses
from .program import Instruction, Value
from .source import Writer

TANH = TABLE[np.tanh]

# The rational approximation of tanh in float32 (odd, degree 13 over 6), to 4 ulp; beyond ± 7.9 it is 1 in float32.
_P = (-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08, 1.48572235717979e-05,
      6.37261928875436e-04, 4.89352455891786e-03)
_Q = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
_LIMIT = 7.90531110763549805


class KernelWriter(Protocol):
    """What a body asks of whoever writes the kernel around it."""

    w: Writer

    def size(self, n: int) -> str:
        """A size as an argument."""

    def entry(self, v: Value, access: Access, shift: int) -> str:
        """One entry of a stored value."""


class Body:
    """The statements of one loop body."""

    def __init__(self, writer: KernelWriter, mine: dict[Value, Instruction], slots: dict[Value, str]) -> None:
        self.writer, self.mine, self.slots = writer, mine, slots
        self.lines: list[str] = []
        self.known: dict[Any, str] = {}

    def expression(self, i: Instruction, shift: int) -> str:
        """A name for the result of `i` at column k + shift."""
        key = (i.result, shift)
        if key in self.known:
            return self.known[key]
        p = i.primitive
        floats = [o.dtype for o in i.values if o.dtype.kind == "f"] if p in COMPARISONS else []
        kind = np.result_type(*floats) if floats else i.result.dtype
        number = f"np.{kind}"
        words = []
        for k, (access, o) in enumerate(zip(accesses(i, self.writer.w.lowered) or (), i.operands, strict=True)):
            condition = (p.name == "where" and k == 0) or p in LOGICAL
            if access is None:
                exact = p in COMPARISONS and isinstance(o, np.floating)  # NumPy's numbers have a dtype, Python's do not
                words.append(_number(o, f"np.{o.dtype}" if exact else number) if kind.kind == "f" else repr(bool(o)))
                continue
            text = self.load(access, shift)
            words.append(text if condition or o.dtype == kind else f"{number}({text})")
        if p is TANH or p is sigmoid:
            text = self._tanh(words[0], number, p is sigmoid, kind)
        else:
            text = EXPRESSIONS[p].format(*words, one=f"{number}(1)", zero=f"{number}(0)")
        name = self.known[key] = f"e{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        return name

    def load(self, access: Access, shift: int) -> str:
        """An operand: inlined, from scratch, or from memory."""
        v = access.value
        moved = shift if access.mode in ("full", "row") else 0
        if v in self.slots:
            slot = self.slots[v]
            if not slot.startswith("Z_"):
                return slot
            column = access.start + moved
            return self._fetch(f"{slot}k + {self.writer.size(column)}]" if column else f"{slot}k]") \
                if access.mode == "full" else self._fetch(f"{slot}{access.start}]")
        if v in self.mine and v not in self.writer.w.layout.place:
            return self.expression(self.mine[v], access.start + moved)
        return self._fetch(self.writer.entry(v, access, moved))

    def _fetch(self, text: str) -> str:
        if text not in self.known:
            self.known[text] = f"e{len(self.lines)}"
            self.lines.append(f"{self.known[text]} = {text}")
        return self.known[text]

    def _tanh(self, x: str, number: str, gate: bool, kind: np.dtype[Any]) -> str:
        """tanh, or the sigmoid as tanh(x/2)/2 + 1/2; a quotient of polynomials in float32."""
        if kind != np.float32:
            return f"{number}(1) / ({number}(1) + np.exp(-{x}))" if gate else f"np.tanh({x})"
        n = len(self.lines)
        F = "np.float32"
        self.lines += [
            f"x{n} = {x} * {F}(0.5)" if gate else f"x{n} = {x}",
            # comparisons that are false for NaN leave it as it is
            f"y{n} = {F}({_LIMIT}) if x{n} > {F}({_LIMIT}) else "
            f"({F}({-_LIMIT}) if x{n} < {F}({-_LIMIT}) else x{n})",
            f"s{n} = y{n} * y{n}",
            f"a{n} = y{n} * ({_horner(_P, f's{n}')})",
            f"b{n} = {_horner(_Q, f's{n}')}",
        ]
        return f"a{n} / b{n} * {F}(0.5) + {F}(0.5)" if gate else f"a{n} / b{n}"


def _horner(coefficients: tuple[float, ...], s: str) -> str:
    text = f"np.float32({coefficients[0]!r})"
    for c in coefficients[1:]:
        text = f"({text} * {s} + np.float32({c!r}))"
    return text


def _number(x: Any, number: str) -> str:
    value = float(x)
    if math.isfinite(value):
        return f"{number}({value!r})"
    return f"{number}(np.nan)" if math.isnan(value) else f"{number}({'-' if value < 0 else ''}np.inf)"

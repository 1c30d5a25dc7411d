"""What a scheme is made of: masks to draw, and taps of the cell where they act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
from minigrad import Tensor
from minigrad.tape import shows

from ..cells import Cell

Array = NDArray[Any]


@dataclass(frozen=True)
class Mask:
    """What is to be drawn.

    Attributes:
        p: a probability, in [0, 1).
        size: the width, or the whole shape for one `per="call"`.
        per: "step", (time, batch, size); "sequence", (batch, size); or "call", (size).
        kind: "inverted", 0 with probability p, else 1/(1 - p); "drop", 0 with probability p, else 1;
            "keep", 1 with probability p, else 0.
        gates: how many of these, one per gate: (gates, batch, size).
        loop: whether a mask per step is used inside the loop over time.
    """

    p: float
    size: int | tuple[int, ...]
    per: Literal["step", "sequence", "call"]
    kind: Literal["inverted", "drop", "keep"] = "inverted"
    gates: int | None = None
    loop: bool = True

    def __post_init__(self) -> None:
        if self.gates is not None and self.per == "step" and self.loop:
            raise ValueError("masks for each gate are per sequence; those of each step are for all gates.")

    @property
    def mean(self) -> float:
        """The expectation of an entry."""
        return {"inverted": 1.0, "drop": 1.0 - self.p, "keep": self.p}[self.kind]

    def shape(self, batch: int, time: int) -> tuple[int, ...]:
        """The shape for so many sequences and steps."""
        size = self.size if isinstance(self.size, tuple) else (self.size,)
        around = {"step": (time, batch), "sequence": (batch,), "call": ()}[self.per]
        return (() if self.gates is None else (self.gates,)) + around + size

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> Array:
        """Random values."""
        if self.kind == "inverted":
            return mg.dropout_mask(shape, self.p, rng, dtype)
        below = rng.random(shape, dtype=np.float32) < self.p
        return (below if self.kind == "keep" else ~below).astype(dtype)


class Masks(dict[str, Any]):
    """The masks of one scheme at one cell, by name: Tensors, tuples of them with one per gate, or means.

    Those that would do nothing (p = 0, or a mean of 1 in evaluation) are not there.

    Attributes:
        on: False where the masks are replaced by their means.
    """

    def __init__(self, masks: Mapping[str, Any] | None = None, on: bool = True) -> None:
        super().__init__(masks or {})
        self.on = on

    def times(self, name: str, value: Tensor, gate: int | None = None) -> Tensor:
        """value · mask, or the value as it is where there is no such mask."""
        mask = self.get(name)
        if mask is None:
            return value
        factor = mask if gate is None or not isinstance(mask, tuple) else mask[gate]
        product: Tensor = value * factor
        shows(product, "multiply", value, factor)
        return product


class Scheme:
    """A dropout scheme: what to draw, and what to do with it at the taps of a cell.

    The taps get a value and the scheme's masks, and give what is to be used. As defined here they do nothing.

    Attributes:
        cells: the kinds of cell it is defined for.
        per_gate: call `input` and `hidden` once for each gate, with its number.
    """

    cells: tuple[type[Cell], ...] = (Cell,)
    per_gate: bool = False

    def check(self, cell: Cell) -> None:
        """Raise ValueError if it is not defined for this cell."""
        if not isinstance(cell, self.cells):
            scheme, own = type(self).__name__, type(cell).__name__
            raise ValueError(f"{self!r} is defined for {', '.join(c.__name__ for c in self.cells)}, not for {own}. If "
                             f"{own} calls its taps, say so: class Own({scheme}): cells = ({own},).")

    def masks(self, cell: Cell, bottom: bool, top: bool) -> dict[str, Mask]:
        """What to draw for a cell, of the first layer (`bottom`) and of the last one (`top`) or not."""
        raise NotImplementedError

    def input(self, x: Tensor, m: Masks, gate: int | None) -> Tensor:
        """What enters the cell, (time, batch, D), all steps at once."""
        return x

    def weight(self, U: Tensor, m: Masks) -> Tensor:
        """The recurrent weight, (H, G·H)."""
        return U

    def hidden(self, h: Tensor, m: Masks, gate: int | None) -> Tensor:
        """What the recurrent weight is multiplied with; not what is carried on."""
        return h

    def candidate(self, g: Tensor, m: Masks) -> Tensor:
        """The candidate values."""
        return g

    def cell(self, c: Tensor, m: Masks) -> Tensor:
        """The new cell of an LSTM, before the output gate."""
        return c

    def update(self, old: Any, new: Any, m: Masks) -> Any:
        """The state that is carried on."""
        return new

    def output(self, y: Tensor, m: Masks) -> Tensor:
        """What leaves the cell upwards, (time, batch, H), all steps at once."""
        return y

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in vars(self).items())
        return f"{type(self).__name__}({options})"


def probability(p: float, what: str) -> float:
    """`p`, if it is one below 1. Raises ValueError."""
    if isinstance(p, bool) or not isinstance(p, (int, float, np.floating)) or not 0 <= p < 1:
        raise ValueError(f"{what} is a probability in [0, 1), not {p!r}.")
    return float(p)

"""The six schemes of the literature."""

from __future__ import annotations

from typing import Any, Literal

from numpy.typing import NDArray

from minigrad import Tensor

from ..cells import Cell, GRUCell, LSTMCell, RNNCell
from .scheme import Mask, Masks, Scheme, probability

Array = NDArray[Any]


class NonRecurrent(Scheme):
    """Dropout on every arrow that goes up, none along time (Zaremba, Sutskever & Vinyals 2014).

        h_t = cell(D(x_t), h_{t-1})      for each layer;      y_t = D(h_t) at the top

    A fresh mask for each step, unit and sample. In evaluation nothing is dropped.

    Args:
        p: the probability of dropping.
        bottom, top: whether the inputs of the first layer and the outputs of the last one are dropped too.
    """

    def __init__(self, p: float, *, bottom: bool = True, top: bool = True) -> None:
        self.p = probability(p, "NonRecurrent: p")
        self.bottom = bottom
        self.top = top

    def masks(self, cell: Cell, bottom: bool, top: bool) -> dict[str, Mask]:
        found = {}
        if self.bottom or not bottom:
            found["x"] = Mask(self.p, cell.input_size, "step", loop=False)
        if self.top and top:
            found["y"] = Mask(self.p, cell.output_size, "step", loop=False)
        return found

    def input(self, x: Tensor, m: Masks, gate: int | None) -> Tensor:
        return m.times("x", x)

    def output(self, y: Tensor, m: Masks) -> Tensor:
        return m.times("y", y)


class RNNDrop(Scheme):
    """Dropout on the cell of an LSTM with one mask for the whole sequence (Moon, Choi, Lee & Song 2015).

        c' = m·(f·c + i·g)

    m is not scaled by 1/k, since the scale would be applied once per step. In evaluation, one of
        "reference"    c' = k·(f·c + i·g) at every step
        "readout"      y = k·h for what leaves the cell; what is carried on is not scaled

    Args:
        p: the probability of dropping.
        evaluation: the rule.
    """

    cells = (LSTMCell,)

    def __init__(self, p: float, *, evaluation: Literal["reference", "readout"] = "reference") -> None:
        if evaluation not in ("reference", "readout"):
            raise ValueError(f"RNNDrop: evaluation is 'reference' or 'readout', not {evaluation!r}.")
        self.p = probability(p, "RNNDrop: p")
        self.evaluation = evaluation

    def masks(self, cell: Cell, bottom: bool, top: bool) -> dict[str, Mask]:
        return {"c": Mask(self.p, cell.hidden_size, "sequence", "drop")}

    def cell(self, c: Tensor, m: Masks) -> Tensor:
        return m.times("c", c) if m.on or self.evaluation == "reference" else c

    def output(self, y: Tensor, m: Masks) -> Tensor:
        return y if m.on or self.evaluation == "reference" else m.times("c", y)


class Variational(Scheme):
    """Dropout as approximate inference: the same masks at every step (Gal & Ghahramani 2016).

        W D(x_t) + U D(h_{t-1})      for each layer;      y_t = D(h_t) at the top

    with one mask for x, h and y each and for the whole sequence. The masks go into the products only, not
    into what is carried on. In evaluation nothing is dropped, or probabilities are averaged over several
    masks (`monte_carlo`). For dropout of word types see `EmbeddingDropout`.

    Args:
        p: the probability of dropping, for those not given:
        input, hidden, output: of x, of h, and of the output of the last layer.
        tied: one mask for all gates; else one for each gate.
    """

    def __init__(self, p: float = 0.0, *, input: float | None = None,
                 hidden: float | None = None, output: float | None = None, tied: bool = True) -> None:
        probability(p, "Variational: p")
        self.p_input = probability(p if input is None else input, "Variational: input")
        self.p_hidden = probability(p if hidden is None else hidden, "Variational: hidden")
        self.p_output = probability(p if output is None else output, "Variational: output")
        self.per_gate = not tied

    def masks(self, cell: Cell, bottom: bool, top: bool) -> dict[str, Mask]:
        gates = len(cell.gates) if self.per_gate else None
        found = {"x": Mask(self.p_input, cell.input_size, "sequence", gates=gates),
                 "h": Mask(self.p_hidden, cell.output_size, "sequence", gates=gates)}
        if top:
            found["y"] = Mask(self.p_output, cell.output_size, "sequence")
        return found

    def input(self, x: Tensor, m: Masks, gate: int | None) -> Tensor:
        return m.times("x", x, gate)

    def hidden(self, h: Tensor, m: Masks, gate: int | None) -> Tensor:
        return m.times("h", h, gate)

    def output(self, y: Tensor, m: Masks) -> Tensor:
        return m.times("y", y)


class WeightDrop(Scheme):
    """Dropout of the recurrent weights (Merity, Keskar & Socher 2018; DropConnect, Wan et al. 2013).

        (m·U/k) h

    One mask of U's shape per call, shared by all sequences and steps. U itself is never changed, and its
    gradient is zero where the mask is. In evaluation U is used as it is.

    Args:
        p: the probability of dropping a weight.
    """

    def __init__(self, p: float) -> None:
        self.p = probability(p, "WeightDrop: p")

    def check(self, cell: Cell) -> None:
        super().check(cell)
        if not hasattr(cell, "weight_hh"):
            raise ValueError(f"{self!r} drops entries of weight_hh, and {type(cell).__name__} has no such weight.")

    def masks(self, cell: Cell, bottom: bool, top: bool) -> dict[str, Mask]:
        return {"U": Mask(self.p, cell.weight_hh.shape, "call")}

    def weight(self, U: Tensor, m: Masks) -> Tensor:
        return m.times("U", U)


class Recurrent(Scheme):
    """Dropout of what is added to the memory, not of the memory (Semeniuta, Severyn & Barth 2016).

        LSTM    c' = f·c + i·D(g)
        GRU     h' = (1 - z)·D(n) + z·h
        RNN     h' = tanh(W x + U D(h) + b)

    In evaluation nothing is dropped.

    Args:
        p: the probability of dropping.
        per: a fresh mask for each "step", or one for the whole "sequence".
    """

    cells = (RNNCell, LSTMCell, GRUCell)

    def __init__(self, p: float, *, per: Literal["step", "sequence"] = "step") -> None:
        if per not in ("step", "sequence"):
            raise ValueError(f"Recurrent: per is 'step' or 'sequence', not {per!r}.")
        self.p = probability(p, "Recurrent: p")
        self.per = per

    def masks(self, cell: Cell, bottom: bool, top: bool) -> dict[str, Mask]:
        return {"h" if isinstance(cell, RNNCell) else "g": Mask(self.p, cell.hidden_size, self.per)}

    def hidden(self, h: Tensor, m: Masks, gate: int | None) -> Tensor:
        return m.times("h", h)

    def candidate(self, g: Tensor, m: Masks) -> Tensor:
        return m.times("g", g)


class Zoneout(Scheme):
    """Units keep their old value at random (Krueger et al. 2017).

        c' = z_c·c + (1 - z_c)·(f·c + i·g)
        h' = z_h·h + (1 - z_h)·o·tanh(f·c + i·g)        h sees the new cell, zoned out or not

    z is 1 with its probability, drawn afresh at each step; nothing is scaled. In evaluation z is its
    probability.

    Args:
        cell: the probability that a unit of c keeps its value, where the state has a c, as in an LSTM.
        hidden: the same of h.
    """

    cells = (RNNCell, LSTMCell, GRUCell)

    def __init__(self, *, cell: float = 0.0, hidden: float = 0.0) -> None:
        self.p_cell = probability(cell, "Zoneout: cell")
        self.p_hidden = probability(hidden, "Zoneout: hidden")

    def check(self, cell: Cell) -> None:
        super().check(cell)
        if self.p_cell and "c" not in cell.State._fields:
            raise ValueError(f"Zoneout(cell=...): {type(cell).__name__} has no c; use hidden= alone.")

    def masks(self, cell: Cell, bottom: bool, top: bool) -> dict[str, Mask]:
        found = {"h": Mask(self.p_hidden, cell.output_size, "step", "keep")}
        if "c" in cell.State._fields:
            found["c"] = Mask(self.p_cell, cell.hidden_size, "step", "keep")
        return found

    def update(self, old: Any, new: Any, m: Masks) -> Any:
        return type(new)(*(m[k] * o + (1.0 - m[k]) * n if k in m else n
                           for k, o, n in zip(new._fields, old, new, strict=True)))

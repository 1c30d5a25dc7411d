"""Dropout for recurrent networks: the six schemes of the literature, each a small class.

    lstm = rnn.LSTM(100, 200, dropout=rnn.dropout.Zoneout(cell=0.5, hidden=0.05))
    lstm = rnn.LSTM(100, 200, dropout=[rnn.dropout.WeightDrop(0.5), rnn.dropout.Variational(0.3, hidden=0)])

p is the probability of a zero, k = 1 - p, `·` the elementwise product, and D(v) = m·v/k with a mask m of
zeros (with probability p) and ones.

| scheme       | training                              | mask                       | evaluation             |
|--------------|---------------------------------------|----------------------------|------------------------|
| NonRecurrent | D(x) on the way up, never on h_{t-1}  | each step, unit, sample    | as it is               |
| RNNDrop      | c' = m·(f·c + i·g), not scaled        | once per sequence          | c·k, or the output ·k  |
| Variational  | W D(x) + U D(h), and D of the output  | once per sequence          | as it is               |
| WeightDrop   | (m·U/k) h                             | once per call, shape of U  | U                      |
| Recurrent    | c' = f·c + i·D(g)                     | each step, or per sequence | as it is               |
| Zoneout      | c' = z·c + (1-z)·c_new, h likewise    | each step, z = 1 is kept   | z is its probability   |

In evaluation every mask is replaced by its mean; for the scaled ones that is 1, and nothing is computed. To
keep the masks on (Monte-Carlo dropout) use `monte_carlo`. See docs/dropout.md for all equations.

The masks of a call are in `layer.masks` afterwards, and can be given to the next: `layer(x, masks=...)`. They
are drawn anew in each call, from the layer's own generator, before the loop over time starts.

A new scheme is one class: what to draw (`masks`), and the taps where it acts.

    class NoisyCandidate(Scheme):
        def __init__(self, p):
            self.p = p

        def masks(self, cell, bottom, top):
            return {"g": Mask(self.p, cell.hidden_size, "step")}

        def candidate(self, g, m):
            return m.times("g", g)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

import minigrad as mg
from minigrad import Tensor
from minigrad.nn import Dropout, Embedding, Module
from minigrad.tensor import handle

from .cells import NO_TAPS, Cell, GRUCell, LSTMCell, RandomSource, RNNCell, Taps

Array = NDArray[Any]


# ---------------------------------------------------------------------------------------------------------
# What schemes are made of
# ---------------------------------------------------------------------------------------------------------


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
        product: Tensor = value * (mask if gate is None or not isinstance(mask, tuple) else mask[gate])
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
            raise ValueError(f"{self!r} is defined for {', '.join(c.__name__ for c in self.cells)}, not for "
                             f"{type(cell).__name__}.")

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


# ---------------------------------------------------------------------------------------------------------
# The schemes
# ---------------------------------------------------------------------------------------------------------


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
        cell: the probability that a unit of c keeps its value (LSTM only).
        hidden: the same of h.
    """

    cells = (RNNCell, LSTMCell, GRUCell)

    def __init__(self, *, cell: float = 0.0, hidden: float = 0.0) -> None:
        self.p_cell = probability(cell, "Zoneout: cell")
        self.p_hidden = probability(hidden, "Zoneout: hidden")

    def check(self, cell: Cell) -> None:
        super().check(cell)
        if self.p_cell and not isinstance(cell, LSTMCell):
            raise ValueError(f"Zoneout(cell=...): {type(cell).__name__} has no c; use hidden= alone.")

    def masks(self, cell: Cell, bottom: bool, top: bool) -> dict[str, Mask]:
        found = {"h": Mask(self.p_hidden, cell.output_size, "step", "keep")}
        if isinstance(cell, LSTMCell):
            found["c"] = Mask(self.p_cell, cell.hidden_size, "step", "keep")
        return found

    def update(self, old: Any, new: Any, m: Masks) -> Any:
        return type(new)(*(m[k] * o + (1.0 - m[k]) * n if k in m else n
                           for k, o, n in zip(new._fields, old, new, strict=True)))


# ---------------------------------------------------------------------------------------------------------
# At work
# ---------------------------------------------------------------------------------------------------------


class Applied(Taps):
    """Some schemes with their masks at the taps of one cell.

    Attributes:
        parts: the schemes with their masks, in the order in which they act.
        gates: how many the cell has.
        steps: the masks of each step that the loop needs, (time, batch, ...), by scheme number and name.
    """

    def __init__(self, parts: Sequence[tuple[Scheme, Masks]], gates: int,
                 steps: Mapping[str, Tensor]) -> None:
        self.parts = parts
        self.gates = gates
        self.steps = steps
        self.per_gate = any(scheme.per_gate for scheme, _ in parts)

    def at(self, now: Mapping[str, Tensor]) -> Applied:
        parts = [(scheme, Masks(m, m.on)) for scheme, m in self.parts]
        for key, mask in now.items():
            number, _, name = key.partition(" ")
            if mask.name is None:
                mask.name = self.steps[key].name
            parts[int(number)][1][name] = mask
        return Applied(parts, self.gates, {})

    def input(self, x: Tensor, W: Tensor) -> Tensor:
        if not self.per_gate:
            return self._chain("input", x, None) @ W  # type: ignore[no-any-return]
        columns = enumerate(mg.split(W, self.gates, axis=1))
        return mg.concatenate(  # type: ignore[no-any-return]
            [self._chain("input", x, k) @ w for k, w in columns], axis=-1)

    def weight(self, U: Tensor, products: Sequence[int]) -> tuple[Any, ...]:
        U = self._chain("weight", U)
        if not self.per_gate:
            return super().weight(U, products)
        columns = iter(mg.split(U, self.gates, axis=1))
        return tuple([next(columns) for _ in range(gates)] for gates in products)

    def product(self, h: Tensor, U: Any, gates: slice) -> Tensor:
        if not self.per_gate:
            return self._chain("hidden", h, None) @ U  # type: ignore[no-any-return]
        products = [self._chain("hidden", h, k) @ u for k, u in enumerate(U, gates.start)]
        return mg.concatenate(products, axis=-1)  # type: ignore[no-any-return]

    def candidate(self, g: Tensor) -> Tensor:
        return self._chain("candidate", g)  # type: ignore[no-any-return]

    def cell(self, c: Tensor) -> Tensor:
        return self._chain("cell", c)  # type: ignore[no-any-return]

    def update(self, old: Any, new: Any) -> Any:
        for scheme, m in self.parts:
            new = scheme.update(old, new, m)
        return new

    def output(self, y: Tensor) -> Tensor:
        return self._chain("output", y)  # type: ignore[no-any-return]

    def _chain(self, tap: str, value: Any, *gate: int | None) -> Any:
        """The value after every scheme's tap."""
        for scheme, m in self.parts:
            value = getattr(scheme, tap)(value, m, *gate)
        return value


def apply(schemes: Sequence[Scheme], cell: Cell, place: str, bottom: bool, top: bool,
          size: tuple[int, int], *, on: bool, rng: np.random.Generator | None,
          given: dict[str, Any]) -> tuple[Taps, dict[str, Array]]:
    """The taps of a cell for one call, and the masks, by `place/Scheme.name`.

    Args:
        schemes: in the order in which they act.
        cell: where.
        place: what the cell is called, e.g. `layer 0`.
        bottom, top: whether it is in the first layer, and in the last one.
        size: (batch, time) of the call.
        on: masks are drawn; else they are replaced by their means.
        rng: where they are drawn from.
        given: masks to use instead; those used are taken out.

    Raises:
        ValueError: a given mask has another shape.
    """
    parts: list[tuple[Scheme, Masks]] = []
    steps: dict[str, Tensor] = {}
    found: dict[str, Array] = {}
    for scheme in schemes:
        wanted, masks = scheme.masks(cell, bottom, top), Masks(on=on)
        label = type(scheme).__name__
        same = sum(type(s).__name__ == label for s, _ in parts)
        label += f" {same + 1}" if same else ""
        for name, mask in wanted.items():
            if mask.p == 0 or (not on and mask.mean == 1):
                continue
            if not on:
                masks[name] = mask.mean
                continue
            key, shape = f"{place}/{label}.{name}", mask.shape(*size)
            if key in given:
                array = _given(given.pop(key), key, shape, cell.dtype)
            else:
                array = mask.draw(shape, rng or np.random.default_rng(), cell.dtype)
            array.flags.writeable = False
            found[key] = array
            title = f"{label} {name} mask p={mask.p:g}"
            if mask.gates is not None:
                masks[name] = tuple(_constant(a, title) for a in array)
            elif mask.per == "step" and mask.loop:
                steps[f"{len(parts)} {name}"] = _constant(array, title)
                masks[name] = None
            else:
                masks[name] = _constant(array, title)
        if masks or not wanted:
            parts.append((scheme, masks))
    return (Applied(parts, len(cell.gates), steps) if parts else NO_TAPS), found


def _given(mask: Any, key: str, shape: tuple[int, ...], dtype: Any) -> Array:
    array = np.array(getattr(mask, "data", mask), dtype)
    if array.shape != shape:
        raise ValueError(f"the mask {key!r} has shape {array.shape}; this call needs {shape}.")
    return array


def _constant(array: Array, name: str) -> Tensor:
    """A named constant that shares the array's memory."""
    constant = handle(array, None)
    constant.name = name
    return constant


def schemes_of(dropout: float | Scheme | Sequence[Scheme] | None) -> list[Scheme]:
    """What a layer was given for `dropout`, as a list: a number p is NonRecurrent(p).

    Raises:
        TypeError, ValueError: it is none of these.
    """
    if dropout is None:
        return []
    if isinstance(dropout, Scheme):
        return [dropout]
    if isinstance(dropout, Sequence) and all(isinstance(s, Scheme) for s in dropout):
        return list(dropout)
    if isinstance(dropout, (int, float, np.floating)):
        p = probability(float(dropout), "dropout")
        return [NonRecurrent(p)] if p else []
    raise TypeError("dropout is a probability, a scheme from rnn.dropout or a list of schemes, not "
                    f"{dropout!r}.")


# ---------------------------------------------------------------------------------------------------------
# Around the layers
# ---------------------------------------------------------------------------------------------------------


class LockedDropout(Module):
    """D(x) with one mask for all time steps of a sequence (Merity, Keskar & Socher 2018).

    Shapes: x (batch, time, features), mask (batch, 1, features).

    Args:
        p: the probability of dropping.
        rng: a Generator or seed for the masks.

    Attributes:
        mask: of the last call, or None.
        monte_carlo: keep dropping in evaluation.
    """

    monte_carlo: bool = False

    def __init__(self, p: float, rng: RandomSource = None) -> None:
        self.p = probability(p, "LockedDropout: p")
        self.rng = np.random.default_rng(rng)
        self.mask: Array | None = None

    def forward(self, x: Tensor, mask: ArrayLike | None = None) -> Tensor:
        self.mask = None
        if not self.p or not (self.training or self.monte_carlo):
            return x
        shape = (x.shape[0], 1, x.shape[2])
        self.mask = (mg.dropout_mask(shape, self.p, self.rng, x.dtype) if mask is None
                     else _given(mask, "mask", shape, x.dtype))
        return x * _constant(self.mask, f"locked dropout mask p={self.p:g}")


class EmbeddingDropout(Module):
    """Dropout of word types: all occurrences of a symbol, or none (Gal & Ghahramani 2016).

        x_t = m[w_t]/k · W[w_t]

    Args:
        embedding: the vectors W, (V, D).
        p: the probability of dropping a symbol.
        per: a mask for each "sequence" of the batch, (batch, V), or one for the "call", (V).
        rng: a Generator or seed for the masks.

    Attributes:
        mask: of the last call, or None.
        monte_carlo: keep dropping in evaluation.
    """

    monte_carlo: bool = False

    def __init__(self, embedding: Embedding, p: float, *, per: Literal["sequence", "call"] = "sequence",
                 rng: RandomSource = None) -> None:
        if per not in ("sequence", "call"):
            raise ValueError(f"EmbeddingDropout: per is 'sequence' or 'call', not {per!r}.")
        self.embedding = embedding
        self.p = probability(p, "EmbeddingDropout: p")
        self.per = per
        self.rng = np.random.default_rng(rng)
        self.mask: Array | None = None

    @property
    def weight(self) -> Any:
        """W, for an output layer that shares it."""
        return self.embedding.weight

    def forward(self, ids: Any, mask: ArrayLike | None = None) -> Tensor:
        self.mask = None
        x: Tensor = self.embedding(ids)
        if not self.p or not (self.training or self.monte_carlo):
            return x
        ids = np.asarray(getattr(ids, "data", ids))
        shape = (len(self.weight),) if self.per == "call" else (len(ids), len(self.weight))
        self.mask = (mg.dropout_mask(shape, self.p, self.rng, x.dtype) if mask is None
                     else _given(mask, "mask", shape, x.dtype))
        chosen = self.mask[ids] if self.per == "call" else np.take_along_axis(self.mask, ids, axis=1)
        return x * _constant(chosen[..., None], f"word dropout mask p={self.p:g}")


@contextmanager
def monte_carlo(module: Module) -> Iterator[Module]:
    """Context manager: dropout stays on in evaluation, in every part of `module`, recording or not.

        model.eval()
        with rnn.dropout.monte_carlo(model), mg.no_grad():
            p = sum(mg.softmax(model(x)[0]) for _ in range(50)) / 50
    """
    before: list[tuple[Module, str, bool]] = []
    for part in module.modules():
        flag = "training" if isinstance(part, Dropout) else "monte_carlo"
        if hasattr(part, flag):
            before.append((part, flag, getattr(part, flag)))
    try:
        for part, flag, _ in before:
            setattr(part, flag, True)
        yield module
    finally:
        for part, flag, value in before:
            setattr(part, flag, value)


def activation_regularisation(outputs: Tensor, alpha: float = 2.0) -> Tensor:
    """AR: α · mean(h²) of the dropped outputs, to be added to a loss (Merity, McCann & Socher 2017)."""
    return alpha * mg.mean(outputs ** 2)  # type: ignore[no-any-return]


def temporal_activation_regularisation(outputs: Tensor, beta: float = 1.0) -> Tensor:
    """TAR: β · mean((h_{t+1} - h_t)²) of the outputs before dropout, (batch, time, H), to be added to a loss.

    Merity, McCann & Socher (2017). Zero for a single step.
    """
    if outputs.shape[1] < 2:
        return 0.0 * mg.sum(outputs)  # type: ignore[no-any-return]
    return beta * mg.mean((outputs[:, 1:] - outputs[:, :-1]) ** 2)  # type: ignore[no-any-return]


__all__ = ["EmbeddingDropout", "LockedDropout", "Mask", "Masks", "NonRecurrent", "RNNDrop", "Recurrent",
           "Scheme", "Variational", "WeightDrop", "Zoneout", "activation_regularisation", "monte_carlo",
           "temporal_activation_regularisation"]

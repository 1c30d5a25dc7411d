"""Recurrent layers: cells over time, stacked, in both directions, over ragged batches, with carried state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import minigrad as mg
from minigrad import Tensor
from minigrad.nn import Module
from minigrad.tree import tree_leaves, tree_map

from .cells import NO_TAPS, Cell, GRUCell, LSTMCell, RandomSource, RNNCell, Taps

MERGES = ("concat", "sum", "mul", "average")


def run(cell: Cell, x: Tensor, state: Any, reverse: bool = False, valid: Tensor | None = None,
        taps: Taps = NO_TAPS) -> tuple[Tensor, Any]:
    """One cell over time.

    Args:
        cell: the cell.
        x: (time, batch, D).
        state: the state before the first step (before the last one, if `reverse`).
        reverse: run from the last step to the first.
        valid: (time, batch, 1) bools, False at padding; there the state is frozen. None: all steps count.
        taps: where a regulariser reaches in.

    Returns:
        (outputs (time, batch, H), final state).
    """
    U = cell.weights(taps)

    def step(state: Any, a: Tensor) -> tuple[Any, Tensor]:
        y, new = cell.step(a, state, U, taps)
        return new, y

    def step_if_valid(state: Any, inputs: tuple[Tensor, Tensor]) -> tuple[Any, Tensor]:
        a, now = inputs
        y, new = cell.step(a, state, U, taps)
        return tree_map(lambda n, o: np.where(now, n, o), new, state), y

    a = cell.project(x)
    if valid is None:
        final, outputs = mg.scan(step, state, a, reverse=reverse)
    else:
        final, outputs = mg.scan(step_if_valid, state, (a, valid), reverse=reverse)
    return outputs, final


def valid_steps(lengths: ArrayLike, batch: int, time: int) -> tuple[NDArray[np.int64], Tensor]:
    """The lengths as an array, and the (time, batch, 1) mask of steps that are not padding.

    Raises:
        ValueError, TypeError: not one integer between 1 and `time` for each sequence.
    """
    checked = np.asarray(getattr(lengths, "data", lengths))
    if checked.dtype.kind not in "iu":
        raise TypeError(f"lengths are integers, got dtype {checked.dtype}.")
    if checked.shape != (batch,):
        raise ValueError(f"lengths has shape {checked.shape}; a batch of {batch} sequences needs ({batch},).")
    if checked.min() < 1 or checked.max() > time:
        raise ValueError(f"lengths lie between {checked.min()} and {checked.max()}; they must be between 1 and the "
                         f"{time} steps of the batch.")
    mask = np.arange(time)[:, None, None] < checked[None, :, None]
    return checked.astype(np.int64), mg.tensor(mask, name="valid")


class Recurrent(Module):
    """Cells over time: what RNN, LSTM and GRU have in common.

    Args:
        input_size: D, the number of features.
        hidden_size: H, the width of each cell.
        num_layers: how many cells on top of each other.
        bias: whether the cells have one.
        bidirectional: a second cell per layer runs backwards in time.
        merge: how the two directions' outputs join: "concat" (2·H wide), "sum", "mul", "average", or None for a pair of
            outputs (the last layer's; between layers they are concatenated).
        return_sequences: return the outputs of all steps, or only of the last valid one.
        past_end: what outputs beyond a sequence's length hold: "zero", or "repeat" for the last valid output.
        compiled: how the loop over time runs, see `minigrad.scan`.
        dtype: of the parameters.
        rng: a Generator or seed for the initial weights.
        **options: passed on to each cell.

    `layer(x, state=None, lengths=None)` takes x (batch, time, D) and returns (outputs, state): outputs (batch, time, H)
    and a tuple of cell states, each (batch, H), in the order layer 0 forward, layer 0 backward, layer 1 forward, …

    Attributes:
        cells: the cells in that order.
    """

    cell_type: type[Cell]

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 bidirectional: bool = False, merge: str | None = "concat", return_sequences: bool = True,
                 past_end: str = "zero", compiled: bool | str = "auto", dtype: Any = np.float32,
                 rng: RandomSource = None, **options: Any) -> None:
        kind = type(self).__name__
        if not isinstance(num_layers, (int, np.integer)) or num_layers < 1:
            raise ValueError(f"{kind}: num_layers is a positive int, not {num_layers!r}.")
        if merge is not None and merge not in MERGES:
            raise ValueError(f"{kind}: merge is one of {', '.join(map(repr, MERGES))} or None, not {merge!r}.")
        if past_end not in ("zero", "repeat"):
            raise ValueError(f"{kind}: past_end is 'zero' or 'repeat', not {past_end!r}.")
        rng = np.random.default_rng(rng)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.merge = merge
        self.return_sequences = return_sequences
        self.past_end = past_end
        self.compiled = compiled
        self.cells: list[Cell] = []
        width = input_size
        for layer in range(num_layers):
            for _ in range(1 + bidirectional):
                self.cells.append(self.cell_type(width, hidden_size, bias, dtype=dtype, rng=rng, **options))
            width = self.cells[-1].output_size
            if bidirectional and (merge in ("concat", None)):
                width *= 2
        self.output_size = width

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the parameters."""
        return self.cells[0].dtype

    def initial_state(self, batch: int) -> tuple[Any, ...]:
        """Zeros for every cell."""
        return tuple(cell.initial_state(batch) for cell in self.cells)

    def forward(self, x: Tensor, state: Sequence[Any] | None = None, lengths: ArrayLike | None = None,
                ) -> tuple[Any, tuple[Any, ...]]:
        """Run over x (batch, time, D).

        Args:
            x: the inputs.
            state: a tuple of cell states, as returned; zeros when left out.
            lengths: (batch,) ints, for sequences padded at the end: the state freezes there, and the backward direction
                starts at each sequence's own end.

        Raises:
            ValueError: shapes that do not fit.
        """
        x = self._checked(x)
        batch, time = x.shape[:2]
        state = self.initial_state(batch) if state is None else self._checked_state(state, batch)
        ends, valid = (None, None) if lengths is None else valid_steps(lengths, batch, time)
        directions = 1 + self.bidirectional
        final: list[Any] = []
        x = np.swapaxes(x, 0, 1)
        for layer in range(self.num_layers):
            outputs = []
            for d in range(directions):
                k = layer * directions + d
                with mg.scope(f"layer {layer}" + (" backward" if d else ""), label=type(self.cells[k]).__name__):
                    y, last = run(self.cells[k], x, state[k], reverse=bool(d), valid=valid)
                outputs.append(y)
                final.append(last)
            x = self._merged(outputs, "concat" if self.merge is None else self.merge)
        pair = self.merge is None and self.bidirectional
        results = [self._finished(y, ends, valid) for y in (outputs if pair else [x])]
        return tuple(results) if pair else results[0], tuple(final)

    def _merged(self, outputs: list[Tensor], merge: str) -> Tensor:
        """The outputs of the directions as one."""
        if len(outputs) == 1:
            return outputs[0]
        forward, backward = outputs
        if merge == "concat":
            return np.concatenate(outputs, axis=-1)  # type: ignore[call-overload, no-any-return]
        if merge == "mul":
            return forward * backward
        return forward + backward if merge == "sum" else 0.5 * (forward + backward)

    def _finished(self, y: Tensor, ends: NDArray[np.int64] | None, valid: Tensor | None) -> Tensor:
        """Outputs (time, batch, H) as the caller wants them: (batch, time, H), or the last valid step (batch, H)."""
        if not self.return_sequences:
            return y[-1] if ends is None else y[ends - 1, np.arange(len(ends))]
        y = np.swapaxes(y, 0, 1)
        if ends is None or valid is None:
            return y
        if self.past_end == "repeat":
            steps = np.minimum(np.arange(y.shape[1])[None, :], ends[:, None] - 1)
            return y[np.arange(len(ends))[:, None], steps]
        return np.where(np.swapaxes(valid.data, 0, 1), y, 0.0)

    def _checked(self, x: Any) -> Tensor:
        if not isinstance(x, Tensor):
            x = mg.tensor(x, name="x")
        if x.ndim != 3 or x.shape[2] != self.input_size:
            raise ValueError(f"{type(self).__name__} expects x of shape (batch, time, {self.input_size}), got "
                             f"{x.shape}." + (" Add the batch axis: x[None]." if x.ndim == 2 else ""))
        if x.shape[1] == 0 or x.shape[0] == 0:
            raise ValueError(f"{type(self).__name__} needs at least one sequence and one step, got x of shape {x.shape}.")
        if x.dtype.kind != "f":
            raise TypeError(f"{type(self).__name__} takes floating-point features, got dtype {x.dtype}; for symbols "
                            "use nn.Embedding or mg.one_hot first.")
        return x

    def _checked_state(self, state: Sequence[Any], batch: int) -> tuple[Any, ...]:
        kind = type(self).__name__
        expected = self.cells[0].State.__name__
        if isinstance(state, self.cells[0].State):  # a single cell's state, where there is a single cell
            state = (state,)
        if len(state) != len(self.cells):
            raise ValueError(f"{kind}: the state is a tuple of {len(self.cells)} {expected}, one per layer and "
                             f"direction; got {len(state)}.")
        zeros = self.initial_state(batch)
        for k, (given, zero) in enumerate(zip(state, zeros, strict=True)):
            shapes = [s.shape for s in tree_leaves(given)]
            wanted = [z.shape for z in tree_leaves(zero)]
            if shapes != wanted:
                raise ValueError(f"{kind}: state[{k}] has shapes {shapes}, expected a {expected} with {wanted}.")
        return tuple(tree_map(lambda z, s: s, zero, given) for zero, given in zip(zeros, state, strict=True))


class RNN(Recurrent):
    """Elman's network: RNNCell over time. See `Recurrent`; option `nonlinearity` = "tanh" or "relu"."""

    cell_type = RNNCell


class LSTM(Recurrent):
    """LSTMCell over time. See `Recurrent`; options `peephole`, `coupled`, `layer_norm`, `projection`, `forget_bias`."""

    cell_type = LSTMCell


class GRU(Recurrent):
    """GRUCell over time. See `Recurrent`; option `reset_after`."""

    cell_type = GRUCell


def detach(state: Any) -> Any:
    """The same state as constants: gradients stop here. What truncated backpropagation does between two chunks."""
    return tree_map(lambda s: s.detach(), state)

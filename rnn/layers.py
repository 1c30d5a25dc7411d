"""Recurrent layers: cells over time, stacked, in both directions, over ragged batches, with carried state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import minigrad as mg
from minigrad import Tensor
from minigrad.compile.gather import rows_first
from minigrad.compile.recall import Alike
from minigrad.nn import Module, Parameter
from minigrad.tree import tree_leaves, tree_map

from .cells import NO_TAPS, Cell, GRUCell, JordanCell, LSTMCell, RandomSource, RNNCell, Taps
from .dropout import Scheme
from .dropout.applied import apply, schemes_of

MERGES = ("concat", "sum", "mul", "average")


def run(cell: Cell, x: Tensor, state: Any, reverse: bool = False, valid: Tensor | None = None,
        taps: Taps = NO_TAPS, compiled: bool | str | None = None) -> tuple[Tensor, Any]:
    """One cell over time.

    Args:
        cell: the cell.
        x: (time, batch, D).
        state: the state before the first step (before the last one, if `reverse`).
        reverse: run from the last step to the first.
        valid: (time, batch, 1) bools, False at padding; there the state is frozen. None: all steps count.
        taps: where a regulariser reaches in.
        compiled: how the loop runs, see `minigrad.scan`.

    Returns:
        (outputs (time, batch, H), final state).
    """
    U = cell.weights(taps)
    a = rows_first(cell.project, x) if taps is NO_TAPS else cell.project(x, taps)

    def step(state: Any, a: Tensor) -> tuple[Any, Tensor]:
        y, new = cell.step(a, state, U, taps)
        return new, y

    def step_with_more(state: Any, inputs: dict[str, Any]) -> tuple[Any, Tensor]:
        y, new = cell.step(inputs["a"], state, U, taps.at(inputs["masks"]))
        if valid is not None:
            new = tree_map(lambda n, o: mg.where(inputs["valid"], n, o), new, state)
        return new, y

    if valid is None and not taps.steps:
        alike = cell.alike() if taps is NO_TAPS else None
        told = step if alike is None else Alike(step, alike[0], [*alike[1], *tree_leaves(U)])
        final, outputs = mg.scan(told, state, a, reverse=reverse, compiled=compiled)
    else:
        inputs = {"a": a, "masks": dict(taps.steps)} | ({} if valid is None else {"valid": valid})
        final, outputs = mg.scan(step_with_more, state, inputs, reverse=reverse, compiled=compiled)
    return taps.output(outputs), final


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
        raise ValueError(f"lengths lie between {checked.min()} and {checked.max()}; they must be between 1 "
                         f"and the {time} steps of the batch.")
    mask = np.arange(time)[:, None, None] < checked[None, :, None]
    return checked.astype(np.int64), mg.tensor(mask, name="valid")


class Recurrent(Module):
    """Cells over time: what RNN, LSTM and GRU have in common.

    `layer(x, state=None, lengths=None)` takes x (batch, time, D) and returns (outputs, state): outputs
    (batch, time, H) and a tuple of cell states, each (batch, H), in the order layer 0 forward, layer 0
    backward, layer 1 forward, …

    Args:
        input_size: D, the number of features.
        hidden_size: H, the width of each cell.
        num_layers: how many cells on top of each other.
        bias: whether the cells have one.
        bidirectional: a second cell per layer runs backwards in time.
        merge: how the outputs of the two directions join: "concat" (2·H wide), "sum", "mul", "average", or
            None for a pair of outputs (the last layer's; between layers they are concatenated).
        return_sequences: return the outputs of all steps, or only of the last valid one.
        past_end: what outputs beyond a sequence's length hold: "zero", or "repeat" for the last valid output.
        learn_initial_state: the state before the first step is a parameter, which starts at zero.
        stateful: go on from the state at the end of the last call, as a constant (no gradient passes from
            call to call), until `reset_state`.
        dropout: a scheme from `rnn.dropout`, a list of them, or p for `NonRecurrent(p)`.
        compiled: how the loop over time runs, see `minigrad.scan`.
        dtype: of the parameters.
        rng: a Generator or seed for the initial weights.
        dropout_rng: a Generator or seed for the masks; when left out, one spawned from `rng`.
        **options: passed on to each cell.

    Attributes:
        cells: the cells in that order.
        schemes: the dropout schemes.
        masks: the masks of the last call, by place, scheme and name: `layer 0/Zoneout.c`.
        monte_carlo: keep the masks on in evaluation; see `rnn.dropout.monte_carlo`.
    """

    cell_type: type[Cell]
    monte_carlo: bool = False

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 bidirectional: bool = False, merge: str | None = "concat", return_sequences: bool = True,
                 past_end: str = "zero", *, learn_initial_state: bool = False, stateful: bool = False,
                 dropout: float | Scheme | Sequence[Scheme] | None = None, compiled: bool | str = "auto",
                 dtype: Any = np.float32, rng: RandomSource = None, dropout_rng: RandomSource = None,
                 **options: Any) -> None:
        kind = type(self).__name__
        if not isinstance(num_layers, (int, np.integer)) or num_layers < 1:
            raise ValueError(f"{kind}: num_layers is a positive int, not {num_layers!r}.")
        if merge is not None and merge not in MERGES:
            raise ValueError(f"{kind}: merge is None or one of {', '.join(MERGES)}, not {merge!r}.")
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
        self.stateful = stateful
        self.compiled = compiled
        self.cells: list[Cell] = []
        width = input_size
        for _ in range(num_layers):
            for _ in range(1 + bidirectional):
                self.cells.append(self.cell_type(width, hidden_size, bias, dtype=dtype, rng=rng, **options))
            width = self.cells[-1].output_size
            if bidirectional and merge in ("concat", None):
                width *= 2
        self.output_size = width
        self.initial: list[Any] = []
        if learn_initial_state:
            self.initial = [cell.State(*(Parameter(np.zeros(size), f"{part}0", dtype) for part, size
                                         in cell.sizes()._asdict().items())) for cell in self.cells]
        self.schemes = schemes_of(dropout)
        for scheme in self.schemes:
            for cell in self.cells:
                scheme.check(cell)
        self.dropout_rng: np.random.Generator | None = None
        if self.schemes:
            self.dropout_rng = np.random.default_rng(rng.spawn(1)[0] if dropout_rng is None else dropout_rng)
        self.masks: dict[str, NDArray[Any]] = {}
        self._state: tuple[Any, ...] | None = None
        self._restart: NDArray[np.bool_] | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the parameters."""
        return self.cells[0].dtype

    def forward(self, x: Tensor, state: Sequence[Any] | None = None, lengths: ArrayLike | None = None,
                masks: Mapping[str, ArrayLike] | None = None) -> tuple[Any, tuple[Any, ...]]:
        """Run over x (batch, time, D).

        Args:
            x: the inputs.
            state: a tuple of cell states, as returned; when left out, the kept one of a stateful layer, or
                the initial state.
            lengths: (batch,) ints, for sequences padded at the end: the state freezes there, and the backward
                direction starts at each sequence's own end.
            masks: dropout masks to use instead of drawing them, by the keys of `layer.masks`; some or all.

        Raises:
            ValueError: shapes that do not fit, or masks that are not used.
        """
        x = self._checked(x)
        batch, time = x.shape[:2]
        state = self._first_state(batch) if state is None else self._checked_state(state, batch)
        ends, valid = (None, None) if lengths is None else valid_steps(lengths, batch, time)
        taps = self._taps(batch, time, masks)
        directions = 1 + self.bidirectional
        final: list[Any] = []
        name = x.name
        x = mg.swapaxes(x, 0, 1)
        if x.origin is None:
            x.name = name  # data are not on the tape, and pictures call them what the caller does
        for layer in range(self.num_layers):
            outputs = []
            for d in range(directions):
                k = layer * directions + d
                with mg.scope(self._place(k), label=type(self.cells[k]).__name__):
                    y, last = run(self.cells[k], x, state[k], reverse=bool(d), valid=valid, taps=taps[k],
                                  compiled=self.compiled)
                outputs.append(y)
                final.append(last)
            x = self._merged(outputs, "concat" if self.merge is None else self.merge)
        if self.stateful:
            self._state, self._restart = detach(tuple(final)), None
        pair = self.merge is None and self.bidirectional
        results = [self._finished(y, ends, valid) for y in (outputs if pair else [x])]
        return tuple(results) if pair else results[0], tuple(final)

    # -- state ------------------------------------------------------------------------------------------

    def initial_state(self, batch: int) -> tuple[Any, ...]:
        """The state before the first step, for every cell: zeros, or the learned one for each sequence."""
        if not self.initial:
            return tuple(cell.initial_state(batch) for cell in self.cells)
        state: tuple[Any, ...] = tree_map(lambda p: mg.broadcast_to(p, (batch, p.size)), tuple(self.initial))
        return state

    @property
    def state(self) -> tuple[Any, ...] | None:
        """The kept state of a stateful layer; None before the first call and after `reset_state`."""
        if self._state is None or self._restart is None:
            return self._state
        with mg.no_grad():
            return self._first_state(len(self._restart))

    def set_state(self, state: Sequence[Any] | None) -> None:
        """Go on from this state, as a constant, in the next call of a stateful layer; None: the initial one.

        Raises:
            ValueError: the layer is not stateful, or the shapes do not fit.
        """
        self._needs_stateful("set_state")
        if state is None:
            self._state = self._restart = None
            return
        tensors = tree_map(lambda s: s.detach() if isinstance(s, Tensor) else mg.tensor(s, dtype=self.dtype),
                           state if isinstance(state, self.cells[0].State) else tuple(state))
        self._state = self._checked_state(tensors, len(tree_leaves(tensors)[0]))
        self._restart = None

    def reset_state(self, rows: ArrayLike | None = None) -> None:
        """Begin anew in the next call of a stateful layer.

        Args:
            rows: which sequences of the batch: their numbers, or a bool for each; all when left out.

        Raises:
            ValueError: the layer is not stateful.
            IndexError: a row that the kept state does not have.
        """
        self._needs_stateful("reset_state")
        if rows is None:
            self._state = self._restart = None
        elif self._state is not None:
            restart = np.zeros(len(tree_leaves(self._state)[0]), bool)
            index = np.asarray(getattr(rows, "data", rows))
            restart[index if index.size else []] = True
            self._restart = restart if self._restart is None else restart | self._restart

    def _needs_stateful(self, method: str) -> None:
        if not self.stateful:
            raise ValueError(f"{method} is for layers made with stateful=True; pass this one its state: "
                             "outputs, state = layer(x, state).")

    def _first_state(self, batch: int) -> tuple[Any, ...]:
        """Where a call without a state begins."""
        initial = self.initial_state(batch)
        kept = self._state
        if kept is None:
            return initial
        rows = len(tree_leaves(kept)[0])
        if rows != batch:
            raise ValueError(f"{type(self).__name__} goes on from the state of {rows} sequences, and this "
                             f"batch has {batch}. For other sequences call layer.reset_state() first.")
        if self._restart is None:
            return kept
        restart = self._restart[:, None]
        return tree_map(lambda k, i: mg.where(restart, i, k), kept, initial)  # type: ignore[no-any-return]

    # -- parts of forward -------------------------------------------------------------------------------

    def _place(self, k: int) -> str:
        """What cell k is called."""
        layer, backward = divmod(k, 1 + self.bidirectional)
        return f"layer {layer}" + (" backward" if backward else "")

    def _taps(self, batch: int, time: int, masks: Mapping[str, ArrayLike] | None) -> list[Taps]:
        """The taps of each cell; the masks in use are kept in `self.masks`."""
        self.masks = {}
        given = dict(masks or {})
        if not self.schemes and not given:
            return [NO_TAPS] * len(self.cells)
        on = self.training or self.monte_carlo
        if given and not on:
            raise ValueError("masks are used in training or Monte-Carlo mode only; call layer.train() first, "
                             "or use rnn.dropout.monte_carlo(layer).")
        found: list[Taps] = []
        for k, cell in enumerate(self.cells):
            top = k >= len(self.cells) - 1 - self.bidirectional
            bottom = k <= int(self.bidirectional)
            taps, drawn = apply(self.schemes, cell, self._place(k), bottom, top, (batch, time), on=on,
                                rng=self.dropout_rng, given=given)
            found.append(taps)
            self.masks |= drawn
        if given:
            raise ValueError(f"no scheme uses the masks {', '.join(map(repr, given))}; this call has "
                             f"{', '.join(map(repr, self.masks)) or 'none'}.")
        return found

    def _merged(self, outputs: list[Tensor], merge: str) -> Tensor:
        """The outputs of the directions as one."""
        if len(outputs) == 1:
            return outputs[0]
        forward, backward = outputs
        if merge == "concat":
            return mg.concatenate(outputs, axis=-1)  # type: ignore[no-any-return]
        if merge == "mul":
            return forward * backward
        return forward + backward if merge == "sum" else 0.5 * (forward + backward)

    def _finished(self, y: Any, ends: NDArray[np.int64] | None, valid: Tensor | None) -> Any:
        """Outputs (time, batch, H) as the caller wants them: (batch, time, H), or the last valid step's."""
        if not self.return_sequences:
            return y[-1] if ends is None else y[ends - 1, np.arange(len(ends))]
        y = mg.swapaxes(y, 0, 1)
        if ends is None or valid is None:
            return y
        if self.past_end == "repeat":
            steps = np.minimum(np.arange(y.shape[1])[None, :], ends[:, None] - 1)
            return y[np.arange(len(ends))[:, None], steps]
        return mg.where(mg.swapaxes(valid.data, 0, 1), y, 0.0)

    def _checked(self, x: Any) -> Any:
        if not isinstance(x, Tensor):
            x = mg.tensor(x, name="x")
        if x.ndim != 3 or x.shape[2] != self.input_size:
            raise ValueError(f"{type(self).__name__} expects x of shape (batch, time, {self.input_size}), "
                             f"got {x.shape}." + (" Add the batch axis: x[None]." if x.ndim == 2 else ""))
        if x.shape[1] == 0 or x.shape[0] == 0:
            raise ValueError(f"{type(self).__name__} needs at least one sequence and one step, got x of "
                             f"shape {x.shape}.")
        if x.dtype.kind != "f":
            raise TypeError(f"{type(self).__name__} takes floating-point features, got dtype {x.dtype}; for "
                            "symbols use nn.Embedding or mg.one_hot first.")
        return x

    def _checked_state(self, state: Sequence[Any], batch: int) -> tuple[Any, ...]:
        kind = type(self).__name__
        expected = self.cells[0].State.__name__
        if isinstance(state, self.cells[0].State):  # a single cell's state, where there is a single cell
            state = (state,)
        if len(state) != len(self.cells):
            raise ValueError(f"{kind}: the state is a tuple of {len(self.cells)} {expected}, one per layer "
                             f"and direction; got {len(state)}.")
        zeros = self.initial_state(batch)
        for k, (given, zero) in enumerate(zip(state, zeros, strict=True)):
            shapes = [s.shape for s in tree_leaves(given)]
            wanted = [z.shape for z in tree_leaves(zero)]
            if shapes != wanted:
                raise ValueError(f"{kind}: state[{k}] has shapes {shapes}, expected a {expected} with "
                                 f"{wanted}.")
        return tuple(tree_map(lambda z, s: s, zero, given) for zero, given in zip(zeros, state, strict=True))


class RNN(Recurrent):
    """Elman's network: RNNCell over time. See `Recurrent`; option `nonlinearity`, "tanh" or "relu"."""

    cell_type = RNNCell


class Jordan(Recurrent):
    """Jordan's network: JordanCell over time. See `Recurrent`; options `output_size`, `activation`."""

    cell_type = JordanCell


class LSTM(Recurrent):
    """LSTMCell over time. See `Recurrent`.

    Options: `peephole`, `coupled`, `layer_norm`, `projection`, `forget_bias`, `clip_gradient`.
    """

    cell_type = LSTMCell


class GRU(Recurrent):
    """GRUCell over time. See `Recurrent`; options `reset_after`, `clip_gradient`."""

    cell_type = GRUCell


def detach(state: Any) -> Any:
    """The same state as constants: gradients stop here, as between chunks in truncated backpropagation."""
    return tree_map(lambda s: s.detach(), state)

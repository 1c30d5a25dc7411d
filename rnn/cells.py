"""Recurrent cells: a few lines of textbook algebra each. Nobody writes a backward pass for them.

A cell is a pure function `cell(x, state) -> (output, state)`, in three parts, so that a layer can do what does not
depend on the previous step once for the whole sequence:

    project(x)            what the input contributes, for all steps at once: one matrix product
    weights(taps)         what the loop uses at every step
    step(a, state, U)     the formulas

Letters are the papers': `σ` is the sigmoid, `·` the elementwise product; x is (batch, D), h and c are (batch, H).
`taps` are the places where a regulariser may reach in (see `rnn.dropout`).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad.nn import Module, Parameter
from minigrad.nn import initialisers as init

RandomSource = np.random.Generator | int | None


class RNNState(NamedTuple):
    """The state of an RNNCell: h, (batch, H)."""

    h: Any


class LSTMState(NamedTuple):
    """The state of an LSTMCell: h, (batch, H or projection), and c, (batch, H)."""

    h: Any
    c: Any


class GRUState(NamedTuple):
    """The state of a GRUCell: h, (batch, H)."""

    h: Any


class Taps(Protocol):
    """Where a regulariser may reach into a step. Each method gets a value and returns what to use instead."""

    def weight(self, U: Tensor) -> Tensor:
        """The recurrent weight, once per sequence."""

    def product(self, h: Tensor, U: Tensor, gates: slice) -> Tensor:
        """The recurrent product h @ U, where U holds the columns of these gates."""

    def candidate(self, g: Tensor) -> Tensor:
        """The candidate values."""

    def cell(self, c: Tensor) -> Tensor:
        """The new cell."""

    def update(self, old: Any, new: Any) -> Any:
        """The state that is carried on."""


class NoTaps:
    """Leaves everything as it is."""

    def weight(self, U: Tensor) -> Tensor:  # noqa: D102
        return U

    def product(self, h: Tensor, U: Tensor, gates: slice) -> Tensor:  # noqa: D102
        return h @ U

    def candidate(self, g: Tensor) -> Tensor:  # noqa: D102
        return g

    def cell(self, c: Tensor) -> Tensor:  # noqa: D102
        return c

    def update(self, old: Any, new: Any) -> Any:  # noqa: D102
        return new


NO_TAPS = NoTaps()


class Cell(Module):
    """What the cells have in common: sizes, weights, the input projection.

    Attributes:
        weight_ih: (D, G·H), input to the G gates.
        weight_hh: (H, G·H), previous output to the gates.
        bias: (G·H), or None.
        output_size: width of the output.
    """

    gates: tuple[str, ...]
    State: type[Any]
    weight_ih: Parameter
    weight_hh: Parameter
    bias: Parameter | None

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, output_size: int | None = None,
                 clip_gradient: float | None = None, dtype: Any = np.float32, rng: RandomSource = None) -> None:
        for what, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if not isinstance(size, (int, np.integer)) or size < 1:
                raise ValueError(f"{type(self).__name__}: {what} is a positive int, not {size!r}.")
        rng = np.random.default_rng(rng)
        G, H = len(self.gates), hidden_size
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.output_size = output_size or hidden_size
        self.clip_gradient = clip_gradient
        self.weight_ih = Parameter(np.concatenate(
            [init.xavier_uniform((input_size, H), rng, dtype=dtype) for _ in range(G)], axis=1), dtype=dtype)
        self.weight_hh = Parameter(np.concatenate(
            [init.orthogonal((self.output_size, H), rng, dtype=dtype) for _ in range(G)], axis=1), dtype=dtype)
        self.bias = Parameter(np.zeros(G * H), dtype=dtype) if bias else None

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the weights."""
        return self.weight_ih.dtype

    def project(self, x: Tensor) -> Tensor:
        """x @ weight_ih + bias: (..., D) to (..., G·H), for any number of steps at once."""
        a = x @ self.weight_ih
        return a if self.bias is None else a + self.bias

    def weights(self, taps: Taps = NO_TAPS) -> tuple[Tensor, ...]:
        """What the loop uses at every step, computed once per sequence."""
        return (taps.weight(self.weight_hh),)

    def step(self, a: Tensor, state: Any, U: tuple[Tensor, ...], taps: Taps = NO_TAPS) -> tuple[Tensor, Any]:
        """One time step from the projected input `a` (batch, G·H): the output and the next state."""
        raise NotImplementedError

    def initial_state(self, batch: int) -> Any:
        """Zeros: the state before the first step, as constants."""
        sizes = {"h": self.output_size, "c": self.hidden_size}
        return self.State(*(mg.tensor(np.zeros((batch, sizes[k]), self.dtype), name=f"{k}0") for k in self.State._fields))

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One time step: x (batch, D) and a state to the output (batch, H) and the next state."""
        return self.step(self.project(x), state, self.weights())

    def clipped(self, z: Tensor) -> Tensor:
        """`z` with its gradient clipped to ±clip_gradient on the way back, if that was asked for (Graves 2013)."""
        return z if self.clip_gradient is None else mg.clip_gradient(z, self.clip_gradient)


class RNNCell(Cell):
    """The plain recurrent cell (Elman 1990).

        h' = tanh(W x + U h + b)            or relu in place of tanh

    Args:
        nonlinearity: "tanh" or "relu".
        clip_gradient: clip the gradient of the pre-activations to ± this.
    """

    gates = ("h",)
    State = RNNState

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, nonlinearity: str = "tanh",
                 clip_gradient: float | None = None, dtype: Any = np.float32, rng: RandomSource = None) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNNCell: nonlinearity is 'tanh' or 'relu', not {nonlinearity!r}.")
        super().__init__(input_size, hidden_size, bias, clip_gradient=clip_gradient, dtype=dtype, rng=rng)
        self.nonlinearity = nonlinearity

    def step(self, a: Tensor, state: RNNState, U: tuple[Tensor, ...], taps: Taps = NO_TAPS) -> tuple[Tensor, RNNState]:
        z = self.clipped(a + taps.product(state.h, U[0], slice(0, 1)))
        h = mg.tanh(z) if self.nonlinearity == "tanh" else mg.relu(z)
        new = taps.update(state, RNNState(h))
        mg.name(h=new.h)
        return new.h, new


class LSTMCell(Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

        i = σ(W_i x + U_i h + b_i)
        f = σ(W_f x + U_f h + b_f)
        g = tanh(W_g x + U_g h + b_g)
        o = σ(W_o x + U_o h + b_o)
        c' = f·c + i·g
        h' = o·tanh(c')

    Variants, which combine:
        peephole    i and f also see w_ci·c and w_cf·c, o sees w_co·c' (Gers & Schmidhuber 2000).
        coupled     f = 1 - i; the gates are then i, g, o.
        layer_norm  LN(W x) + LN(U h) + b for the pre-activations, h' = o·tanh(LN(c')); c' itself is carried as it
                    is (Ba, Kiros & Hinton 2016).
        projection  h' = (o·tanh(c')) P, with P (H, projection) (Sak, Senior & Beaufays 2014).

    Args:
        forget_bias: initial value of b_f (Jozefowicz et al. 2015).
        clip_gradient: clip the gradient of the gates' pre-activations to ± this (Graves 2013).
    """

    gates = ("i", "f", "g", "o")
    State = LSTMState

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, peephole: bool = False,
                 coupled: bool = False, layer_norm: bool = False, projection: int | None = None,
                 forget_bias: float = 1.0, clip_gradient: float | None = None, dtype: Any = np.float32,
                 rng: RandomSource = None) -> None:
        rng = np.random.default_rng(rng)
        if coupled:
            self.gates = ("i", "g", "o")
        super().__init__(input_size, hidden_size, bias, output_size=projection, clip_gradient=clip_gradient,
                         dtype=dtype, rng=rng)
        H = hidden_size
        self.coupled = coupled
        if self.bias is not None and not coupled:
            b = self.bias.numpy()
            b[H:2 * H] = forget_bias
            self.bias.assign(b)
        self.peephole = peephole
        if peephole:
            self.weight_ci = Parameter(init.uniform((H,), rng, bound=H ** -0.5, dtype=dtype), dtype=dtype)
            if not coupled:
                self.weight_cf = Parameter(init.uniform((H,), rng, bound=H ** -0.5, dtype=dtype), dtype=dtype)
            self.weight_co = Parameter(init.uniform((H,), rng, bound=H ** -0.5, dtype=dtype), dtype=dtype)
        self.layer_norm = layer_norm
        if layer_norm:
            width = len(self.gates) * H
            self.gain_ih = Parameter(np.ones(width), dtype=dtype)
            self.gain_hh = Parameter(np.ones(width), dtype=dtype)
            self.gain_c = Parameter(np.ones(H), dtype=dtype)
            self.bias_c = Parameter(np.zeros(H), dtype=dtype)
        self.weight_hr = Parameter(init.xavier_uniform((H, projection), rng, dtype=dtype), dtype=dtype) if projection else None

    def project(self, x: Tensor) -> Tensor:
        a = x @ self.weight_ih
        if self.layer_norm:
            a = mg.layer_norm(a, self.gain_ih)
        return a if self.bias is None else a + self.bias

    def step(self, a: Tensor, state: LSTMState, U: tuple[Tensor, ...], taps: Taps = NO_TAPS,
             ) -> tuple[Tensor, LSTMState]:
        h, c = state
        G = len(self.gates)
        u = taps.product(h, U[0], slice(0, G))
        z = self.clipped(a + (mg.layer_norm(u, self.gain_hh) if self.layer_norm else u))
        i, *f, g, o = mg.split(z, G, axis=-1)
        i = mg.sigmoid(i + self.weight_ci * c if self.peephole else i)
        if self.coupled:
            f = 1.0 - i
        else:
            f = mg.sigmoid(f[0] + self.weight_cf * c if self.peephole else f[0])
        g = mg.tanh(g)
        c = taps.cell(f * c + i * taps.candidate(g))
        o = mg.sigmoid(o + self.weight_co * c if self.peephole else o)
        h = o * mg.tanh(mg.layer_norm(c, self.gain_c, self.bias_c) if self.layer_norm else c)
        if self.weight_hr is not None:
            h = h @ self.weight_hr
        new = taps.update(state, LSTMState(h, c))
        mg.name(i=i, f=f, g=g, o=o, h=new.h, c=new.c)
        return new.h, new


class GRUCell(Cell):
    """The gated recurrent unit (Cho et al. 2014).

        r = σ(W_r x + U_r h + b_r)
        z = σ(W_z x + U_z h + b_z)
        n = tanh(W_n x + b_n + r·(U_n h + b_hn))       reset_after=True, as in cuDNN, PyTorch and Keras
        n = tanh(W_n x + b_n + U_n (r·h))              reset_after=False, as in the paper
        h' = (1 - z)·n + z·h                           so z says how much to keep

    Attributes:
        bias_hn: (H), where the reset comes after the product.
    """

    gates = ("r", "z", "n")
    State = GRUState

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, reset_after: bool = True,
                 clip_gradient: float | None = None, dtype: Any = np.float32, rng: RandomSource = None) -> None:
        super().__init__(input_size, hidden_size, bias, clip_gradient=clip_gradient, dtype=dtype, rng=rng)
        self.reset_after = reset_after
        self.bias_hn = Parameter(np.zeros(hidden_size), dtype=dtype) if bias and reset_after else None

    def weights(self, taps: Taps = NO_TAPS) -> tuple[Tensor, ...]:
        U = taps.weight(self.weight_hh)
        return (U,) if self.reset_after else tuple(mg.split(U, [2 * self.hidden_size], axis=1))

    def step(self, a: Tensor, state: GRUState, U: tuple[Tensor, ...], taps: Taps = NO_TAPS) -> tuple[Tensor, GRUState]:
        h = state.h
        H = self.hidden_size
        if self.reset_after:
            a_rz, a_n = mg.split(a, [2 * H], axis=-1)
            u_rz, u_n = mg.split(taps.product(h, U[0], slice(0, 3)), [2 * H], axis=-1)
            r, z = (mg.sigmoid(v) for v in mg.split(self.clipped(a_rz + u_rz), 2, axis=-1))
            n = mg.tanh(self.clipped(a_n + r * (u_n if self.bias_hn is None else u_n + self.bias_hn)))
        else:
            a_rz, a_n = mg.split(a, [2 * H], axis=-1)
            u_rz = taps.product(h, U[0], slice(0, 2))
            r, z = (mg.sigmoid(v) for v in mg.split(self.clipped(a_rz + u_rz), 2, axis=-1))
            n = mg.tanh(self.clipped(a_n + taps.product(r * h, U[1], slice(2, 3))))
        new = taps.update(state, GRUState((1.0 - z) * taps.candidate(n) + z * h))
        mg.name(r=r, z=z, n=n, h=new.h)
        return new.h, new

"""Recurrent cells: a few lines of textbook algebra each. Nobody writes a backward pass for them.

A cell is a pure function `cell(x, state) -> (output, state)`, in three parts, so that a layer can do what
does not depend on the previous step once for the whole sequence:

    project(x, taps)            what the input contributes, for all steps at once: one matrix product
    weights(taps)               what the loop uses at every step
    step(a, state, U, taps)     the formulas

Letters are the papers': `σ` is the sigmoid, `·` the elementwise product; x is (batch, D), h and c (batch, H).
`taps` are the places where a regulariser may reach in (see `rnn.dropout`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

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


class JordanState(NamedTuple):
    """The state of a JordanCell: its last output y, (batch, output_size)."""

    y: Any


class Taps:
    """Where a regulariser may reach in. Each method gives what to use; here everything is left as it is.

    Attributes:
        steps: masks that differ from step to step, (time, batch, ...), by name.
    """

    steps: Mapping[str, Tensor] = {}

    def at(self, now: Mapping[str, Tensor]) -> Taps:
        """The taps of one step, where `steps` has these values."""
        return self

    def input(self, x: Tensor, W: Tensor) -> Tensor:
        """The input product x @ W, (..., D) to (..., G·H), for all steps at once."""
        return x @ W

    def weight(self, U: Tensor, products: Sequence[int]) -> tuple[Any, ...]:
        """The recurrent weight (H, G·H), once per sequence, cut into the columns of each product.

        Args:
            U: the weight.
            products: how many gates belong to each recurrent product of the cell.
        """
        if len(products) == 1:
            return (U,)
        gate = U.shape[1] // sum(products)
        return tuple(mg.split(U, [n * gate for n in accumulate(products[:-1])], axis=1))

    def product(self, h: Tensor, U: Any, gates: slice) -> Tensor:
        """The recurrent product h @ U of these gates; U is what `weight` gave for them."""
        return h @ U  # type: ignore[no-any-return]

    def candidate(self, g: Tensor) -> Tensor:
        """The candidate values."""
        return g

    def cell(self, c: Tensor) -> Tensor:
        """The new cell."""
        return c

    def update(self, old: Any, new: Any) -> Any:
        """The state that is carried on."""
        return new

    def output(self, y: Tensor) -> Tensor:
        """What leaves the cell upwards, for all steps at once."""
        return y


NO_TAPS = Taps()


class Cell(Module):
    """What the cells have in common: sizes, weights, the input projection.

    Attributes:
        gates: their letters, in the order of the columns.
        products: how many gates belong to each recurrent product of a step; () where there is none.
        weight_ih: (D, G·H), input to the G gates; Glorot's uniform distribution for each gate.
        weight_hh: (H, G·H), previous output to the gates; an orthogonal block for each gate.
        bias: (G·H), or None; zeros.
        output_size: width of the output, and of what feeds back.
    """

    gates: tuple[str, ...]
    products: tuple[int, ...]
    State: type[Any]
    weight_ih: Parameter
    weight_hh: Parameter
    bias: Parameter | None

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *,
                 output_size: int | None = None, clip_gradient: float | None = None,
                 dtype: Any = np.float32, rng: RandomSource = None) -> None:
        sizes = {"input_size": input_size, "hidden_size": hidden_size}
        if output_size is not None:
            sizes["projection" if isinstance(self, LSTMCell) else "output_size"] = output_size
        for what, size in sizes.items():
            if not isinstance(size, (int, np.integer)) or size < 1:
                raise ValueError(f"{type(self).__name__}: {what} is a positive int, not {size!r}.")
        if clip_gradient is not None and not clip_gradient > 0:
            raise ValueError(f"{type(self).__name__}: clip_gradient is above 0, not {clip_gradient!r}.")
        rng = np.random.default_rng(rng)
        G, H = len(self.gates), hidden_size
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.output_size = output_size or hidden_size
        self.clip_gradient = clip_gradient
        W = [init.xavier_uniform((input_size, H), rng, dtype=dtype) for _ in range(G)]
        U = init.orthogonal((self.output_size, G * H), rng, blocks=G, dtype=dtype)
        self.weight_ih = Parameter(np.concatenate(W, axis=1), dtype=dtype)
        self.weight_hh = Parameter(U, dtype=dtype)
        self.bias = Parameter(np.zeros(G * H), dtype=dtype) if bias else None

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of the weights."""
        return self.weight_ih.dtype

    def project(self, x: Tensor, taps: Taps = NO_TAPS) -> Tensor:
        """x @ weight_ih + bias: (..., D) to (..., G·H), for any number of steps at once."""
        a = taps.input(x, self.weight_ih)
        return a if self.bias is None else a + self.bias

    def weights(self, taps: Taps = NO_TAPS) -> tuple[Any, ...]:
        """What the loop uses at every step, computed once per sequence: the weight of each product."""
        return taps.weight(self.weight_hh, self.products) if self.products else ()

    def step(self, a: Tensor, state: Any, U: tuple[Any, ...], taps: Taps = NO_TAPS) -> tuple[Tensor, Any]:
        """One time step from the projected input `a` (batch, G·H): the output and the next state."""
        raise NotImplementedError

    def alike(self) -> tuple[Any, list[Tensor]] | None:
        """What decides which operations `step` does, and the Tensors it may use: see `minigrad.compile.recall`.

        None for a cell of any other file, whose step is looked at anew at each call.
        """
        if type(self).__module__ != __name__:
            return None
        settings: list[Any] = [type(self).step]
        tensors: list[Tensor] = []
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                tensors.append(value)
            elif callable(value):  # somebody has put a function in place of ours
                return None
            else:
                settings.append((name, value))
        return tuple(settings), tensors

    def sizes(self) -> Any:
        """The width of each part of the state."""
        return self.State(*(self.hidden_size if part == "c" else self.output_size
                            for part in self.State._fields))

    def initial_state(self, batch: int) -> Any:
        """Zeros: the state before the first step, as constants."""
        return self.State(*(mg.tensor(np.zeros((batch, size), self.dtype), name=f"{part}0")
                            for part, size in zip(self.State._fields, self.sizes(), strict=True)))

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One time step: x (batch, D) and a state to the output (batch, H) and the next state."""
        return self.step(self.project(x), state, self.weights())

    def clipped(self, z: Tensor) -> Tensor:
        """`z` with its gradient clipped to ±clip_gradient on the way back, if asked for (Graves 2013)."""
        return z if self.clip_gradient is None else mg.clip_gradient(z, self.clip_gradient)


class RNNCell(Cell):
    """The plain recurrent cell (Elman 1990).

        h' = tanh(W x + U h + b)            or relu in place of tanh

    Args:
        nonlinearity: "tanh" or "relu".
        clip_gradient: clip the gradient of the pre-activations to ± this.
    """

    gates = ("h",)
    products = (1,)
    State = RNNState

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, nonlinearity: str = "tanh",
                 clip_gradient: float | None = None, dtype: Any = np.float32,
                 rng: RandomSource = None) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNNCell: nonlinearity is 'tanh' or 'relu', not {nonlinearity!r}.")
        super().__init__(input_size, hidden_size, bias, clip_gradient=clip_gradient, dtype=dtype, rng=rng)
        self.nonlinearity = nonlinearity

    def step(self, a: Tensor, state: RNNState, U: tuple[Any, ...], taps: Taps = NO_TAPS,
             ) -> tuple[Tensor, RNNState]:
        z = self.clipped(a + taps.product(state.h, U[0], slice(0, 1)))
        h = mg.tanh(z) if self.nonlinearity == "tanh" else mg.relu(z)
        new = taps.update(state, RNNState(h))
        mg.name(h=new.h)
        return new.h, new


ACTIVATIONS = {"identity": lambda z: z, "tanh": mg.tanh, "sigmoid": mg.sigmoid, "relu": mg.relu}


class JordanCell(Cell):
    """A recurrent cell whose previous output feeds back, not its hidden units (Jordan 1986).

        h = tanh(W x + U y + b)             or relu in place of tanh
        y' = φ(V h + d)

    Attributes:
        weight_hh: U, (output_size, H).
        weight_hy: V, (H, output_size).
        bias_y: d, (output_size), or None.

    Args:
        output_size: width of y; the hidden size when left out.
        nonlinearity: "tanh" or "relu".
        activation: φ: "sigmoid", "tanh", "relu" or "identity".
        clip_gradient: clip the gradient of the pre-activations to ± this.
    """

    gates = ("h",)
    products = (1,)
    State = JordanState

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *,
                 output_size: int | None = None, nonlinearity: str = "tanh",
                 activation: str = "sigmoid", clip_gradient: float | None = None,
                 dtype: Any = np.float32, rng: RandomSource = None) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"JordanCell: nonlinearity is 'tanh' or 'relu', not {nonlinearity!r}.")
        if activation not in ACTIVATIONS:
            raise ValueError(f"JordanCell: activation is one of {[*ACTIVATIONS]}, not {activation!r}.")
        rng = np.random.default_rng(rng)
        super().__init__(input_size, hidden_size, bias, output_size=output_size,
                         clip_gradient=clip_gradient, dtype=dtype, rng=rng)
        self.nonlinearity = nonlinearity
        self.activation = activation
        V = init.xavier_uniform((hidden_size, self.output_size), rng, dtype=dtype)
        self.weight_hy = Parameter(V, dtype=dtype)
        self.bias_y = Parameter(np.zeros(self.output_size), dtype=dtype) if bias else None

    def step(self, a: Tensor, state: JordanState, U: tuple[Any, ...], taps: Taps = NO_TAPS,
             ) -> tuple[Tensor, JordanState]:
        z = self.clipped(a + taps.product(state.y, U[0], slice(0, 1)))
        h = ACTIVATIONS[self.nonlinearity](z)
        v = h @ self.weight_hy
        y = ACTIVATIONS[self.activation](v if self.bias_y is None else v + self.bias_y)
        new = taps.update(state, JordanState(y))
        mg.name(h=h, y=new.y)
        return new.y, new


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
        layer_norm  LN(W x) + LN(U h) + b for the pre-activations, h' = o·tanh(LN(c')); c' itself is carried
                    as it is (Ba, Kiros & Hinton 2016).
        projection  h' = (o·tanh(c')) P, with P (H, projection) (Sak, Senior & Beaufays 2014).

    Attributes:
        weight_ci, weight_cf, weight_co: the peepholes, (H).
        gain_ih, gain_hh: of the layer normalisations, (G·H); gain_c, bias_c: (H).
        weight_hr: P, or None.

    Args:
        forget_bias: initial value of b_f (Jozefowicz et al. 2015).
        clip_gradient: clip the gradient of the gates' pre-activations to ± this (Graves 2013).
    """

    gates: tuple[str, ...] = ("i", "f", "g", "o")
    products: tuple[int, ...] = (4,)
    State = LSTMState
    weight_ci: Parameter
    weight_cf: Parameter
    weight_co: Parameter

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, peephole: bool = False,
                 coupled: bool = False, layer_norm: bool = False, projection: int | None = None,
                 forget_bias: float = 1.0, clip_gradient: float | None = None, dtype: Any = np.float32,
                 rng: RandomSource = None) -> None:
        rng = np.random.default_rng(rng)
        if coupled:
            self.gates, self.products = ("i", "g", "o"), (3,)
        super().__init__(input_size, hidden_size, bias, output_size=projection, clip_gradient=clip_gradient,
                         dtype=dtype, rng=rng)
        H = hidden_size
        self.peephole = peephole
        self.coupled = coupled
        self.layer_norm = layer_norm
        if self.bias is not None and not coupled:
            b = self.bias.numpy()
            b[H:2 * H] = forget_bias
            self.bias.assign(b)
        for gate in self.gates if peephole else ():
            if gate != "g":
                w = init.uniform((H,), rng, H ** -0.5, dtype)
                setattr(self, f"weight_c{gate}", Parameter(w, dtype=dtype))
        if layer_norm:
            G = len(self.gates)
            self.gain_ih = Parameter(np.ones(G * H), dtype=dtype)
            self.gain_hh = Parameter(np.ones(G * H), dtype=dtype)
            self.gain_c = Parameter(np.ones(H), dtype=dtype)
            self.bias_c = Parameter(np.zeros(H), dtype=dtype)
        self.weight_hr: Parameter | None = None
        if projection is not None:
            self.weight_hr = Parameter(init.xavier_uniform((H, projection), rng, dtype=dtype), dtype=dtype)

    def project(self, x: Tensor, taps: Taps = NO_TAPS) -> Tensor:
        a = taps.input(x, self.weight_ih)
        if self.layer_norm:
            a = mg.layer_norm(a, self.gain_ih)
        return a if self.bias is None else a + self.bias

    def step(self, a: Tensor, state: LSTMState, U: tuple[Any, ...], taps: Taps = NO_TAPS,
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
    products: tuple[int, ...] = (3,)
    State = GRUState

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, reset_after: bool = True,
                 clip_gradient: float | None = None, dtype: Any = np.float32,
                 rng: RandomSource = None) -> None:
        super().__init__(input_size, hidden_size, bias, clip_gradient=clip_gradient, dtype=dtype, rng=rng)
        self.reset_after = reset_after
        self.products = (3,) if reset_after else (2, 1)
        self.bias_hn = Parameter(np.zeros(hidden_size), dtype=dtype) if bias and reset_after else None

    def step(self, a: Tensor, state: GRUState, U: tuple[Any, ...], taps: Taps = NO_TAPS,
             ) -> tuple[Tensor, GRUState]:
        h = state.h
        H = self.hidden_size
        a_rz, a_n = mg.split(a, [2 * H], axis=-1)
        if self.reset_after:
            u_rz, u_n = mg.split(taps.product(h, U[0], slice(0, 3)), [2 * H], axis=-1)
        else:
            u_rz = taps.product(h, U[0], slice(0, 2))
        r, z = (mg.sigmoid(v) for v in mg.split(self.clipped(a_rz + u_rz), 2, axis=-1))
        if self.reset_after:
            n = mg.tanh(self.clipped(a_n + r * (u_n if self.bias_hn is None else u_n + self.bias_hn)))
        else:
            n = mg.tanh(self.clipped(a_n + taps.product(r * h, U[1], slice(2, 3))))
        new = taps.update(state, GRUState((1.0 - z) * taps.candidate(n) + z * h))
        mg.name(r=r, z=z, n=n, h=new.h)
        return new.h, new

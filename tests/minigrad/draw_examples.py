"""Networks for the tests of drawing, written over `mg.scan` and `mg.scope` so that they depend on nothing
else."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


class Maker:
    """Parameters and data from one seed."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def weight(self, name: str, *shape: int) -> Tensor:
        return mg.tensor(self.rng.normal(size=shape) * 0.4, requires_grad=True, name=name)

    def data(self, *shape: int, name: str | None = None) -> Tensor:
        return mg.tensor(self.rng.normal(size=shape), name=name)


def perceptron() -> Tensor:
    """Two layers, a hidden state, a mean of squares."""
    m = Maker()
    x = m.data(2, 3, name="x")
    h = np.tanh(x @ m.weight("W1", 3, 4) + m.weight("b1", 4))
    y = h @ m.weight("W2", 4, 1)
    loss = ((y - 1.0) ** 2).mean()
    mg.name(h=h, y=y, loss=loss)
    return loss


def cell(kind: str, state: Any, a: Tensor, U: Tensor) -> tuple[Any, Tensor]:
    """One step from an already projected input."""
    if kind == "RNN":
        h = np.tanh(a + state @ U)
        mg.name(h=h)
        return h, h
    if kind == "GRU":
        r, z, n = np.split(a, 3, axis=-1)
        hr, hz, hn = np.split(state @ U, 3, axis=-1)
        r, z = mg.sigmoid(r + hr), mg.sigmoid(z + hz)
        n = np.tanh(n + r * hn)
        h = (1 - z) * n + z * state
        mg.name(r=r, z=z, n=n, h=h)
        return h, h
    h, c = state
    i, f, g, o = np.split(a + h @ U, 4, axis=-1)
    i, f, g, o = mg.sigmoid(i), mg.sigmoid(f), np.tanh(g), mg.sigmoid(o)
    c = f * c + i * g
    h = o * np.tanh(c)
    mg.name(i=i, f=f, g=g, o=o, c=c, h=h)
    return (h, c), h


def layer(
    m: Maker, kind: str, x: Tensor, hidden: int, name: str, reverse: bool = False
) -> tuple[Any, Tensor]:
    """All steps: the inputs projected at once, then a scan."""
    _, batch, features = x.shape
    width = GATES[kind] * hidden
    zeros = mg.tensor(np.zeros((batch, hidden)))
    with mg.scope(name, label=f"{kind}Cell"):
        a = x @ m.weight("weight_ih", features, width) + m.weight("bias", width)
        U = m.weight("weight_hh", hidden, width)
        start = (zeros, mg.tensor(np.zeros((batch, hidden)))) if kind == "LSTM" else zeros
        return mg.scan(lambda s, v: cell(kind, s, v, U), start, a, reverse=reverse)


def recurrent(kind: str = "LSTM", steps: int = 3, layers: int = 1, bidirectional: bool = False) -> Tensor:
    """A stack of layers, an output layer for all steps at once, a loss."""
    m = Maker()
    y = m.data(steps, 2, 4, name="x")
    with mg.scope("rnn", label=kind):
        for k in range(layers):
            _, forward = layer(m, kind, y, 5, f"layer {k}")
            if bidirectional:
                _, backward = layer(m, kind, y, 5, f"layer {k} reverse", reverse=True)
                forward = np.concatenate([forward, backward], axis=-1)
            y = forward
    with mg.scope("head", label="Linear"):
        logits = y @ m.weight("weight", y.shape[-1], 3) + m.weight("bias", 3)
    loss = mg.cross_entropy(logits.reshape(-1, 3), m.rng.integers(0, 3, steps * 2))
    mg.name(logits=logits, loss=loss)
    return loss


def loop(steps: int = 3, cut: tuple[int, ...] = (), last_only: bool = False) -> Tensor:
    """A loop written by hand: a cell module called again, an output layer and a loss at each step."""
    m = Maker()
    W, U, V = m.weight("W", 4, 5), m.weight("U", 5, 5), m.weight("V", 5, 3)
    h = mg.tensor(np.zeros((2, 5)), name="h")
    losses = []
    for t in range(1, steps + 1):
        x = m.data(2, 4, name="x")
        with mg.scope(f"t = {t}", step=t), mg.scope("cell", label="RNNCell"):
            h = np.tanh(x @ W + h @ U)
            mg.name(h=h)
        if t == steps or not last_only:
            with mg.scope("head", label="Linear"):
                y = h @ V
                mg.name(y=y)
            losses.append((y * y).sum())
            mg.name(L=losses[-1])
        if t in cut:
            h = h.detach()
    loss = losses[0]
    for term in losses[1:]:
        loss = loss + term
    mg.name(loss=loss)
    return loss


def attention(steps: int = 3, source: int = 4) -> Tensor:
    """An encoder, and a decoder that looks at all its outputs."""
    m = Maker()
    with mg.scope("encoder", label="Encoder"):
        last, memory = layer(m, "GRU", m.data(source, 2, 4, name="x"), 5, "layer 0")
    mg.name(memory=memory)
    Q, W, U, V = m.weight("Q", 5, 5), m.weight("W", 9, 5), m.weight("U", 5, 5), m.weight("V", 5, 3)

    def step(h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with mg.scope("attention", label="Attention"):
            a = mg.softmax((memory * (h @ Q)).sum(axis=-1), axis=0)
            context = (a.reshape(source, 2, 1) * memory).sum(axis=0)
        with mg.scope("cell", label="RNNCell"):
            h = np.tanh(np.concatenate([y, context], axis=-1) @ W + h @ U)
        mg.name(a=a, context=context, h=h)
        return h, h @ V

    with mg.scope("decoder", label="Decoder"):
        _, outputs = mg.scan(step, last, m.data(steps, 2, 4))
    loss = (outputs * outputs).mean()
    mg.name(loss=loss)
    return loss


def ragged(steps: int = 3) -> Tensor:
    """Sequences of different lengths: the state freezes at padding."""
    m = Maker()
    U = m.weight("U", 5, 5)
    valid = mg.tensor(np.arange(steps)[:, None, None] < np.array([3, 1])[None, :, None])

    def step(h: Tensor, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        a, now = inputs
        new = np.tanh(a + h @ U)
        mg.name(h=new)
        return np.where(now, new, h), new

    with mg.scope("layer 0", label="RNNCell"):
        a = m.data(steps, 2, 4, name="x") @ m.weight("W", 4, 5)
        _, outputs = mg.scan(step, mg.tensor(np.zeros((2, 5))), (a, valid))
    loss = (outputs * outputs).mean()
    mg.name(loss=loss)
    return loss


def uneven(steps: int = 3) -> Tensor:
    """Steps that are not alike: each does something else."""
    h = Maker().weight("h", 2, 2)
    for t in range(1, steps + 1):
        with mg.scope(f"t = {t}", step=t):
            h = np.tanh(h) if t % 2 else np.exp(h) * 2.0
    return h.sum()


def convolution() -> Tensor:
    m = Maker()
    x = m.data(2, 1, 8, 8, name="image")
    with mg.scope("conv", label="Conv2d"):
        y = mg.relu(mg.conv2d(x, m.weight("weight", 3, 1, 3, 3), m.weight("bias", 3)))
    with mg.scope("pool", label="MaxPool2d"):
        y = mg.max_pool2d(y, 2)
    loss = (y.reshape(2, -1) @ m.weight("W", 27, 2)).sum()
    mg.name(loss=loss)
    return loss


EXAMPLES = {
    "perceptron": perceptron,
    "rnn": lambda: recurrent("RNN"),
    "lstm": recurrent,
    "gru": lambda: recurrent("GRU", layers=2),
    "bidirectional": lambda: recurrent("RNN", 6, 2, True),
    "loop": loop,
    "long loop": lambda: loop(50),
    "cut": lambda: loop(4, cut=(2,)),
    "last": lambda: loop(9, last_only=True),
    "attention": attention,
    "long attention": lambda: attention(7, 6),
    "ragged": ragged,
    "uneven": uneven,
    "convolution": convolution,
}

"""Plain loops over NumPy arrays, written from the papers, and their gradients by complex steps.

The loops know nothing of minigrad. They work on complex arrays too, and nothing in them takes a real part, so
the imaginary part of f(x + iε)/ε is the derivative to the last digit, without any cancellation.

A mask is looked up as `m(name, t, gate)`; without masks all is multiplied by 1 and nothing is zoned out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = Any
Lookup = Callable[[str, int, int], Any]


def no_mask(name: str, t: int, gate: int) -> Any:
    return 0.0 if name.startswith("z") else 1.0


def looked_up(masks: Mapping[str, Array]) -> Lookup:
    """Masks by name: (T, batch, ·) one per step, (batch, ·) for all, or a list with one per gate."""

    def mask(name: str, t: int, gate: int) -> Any:
        if name not in masks:
            return no_mask(name, t, gate)
        found = masks[name]
        if isinstance(found, list):
            return found[gate]
        return found[t] if np.ndim(found) == 3 else found

    return mask


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def relu(z: Array) -> Array:
    return np.where(np.real(z) > 0, z, 0)


def normalised(z: Array) -> Array:
    centred = z - z.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + 1e-5)


def products(p: Mapping[str, Array], x: Array, h: Array, t: int, k: int, gates: int,
             m: Lookup) -> tuple[Array, Array]:
    """W x and U h of gate k of so many, with their masks."""
    H = p["weight_ih"].shape[1] // gates
    columns = slice(k * H, (k + 1) * H)
    U = p["weight_hh"] * m("U", t, k)
    return (x * m("x", t, k)) @ p["weight_ih"][:, columns], (h * m("h", t, k)) @ U[:, columns]


def rnn_loop(p, x, h, m: Lookup = no_mask, nonlinearity: str = "tanh"):
    """h' = tanh(W x + U h + b)"""
    ys = []
    for t in range(x.shape[1]):
        Wx, Uh = products(p, x[:, t], h, t, 0, 1, m)
        a = Wx + Uh + p.get("bias", 0)
        new = np.tanh(a) if nonlinearity == "tanh" else relu(a)
        z = m("zh", t, 0)
        h = z * h + (1 - z) * new
        ys.append(h * m("y", t, 0))
    return np.stack(ys, axis=1), h


def jordan_loop(p, x, y, m: Lookup = no_mask, nonlinearity: str = "tanh", activation: str = "sigmoid"):
    """h = tanh(W x + U y + b), y' = φ(V h + d)"""
    φ = {"sigmoid": sigmoid, "tanh": np.tanh, "relu": relu, "identity": lambda v: v}[activation]
    ys = []
    for t in range(x.shape[1]):
        Wx, Uy = products(p, x[:, t], y, t, 0, 1, m)
        a = Wx + Uy + p.get("bias", 0)
        h = np.tanh(a) if nonlinearity == "tanh" else relu(a)
        y = φ(h @ p["weight_hy"] + p.get("bias_y", 0))
        ys.append(y * m("y", t, 0))
    return np.stack(ys, axis=1), y


def lstm_loop(p, x, h, c, m: Lookup = no_mask, coupled: bool = False, layer_norm: bool = False):
    """i, f, g, o; c' = f·c + i·g; h' = o·tanh(c')"""
    letters = "igo" if coupled else "ifgo"
    ys = []
    for t in range(x.shape[1]):
        pairs = [products(p, x[:, t], h, t, k, len(letters), m) for k in range(len(letters))]
        Wx, Uh = (np.concatenate(side, axis=1) for side in zip(*pairs, strict=True))
        if layer_norm:
            Wx, Uh = normalised(Wx) * p["gain_ih"], normalised(Uh) * p["gain_hh"]
        a = dict(zip(letters, np.split(Wx + Uh + p.get("bias", 0), len(letters), axis=1), strict=True))
        i = sigmoid(a["i"] + p.get("weight_ci", 0) * c)
        f = 1 - i if coupled else sigmoid(a["f"] + p.get("weight_cf", 0) * c)
        g = np.tanh(a["g"]) * m("g", t, 0)
        fresh = (f * c + i * g) * m("c", t, 0)
        o = sigmoid(a["o"] + p.get("weight_co", 0) * fresh)
        inside = normalised(fresh) * p["gain_c"] + p["bias_c"] if layer_norm else fresh
        out = o * np.tanh(inside)
        if "weight_hr" in p:
            out = out @ p["weight_hr"]
        zc, zh = m("zc", t, 0), m("zh", t, 0)
        c = zc * c + (1 - zc) * fresh
        h = zh * h + (1 - zh) * out
        ys.append(h * m("y", t, 0))
    return np.stack(ys, axis=1), h, c


def gru_loop(p, x, h, m: Lookup = no_mask, reset_after: bool = True):
    """h' = (1 - z)·n + z·h"""
    b_r, b_z, b_n = np.split(p["bias"], 3) if "bias" in p else (0, 0, 0)
    ys = []
    for t in range(x.shape[1]):
        Wr, Ur = products(p, x[:, t], h, t, 0, 3, m)
        Wz, Uz = products(p, x[:, t], h, t, 1, 3, m)
        r = sigmoid(Wr + Ur + b_r)
        z = sigmoid(Wz + Uz + b_z)
        if reset_after:
            Wn, Un = products(p, x[:, t], h, t, 2, 3, m)
            n = np.tanh(Wn + b_n + r * (Un + p.get("bias_hn", 0)))
        else:
            Wn, Un = products(p, x[:, t], r * h, t, 2, 3, m)
            n = np.tanh(Wn + b_n + Un)
        fresh = (1 - z) * n * m("g", t, 0) + z * h
        keep = m("zh", t, 0)
        h = keep * h + (1 - keep) * fresh
        ys.append(h * m("y", t, 0))
    return np.stack(ys, axis=1), h


def complex_step(f: Callable[[dict[str, Array]], Array], leaves: Mapping[str, Array]) -> dict[str, Array]:
    """The gradient of a real function of arrays, by name."""
    found = {}
    for name, value in leaves.items():
        gradient = np.zeros(value.shape)
        for index in np.ndindex(value.shape):
            moved = value.astype(complex)
            moved[index] += 1e-30j
            gradient[index] = np.imag(f({**leaves, name: moved})) / 1e-30
        found[name] = gradient
    return found

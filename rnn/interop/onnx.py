"""The layout of ONNX' operators RNN, LSTM and GRU, whose inputs hold one or two directions d each:

    W (d, G·H, D)    R (d, G·H, H)    B (d, 2·G·H), for W and R    P (d, 3·H), an LSTM's peepholes i, o, f

An LSTM's gates are i, o, f, c; a GRU's are z, r, h, its z says how much to keep, as ours does, and
`linear_before_reset=1` is our `reset_after=True`. Where gates are coupled (`input_forget=1`) f is 1 - i, as
ours, and the blocks of f are there but not used; they are zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..cells import Cell, GRUCell, LSTMCell
from ..layers import Recurrent
from .arrays import Array, Arrays, Layer, Shapes, assign, cells_of, checked, refuse, values


def load_onnx(layer: Layer, inputs: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> None:
    """Set the weights of a layer or cell from those of ONNX' operators.

    Args:
        layer: is changed.
        inputs: a dict of W, R, and as the layer has them B and P, for each layer; or one dict for a single
            layer.

    Raises:
        ValueError: their number, names or shapes do not fit, or ONNX has no such cell; nothing is changed
            then.
    """
    if isinstance(inputs, Mapping):
        inputs = [inputs]
    groups = _groups(layer)
    kind = type(layer).__name__
    if len(inputs) != len(groups):
        raise ValueError(f"this {kind} has {len(groups)} layer(s), the weights are those of {len(inputs)}.")
    found = [checked(f"these weights do not fit layer {k} of this {kind}", given, _shapes(cells))
             for k, (given, cells) in enumerate(zip(inputs, groups, strict=True))]
    assign([(cell, _read(cell, {name: a[d] for name, a in arrays.items()}))
            for arrays, cells in zip(found, groups, strict=True) for d, cell in enumerate(cells)])


def to_onnx(layer: Layer) -> list[Arrays]:
    """The weights of a layer or cell as inputs of ONNX' operators: a dict of W, R, B and P for each layer.

    Raises:
        ValueError: ONNX has no such cell.
    """
    result = []
    for cells in _groups(layer):
        written = [_write(cell, values(cell, False)) for cell in cells]
        result.append({name: np.stack([w[name] for w in written]) for name in _shapes(cells)})
    return result


def _groups(layer: Layer) -> list[list[Cell]]:
    """The cells of each layer, one for each direction."""
    cells = cells_of(layer)
    for cell in cells:
        refuse(cell, "ONNX", "layer_norm", "projection")
    n = 1 + (isinstance(layer, Recurrent) and layer.bidirectional)
    return [cells[k:k + n] for k in range(0, len(cells), n)]


def _gates(cell: Cell) -> tuple[str, ...]:
    """Their order there, in our letters."""
    if isinstance(cell, LSTMCell):
        return ("i", "o", "f", "g")
    return ("z", "r", "n") if isinstance(cell, GRUCell) else cell.gates


def _peepholes(cell: Cell) -> dict[str, str]:
    """Our parameter for each of i, o and f."""
    return {gate: f"weight_c{gate}" for gate in "iof"} if isinstance(cell, LSTMCell) and cell.peephole else {}


def _shapes(cells: list[Cell]) -> Shapes:
    cell, d = cells[0], len(cells)
    width, H = len(_gates(cell)) * cell.hidden_size, cell.hidden_size
    shapes: Shapes = {"W": (d, width, cell.input_size), "R": (d, width, H)}
    if cell.bias is not None:
        shapes["B"] = (d, 2 * width)
    if _peepholes(cell):
        shapes["P"] = (d, 3 * H)
    return shapes


def _blocks(array: Array, gates: Sequence[str]) -> Arrays:
    return dict(zip(gates, np.split(array, len(gates), axis=-1), strict=True))


def _read(cell: Cell, given: Arrays) -> Arrays:
    theirs = _gates(cell)

    def ours(array: Array) -> Array:
        blocks = _blocks(array, theirs)
        return np.concatenate([blocks[gate] for gate in cell.gates], axis=-1)

    result = {"weight_ih": ours(given["W"].T), "weight_hh": ours(given["R"].T)}
    if cell.bias is not None:
        b_ih, b_hh = (ours(b) for b in np.split(given["B"].astype(np.float64), 2))
        if isinstance(cell, GRUCell) and cell.reset_after:
            result["bias_hn"] = b_hh[2 * cell.hidden_size:].copy()
            b_hh[2 * cell.hidden_size:] = 0.0
        result["bias"] = b_ih + b_hh
    if _peepholes(cell):
        blocks = _blocks(given["P"], "iof")
        result |= {name: blocks[gate] for gate, name in _peepholes(cell).items()}
    return result


def _write(cell: Cell, ours: Arrays) -> Arrays:
    def theirs(array: Array) -> Array:
        blocks = _blocks(array, cell.gates)
        unused = np.zeros_like(array[..., :cell.hidden_size])
        return np.concatenate([blocks.get(gate, unused) for gate in _gates(cell)], axis=-1)

    result = {"W": theirs(ours["weight_ih"]).T, "R": theirs(ours["weight_hh"]).T}
    if cell.bias is not None:
        b_hh = np.zeros_like(ours["bias"])
        if isinstance(cell, GRUCell) and cell.reset_after:
            b_hh[2 * cell.hidden_size:] = ours["bias_hn"]
        result["B"] = np.concatenate([theirs(ours["bias"]), theirs(b_hh)])
    if _peepholes(cell):
        unused = np.zeros_like(ours["weight_ci"])
        result["P"] = np.concatenate([ours.get(name, unused) for name in _peepholes(cell).values()])
    return result

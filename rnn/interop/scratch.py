"""The layout of "Deep Learning from Scratch 2" (Saito 2018): Wx (D, G·H), Wh (H, G·H) and b (G·H), used as `x
@ Wx`.

An LSTM's gates are f, g, i, o. A GRU's are z, r, h, and its z says how much to *replace*, where ours says how
much to keep; as 1 - σ(a) = σ(-a), the block of z changes its sign. Its reset comes before the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..cells import Cell, GRUCell, LSTMCell
from .arrays import Array, Layer, assign, cells_of, checked, listed, misfit, refuse, reorder, values

NAMES = {"Wx": "weight_ih", "Wh": "weight_hh", "b": "bias"}


def load_scratch(layer: Layer, params: Sequence[Any]) -> None:
    """Set the weights of a layer or cell from the `params` of RNN, LSTM or GRU, or of their `Time…` layers.

    Args:
        layer: is changed.
        params: Wx, Wh and b; for several layers, one's after the other's.

    Raises:
        ValueError: their number or shapes do not fit, or the book has no such cell; nothing is changed then.
    """
    cells = _cells(layer)
    expected = {f"{name} {k}": getattr(cell, own).shape
                for k, cell in enumerate(cells) for name, own in NAMES.items()}
    arrays = checked(misfit(layer), listed(params, expected), expected)
    assign([(cell, {own: _signed(cell, reorder(arrays[f"{name} {k}"], _order(cell), cell.gates))
                    for name, own in NAMES.items()}) for k, cell in enumerate(cells)])


def to_scratch(layer: Layer) -> list[Array]:
    """The weights of a layer or cell as such a list of `params`.

    Raises:
        ValueError: the book has no such cell.
    """
    return [reorder(_signed(cell, values(cell, False)[own]), cell.gates, _order(cell))
            for cell in _cells(layer) for own in NAMES.values()]


def _cells(layer: Layer) -> list[Cell]:
    cells = cells_of(layer)
    for cell in cells:
        refuse(cell, "the book", "peephole", "coupled", "layer_norm", "projection", "reset_after=True")
        if cell.bias is None:
            raise ValueError(f"the book has no {type(cell).__name__} without a bias.")
    return cells


def _order(cell: Cell) -> tuple[str, ...]:
    if isinstance(cell, LSTMCell):
        return ("f", "g", "i", "o")
    return ("z", "r", "n") if isinstance(cell, GRUCell) else cell.gates


def _signed(cell: Cell, array: Array) -> Array:
    """With the sign of a GRU's z changed; gates are in our order."""
    if not isinstance(cell, GRUCell):
        return array
    r, z, n = np.split(array, 3, axis=-1)
    return np.concatenate([r, -z, n], axis=-1)

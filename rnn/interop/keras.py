"""Keras' layout: for each cell a kernel (D, G·H), a recurrent kernel (H, G·H) and a bias.

An LSTM's gates are in our order under other names (i, f, c, o). A GRU's are z, r, h, and with `reset_after`
its bias is (2, 3·H): what is added to the input's product, and to the state's. `Bidirectional` lists the
forward cell first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..cells import Cell, GRUCell
from .arrays import (
    Array,
    Arrays,
    Layer,
    Shapes,
    assign,
    cells_of,
    checked,
    listed,
    misfit,
    refuse,
    reorder,
    values,
)

OURS, THEIRS = ("r", "z", "n"), ("z", "r", "n")


def load_keras(layer: Layer, weights: Sequence[Any]) -> None:
    """Set the weights of a layer or cell from those of SimpleRNN, LSTM or GRU.

    Args:
        layer: is changed.
        weights: as `get_weights()` gives them; for several layers or directions, one cell's after the
            other's.

    Raises:
        ValueError: their number or shapes do not fit, or Keras has no such cell; nothing is changed then.
    """
    cells = _cells(layer)
    expected = {f"{name} {k}": shape for k, cell in enumerate(cells) for name, shape in _shapes(cell).items()}
    arrays = checked(misfit(layer), listed(weights, expected), expected)
    assign([(cell, _read(cell, {n: arrays[f"{n} {k}"] for n in _shapes(cell)}))
            for k, cell in enumerate(cells)])


def to_keras(layer: Layer) -> list[Array]:
    """The weights of a layer or cell as a list for `set_weights()`.

    Raises:
        ValueError: Keras has no such cell.
    """
    return [array for cell in _cells(layer) for array in _write(cell, values(cell, False)).values()]


def _cells(layer: Layer) -> list[Cell]:
    cells = cells_of(layer)
    for cell in cells:
        refuse(cell, "Keras", "peephole", "coupled", "layer_norm", "projection")
    return cells


def _shapes(cell: Cell) -> Shapes:
    width = len(cell.gates) * cell.hidden_size
    shapes: Shapes = {"kernel": (cell.input_size, width), "recurrent_kernel": (cell.hidden_size, width)}
    if cell.bias is not None:
        shapes["bias"] = (2, width) if isinstance(cell, GRUCell) and cell.reset_after else (width,)
    return shapes


def _read(cell: Cell, given: Arrays) -> Arrays:
    if isinstance(cell, GRUCell):
        given = {name: reorder(a, THEIRS, OURS) for name, a in given.items()}
    ours = {"weight_ih": given["kernel"], "weight_hh": given["recurrent_kernel"]}
    if cell.bias is not None:
        ours["bias"] = given["bias"]
        if isinstance(cell, GRUCell) and cell.reset_after:
            b_ih, b_hh = given["bias"].astype(np.float64)
            ours["bias_hn"] = b_hh[2 * cell.hidden_size:].copy()
            b_hh[2 * cell.hidden_size:] = 0.0
            ours["bias"] = b_ih + b_hh
    return ours


def _write(cell: Cell, ours: Arrays) -> Arrays:
    theirs = {"kernel": ours["weight_ih"], "recurrent_kernel": ours["weight_hh"]}
    if cell.bias is not None:
        theirs["bias"] = ours["bias"]
        if isinstance(cell, GRUCell) and cell.reset_after:
            b_hh = np.zeros_like(ours["bias"])
            b_hh[2 * cell.hidden_size:] = ours["bias_hn"]
            theirs["bias"] = np.stack([ours["bias"], b_hh])
    if isinstance(cell, GRUCell):
        theirs = {name: reorder(a, OURS, THEIRS) for name, a in theirs.items()}
    return theirs

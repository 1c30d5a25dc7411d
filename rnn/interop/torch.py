"""PyTorch's layout.

A weight is transposed, (G·H, D), and there are two biases where one would do; their sum is ours, and on the
way back the second one is zero. A GRU's second bias for n is inside r·(…) and stays apart: it is `bias_hn`.
Gates stand in the same order in both: i, f, g, o and r, z, n.

    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_hr_l0, weight_ih_l0_reverse, …      layers
    weight_ih, weight_hh, bias_ih, bias_hh                                                         cells
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..cells import Cell, GRUCell
from ..layers import Recurrent
from .arrays import (
    Arrays,
    Layer,
    Shapes,
    assign,
    cells_of,
    checked,
    misfit,
    refuse,
    require_gradients,
    values,
)


def load_torch(layer: Layer, state_dict: Mapping[str, Any], prefix: str = "") -> None:
    """Set the weights of a layer from those of torch.nn.RNN, LSTM or GRU, or of a cell from those of a cell.

    Args:
        layer: is changed.
        state_dict: name → array or torch tensor, as `module.state_dict()` has them. Values are cast to the
            layer's dtype; the two biases are added in float64.
        prefix: of the names that count, such as "encoder.lstm."; others are left out.

    Raises:
        ValueError: the names or shapes do not fit, or PyTorch has no such cell; nothing is changed then.
    """
    state_dict = {name.removeprefix(prefix): v for name, v in state_dict.items() if name.startswith(prefix)}
    cells = _named(layer)
    expected = {n + suffix: shape for suffix, cell in cells.items() for n, shape in _shapes(cell).items()}
    arrays = checked(misfit(layer), state_dict, expected)
    assign([(cell, _read(cell, {n: arrays[n + suffix] for n in _shapes(cell)}))
            for suffix, cell in cells.items()])


def to_torch(layer: Layer, grads: bool = False) -> Arrays:
    """The weights of a layer or cell as a `state_dict` of arrays for the torch module of the same sizes.

    Only the cells' weights: a learned initial state is an argument of the call there.

    Args:
        layer: whose.
        grads: the gradients instead, as PyTorch would have them in `.grad`. There both biases have the same
            one, except for a GRU's n.

    Raises:
        ValueError: PyTorch has no such cell, or there are no gradients.
    """
    if grads:
        require_gradients(layer)
    return {name + suffix: array for suffix, cell in _named(layer).items()
            for name, array in _write(cell, values(cell, grads), grads).items()}


def _named(layer: Layer) -> dict[str, Cell]:
    """The cells by what stands at the end of their weights' names."""
    cells = cells_of(layer)
    for cell in cells:
        refuse(cell, "PyTorch", "peephole", "coupled", "layer_norm", "reset_after=False")
    if not isinstance(layer, Recurrent):
        return {"": cells[0]}
    if layer.bidirectional and layer.num_layers > 1 and layer.merge not in ("concat", None):
        raise ValueError("PyTorch joins the two directions between layers by concatenation, not by "
                         f"{layer.merge!r}.")
    n = 1 + layer.bidirectional
    return {f"_l{k // n}" + ("_reverse" if k % n else ""): cell for k, cell in enumerate(cells)}


def _shapes(cell: Cell) -> Shapes:
    G, D, H, out = len(cell.gates), cell.input_size, cell.hidden_size, cell.output_size
    shapes: Shapes = {"weight_ih": (G * H, D), "weight_hh": (G * H, out)}
    if cell.bias is not None:
        shapes |= {"bias_ih": (G * H,), "bias_hh": (G * H,)}
    if getattr(cell, "weight_hr", None) is not None:
        shapes["weight_hr"] = (out, H)
    return shapes


def _read(cell: Cell, given: Arrays) -> Arrays:
    ours = {name: a.T for name, a in given.items() if name.startswith("weight")}
    if cell.bias is not None:
        b_ih, b_hh = (given[name].astype(np.float64) for name in ("bias_ih", "bias_hh"))
        if isinstance(cell, GRUCell):
            ours["bias_hn"] = b_hh[2 * cell.hidden_size:].copy()
            b_hh[2 * cell.hidden_size:] = 0.0
        ours["bias"] = b_ih + b_hh
    return ours


def _write(cell: Cell, ours: Arrays, grads: bool) -> Arrays:
    theirs = {name: np.ascontiguousarray(a.T) for name, a in ours.items() if name.startswith("weight")}
    if cell.bias is not None:
        b_hh = ours["bias"].copy() if grads else np.zeros_like(ours["bias"])
        if isinstance(cell, GRUCell):
            b_hh[2 * cell.hidden_size:] = ours["bias_hn"]
        theirs |= {"bias_ih": ours["bias"], "bias_hh": b_hh}
    return {name: theirs[name] for name in _shapes(cell)}

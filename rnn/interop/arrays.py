"""What all layouts have in common: arrays checked before anything is assigned, and gates put into another
order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad import Tensor
from minigrad.nn import Parameter

from ..cells import Cell, GRUCell, LSTMCell, RNNCell
from ..layers import Recurrent

Array = NDArray[Any]
Arrays = dict[str, Array]
Shapes = dict[str, tuple[int, ...]]
Layer = Recurrent | Cell


def as_array(value: Any) -> Array:
    """An ndarray of a Tensor, an array, or whatever has PyTorch's `detach().cpu().numpy()`."""
    if isinstance(value, Tensor):
        return value.data
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        try:
            return np.asarray(value.numpy())
        except TypeError:  # a dtype that NumPy lacks, such as bfloat16
            return np.asarray(value.float().numpy())
    return np.asarray(value)


def checked(what: str, given: Mapping[str, Any], expected: Shapes) -> Arrays:
    """The given values as arrays, in the order of `expected`.

    Raises:
        ValueError: names or shapes differ, or something is not a real number; the message lists all of it.
    """
    arrays = {name: as_array(value) for name, value in given.items()}
    problems = [f"missing {n!r} {shape}" for n, shape in expected.items() if n not in arrays]
    problems += [f"unexpected {n!r} {a.shape}" for n, a in arrays.items() if n not in expected]
    for name, shape in expected.items():
        if name in arrays and arrays[name].shape != shape:
            problems.append(f"{name!r} has shape {arrays[name].shape}, expected {shape}")
        elif name in arrays and arrays[name].dtype.kind not in "iuf":
            problems.append(f"{name!r} has dtype {arrays[name].dtype}, which is not a real number")
    if problems:
        raise ValueError(f"{what}: {'; '.join(problems)}.")
    return {name: arrays[name] for name in expected}


def cells_of(layer: Layer) -> list[Cell]:
    """The cells of a layer in order, or the cell itself.

    Raises:
        TypeError: it is neither a recurrent layer nor a cell.
    """
    if isinstance(layer, Cell):
        return [layer]
    if isinstance(layer, Recurrent):
        return list(layer.cells)
    raise TypeError(f"weights are those of a recurrent layer or cell, not of a {type(layer).__name__}.")


def own(cell: Cell) -> dict[str, Parameter]:
    """The parameters of a cell by their own names."""
    return {name: value for name, value in vars(cell).items() if isinstance(value, Parameter)}


def values(cell: Cell, grads: bool) -> Arrays:
    """Copies of a cell's parameters, or of their gradients: zeros where there is none."""
    if not grads:
        return {name: p.numpy() for name, p in own(cell).items()}
    return {name: np.zeros(p.shape, p.dtype) if p.grad is None else np.array(p.grad)
            for name, p in own(cell).items()}


def require_gradients(layer: Layer) -> None:
    """Raises ValueError where no parameter has a gradient: that is a forgotten backward."""
    if all(p.grad is None for p in layer.parameters()):
        raise ValueError(f"no parameter of this {type(layer).__name__} has a gradient yet: "
                         "call loss.backward() first.")


def misfit(layer: Layer) -> str:
    """How a message about weights that do not fit begins."""
    return f"these weights do not fit this {type(layer).__name__}"


def listed(arrays: Sequence[Any], expected: Iterable[str]) -> dict[str, Any]:
    """The members of a list by the names that are expected, and by number beyond these."""
    names = list(expected)
    names += [f"array {k}" for k in range(len(names), len(arrays))]
    return dict(zip(names, arrays, strict=False))


def assign(pairs: Iterable[tuple[Cell, Arrays]]) -> None:
    """Give each cell's parameters their new values, all of which have been checked."""
    for cell, arrays in pairs:
        for name, parameter in own(cell).items():
            parameter.assign(arrays[name])


def reorder(array: Array, have: Sequence[str], want: Sequence[str], axis: int = -1) -> Array:
    """The blocks of `array` along `axis`, one for each gate in `have`, in the order of `want`."""
    blocks = dict(zip(have, np.split(array, len(have), axis=axis), strict=True))
    return np.concatenate([blocks[gate] for gate in want], axis=axis)


def refuse(cell: Cell, library: str, *variants: str) -> None:
    """Raises ValueError where the cell is of a kind, or one of these variants, that the library does not
    have."""
    if not isinstance(cell, (RNNCell, LSTMCell, GRUCell)):
        raise ValueError(f"{library} has no {type(cell).__name__}.")
    found = [v for v in variants if _is(cell, v)]
    if found:
        raise ValueError(f"{library} has no {type(cell).__name__} with {' and '.join(found)}.")


def _is(cell: Cell, variant: str) -> bool:
    if variant == "projection":
        return isinstance(cell, LSTMCell) and cell.weight_hr is not None
    if variant in ("reset_after=True", "reset_after=False"):
        return isinstance(cell, GRUCell) and cell.reset_after == (variant == "reset_after=True")
    return bool(getattr(cell, variant, False))

"""Derivatives of picking entries: a gather's gradient is a scatter that adds, and the other way round.

A slice's gradient is a few entries in a large array of zeros. Such contributions are deferred and added into one
buffer when all are there, so that T slices of one array cost T, not T².
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import NDArray

from ..accumulate import Deferred
from ..primitive import implements, primitive

Array = NDArray[Any]


def is_basic(index: Any) -> bool:
    """Whether NumPy treats `index` as a view: ints, slices, Ellipsis and newaxis only."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is ... or (isinstance(p, (slice, int, np.integer)) and not isinstance(p, bool))
               for p in parts)


def add_at(target: Array, index: Any, values: Array) -> None:
    """target[index] += values, where repeated entries of `index` add up."""
    if is_basic(index):
        target[index] += values
    elif isinstance(index, np.ndarray) and index.dtype.kind in "iu" and target.ndim > 1:
        add_rows(target, index, values)
    else:
        np.add.at(target, index, np.broadcast_to(values, target[index].shape))


def add_rows(target: Array, rows: Array, values: Array) -> None:
    """target[rows] += values for integer rows, in sorted runs: several times faster than np.add.at."""
    rows = rows.reshape(-1).astype(np.intp)
    if not values.size:
        return
    rows = np.where(rows < 0, rows + len(target), rows)
    values = values.reshape(len(rows), -1)
    flat = target.reshape(len(target), -1)
    if len(target) <= 256:  # few rows: one product with a one-hot matrix
        one_hot_rows = np.zeros((len(target), len(rows)), values.dtype)
        one_hot_rows[rows, np.arange(len(rows))] = 1.0
        added = one_hot_rows @ values
        if np.isfinite(added).all():  # 0 * inf would put NaN into every row
            flat += added
            return
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    starts = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))
    flat[rows[starts]] += np.add.reduceat(values[order], starts, axis=0)


@primitive(lambda g, y, k, arrays, *, indices, shape: _gather(g, index=indices[k]), variadic=True)  # type: ignore[has-type]
def scatter(*arrays: Array, indices: tuple[Any, ...], shape: tuple[int, ...]) -> Array:
    """Zeros of `shape` to which arrays[k] are added at indices[k], for all k."""
    out = np.zeros(shape, arrays[0].dtype)
    for index, values in zip(indices, arrays, strict=True):
        add_at(out, index, values)
    return out


def settle_slices(items: list[Any]) -> Any:
    """All slices' gradients into one buffer."""
    return scatter(*(g for g, _, _ in items), indices=tuple(index for _, index, _ in items), shape=items[0][2])


@primitive(lambda g, y, x, *, index: Deferred(settle_slices, g, index, x.shape), name="getitem")
def _gather(x: Array, *, index: Any) -> Any:
    return x[index]


def values_of(x: Any, how: str) -> Array:
    """The array of `x` where its values decide what is computed; a trace, which is to hold for all steps, ends here."""
    if hasattr(x, "_reading"):
        x._reading(how)
    return np.asarray(getattr(x, "_data", x))


def plain_index(index: Any) -> Any:
    """`index` with Tensors and lists replaced by arrays of its own, checked."""
    if isinstance(index, tuple):
        return tuple(plain_index(i) for i in index)
    if index is None or index is ... or isinstance(index, slice) or type(index) is int:
        return index
    if isinstance(index, np.ma.MaskedArray):
        raise TypeError("a masked array is no index: its mask would be lost. Give index.filled(...).")
    array = np.array(values_of(index, "as an index"))
    if array.dtype.kind == "f" and array.size == 0:
        array = array.astype(np.intp)
    if array.dtype.kind not in "iub":
        raise IndexError(f"Tensors are indexed by integers, slices, masks, ... and None; got dtype {array.dtype}.")
    return int(array) if array.ndim == 0 and array.dtype.kind != "b" else array


def getitem(x: Any, index: Any) -> Any:
    """x[index], basic or advanced. Repeated indices add up in the gradient."""
    return _gather(x, index=index if type(index) is int else plain_index(index))


@implements(np.take)
def take(a: Any, indices: Any, axis: int | None = None) -> Any:
    """np.take (out-of-range indices raise)."""
    indices = values_of(indices, "as indices")
    if indices.dtype.kind == "b":  # numbers here, and no mask
        indices = indices.astype(np.intp)
    if axis is None:
        return getitem(np.reshape(a, -1), indices)
    if not -a.ndim <= axis < a.ndim:
        raise np.exceptions.AxisError(axis, a.ndim)
    return getitem(a, (*(slice(None),) * (axis % a.ndim), indices) if axis % a.ndim else indices)


@implements(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    """np.take_along_axis."""
    if axis is None:
        arr, axis = np.reshape(arr, -1), 0
    axis = normalize_axis_index(axis, arr.ndim)
    indices = values_of(indices, "as indices")
    shape = [n if i == axis else m for i, (n, m) in enumerate(zip(indices.shape, arr.shape, strict=True))]
    grid: list[Any] = list(np.ix_(*(np.arange(n) for n in shape)))
    grid[axis] = indices
    return getitem(arr, tuple(grid))


@implements(np.compress)
def compress(condition: Any, a: Any, axis: int | None = None) -> Any:
    """np.compress: the slices where a one-dimensional condition holds."""
    return take(a, np.flatnonzero(values_of(condition, "as a condition")), axis)


@implements(np.nonzero)
def nonzero(a: Any) -> tuple[Array, ...]:
    """np.nonzero: a tuple of arrays of indices, ready to index with."""
    return np.nonzero(values_of(a, "np.nonzero"))


@implements(np.sort)
def sort(a: Any, axis: int | None = -1) -> Any:
    """np.sort, as a gather by argsort (stable, so that tied entries keep their order)."""
    if axis is None:
        a, axis = np.reshape(a, -1), 0
    return take_along_axis(a, np.argsort(values_of(a, "to sort them"), axis=axis, kind="stable"), axis)


@implements(np.median)
def median(a: Any, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """np.median: the mean of the one or two middle entries; NaN where one entry is."""
    if axis is None:
        shape = (1,) * a.ndim
        middle = median(np.reshape(a, -1), 0)
        return np.reshape(middle, shape) if keepdims else middle
    if not isinstance(axis, (int, np.integer)):
        raise TypeError(f"np.median on Tensors takes one int axis, or None for all entries, not {axis!r}.")
    n = a.shape[axis]
    middle = np.mean(take(sort(a, axis), np.arange((n - 1) // 2, n // 2 + 1), axis), axis=axis, keepdims=keepdims)
    missing = np.isnan(values_of(a, "np.median")).any(axis, keepdims=keepdims)
    return np.where(missing, np.max(a, axis=axis, keepdims=keepdims), middle) if missing.any() else middle


# ---------------------------------------------------------------------------------------------------------------
# Rows by number
# ---------------------------------------------------------------------------------------------------------------


def checked_ids(ids: Any, count: int, what: str) -> Array:
    """`ids` as an array of integers in 0 … count-1; TypeError or IndexError, in the name of `what`, if it is not."""
    found = values_of(ids, "as ids")
    if found.dtype.kind not in "iu":
        raise TypeError(f"{what} takes integer ids, got dtype {found.dtype}.")
    if found.size and not (found.min() >= 0 and found.max() < count):
        raise IndexError(f"{what} got ids from {found.min()} to {found.max()}; they must lie in 0 … {count - 1}.")
    return found


def embedding(weight: Any, ids: Any) -> Any:
    """The rows of `weight` (V, D) that `ids` (any shape, integers in 0 … V-1) name: shape (*ids.shape, D).

    Raises:
        TypeError: ids are not integers.
        IndexError: an id is negative or at least V.
    """
    return getitem(weight, checked_ids(ids, len(weight), f"embedding of {len(weight)} rows"))


def one_hot(ids: Any, num_classes: int, dtype: Any = np.float32) -> Array:
    """An array of zeros with a 1 at each id: shape (*ids.shape, num_classes).

    Raises:
        TypeError: ids are not integers.
        IndexError: an id is negative or at least num_classes.
    """
    ids = checked_ids(ids, num_classes, f"one_hot with {num_classes} classes")
    out = np.zeros((ids.size, num_classes), dtype)
    out[np.arange(ids.size), ids.reshape(-1)] = 1
    return out.reshape(*ids.shape, num_classes)

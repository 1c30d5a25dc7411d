"""Cotangents on their way to where they belong: undoing broadcasting, casting, and adding up.

No derivative rule broadcasts backwards, casts, or sums contributions: the walk over the tape does it here, for all
of them. Everything is written with primitives, so that it works on arrays and on Tensors alike.

The one trick: some contributions are cheaper to add up together than one by one. A slice of an array
contributes a few entries of a large zero array; a weight used at every time step contributes one matrix product a
step. Their rules return a `Deferred`, and when all contributions are there they are settled at once: all slices
into one buffer, all the small products as one large one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .primitive import primitive

Array = NDArray[Any]


def lies_swapped(x: Any) -> bool:
    """Whether a 3-d array lies in memory with its first two axes swapped, as the batch-first view of a loop's outputs.

    Who works on its rows in that order needs no copy of it.
    """
    data = getattr(x, "_data", x)
    return data.ndim == 3 and not data.flags.c_contiguous and bool(data.swapaxes(0, 1).flags.c_contiguous)


def sum_rows(x: Array) -> Any:
    """Sum of a 2-d array over its first axis, in x's own dtype, with the error of a pairwise sum.

    NumPy's pairwise summation does not apply along the first axis: `x.sum(0)` of a million float32 rows is off by
    1e-3. Adding up in blocks of 64 rows, then blocks of blocks, keeps the error below 1e-6 at the same speed.
    """
    rows, columns = x.shape
    if rows <= 64:
        return np.add.reduce(x, axis=0)
    if columns < 64:  # several short rows side by side make a long one
        side = min(rows, 128 // max(columns, 1))
        packed = sum_rows(x[:rows // side * side].reshape(-1, side * columns)).reshape(side, columns)
        return np.add.reduce(packed, axis=0) + np.add.reduce(x[rows // side * side:], axis=0)
    blocks = np.add.reduce(x[:rows // 64 * 64].reshape(-1, 64, columns), axis=1)
    return sum_rows(blocks) + np.add.reduce(x[rows // 64 * 64:], axis=0)


@primitive(lambda g, y, x, *, shape: np.broadcast_to(g, x.shape))
def unbroadcast(x: Array, *, shape: tuple[int, ...]) -> Any:
    """Sum `x` over the axes along which an array of `shape` was broadcast to become `x.shape`."""
    lead = x.ndim - len(shape)
    stretched = tuple(i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1)
    if stretched:
        # float32 sums over inner axes go through float64: they are rare and their order in memory is not ours
        wide = np.float64 if x.dtype.itemsize < 8 else x.dtype
        axes = (*range(lead), *stretched)
        return np.add.reduce(x, axis=axes, dtype=wide, keepdims=True).astype(x.dtype).reshape(shape)
    if x.dtype == np.float16:
        return np.add.reduce(x, axis=tuple(range(lead)), dtype=np.float64).astype(x.dtype)
    size = math.prod(shape)
    if lead > 1 and lies_swapped(x):
        x = x.swapaxes(0, 1)
    return sum_rows(x.reshape(x.size // size, size)).reshape(shape) if x.size else np.zeros(shape, x.dtype)


@primitive(lambda g, y, x, *, dtype: cast(g, dtype=x.dtype))  # type: ignore[has-type]
def cast(x: Array, *, dtype: Any) -> Array:
    """`x` with another floating dtype. The gradient is cast back."""
    return x.astype(dtype)


def fit(g: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """The cotangent `g` summed to `shape` and cast to `dtype`: what an argument of that description receives."""
    if g.shape != shape:
        if g.ndim >= len(shape) and all(n in (1, m) for n, m in zip(shape[::-1], g.shape[::-1], strict=False)):
            g = unbroadcast(g, shape=shape)
        else:
            g = np.broadcast_to(g, shape)
    return g if g.dtype == dtype else cast(g, dtype=dtype)


class Deferred:
    """A contribution to a gradient that is added up together with its like.

    Attributes:
        settle: `settle(items)` gives the sum of several contributions, in the argument's shape and as a new array that
            nobody else holds; the same function for all of a kind.
        item: what this one contributes, a tuple that `settle` understands.
    """

    __slots__ = ("item", "settle")

    def __init__(self, settle: Callable[[list[Any]], Any], *item: Any) -> None:
        self.settle = settle
        self.item = item


def settle(contributions: Sequence[Deferred]) -> Any:
    """The sum of deferred contributions, each kind settled in one go, in the order they came."""
    kinds: dict[Callable[[list[Any]], Any], list[Any]] = {}
    for contribution in contributions:
        kinds.setdefault(contribution.settle, []).append(contribution.item)
    total = None
    for add_up, items in kinds.items():
        part = add_up(items)
        total = part if total is None else total + part
    return total

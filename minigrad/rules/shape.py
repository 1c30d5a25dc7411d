"""Derivatives of functions that move entries about: each is undone by its inverse, or by a sum where it copies."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..accumulate import unbroadcast
from ..primitive import implements, primitive

Array = NDArray[Any]

implements(np.shape)(lambda a: a.shape)
implements(np.ndim)(lambda a: a.ndim)


@implements(np.size)
def size(a: Any, axis: int | None = None) -> int:
    """np.size."""
    return int(a.size if axis is None else a.shape[axis])


# ---------------------------------------------------------------------------------------------------------------
# The same entries in another shape or order
# ---------------------------------------------------------------------------------------------------------------


@primitive(lambda g, y, x, *, shape: np.reshape(g, x.shape))
def _reshape(x: Array, *, shape: Any) -> Array:
    return np.reshape(x, shape)


@implements(np.reshape)
def reshape(a: Any, shape: Any) -> Any:
    """np.reshape, in C order."""
    return _reshape(a, shape=shape)


@implements(np.ravel)
def ravel(a: Any) -> Any:
    """np.ravel, in C order."""
    return _reshape(a, shape=-1)


def inverse(axes: Sequence[int] | None, ndim: int) -> Sequence[int] | None:
    """The permutation that undoes `axes`."""
    return None if axes is None else np.argsort([a % ndim for a in axes]).tolist()


@primitive(lambda g, y, x, *, axes: np.transpose(g, inverse(axes, x.ndim)))
def _transpose(x: Array, *, axes: Sequence[int] | None) -> Array:
    return np.transpose(x, axes)


@implements(np.transpose, np.permute_dims)
def transpose(a: Any, axes: Sequence[int] | None = None) -> Any:
    """np.transpose."""
    return _transpose(a, axes=None if axes is None else tuple(axes))


@primitive(lambda g, y, x, *, axis1, axis2: np.swapaxes(g, axis1, axis2))
def _swapaxes(x: Array, *, axis1: int, axis2: int) -> Array:
    return np.swapaxes(x, axis1, axis2)


@implements(np.swapaxes)
def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    """np.swapaxes."""
    return _swapaxes(a, axis1=axis1, axis2=axis2)


@implements(np.matrix_transpose)
def matrix_transpose(x: Any) -> Any:
    """The last two axes swapped."""
    return _swapaxes(x, axis1=-1, axis2=-2)


@primitive(lambda g, y, x, *, source, destination: np.moveaxis(g, destination, source))
def _moveaxis(x: Array, *, source: Any, destination: Any) -> Array:
    return np.moveaxis(x, source, destination)


@implements(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    """np.moveaxis."""
    return _moveaxis(a, source=source, destination=destination)


@implements(np.expand_dims)
def expand_dims(a: Any, axis: int | tuple[int, ...]) -> Any:
    """np.expand_dims."""
    return _reshape(a, shape=np.expand_dims(np.broadcast_to(np.zeros((), bool), a.shape), axis).shape)


@implements(np.squeeze)
def squeeze(a: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """np.squeeze."""
    return _reshape(a, shape=np.squeeze(np.broadcast_to(np.zeros((), bool), a.shape), axis).shape)


@implements(np.atleast_1d)
def atleast_1d(a: Any) -> Any:
    """np.atleast_1d of one Tensor."""
    return _reshape(a, shape=(1,)) if a.ndim == 0 else a


@implements(np.atleast_2d)
def atleast_2d(a: Any) -> Any:
    """np.atleast_2d of one Tensor."""
    return a if a.ndim >= 2 else _reshape(a, shape=(1, -1))


@primitive(lambda g, y, x, *, axis: np.flip(g, axis))
def _flip(x: Array, *, axis: Any) -> Array:
    return np.flip(x, axis)


@implements(np.flip)
def flip(m: Any, axis: Any = None) -> Any:
    """np.flip."""
    return _flip(m, axis=axis)


@implements(np.flipud)
def flipud(m: Any) -> Any:
    """np.flipud: the rows in reverse."""
    return _flip(m, axis=0)


@implements(np.fliplr)
def fliplr(m: Any) -> Any:
    """np.fliplr: the columns in reverse."""
    return _flip(m, axis=1)


@primitive(lambda g, y, x, *, shift, axis: np.roll(
    g, tuple(-s for s in shift) if isinstance(shift, tuple) else -shift, axis))
def _roll(x: Array, *, shift: Any, axis: Any) -> Array:
    return np.roll(x, shift, axis)


@implements(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    """np.roll."""
    return _roll(a, shift=tuple(shift) if isinstance(shift, (list, tuple)) else shift, axis=axis)


# ---------------------------------------------------------------------------------------------------------------
# Copies: their gradients are sums
# ---------------------------------------------------------------------------------------------------------------


@primitive(lambda g, y, x, *, shape: unbroadcast(g, shape=x.shape))
def _broadcast_to(x: Array, *, shape: tuple[int, ...]) -> Array:
    return np.broadcast_to(x, shape)


@implements(np.broadcast_to)
def broadcast_to(array: Any, shape: Any) -> Any:
    """np.broadcast_to."""
    return _broadcast_to(array, shape=tuple(shape) if isinstance(shape, (list, tuple)) else (shape,))


@primitive()
def _full_like(a: Any, fill_value: Any) -> Array:
    return np.full_like(a, fill_value)


@implements(np.full_like)
def full_like(a: Any, fill_value: Any) -> Any:
    """np.full_like. A Tensor to fill with gets the sum over all that it filled."""
    if getattr(fill_value, "requires_grad", False):
        return np.broadcast_to(fill_value if fill_value.dtype == a.dtype else fill_value.astype(a.dtype), a.shape)
    return _full_like(a, fill_value)


@implements(np.tile)
def tile(A: Any, reps: Any) -> Any:
    """np.tile."""
    reps = tuple(reps) if isinstance(reps, (list, tuple)) else (reps,)
    ndim = max(A.ndim, len(reps))
    reps = (1,) * (ndim - len(reps)) + reps
    shape = (1,) * (ndim - A.ndim) + A.shape
    pairs = [n for r, s in zip(reps, shape, strict=True) for n in (r, s)]
    once = np.reshape(A, [n for s in shape for n in (1, s)])
    return np.reshape(np.broadcast_to(once, pairs), [r * s for r, s in zip(reps, shape, strict=True)])


@implements(np.repeat)
def repeat(a: Any, repeats: Any, axis: int | None = None) -> Any:
    """np.repeat, as a gather: entry i appears repeats[i] times."""
    if axis is None:
        a, axis = np.reshape(a, -1), 0
    return np.take(a, np.repeat(np.arange(a.shape[axis]), repeats), axis=axis)


# ---------------------------------------------------------------------------------------------------------------
# Joining and parting
# ---------------------------------------------------------------------------------------------------------------


def part(g: Any, start: int, end: int, axis: int) -> Any:
    """The slice of `g` from `start` to `end` along an axis."""
    return g[(*(slice(None),) * (axis % g.ndim), slice(start, end))]


@primitive(lambda g, y, k, arrays, *, axis, ends: part(g, ends[k - 1] if k else 0, ends[k], axis), variadic=True)
def _concatenate(*arrays: Array, axis: int, ends: tuple[int, ...]) -> Array:
    return np.concatenate(arrays, axis)


@implements(np.concatenate, np.concat)
def concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Any:
    """np.concatenate."""
    if axis is None:
        arrays, axis = [np.reshape(a, -1) for a in arrays], 0
    shapes = [np.shape(getattr(a, "_data", a)) for a in arrays]
    ends = tuple(accumulate(s[axis] for s in shapes if -len(s) <= axis < len(s)))
    return _concatenate(*arrays, axis=axis, ends=ends)


@primitive(lambda g, y, k, arrays, *, axis: g[(*(slice(None),) * (axis % g.ndim), k)], variadic=True)
def _stack(*arrays: Array, axis: int) -> Array:
    return np.stack(arrays, axis)


@implements(np.stack)
def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    """np.stack."""
    return _stack(*arrays, axis=axis)


@implements(np.vstack)
def vstack(tup: Sequence[Any]) -> Any:
    """np.vstack."""
    return concatenate([np.reshape(a, (1, -1)) if a.ndim < 2 else a for a in tup], 0)


@implements(np.hstack)
def hstack(tup: Sequence[Any]) -> Any:
    """np.hstack."""
    return concatenate([np.reshape(a, 1) if a.ndim == 0 else a for a in tup], 0 if tup[0].ndim < 2 else 1)


@implements(np.column_stack)
def column_stack(tup: Sequence[Any]) -> Any:
    """np.column_stack: vectors become columns."""
    return concatenate([np.reshape(a, (-1, 1)) if a.ndim < 2 else a for a in tup], 1)


@primitive(lambda g, y, x, *, indices_or_sections, axis: np.concatenate(g, axis), outputs=True)
def _split(x: Array, *, indices_or_sections: Any, axis: int) -> list[Array]:
    n = x.shape[axis]
    if isinstance(indices_or_sections, int):
        if n % indices_or_sections:
            raise ValueError(f"split: an axis of {n} does not part into {indices_or_sections} equal sections.")
        width = n // indices_or_sections
        ends = list(range(width, n, width)) if width else [0] * (indices_or_sections - 1)
    else:
        ends = list(indices_or_sections)
    before = (slice(None),) * (axis % x.ndim)
    parts = [x[(*before, slice(a, b))] for a, b in zip([0, *ends], [*ends, n], strict=True)]
    if len(parts) > 2 and sum(part.shape[axis] for part in parts) != n:
        raise ValueError(f"split: the indices {ends} do not rise, so that parts overlap; take them one by one: "
                         f"t[:{ends[0]}], ...")
    return parts


@implements(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    """np.split: a list of parts; one node on the tape."""
    if not isinstance(indices_or_sections, (int, np.integer)):
        indices_or_sections = tuple(indices_or_sections)
    return _split(ary, indices_or_sections=indices_or_sections, axis=axis)


@implements(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    """np.array_split: parts as equal as possible."""
    if isinstance(indices_or_sections, (int, np.integer)):
        n, k = ary.shape[axis], indices_or_sections
        indices_or_sections = list(accumulate(n // k + (i < n % k) for i in range(k)))[:-1]
    return split(ary, indices_or_sections, axis)


@primitive(lambda g, y, x, *, axis: np.stack(g, axis), outputs=True)
def _unstack(x: Array, *, axis: int) -> list[Array]:
    return list(np.moveaxis(x, axis, 0))


@implements(np.unstack)
def unstack(x: Any, *, axis: int = 0) -> Any:
    """np.unstack: the slices along an axis, as a list; one node on the tape."""
    return _unstack(x, axis=axis)


# ---------------------------------------------------------------------------------------------------------------
# Padding and triangles
# ---------------------------------------------------------------------------------------------------------------


@primitive(lambda g, y, x, *, pad_width, value: g[tuple(
    slice(before, before + n) for (before, _), n in zip(pad_width, x.shape, strict=True))])
def _pad(x: Array, *, pad_width: tuple[tuple[int, int], ...], value: float) -> Array:
    return np.pad(x, pad_width, constant_values=value)


@implements(np.pad)
def pad(array: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0.0) -> Any:
    """np.pad with constant, edge, reflect, symmetric or wrap mode.

    Raises:
        ValueError: another mode.
    """
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap"):
        raise ValueError("np.pad on Tensors knows the modes constant, edge, reflect, symmetric and wrap, "
                         f"not {mode!r}.")
    widths = np.broadcast_to(np.asarray(pad_width), (array.ndim, 2)).tolist()
    if mode == "constant":
        return _pad(array, pad_width=tuple((int(b), int(a)) for b, a in widths), value=constant_values)
    for axis, (before, after) in enumerate(widths):  # every other mode is a gather along each axis
        source = np.pad(np.arange(array.shape[axis]), (before, after), mode=mode)  # type: ignore[call-overload]
        array = np.take(array, source, axis=axis)
    return array


@implements(np.tril)
def tril(m: Any, k: int = 0) -> Any:
    """np.tril."""
    return np.where(np.tri(*m.shape[-2:], k=k, dtype=bool), m, np.zeros((), m.dtype))  # type: ignore[call-overload]


@implements(np.triu)
def triu(m: Any, k: int = 0) -> Any:
    """np.triu."""
    return np.where(np.tri(*m.shape[-2:], k=k - 1, dtype=bool), np.zeros((), m.dtype), m)  # type: ignore[call-overload]


@implements(np.diagonal)
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """np.diagonal, as a gather."""
    a = np.moveaxis(a, (axis1, axis2), (-2, -1))
    rows, columns = a.shape[-2:]
    n = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    i = np.arange(n)
    return a[..., i - min(offset, 0), i + max(offset, 0)]


@implements(np.linalg.diagonal)
def linalg_diagonal(x: Any, *, offset: int = 0) -> Any:
    """np.linalg.diagonal: of the last two axes."""
    return diagonal(x, offset, -2, -1)


@implements(np.diag)
def diag(v: Any, k: int = 0) -> Any:
    """np.diag: the diagonal of a matrix, or the matrix of a diagonal.

    Raises:
        ValueError: neither a matrix nor a vector.
    """
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ValueError(f"np.diag takes a vector or a matrix, not shape {v.shape}.")
    n = v.shape[0] + abs(k)
    column = np.pad(v, (max(k, 0), max(-k, 0)))
    return np.where(np.eye(n, k=k, dtype=bool), np.broadcast_to(column, (n, n)), np.zeros((), v.dtype))

"""Derivatives of sums, products, extrema and cumulative functions.

Conventions: `max` and `min` share the gradient evenly among tied entries; `norm` and `std` have gradient 0 where they
are 0; `prod` is exact with any number of zeros, to any order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..primitive import Primitive, constant, implements, primitive

Array = NDArray[Any]
Axis = int | tuple[int, ...] | None


def normalize_axis(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes as a tuple of non-negative ints; None means all."""
    if axis is None:
        return tuple(range(ndim))
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    for a in axes:
        if not -ndim <= a < ndim:
            raise np.exceptions.AxisError(a, ndim)
    normal = tuple(int(a) % ndim for a in axes)
    if len(set(normal)) != len(normal):
        raise ValueError(f"axis {axis} names an axis twice.")
    return normal


def kept_shape(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """The shape after reducing over `axis` with keepdims."""
    axes = normalize_axis(axis, len(shape))
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def count(shape: tuple[int, ...], axis: Axis) -> int:
    """How many entries a reduction over `axis` takes together."""
    return math.prod(shape[i] for i in normalize_axis(axis, len(shape)))


def spread(g: Any, shape: tuple[int, ...], axis: Axis) -> Any:
    """A reduced cotangent with its axes put back, ready to broadcast against an array of `shape`."""
    return np.reshape(g, kept_shape(shape, axis))


# ---------------------------------------------------------------------------------------------------------------
# Sums
# ---------------------------------------------------------------------------------------------------------------


@primitive(lambda g, y, x, *, axis, keepdims: np.broadcast_to(spread(g, x.shape, axis), x.shape))
def _sum(x: Array, *, axis: Axis, keepdims: bool) -> Any:
    return np.sum(x, axis=axis, keepdims=keepdims)


@implements(np.sum)
def sum_(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """np.sum."""
    return _sum(a, axis=axis, keepdims=keepdims)


def shared(g: Any, n: int) -> Any:
    """g / n, in two steps where n is more than a float16 can hold."""
    return g / max(n, 1) if n < 2**15 or g.dtype != np.float16 else g / 2**15 / (n / 2**15)


@primitive(lambda g, y, x, *, axis, keepdims:
           np.broadcast_to(spread(shared(g, count(x.shape, axis)), x.shape, axis), x.shape))
def _mean(x: Array, *, axis: Axis, keepdims: bool) -> Any:
    return np.mean(x, axis=axis, keepdims=keepdims)


@implements(np.mean)
def mean(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """np.mean."""
    return _mean(a, axis=axis, keepdims=keepdims)


def twice_over(n: float) -> float:
    """2 / n, and NaN like the variance itself where no degree of freedom is left."""
    return 2.0 / n if n > 0 else math.nan


@primitive(lambda g, y, x, *, axis, ddof, keepdims:
           spread(g * twice_over(count(x.shape, axis) - ddof), x.shape, axis) * (x - mean(x, axis, keepdims=True)))
def _var(x: Array, *, axis: Axis, ddof: float, keepdims: bool) -> Any:
    return np.var(x, axis=axis, ddof=ddof, keepdims=keepdims)


@implements(np.var)
def var(a: Any, axis: Axis = None, *, ddof: float = 0, keepdims: bool = False) -> Any:
    """np.var, in two passes."""
    return _var(a, axis=axis, ddof=ddof, keepdims=keepdims)


def safe_sqrt(x: Any) -> Any:
    """sqrt with gradient 0 at 0, where the true one does not exist."""
    return np.where(x == 0, 0.0, np.sqrt(np.where(x == 0, 1.0, x)))


@implements(np.std)
def std(a: Any, axis: Axis = None, *, ddof: float = 0, keepdims: bool = False) -> Any:
    """np.std; the gradient of a constant vector is 0."""
    return safe_sqrt(var(a, axis, ddof=ddof, keepdims=keepdims))


@implements(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Any:
    """np.linalg.norm for vectors (ord 1, 2, inf or any p > 0) and the Frobenius norm; gradient 0 at a zero vector.

    Of an order below 1 the slope is infinite at a zero entry; it is taken as 0.

    Raises:
        ValueError: a matrix norm other than Frobenius, or an order that is not positive.
    """
    if ord in (None, "fro"):
        ord = 2
    elif ord == "nuc" or (len(normalize_axis(axis, x.ndim)) > 1 and axis is not None) or (axis is None and x.ndim > 1):
        raise ValueError(f"norm of a matrix on Tensors knows the Frobenius norm only, not ord={ord!r}.")
    if not ord > 0:
        raise ValueError(f"norm on Tensors knows positive orders only, not ord={ord!r}.")
    if ord == math.inf:
        return max_(abs(x), axis, keepdims=keepdims)
    if ord == 1:
        return sum_(abs(x), axis, keepdims=keepdims)
    if ord == 2:
        scale = np.max(np.abs(getattr(x, "_data", x)), axis=axis, keepdims=True, initial=0.0)
        scale = np.where((scale > 0) & np.isfinite(scale), scale, np.ones((), scale.dtype))
        length = safe_sqrt(sum_(np.square(x / scale), axis, keepdims=True)) * scale
        return length if keepdims else np.squeeze(length, normalize_axis(axis, x.ndim))
    powers = np.where(x == 0, 0.0, abs(np.where(x == 0, 1.0, x)) ** float(ord))  # an order below 1 has no slope at 0
    total = sum_(powers, axis, keepdims=keepdims)
    return np.where(total == 0, 0.0, np.where(total == 0, 1.0, total) ** (1.0 / ord))


@implements(np.trace)
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """np.trace."""
    return sum_(np.diagonal(a, offset, axis1, axis2), -1)


@implements(np.average)
def average(a: Any, axis: Axis = None, weights: Any = None, *, keepdims: bool = False) -> Any:
    """np.average; weights of a's shape, or one-dimensional along `axis`."""
    if weights is None:
        return mean(a, axis, keepdims=keepdims)
    if np.shape(weights) != a.shape:
        if not isinstance(axis, int):
            raise ValueError("np.average: weights of another shape need one int axis.")
        weights = np.reshape(weights, [-1 if i == axis % a.ndim else 1 for i in range(a.ndim)])
    return sum_(a * weights, axis, keepdims=keepdims) / sum_(np.broadcast_to(weights, a.shape), axis, keepdims=keepdims)


# ---------------------------------------------------------------------------------------------------------------
# Products
# ---------------------------------------------------------------------------------------------------------------


def product_of_others(x: Any, axis: Axis) -> Any:
    """For each entry the product of the others along `axis`: prefix times suffix, no division, so zeros are fine."""
    if not x.size:
        return np.ones(x.shape, x.dtype)
    axes = normalize_axis(axis, x.ndim)
    rest = [i for i in range(x.ndim) if i not in axes]
    flat = np.reshape(np.transpose(x, (*rest, *axes)), (*(x.shape[i] for i in rest), -1))
    one = np.ones((*flat.shape[:-1], 1), x.dtype)
    before = cumprod(np.concatenate([one, flat[..., :-1]], -1), -1)
    after = np.flip(cumprod(np.concatenate([one, np.flip(flat, -1)[..., :-1]], -1), -1), -1)
    others = np.reshape(before * after, [x.shape[i] for i in (*rest, *axes)])
    return np.transpose(others, np.argsort((*rest, *axes)).tolist())


@primitive(lambda g, y, x, *, axis, keepdims: spread(g, x.shape, axis) * product_of_others(x, axis))
def _prod(x: Array, *, axis: Axis, keepdims: bool) -> Any:
    return np.prod(x, axis=axis, keepdims=keepdims)


@implements(np.prod)
def prod(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """np.prod; derivatives are exact with one zero, two zeros, and to second order."""
    return _prod(a, axis=axis, keepdims=keepdims)


# ---------------------------------------------------------------------------------------------------------------
# Extrema
# ---------------------------------------------------------------------------------------------------------------


def _shares(x: Array, y: Array, *, axis: Axis) -> Any:
    # in float64: the number of ties may be more than a float16 can hold
    extremum = spread(y, x.shape, axis)
    tied = (x == extremum) | ((x != x) & (extremum != extremum))
    return (tied / np.maximum(np.sum(tied, axis=axis, keepdims=True), 1)).astype(x.dtype)


_evenly = Primitive("evenly", _shares)


def evenly(y: Any, x: Any, axis: Axis) -> Any:
    """For each entry its share of the extremum's gradient: 1 / ties for the tied, 0 for the others. A constant."""
    return _evenly(x, y, axis=axis)


@primitive(lambda g, y, x, *, axis, keepdims: spread(g, x.shape, axis) * evenly(y, x, axis))
def _max(x: Array, *, axis: Axis, keepdims: bool) -> Any:
    return np.max(x, axis=axis, keepdims=keepdims)


@primitive(lambda g, y, x, *, axis, keepdims: spread(g, x.shape, axis) * evenly(y, x, axis))
def _min(x: Array, *, axis: Axis, keepdims: bool) -> Any:
    return np.min(x, axis=axis, keepdims=keepdims)


@implements(np.max, np.amax)
def max_(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """np.max; tied entries share the gradient evenly."""
    return _max(a, axis=axis, keepdims=keepdims)


@implements(np.min, np.amin)
def min_(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """np.min; tied entries share the gradient evenly."""
    return _min(a, axis=axis, keepdims=keepdims)


@implements(np.ptp)
def ptp(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """np.ptp: the maximum minus the minimum."""
    return max_(a, axis, keepdims=keepdims) - min_(a, axis, keepdims=keepdims)


constant(np.argmax, np.argmin, np.any, np.all, np.count_nonzero, np.argsort, np.searchsorted)

# ---------------------------------------------------------------------------------------------------------------
# Cumulative
# ---------------------------------------------------------------------------------------------------------------


@primitive(lambda g, y, x, *, axis: np.flip(np.cumsum(np.flip(g, axis), axis), axis))
def _cumsum(x: Array, *, axis: int) -> Array:
    return np.cumsum(x, axis=axis)


@implements(np.cumsum)
def cumsum(a: Any, axis: int | None = None) -> Any:
    """np.cumsum; flattens when `axis` is None."""
    return _cumsum(np.reshape(a, -1), axis=0) if axis is None else _cumsum(a, axis=axis)


def cumprod_slope(g: Any, y: Any, x: Any, axis: int) -> Any:
    """The cotangent of cumprod's argument, exact at zeros.

    dL/dx_j is the sum over k >= j of g_k times the product of x_i, i <= k, i != j. All these products are laid out as
    a cumprod over a square (k, j) in which the diagonal is replaced by ones: n² memory, no division.
    """
    n = x.shape[axis]
    rows = np.expand_dims(np.moveaxis(x, axis, -1), -1)  # (..., k, 1)
    square = np.where(np.eye(n, dtype=bool), 1.0, rows)  # (..., k, j)
    products = _cumprod(square, axis=-2) * np.tri(n, dtype=x.dtype)
    others = np.sum(np.expand_dims(np.moveaxis(g, axis, -1), -1) * products, axis=-2)
    return np.moveaxis(others, -1, axis)


@primitive(lambda g, y, x, *, axis: cumprod_slope(g, y, x, axis))
def _cumprod(x: Array, *, axis: int) -> Array:
    return np.cumprod(x, axis=axis)


@implements(np.cumprod)
def cumprod(a: Any, axis: int | None = None) -> Any:
    """np.cumprod; flattens when `axis` is None. The derivative is exact at zeros, and takes n² memory."""
    return _cumprod(np.reshape(a, -1), axis=0) if axis is None else _cumprod(a, axis=axis)


@implements(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1) -> Any:
    """np.diff: the n-th difference along an axis."""
    for _ in range(n):
        size = a.shape[axis]
        index: list[Any] = [slice(None)] * a.ndim
        index[axis] = slice(1, None)
        later = a[tuple(index)]
        index[axis] = slice(0, size - 1)
        a = later - a[tuple(index)]
    return a

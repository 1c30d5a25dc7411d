"""Derivatives of products of matrices and tensors.

The gradient of a weight that is used at every time step is a sum of small products, `Σ_t h_tᵀ dz_t`. They are deferred
and become one product of the stacked rows, when all are there.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..accumulate import Deferred, lies_swapped, unbroadcast
from ..primitive import implements, primitive
from ..recording import LOCAL

Array = NDArray[Any]

# ---------------------------------------------------------------------------------------------------------------
# matmul
# ---------------------------------------------------------------------------------------------------------------


def transposed(a: Any) -> Any:
    """The last two axes swapped."""
    return a.T if a.ndim == 2 else np.swapaxes(a, -1, -2)


def rows_of(a: Any) -> Any:
    """A stack of matrices as one tall matrix."""
    return np.reshape(a, (math.prod(a.shape[:-1]), a.shape[-1])) if a.ndim > 2 else a


def matmul_left(g: Any, a: Any, b: Any) -> Any:
    """The cotangent of a in y = a @ b, for vectors, matrices and stacks of them."""
    if a.ndim >= 2 and b.ndim == 2:
        return matmul(g, b.T)
    if b.ndim == 1:
        return np.expand_dims(g, -1) * b
    if a.ndim == 1:  # y[..., n] = sum_k a[k] b[..., k, n]
        return np.sum(np.expand_dims(g, -2) * b, axis=-1)
    return matmul(g, transposed(b))


def matmul_right(g: Any, a: Any, b: Any) -> Any:
    """The cotangent of b in y = a @ b; for a matrix b, deferred until all its uses are there."""
    if b.ndim == 2 and a.ndim >= 2:
        return Deferred(settle_products, a, g)
    if b.ndim == 1:
        return np.sum(np.expand_dims(g, -1) * a, axis=-2) if a.ndim > 1 else g * a
    if a.ndim == 1:
        return np.expand_dims(a, -1) * np.expand_dims(g, -2)
    return matmul(transposed(a), g)


def settle_products(items: list[Any]) -> Any:
    """Σ aᵀ g over all uses of a weight, with the rows of all uses stacked: one product."""
    rows = [(rows_of(a), rows_of(g)) for a, g in map(in_memory_order, items)]
    a, g = rows[0] if len(rows) == 1 else (np.concatenate([a for a, _ in rows]), np.concatenate([g for _, g in rows]))
    return matmul(a.T, g)


def in_memory_order(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    """Both of a pair with their first two axes swapped, if one of them lies so in memory."""
    a, g = pair
    return (np.swapaxes(a, 0, 1), np.swapaxes(g, 0, 1)) if lies_swapped(a) or lies_swapped(g) else pair


@implements(np.matmul)
@primitive(lambda g, y, a, b: matmul_left(g, a, b),
           lambda g, y, a, b: matmul_right(g, a, b))
def matmul(a: Array, b: Array) -> Any:
    """np.matmul.

    A stack of matrices times one matrix is one large product, which NumPy would do piece by piece. A few rows times a
    transposed matrix, as in `dz @ U.T` at every time step, is done from the other side, which BLAS does faster.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim > 2 and b.ndim == 2:
        if lies_swapped(a):
            return matmul.forward(a.swapaxes(0, 1), b).swapaxes(0, 1)
        return matmul.forward(rows_of(a), b).reshape(*a.shape[:-1], b.shape[-1])
    if a.ndim == b.ndim == 2 and 1 < len(a) <= 128 and b.flags.f_contiguous and not b.flags.c_contiguous:
        return np.ascontiguousarray((b.T @ a.T).T)
    return a @ b


def linear_slopes(g: Any, x: Any, weight: Any, bias_shape: tuple[int, ...]) -> list[Any]:
    """The cotangents of x, weight and bias in y = x @ weight + bias.

    Where g is much wider than x, as over a vocabulary, a 1 is appended to each row of x: then one product gives both
    Σ xᵀ g and Σ g, in the last row. It is taken as well where only the bias has a gradient, for the same bits.
    """
    left = functools.partial(matmul_left, g, x, weight)
    if weight.ndim != 2 or x.ndim < 2 or bias_shape != weight.shape[1:] or weight.shape[1] < 8 * weight.shape[0]:
        return [left, functools.partial(matmul_right, g, x, weight), g]
    product = functools.cache(lambda: settle_products([(with_ones(x), g)]))
    return [left, Deferred(settle_weights, x, g, product), Deferred(settle_biases, g, product)]


def with_ones(x: Any) -> Any:
    """x with a 1 appended to each row."""
    return np.concatenate([x, np.ones((*x.shape[:-1], 1), x.dtype)], axis=-1)


def settle_weights(items: list[Any]) -> Any:
    """Σ xᵀ g over all uses of a weight."""
    return items[0][2]()[:-1] if len(items) == 1 else settle_products([(x, g) for x, g, _ in items])


def settle_biases(items: list[Any]) -> Any:
    """Σ g over all uses of a bias; an array of its own, or it would keep the weight's gradient in memory."""
    if len(items) == 1:
        return np.positive(items[0][1]()[-1])
    return functools.reduce(operator.add, (unbroadcast(g, shape=g.shape[-1:]) for g, _ in items))


@primitive(lambda g, y, x, weight, bias: linear_slopes(g, x, weight, bias.shape), joint=True)
def _linear(x: Array, weight: Array, bias: Array) -> Any:
    y = np.asarray(matmul.forward(x, weight), np.result_type(x, weight, bias))
    return np.add(y, bias, out=y)


def linear(x: Any, weight: Any, bias: Any) -> Any:
    """x @ weight + bias as one operation, which adds the bias in place: over a large vocabulary, a second array of
    logits costs time. A loop that is being compiled gets the product and the sum, which it can move.

    Shapes: x (..., in), weight (in, out), bias (out), or what broadcasts to the product; if it
    does not, ValueError.
    """
    if LOCAL.state.tracing or not hasattr(bias, "shape"):
        return matmul(x, weight) + bias
    return _linear(x, weight, bias)


# ---------------------------------------------------------------------------------------------------------------
# einsum and what is written with it
# ---------------------------------------------------------------------------------------------------------------


def explicit(subscripts: str, ndims: Sequence[int]) -> tuple[list[str], str]:
    """The letters of each operand and of the output, with `...` spelled out by capital letters."""
    subscripts = subscripts.replace(" ", "")
    left, arrow, right = subscripts.partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise ValueError(f"einsum {subscripts!r} names {len(terms)} operands but got {len(ndims)}.")
    used = set(subscripts)
    free = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in used]
    extra = [n - len(t.replace("...", "")) if "..." in t else 0 for t, n in zip(terms, ndims, strict=True)]
    widest = max(extra, default=0)
    dots = free[:widest]
    terms = [t.replace("...", "".join(dots[widest - e:])) for t, e in zip(terms, extra, strict=True)]
    if arrow:
        if widest and "..." not in right:
            raise ValueError(f"einsum {subscripts!r}: the axes of ... are left out of the output; write ... there too, "
                             "or letters for those that are summed.")
        right = right.replace("...", "".join(dots))
    else:
        letters = "".join(terms)
        right = "".join(dots) + "".join(sorted(c for c in set(letters) - set(dots) if letters.count(c) == 1))
    return terms, right


def einsum_rule(g: Any, y: Any, k: int, operands: Sequence[Any], *, subscripts: str) -> Any:
    """The cotangent of operand k: einsum of the others with g, traces laid back on diagonals, free sums spread."""
    left, _, right = subscripts.partition("->")
    terms = left.split(",")
    mine, shape = terms[k], operands[k].shape
    others = [t for i, t in enumerate(terms) if i != k]
    # letters that only this operand has, and repeats of a letter, cannot come out of an einsum
    known = set(right).union(*others) if others else set(right)
    letters = [c for i, c in enumerate(mine) if c in known and c not in mine[:i]]
    size = {c: n for i, t in enumerate(terms) for c, n in zip(t, operands[i].shape, strict=True) if n != 1}
    part = _einsum(g, *(o for i, o in enumerate(operands) if i != k),
                   subscripts=",".join([right, *others]) + "->" + "".join(letters))
    # spread over the letters that were summed freely
    distinct = list(dict.fromkeys(mine))
    part = np.reshape(part, [part.shape[letters.index(c)] if c in letters else 1 for c in distinct])
    part = np.broadcast_to(part, [size.get(c, 1) if part.shape[i] == 1 else part.shape[i]
                                  for i, c in enumerate(distinct)])
    # lay repeated letters on the diagonal
    for i, c in enumerate(mine):
        if c in mine[:i]:
            axis = mine.index(c)
            part = np.expand_dims(part, i)
            n = size.get(c, 1)
            on_diagonal = np.eye(n, dtype=bool).reshape([n if j in (axis, i) else 1 for j in range(part.ndim)])
            part = np.where(on_diagonal, part, 0.0)
    assert part.ndim == len(shape)
    return part


@primitive(einsum_rule, variadic=True)
def _einsum(*operands: Array, subscripts: str) -> Any:
    return np.einsum(subscripts, *operands, optimize=len(operands) > 1)


@implements(np.einsum)
def einsum(subscripts: str, *operands: Any, optimize: Any = True) -> Any:
    """np.einsum with a subscripts string: products, traces, free sums, `...`."""
    if not isinstance(subscripts, str):
        raise TypeError("einsum on Tensors takes its subscripts as a string, such as 'ij,jk->ik'.")
    terms, right = explicit(subscripts, [np.ndim(getattr(o, "_data", o)) for o in operands])
    return _einsum(*operands, subscripts=",".join(terms) + "->" + right)


@implements(np.dot)
def dot(a: Any, b: Any) -> Any:
    """np.dot: inner product of vectors, matrix product, or a sum over a's last and b's second to last axis."""
    a_ndim, b_ndim = np.ndim(getattr(a, "_data", a)), np.ndim(getattr(b, "_data", b))
    if a_ndim == 0 or b_ndim == 0:
        return a * b
    if a_ndim <= 2 and b_ndim <= 2:
        return matmul(a, b)
    return tensordot(a, b, axes=((a_ndim - 1,), (max(b_ndim - 2, 0),)))


@implements(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """np.tensordot: the sum over pairs of axes, as one matrix product."""
    a, b = (t if hasattr(t, "ndim") else np.asarray(t) for t in (a, b))
    if isinstance(axes, int):
        left, right = list(range(a.ndim - axes, a.ndim)), list(range(axes))
    else:
        left, right = ([int(i)] if np.ndim(i) == 0 else list(i) for i in axes)
    left, right = [i % a.ndim for i in left], [i % b.ndim for i in right]
    if len(left) != len(right) or any(a.shape[i] != b.shape[j] for i, j in zip(left, right, strict=False)):
        raise ValueError(f"tensordot: shapes {a.shape} and {b.shape} do not fit along axes {left} and {right}.")
    rest_a = [i for i in range(a.ndim) if i not in left]
    rest_b = [j for j in range(b.ndim) if j not in right]
    summed = int(np.prod([a.shape[i] for i in left], dtype=np.int64))
    rows = int(np.prod([a.shape[i] for i in rest_a], dtype=np.int64))
    columns = int(np.prod([b.shape[j] for j in rest_b], dtype=np.int64))
    product = matmul(np.reshape(np.transpose(a, rest_a + left), (rows, summed)),
                     np.reshape(np.transpose(b, right + rest_b), (summed, columns)))
    return np.reshape(product, [a.shape[i] for i in rest_a] + [b.shape[j] for j in rest_b])


@implements(np.outer, np.linalg.outer)
def outer(a: Any, b: Any) -> Any:
    """np.outer: both are flattened."""
    return np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1))


@implements(np.inner)
def inner(a: Any, b: Any) -> Any:
    """np.inner: the sum over the last axes."""
    a_ndim, b_ndim = np.ndim(getattr(a, "_data", a)), np.ndim(getattr(b, "_data", b))
    return a * b if a_ndim == 0 or b_ndim == 0 else tensordot(a, b, axes=((-1,), (-1,)))


@implements(np.vdot)
def vdot(a: Any, b: Any) -> Any:
    """np.vdot: the inner product of both, flattened."""
    return np.sum(np.reshape(a, -1) * np.reshape(b, -1))

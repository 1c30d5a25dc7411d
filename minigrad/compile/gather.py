"""Embedding, then projection: with few symbols, project the table and gather.

`E[ids] @ W + b` multiplies a row for every symbol of the text; `(E @ W + b)[ids]` one for every symbol of the
vocabulary. The gradient is a scatter into the table's rows, and the gradient of the gathered inputs is never made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..primitive import Primitive
from ..rules.indexing import _gather, add_rows
from ..rules.shape import _swapaxes
from ..tape import PASSED_BY, Node, Variable
from ..tensor import Tensor
from .kernel_cache import choose_kernels, load_module

# Adding up fewer entries than this is not worth loading a kernel for.
LEAST_ENTRIES = 50_000

ADD_ROWS = '''\
"""Generated."""
from numba import njit, types

KINDS = [types.void(types.Array(kind, 2, "C"), types.Array(types.intp, 1, "C", readonly=True),
                    types.Array(kind, 2, "C", readonly=True)) for kind in (types.float32, types.float64)]


@njit(KINDS, cache=CACHE, nogil=True, boundscheck=False)
def add_rows(target, rows, values):
    for i in range(rows.shape[0]):
        row = rows[i]
        for k in range(values.shape[1]):
            target[row, k] += values[i, k]
'''


def _scatter_rows(g: Any, *, index: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of `shape` to whose rows those of `g` are added."""
    out = np.zeros(shape, g.dtype)
    if g.size >= LEAST_ENTRIES and g.dtype in (np.float32, np.float64) and choose_kernels() \
            and index.min() >= -len(out) and index.max() < len(out):
        rows = np.ascontiguousarray(index, np.intp).reshape(-1)
        load_module(ADD_ROWS).add_rows(out, rows, np.ascontiguousarray(g).reshape(len(rows), -1))
    else:
        add_rows(out, index, g)
    return out


_GATHER: Primitive = Primitive("getitem", lambda x, *, index: x[index],
                    [lambda g, y, x, *, index: _SCATTER(g, index=index, shape=x.shape)])
_SCATTER: Primitive = Primitive("scatter", _scatter_rows, [lambda g, y, x, *, index, shape: _GATHER(g, index=index)])


def rows_first(f: Callable[[Any], Any], x: Any) -> Any:
    """f(x), where f works on each row (the last axis) alone.

    If `x` was gathered from the rows of a table with fewer rows, f is applied to the table and the result gathered. No
    gradient arrives at `x` then; `mg.grad` says so.
    """
    found = table_of(x)
    if found is None:
        return f(x)
    table, index, past = found
    made = _GATHER(f(table), index=index)
    if made.node is not None:
        PASSED_BY[made.node] = past
    return made


def table_of(x: Any) -> tuple[Tensor, Any, tuple[Node, ...]] | None:
    """The table and the indices that `x` was gathered from, looking through swapped axes; None if it was not.

    And what made it, step by step from `x` back to the table.
    """
    if not isinstance(x, Tensor):
        return None
    swaps, past = [], []
    node = x.node
    while type(node) is Node and node.primitive is _swapaxes:
        axes = node.metadata["axis1"] % len(node.shape), node.metadata["axis2"] % len(node.shape)
        if len(node.shape) - 1 in axes:
            return None
        swaps.append(axes)
        past.append(node)
        node = node.inputs[0]
    if type(node) is not Node or node.primitive is not _gather:
        return None
    table, index = node.inputs[0], node.metadata["index"]
    if not isinstance(table, Variable) or not isinstance(table, Tensor) or table.ndim != 2 \
            or not isinstance(index, np.ndarray) or index.dtype.kind not in "iu":
        return None  # the value of a table that was computed is not kept
    if len(table._data) >= math.prod(index.shape):
        return None
    for axes in reversed(swaps):
        index = np.swapaxes(index, *axes)
    if not np.array_equal(x._data, table._data[index]):
        return None  # the table was assigned to after x was gathered
    return table, index, (*past, node)

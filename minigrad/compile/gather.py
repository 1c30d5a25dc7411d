"""Embedding, then projection: with few symbols, project the table and gather.

`E[ids] @ W + b` multiplies a row for every symbol of the text; `(E @ W + b)[ids]` one for every symbol of the
vocabulary. The gradient is a scatter into the table's rows, and the gradient of the gathered inputs is never made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..rules.indexing import _gather, getitem
from ..rules.shape import _swapaxes
from ..tape import Node, Variable
from ..tensor import Tensor


def rows_first(f: Callable[[Any], Any], x: Any) -> Any:
    """f(x), where f works on each row (the last axis) alone.

    If `x` was gathered from the rows of a table with fewer rows, f is applied to the table and the result gathered.
    """
    found = table_of(x)
    return f(x) if found is None else getitem(f(found[0]), found[1])


def table_of(x: Any) -> tuple[Tensor, Any] | None:
    """The table and the indices that `x` was gathered from, looking through swapped axes; None if it was not."""
    if not isinstance(x, Tensor):
        return None
    swaps = []
    node = x.node
    while type(node) is Node and node.primitive is _swapaxes:
        axes = node.metadata["axis1"] % len(node.shape), node.metadata["axis2"] % len(node.shape)
        if len(node.shape) - 1 in axes:
            return None
        swaps.append(axes)
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
    return table, index

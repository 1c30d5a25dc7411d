"""scan: the loop over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .tape import scope
from .tree import tree_leaves, tree_map

Step = Callable[[Any, Any], tuple[Any, Any]]


def scan(step: Step, state: Any, inputs: Any, reverse: bool = False) -> tuple[Any, Any]:
    """Apply `step` to each time step in turn, carrying a state along.

        state, outputs[t] = step(state, inputs[t])        for t = 0 … T-1

    Args:
        step: `step(state, x) -> (state, y)`, a pure function; `state`, `x` and `y` are Tensors or trees of them.
        state: the initial state.
        inputs: a Tensor or a tree of Tensors, each with time as its first axis: (T, ...).
        reverse: go from the last step to the first; `outputs[t]` still belongs to `inputs[t]`.

    Returns:
        (final state, outputs): the outputs stacked along a first axis of length T.

    Raises:
        ValueError: no inputs, no time steps, or inputs of different lengths.
    """
    leaves = tree_leaves(inputs)
    lengths = {len(x) for x in leaves}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"scan needs inputs with the same number of time steps, at least one; got {sorted(lengths)}.")
    (length,) = lengths
    slices = [np.unstack(x) for x in leaves]
    outputs: list[Any] = [None] * length
    for t in reversed(range(length)) if reverse else range(length):
        parts = iter([s[t] for s in slices])
        x = tree_map(lambda _, parts=parts: next(parts), inputs)
        with scope(f"t = {t + 1}", step=t + 1):
            state, outputs[t] = step(state, x)
    return state, tree_map(lambda *ys: np.stack(ys), *outputs)

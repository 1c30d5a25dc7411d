"""Steps that need not be traced at every call.

A trace runs the step once in Python, to see what it does today; for the few steps of a short sequence that is a good
part of the time. Who knows that a step always does the same says so with `Alike`: then its trace is remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tensor import Tensor
from ..tree import tree_leaves, tree_map
from .trace import Step, Trace, differentiable, structure

Array = NDArray[Any]
SIZE = 256
_REMEMBERED: OrderedDict[Any, tuple[Any, list[int], Any, Any]] = OrderedDict()


class Alike:
    """A step that does the same operations whenever `key` is the same, and all shapes and dtypes are.

    Args:
        step: the step itself.
        key: what decides what it does, the code of the step among it. If it cannot be hashed, nothing is remembered.
        closures: the Tensors that it may use from outside, always in the same order.
    """

    __slots__ = ("closures", "key", "step")

    def __init__(self, step: Step, key: Hashable, closures: Sequence[Tensor]) -> None:
        self.step, self.key, self.closures = step, key, closures

    def __call__(self, state: Any, x: Any) -> tuple[Any, Any]:
        return self.step(state, x)


class Recalled:
    """What a trace would say, with the closures of this call; the attributes of a `Trace`."""

    def __init__(self, key: Any, closures: list[Tensor], new_state: Any, y: Any) -> None:
        self.key, self.new_state, self.y = key, new_state, y
        self.sources: list[Any] = [t.origin or t for t in closures]
        self.values: list[Array] = [t._data for t in closures]
        self.differentiable = tuple(map(differentiable, self.sources))


def recall(step: Step, state: Any, inputs: Any) -> Recalled | None:
    """A trace of `step` for such arguments, if there has been one."""
    if not isinstance(step, Alike):
        return None
    try:
        known = _REMEMBERED.get(_key(step, state, inputs))
    except TypeError:
        return None
    if known is None:
        return None
    key, places, new_state, y = known
    return Recalled(key, [step.closures[k] for k in places], new_state, y)


def remember(step: Step, state: Any, inputs: Any, found: Trace) -> None:
    """Keep what a trace has found for the next call, if all it uses from outside is among the step's closures."""
    if not isinstance(step, Alike) or found.suspects:
        return
    place = {id(t.origin or t): k for k, t in enumerate(step.closures)}
    if any(id(source) not in place for source in found.sources):
        return
    places = [place[id(source)] for source in found.sources]
    try:
        _REMEMBERED[_key(step, state, inputs)] = (
            found.key, places, tree_map(lambda _: None, found.new_state), tree_map(lambda _: None, found.y))
    except TypeError:
        return
    while len(_REMEMBERED) > SIZE:
        _REMEMBERED.popitem(last=False)


def _key(step: Alike, state: Any, inputs: Any) -> Any:
    def described(t: Any, first: int = 0) -> Any:
        data = t._data if isinstance(t, Tensor) else t
        if not isinstance(data, np.ndarray):
            raise TypeError  # a trace says what is wrong with it
        return data.shape[first:], data.dtype

    return (step.key, structure(state), structure(inputs), tuple([described(t) for t in tree_leaves(state)]),
            tuple([described(x, 1) for x in tree_leaves(inputs)]),
            tuple([(*described(t), differentiable(t.origin or t)) for t in step.closures]))

"""Gradients of values on the way: their norms, recorded while a backward runs.

    with mg.record_gradients() as gradients:
        loss.backward()
    mg.draw(loss, gradients=gradients)

`backward` keeps the gradients of leaves only. The recorder sees every cotangent pass and keeps one number
of each, under the number of its node, so it holds no array and no graph. Into a compiled loop it does not see; the
steps of such a loop are run once more for it, as plain operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any
from weakref import ReferenceType, ref

import numpy as np

from .primitive import Primitive
from .recording import watching
from .tape import Node, Variable


def _norm(g: Any) -> float:
    array = getattr(g, "_data", g)
    return float(np.sqrt(np.vdot(array, array))) if array.size else 0.0


class Gradients:
    """Norms of the gradients that a backward computed.

    Attributes:
        norms: (node number, output slot) -> norm.
        inside: for a compiled loop, by the number of its node, the norms in its steps.
    """

    def __init__(self) -> None:
        self.norms: dict[tuple[int, int], float] = {}
        self.inside: dict[int, dict[tuple[str, int, int, int], float]] = {}
        self._leaves: dict[int, tuple[ReferenceType[Variable], float]] = {}

    def copy(self) -> Gradients:
        """Another record of the same numbers."""
        new = Gradients()
        new.norms, new.inside, new._leaves = dict(self.norms), dict(self.inside), dict(self._leaves)
        return new

    def __len__(self) -> int:
        return len(self.norms)

    def of_leaf(self, leaf: Variable) -> float | None:
        """Norm of the gradient of a leaf, if it was noted with `add_leaf`."""
        # by identity: tensors compare entry by entry, and a number may be given to another object later
        known, norm = self._leaves.get(id(leaf), (None, None))
        return norm if known is not None and known() is leaf else None

    def add_leaf(self, leaf: Variable, g: Any) -> None:
        """Note the gradient of a leaf that was not added to its `.grad`."""
        self._leaves[id(leaf)] = (ref(leaf), _norm(g))

    def watch(
        self, phase: str, primitive: Primitive, node: Node | None, arguments: Sequence[Any], g: Any
    ) -> None:
        """See a cotangent pass; a watcher for `minigrad.recording.watching`."""
        if phase != "backward" or node is None:
            return
        if primitive.outputs:
            for slot, part in enumerate(g):
                self.norms[node.number, slot] = _norm(part)
        else:
            self.norms[node.number, 0] = _norm(g)
        if primitive.name == "scan":
            from .compile.inside import gradients_inside, is_compiled_scan  # not needed by those who never compile

            if is_compiled_scan(node):
                self.inside[node.number] = gradients_inside(node, arguments, g, _norm)


class record_gradients:
    """Context manager: note the norm of the gradient of every value that a backward inside passes."""

    def __init__(self) -> None:
        self._gradients = Gradients()
        self._watching = watching(self._gradients.watch)

    def __enter__(self) -> Gradients:
        self._watching.__enter__()
        return self._gradients

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.__exit__(kind, error, trace)

"""The walk back over the tape: cotangents from the outputs to the leaves, by the rules of each operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .accumulate import Deferred, fit, settle
from .recording import LOCAL
from .tape import PASSED_BY, GraphError, Node, Origin, Output, Variable, describe, leading_to, node_sources, reachable

Array = NDArray[Any]


class Gradients:
    """Cotangents under way, one per origin or leaf, added up as they arrive.

    The first sum of two allocates, later ones add in place: a cotangent that a rule handed out may be shared with
    another argument or with the tape; the sum of two is ours, and so is what was settled.

    Attributes:
        total: what has arrived so far.
        deferred: contributions that wait until all are there.
    """

    __slots__ = ("_in_place", "_owned", "deferred", "total")

    def __init__(self, in_place: bool) -> None:
        self._in_place = in_place
        self._owned: set[Any] = set()
        self.total: dict[Any, Any] = {}
        self.deferred: dict[Any, list[Deferred]] = {}

    def add(self, key: Any, g: Any) -> None:
        """Add a contribution; `g` must already have the shape and dtype of `key`."""
        total = self.total.get(key)
        if total is None:
            self.total[key] = g
        elif key in self._owned:
            np.add(total, g, out=total)
        elif self._in_place:
            self.total[key] = np.asarray(total + g)
            self._owned.add(key)
        else:
            self.total[key] = total + g

    def take(self, key: Any) -> Any:
        """The sum of all contributions to `key`, which is then forgotten; None if nothing arrived."""
        later = self.deferred.pop(key, None)
        if later is not None:
            self.add(key, fit(settle(later), key.shape, key.dtype))
            if self._in_place:
                self._owned.add(key)  # what was settled is new, and so is a sum with it
        return self.total.pop(key, None)

    def take_owned(self, key: Any) -> Array | None:
        """Like `take`, for arrays: one that nobody else holds and that may be written to."""
        g = self.take(key)
        return g if g is None or key in self._owned else np.array(g)


def backpropagate(seeds: Sequence[tuple[Origin | Variable, Any]], wanted: Sequence[Origin | Variable] | None, *,
                  create_graph: bool, retain_graph: bool, handle: Callable[[Array, Origin], Any],
                  ) -> dict[Origin | Variable, Any]:
    """Propagate cotangents from `seeds` back to the leaves, or to `wanted` only.

    Args:
        seeds: pairs of an origin (or leaf) and its cotangent: arrays, or Tensors when `create_graph`.
        wanted: where gradients are wanted; None for all leaves.
        create_graph: run the rules on Tensors, so that the gradients are themselves on the tape.
        retain_graph: keep the saved values, for another backward.
        handle: makes the Tensor that stands for an origin with a value.

    Returns:
        The gradient of each leaf, or of each of `wanted` that was reached. Arrays are not shared with anything.
    """
    nodes, outputs = reachable(origin for origin, _ in seeds if not isinstance(origin, Variable))
    keep = None if wanted is None else leading_to(nodes, wanted)
    for w in wanted or ():
        if type(w) is Node and any(w in PASSED_BY.get(node, ()) for node in nodes):
            raise GraphError(_passed_by_message(w))
    asked = set(wanted or ())
    gradients = Gradients(in_place=not create_graph)
    total, deferred = gradients.total, gradients.deferred
    found: dict[Origin | Variable, Any] = {}
    leaves: dict[Variable, None] = {}
    watchers = LOCAL.state.watchers

    def result(key: Any) -> Any:
        return gradients.take(key) if create_graph else gradients.take_owned(key)

    for origin, g in seeds:
        gradients.add(origin, g)
        if isinstance(origin, Variable):
            leaves[origin] = None
    for node in reversed(nodes):
        if keep is not None and node not in keep:
            continue
        primitive = node.primitive
        if primitive.outputs:
            gs = _cotangents_of_outputs(node, outputs.get(node, {}), gradients, asked, found, create_graph)
            if gs is None:
                continue
            g = gs
        else:
            g = gradients.take(node) if deferred else total.pop(node, None)
            if g is None:
                continue
            if node in asked:
                found[node] = g if create_graph else np.array(g)
        if keep is not None and not any(source in keep for source in node_sources(node)):
            continue
        if node.arguments is None:
            raise GraphError(_freed_message(node))
        for watcher in watchers:
            watcher("backward", primitive, node, node.arguments, g)
        y, arguments = _values(node, outputs, handle) if create_graph else (node.output, node.arguments)
        joint = primitive.rules[0](g, y, *arguments, **node.metadata) if primitive.joint else None  # type: ignore[misc]
        for k, source in enumerate(node.inputs):
            kind = type(source)
            if kind is Node or kind is Output:
                shape, dtype = source.shape, source.dtype
            elif isinstance(source, Variable):
                if source._data is not node.arguments[k] and node.arguments[k] is not source:
                    raise GraphError(_changed_message(node, source))
                if not source._requires_grad:
                    continue
                leaves[source] = None
                shape, dtype = source._data.shape, source._data.dtype
            else:
                continue
            if keep is not None and (source.node if kind is Output else source) not in keep:
                continue
            if joint is not None:
                contribution = joint[k]() if callable(joint[k]) else joint[k]
            elif primitive.variadic:
                contribution = primitive.rules[0](g, y, k, arguments, **node.metadata)  # type: ignore[misc]
            else:
                rule = primitive.rules[k]
                if rule is None:
                    continue
                contribution = rule(g, y, *arguments, **node.metadata) if node.metadata else rule(g, y, *arguments)
            if type(contribution) is not np.ndarray:
                if contribution is None:
                    continue
                if type(contribution) is Deferred:
                    deferred.setdefault(source, []).append(contribution)
                    continue
                if not create_graph:
                    contribution = np.asarray(contribution)
            if contribution.shape != shape or contribution.dtype is not dtype:
                contribution = fit(contribution, shape, dtype)
            if source in total:
                gradients.add(source, contribution)
            else:
                total[source] = contribution
        if not retain_graph:
            node.free()
    for leaf in leaves if wanted is None else dict.fromkeys(w for w in wanted if isinstance(w, Variable)):
        g = result(leaf)
        if g is not None:
            found[leaf] = g
    return found


def _cotangents_of_outputs(node: Node, used: dict[int, Output], gradients: Gradients, asked: set[Any],
                           found: dict[Any, Any], create_graph: bool) -> list[Any] | None:
    """The cotangent of each output of a node with several, zeros where none arrived; None if none did."""
    gs: list[Any] = [None] * len(node.shape)
    for slot, output in used.items():
        gs[slot] = g = gradients.take(output)
        if output in asked and g is not None:
            found[output] = g if create_graph else np.array(g)
    if all(g is None for g in gs):
        return None
    return [np.zeros(shape, dtype) if g is None else g for g, shape, dtype in zip(gs, node.shape, node.dtype,
                                                                                  strict=True)]


def _values(node: Node, outputs: dict[Node, dict[int, Output]], handle: Callable[[Array, Origin], Any],
            ) -> tuple[Any, tuple[Any, ...]]:
    """The output and the arguments of a node as Tensors that are on the tape, where their values were kept."""
    assert node.arguments is not None
    y: Any = node.output
    if y is not None and not node.primitive.joint:
        if node.primitive.outputs:
            used = outputs.get(node, {})
            y = [handle(v, used.get(k) or Output(node, k)) for k, v in enumerate(y)]
        else:
            y = handle(y, node)
    arguments = tuple(
        source if isinstance(source, Variable) else handle(value, source)
        if isinstance(source, (Node, Output)) and value is not source else value
        for source, value in zip(node.inputs, node.arguments, strict=True))
    return y, arguments


def _freed_message(node: Node) -> str:
    return (f"Backward reached {describe(node)}, but that part of the graph was already freed by an earlier backward. "
            "If this value is a state carried from one chunk of a sequence to the next, cut it: h = h.detach(), or "
            "rnn.detach(state) for a whole state. If you really want a second backward through the same graph, write "
            "loss.backward(retain_graph=True) the first time.")


def _passed_by_message(node: Node) -> str:
    return (f"No gradient arrives at {describe(node)}: its rows come from a table with fewer of them, and a layer "
            "multiplied the table's rows before they were gathered, which is faster. Write x = x * 1.0 before the "
            "layer, and ask for the gradient of that.")


def _changed_message(node: Node, changed: Variable) -> str:
    place = f" in scope {node.scope.path!r}" if node.scope else ""
    return (f"The {describe(changed)} was changed by assign() after {node.primitive.name}{place} had used it, and "
            "the gradient needs the old value. Call loss.backward() before the optimiser's step (or before "
            "assign), or compute the loss again afterwards.")

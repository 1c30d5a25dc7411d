"""Tracing: one time step, run on placeholders and written down.

The step is an ordinary Python function on Tensors, and it is run as it is. Its placeholders hold the first step's real
values, so that shapes, dtypes, branches and errors are those of the eager loop. What the step uses from outside
(weights, masks, anything made before) is found on the way and becomes an input of the program: a closure.

A program is right for all time steps only if nothing in it depends on the values of this one. So while tracing, asking
a Tensor for its values raises `Untraceable`. And whenever the trace holds arrays that are not known to come from
outside, the step is traced a second time on random values: a difference shows that a number was baked in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..primitive import Primitive
from ..recording import LOCAL, Scope, Untraceable, recording, scope, watching
from ..scan import pair
from ..tape import Node, Output, Variable
from ..tensor import Tensor, handle
from ..tree import tree_leaves, tree_map
from .program import Instruction, Program, Value, frozen

Array = NDArray[Any]
Step = Callable[[Any, Any], tuple[Any, Any]]


class tracing:
    """Context manager: record every operation, also those without derivatives; reading values raises Untraceable."""

    def __enter__(self) -> None:
        self._before = LOCAL.state.tracing
        LOCAL.state.tracing = True

    def __exit__(self, *_: object) -> None:
        LOCAL.state.tracing = self._before


def placeholder(data: Array, name: str | None = None) -> Tensor:
    """A leaf that everything computed from it is recorded for, whatever its dtype."""
    t = handle(data, None)
    t._requires_grad = True
    t._name = name
    return t


class Tracer:
    """A watcher that writes operations down as numbered instructions.

    Attributes:
        body: one hashable entry per operation; two equal bodies are the same program.
        nodes: the operations' nodes.
        operands: for each, the numbers of its values, or None where an operand is a constant number.
        results: for each, the numbers of its results.
        sources, values: what was used from outside, the tape's name for it and the array.
        number: id of a placeholder, source or node -> its number.
    """

    def __init__(self, placeholders: Sequence[Tensor]) -> None:
        self.number: dict[Any, int] = {id(p): k for k, p in enumerate(placeholders)}
        self.count = len(placeholders)
        self.body: list[Any] = []
        self.nodes: list[Node] = []
        self.operands: list[tuple[int | None, ...]] = []
        self.results: list[tuple[int, ...]] = []
        self.sources: list[Any] = []
        self.values: list[Array] = []
        self.source_numbers: list[int] = []
        self.arrays_inside: list[Array] = []  # in metadata: indices and the like
        self.slot_names: dict[int, str] = {}
        self._alive: list[Any] = list(placeholders)  # so that no id is given to another object

    def watch(self, phase: str, primitive: Primitive, node: Node | None, values: Sequence[Any], _: Any) -> None:
        """See an operation; for `minigrad.recording.watching`."""
        if phase != "forward" or node is None:
            return
        number = self.number
        codes: list[int | None] = []
        written: list[Any] = []
        for source, value in zip(node.inputs, values, strict=True):
            k = number.get(id(source))  # most are known; this runs at every call of a compiled scan
            if k is None:
                if not isinstance(source, (Node, Output, Variable, np.ndarray)):
                    codes.append(None)
                    written.append(frozen(source))
                    continue
                k = self.find(source, value)
            codes.append(k)
            written.append(k)
        self.operands.append(tuple(codes))
        first = self.count
        if primitive.outputs:
            self.count += len(node.shape)
            for slot in range(len(node.shape)):
                number[id(node), slot] = first + slot
            described: Any = (tuple(node.shape), tuple(node.dtype))
        else:
            self.count += 1
            number[id(node)] = first
            described = (node.shape, node.dtype)
        self.results.append(tuple(range(first, self.count)))
        self.nodes.append(node)
        metadata = node.metadata
        if metadata:
            self.arrays_inside += _arrays(tuple(metadata.values()))
        self.body.append((primitive, tuple(written), frozen(metadata) if metadata else None, *described))

    def find(self, source: Any, value: Any) -> int:
        """The number of a value: a placeholder's, a result's, or that of something from outside."""
        if type(source) is Output:
            if source.name is not None and (id(source.node), source.slot) in self.number:
                self.slot_names[self.number[id(source.node), source.slot]] = source.name
            key: Any = (id(source.node), source.slot)
        else:
            key = id(source)
        known = self.number.get(key)
        if known is None:
            known = self.number[key] = self.count
            self.count += 1
            self._alive.append(source)
            self.sources.append(source)
            self.source_numbers.append(known)
            self.values.append(np.asarray(value))
        return known


def _arrays(x: Any) -> list[Array]:
    """The arrays in a piece of metadata."""
    if isinstance(x, np.ndarray):
        return [x]
    return [a for part in x for a in _arrays(part)] if isinstance(x, (tuple, list)) else []


class Trace:
    """One traced step.

    Attributes:
        key: a hashable description of the program, without its gradient.
        sources, values: the closures: their origins on the outer tape (or leaf Tensors, or arrays) and arrays.
        new_state, y: the trees that the step returned.
    """

    def __init__(self, tracer: Tracer, state: list[Tensor], xs: list[Tensor], new_state: Any, y: Any,
                 base: Scope) -> None:
        self.tracer = tracer
        self.new_state, self.y = new_state, y
        self._counts = len(state), len(xs)
        self._described = tuple((t.shape, t.dtype) for t in (*state, *xs))
        self.state_outputs = [self._output(t) for t in tree_leaves(new_state)]
        self.y_outputs = [self._output(t) for t in tree_leaves(y)]
        self.sources, self.values = tracer.sources, tracer.values
        self.scopes = ["" if n.scope is base else _relative(n.scope, base) for n in tracer.nodes]
        outside = tuple((v.shape, v.dtype, differentiable(s))
                        for s, v in zip(self.sources, self.values, strict=True))
        self.key = (self._described, self._counts, outside, tuple(tracer.body), tuple(self.state_outputs),
                    tuple(self.y_outputs), tuple([n.name for n in tracer.nodes]), tuple(self.scopes))

    def _output(self, t: Any) -> int:
        if not isinstance(t, Tensor):
            raise Untraceable(f"the step returned a {type(t).__name__} where a Tensor was expected")
        return self.tracer.find(t.origin or t, t._data)

    @property
    def differentiable(self) -> tuple[bool, ...]:
        """For each closure, whether a gradient flows to it."""
        return tuple([differentiable(s) for s in self.sources])

    @property
    def suspects(self) -> list[Array]:
        """Arrays that may have been made by the step itself: constants among the closures, arrays in metadata."""
        return [v for s, v in zip(self.sources, self.values, strict=True) if not differentiable(s)] \
            + self.tracer.arrays_inside

    def program(self) -> Program:
        """The program, without operations that nothing depends on."""
        tracer = self.tracer
        n_state, n_xs = self._counts
        values: dict[int, Value] = {}
        for k, (shape, dtype) in enumerate(self._described):
            values[k] = Value(shape, dtype, tracer._alive[k]._name)
        for k, source, array in zip(tracer.source_numbers, self.sources, self.values, strict=True):
            name = source._name if isinstance(source, Tensor) else getattr(source, "name", None)
            values[k] = Value(array.shape, array.dtype, name)
        instructions = []
        for node, codes, results, place in zip(tracer.nodes, tracer.operands, tracer.results, self.scopes, strict=True):
            operands = [source if k is None else values[k] for source, k in zip(node.inputs, codes, strict=True)]
            if node.primitive.outputs:
                made = [Value(s, d, tracer.slot_names.get(k))
                        for s, d, k in zip(node.shape, node.dtype, results, strict=True)]
            else:
                made = [Value(node.shape, node.dtype, node.name)]
            values.update(zip(results, made, strict=True))
            instructions.append(Instruction(node.primitive, operands, node.metadata, made, place))
        return Program(state=[values[k] for k in range(n_state)], xs=[values[n_state + k] for k in range(n_xs)],
                       closures=[values[k] for k in tracer.source_numbers], forward=instructions,
                       new_state=[values[k] for k in self.state_outputs], ys=[values[k] for k in self.y_outputs])


def differentiable(source: Any) -> bool:
    """Whether a gradient flows to something from outside, as the tape knows it."""
    return isinstance(source, (Node, Output)) or (isinstance(source, Variable) and source._requires_grad)


def _relative(place: Scope | None, base: Scope) -> str:
    names = []
    while place is not None and place is not base:
        names.append(place.name)
        place = place.parent
    return "/".join(reversed(names))


def structure(tree: Any) -> Any:
    """A hashable description of a tree without its leaves."""
    if isinstance(tree, dict):
        return (dict, tuple((k, structure(v)) for k, v in tree.items()))
    if isinstance(tree, (tuple, list)):
        return (type(tree), tuple(map(structure, tree)))
    return None


def trace(step: Step, state: Any, inputs: Any, first: int) -> Trace:
    """Trace `step` at time step `first`, and check that what was written down holds for every step.

    Raises:
        Untraceable: it does not, and why.
    """
    state_data = [_array(s, "state") for s in tree_leaves(state)]
    xs_data = [_array(x, "input") for x in tree_leaves(inputs)]
    found = _once(step, state, inputs, state_data, [x[first] for x in xs_data])
    if found.suspects:
        again = _once(step, state, inputs, [shuffled(s) for s in state_data], [shuffled(x, first) for x in xs_data])
        if again.tracer.body != found.tracer.body or again.state_outputs != found.state_outputs \
                or again.y_outputs != found.y_outputs \
                or not all(map(same, found.suspects, again.suspects)):
            raise Untraceable("the step makes an array that differs from call to call: random numbers drawn in the "
                              "step, or values read out of the state or the inputs. Draw or compute them before the "
                              "loop and pass them as inputs of the scan")
    return found


def check_again(step: Step, state: Any, inputs: Any, first: int, found: Trace) -> None:
    """Before a program is used for the first time: it must be the same on random values.

    Raises:
        Untraceable: it is not.
    """
    state_data = [_array(s, "state") for s in tree_leaves(state)]
    xs_data = [_array(x, "input") for x in tree_leaves(inputs)]
    try:
        again = _once(step, state, inputs, [shuffled(s) for s in state_data], [shuffled(x, first) for x in xs_data])
    except Untraceable:
        raise
    except Exception as error:
        raise Untraceable(f"on other values the step raised {type(error).__name__}: {error}") from None
    if again.key != found.key:
        raise Untraceable("the step computes something else when the values are others: its course depends on them, "
                          "or on something that changes from call to call")


def same(a: Array, b: Array) -> bool:
    """Whether two arrays are one, or hold the same."""
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes())


def shuffled(a: Array, step: int | None = None) -> Array:
    """Random values of the shape and dtype of `a`, or of `a[step]`, in the range of `a` for integers."""
    rng = np.random.default_rng(20240229)
    shape = a.shape if step is None else a.shape[1:]
    if a.dtype.kind == "f":
        return rng.standard_normal(shape).astype(a.dtype)
    if a.dtype.kind == "b":
        return rng.random(shape) < 0.5
    low, high = (int(a.min()), int(a.max())) if a.size else (0, 0)
    return rng.integers(low, max(high, low + 1), shape, endpoint=True).astype(a.dtype)


def _array(t: Any, what: str) -> Array:
    if isinstance(t, Tensor):
        return t._data
    if isinstance(t, np.ndarray):
        return t
    raise Untraceable(f"the {what} holds a {type(t).__name__} where a Tensor was expected")


def _once(step: Step, state: Any, inputs: Any, state_data: list[Array], xs_data: list[Array]) -> Trace:
    names = [t._name if isinstance(t, Tensor) and t.origin is None else None for t in tree_leaves(state)]
    s = [placeholder(d, n) for d, n in zip(state_data, names, strict=True)]
    x = [placeholder(np.asarray(d)) for d in xs_data]
    next_s, next_x = iter(s), iter(x)
    tracer = Tracer([*s, *x])
    with tracing(), recording(True), watching(tracer.watch), scope("t = 1", step=1) as base:
        returned = step(tree_map(lambda _: next(next_s), state), tree_map(lambda _: next(next_x), inputs))
    new_state, y = pair(returned, state)
    found = Trace(tracer, s, x, new_state, y, base)
    if structure(new_state) != structure(state):
        raise Untraceable("the step returns a state of another structure than it got")
    for before, after in zip(s, tree_leaves(new_state), strict=True):
        if before.shape != after.shape or before.dtype != after.dtype:
            raise Untraceable(f"the state changes from {before.dtype}{list(before.shape)} to "
                              f"{after.dtype}{list(after.shape)} in a step")
    return found

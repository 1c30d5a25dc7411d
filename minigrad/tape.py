"""The tape: what was computed, in the order in which it was computed, and the walk back over it.

Every recorded operation is a `Node` with a sequence number. Creation order is a topological order, so backward
collects the nodes that the loss reaches, sorts them by number once and walks down. Nothing here recurses: a chain of
a million operations is as good as a short one.

A Node knows its inputs and never the Tensor it made, so a graph has no reference cycles: it is freed, by reference
counts alone, the moment its loss goes out of reach.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from operator import attrgetter
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .accumulate import Deferred, fit, settle
from .primitive import Primitive

Array = NDArray[Any]


class GraphError(RuntimeError):
    """A graph was used in a way that cannot give a right gradient. The message shows the line to write instead."""


class Untraceable(Exception):
    """What was computed depends on values, so that one traced step does not stand for all. The message says why."""


# ---------------------------------------------------------------------------------------------------------------
# Recording: what each thread remembers while it computes
# ---------------------------------------------------------------------------------------------------------------


class Scope:
    """A named region of the computation: a module's call, a time step. Scopes nest; each entry makes a new one.

    Attributes:
        name: as it is shown, e.g. `layer 0` or `t = 3`.
        parent: the scope around it, or None.
        label: what kind of thing it is (`LSTMCell`), or "".
        step: the number of the time step, for the steps of a scan.
    """

    __slots__ = ("__weakref__", "label", "name", "parent", "step")

    def __init__(self, name: str, parent: Scope | None = None, label: str = "", step: int | None = None) -> None:
        self.name = name
        self.parent = parent
        self.label = label
        self.step = step

    @property
    def path(self) -> str:
        """All names from the outside in, joined by slashes: `lstm/layer 0/t = 3`."""
        names = []
        scope: Scope | None = self
        while scope is not None:
            names.append(scope.name)
            scope = scope.parent
        return "/".join(reversed(names))

    def __repr__(self) -> str:
        return f"<scope {self.path}>"


Watcher = Callable[[str, Primitive, "Node | None", Sequence[Any], Any], None]


class State:
    """What one thread remembers while recording: whether to record, the scope, and who is watching.

    While `tracing`, operations without derivatives are recorded too, and values must not be read. `compiled` is how
    scans run that do not say it themselves.
    """

    __slots__ = ("compiled", "recording", "scope", "tracing", "watchers")

    def __init__(self) -> None:
        self.recording = True
        self.tracing = False
        self.compiled: bool | str = False
        self.scope: Scope | None = None
        self.watchers: tuple[Watcher, ...] = ()


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.state = State()


LOCAL = _PerThread()


class scope:
    """Context manager: everything computed inside is marked with this name on the tape and in pictures.

        with mg.scope("encoder"):
            h = np.tanh(x @ W)
    """

    __slots__ = ("_entered", "_label", "_name", "_step")

    def __init__(self, name: str, *, label: str = "", step: int | None = None) -> None:
        self._name = name
        self._label = label
        self._step = step
        self._entered: list[Scope] = []

    def __enter__(self) -> Scope:
        state = LOCAL.state
        entered = state.scope = Scope(self._name, state.scope, self._label, self._step)
        self._entered.append(entered)
        return entered

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        LOCAL.state.scope = self._entered.pop().parent


class recording:
    """Context manager that turns recording on or off for this thread and puts it back afterwards."""

    __slots__ = ("_before", "_on")

    def __init__(self, on: bool) -> None:
        self._on = on
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(LOCAL.state.recording)
        LOCAL.state.recording = self._on

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        LOCAL.state.recording = self._before.pop()


def no_grad() -> recording:
    """Context manager: what is computed inside carries no gradient. Nests, and concerns this thread only."""
    return recording(False)


class watching:
    """Context manager: call `watcher(phase, primitive, node, arguments, result)` after every operation inside.

    `phase` is "forward" (result: the output array) or "backward" (result: the cotangent of the node's output,
    about to be propagated). Anomaly detection and gradient probes are watchers.
    """

    __slots__ = ("_before", "_watcher")

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._before: list[tuple[Watcher, ...]] = []

    def __enter__(self) -> None:
        watchers = LOCAL.state.watchers
        self._before.append(watchers)
        LOCAL.state.watchers = (*watchers, self._watcher)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        LOCAL.state.watchers = self._before.pop()


# ---------------------------------------------------------------------------------------------------------------
# The graph
# ---------------------------------------------------------------------------------------------------------------

next_number = count(1).__next__


class Variable:
    """What the tape needs to know of a tensor; `Tensor` adds the arithmetic.

    Attributes:
        origin: the Node (or the Output of a Node with several) that made it; None for a leaf or a constant.
        requires_grad: whether a gradient flows to it.
    """

    __slots__ = ("__weakref__", "_data", "_grad", "_name", "_requires_grad", "_version", "origin")

    _data: Array
    _grad: Array | None
    _name: str | None
    _requires_grad: bool
    origin: Node | Output | None

    @property
    def shape(self) -> tuple[int, ...]:
        """NumPy's shape."""
        return self._data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's dtype."""
        return self._data.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """Number of entries."""
        return self._data.size


class Node:
    """One recorded operation.

    Attributes:
        number: its place in the order of creation.
        primitive: what was computed.
        inputs: one per argument: the Node or Output that made it, a leaf or constant Tensor, an array or a scalar.
        arguments: the same, with the value in place of the Node where some rule reads it; None once freed.
        metadata: the keyword arguments.
        output: the value, if some rule reads it.
        shape, dtype: of the value; lists of them for a primitive with several outputs.
        scope: where in the program it was made.
        name: what the user calls the value, or None.
    """

    __slots__ = ("__weakref__", "arguments", "dtype", "inputs", "metadata", "name", "number", "output", "primitive",
                 "scope", "shape")

    requires_grad: ClassVar[bool] = True

    def __init__(self, number: int, primitive: Primitive, inputs: tuple[Any, ...], arguments: tuple[Any, ...],
                 metadata: dict[str, Any], output: Any, shape: Any, dtype: Any, scope: Scope | None) -> None:
        self.number = number
        self.primitive = primitive
        self.inputs = inputs
        self.arguments: tuple[Any, ...] | None = arguments
        self.metadata = metadata
        self.output = output
        self.shape = shape
        self.dtype = dtype
        self.scope = scope
        self.name: str | None = None

    @property
    def parents(self) -> tuple[Node, ...]:
        """The nodes whose values went in, in argument order."""
        return tuple(s for s in node_sources(self) if type(s) is Node)

    @property
    def freed(self) -> bool:
        """Whether the values needed for a backward have been let go."""
        return self.arguments is None

    def free(self) -> None:
        """Let go of all values. The structure (names, shapes, scopes, inputs) stays, for printing and drawing."""
        self.arguments = self.output = None

    @property
    def ndim(self) -> int:
        """Number of axes of the value."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries of the value."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __repr__(self) -> str:
        return f"<node {self.number}: {describe(self)}>"


class Output:
    """One of several outputs of a Node."""

    __slots__ = ("__weakref__", "name", "node", "slot")

    requires_grad: ClassVar[bool] = True

    def __init__(self, node: Node, slot: int) -> None:
        self.node = node
        self.slot = slot
        self.name: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of this output."""
        return self.node.shape[self.slot]  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of this output."""
        return self.node.dtype[self.slot]  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __repr__(self) -> str:
        return f"<output {self.slot} of {self.node!r}>"


Origin = Node | Output


def describe(origin: Origin | Variable) -> str:
    """A few words that tell the user which value is meant: name, operation, shape, scope."""
    if isinstance(origin, Variable):
        kind = "leaf tensor" if origin._requires_grad else "constant tensor"
        name = f" {origin._name!r}" if origin._name else ""
        return f"{kind}{name} of shape {origin.shape}"
    node = origin.node if isinstance(origin, Output) else origin
    name = f"{origin.name!r}, " if origin.name else ""
    place = f", made in scope {node.scope.path!r}" if node.scope else ""
    return f"{name}the output of {node.primitive.name} with shape {origin.shape}{place}"


# ---------------------------------------------------------------------------------------------------------------
# The walk back
# ---------------------------------------------------------------------------------------------------------------


def reachable(origins: Iterable[Origin]) -> tuple[list[Node], dict[Node, dict[int, Output]]]:
    """All nodes that lead to `origins`, in order of creation, and for those with several outputs the used ones."""
    seen: set[Node] = set()
    stack: list[Node] = []
    outputs: dict[Node, dict[int, Output]] = {}
    waiting: Iterable[Any] = origins
    nodes: list[Node] = []
    while True:
        for source in waiting:
            kind = type(source)
            if kind is Output:
                outputs.setdefault(source.node, {})[source.slot] = source
                source = source.node
            elif kind is not Node:
                continue
            if source not in seen:
                seen.add(source)
                stack.append(source)
        if not stack:
            break
        node = stack.pop()
        nodes.append(node)
        waiting = node.inputs
    nodes.sort(key=attrgetter("number"))
    return nodes, outputs


def leading_to(nodes: Sequence[Node], wanted: Iterable[Origin | Variable]) -> set[Node | Variable]:
    """Of `nodes` (in order of creation), those through which a gradient reaches one of `wanted`, and `wanted`."""
    on_path: set[Node | Variable] = {w.node if isinstance(w, Output) else w for w in wanted}
    for node in nodes:
        # a trace also holds operations without derivatives
        if node.primitive.rules and any(source in on_path for source in node_sources(node)):
            on_path.add(node)
    return on_path


def node_sources(node: Node) -> list[Node | Variable]:
    """The nodes and tensors whose values went into `node`."""
    sources = (i.node if type(i) is Output else i for i in node.inputs)
    return [s for s in sources if type(s) is Node or isinstance(s, Variable)]


class Gradients:
    """Cotangents under way, one per origin or leaf, added up as they arrive.

    The first sum of two allocates, later ones add in place: a cotangent that a rule handed out may be shared with
    another argument or with the tape, the sum of two is ours.

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
                contribution = joint[k]
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


def _changed_message(node: Node, changed: Variable) -> str:
    place = f" in scope {node.scope.path!r}" if node.scope else ""
    return (f"The {describe(changed)} was changed by assign() after {node.primitive.name}{place} had used it, and "
            "the gradient needs the old value. Call loss.backward() before the optimiser's step (or before "
            "assign), or compute the loss again afterwards.")


# ---------------------------------------------------------------------------------------------------------------
# The tape made visible
# ---------------------------------------------------------------------------------------------------------------


class Tape:
    """The operations that lead to some outputs, in order; prints as a program, one instruction a line.

        >>> print(mg.tape(loss))

    Attributes:
        nodes: the recorded operations, oldest first.
        roots: the origins that were asked for.
    """

    def __init__(self, roots: Sequence[Origin | Variable]) -> None:
        self.roots = list(roots)
        self.nodes, self._outputs = reachable(r for r in roots if not isinstance(r, Variable))

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def outputs(self, node: Node) -> dict[int, Output]:
        """Of a node with several outputs, those that are used, by slot."""
        return self._outputs.get(node, {})

    def leaves(self) -> list[Variable]:
        """The tensors without a history that went in, parameters and constants, in order of first use."""
        found: dict[int, Variable] = {}
        for source in (*(s for n in self.nodes for s in n.inputs), *self.roots):
            if isinstance(source, Variable):
                found.setdefault(id(source), source)
        return list(found.values())

    def labels(self) -> dict[Any, str]:
        """A unique short name for every leaf, node and output: the user's name where there is one."""
        labels: dict[Any, str] = {}
        taken: set[str] = set()
        counts: dict[str | None, Iterator[int]] = {None: count()}

        def assign(key: Any, name: str | None) -> None:
            name = name or None
            label = name or f"%{next(counts[None])}"
            while label in taken:
                number = next(counts.setdefault(name, count(2)))
                label = f"{name}.{number}" if name else f"%{number}"
            taken.add(label)
            labels[key] = label

        for leaf in self.leaves():
            assign(leaf, leaf._name)
        for node in self.nodes:
            if node.primitive.outputs:
                for slot, output in sorted(self.outputs(node).items()):
                    assign(output, output.name)
                    labels[node, slot] = labels[output]
            else:
                assign(node, node.name)
        return labels

    def __str__(self) -> str:
        labels = self.labels()

        def operand(source: Any) -> str:
            if isinstance(source, (Variable, Node, Output)):
                return labels[source]
            if isinstance(source, np.ndarray):
                return f"{source.dtype}{list(source.shape)}"
            return repr(source)

        rows: list[tuple[str, str, str]] = []
        for leaf in self.leaves():
            kind = "parameter" if leaf._requires_grad else "constant"
            rows.append((f"{labels[leaf]}: {leaf.dtype}{list(leaf.shape)}", kind, ""))
        for node in self.nodes:
            if node.primitive.outputs:
                used = self.outputs(node)
                left = ", ".join(
                    f"{labels[used[k]]}: {node.dtype[k]}{list(node.shape[k])}" if k in used else "_"
                    for k in range(len(node.shape)))
            else:
                left = f"{labels[node]}: {node.dtype}{list(node.shape)}"
            words = [operand(s) for s in node.inputs]
            words += [f"{key}={_short(value)}" for key, value in node.metadata.items()]
            rows.append((left, f"{node.primitive.name}({', '.join(words)})", node.scope.path if node.scope else ""))
        widths = [min(max((len(row[i]) for row in rows), default=0), 60) for i in (0, 1)]
        return "\n".join(f"{left:<{widths[0]}} = {right:<{widths[1]}}  {'# ' + place if place else ''}".rstrip()
                         for left, right, place in rows)

    __repr__ = __str__


def _short(value: Any) -> str:
    """Metadata in a line of the tape: arrays by their description, long things cut."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, tuple):
        text = ", ".join(_short(v) for v in value[:8]) + (", ..." if len(value) > 8 else "")
        return f"({text},)" if len(value) == 1 else f"({text})"
    if isinstance(value, slice):
        parts = ["" if v is None else str(v) for v in (value.start, value.stop, value.step)]
        return ":".join(parts if value.step is not None else parts[:2])
    text = getattr(value, "__name__", None) or ("..." if value is ... else repr(value))
    return text if len(text) <= 60 else text[:57] + "..."

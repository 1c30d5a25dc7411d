"""The tape: what was computed, in the order in which it was computed.

Every recorded operation is a `Node` with a sequence number. Creation order is a topological order, so whoever walks
a graph collects the nodes that an output reaches and sorts them by number once. Nothing here recurses: a chain of
a million operations is as good as a short one.

A Node knows its inputs and never the Tensor it made, so a graph has no reference cycles: it is freed, by reference
counts alone, the moment its loss goes out of reach.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from operator import attrgetter
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from .primitive import Primitive
from .recording import LOCAL, Scope

Array = NDArray[Any]


class GraphError(RuntimeError):
    """A graph was used in a way that cannot give a right gradient. The message shows the line to write instead."""


next_number = count(1).__next__


class Variable:
    """What the tape needs to know of a tensor; `Tensor` adds the arithmetic.

    Attributes:
        origin: the Node (or the Output of a Node with several) that made it; None for a leaf or a constant.
        requires_grad: whether a gradient flows to it.
        _shows: for pictures: number and slot of the node whose value it has, where detach() made it; or, of a constant,
            what `shows` was told.
    """

    __slots__ = ("__weakref__", "_data", "_grad", "_name", "_requires_grad", "_shows", "_version", "origin")

    _shows: tuple[int, int] | tuple[str, tuple[Any, ...], Scope | None]
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


def shows(made: Any, operation: str, *inputs: Any) -> None:
    """Let pictures show what a constant was made of; what has a gradient is on the tape and shows itself.

    Constants are not on the tape, which is right for a gradient; but whoever looks wants to see the image and not its
    patches, the input and its mask and not their product. These live as long as the constant then.
    """
    if isinstance(made, Variable) and not made._requires_grad:
        made._shows = operation, inputs, LOCAL.state.scope


class Shaped:
    """What follows from a shape."""

    __slots__ = ()

    shape: Any

    @property
    def ndim(self) -> int:
        """Number of axes of the value."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries of the value."""
        return math.prod(self.shape)


class Node(Shaped):
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

    def __repr__(self) -> str:
        return f"<node {self.number}: {describe(self)}>"


class Output(Shaped):
    """One of several outputs of a Node."""

    __slots__ = ("__weakref__", "name", "node", "slot")

    requires_grad: ClassVar[bool] = True

    def __init__(self, node: Node, slot: int) -> None:
        self.node = node
        self.slot = slot
        self.name: str | None = None

    # a rule that reads an output which nobody holds makes another handle of it
    def __eq__(self, other: object) -> bool:
        return type(other) is Output and other.node is self.node and other.slot == self.slot

    def __hash__(self) -> int:
        return hash((self.node, self.slot))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of this output."""
        return self.node.shape[self.slot]  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of this output."""
        return self.node.dtype[self.slot]  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<output {self.slot} of {self.node!r}>"


Origin = Node | Output

# For an operation on the rows that some values were gathered from, done before they were gathered: these values. A
# gradient goes past them, and who asks for it there is told.
PASSED_BY: WeakKeyDictionary[Node, tuple[Node, ...]] = WeakKeyDictionary()


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
# What leads to what
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

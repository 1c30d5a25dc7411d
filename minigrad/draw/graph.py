"""From the tape to the items a picture talks about: values with a kind, a name, inputs and a gradient.

Slices, reshapes, transposes and casts are marked as foldable; `fold` hands their consumers what is
behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from ..probe import Gradients
from ..recording import Scope
from ..tape import Node, Output, Variable
from .labels import CIRCLES, SYMBOLS, clean, norm, number, shape_text
from .shorten import Reading

FOLDABLE = frozenset(
    {"reshape", "transpose", "swapaxes", "moveaxis", "broadcast_to", "cast", "split", "unstack", "positive"}
)

# Metadata that is itself data, and worth a box of its own.
DATA = {"targets": "target", "index": "ids"}


@dataclass(slots=True, eq=False)
class Item:
    """One value of the graph, or a parameter, an input, a constant, a mask.

    Attributes:
        index: place in the list; inputs come before their consumers.
        kind: "op", "parameter", "input", "constant" or "mask".
        op: name of the primitive; "" for what is not computed.
        symbol: what stands in the box.
        name: what the user calls it.
        slot: which output of the node, for one with several.
        foldable: draws nothing of interest by itself.
        grad: norm of the gradient of the loss, if known.
        output: asked for by the user.
    """

    index: int
    kind: str
    op: str
    symbol: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    scope: Scope | None
    inputs: list[Item] = field(default_factory=list)
    number: int = -1
    slot: int = 0
    foldable: bool = False
    grad: float | None = None
    output: bool = False
    metadata: dict[str, Any] | None = None
    leaf: Variable | None = None

    def __repr__(self) -> str:
        return f"<{self.name or self.symbol} {self.index}>"


@dataclass(slots=True, eq=False)
class Graph:
    """The items behind some outputs, each after its inputs."""

    items: list[Item]
    outputs: list[Item]
    operations: int
    mixed_dtypes: bool = False

    def consumers(self) -> dict[Item, list[Item]]:
        """For each item, who uses it; one entry per use."""
        uses: dict[Item, list[Item]] = {item: [] for item in self.items}
        for item in self.items:
            for source in item.inputs:
                uses[source].append(item)
        return uses


def graph_of(tape: Reading, gradients: Gradients | None = None) -> Graph:
    """The items of a tape."""
    items: list[Item] = []
    made: dict[Any, Item] = {}
    norms = gradients.norms if gradients is not None else {}

    def add(item: Item) -> Item:
        item.index = len(items)
        items.append(item)
        return item

    def leaf(variable: Variable) -> Item:
        found = made.get(id(variable))
        if found is None:
            name = str(getattr(variable, "name", None) or "")
            if variable._requires_grad:
                kind, grad = "parameter", gradients.of_leaf(variable) if gradients is not None else None
                g = getattr(variable, "grad", None)
                if grad is None and g is not None:
                    grad = float(np.linalg.norm(g))
            else:
                kind, grad = _kind_of_data(variable._data, name), None
            found = made[id(variable)] = add(
                Item(
                    0,
                    kind,
                    "",
                    _mask_text(variable._data) if kind == "mask" else "",
                    name,
                    variable.shape,
                    _dtype(variable.dtype),
                    None,
                    grad=grad,
                    leaf=variable,
                )
            )
        return found

    def data(array: Any, name: str) -> Item:
        kind = _kind_of_data(array, name)
        return add(
            Item(
                0,
                kind,
                "",
                _mask_text(array) if kind == "mask" else "",
                name,
                array.shape,
                _dtype(array.dtype),
                None,
            )
        )

    for node in tape.nodes:
        inputs: list[Item] = []
        texts: list[tuple[int, str]] = []
        for k, source in enumerate(tape.inputs(node)):
            if isinstance(source, Output):
                inputs.append(made[source.node, source.slot])
            elif isinstance(source, Node):
                inputs.append(made[source])
            elif isinstance(source, Variable):
                if source.shape == () and not source._requires_grad and not getattr(source, "name", None):
                    texts.append((k, number(source._data)))
                else:
                    inputs.append(leaf(source))
            elif isinstance(source, np.ndarray) and source.ndim:
                inputs.append(data(source, "mask" if source.dtype == bool else ""))
            else:
                texts.append((k, number(source)))
        for key, value in node.metadata.items():
            if key in DATA and isinstance(value, np.ndarray):
                inputs.append(data(value, DATA[key]))
        op = node.primitive.name
        foldable = op in FOLDABLE or (op == "getitem" and _is_basic(node.metadata.get("index")))
        symbol = _symbol(op, node.metadata, texts) if texts or node.metadata else SYMBOLS.get(op, op)
        if node.primitive.outputs:
            for slot, output in sorted(tape.outputs(node).items()):
                made[node, slot] = add(
                    Item(
                        0,
                        "op",
                        op,
                        symbol,
                        output.name or "",
                        output.shape,
                        _dtype(output.dtype),
                        node.scope,
                        list(inputs),
                        node.number,
                        slot,
                        foldable and not output.name,
                        norms.get((node.number, slot)),
                        metadata=node.metadata,
                    )
                )
        else:
            made[node] = add(
                Item(
                    0,
                    "op",
                    op,
                    symbol,
                    node.name or "",
                    node.shape,
                    _dtype(node.dtype),
                    node.scope,
                    inputs,
                    node.number,
                    0,
                    foldable and not node.name,
                    norms.get((node.number, 0)),
                    metadata=node.metadata,
                )
            )
    outputs = []
    for root in tape.roots:
        if isinstance(root, Output):
            item = made[root.node, root.slot]
        elif isinstance(root, Node):
            item = made[root]
        else:
            item = leaf(root)
        item.output, item.foldable = True, False
        outputs.append(item)
    floats = {item.dtype for item in items if item.dtype.startswith("float")}
    return Graph(items, outputs, tape.operations, len(floats) > 1)


def fold(graph: Graph, keep: Callable[[Item], bool] = lambda item: False) -> Graph:
    """The graph without foldable items, except those that `keep` says; what nobody uses any more is left
    out."""
    behind: dict[Item, Item] = {}
    rest: list[Item] = []
    for item in graph.items:
        item.inputs = [behind.get(source, source) for source in item.inputs]
        if item.foldable and not keep(item) and item.inputs:
            behind[item] = item.inputs[0]
        else:
            rest.append(item)
    wanted = set(graph.outputs)
    for item in reversed(rest):
        if item in wanted:
            wanted.update(item.inputs)
    return Graph([item for item in rest if item in wanted], graph.outputs, graph.operations, graph.mixed_dtypes)


@cache
def _dtype(dtype: Any) -> str:
    """str(dtype), which NumPy takes its time for."""
    return str(dtype)


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return not any(isinstance(p, (np.ndarray, list)) for p in parts)


def _kind_of_data(array: Any, name: str) -> str:
    """Data that the graph starts from: a mask (0 and one other value), or an input."""
    if "mask" in name.lower():
        return "mask"
    if array.dtype == bool:
        return "mask"
    if array.dtype.kind == "f" and 1 < array.size <= 1 << 20 and array.ndim:
        top = array.max()
        if top >= 1 and array.min() == 0 and bool(((array == 0) | (array == top)).all()) and top > 1:
            return "mask"
    return "input"


def _mask_text(array: Any) -> str:
    """`p=0.5` for a mask of inverted dropout."""
    if array.dtype.kind == "f" and array.size:
        top = float(array.max())
        if top > 1:
            return f"p={number(1 - 1 / top, 2)}"
    return ""


def _plain(value: Any) -> str:
    text = getattr(value, "__name__", None)
    return text if isinstance(text, str) else repr(value)


def _symbol(op: str, metadata: dict[str, Any], texts: Iterable[tuple[int, str]]) -> str:
    """What stands in the box: the operation and the plain numbers it was given."""
    if op == "constant_power":
        b = metadata.get("b")
        return "x²" if b == 2 else f"^ {number(b)}" if isinstance(b, (int, float)) else "^"
    if op == "exponential":
        return f"{number(metadata['a'])}ˣ" if isinstance(metadata.get("a"), (int, float)) else "aˣ"
    symbol = SYMBOLS.get(op, op)
    for k, text in texts:
        if symbol[:1] in CIRCLES or op in ("power", "greater", "less", "equal"):
            symbol = f"{text} {symbol}" if k == 0 and op in ("subtract", "divide", "power") else f"{symbol} {text}"
        else:
            symbol = f"{symbol} {text}"
    return clean(symbol, 30)


# -----------------------------------------------------------------------------------------------------------
# Words for a box
# -----------------------------------------------------------------------------------------------------------


def box_kind(item: Item) -> str:
    """The kind of box that shows an item."""
    if item.output:
        return "output"
    if item.kind == "op":
        return "named" if item.name else "op"
    return item.kind


def box_lines(item: Item, name: str, mixed: bool = False) -> tuple[str, ...]:
    """At most two lines: what it is, and its shape or its gradient."""
    name = clean(name)
    shape = shape_text(item.shape, item.dtype if mixed else "")
    if item.kind == "parameter":
        first = f"{name} {shape}" if name else f"parameter {shape}"
        return (first, norm(item.grad)) if item.grad is not None else (first,)
    if item.kind == "mask":
        return (
            name if name and name != "mask" else "dropout mask" if item.symbol else "mask",
            shape if "p=" in name else f"{shape} {item.symbol}".strip(),
        )
    if item.kind in ("input", "constant"):
        return (name or item.kind, shape)
    if name:
        return (f"{name} = {item.symbol}", shape)
    return (item.symbol, shape) if item.output else (item.symbol,)


def tooltip(item: Item, name: str = "") -> str:
    """Everything known of an item, a fact a line."""
    what = {"parameter": "parameter", "input": "input", "constant": "constant", "mask": "mask"}.get(item.kind, item.op)
    lines = [
        f"{what} → {clean(name or item.name)}" if name or item.name else what,
        f"shape {item.shape}, {item.dtype}",
    ]
    if item.metadata:
        lines.append(
            clean(
                ", ".join(
                    f"{k}={clean(_plain(v), 40)}" for k, v in item.metadata.items() if not isinstance(v, np.ndarray)
                ),
                120,
            )
        )
    if item.grad is not None:
        lines.append(f"‖∂L/∂{clean(name or item.name) or 'out'}‖ = {number(item.grad)}")
    if item.scope is not None:
        lines.append(f"made in {clean(item.scope.path, 120)}")
    return "\n".join(lines)


def full_kind(item: Item) -> str:
    """Shape of the box of an item where it is not that of its kind: the small circle."""
    return "circle" if item.kind == "op" and not item.name and not item.output and item.symbol in CIRCLES else ""

"""From the tape to the items a picture talks about: values with a kind, a name, inputs and a gradient.

Slices, reshapes, transposes and casts are marked as foldable; `fold` hands their consumers what is
behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import numpy as np

from ..probe import Gradients
from ..recording import Scope
from ..tape import Node, Output, Variable
from .labels import CIRCLES, SYMBOLS, clean, number
from .reading import Reading
from .scopes import gradient_scope

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
        value: the array, where the tape still has it.
        gradient: made by a backward that was recorded.
        extra: more lines for its box.
        gradient_range: from the least to the greatest entry of its gradient.
        value_range: of itself, where the array is not at hand.
        missing: why nothing is known of its value.
        count: how many values it stands for.
        cut: the value that it shows without its history, where detach() cut it off; itself, if that is not in the
            graph, as the state that truncated backpropagation carries on from the window before.
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
    value: Any = None
    gradient: bool = False
    extra: tuple[str, ...] = ()
    gradient_range: str = ""
    value_range: str = ""
    missing: str = ""
    count: int = 1
    cut: Item | None = None

    def __repr__(self) -> str:
        return f"<{self.name or self.symbol} {self.index}>"


@dataclass(slots=True, eq=False)
class Graph:
    """The items behind some outputs, each after its inputs.

    Attributes:
        operations: how many there are on the tape.
        calls: of a graph whose items stand for many values, how many calls of a module each scope stands for.
        unlisted: how many operations have no item, because only the first ones are listed.
    """

    items: list[Item]
    outputs: list[Item]
    operations: int
    mixed_dtypes: bool = False
    calls: dict[Scope, int] | None = None
    unlisted: int = 0

    def consumers(self) -> dict[Item, list[Item]]:
        """For each item, who uses it; one entry per use."""
        uses: dict[Item, list[Item]] = {item: [] for item in self.items}
        for item in self.items:
            for source in item.inputs:
                uses[source].append(item)
        return uses


def graph_of(reading: Reading, gradients: Gradients | None = None) -> Graph:
    """The items of a tape."""
    reader = Reader(gradients, reading.scope)
    inputs, outputs = reading.other_inputs, reading.used
    for node in reading.nodes:
        reader.read(node, inputs.get(node, node.inputs), outputs.get(node), reading.scope_of(node))
    made = []
    for root in reading.roots:
        item = reader.item(root)
        item.output, item.foldable = True, False
        made.append(item)
    if reader.cuts:
        of = {(item.number, item.slot): item for item in reader.items}
        for item, key in reader.cuts:
            item.cut = of.get(key, item)
    tell_apart([item for item in reader.items if item.kind == "parameter"], reader.items)
    floats = {item.dtype for item in reader.items if item.dtype.startswith("float")}
    return Graph(reader.items, made, len(reading.every), len(floats) > 1)


def tell_apart(parameters: list[Item], items: list[Item]) -> None:
    """Put the module before the name of parameters that have the same one: `encoder.weight` and `decoder.weight`."""
    same: dict[str, list[Item]] = {}
    for p in parameters:
        same.setdefault(p.name, []).append(p)
    same = {name: group for name, group in same.items() if name and len(group) > 1}
    if not same:
        return
    user: dict[Item, Scope | None] = {}
    for item in items:
        for source in item.inputs:
            if source.kind == "parameter" and source.name in same:
                user.setdefault(source, item.scope)
    for name, group in same.items():
        ways = [_modules(user.get(p)) for p in group]
        shared = 0
        while all(len(way) > shared for way in ways) and len({way[shared] for way in ways}) == 1:
            shared += 1
        for length in range(1, 1 + max(map(len, ways))):
            named = [".".join([*way[shared : shared + length], name]) for way in ways]
            if len(set(named)) == len(group):
                for p, full in zip(group, named, strict=True):
                    p.name = full
                break


def own_name(item: Item) -> str:
    """What the user calls it, without its module."""
    return str(getattr(item.leaf, "name", None) or "") if item.leaf is not None else item.name


def _modules(scope: Scope | None) -> list[str]:
    """The names of the modules around a value, from the outside in."""
    names = []
    while scope is not None:
        if scope.label and scope.step is None:
            names.append(scope.name)
        scope = scope.parent
    return names[::-1]


class Reader:
    """Makes items of nodes, one after the other."""

    def __init__(self, gradients: Gradients | None, shown: Callable[[Scope | None], Scope | None]) -> None:
        self.items: list[Item] = []
        self.made: dict[Any, Item] = {}
        self.gradients = gradients
        self.norms = gradients.norms if gradients is not None else {}
        self.leaves: list[Variable] = []  # so that no id is given to another object
        self.symbols: dict[Any, str] = {}
        self.masks: dict[tuple[int, ...], list[Item]] = {}
        self.cuts: list[tuple[Item, tuple[int, int]]] = []
        self.backward: dict[Scope | None, bool] = {None: False}
        self.shown = shown

    def item(self, root: Any) -> Item:
        """The item of an origin or a leaf."""
        if type(root) is Node:
            return self.made[root]
        return self.made[root.node, root.slot] if type(root) is Output else self.leaf(root)

    def leaf(self, variable: Variable) -> Item:
        """The item of a parameter or of data; of a constant that says what it was made of, that operation."""
        found = self.made.get(id(variable))
        if found is not None:
            return found
        cut = getattr(variable, "_shows", None)
        if cut is not None and isinstance(cut[0], str):
            op, sources, scope = cut
            inputs = [self.leaf(s) if isinstance(s, Variable) else self.array(s) for s in sources]
            data = variable._data
            item = Item(len(self.items), "op", op, SYMBOLS.get(op, op), variable._name or "", data.shape,
                        _dtype(data.dtype), self.shown(scope), inputs, leaf=variable, value=data)  # fmt: skip
            self.items.append(item)
            self.made[id(variable)] = item
            return item
        name, grad = str(getattr(variable, "name", None) or ""), None
        if variable._requires_grad:
            kind = "parameter"
            if self.gradients is not None:
                grad = self.gradients.of_leaf(variable)
            g = getattr(variable, "grad", None)
            if grad is None and g is not None:
                grad = float(np.linalg.norm(g))
            item = self._source(variable._data, kind, name)
        else:
            item = self.data(variable._data, name)
        item.grad, item.leaf = grad, variable
        self.made[id(variable)] = item
        if cut is not None:
            self.cuts.append((item, cut))
        return item

    def array(self, array: Any) -> Item:
        """The item of an array that is no Tensor."""
        return self.data(array, "mask" if array.dtype == bool else "")

    def data(self, array: Any, name: str) -> Item:
        """The item of an array."""
        kind, text = _kind_of_data(array, name), ""
        known = self.masks.setdefault(array.shape, [])
        if kind == "mask":
            text = _mask_text(array)
        elif not name and array.dtype.kind == "f" and known:
            # what a mask lets through, and what it does not
            for mask in known[-3:]:
                if mask.value is not None and bool((mask.value + array == 1).all()):
                    kind, name = "mask", "1 − mask"
                    return self._source(array, kind, name)
        item = self._source(array, kind, name, text)
        if kind == "mask":
            known.append(item)
        return item

    def _source(self, array: Any, kind: str, name: str, symbol: str = "") -> Item:
        items = self.items
        item = Item(len(items), kind, "", symbol, name, array.shape, _dtype(array.dtype), None, [], value=array)
        items.append(item)
        return item

    def read(self, node: Node, sources: Sequence[Any], slots: dict[int, Output] | None, scope: Scope | None) -> None:
        """Make the item of a node, one for each output that is used."""
        made, items = self.made, self.items
        inputs: list[Item] = []
        texts: list[tuple[int, str]] = []
        for k, source in enumerate(sources):
            kind = type(source)
            if kind is Node:
                inputs.append(made[source])
            elif kind is Output:
                inputs.append(made[source.node, source.slot])
            elif isinstance(source, Variable):
                if source.shape == () and not source._requires_grad and not getattr(source, "name", None):
                    texts.append((k, _number(float(source._data))))
                else:
                    inputs.append(self.leaf(source))
            elif isinstance(source, np.ndarray) and source.ndim:
                inputs.append(self.array(source))
            else:
                texts.append((k, _number(float(source))))
        metadata = node.metadata
        op = node.primitive.name
        if metadata:
            for key in DATA.keys() & metadata.keys():
                if isinstance(metadata[key], np.ndarray):
                    inputs.append(self.data(metadata[key], DATA[key]))
        foldable = is_foldable(node)
        symbol = self._symbol(op, metadata, texts)
        number = node.number
        gradient = self.backward.get(scope)
        if gradient is None:
            gradient = self.backward[scope] = gradient_scope(scope) is not None
        if node.primitive.outputs:
            for slot, output in sorted((slots or {}).items()):
                made[node, slot] = item = Item(
                    len(items), "op", op, symbol, output.name or "", output.shape, _dtype(output.dtype), scope,
                    list(inputs), number, slot, foldable and not output.name, self.norms.get((number, slot)),
                    metadata=metadata, gradient=gradient,
                )  # fmt: skip
                if node.output is not None and op != "scan":  # a compiled loop keeps what its own backward needs
                    item.value = node.output[slot]
                items.append(item)
            return
        name = node.name or ""
        made[node] = item = Item(
            len(items), "op", op, symbol, name, node.shape, _dtype(node.dtype), scope, inputs, number, 0,
            foldable and not name, self.norms.get((number, 0)), metadata=metadata, value=node.output, gradient=gradient,
        )  # fmt: skip
        items.append(item)
        if node.arguments is not None:
            # a value that a rule of its user reads is kept there
            for source, value in zip(node.inputs, node.arguments, strict=True):
                if value is not source and type(value) is np.ndarray:
                    kept = made.get(source) if type(source) is Node else None
                    if kept is not None and kept.value is None:
                        kept.value = value

    def _symbol(self, op: str, metadata: dict[str, Any], texts: list[tuple[int, str]]) -> str:
        if not texts and not metadata:
            return SYMBOLS.get(op, op)
        if op in ("constant_power", "exponential"):
            return symbol_of(op, metadata, texts)
        key = (op, tuple(texts))
        found = self.symbols.get(key)
        if found is None:
            found = self.symbols[key] = symbol_of(op, metadata, texts)
        return found


def is_foldable(node: Node) -> bool:
    """Whether an operation only shows its input in another way."""
    op = node.primitive.name
    return op in FOLDABLE or (op == "getitem" and _is_basic(node.metadata.get("index")))


def fold(graph: Graph, keep: Callable[[Item], bool] = lambda item: False) -> Graph:
    """The graph without foldable items, except those that `keep` says; what nobody uses any more is left
    out."""
    behind: dict[Item, Item] = {}
    rest: list[Item] = []
    for item in graph.items:
        item.inputs = [behind.get(source, source) for source in item.inputs]
        if item.cut is not None:
            item.cut = behind.get(item.cut, item.cut)
        if item.foldable and not keep(item) and item.inputs:
            behind[item] = item.inputs[0]
        else:
            rest.append(item)
    wanted = set(graph.outputs)
    for item in reversed(rest):
        if item in wanted:
            wanted.update(item.inputs)
    kept = [item for item in rest if item in wanted]
    return Graph(kept, graph.outputs, graph.operations, graph.mixed_dtypes, unlisted=graph.unlisted)


@lru_cache(maxsize=4096)
def _number(value: float) -> str:
    return number(value)


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


def symbol_of(op: str, metadata: dict[str, Any], texts: Iterable[tuple[int, str]]) -> str:
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

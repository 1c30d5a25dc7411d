"""Graphs too large to look at value by value: operations of one kind in one module become one item, however many.

Only parameters and outputs stay what they are. Modules of the same name in the same place are one, and so are all
steps of a loop. The items are few whatever the size of the tape; they feed each other in circles where a loop does.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from ..probe import Gradients
from ..recording import Scope
from ..tape import Node, Output, Variable
from .graph import Graph, Item, Reader, is_foldable
from .labels import SYMBOLS
from .reading import Reading
from .scopes import gradient_scope

CROWDED = 60  # so many modules in one place keep their names


def gather(reading: Reading, gradients: Gradients | None = None, fold: bool = True) -> Graph:
    """The graph of what is alike. `count` says of how many values each item is made."""
    places = _Places()
    reader = Reader(gradients, reading.scope)
    roots = {root.node if type(root) is Output else root for root in reading.roots}
    of: dict[Any, Item] = {}  # node, or id of data -> its item
    known: dict[Hashable, Item] = {}
    feeds: dict[Item, dict[Item, None]] = {}
    other_inputs = reading.other_inputs

    def data(source: Any, user: Hashable) -> Item | None:
        """The item of a leaf or an array; arrays of one name and shape that feed the same are one."""
        if isinstance(source, Variable):
            parameter, name = source._requires_grad, source._name or ""
        elif isinstance(source, np.ndarray):
            parameter, name = False, ""
        else:
            return None
        if source.ndim == 0 and not name and not parameter:
            return None
        item = of.get(id(source))
        if item is not None:
            return item
        key = id(source) if parameter else (name, source.shape, source.dtype, user)
        item = known.get(key)
        if item is None:
            item = known[key] = reader.leaf(source) if isinstance(source, Variable) else reader.data(source, name)
        else:
            item.count += 1
        of[id(source)] = item
        return item

    for node in reading.nodes:
        inputs = other_inputs.get(node, node.inputs)
        root = node in roots
        if fold and not root and is_foldable(node):
            source = inputs[0]
            made = source.node if type(source) is Output else source
            behind = of[made] if type(made) is Node else data(made, node.primitive)
            if behind is not None:
                of[node] = behind
                continue
        scope = places.of(reading.named(node.scope))
        key: Hashable = node if root else (scope, node.primitive)
        item = known.get(key)
        sources = []
        for source in inputs:
            kind = type(source)
            made = of[source] if kind is Node else of[source.node] if kind is Output else data(source, key)
            if made is not None:
                sources.append(made)
        if item is None:
            op = node.primitive.name
            shape, dtype = (node.shape, node.dtype) if not node.primitive.outputs else (node.shape[0], node.dtype[0])
            item = Item(len(reader.items), "op", op, SYMBOLS.get(op, op), (root and node.name) or "", shape,
                        str(dtype), scope, count=0)  # fmt: skip
            item.gradient = gradient_scope(scope) is not None
            reader.items.append(item)
            known[key] = item
            feeds[item] = {}
        item.count += 1
        feeds[item].update(dict.fromkeys(sources))
        of[node] = item
    for item, found in feeds.items():
        item.inputs = list(found)
    outputs = []
    for root in reading.roots:
        item = reader.leaf(root) if isinstance(root, Variable) else of[root.node if type(root) is Output else root]
        item.output = True
        outputs.append(item)
    return Graph(reader.items, outputs, len(reading.every), calls=places.calls)


def beginning(reading: Reading, most: int, gradients: Gradients | None = None) -> Graph:
    """The first operations of a reading one by one, and its outputs: what is listed of a large graph."""
    reader = Reader(gradients, reading.scope)
    for node in reading.nodes[:most]:
        reader.read(node, reading.inputs(node), reading.outputs(node), reading.scope_of(node))
    items = list(reader.items)
    outputs = []
    for root in reading.roots:
        node = root.node if type(root) is Output else root
        if type(node) is Node and node not in reader.made and (node, getattr(root, "slot", 0)) not in reader.made:
            reader.read(node, (), reading.outputs(node), reading.scope_of(node))
        outputs.append(reader.item(root))
    return Graph(items, outputs, len(reading.every), unlisted=len(reading.nodes) - min(most, len(reading.nodes)))


class _Places:
    """For each scope the one that stands for all like it.

    Attributes:
        calls: how many scopes each stands for.
    """

    def __init__(self) -> None:
        self.calls: dict[Scope, int] = {}
        self._found: dict[Scope | None, Scope | None] = {None: None}
        self._inside: dict[Scope | None, dict[Hashable, Scope]] = {}

    def of(self, scope: Scope | None) -> Scope | None:
        """What stands for a scope."""
        found = self._found
        if scope in found:
            return found[scope]
        way = []
        while scope not in found:
            assert scope is not None
            way.append(scope)
            scope = scope.parent
        place = found[scope]
        for s in reversed(way):
            inside = self._inside.setdefault(place, {})
            if s.step is not None:
                name, label = "step", ""
            elif (s.name, s.label) in inside or len(inside) < CROWDED:
                name, label = s.name, s.label
            else:
                name, label = s.label or "others", s.label
            known = inside.get((name, label))
            if known is None:
                known = inside[name, label] = Scope(name, place, label)
            self.calls[known] = self.calls.get(known, 0) + 1
            found[s] = place = known
        return place

"""The backward view: each value beside its gradient, and the formula by which the gradient is made.

The gradient graph is made for the picture, by the same rules that a second derivative would use;
nothing is added to any `.grad`. Every gradient stands on the row of its value, so the two halves read
alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..primitive import Primitive
from ..recording import watching
from ..tape import GraphError, Node, Output, Variable
from ..tensor import Tensor, grad, tape, tensor
from .flow import connect, port, spread, straight
from .graph import Graph, Item, fold, graph_of, own_name
from .labels import clean, norm, number, shape_text
from .layered import arrange
from .model import Box, Cluster, Edge, Picture, Point, polyline, rounded
from .names import name_steps
from .ops import BETWEEN, item_box
from .reading import whole
from .runs import Analysis
from .turns import find_turns
from .twins import number_twins

MOST = 150
FORMULA = 34


def draw_backward(loss: Tensor, title: str) -> Picture:
    """Forward graph on the left, gradient graph on the right.

    Raises:
        GraphError: the values were already freed.
    """
    record = _Record(loss)
    graph = fold(record.graph)
    found = Analysis(graph, [])
    name_steps(found)
    return _draw(found, record, title)


class _Record:
    """A backward with create_graph, watched: which cotangent belongs to which value."""

    def __init__(self, loss: Tensor) -> None:
        recorded = tape(loss)
        if any(node.freed for node in recorded.nodes):
            raise GraphError(
                "the backward view computes the gradients again, and this graph was already freed. "
                "Draw before loss.backward(), or write loss.backward(retain_graph=True)."
            )
        reading = whole(recorded)
        number_twins(reading)
        find_turns(reading)
        self.graph: Graph = graph_of(reading)
        self.cotangent: dict[tuple[int, int], Tensor] = {}
        self.leaf: dict[int, Tensor] = {}

        def watch(phase: str, primitive: Primitive, node: Node | None, arguments: Sequence[Any], g: Any) -> None:
            if phase == "backward" and node is not None:
                for slot, part in enumerate(g if primitive.outputs else [g]):
                    self.cotangent[node.number, slot] = part

        leaves = [leaf for leaf in recorded.leaves() if isinstance(leaf, Tensor) and leaf.requires_grad]
        # a seed on the tape keeps every gradient on the tape, so that formulas end at ḡ and not at numbers
        seed = tensor(np.ones(loss.shape, loss.dtype), requires_grad=True)
        self.seed = seed
        with watching(watch):
            grads = grad(loss, leaves, seed, create_graph=True) if leaves else ()
        for leaf, g in zip(leaves, grads, strict=True):
            if g is not None:
                self.leaf[id(leaf)] = g

    def of(self, item: Item) -> Tensor | None:
        """The gradient with respect to an item."""
        if item.leaf is not None:
            return self.leaf.get(id(item.leaf))
        return self.cotangent.get((item.number, item.slot))


def _origin_key(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.origin or value
    if isinstance(value, Output):
        return value.node.number, value.slot
    if isinstance(value, Node):
        return value.number, 0
    return id(value)


class _Formula:
    """A gradient's formula, read off the gradient graph down to other gradients and values of the forward
    graph."""

    def __init__(self, found: Analysis, record: _Record, uses: dict[Item, list[Item]]) -> None:
        self.found = found
        self.record = record
        self.values: dict[Any, Item] = {}
        for item in record.graph.items:
            self.values[id(item.leaf) if item.leaf is not None else (item.number, item.slot)] = item
        self.behind: dict[Item, Item] = {}
        for item in record.graph.items:
            self.behind[item] = (
                self.behind[item.inputs[0]] if item.foldable and item.inputs and item not in uses else item
            )
        self.gradients: dict[Any, Item] = {}
        self.seed_key = _origin_key(record.seed)
        for item in found.graph.items:
            g = record.of(item)
            if g is not None:
                self.gradients[_origin_key(g)] = item

    def of(self, item: Item, users: list[Item]) -> tuple[str, list[Item]]:
        """The formula of the gradient of an item, and the forward values in it."""
        g = self.record.of(item)
        assert g is not None
        self.used: dict[Item, None] = {}
        self.item, self.users, self.budget = item, users, 40
        if g is self.record.seed:
            return "1", []
        if any(_origin_key(self.record.of(user)) == _origin_key(g) for user in users):
            return "ḡ", []
        if all(user.op == "scan" for user in users) and users:
            return "loop backwards (ḡ)", list(dict.fromkeys(users))
        text, _ = self._write(g.origin if g.origin is not None else g, True)
        return text, list(self.used)

    def _write(self, source: Any, top: bool = False) -> tuple[str, int]:
        """Text and how tightly it binds: 1 sum, 2 product, 3 power, 4 a word."""
        self.budget -= 1
        if self.budget < 0:
            return "…", 4
        if isinstance(source, (int, float)):
            return number(source), 4
        key = _origin_key(source)
        if not top and key == self.seed_key:
            return "ḡ", 4
        if not top and key in self.gradients:
            owner = self.gradients[key]
            several = len(set(self.users)) > 1 and owner.name
            return (f"∂L/∂{clean(self.found.name(owner), 12)}" if several else "ḡ"), 4
        value = self.values.get(key)
        if value is not None:
            value = self.behind[value]
            self.used[value] = None
            if value.name:
                return clean(own_name(value) if value.leaf is not None else self.found.name(value), 12), 4
            return ("y" if value in self.users else "x"), 4
        if isinstance(source, Output):
            text, _ = self._write(source.node.inputs[0])
            return f"{source.node.primitive.name}({text})", 4
        if isinstance(source, Node):
            return self._node(source)
        if isinstance(source, Variable):
            data = source._data
            if source is self.record.seed:
                return "ḡ", 4
            item, flipped = self._leaf(data)
            if item is not None:
                self.used[item] = None
                return f"{clean(item.name, 12) or 'x'}{'ᵀ' if flipped else ''}", 3
            if data.size and bool((data == data.flat[0]).all()):
                return number(data.flat[0]), 4
            return (clean(getattr(source, "name", None) or "", 12) or "constant"), 4
        return "constant", 4

    def _leaf(self, data: Any) -> tuple[Item | None, bool]:
        """Which leaf of the forward graph some constant is, in another shape perhaps; and whether it is transposed."""
        if data.ndim < 2:
            return None, False
        for item in self.record.graph.items:
            own = item.leaf._data if item.leaf is not None else None
            if own is not None and own.shape in (data.shape, data.shape[::-1]) and np.may_share_memory(own, data):
                return item, own.shape != data.shape or own.strides != data.strides
        if bool((data == data.flat[0]).all()):
            return None, False
        for item in self.record.graph.items:
            own = item.leaf._data if item.leaf is not None else None
            if own is None or own.size != data.size or own.ndim < 2:
                continue
            for order in (own, own.swapaxes(0, -2)):  # steps and sequences come in either order
                rows = order.reshape(-1, own.shape[-1])
                for flipped, view in ((False, rows), (True, rows.T)):
                    if view.shape[-1] == data.shape[-1] and np.array_equal(view.reshape(data.shape), data):
                        return item, flipped
        return None, False

    def _node(self, node: Node) -> tuple[str, int]:
        op = node.primitive.name
        if op == "multiply" and node.inputs[0] is node.inputs[1]:
            return f"{self._bracketed(node.inputs[0], 4)}²", 3
        if op in ("add", "subtract"):
            return (
                f"{self._bracketed(node.inputs[0], 1)} {'+' if op == 'add' else '−'} "
                f"{self._bracketed(node.inputs[1], 1 if op == 'add' else 2)}"
            ), 1
        if op in ("multiply", "divide"):
            return (
                f"{self._bracketed(node.inputs[0], 2)} {'·' if op == 'multiply' else '/'} "
                f"{self._bracketed(node.inputs[1], 2 if op == 'multiply' else 3)}"
            ), 2
        if op == "matmul":
            return f"{self._bracketed(node.inputs[0], 3)} {self._bracketed(node.inputs[1], 3)}", 2
        if op == "linear":
            product = f"{self._bracketed(node.inputs[0], 3)} {self._bracketed(node.inputs[1], 3)}"
            return f"{product} + {self._bracketed(node.inputs[2], 1)}", 1
        if op == "negative":
            return f"−{self._bracketed(node.inputs[0], 2)}", 1
        if op in ("swapaxes", "transpose", "moveaxis") and _keeps_last(node):
            return self._write(node.inputs[0])
        if op == "getitem":
            index = node.metadata.get("index")
            index = index[0] if isinstance(index, tuple) and len(index) == 1 else index
            at = index if isinstance(index, int) else "…"
            return f"{self._bracketed(node.inputs[0], 4)}[{at}]", 4
        if op in ("swapaxes", "transpose"):
            return f"{self._bracketed(node.inputs[0], 4)}ᵀ", 3
        if op in ("reshape", "cast", "broadcast_to", "unstack", "split"):
            return self._write(node.inputs[0])
        if op == "unbroadcast":
            return f"Σ {self._bracketed(node.inputs[0], 3)}", 2
        if op == "constant_power":
            b = node.metadata.get("b")
            return f"{self._bracketed(node.inputs[0], 4)}{'²' if b == 2 else f'^{number(b)}'}", 3
        name = {"sigmoid": "σ"}.get(op, op)
        inner = [self._write(source)[0] for source in node.inputs[:3]]
        return f"{name}({', '.join(inner)})", 4

    def _bracketed(self, source: Any, least: int) -> str:
        text, binds = self._write(source)
        return text if binds >= least else f"({text})"


def _keeps_last(node: Node) -> bool:
    """Whether a change of axes leaves the last one where it is: steps before sequences, or the other way about."""
    source = node.inputs[0]
    order = np.empty(tuple(range(2, 2 + len(source.shape))))
    with np.errstate(all="ignore"):
        return bool(node.primitive.forward(order, **node.metadata).shape[-1:] == order.shape[-1:])


def _draw(found: Analysis, record: _Record, title: str) -> Picture:
    picture, graph = Picture(title), found.graph
    uses = graph.consumers()
    formulas = _Formula(found, record, uses)
    items = graph.items
    position = {item: i for i, item in enumerate(items)}
    forward = {item: item_box(item, found.name(item), graph.mixed_dtypes) for item in items}
    backward: dict[Item, Box] = {}
    saved: dict[Item, list[Item]] = {}
    for item in items:
        g = record.of(item)
        if g is None:
            continue
        text, used = formulas.of(item, uses[item])
        name = clean(found.name(item), 16) or ("L" if item.output else item.symbol)
        full = f"∂L/∂{name} = {text}"
        picture.listing.append(f"{full:<52}  {shape_text(item.shape)}")
        if len(text) > FORMULA:
            text = text[: FORMULA - 1] + "…"
        size = float(np.linalg.norm(g._data))
        kind = "gradient" if item.kind == "parameter" else "backward"
        backward[item] = Box(
            kind,
            (f"∂L/∂{name} = {text}", f"{shape_text(item.shape)}  {norm(size)}"),
            f"{full}\nshape {item.shape}, {g.dtype}\n‖grad‖ = {number(size)}",
        )
        saved[item] = [value for value in used if value in position]
    widths = [max(forward[i].w, backward[i].w if i in backward else 0.0) for i in items]
    edges = [(position[s], position[i]) for i in items for s in i.inputs]
    layout = arrange(widths, edges)
    heights = [0.0] * layout.depth
    for i, item in enumerate(items):
        tall = max(forward[item].h, backward[item].h if item in backward else 0.0)
        heights[layout.layer[i]] = max(heights[layout.layer[i]], tall)
    tops, y = [], 26.0
    for height in heights:
        tops.append(y)
        y += height + BETWEEN
    shift = layout.width + 64.0
    for i, item in enumerate(items):
        box = forward[item]
        box.x, box.y = layout.x[i], tops[layout.layer[i]] + heights[layout.layer[i]] / 2
        picture.boxes.append(box)
        if item in backward:
            backward[item].x, backward[item].y = box.x + shift, box.y
            picture.boxes.append(backward[item])
    _clusters(picture, forward, backward)
    bottoms = [t + h for t, h in zip(tops, heights, strict=True)]
    _halves(
        picture,
        items,
        edges,
        forward,
        backward,
        layout.bends,
        layout.layer,
        tops,
        bottoms,
        shift,
        layout.order,
    )
    between = max(b.right for b in forward.values()), min((b.left for b in backward.values()), default=0.0)
    for item, values in saved.items():
        for value in values:
            if value in backward or value.kind != "op":
                _saved(picture, forward[value], backward[item], value, between)
    for item in graph.outputs:
        if item in backward:
            a, b = forward[item], backward[item]
            bend: list[Point] = [(a.right, a.y), (a.right + 30, a.y), (b.left - 30, b.y), (b.left, b.y)]
            picture.edges.append(Edge(a, b, bend, "", "", "backward()", ((a.right + b.left) / 2, a.y - 8)))
    picture.listing.reverse()
    return picture


def _halves(
    picture: Picture,
    items: list[Item],
    edges: list[tuple[int, int]],
    forward: dict[Item, Box],
    backward: dict[Item, Box],
    bends: dict[int, list[tuple[int, float]]],
    layer: list[int],
    tops: list[float],
    bottoms: list[float],
    shift: float,
    order: list[list[int]],
) -> None:
    incoming: dict[int, list[tuple[float, int]]] = {}
    for e, (a, b) in enumerate(edges):
        incoming.setdefault(b, []).append((forward[items[a]].x, e))
    place = {e: k for come in incoming.values() for k, (_, e) in enumerate(sorted(come))}
    for e, (a, b) in enumerate(edges):
        count = len(incoming[b])
        for boxes, dx, style in ((forward, 0.0, ""), (backward, shift, "backward")):
            if items[a] not in boxes or items[b] not in boxes:
                continue
            source, target = boxes[items[a]], boxes[items[b]]
            start, end = port(source, 0.0, top=False), port(target, spread(count, target)[place[e]], top=True)
            way: list[Point] = []
            for at, x in bends.get(e, ()):
                way += [(x + dx, tops[at] - 2), (x + dx, bottoms[at] + 2)]
            near = [boxes[items[i]] for at in range(layer[a], layer[b] + 1) for i in order[at] if items[i] in boxes]
            path = straight(start, end, near, (source, target)) or connect(
                start, end, way, bottoms[layer[a]], tops[layer[b]]
            )
            if style:
                picture.edges.append(Edge(target, source, path[::-1], style))
            else:
                picture.edges.append(Edge(source, target, path))


def _saved(picture: Picture, value: Box, gradient: Box, item: Item, between: tuple[float, float]) -> None:
    """The arrow from a value to a gradient whose formula reads it: around what stands in its way.

    Args:
        picture: what is drawn.
        value, gradient: the ends.
        item: the value.
        between: x of the right side of the forward half, and of the left side of the other.
    """
    label = f"saved {clean(item.name or item.symbol)}"
    dx = (gradient.left - value.right) * 0.4
    path: list[Point] = [
        (value.right, value.y),
        (value.right + dx, value.y),
        (gradient.left - dx, gradient.y),
        (gradient.left, gradient.y),
    ]
    others = [box for box in picture.boxes if box is not value and box is not gradient]
    if any(b.left - 2 < x < b.right + 2 and b.top - 2 < y < b.bottom + 2 for x, y in polyline(path) for b in others):
        n = sum(edge.style == "saved" for edge in picture.edges)
        lane = between[0] + 6 + (3 * n) % max(between[1] - between[0] - 12, 1)
        way = [(value.right, value.y)]
        row = [box for box in others if abs(box.y - value.y) < 1 and value.right < box.x < between[0]]
        if row:
            x, y = value.right + 8 + 3 * (n % 3), max(b.bottom for b in (*row, value)) + 5 + 3 * (n % 3)
            way += [(x, value.y), (x, y), (lane, y)]
        else:
            way.append((lane, value.y))
        row = [box for box in others if abs(box.y - gradient.y) < 1 and between[1] < box.x < gradient.left]
        if row:
            x, y = gradient.left - 10, max(b.bottom for b in (*row, gradient)) + 5 + 3 * (n % 3)
            way += [(lane, y), (x, y), (x, gradient.y)]
        else:
            way.append((lane, gradient.y))
        path = rounded([*way, (gradient.left, gradient.y)], 4.0)
    picture.edges.append(Edge(value, gradient, path, "saved", tooltip=label))


def _clusters(picture: Picture, forward: dict[Item, Box], backward: dict[Item, Box]) -> None:
    for name, boxes, kind in (
        ("forward", list(forward.values()), "cluster"),
        ("backward (itself differentiable)", list(backward.values()), "cluster backward"),
    ):
        if boxes:
            every = [*forward.values(), *backward.values()]
            picture.clusters.append(
                Cluster(
                    name,
                    min(b.left for b in boxes) - 12,
                    min(b.top for b in every) - 24,
                    max(b.right for b in boxes) + 12,
                    max(b.bottom for b in every) + 12,
                    boxes,
                    kind,
                )
            )

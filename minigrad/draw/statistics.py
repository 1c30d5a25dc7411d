"""Numbers about values and gradients, for tooltips and, on request, for the boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..primitive import Primitive
from ..tape import Node, Output
from .expand import Steps
from .graph import Item
from .labels import number
from .reading import Reading

if TYPE_CHECKING:
    from ..compile.inside import Key

Words = tuple[str, str]
LARGEST = 1 << 24  # entries; more are not looked at


def value_range(array: Any) -> str:
    """`−0.9 … 1.2`, and how many entries are not finite; "" where there is nothing to say."""
    if array is None or not 0 < array.size <= LARGEST or array.dtype.kind not in "fiub":
        return ""
    if array.dtype.kind != "f":
        first, last = int(array.min()), int(array.max())
        return f"{first} … {last}" if first != last else str(first)
    finite = np.isfinite(array)
    lost = array.size - int(np.count_nonzero(finite))
    known = array[finite] if lost else array
    if not known.size:
        return f"{lost} not finite"
    low, high = float(known.min()), float(known.max())
    text = f"{number(low)} … {number(high)}" if low != high else number(low)
    return f"{text}, {lost} not finite" if lost else text


def mean_and_deviation(array: Any) -> str:
    """`0.012 ± 0.31`; of a single number itself."""
    if array is None or not 0 < array.size <= LARGEST or array.dtype.kind != "f":
        return ""
    if array.size == 1:
        return number(array.item())
    wide = np.asarray(array, np.float64)
    return f"{number(wide.mean(), 2)} ± {number(wide.std(), 2)}"


def in_words(array: Any) -> Words:
    """Mean and deviation, and the range."""
    array = getattr(array, "_data", array)
    return mean_and_deviation(array), value_range(array)


class GradientStatistics:
    """A watcher that keeps mean, deviation and range of every gradient that passes.

    Attributes:
        texts: by (node number, slot), or the id of a leaf.
        inside: for a compiled loop, by the number of its node, those in its steps.
    """

    def __init__(self) -> None:
        self.texts: dict[Any, Words] = {}
        self.inside: dict[int, dict[Key, Words]] = {}

    def add(self, key: Any, g: Any) -> None:
        """Note a gradient under a key."""
        self.texts[key] = in_words(g)

    def watch(self, phase: str, primitive: Primitive, node: Node | None, arguments: Sequence[Any], g: Any) -> None:
        """See a cotangent pass; for `minigrad.recording.watching`."""
        if phase != "backward" or node is None:
            return
        for slot, part in enumerate(g if primitive.outputs else [g]):
            self.add((node.number, slot), part)
        if primitive.name == "scan":
            from ..compile.inside import gradients_inside, is_compiled_scan  # not needed by those who never compile

            if is_compiled_scan(node):
                self.inside[node.number] = gradients_inside(node, arguments, g, in_words)


def values_of_steps(loops: dict[Node, Steps], reading: Reading) -> dict[tuple[int, int], Words]:
    """Statistics of the values in the steps of compiled loops, as far as they are drawn: each loop is run once more."""
    found: dict[tuple[int, int], Words] = {}
    if not loops:
        return found
    from ..compile.inside import values_inside

    wanted = {node.number for node in reading.nodes}
    for node, steps in loops.items():

        def see(key: Key, value: Any, steps: Steps = steps) -> None:
            drawn = steps.drawn(key)
            if drawn in wanted:
                found[drawn, key[3]] = in_words(value)

        values_inside(node, see)
    return found


def values_again(nodes: Sequence[Node], wanted: set[int]) -> dict[tuple[int, int], Words]:
    """Statistics of the values that no derivative reads: the tape does not keep them, so they are computed again.

    From what the leaves hold now. A value that is made from what a backward freed stays unknown.

    Args:
        nodes: of the tape, in order.
        wanted: numbers of those that are drawn.
    """
    known: dict[Any, Any] = {}
    for node in nodes:
        if node.arguments is None:
            continue
        for source, value in zip(node.inputs, node.arguments, strict=True):
            if isinstance(value, np.ndarray) and type(source) is Node:
                known[source, 0] = value
            elif isinstance(value, np.ndarray) and type(source) is Output:
                known[source.node, source.slot] = value
        if node.output is not None and not node.primitive.outputs:
            known[node, 0] = node.output
    needed: dict[Node, None] = {}
    uses: dict[tuple[Node, int], int] = {}
    for node in reversed(nodes):
        slots = range(len(node.shape)) if node.primitive.outputs else (0,)
        missing = node.number in wanted and any((node, slot) not in known for slot in slots)
        if node.freed or not (missing or node in needed):
            needed.pop(node, None)
            continue
        needed[node] = None
        for key in _keys(node):
            uses[key] = uses.get(key, 0) + 1
            if key not in known:
                needed[key[0]] = None
    found: dict[tuple[int, int], Words] = {}
    for node in nodes:
        if node not in needed or any(key not in known for key in _keys(node)):
            continue
        assert node.arguments is not None
        computed = iter([known[key] for key in _keys(node)])
        values = [next(computed) if isinstance(s, (Node, Output)) else getattr(s, "_data", s) for s in node.inputs]
        with np.errstate(all="ignore"):
            made = node.primitive.forward(*values, **node.metadata)
        for slot, value in enumerate(made if node.primitive.outputs else [made]):
            if node.number in wanted and (node, slot) not in known:
                found[node.number, slot] = in_words(np.asarray(value))
            if uses.get((node, slot)):
                known.setdefault((node, slot), np.asarray(value))
        for key in _keys(node):
            uses[key] -= 1
            if not uses[key]:
                del known[key]
    return found


def _keys(node: Node) -> list[tuple[Node, int]]:
    """The node and slot of each input that was computed."""
    return [
        (s.node, s.slot) if isinstance(s, Output) else (s, 0) for s in node.inputs if isinstance(s, (Node, Output))
    ]


def say_why_missing(items: Iterable[Item], nodes: Iterable[Node], loops: dict[Node, Steps]) -> None:
    """For values that nothing is known of, the reason."""
    of = {node.number: node for node in nodes}
    inside = {n.number: node.freed for node, steps in loops.items() for n in steps.nodes}
    for item in items:
        if item.kind != "op" or item.leaf is not None or item.value is not None or item.value_range:
            continue
        node = of.get(item.number)
        if inside.get(item.number, node is not None and node.freed):
            item.missing = "were freed by backward"
        elif item.number in inside:
            item.missing = "are inside a compiled loop; statistics=True computes them"
        elif node is not None and not item.extra:
            item.missing = "are needed by no derivative and not kept; statistics=True computes them"


def annotate(items: Iterable[Item], values: dict[tuple[int, int], Words], gradients: GradientStatistics | None) -> bool:
    """Write statistics into the items; whether there was anything to write about values.

    Args:
        items: where to write them.
        values: those of values that the items do not hold themselves.
        gradients: those of gradients.
    """
    found = False
    for item in items:
        key = (item.number, item.slot) if item.leaf is None else id(item.leaf)
        text = mean_and_deviation(item.value)
        if item.value is None and item.leaf is None:
            text, item.value_range = values.get((item.number, item.slot), ("", ""))
        found = found or bool(text and item.kind == "op" and not item.output)
        lines = [f"{'mean' if '±' in text else 'value'} {text}"] if text else []
        if gradients is not None:
            mean, span = gradients.texts.get(key, ("", ""))
            if mean:
                lines.append(f"grad {mean}")
                item.gradient_range = span
            elif item.leaf is not None and getattr(item.leaf, "grad", None) is not None:
                lines.append(f"grad {mean_and_deviation(item.leaf._grad)}")
        item.extra = tuple(lines)
    return found

"""Numbers about values and gradients, for tooltips and, on request, for the boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..primitive import Primitive
from ..tape import Node
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

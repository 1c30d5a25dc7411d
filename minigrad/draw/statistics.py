"""Numbers about values and gradients, for tooltips and, on request, for the boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..primitive import Primitive
from ..tape import Node
from .graph import Item
from .labels import number

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
    """`0.012 ± 0.31`."""
    if array is None or not 0 < array.size <= LARGEST or array.dtype.kind != "f":
        return ""
    wide = np.asarray(array, np.float64)
    return f"{number(wide.mean(), 2)} ± {number(wide.std(), 2)}"


class GradientStatistics:
    """A watcher that keeps mean, deviation and range of every gradient that passes."""

    def __init__(self) -> None:
        self.texts: dict[Any, tuple[str, str]] = {}

    def add(self, key: Any, g: Any) -> None:
        """Note a gradient under a key: (node number, slot), or the id of a leaf."""
        array = getattr(g, "_data", g)
        self.texts[key] = mean_and_deviation(array), value_range(array)

    def watch(self, phase: str, primitive: Primitive, node: Node | None, arguments: Sequence[Any], g: Any) -> None:
        """See a cotangent pass; for `minigrad.recording.watching`."""
        if phase == "backward" and node is not None:
            for slot, part in enumerate(g if primitive.outputs else [g]):
                self.add((node.number, slot), part)


def annotate(items: Iterable[Item], gradients: GradientStatistics | None) -> bool:
    """Write statistics into the items; whether there was anything to write about values."""
    found = False
    for item in items:
        text = mean_and_deviation(item.value)
        found = found or bool(text and item.kind == "op")
        lines = [f"mean {text}"] if text else []
        if gradients is not None:
            key = (item.number, item.slot) if item.leaf is None else id(item.leaf)
            mean, span = gradients.texts.get(key, ("", ""))
            if mean:
                lines.append(f"grad {mean}")
                item.gradient_range = span
            elif item.leaf is not None and getattr(item.leaf, "grad", None) is not None:
                lines.append(f"grad {mean_and_deviation(item.leaf._grad)}")
        item.extra = tuple(lines)
    return found

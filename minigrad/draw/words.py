"""Words for a box: what is written in it and what is shown on pointing at it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .graph import Item
from .labels import CIRCLES, clean, norm, number, shape_text
from .statistics import value_range


def box_kind(item: Item) -> str:
    """The kind of box that shows an item."""
    if item.output:
        return "output"
    if item.gradient:
        return "gradient" if item.name else "backward"
    if item.cut is not None:
        return "detach"
    if item.kind == "op":
        return "named" if item.name else "op"
    return item.kind


def box_lines(item: Item, name: str, mixed: bool = False) -> tuple[str, ...]:
    """At most two lines: what it is, and its shape or its gradient; and statistics, if they were asked for."""
    lines = _lines(item, clean(name), mixed)
    return (*lines, *item.extra) if item.extra else lines


def _lines(item: Item, name: str, mixed: bool) -> tuple[str, ...]:
    shape = shape_text(item.shape, item.dtype if mixed else "")
    if item.kind == "parameter":
        first = f"{name} {shape}" if name else f"parameter {shape}"
        return (first, norm(item.grad)) if item.grad is not None else (first,)
    if item.cut is not None:
        return ("✂ detach", f"{name} value only" if name else "value only")
    if item.kind == "mask":
        plain, _, share = name.partition(" p=")
        share = f"p={share}" if share else item.symbol
        return (
            plain if plain and plain != "mask" else "dropout mask" if item.symbol else "mask",
            f"{shape} {share}".strip(),
        )
    if item.kind in ("input", "constant", "state"):
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
    span = value_range(item.value) or item.value_range
    if span or item.missing:
        lines.append(f"values {span or item.missing}")
    if item.cut is not None:
        lines.append("the gradient stops here")
    options = [f"{k}={clean(_plain(v), 40)}" for k, v in (item.metadata or {}).items() if not isinstance(v, np.ndarray)]
    if options:
        lines.append(clean(", ".join(options), 120))
    if item.grad is not None:
        lines.append(f"‖∂L/∂{clean(name or item.name) or 'out'}‖ = {number(item.grad)}")
    if item.gradient_range:
        lines.append(f"entries of the gradient {item.gradient_range}")
    if item.scope is not None:
        lines.append(f"made in {clean(item.scope.path, 120)}")
    return "\n".join(lines)


def full_kind(item: Item) -> str:
    """Shape of the box of an item where it is not that of its kind: the small circle."""
    plain = item.kind == "op" and not item.name and not item.output and not item.extra
    return "circle" if plain and item.symbol in CIRCLES else ""


def _plain(value: Any) -> str:
    text = getattr(value, "__name__", None)
    return text if isinstance(text, str) else repr(value)

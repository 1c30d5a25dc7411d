"""Schemes at work: masks drawn for one call, at the taps of one cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
from minigrad import Tensor
from minigrad.tensor import handle

from ..cells import NO_TAPS, Cell, Taps
from .scheme import Masks, Scheme, probability
from .schemes import NonRecurrent

Array = NDArray[Any]


class Applied(Taps):
    """Some schemes with their masks at the taps of one cell.

    Attributes:
        parts: the schemes with their masks, in the order in which they act.
        gates: how many the cell has.
        steps: the masks of each step that the loop needs, (time, batch, ...), by scheme number and name.
    """

    def __init__(self, parts: Sequence[tuple[Scheme, Masks]], gates: int,
                 steps: Mapping[str, Tensor]) -> None:
        self.parts = parts
        self.gates = gates
        self.steps = steps
        self.per_gate = any(scheme.per_gate for scheme, _ in parts)

    def at(self, now: Mapping[str, Tensor]) -> Applied:
        parts = [(scheme, Masks(m, m.on)) for scheme, m in self.parts]
        for key, mask in now.items():
            number, _, name = key.partition(" ")
            if mask.name is None:
                mask.name = self.steps[key].name
            parts[int(number)][1][name] = mask
        return Applied(parts, self.gates, {})

    def input(self, x: Tensor, W: Tensor) -> Tensor:
        if not self.per_gate:
            return self._chain("input", x, None) @ W  # type: ignore[no-any-return]
        columns = enumerate(mg.split(W, self.gates, axis=1))
        return mg.concatenate(  # type: ignore[no-any-return]
            [self._chain("input", x, k) @ w for k, w in columns], axis=-1)

    def weight(self, U: Tensor, products: Sequence[int]) -> tuple[Any, ...]:
        U = self._chain("weight", U)
        if not self.per_gate:
            return super().weight(U, products)
        columns = iter(mg.split(U, self.gates, axis=1))
        return tuple([next(columns) for _ in range(gates)] for gates in products)

    def product(self, h: Tensor, U: Any, gates: slice) -> Tensor:
        if not self.per_gate:
            return self._chain("hidden", h, None) @ U  # type: ignore[no-any-return]
        products = [self._chain("hidden", h, k) @ u for k, u in enumerate(U, gates.start)]
        return mg.concatenate(products, axis=-1)  # type: ignore[no-any-return]

    def candidate(self, g: Tensor) -> Tensor:
        return self._chain("candidate", g)  # type: ignore[no-any-return]

    def cell(self, c: Tensor) -> Tensor:
        return self._chain("cell", c)  # type: ignore[no-any-return]

    def update(self, old: Any, new: Any) -> Any:
        for scheme, m in self.parts:
            new = scheme.update(old, new, m)
        return new

    def output(self, y: Tensor) -> Tensor:
        return self._chain("output", y)  # type: ignore[no-any-return]

    def _chain(self, tap: str, value: Any, *gate: int | None) -> Any:
        """The value after every scheme's tap."""
        for scheme, m in self.parts:
            value = getattr(scheme, tap)(value, m, *gate)
        return value


def apply(schemes: Sequence[Scheme], cell: Cell, place: str, bottom: bool, top: bool,
          size: tuple[int, int], *, on: bool, rng: np.random.Generator | None,
          given: dict[str, Any]) -> tuple[Taps, dict[str, Array]]:
    """The taps of a cell for one call, and the masks, by `place/Scheme.name`.

    Args:
        schemes: in the order in which they act.
        cell: where.
        place: what the cell is called, e.g. `layer 0`.
        bottom, top: whether it is in the first layer, and in the last one.
        size: (batch, time) of the call.
        on: masks are drawn; else they are replaced by their means.
        rng: where they are drawn from.
        given: masks to use instead; those used are taken out.

    Raises:
        ValueError: a given mask has another shape.
    """
    parts: list[tuple[Scheme, Masks]] = []
    steps: dict[str, Tensor] = {}
    found: dict[str, Array] = {}
    for scheme in schemes:
        wanted, masks = scheme.masks(cell, bottom, top), Masks(on=on)
        label = type(scheme).__name__
        same = sum(type(s).__name__ == label for s, _ in parts)
        label += f" {same + 1}" if same else ""
        for name, mask in wanted.items():
            if mask.p == 0 or (not on and mask.mean == 1):
                continue
            if not on:
                masks[name] = mask.mean
                continue
            key, shape = f"{place}/{label}.{name}", mask.shape(*size)
            if key in given:
                array = given_mask(given.pop(key), key, shape, cell.dtype)
            else:
                array = mask.draw(shape, rng or np.random.default_rng(), cell.dtype)
            array.flags.writeable = False
            found[key] = array
            title = f"{label} {name} mask p={mask.p:g}"
            if mask.gates is not None:
                masks[name] = tuple(named_constant(a, title) for a in array)
            elif mask.per == "step" and mask.loop:
                steps[f"{len(parts)} {name}"] = named_constant(array, title)
                masks[name] = None
            else:
                masks[name] = named_constant(array, title)
        if masks or not wanted:
            parts.append((scheme, masks))
    return (Applied(parts, len(cell.gates), steps) if parts else NO_TAPS), found


def given_mask(mask: Any, key: str, shape: tuple[int, ...], dtype: Any) -> Array:
    array = np.array(getattr(mask, "data", mask), dtype)
    if array.shape != shape:
        raise ValueError(f"the mask {key!r} has shape {array.shape}; this call needs {shape}.")
    return array


def named_constant(array: Array, name: str) -> Tensor:
    """A named constant that shares the array's memory."""
    constant = handle(array, None)
    constant.name = name
    return constant


def schemes_of(dropout: float | Scheme | Sequence[Scheme] | None) -> list[Scheme]:
    """What a layer was given for `dropout`, as a list: a number p is NonRecurrent(p).

    Raises:
        TypeError, ValueError: it is none of these.
    """
    if dropout is None:
        return []
    if isinstance(dropout, Scheme):
        return [dropout]
    if isinstance(dropout, Sequence) and all(isinstance(s, Scheme) for s in dropout):
        return list(dropout)
    if isinstance(dropout, (int, float, np.floating)):
        p = probability(float(dropout), "dropout")
        return [NonRecurrent(p)] if p else []
    raise TypeError("dropout is a probability, a scheme from rnn.dropout or a list of schemes, not "
                    f"{dropout!r}.")

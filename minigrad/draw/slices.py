"""Slices that bring a part of something into just one step: the inputs x₁, x₂ … of a loop."""

from __future__ import annotations

from typing import Any

from .graph import Graph, Item
from .runs import Run

SLICES = frozenset({"getitem", "unstack", "split"})
FOLDABLE_VIEWS = frozenset({"reshape", "swapaxes", "transpose", "cast"})


def kept_slices(graph: Graph, place: dict[Item, tuple[Run, int]]) -> set[Item]:
    """Foldable items that bring a part of something outside into just one step."""
    root: dict[Item, Item] = {}
    part: set[Item] = set()  # views that show less than there is
    for item in graph.items:
        if item.foldable and item.inputs:
            root[item] = root.get(item.inputs[0], item.inputs[0])
            if item.op in SLICES or item.inputs[0] in part:
                part.add(item)
    users: dict[Item, set[Any]] = {}
    ends: set[Item] = set()
    for item in reversed(graph.items):
        here: Any = place.get(item)
        for source in item.inputs:
            if item.foldable and here is None:
                users.setdefault(source, set()).update(users.get(item, {None}))
            else:
                users.setdefault(source, set()).add(here)
                if source.foldable:
                    ends.add(source)
    kept = set()
    for item in ends:
        if item in part and item.op in SLICES | FOLDABLE_VIEWS and root[item].kind != "parameter":
            home = place.get(item)
            source_home = place.get(root[item])
            used_in = users[item]
            if len(used_in) == 1 and None not in used_in and source_home is None and (home is None or home in used_in):
                kept.add(item)
    # a slice of a slice is no new value: the outer one is kept
    for item in sorted(kept, key=lambda i: i.index):
        inner = item.inputs[0]
        while inner not in kept and inner.foldable and inner.inputs:
            inner = inner.inputs[0]
        if inner in kept and inner is not item:
            kept.discard(item)
    # one slice alone is no series
    series: dict[Item, int] = {}
    for item in kept:
        series[root[item]] = series.get(root[item], 0) + 1
    return {item for item in kept if series[root[item]] > 1}

"""The modules view: a box for each call of a module."""

from __future__ import annotations

from collections.abc import Hashable

from ..recording import Scope
from .collapse import draw_groups
from .graph import Item
from .groups import gather_sources
from .model import Picture
from .runs import Analysis
from .scopes import scope_chain

TOO_MANY = 120


def draw_modules(found: Analysis, title: str, depth: int | None = None) -> Picture:
    """A box for each call of a module, down to `depth` scopes; as deep as stays readable when left out."""
    cache: dict[Scope | None, tuple[Scope, ...]] = {None: ()}
    chains = {item: scope_chain(item.scope, cache) for item in found.graph.items if item.kind == "op"}
    uses = found.graph.consumers()
    deepest = max((len(chain) for chain in chains.values()), default=0)

    def keys(at: int) -> dict[Item, Hashable]:
        result: dict[Item, Hashable] = {}
        for item in found.graph.items:
            chain = chains.get(item, ())
            result[item] = chain[:at][-1] if chain and at else item
        for item in reversed(found.graph.items):
            # a slice belongs to whoever takes it
            if item.kind == "slice" and uses[item]:
                result[item] = result[uses[item][0]]
        return gather_sources(found, result)

    if depth is None:
        depth = 1
        while depth < deepest and len(set(keys(depth + 1).values())) <= 40:
            depth += 1
        # a picture of all operations is the ops view
        depth = max(1, depth - 1) if depth == deepest and deepest > 1 else depth
    chosen = keys(depth)
    if len(set(chosen.values())) > TOO_MANY:
        chosen = _merge_repeats(found, chosen)
    if len(set(chosen.values())) > TOO_MANY:
        chosen = _merge_loose(found, chosen)
    return draw_groups(found, title, chosen, horizontal=False)


def _merge_repeats(found: Analysis, keys: dict[Item, Hashable]) -> dict[Item, Hashable]:
    """Calls of the same module from the same place become one box."""
    merged: dict[Item, Hashable] = {}
    for item, key in keys.items():
        if isinstance(key, Scope):
            merged[item] = ("calls", key.parent, key.label or key.name if key.step is None else "step")
        else:
            merged[item] = key
    return gather_sources(found, merged)


def _merge_loose(found: Analysis, keys: dict[Item, Hashable]) -> dict[Item, Hashable]:
    """The last resort for huge graphs without modules: one box per operation and kind."""
    result: dict[Item, Hashable] = {}
    for item, key in keys.items():
        loose = isinstance(key, Item) or (isinstance(key, tuple) and key and key[0] == "parameters")
        result[item] = ("all", item.kind, item.op) if loose and not item.output else key
    return result

"""Trees: nested tuples, named tuples, lists and dicts of leaves. What a recurrent state or a checkpoint is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def tree_map(f: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """The same structure with `f` of each leaf (and of the leaves of `others` in the same place).

    Raises:
        ValueError: `others` have another structure.
    """
    if isinstance(tree, dict):
        for other in others:
            if not isinstance(other, dict) or other.keys() != tree.keys():
                given = list(other) if isinstance(other, dict) else type(other).__name__
                raise ValueError(f"expected the keys {list(tree)}, got {given}.")
        return {k: tree_map(f, v, *(o[k] for o in others)) for k, v in tree.items()}
    if isinstance(tree, (tuple, list)):
        for other in others:
            if not isinstance(other, (tuple, list)) or len(other) != len(tree):
                raise ValueError(f"expected {len(tree)} parts as in {type(tree).__name__}, got "
                                 f"{len(other) if isinstance(other, (tuple, list)) else type(other).__name__}.")
        parts = [tree_map(f, *items) for items in zip(tree, *others, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return f(tree, *others)


def tree_leaves(tree: Any) -> list[Any]:
    """The leaves of a tree, from left to right."""
    if isinstance(tree, dict):
        return [leaf for part in tree.values() for leaf in tree_leaves(part)]
    if isinstance(tree, (tuple, list)):
        return [leaf for part in tree for leaf in tree_leaves(part)]
    return [tree]

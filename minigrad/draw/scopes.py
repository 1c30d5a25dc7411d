"""Scopes as pictures speak of them: which are around a value, what they are called."""

from __future__ import annotations

from ..recording import Scope
from .labels import clean


def scope_chain(scope: Scope | None, cache: dict[Scope | None, tuple[Scope, ...]]) -> tuple[Scope, ...]:
    """The scopes around a value, from the outside in."""
    missing = []
    while scope not in cache:
        missing.append(scope)
        scope = scope.parent if scope is not None else None
    for s in reversed(missing):
        assert s is not None
        cache[s] = (*cache[s.parent], s)
        scope = s
    return cache[scope]


def scope_title(scope: Scope) -> str:
    """What a cluster is called: the module's class and its name."""
    if scope.label and scope.step is None and scope.label.lower() != scope.name.lower():
        return clean(f"{scope.label} · {scope.name}")
    return clean(scope.label or scope.name)


def gradient_scope(scope: Scope | None) -> Scope | None:
    """The scope that `grad(..., create_graph=True)` made around what its rules recorded, if it is in one."""
    found = None
    while scope is not None:
        if scope.label == scope.name == "gradient":
            found = scope
        scope = scope.parent
    return found

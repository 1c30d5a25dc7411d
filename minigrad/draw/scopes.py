"""Scopes as pictures speak of them: which are around a value, what they are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..recording import Scope
from .labels import clean

T = TypeVar("T")


def nearest(of: Callable[[Scope], T | None]) -> Callable[[Scope | None], T | None]:
    """A function of a scope: what `of` says of the innermost scope around it that it says something of, else None.

    What was found is remembered for all scopes on the way, so that many values in deep scopes cost little.
    """
    cache: dict[Scope | None, T | None] = {None: None}

    def find(scope: Scope | None) -> T | None:
        way = []
        while scope not in cache:
            assert scope is not None
            way.append(scope)
            here = of(scope)
            if here is not None:
                cache[scope] = here
                break
            scope = scope.parent
        found = cache[scope]
        for s in way:
            cache[s] = found
        return found

    return find


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
    name, label = scope.name, scope.label
    if label and name.lower().startswith(f"{label.lower()} "):
        return clean(label + name[len(label) :])
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

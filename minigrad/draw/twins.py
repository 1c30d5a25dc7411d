"""Modules of one class that nobody gave a name: two cells made side by side are told apart by their parameters.

The tape calls both `lstmcell`, as it calls every call of either. Calls that use the same parameters are calls of one
module. Where there are several, each gets a number, `lstmcell 1` and `lstmcell 2`, and is drawn as what it is.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from ..recording import Scope
from ..tape import Node, Output, Variable
from .reading import Reading

DEEP = 16  # parameters are looked for so many scopes down


def number_twins(reading: Reading) -> None:
    """Put scopes with a number in place of those of modules that have the same name in the same place."""
    scopes = _with_parameters(reading.nodes)
    places: dict[Hashable, int] = {}
    place: dict[Scope | None, int] = {None: -1}
    # from the outside in: what is inside of twins is told apart by them
    for level in _levels(scopes):
        groups: dict[int, list[Scope]] = {}
        for scope in level:
            outer = place.get(scope.parent, -1)
            name: Hashable = "step" if scope.step is not None else (scope.name, scope.label)
            place[scope] = places.setdefault((outer, name), len(places))
            if scope.label and scope.step is None:
                groups.setdefault(place[scope], []).append(scope)
        for group in groups.values():
            modules = _modules([scopes[scope] for scope in group]) if len(group) > 1 else [0]
            if max(modules) == 0:
                continue
            for scope, k in zip(group, modules, strict=True):
                place[scope] = places.setdefault((place[scope], k), len(places))
                reading.scopes[scope] = Scope(f"{scope.name} {k + 1}", reading.scope(scope.parent), scope.label)


def _with_parameters(nodes: Sequence[Node]) -> dict[Scope, dict[int, None]]:
    """The scopes in which parameters are used, and which; in order of first use."""
    found: dict[Scope, dict[int, None]] = {}
    for node in nodes:
        for source in node.inputs:
            kind = type(source)
            if kind is Node or kind is Output or not isinstance(source, Variable) or not source._requires_grad:
                continue
            scope, key = node.scope, id(source)
            for _ in range(DEEP):
                if scope is None:
                    break
                known = found.setdefault(scope, {})
                if key in known:
                    break
                known[key] = None
                scope = scope.parent
    return found


def _levels(scopes: dict[Scope, dict[int, None]]) -> list[list[Scope]]:
    """Scopes by how many of the others they are in."""
    depth: dict[Scope, int] = {}
    for scope in scopes:
        way: list[Scope] = []
        inner: Scope | None = scope
        while inner is not None and inner in scopes and inner not in depth:
            way.append(inner)
            inner = inner.parent
        at = depth[inner] + 1 if inner in depth else 0
        for k, s in enumerate(reversed(way)):
            depth[s] = at + k
    levels: list[list[Scope]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for scope in scopes:
        levels[depth[scope]].append(scope)
    return levels


def _modules(uses: list[dict[int, None]]) -> list[int]:
    """For each call the number of its module: two calls are of one where one uses all parameters that the other uses.

    To share some of them is not enough: two cells may be tied by a weight.
    """
    sets = list(dict.fromkeys(frozenset(keys) for keys in uses))
    leader = {keys: keys for keys in sets}

    def find(keys: frozenset[int]) -> frozenset[int]:
        while leader[keys] is not keys:
            leader[keys] = keys = leader[leader[keys]]
        return keys

    using: dict[int, list[frozenset[int]]] = {}
    for keys in sets:
        for key in keys:
            using.setdefault(key, []).append(keys)
    for keys in sets:
        for other in min((using[key] for key in keys), key=len):
            if keys < other:
                leader[find(keys)] = find(other)
    numbers: dict[frozenset[int], int] = {}
    return [numbers.setdefault(find(frozenset(keys)), len(numbers)) for keys in uses]

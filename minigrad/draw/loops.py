"""Which scopes are the steps of a loop."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from ..recording import Scope
from .graph import Graph, Item
from .runs import Run


def find_runs(graph: Graph) -> list[Run]:
    groups: dict[Hashable, list[Scope]] = {}
    seen: set[Scope] = set()
    for item in graph.items:
        if item.gradient:
            continue  # a recorded backward is no loop of the user's
        scope = item.scope
        while scope is not None and scope not in seen:
            seen.add(scope)
            key = (scope.parent, "step") if scope.step is not None else (scope.parent, scope.name, scope.label)
            groups.setdefault(key, []).append(scope)
            scope = scope.parent
    candidates: list[list[Scope]] = []
    for scopes in groups.values():
        if len(scopes) < 2:
            continue
        if scopes[0].step is None:
            candidates.append(scopes)
            continue
        run = [scopes[0]]
        direction = 0
        for scope in scopes[1:]:
            delta = (scope.step or 0) - (run[-1].step or 0)
            if delta and direction * delta >= 0:
                direction = 1 if delta > 0 else -1
                run.append(scope)
            else:
                candidates.append(run)
                run, direction = [scope], 0
        candidates.append(run)
    candidates = [c for c in candidates if len(c) > 1]
    if not candidates:
        return []
    # modules that are called again count only if a call takes something from the call before
    calls = [c for c in candidates if c[0].step is None]
    if calls:
        links = _carried(graph, calls)
        candidates = [
            part for c in candidates for part in ([c] if c[0].step is not None else _threads(c, links.get(id(c), ())))
        ]
    starts = {s for c in candidates for s in c}

    def inside_another(scope: Scope) -> bool:
        outer = scope.parent
        while outer is not None:
            if outer in starts:
                return True
            outer = outer.parent
        return False

    outermost = [c for c in candidates if not inside_another(c[0])]
    first = {}
    for item in graph.items:
        scope = item.scope
        while scope is not None and scope not in first:
            first[scope] = item.index
            scope = scope.parent
    outermost.sort(key=lambda c: first[c[0]])
    runs: list[Run] = []
    for scopes in outermost:
        steps = [s.step for s in scopes]
        timed = all(s is not None for s in steps)
        times = [int(s) for s in steps if s is not None] if timed else list(range(1, len(scopes) + 1))
        runs.append(Run(len(runs), scopes, times, reverse=times[0] > times[-1]))
    return runs


def _threads(calls: list[Scope], links: Iterable[tuple[int, int]]) -> list[list[Scope]]:
    """The loops among calls of one module: where it goes through two sequences side by side, there are two.

    Args:
        calls: in order.
        links: pairs of calls of which the second uses what the first made; calls without any are in no loop.
    """
    leader = list(range(len(calls)))
    for earlier, later in sorted(links):
        while leader[earlier] != earlier:
            leader[earlier] = earlier = leader[leader[earlier]]
        while leader[later] != later:
            leader[later] = later = leader[leader[later]]
        leader[max(earlier, later)] = min(earlier, later)
    parts: dict[int, list[int]] = {}
    for k in range(len(calls)):
        leader[k] = leader[leader[k]]
        parts.setdefault(leader[k], []).append(k)
    if len(parts) == len(calls):
        return []
    # one after the other they are parts of one loop that was cut
    side_by_side = max(part[0] for part in parts.values()) < min(part[-1] for part in parts.values())
    return [[calls[k] for k in part] for part in parts.values()] if side_by_side else [calls]


def _carried(graph: Graph, calls: list[list[Scope]]) -> dict[int, set[tuple[int, int]]]:
    """For groups of calls (by id), which later call uses a value that which earlier one made."""
    call_of = {scope: (id(group), k) for group in calls for k, scope in enumerate(group)}
    cache: dict[Scope | None, dict[int, int]] = {None: {}}

    def around(scope: Scope | None) -> dict[int, int]:
        way = []
        while scope not in cache:
            assert scope is not None
            way.append(scope)
            scope = scope.parent
        found = cache[scope]
        for s in reversed(way):
            if s in call_of:
                found = {**found, call_of[s][0]: call_of[s][1]}
            cache[s] = found
        return found

    behind: dict[Item, Item] = {}
    carried: dict[int, set[tuple[int, int]]] = {}
    for item in graph.items:
        if item.foldable and item.inputs:
            behind[item] = behind.get(item.inputs[0], item.inputs[0])
        mine = around(item.scope)
        if mine:
            for source in item.inputs:
                theirs = around(behind.get(source, source).scope)
                for g, k in mine.items():
                    if theirs.get(g, k) < k:
                        carried.setdefault(g, set()).add((theirs[g], k))
    return carried

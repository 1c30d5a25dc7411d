"""What a step of a loop is made of: the pattern that every step follows, each perhaps lacking a part of it.

Mostly one step has all of it: the first starts from constants, the last makes a state that nobody uses. In a loop of
two steps both may lack something, and the pattern is put together from the two.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..recording import Scope
from .graph import Item
from .runs import Analysis, Run

MOST = 250_000  # pairs of operations are compared to put two steps together
DONORS = 4  # so many steps make a pattern at most


def find_pattern(run: Run, found: Analysis, steps: list[list[Item]]) -> str:
    """Fill in the pattern of a run and what each step has of it; returns why it has none, or "".

    Args:
        run: the run.
        found: where positions in the pattern are written.
        steps: the items of each step, in order.
    """
    longest = max(len(body) for body in steps)
    run.pattern = next((e for e in range(1, len(steps)) if len(steps[e]) == longest), 0)
    run.usual = list(steps[run.pattern])
    donors = {run.pattern: list(range(longest))}
    while True:
        failed = _match(run, found, steps, donors)
        if failed is None:
            return ""
        if failed in donors or len(donors) == DONORS or not _merge(run, found, steps, donors, failed):
            return f"step {run.times[failed]} differs from step {run.times[run.pattern]}"


def _match(run: Run, found: Analysis, steps: list[list[Item]], donors: dict[int, list[int]]) -> int | None:
    """Find the place in the pattern of everything in every step; returns a step that does not fit."""
    likes = [likeness(item, run.scopes[found.place[item][1]]) for item in run.usual]
    for e, places in donors.items():
        found.position.update(zip(steps[e], places, strict=True))
    run.bodies = []
    for e, body in enumerate(steps):
        matched: list[Item | None] = [None] * len(likes)
        if e in donors:
            for item, p in zip(body, donors[e], strict=True):
                if len(donors) > 1 and not _fits(item, run.usual[p], found):
                    return e
                matched[p] = item
            run.bodies.append(matched)
            continue
        k = 0
        for p, like in enumerate(likes):
            if k < len(body) and likeness(body[k], run.scopes[e]) == like and _fits(body[k], run.usual[p], found):
                found.position[body[k]] = p
                matched[p] = body[k]
                k += 1
        if k < len(body):
            return e
        run.bodies.append(matched)
    return None


def _fits(item: Item, usual: Item, found: Analysis) -> bool:
    """Whether what an item takes from its own step is what the usual one takes; a constant may stand in for it."""
    here, there = found.place[item], found.place[usual]
    for source, expected in zip(item.inputs, usual.inputs, strict=True):
        if found.place.get(source) == here:
            in_pattern = found.place.get(expected) == there
            if not in_pattern or found.position.get(source) != found.position[expected]:
                return False
    return True


def likeness(item: Item, step: Scope) -> tuple[Any, ...]:
    """What an item has in common with those of other steps that do the same."""
    path = []
    scope = item.scope
    while scope is not None and scope is not step:
        path.append(scope.name)
        scope = scope.parent
    return (item.op, item.name, len(item.shape), len(item.inputs), *path)


def _merge(run: Run, found: Analysis, steps: list[list[Item]], donors: dict[int, list[int]], e: int) -> bool:
    """Put what a step has and the pattern lacks into the pattern; False if the two are too unlike."""
    usual, body = run.usual, steps[e]
    if len(usual) * len(body) > MOST:
        return False
    pairs = _in_common(run, found, usual, body)
    if 2 * len(pairs) < max(len(usual), len(body)):
        return False
    merged: list[Item] = []
    old, new = [0] * len(usual), [0] * len(body)
    p = k = 0
    for i, j in [*pairs, (len(usual), len(body))]:
        for only_usual in range(p, i):
            old[only_usual] = len(merged)
            merged.append(usual[only_usual])
        for only_here in range(k, j):
            new[only_here] = len(merged)
            merged.append(body[only_here])
        if i < len(usual):
            old[i] = new[j] = len(merged)
            merged.append(max(usual[i], body[j], key=partial(_telling, found=found)))
        p, k = i + 1, j + 1
    run.usual = merged
    for other, places in donors.items():
        donors[other] = [old[place] for place in places]
    donors[e] = new
    return True


def _in_common(run: Run, found: Analysis, usual: list[Item], body: list[Item]) -> list[tuple[int, int]]:
    """The longest series of pairs that are alike, in the order of both."""

    def facts(items: list[Item]) -> list[tuple[Any, tuple[bool, ...]]]:
        return [(likeness(item, run.scopes[found.place[item][1]]), _inner(item, found)) for item in items]

    a, b = facts(usual), facts(body)
    best = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    alike = [[x == y and (not any((*u, *v)) or any(map(min, u, v))) for y, v in b] for x, u in a]
    for i in reversed(range(len(a))):
        for j in reversed(range(len(b))):
            best[i][j] = 1 + best[i + 1][j + 1] if alike[i][j] else max(best[i + 1][j], best[i][j + 1])
    pairs = []
    i = j = 0
    while i < len(a) and j < len(b):
        if alike[i][j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i + 1][j] >= best[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def _telling(item: Item, found: Analysis) -> tuple[int, int]:
    """How much an item shows of what is usual: what it takes from its own step, and masks that are known as such."""
    return sum(_inner(item, found)), sum(source.kind == "mask" for source in item.inputs)


def _inner(item: Item, found: Analysis) -> tuple[bool, ...]:
    """Which inputs come from the same step."""
    here = found.place[item]
    return tuple(found.place.get(source) == here for source in item.inputs)

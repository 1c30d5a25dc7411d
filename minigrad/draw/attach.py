"""What hangs on each step alike: output layers, losses, masks, inputs."""

from __future__ import annotations

from typing import Any

from .graph import Item
from .labels import CIRCLES, clean
from .runs import Analysis, Key, Run


def sum_chains(found: Analysis) -> None:
    """`((L₁ + L₂) + L₃) + …` as one sum of many."""
    plus = ("+", "+ 0", "Σ")
    place = found.place
    adds = [i for i in found.graph.items if i.op == "add" and i not in place and i.symbol in plus]
    if not adds:
        return
    uses: dict[Item, int] = {}
    for item in found.graph.items:
        for source in item.inputs:
            if source.op == "add":
                uses[source] = uses.get(source, 0) + 1
    inner = {i for i in adds if not i.name and not i.output and uses.get(i) == 1}
    gone: set[Item] = set()
    for item in adds:
        if not any(source in inner for source in item.inputs):
            continue
        gone.update(source for source in item.inputs if source in inner)
        # the longer list grows, so that a chain costs what it is long
        parts = [source.inputs if source in inner else [source] for source in item.inputs]
        terms = max(parts, key=len)
        at = parts.index(terms)
        terms[:0] = [term for part in parts[:at] for term in part]
        terms += [term for part in parts[at + 1 :] for term in part]
        item.inputs = terms
        if len(terms) > 2:
            item.symbol = "Σ"
    for item in gone:
        item.inputs = []
    found.graph.items = [item for item in found.graph.items if item not in gone]


def sort_into_columns(found: Analysis) -> None:
    """Sort what is around the pattern into the columns, where it repeats."""
    for run in found.runs:
        run.columns = [{("at", p): item for p, item in enumerate(body) if item is not None} for body in run.bodies]
    _masks(found)
    _stand_ins(found)
    uses = found.graph.consumers()
    carried = {(run, *use) for run in found.runs for state in run.states for use in state.uses}
    # after a step: computed from values of one step alone
    home: dict[Item, tuple[Run, int] | None] = dict(found.place)
    after: set[Item] = set()  # depends on some step
    signature: dict[Item, Key] = {}
    for item, (run, _) in found.place.items():
        if item not in found.position:
            continue
        after.add(item)
        signature[item] = (run.index, found.position[item])
    groups: dict[Key, dict[tuple[Run, int], Item]] = {}
    for item in found.graph.items:
        if item in found.place or item.kind not in ("op", "slice"):
            continue
        if not any(source in after for source in item.inputs):
            continue
        after.add(item)
        homes = {home.get(source) for source in item.inputs if source in after}
        times = {(h[1] if not h[0].reverse else h[0].steps - 1 - h[1]) if h else None for h in homes}
        shared_ok = len(times) == 1 and None not in times
        if not shared_ok or item.output:
            home[item] = None
            continue
        at = max((h for h in homes if h is not None), key=lambda h: h[0].index)
        key: Key = (
            item.op,
            item.name,
            len(item.shape),
            tuple(signature.get(s, s if s.kind == "parameter" else s.kind) for s in item.inputs),
        )
        while at in groups.get(key, {}):
            key = (key, "again")
        signature[item] = key
        home[item] = at
        groups.setdefault(key, {})[at] = item
    for item in found.graph.items:
        own = home.get(item)
        if item in found.place or own is None or item not in signature:
            continue
        key = signature[item]
        ready = all(s in found.place for s in item.inputs if s in after)
        if ready and len(groups[key]) >= max(2, own[0].steps - 1):
            found.place[item] = own
            own[0].columns[own[1]][key] = item
    # before a step: used by values of one column alone, and made from no step
    column_key = {item: key for run in found.runs for column in run.columns for key, item in column.items()}
    before: dict[Key, dict[tuple[Run, int], Item]] = {}
    chosen: dict[Item, tuple[Key, tuple[Run, int]]] = {}
    for item in reversed(found.graph.items):
        if item in found.place or item.kind == "parameter" or item.output or not uses[item]:
            continue
        if item in after and item.kind != "slice":
            continue
        where: set[tuple[Run, int] | None] = set()
        keys: list[Any] = []
        for user in dict.fromkeys(uses[item]):
            there = found.place.get(user) or (chosen[user][1] if user in chosen else None)
            where.add(there)
            if there is None:
                continue
            user_key = column_key.get(user) or chosen[user][0]
            for k, source in enumerate(user.inputs):
                if source is item:
                    keys.append((user_key, k))
                    if (there[0], found.position.get(user), k) in carried:
                        where.add(None)
        only = next(iter(where)) if len(where) == 1 else None
        if only is None:
            continue
        key = (item.kind, item.op, item.name, tuple(sorted(map(repr, keys))))
        before.setdefault(key, {})[only] = item
        chosen[item] = (key, only)
    for item in found.graph.items:
        if item not in chosen:
            continue
        key, at = chosen[item]
        enough = len(before[key]) >= max(2, at[0].steps - 1) or item.kind in ("input", "constant", "mask")
        if enough and before[key][at] is item:
            users_ready = all(u in found.place or u in chosen for u in uses[item])
            if users_ready:
                found.place[item] = at
                at[0].columns[at[1]][key] = item


def _masks(found: Analysis) -> None:
    """What stands where other steps have a mask is one, also where nothing else of its step tells."""
    for run in found.runs:
        for body in run.bodies:
            for item, like in zip(body, run.usual, strict=True):
                if item is None or item is like:
                    continue
                for source, usual in zip(item.inputs, like.inputs, strict=False):
                    plain = source.kind in ("input", "constant") and not source.name
                    if plain and usual.kind == "mask" and source.shape == usual.shape:
                        source.kind, source.name, source.symbol = "mask", usual.name, usual.symbol


def _stand_ins(found: Analysis) -> None:
    """Constants in place of what other steps compute (a mask times the zeros of the start) take its place."""
    for run in found.runs:
        for e, body in enumerate(run.bodies):
            for p, item in enumerate(body):
                like = run.usual[p]
                if item is None:
                    continue
                for source, usual in zip(item.inputs, like.inputs, strict=False):
                    q = found.position.get(usual)
                    if q is None or found.place[usual] != found.place[like] or body[q] is not None:
                        continue
                    if source.kind in ("input", "constant") and source not in found.place:
                        source.kind = "constant"
                        source.name = source.name or (_from_the_start(run, q) if e == 0 else "")
                        found.place[source] = (run, e)
                        run.columns[e]["at", q] = source


def _from_the_start(run: Run, q: int) -> str:
    """What position `q` of the first step is, in terms of the initial states: `h₀ × mask`."""
    item = run.usual[q]
    carried = {use: state.name for state in run.states for use in state.uses}
    words = [
        f"{clean(carried[q, k], 20)}₀" if carried.get((q, k)) else "mask" if source.kind == "mask" else "…"
        for k, source in enumerate(item.inputs)
    ]
    if not any(carried.get((q, k)) for k in range(len(words))):
        return ""
    if len(words) == 2 and item.symbol in CIRCLES:
        return f"{words[0]} {item.symbol} {words[1]}"
    return f"{item.symbol}({', '.join(words)})" if len(words) < 4 else ""

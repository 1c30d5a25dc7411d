"""Items sorted into groups, each of which is drawn as one box."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from .graph import Item
from .model import Box
from .runs import Analysis, Run


@dataclass(slots=True, eq=False)
class Group:
    """Items drawn as one box."""

    key: Hashable
    items: list[Item] = field(default_factory=list)
    run: Run | None = None
    box: Box | None = None
    feeds: dict[Group, list[Item]] = field(default_factory=dict)


def gather_sources(found: Analysis, keys: dict[Item, Hashable]) -> dict[Item, Hashable]:
    """Parameters that the same group uses are one box; so are data of one kind."""
    users: dict[Item, set[Hashable]] = {}
    for item in found.graph.items:
        for source in item.inputs:
            if source.kind != "op":
                users.setdefault(source, set()).add(keys[item])
    result = dict(keys)
    data: dict[tuple[str, Hashable], list[Item]] = {}
    for item in found.graph.items:
        group = users.get(item)
        if item.output or not group or not (isinstance(keys[item], Item) or _is_parameters(keys[item])):
            continue
        if item.kind == "parameter":
            result[item] = (
                ("parameters", *sorted(group, key=id)) if len(group) > 1 else ("parameters", next(iter(group)))
            )
        elif item.kind in ("input", "mask", "constant") and len(group) == 1:
            data.setdefault((item.kind, next(iter(group))), []).append(item)
    for (kind, group_key), items in data.items():
        if len(items) > 3:
            result.update(dict.fromkeys(items, ("data", kind, group_key)))
    return result


def _is_parameters(key: Hashable) -> bool:
    return isinstance(key, tuple) and bool(key) and key[0] == "parameters"


def topological(groups: list[Group]) -> list[Group]:
    """Inputs before users where there is no cycle; in a cycle, the one that begins first."""
    waiting = dict.fromkeys(groups, 0)
    for group in groups:
        for user in group.feeds:
            if user is not group:
                waiting[user] += 1
    order: list[Group] = []
    left = dict.fromkeys(groups)
    ready = [group for group in groups if not waiting[group]]
    while left:
        if not ready:
            ready = [next(iter(left))]
        group = ready.pop(0)
        if group not in left:
            continue
        del left[group]
        order.append(group)
        for user in group.feeds:
            if user in left and user is not group:
                waiting[user] -= 1
                if not waiting[user]:
                    ready.append(user)
    return order

"""Names with the number of their step: x₁, h₂."""

from __future__ import annotations

from ..recording import Scope
from .graph import Item
from .labels import clean, subscript
from .runs import Analysis, Run
from .scopes import nearest


def name_steps(found: Analysis) -> None:
    """Names with the number of the step; initial states get ₀."""
    step = nearest(lambda scope: scope.step)
    uses = found.graph.consumers()
    several = _counts(found.graph.items)
    feeding: set[Item] = set()  # what goes into a step, if not at once
    for item in reversed(found.graph.items):
        if any(user in found.position or (user in feeding and user in found.place) for user in uses[item]):
            feeding.add(item)
    for item in found.graph.items:
        at = found.place.get(item)
        number = at[0].times[at[1]] if at is not None else step(item.scope)
        name = item.name
        if at is not None and not name and item.kind == "input":
            if item.value is not None and item.value.size > 1 and not item.value.any():
                item.kind, item.name = "constant", "zeros"  # what a loop inside the step starts from
                continue
            # an unnamed array beside the input of the step is some constant of the cell
            column = at[0].columns[at[1]].values()
            if any(i.kind == "slice" or (i.kind == "input" and i.name) for i in column):
                item.kind = "constant"
        if at is not None and not name and item.kind in ("slice", "input"):
            name = _slice_name(item) if item in feeding else "data"
            item.name = item.name or (name if name == "data" else "")
        plain = name.replace("_", "").isalnum() and len(name) <= 16
        if number is not None and plain and item.kind != "parameter":
            inner = "".join(f",{subscript(n)}" for n in _inner_steps(item, at, uses, several))
            found.names[item] = f"{clean(name, 50)}{subscript(number)}{inner}"
        elif name != item.name:
            found.names[item] = name


def _counts(items: list[Item]) -> dict[Scope | None, int]:
    """How many numbered steps each scope has."""
    seen: set[Scope] = set()
    counts: dict[Scope | None, int] = {}
    for item in items:
        scope = item.scope
        while scope is not None and scope not in seen:
            seen.add(scope)
            if scope.step is not None:
                counts[scope.parent] = counts.get(scope.parent, 0) + 1
            scope = scope.parent
    return counts


def _inner_steps(
    item: Item, at: tuple[Run, int] | None, uses: dict[Item, list[Item]], several: dict[Scope | None, int]
) -> list[int]:
    """The numbers of steps inside the step: of a loop in a loop."""
    if at is None:
        return []
    outer, scope = at[0].scopes[at[1]], item.scope
    if item.kind != "op" and uses[item]:
        scope = uses[item][0].scope
    numbers: list[int] = []
    while scope is not None and scope is not outer:
        if scope.step is not None and several[scope.parent] > 1:
            numbers.insert(0, scope.step)
        scope = scope.parent
    return numbers if scope is outer else []


def _slice_name(item: Item) -> str:
    source = item.inputs[0] if item.inputs else item
    return source.name if source.kind != "parameter" and source.name else "x"

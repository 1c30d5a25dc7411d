"""Names with the number of their step: x₁, h₂."""

from __future__ import annotations

from .graph import Item
from .labels import clean, subscript
from .runs import Analysis
from .scopes import nearest


def name_steps(found: Analysis) -> None:
    """Names with the number of the step; initial states get ₀."""
    step = nearest(lambda scope: scope.step)
    uses = found.graph.consumers()
    for item in found.graph.items:
        at = found.place.get(item)
        number = at[0].times[at[1]] if at is not None else step(item.scope)
        name = item.name
        if at is not None and not name and item.kind == "input":
            # an unnamed array beside the input of the step is some constant of the cell
            column = at[0].columns[at[1]].values()
            if any(i.kind == "slice" or (i.kind == "input" and i.name) for i in column):
                item.kind = "constant"
        if at is not None and not name and item.kind in ("slice", "input"):
            name = _slice_name(item) if any(user in found.position for user in uses[item]) else "data"
            item.name = item.name or (name if name == "data" else "")
        plain = name.replace("_", "").isalnum() and len(name) <= 16
        if number is not None and plain and item.kind != "parameter":
            found.names[item] = f"{clean(name, 50)}{subscript(number)}"
        elif name != item.name:
            found.names[item] = name


def _slice_name(item: Item) -> str:
    source = item.inputs[0] if item.inputs else item
    return source.name if source.kind != "parameter" and source.name else "x"

"""The rolled view: everything that repeats as one box, the steps of a loop, the output layer of each step."""

from __future__ import annotations

from collections.abc import Hashable

from ..recording import Scope
from .collapse import draw_groups
from .graph import Item
from .groups import gather_sources
from .model import Picture
from .runs import Analysis, Run
from .scopes import scope_chain


def draw_rolled(found: Analysis, title: str) -> Picture:
    """Each run as one box with an arrow back to itself."""
    keys: dict[Item, Hashable] = {}
    cache: dict[Scope | None, tuple[Scope, ...]] = {None: ()}
    steps = {scope for run in found.runs for scope in run.scopes}
    initial = {(run.bodies[0][p], k): run for run in found.runs for s in run.states for p, k in s.uses}
    starts: dict[Item, Run] = {}
    for (user, k), run in initial.items():
        if user is not None and k < len(user.inputs) and user.inputs[k].kind in ("input", "constant"):
            starts[user.inputs[k]] = run
    around = {outer for step in steps for outer in scope_chain(step.parent, cache)}
    names = {item: key for run in found.runs for column in run.columns for key, item in column.items()}
    for item in found.graph.items:
        home = found.place.get(item)
        if home is None:
            chain = scope_chain(item.scope, cache) if item.kind == "op" else ()
            labelled = [s for s in chain if s.label and s not in around]
            keys[item] = ("start", starts[item]) if item in starts else labelled[0] if labelled else item
        elif item in found.position:
            keys[item] = home[0]
        else:
            run, e = home
            name = names[item]
            chain = scope_chain(item.scope, cache) if item.kind == "op" else ()
            labelled = [s for s in chain if s.label and s not in steps and s not in around]
            keys[item] = ("each", run, labelled[0].label, labelled[0].name) if labelled else ("each", run, name)
    return draw_groups(found, title, gather_sources(found, keys), horizontal=True)

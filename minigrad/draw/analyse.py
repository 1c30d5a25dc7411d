"""From the items of a graph to its loops: find the steps, compare them, sort what hangs on them."""

from __future__ import annotations

from ..probe import Gradients
from .attach import sort_into_columns, sum_chains
from .compare import compare, fill_gap
from .graph import Graph, fold
from .loops import find_runs
from .names import name_steps
from .reading import Reading
from .runs import Analysis
from .scopes import nearest
from .slices import kept_slices


def analyse(graph: Graph, reading: Reading | None = None, gradients: Gradients | None = None) -> Analysis:
    """Find the runs of an unfolded graph, fold it, and compare the steps.

    Args:
        graph: the items.
        reading: where they come from, if long loops were made short there.
        gradients: norms for the states of the steps that were taken out.
    """
    runs = find_runs(graph)
    if not runs:
        found = Analysis(fold(graph), [])
        name_steps(found)
        return found
    step_of = {scope: (run, e) for run in runs for e, scope in enumerate(run.scopes)}
    where = nearest(step_of.get)
    place = {item: p for item in graph.items if item.kind == "op" and (p := where(item.scope)) is not None}
    kept = kept_slices(graph, place)
    graph = fold(graph, lambda item: item in kept)
    for item in graph.items:
        if item in kept:
            item.kind = "slice"
    found = Analysis(graph, runs, {i: p for i, p in place.items() if i.kind == "op" and not i.foldable})
    alive = set(graph.items)
    found.place = {i: p for i, p in found.place.items() if i in alive}
    for run in runs:
        reason = compare(run, found)
        if reason:
            found.failed = f"{run.title}: {reason}"
            break
        if reading is not None:
            fill_gap(run, reading, gradients)
    if not found.failed:
        sum_chains(found)
        sort_into_columns(found)
    name_steps(found)
    return found

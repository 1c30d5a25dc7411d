"""Which view shows a graph best, and what that picture says in words."""

from __future__ import annotations

from ..tensor import Tensor
from .backward import MOST as BACKWARD_MOST
from .backward import draw_backward
from .graph import Graph, Item
from .graph import fold as refold
from .labels import CIRCLES, clean, number, shape_text
from .model import Picture
from .modules import draw_modules
from .ops import draw_ops, extent
from .rolled import draw_rolled
from .runs import Analysis
from .unrolled import CannotUnroll, draw_unrolled

# Above these numbers of values a view gives way to a coarser one.
OPS_MOST = 1500
LAYOUT_MOST = 10_000
UNROLLED_MOST = 3000
GRADIENTS_MOST = 100
SAVED_MOST = 24  # arrows from values to gradients


def choose(
    wanted: list[Tensor],
    found: Analysis,
    view: str | None,
    title: str | None,
    steps: int,
    depth: int | None,
) -> tuple[Picture, str, list[str]]:
    """The picture in the asked view, or in the best; and what had to be said about the choice."""
    name = title or "computation graph"
    size = sum(item.count for item in found.graph.items)
    notes: list[str] = []
    recurrent = bool(found.runs) and not found.failed
    if view is None and any(item.gradient for item in found.graph.items):
        view = "ops" if size <= GRADIENTS_MOST else "modules"
        if view == "modules":
            notes.append(f"{size} values and gradients are many to follow: shown by module; view='ops' has all.")
    if view == "backward":
        if size <= BACKWARD_MOST:
            first = next((t for t in wanted if t.requires_grad), wanted[0])
            if len(wanted) > 1:
                which = clean(first.name or "") or "the first"
                notes.append(f"The backward view shows one output: {which} of {len(wanted)}.")
            return draw_backward(first, name), "backward", notes
        notes.append(f"{size} values are too many for the backward view; shown by module.")
        view = "modules"
    if view in ("unrolled", "rolled") and not recurrent:
        why = found.failed or "nothing is carried from step to step"
        notes.append(f"Not {view}: {clean(why, 120)}.")
        view = None
    if view is None and recurrent:
        view = "unrolled"
    if view == "unrolled":
        try:
            columns = sum(len(run.columns[run.pattern]) for run in found.runs) * steps
            if columns <= UNROLLED_MOST:
                return draw_unrolled(found, name, steps), "unrolled", notes
            notes.append(f"One step has {columns // steps} values, too many to unroll; shown rolled.")
        except CannotUnroll as error:
            notes.append(f"Not unrolled: {clean(str(error), 120)}.")
        view = "rolled"
    if view == "rolled":
        return draw_rolled(found, name), "rolled", notes
    if view in (None, "ops"):
        if size <= OPS_MOST and extent(found.graph) > LAYOUT_MOST:
            notes.append(f"The arrows among {size} values are too long to draw; shown by module. text() lists them.")
        elif size <= OPS_MOST:
            found.graph = _with_cuts(_without_slices(found.graph))
            if _saved_as_words(found):
                notes.append("Gradients read many values: × f stands for an arrow from f.")
            return draw_ops(found.graph, name, found.name), "ops", notes
        else:
            notes.append(f"{size} values are too many to draw one by one; shown by module. text() lists them.")
    return draw_modules(found, name, depth), "modules", notes


def _without_slices(graph: Graph) -> Graph:
    """The slices that show what enters a step are of no interest where there are no steps."""
    for item in graph.items:
        if item.kind == "slice":
            item.kind = "op"
    return refold(graph)


def _with_cuts(graph: Graph) -> Graph:
    """Where detach() cut, an arrow from what was cut off."""
    items = set(graph.items)
    for item in graph.items:
        if item.cut in items:
            item.inputs = [item.cut]
    return graph


def _saved_as_words(found: Analysis) -> bool:
    """Write the names of values into the gradients that read them, where arrows would be too many to follow."""
    graph = found.graph
    pairs = [(item, k) for item in graph.items if item.gradient and item.symbol in CIRCLES
             for k, source in enumerate(item.inputs) if not source.gradient and source.kind == "op"]  # fmt: skip
    if len(pairs) <= SAVED_MOST:
        return False
    names: dict[str, int] = {}
    for item in graph.items:
        names[found.name(item)] = names.get(found.name(item), 0) + 1
    written: dict[Item, list[int]] = {}
    for item, k in pairs:
        source = item.inputs[k]
        if source.name and names[found.name(source)] == 1 and not source.output:
            written.setdefault(item, []).append(k)
    for item, places in written.items():
        words = [clean(found.name(item.inputs[k]), 12) for k in places]
        if len(places) == 2:
            item.symbol = f"{words[0]} {item.symbol} {words[1]}"
        elif places[0] == 0 and item.symbol in "−÷":
            item.symbol = f"{words[0]} {item.symbol}"
        else:
            item.symbol = f"{item.symbol} {words[0]}"
        item.inputs = [source for k, source in enumerate(item.inputs) if k not in places]
    return bool(written)


def describe(found: Analysis, picture: Picture, view: str) -> str:
    """The picture in words, for those who do not see it."""
    items = found.graph.items
    parts = []
    if view in ("unrolled", "rolled"):
        for run in found.runs:
            how = f"unrolled over {run.length} steps" if view == "unrolled" else f"looped over {run.length} steps"
            parts.append(f"{run.title or 'a loop'} {how}" + (", backwards in time" if run.reverse else ""))
    else:
        parts.append(
            {
                "ops": "computation graph",
                "modules": "computation graph by module",
                "backward": "computation graph beside its gradient graph",
            }[view]
        )
    parts.append(f"{found.graph.operations} operations")
    shared = sum(item.kind == "parameter" for item in items)
    if shared:
        parts.append(f"{shared} {'shared ' if found.runs else ''}parameters")
    for run in found.runs if not found.failed else ():
        for state in run.states:
            grads = [
                item.grad for body in run.bodies if (item := body[state.source]) is not None and item.grad is not None
            ]
            if len(grads) > 1:
                parts.append(
                    f"gradient of {clean(state.name, 30) or 'the state'} goes from {number(grads[0], 2)} at "
                    f"t = {run.times[0]} to {number(grads[-1], 2)} at t = {run.times[-1]}"
                )
    for item in found.graph.outputs[:3]:
        parts.append(f"output {clean(found.name(item)) or item.symbol} {shape_text(item.shape)}")
    return "; ".join([*parts, *picture.notes])

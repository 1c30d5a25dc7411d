"""The gradient of the carried states: heat, the pills in the gutters, the strip under the picture."""

from __future__ import annotations

from ..labels import clean, norm, number, shape_text, subscript
from ..model import Box, Strip
from ..palette import heat_level
from ..runs import Run, State
from .sheet import Sheet

CELLS = 400  # of a strip


def measure_gradients(sheet: Sheet) -> None:
    ratios: list[float] = []
    for run in sheet.found.runs:
        for state in run.states:
            grads = [g for g in run.grads(state) if g is not None]
            if not grads:
                continue
            last = next((g for g in reversed(grads) if g > 0 and g == g), 1.0)
            sheet.reference[state] = last
            ratios += [g / last for g in grads if g > 0]
    if sheet.reference:
        finite = [r for r in ratios if r == r and r != float("inf")]
        wide = any(r < 1e-3 or r > 1e3 for r in finite)
        sheet.picture.heat_span = 6.0 if wide else 3.0
        sheet.picture.heat_title = "‖∂L/∂state‖ relative to the last step:"


def level(sheet: Sheet, state: State, grad: float | None) -> str:
    if grad is None or state not in sheet.reference:
        return ""
    return heat_level(grad / sheet.reference[state], sheet.picture.heat_span)


def state_box(sheet: Sheet, run: Run, state: State, e: int) -> Box:
    """The box between step `e` (in order of execution) and the next."""
    item = run.bodies[e][state.source]
    name = clean(state.name or "state", 40) + subscript(run.times[e])
    shape = item.shape if item is not None else ()
    lines: tuple[str, ...] = (f"{name} {shape_text(shape)}",)
    grad = item.grad if item is not None else None
    if grad is not None:
        lines += (norm(grad),)
    box = Box(
        "state",
        lines,
        f"carried from t = {run.times[e]} to the next step"
        + (f"\n‖∂L/∂{name}‖ = {number(grad)}" if grad is not None else ""),
    )
    box.heat = level(sheet, state, grad)
    return box


def strips(sheet: Sheet) -> None:
    for run in sheet.found.runs:
        if run.steps <= sheet.most or not run.states:
            continue
        state = next(
            (s for s in run.states if s.name == "h" and s in sheet.reference),
            next((s for s in reversed(run.states) if s in sheet.reference), None),
        )
        if state is None:
            continue
        grads = run.grads(state)
        if run.reverse:
            grads.reverse()
        first, last = min(run.times), max(run.times)
        # a strip of thousands of cells is grey dust: each stands for several steps then
        several = -(-len(grads) // CELLS)
        levels, tips = [], []
        for k in range(0, len(grads), several):
            part = grads[k : k + several]
            grad = max((g for g in part if g is not None), default=None)
            t = f"t = {first + k}" + (f" … {first + k + len(part) - 1}" if len(part) > 1 else "")
            levels.append(level(sheet, state, grad) or "heat-none")
            tips.append(f"{t}: " + (norm(grad) if grad is not None else "no gradient"))
        which = f"{run.title} · " if len(sheet.found.runs) > 1 else ""
        sheet.picture.strips.append(
            Strip(
                f"{which}‖∂L/∂{clean(state.name or 'state', 20)}ₜ‖   t = {first}",
                levels,
                tips,
                f"t = {last}",
            )
        )

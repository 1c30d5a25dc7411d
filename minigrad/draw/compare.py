"""Whether the steps of a loop are alike, and what they carry from one to the next."""

from __future__ import annotations

from ..probe import Gradients
from .graph import Item
from .labels import clean
from .pattern import find_pattern
from .reading import Reading
from .runs import Analysis, Run, State
from .scopes import scope_title


def compare(run: Run, found: Analysis) -> str:
    """Fill in the pattern of a run; returns why it has none, or ""."""
    run.title = run_title(run)
    steps: list[list[Item]] = [[] for _ in run.scopes]
    for item, (owner, e) in found.place.items():
        if owner is run:
            steps[e].append(item)
    for body in steps:
        body.sort(key=lambda item: item.index)
    reason = find_pattern(run, found, steps)
    if reason:
        return reason
    states: dict[int, State] = {}
    for e in range(1, len(steps)):
        for item in steps[e]:
            for k, source in enumerate(item.inputs):
                home = found.place.get(source)
                if home is None or home[0] is not run or home[1] == e:
                    continue
                if home[1] != e - 1:
                    return f"step {run.times[e]} reaches back to step {run.times[home[1]]}"
                p = found.position[source]
                state = states.setdefault(p, State(p, [], _state_name(source, found, run)))
                use = (found.position[item], k)
                if use not in state.uses:
                    state.uses.append(use)
    run.states = [states[p] for p in sorted(states)]
    return ""


def fill_gap(run: Run, reading: Reading, gradients: Gradients | None) -> None:
    """What is known of the steps that were taken out of a run."""
    e, cut = next(((e, cut) for e, scope in enumerate(run.scopes) if (cut := reading.cuts.get(scope))), (-1, None))
    if cut is None:
        return
    run.gap = (e, [e - back for back in cut.back])
    if run.scopes[0].step is None:
        run.times[e + 1 :] = [t + cut.count for t in run.times[e + 1 :]]
    for state in run.states:
        state.missing = [None] * cut.count
        if gradients is None:
            continue
        at: dict[int, int] = {}  # in the model that begins there, which node the state is
        for k, (start, model, like) in enumerate(zip(cut.starts, cut.models, run.gap[1], strict=True)):
            item = run.bodies[like][state.source]
            if item is not None:
                if model not in at:
                    at[model] = next(i for i in range(start) if reading.every[model + i].number == item.number)
                node = reading.every[start + at[model]]
                state.missing[k] = gradients.norms.get((node.number, item.slot))


def _state_name(item: Item, found: Analysis, run: Run) -> str:
    """What a carried value is called; an unnamed one, as a mask leaves it, like the named value it is
    made from."""
    e = found.place[item][1]
    level = [item]
    for _ in range(4):
        for candidate in level:
            if candidate.name:
                return candidate.name
        level = [s for i in level for s in i.inputs if found.place.get(s) == (run, e) and s.shape == item.shape]
    return ""


def run_title(run: Run) -> str:
    """The class and name of the layer around the steps."""
    scope = run.scopes[0]
    if scope.step is None:
        return scope_title(scope)
    outer = scope.parent
    if outer is None:
        return ""
    words = [outer.name]
    while outer is not None and not outer.label:
        outer = outer.parent
    if outer is not None and outer.label.lower() != words[0].lower():
        words.insert(0, outer.label)
    return clean(" · ".join(words))

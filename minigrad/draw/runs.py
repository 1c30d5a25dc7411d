"""What repeats: loops over time as the views see them.

A run is a scan, or a module that is called again with a value from its own last call. Where its steps agree, one is
the pattern of all: what a step takes from the step before is the carried state, whatever its cell; what hangs on each
step in the same way (an output layer, a loss, a mask) belongs to its column. `analyse` finds all that.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from ..recording import Scope
from .graph import Graph, Item
from .labels import clean

Key = Hashable


@dataclass(slots=True, eq=False)
class State:
    """A carried value: made at position `source` of a step, used by `uses` (position, argument) of the next.

    Attributes:
        name: what it is called.
        missing: norms of its gradient in the steps that were taken out of a long loop.
    """

    source: int
    uses: list[tuple[int, int]]
    name: str
    missing: list[float | None] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Run:
    """One loop over time.

    Attributes:
        scopes: of its steps, in the order of execution.
        times: the number of each step, as the user counts.
        reverse: whether it goes back in time.
        bodies: the items of each step that belong to the pattern, by position; None where a step lacks one.
        pattern: which step is the pattern, or has most of it.
        usual: an item for each position, of the pattern where it has one.
        states: what is carried.
        columns: for each step, everything drawn in its column: pattern positions and what hangs on them,
            by key.
        gap: after which step (in order of execution) others were taken out, and for each a step that is like it.
    """

    index: int
    scopes: list[Scope]
    times: list[int]
    title: str = ""
    reverse: bool = False
    bodies: list[list[Item | None]] = field(default_factory=list)
    pattern: int = 0
    usual: list[Item] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    columns: list[dict[Key, Item]] = field(default_factory=list)
    gap: tuple[int, Sequence[int]] = (-1, ())

    @property
    def gone(self) -> int:
        """How many steps were taken out."""
        return len(self.gap[1])

    @property
    def steps(self) -> int:
        """How many steps there are to look at."""
        return len(self.scopes)

    @property
    def length(self) -> int:
        """How many steps there were, with those taken out."""
        return len(self.scopes) + self.gone

    def grads(self, state: State) -> list[float | None]:
        """Norms of the gradient of a state at every step, in the order of execution."""
        known = [item.grad if (item := body[state.source]) is not None else None for body in self.bodies]
        return [*known[: self.gap[0] + 1], *state.missing, *known[self.gap[0] + 1 :]]


@dataclass(slots=True, eq=False)
class Analysis:
    """A graph with its runs.

    Attributes:
        graph: folded; slices that enter a step are kept, as kind "slice".
        place: item -> (run, step) for the items of a step's pattern and for what hangs on it.
        position: item -> position in the pattern.
        failed: why the steps cannot be stamped, or "".
    """

    graph: Graph
    runs: list[Run]
    place: dict[Item, tuple[Run, int]] = field(default_factory=dict)
    position: dict[Item, int] = field(default_factory=dict)
    failed: str = ""
    names: dict[Item, str] = field(default_factory=dict)

    def name(self, item: Item) -> str:
        """Its name with the number of its step."""
        return self.names.get(item, item.name)


def cell_title(run: Run, e: int, alone: bool = False) -> str:
    """The class of the module that a step consists of, else what is around the steps; `alone` says no more."""
    step = run.scopes[e]
    if step.step is not None and step.label:
        return clean(step.label)
    if step.step is None:
        return clean(step.label or step.name) if alone else run.title
    inner: set[Scope | None] = set()
    for item in run.bodies[e]:
        if item is not None:
            found, scope = None, item.scope
            while scope is not None and scope is not step:
                found, scope = scope, scope.parent
            inner.add(found)
    only = next(iter(inner)) if len(inner) == 1 else None
    if only is not None and only.label:
        extra = f" · {clean(step.parent.name)}" if step.parent is not None and not step.parent.label else ""
        return clean(only.label) + ("" if alone else extra)
    return clean(step.parent.label) if alone and step.parent is not None and step.parent.label else run.title or "step"

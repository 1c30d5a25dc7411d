"""What repeats: runs of time steps, found on the tape.

A run is a scan, or a module that is called again with a value from its own last call. Its steps are
compared item by item. Where they agree, one step is the pattern of all: what a step takes from the step
before is the carried state, whatever its cell; what hangs on each step in the same way (an output
layer, a loss, a mask) belongs to its column.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..probe import Gradients
from ..recording import Scope
from .graph import Graph, Item, fold
from .labels import CIRCLES, clean, subscript
from .reading import Reading
from .scopes import scope_title

Key = Hashable
SLICES = frozenset({"getitem", "unstack", "split"})


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
        pattern: which step is the pattern.
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


def analyse(graph: Graph, reading: Reading | None = None, gradients: Gradients | None = None) -> Analysis:
    """Find the runs of an unfolded graph, fold it, and compare the steps.

    Args:
        graph: the items.
        reading: where they come from, if long loops were made short there.
        gradients: norms for the states of the steps that were taken out.
    """
    runs = _find_runs(graph)
    if not runs:
        found = Analysis(fold(graph), [])
        _step_names(found)
        return found
    step_of = {scope: (run, e) for run in runs for e, scope in enumerate(run.scopes)}
    cache: dict[Scope | None, tuple[Run, int] | None] = {None: None}

    def where(scope: Scope | None) -> tuple[Run, int] | None:
        way = []
        while scope not in cache:
            assert scope is not None
            if scope in step_of:
                cache[scope] = step_of[scope]
                break
            way.append(scope)
            scope = scope.parent
        found = cache[scope]
        for s in way:
            cache[s] = found
        return found

    place = {item: p for item in graph.items if item.kind == "op" and (p := where(item.scope)) is not None}
    kept = _slices(graph, place)
    graph = fold(graph, lambda item: item in kept)
    for item in graph.items:
        if item in kept:
            item.kind = "slice"
    found = Analysis(graph, runs, {i: p for i, p in place.items() if i.kind == "op" and not i.foldable})
    alive = set(graph.items)
    found.place = {i: p for i, p in found.place.items() if i in alive}
    for run in runs:
        reason = _compare(run, found)
        if reason:
            found.failed = f"{run.title}: {reason}"
            break
        if reading is not None:
            _fill_gap(run, reading, gradients)
    if not found.failed:
        _sum_chains(found)
        _columns(found)
    _step_names(found)
    return found


# -----------------------------------------------------------------------------------------------------------
# Which scopes are the steps of a run
# -----------------------------------------------------------------------------------------------------------


def _find_runs(graph: Graph) -> list[Run]:
    groups: dict[Hashable, list[Scope]] = {}
    seen: set[Scope] = set()
    for item in graph.items:
        if item.gradient:
            continue  # a recorded backward is no loop of the user's
        scope = item.scope
        while scope is not None and scope not in seen:
            seen.add(scope)
            key = (scope.parent, "step") if scope.step is not None else (scope.parent, scope.name, scope.label)
            groups.setdefault(key, []).append(scope)
            scope = scope.parent
    candidates: list[list[Scope]] = []
    for scopes in groups.values():
        if len(scopes) < 2:
            continue
        if scopes[0].step is None:
            candidates.append(scopes)
            continue
        run = [scopes[0]]
        direction = 0
        for scope in scopes[1:]:
            delta = (scope.step or 0) - (run[-1].step or 0)
            if delta and direction * delta >= 0:
                direction = 1 if delta > 0 else -1
                run.append(scope)
            else:
                candidates.append(run)
                run, direction = [scope], 0
        candidates.append(run)
    candidates = [c for c in candidates if len(c) > 1]
    if not candidates:
        return []
    # modules that are called again count only if a call takes something from the call before
    calls = [c for c in candidates if c[0].step is None]
    if calls:
        carried = _carried(graph, calls)
        candidates = [c for c in candidates if c[0].step is not None or id(c) in carried]
    starts = {s for c in candidates for s in c}

    def inside_another(scope: Scope) -> bool:
        outer = scope.parent
        while outer is not None:
            if outer in starts:
                return True
            outer = outer.parent
        return False

    outermost = [c for c in candidates if not inside_another(c[0])]
    first = {}
    for item in graph.items:
        scope = item.scope
        while scope is not None and scope not in first:
            first[scope] = item.index
            scope = scope.parent
    outermost.sort(key=lambda c: first[c[0]])
    runs: list[Run] = []
    for scopes in outermost:
        steps = [s.step for s in scopes]
        timed = all(s is not None for s in steps)
        times = [int(s) for s in steps if s is not None] if timed else list(range(1, len(scopes) + 1))
        runs.append(Run(len(runs), scopes, times, reverse=times[0] > times[-1]))
    return runs


def _carried(graph: Graph, calls: list[list[Scope]]) -> set[int]:
    """Of groups of calls (by id), those in which a later call uses a value that an earlier one made."""
    call_of = {scope: (id(group), k) for group in calls for k, scope in enumerate(group)}
    cache: dict[Scope | None, dict[int, int]] = {None: {}}

    def around(scope: Scope | None) -> dict[int, int]:
        way = []
        while scope not in cache:
            assert scope is not None
            way.append(scope)
            scope = scope.parent
        found = cache[scope]
        for s in reversed(way):
            if s in call_of:
                found = {**found, call_of[s][0]: call_of[s][1]}
            cache[s] = found
        return found

    behind: dict[Item, Item] = {}
    carried: set[int] = set()
    for item in graph.items:
        if item.foldable and item.inputs:
            behind[item] = behind.get(item.inputs[0], item.inputs[0])
        mine = around(item.scope)
        if mine:
            for source in item.inputs:
                theirs = around(behind.get(source, source).scope)
                carried.update(g for g, k in mine.items() if theirs.get(g, k) < k)
    return carried


def _slices(graph: Graph, place: dict[Item, tuple[Run, int]]) -> set[Item]:
    """Foldable items that bring a part of something outside into just one step."""
    root: dict[Item, Item] = {}
    for item in graph.items:
        if item.foldable and item.inputs:
            root[item] = root.get(item.inputs[0], item.inputs[0])
    users: dict[Item, set[Any]] = {}
    ends: set[Item] = set()
    for item in reversed(graph.items):
        here: Any = place.get(item)
        for source in item.inputs:
            if item.foldable and here is None:
                users.setdefault(source, set()).update(users.get(item, {None}))
            else:
                users.setdefault(source, set()).add(here)
                if source.foldable:
                    ends.add(source)
    kept = set()
    for item in ends:
        if item.foldable and item.op in SLICES | FOLDABLE_VIEWS and root[item].kind != "parameter":
            home = place.get(item)
            source_home = place.get(root[item])
            used_in = users[item]
            if len(used_in) == 1 and None not in used_in and source_home is None and (home is None or home in used_in):
                kept.add(item)
    # a slice of a slice is no new value: the outer one is kept
    for item in sorted(kept, key=lambda i: i.index):
        inner = item.inputs[0]
        while inner not in kept and inner.foldable and inner.inputs:
            inner = inner.inputs[0]
        if inner in kept and inner is not item:
            kept.discard(item)
    # one slice alone is no series
    series: dict[Item, int] = {}
    for item in kept:
        series[root[item]] = series.get(root[item], 0) + 1
    return {item for item in kept if series[root[item]] > 1}


FOLDABLE_VIEWS = frozenset({"reshape", "swapaxes", "transpose", "cast"})


# -----------------------------------------------------------------------------------------------------------
# Whether the steps are alike, and what is carried
# -----------------------------------------------------------------------------------------------------------


def _compare(run: Run, found: Analysis) -> str:
    """Fill in the pattern of a run; returns why it has none, or ""."""
    run.title = _title(run)
    steps: list[list[Item]] = [[] for _ in run.scopes]
    for item, (owner, e) in found.place.items():
        if owner is run:
            steps[e].append(item)
    for body in steps:
        body.sort(key=lambda item: item.index)
    longest = max(len(body) for body in steps)
    run.pattern = next((e for e in range(1, len(steps)) if len(steps[e]) == longest), 0)
    pattern = [_likeness(item, run.scopes[run.pattern]) for item in steps[run.pattern]]
    found.position.update((item, p) for p, item in enumerate(steps[run.pattern]))
    for e, body in enumerate(steps):
        matched: list[Item | None] = []
        k = 0
        for p, like in enumerate(pattern):
            if (
                k < len(body)
                and _likeness(body[k], run.scopes[e]) == like
                and _fits(body[k], steps[run.pattern][p], e, run, found)
            ):
                found.position[body[k]] = p
                matched.append(body[k])
                k += 1
            else:
                matched.append(None)
        if k < len(body):
            return f"step {run.times[e]} differs from step {run.times[run.pattern]}"
        run.bodies.append(matched)
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


def _fill_gap(run: Run, reading: Reading, gradients: Gradients | None) -> None:
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


def _fits(item: Item, usual: Item, e: int, run: Run, found: Analysis) -> bool:
    """Whether what an item takes from its own step is what the pattern's takes; a constant may stand in for it."""
    for source, expected in zip(item.inputs, usual.inputs, strict=True):
        if found.place.get(source) == (run, e):
            in_pattern = found.place.get(expected) == (run, run.pattern)
            if not in_pattern or found.position.get(source) != found.position[expected]:
                return False
    return True


def _state_name(item: Item, found: Analysis, run: Run) -> str:
    """What a carried value is called; an unnamed one, as a mask leaves it, like the named value it is
    made from."""
    e = found.place[item][1]
    level = [item]
    for _ in range(4):
        for candidate in level:
            if candidate.name:
                return candidate.name
        level = [s for i in level for s in i.inputs if found.place.get(s) == (run, e)]
    return ""


def _likeness(item: Item, step: Scope) -> tuple[Any, ...]:
    path = []
    scope = item.scope
    while scope is not None and scope is not step:
        path.append(scope.name)
        scope = scope.parent
    return (item.op, item.name, len(item.shape), len(item.inputs), *path)


def _title(run: Run) -> str:
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


def cell_title(run: Run, e: int, alone: bool = False) -> str:
    """The class of the module that a step consists of, else what is around the steps; `alone` says no more."""
    step = run.scopes[e]
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


# -----------------------------------------------------------------------------------------------------------
# What hangs on each step alike
# -----------------------------------------------------------------------------------------------------------


def _sum_chains(found: Analysis) -> None:
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


def _columns(found: Analysis) -> None:
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
            for item, like in zip(body, run.bodies[run.pattern], strict=True):
                if item is None or like is None or item is like:
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
                like = run.bodies[run.pattern][p]
                if item is None or like is None:
                    continue
                for source, usual in zip(item.inputs, like.inputs, strict=False):
                    q = found.position.get(usual)
                    if q is None or found.place[usual] != (run, run.pattern) or body[q] is not None:
                        continue
                    if source.kind in ("input", "constant") and source not in found.place:
                        source.kind = "constant"
                        source.name = source.name or (_from_the_start(run, q) if e == 0 else "")
                        found.place[source] = (run, e)
                        run.columns[e]["at", q] = source


def _from_the_start(run: Run, q: int) -> str:
    """What position `q` of the first step is, in terms of the initial states: `h₀ × mask`."""
    item = run.bodies[run.pattern][q]
    assert item is not None
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


def _step_names(found: Analysis) -> None:
    """Names with the number of the step; initial states get ₀."""
    cache: dict[Scope | None, int | None] = {None: None}

    def step(scope: Scope | None) -> int | None:
        way = []
        while scope not in cache:
            assert scope is not None
            if scope.step is not None:
                cache[scope] = scope.step
                break
            way.append(scope)
            scope = scope.parent
        value = cache[scope]
        for s in way:
            cache[s] = value
        return value

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
            name = _slice_name(item)
        plain = name.replace("_", "").isalnum() and len(name) <= 16
        if number is not None and plain and item.kind != "parameter":
            found.names[item] = f"{clean(name, 50)}{subscript(number)}"
        elif name != item.name:
            found.names[item] = name


def _slice_name(item: Item) -> str:
    source = item.inputs[0] if item.inputs else item
    return source.name if source.kind != "parameter" and source.name else "x"

"""Loops written as plain Python: `for x in inputs: h, s = cell(x, s); h = other(h) ...`, without a word about time.

A module that is called again with a state of its own is a loop by itself (see `loops`). Where several modules need what
the others made a turn before, or where what is fed back is computed between the calls, a step of the loop is more than
one call. Where no module is called at all, a matrix that is used again and again, each time on something made from what
it gave before, is the sign of a loop. Such turns get a scope each, as if the user had written
`with mg.scope("t = 1", step=1)` around them, and are drawn like any other step.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter

from ..recording import Scope
from ..tape import Node, Output, Variable
from .graph import is_foldable
from .reading import Reading
from .scopes import gradient_scope, scope_chain
from .slices import SLICES

FIRST = 40
MOST = 300  # so many modules and matrices are looked at in one place


@dataclass(slots=True, eq=False)
class _Calls:
    """The calls of one module in one place, the steps that the user numbered there, or the uses of one matrix.

    Attributes:
        scopes: of the calls, in order; of uses, their places in the list of nodes.
        starts: where each begins in the list of nodes.
    """

    scopes: list[Scope | int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Place:
    """What there is in a scope.

    Attributes:
        own: places of the operations in it that are in no scope inside.
        scopes: those inside, with the place of the first operation of each.
        groups: the calls of each module and the uses of each matrix.
    """

    own: list[int] = field(default_factory=list)
    scopes: list[tuple[int, Scope]] = field(default_factory=list)
    groups: dict[Hashable, _Calls] = field(default_factory=dict)


def find_turns(reading: Reading) -> None:
    """Write into a reading which scopes and which operations belong to which turn of a loop."""
    places, learning = _places(reading)
    cache: dict[Scope | None, tuple[Scope, ...]] = {None: ()}
    found = []
    for outer, there in places.items():
        # one activation called after each of several layers is no loop: a turn repeats what has parameters
        groups = [calls for calls in there.groups.values() if _may_be_a_loop(calls, learning)]
        if 0 < len(groups) <= MOST and _something_between(groups, there) and gradient_scope(outer) is None:
            found.append((len(scope_chain(outer, cache)), outer, groups))
    if not found:
        return
    place = {node: i for i, node in enumerate(reading.nodes)}
    taken: set[Scope] = set()
    # from the outside in: what is inside a turn is a part of it
    for _, outer, groups in sorted(found, key=itemgetter(0)):
        if taken.isdisjoint(cache[outer]) and _turn(reading, outer, groups, _inside(places, outer), place):
            taken.update(reading.turns)
            taken.update(s for calls in groups for s in calls.scopes if isinstance(s, Scope) and s.step is not None)


def _places(reading: Reading) -> tuple[dict[Scope | None, _Place], set[Scope]]:
    """What there is in each scope; and the scopes in which parameters are used."""
    places: dict[Scope | None, _Place] = {None: _Place()}
    learning: set[Scope] = set()
    parts: dict[Node, Hashable] = {}  # of what only shows a matrix in another way: the matrix
    plain = not reading.scopes
    for i, node in enumerate(reading.nodes):
        scope = node.scope if plain else reading.named(node.scope)
        here = places.get(scope)
        if here is None:
            way = []
            outer = scope
            while outer not in places:
                assert outer is not None
                way.append(outer)
                outer = outer.parent
            for new in reversed(way):
                here = places[new] = _Place()
                around = places[new.parent]
                key: Hashable = "step" if new.step is not None else (new.name, new.label) if new.label else new
                calls = around.groups.setdefault(key, _Calls())
                calls.scopes.append(new)
                calls.starts.append(i)
                around.scopes.append((i, new))
        assert here is not None
        here.own.append(i)
        matrices: list[Hashable] = []
        for source in node.inputs:
            kind = type(source)
            if kind is Node:
                if source in parts:
                    matrices.append(parts[source])
            elif kind is Output:
                if source.node in parts:
                    matrices.append((parts[source.node], source.slot))
            elif isinstance(source, Variable) and source._requires_grad:
                if source.ndim > 1:
                    matrices.append(id(source))
                outer = scope
                while outer is not None and outer not in learning:
                    learning.add(outer)
                    outer = outer.parent
        if not matrices:
            continue
        if is_foldable(node):
            # a part that was cut out is another matrix, the whole in another form is not
            parts[node] = (matrices[0], i) if node.primitive.name in SLICES else matrices[0]
            continue
        calls = here.groups.setdefault(("uses", *matrices), _Calls())
        calls.scopes.append(i)
        calls.starts.append(i)
    return places, learning


def _something_between(groups: list[_Calls], there: _Place) -> bool:
    """Whether there is more between the calls of one module than these calls."""
    if len(groups) > 1:
        return True
    (calls,) = groups
    low, high = calls.starts[0], calls.starts[-1]
    if isinstance(calls.scopes[0], int) or bisect_left(there.own, high) > bisect_left(there.own, low):
        return True
    begin, end = bisect_left(there.scopes, low, key=itemgetter(0)), bisect_left(there.scopes, high, key=itemgetter(0))
    return end - begin >= len(calls.scopes)


def _inside(places: dict[Scope | None, _Place], outer: Scope | None) -> dict[int, Scope | None]:
    """The places of all operations in a scope, in order; for each the scope in it that it is in, or None."""
    found: dict[int, Scope | None] = dict.fromkeys(places[outer].own)
    for _, child in places[outer].scopes:
        stack = [child]
        while stack:
            scope = stack.pop()
            found.update(dict.fromkeys(places[scope].own, child))
            stack += [inner for _, inner in places[scope].scopes]
    return dict(sorted(found.items()))


def _may_be_a_loop(calls: _Calls, learning: set[Scope]) -> bool:
    first = calls.scopes[0]
    if isinstance(first, int):
        return len(calls.scopes) > 2
    return len(calls.scopes) > 1 and (first.step is not None or sum(s in learning for s in calls.scopes) > 1)


def _turn(
    reading: Reading,
    outer: Scope | None,
    groups: list[_Calls],
    child: dict[int, Scope | None],
    place: dict[Node, int],
) -> bool:
    """Put the turns of loops among some calls into the reading, where they are more than the calls of one module.

    Args:
        reading: where they are written.
        outer: what the calls are in.
        groups: the calls, by module.
        child: places of the operations in that scope, and for each the scope in it that it is in.
        place: of each operation.
    """
    of: dict[Scope | int | None, tuple[int, int]] = {
        scope: (g, k) for g, calls in enumerate(groups) for k, scope in enumerate(calls.scopes)
    }
    call: dict[int, tuple[int, int]] = {}  # of each operation in a call, which
    inside = list(child)
    for i, below in child.items():
        at_once = of.get(i if below is None else below)
        if at_once is not None:
            call[i] = at_once
    sources: dict[int, list[int]] = {}
    # what each operation between the calls has behind it: groups of calls
    behind: dict[int, int] = {}
    feeds = [0] * len(groups)  # which groups a group needs, by bits
    loose = [0] * len(groups)  # and through something between the calls
    again = [False] * len(groups)  # whether a call needs an earlier one of its own group
    # the first turns show whether there is a loop
    limit = max(calls.starts[min(FIRST, len(calls.starts) - 1)] for calls in groups)
    for i in inside:
        if i > limit:
            if not any(_is_more(circle, groups, loose, again) for circle in _circles(feeds)):
                return False
            limit = inside[-1]
        sources[i] = [at for at in _sources(reading, i, place) if at in child]
        bits = direct = 0
        mine = call.get(i)
        for at in sources[i]:
            theirs = call.get(at)
            if theirs is None:
                bits |= behind[at]
            elif theirs != mine:
                direct |= 1 << theirs[0]
        if mine is None:
            behind[i] = bits | direct
        else:
            feeds[mine[0]] |= bits | direct
            loose[mine[0]] |= bits
            again[mine[0]] |= bool(direct >> mine[0] & 1)
    found = False
    for circle in _circles(feeds):
        if not _is_more(circle, groups, loose, again):
            continue
        turns = _take_turns([groups[g] for g in range(len(groups)) if circle >> g & 1])
        if turns is None:
            continue
        found = True
        steps, starts = turns
        # between the calls, and needed by one: a part of the turn
        needed: set[int] = set()
        for i in reversed(inside):
            if i in needed or (i in call and circle >> call[i][0] & 1):
                needed.update(at for at in sources[i] if at not in call and behind[at] & circle)
        needed |= _last_turn(reading, inside, sources, needed, circle, call, starts)
        if not steps:
            steps = [Scope(f"t = {k + 1}", outer, "", k + 1) for k in range(len(starts))]
        for i in inside:
            scope = child[i]
            if (i in call and circle >> call[i][0] & 1) or i in needed:
                step = steps[bisect_right(starts, i) - 1]
                if scope is None:
                    reading.loose[reading.nodes[i]] = step
                elif scope.step is None:
                    reading.turns.setdefault(scope, Scope(scope.name, step, scope.label))
    return found


def _is_more(circle: int, groups: list[_Calls], loose: list[int], again: list[bool]) -> bool:
    """Whether a loop is more than the calls of one module."""
    only = circle.bit_length() - 1
    if circle & (circle - 1):
        return True
    return bool(loose[only] & circle) and (len(groups[only].scopes) > 2 or again[only])


def _last_turn(
    reading: Reading,
    inside: Sequence[int],
    sources: dict[int, list[int]],
    needed: set[int],
    circle: int,
    call: dict[int, tuple[int, int]],
    starts: Sequence[int],
) -> set[int]:
    """What the last turn does between the calls like the one before, though no call needs it any more."""
    nodes, (low, high) = reading.nodes, starts[-2:]
    turns: tuple[list[list[int]], list[list[int]]] = ([], [])  # the calls of the turn before, and of the last
    last = (-1, -1)
    for i in inside:
        if i >= low and i in call and circle >> call[i][0] & 1:
            if call[i] != last:
                last = call[i]
                turns[i >= high].append([])
            turns[i >= high][-1].append(i)
    like: dict[int, int] = {}  # of an operation of the last turn, which of the turn before does the same
    for theirs, ours in zip(*turns, strict=False):
        if len(theirs) == len(ours):
            like.update(zip(ours, theirs, strict=True))

    def alike(a: int, b: int) -> bool:
        return nodes[a].primitive is nodes[b].primitive and nodes[a].name == nodes[b].name

    def same(a: int, b: int) -> bool:
        """Whether what the last turn takes is what the turn before took, of its own turn or of the one before that."""
        return like.get(a, a) == b or (low <= a < high and b < low and alike(a, b))

    waiting = [i for i in inside if low <= i < high and i in needed]
    found: set[int] = set()
    for i in inside:
        if i < high or i in call or not sources[i]:
            continue
        for j in waiting:
            if alike(i, j) and len(sources[i]) == len(sources[j]) and all(map(same, sources[i], sources[j])):
                like[i] = j
                waiting.remove(j)
                found.add(i)
                break
    return found


def _sources(reading: Reading, i: int, place: dict[Node, int]) -> list[int]:
    """Where the inputs of an operation were computed."""
    inputs = reading.inputs(reading.nodes[i])
    return [place[s.node if type(s) is Output else s] for s in inputs if type(s) in (Node, Output)]


def _circles(feeds: list[int]) -> list[int]:
    """Groups that need each other, or themselves, as bits."""
    reach = list(feeds)
    for k in range(len(reach)):
        for g in range(len(reach)):
            if reach[g] >> k & 1:
                reach[g] |= reach[k]
    found: list[int] = []
    for g in range(len(reach)):
        if reach[g] >> g & 1 and not any(circle >> g & 1 for circle in found):
            found.append(sum(1 << h for h in range(len(reach)) if reach[g] >> h & 1 and reach[h] >> g & 1))
    return found


def _take_turns(groups: list[_Calls]) -> tuple[list[Scope], list[int]] | None:
    """Where the turns begin in which some modules are called, always in the same order; the last may end early.

    Returns:
        The scopes of the turns, where the user numbered them, and where each begins; None if there is no such order.
    """
    calls = sorted((start, g, s) for g, c in enumerate(groups) for start, s in zip(c.starts, c.scopes, strict=True))
    order = [g for _, g, _ in calls]
    period = next((p for p in range(1, len(order) // 2 + 1) if order[p:] == order[:-p]), 0)
    if not period:
        return None
    steps = [scope for _, _, scope in calls if isinstance(scope, Scope) and scope.step is not None]
    starts = [start for start, _, _ in calls[::period]]
    if steps:
        numbers = [scope.step or 0 for scope in steps]
        if calls[0][2] is not steps[0] or len(steps) != len(starts) or any(b != a + 1 for a, b in pairwise(numbers)):
            return None
    return steps, starts

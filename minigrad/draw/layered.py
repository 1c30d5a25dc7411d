"""A layered drawing of a directed graph: layers, order within a layer, positions.

The classic three steps. Layers are longest paths; edges that skip layers get a dummy in each; the order
in a layer follows the median of the neighbours, sweep by sweep, keeping the best; then each layer is
placed as near to its neighbours as the order and the widths allow, which is isotonic regression and
needs no solver.

The result counts layers from 0 at the sources. Whether that is up, down or sideways is the caller's
choice.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

GAP = 16.0  # between boxes of a layer
DUMMY_GAP = 9.0  # beside a passing edge
FAR = 300.0  # a box is not pushed farther out of the way of a group


@dataclass(slots=True)
class Layout:
    """Where things are: a layer and a middle x for each node, and for each edge the x at which it passes
    each layer."""

    layer: list[int]
    x: list[float]
    bends: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    width: float = 0.0
    order: list[list[int]] = field(default_factory=list)

    @property
    def depth(self) -> int:
        """Number of layers."""
        return max(self.layer, default=-1) + 1


def assign_layers(count: int, edges: Sequence[tuple[int, int]], floor: Sequence[int] | None = None) -> list[int]:
    """Longest path from the sources, then sources pulled up to just below their first consumer.

    Nodes must be numbered so that edges go from lower to higher numbers. `floor[i]` is the lowest layer
    for node i.
    """
    layer = list(floor) if floor is not None else [0] * count
    above: list[list[int]] = [[] for _ in range(count)]
    fed = [False] * count
    for a, b in edges:
        above[a].append(b)
        fed[b] = True
    for a in range(count):
        for b in above[a]:
            layer[b] = max(layer[b], layer[a] + 1)
    for a in reversed(range(count)):
        if not fed[a] and above[a]:
            layer[a] = max(layer[a], min(layer[b] for b in above[a]) - 1)
    return layer


def arrange(
    widths: Sequence[float],
    edges: Sequence[tuple[int, int]],
    *,
    layers: Sequence[int] | None = None,
    pull: dict[int, float] | None = None,
    groups: Sequence[tuple[Hashable, ...]] | None = None,
    gap: float = GAP,
    sweeps: int | None = None,
) -> Layout:
    """Lay out a graph.

    Args:
        widths: of each node; nodes are numbered in a topological order.
        edges: pairs of numbers, from lower to higher.
        layers: a layer for each node, if not the longest path.
        pull: nodes that must stand at the left (-1) or right (+1) end of their layer.
        groups: for each node the nested groups (clusters) it is in, which are kept together in every layer.
        gap: between neighbours.
        sweeps: how often to improve the order; fewer for large graphs by default.
    """
    count = len(widths)
    layer = list(layers) if layers is not None else assign_layers(count, edges)
    group: list[tuple[Hashable, ...]] = [tuple(g) for g in groups] if groups is not None else [()] * count
    size = list(widths)
    below: list[list[int]] = [[] for _ in range(count)]
    above: list[list[int]] = [[] for _ in range(count)]
    chains: dict[int, list[int]] = {}
    for e, (a, b) in enumerate(edges):
        previous = a
        shared = _common(group[a], group[b])
        for level in range(layer[a] + 1, layer[b]):
            dummy = len(size)
            size.append(1.0)
            layer.append(level)
            group.append(shared)
            below.append([previous])
            above.append([])
            above[previous].append(dummy)
            chains.setdefault(e, []).append(dummy)
            previous = dummy
        above[previous].append(b)
        below[b].append(previous)
    total = len(size)
    rows: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
    for node in _first_order(total, below, above, layer):
        rows[layer[node]].append(node)
    if sweeps is None:
        sweeps = 24 if total < 400 else 10 if total < 3000 else 4
    rows = _order(rows, below, above, group, pull or {}, sweeps)
    x = _place(rows, below, above, size, count, gap, 12 if total < 3000 else 5)
    if groups is not None:
        _part_groups(rows, x, size, group, count, gap)
    left = min((x[i] - size[i] / 2 for i in range(total)), default=0.0)
    x = [v - left for v in x]
    result = Layout(layer[:count], x[:count], order=[[i for i in row if i < count] for row in rows])
    result.width = max((x[i] + size[i] / 2 for i in range(total)), default=0.0)
    for e, chain in chains.items():
        result.bends[e] = [(layer[d], x[d]) for d in chain]
    return result


def _common(a: tuple[Hashable, ...], b: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    n = 0
    while n < len(a) and n < len(b) and a[n] == b[n]:
        n += 1
    return a[:n]


def _first_order(total: int, below: list[list[int]], above: list[list[int]], layer: list[int]) -> list[int]:
    """Depth first from the last nodes down, inputs from left to right: already close to planar for most
    networks."""
    seen = [False] * total
    order: list[int] = []
    roots = [n for n in range(total) if not above[n]]
    for root in roots:
        stack = [(root, 0)]
        seen[root] = True
        while stack:
            node, k = stack.pop()
            while k < len(below[node]) and seen[below[node][k]]:
                k += 1
            if k < len(below[node]):
                child = below[node][k]
                stack.append((node, k + 1))
                seen[child] = True
                stack.append((child, 0))
            else:
                order.append(node)
    return order


def _order(
    rows: list[list[int]],
    below: list[list[int]],
    above: list[list[int]],
    group: list[tuple[Hashable, ...]],
    pull: dict[int, float],
    sweeps: int,
) -> list[list[int]]:
    grouped = any(group)
    best = [_settle(row, {n: float(i) for i, n in enumerate(row)}, group, pull, grouped) for row in rows]
    best_crossings = _crossings(best, above)
    current = [list(row) for row in best]
    for sweep in range(sweeps):
        if best_crossings == 0:
            break
        downward = sweep % 2 == 0
        neighbours = below if downward else above
        place = {n: i for row in current for i, n in enumerate(row)}
        for r in range(len(current)) if downward else reversed(range(len(current))):
            row = current[r]
            keys: dict[int, float] = {}
            for i, n in enumerate(row):
                at = sorted([place[m] for m in neighbours[n]])
                keys[n] = float(i) if not at else sum(at) / len(at) if sweep % 4 < 2 else _median(at)
            current[r] = _settle(row, keys, group, pull, grouped)
            for i, n in enumerate(current[r]):
                place[n] = i
        crossings = _crossings(current, above)
        if crossings < best_crossings:
            best, best_crossings = [list(row) for row in current], crossings
    if sum(map(len, rows)) < 1500:
        _exchange(best, below, above, group, pull)
    return best


def _median(at: list[int]) -> float:
    middle = len(at) // 2
    return float(at[middle]) if len(at) % 2 else (at[middle - 1] + at[middle]) / 2


def _settle(
    row: list[int],
    keys: dict[int, float],
    group: list[tuple[Hashable, ...]],
    pull: dict[int, float],
    grouped: bool,
) -> list[int]:
    """A row in the order of its keys, with each group together."""
    if not grouped:
        return sorted(row, key=lambda n: (pull.get(n, 0.0), keys[n]))
    means: dict[tuple[Hashable, ...], list[float]] = {}
    for n in row:
        for depth in range(1, len(group[n]) + 1):
            means.setdefault(group[n][:depth], []).append(keys[n])
    first = {g: i for i, g in enumerate(means)}
    mean = {g: (sum(v) / len(v), first[g]) for g, v in means.items()}

    def key(n: int) -> tuple[tuple[float, float, int], ...]:
        path = [(0.0, *mean[group[n][:d]]) for d in range(1, len(group[n]) + 1)]
        return (*path, (pull.get(n, 0.0), keys[n], -1))

    return sorted(row, key=key)


def _crossings(rows: list[list[int]], above: list[list[int]]) -> int:
    place = {n: i for row in rows for i, n in enumerate(row)}
    total = 0
    for row in rows:
        ends: list[int] = []
        for n in row:
            targets = sorted([place[m] for m in above[n]])
            for t in targets:
                total += len(ends) - bisect_right(ends, t)
            for t in targets:
                insort(ends, t)
    return total


def _exchange(
    rows: list[list[int]],
    below: list[list[int]],
    above: list[list[int]],
    group: list[tuple[Hashable, ...]],
    pull: dict[int, float],
) -> None:
    """Swap neighbours while that removes crossings."""
    place = {n: i for row in rows for i, n in enumerate(row)}

    def gain(a: int, b: int) -> int:
        """How many crossings fewer there are with b before a."""
        count = 0
        for neighbours in (below, above):
            others = [place[q] for q in neighbours[b]]
            for p in neighbours[a]:
                at = place[p]
                for q in others:
                    count += (at > q) - (at < q)
        return count

    for _ in range(6):
        improved = False
        for row in rows:
            for i in range(len(row) - 1):
                a, b = row[i], row[i + 1]
                if group[a] == group[b] and pull.get(a, 0.0) == pull.get(b, 0.0) and gain(a, b) > 0:
                    row[i], row[i + 1] = b, a
                    place[a], place[b] = i + 1, i
                    improved = True
        if not improved:
            return


def _place(
    rows: list[list[int]],
    below: list[list[int]],
    above: list[list[int]],
    size: list[float],
    real: int,
    gap: float,
    sweeps: int,
) -> list[float]:
    x = [0.0] * len(size)
    for row in rows:
        at = 0.0
        for n in row:
            x[n] = at + size[n] / 2
            at += size[n] + gap
        for n in row:
            x[n] -= at / 2
    # long edges are kept straight: a dummy is pulled harder by another dummy than by a box
    for sweep in range(sweeps):
        last = sweep >= sweeps - 2
        downward = sweep % 2 == 0
        for r in range(len(rows)) if downward else reversed(range(len(rows))):
            row = rows[r]
            wishes, weights = [], []
            for n in row:
                near = below[n] + above[n] if last else (below[n] if downward else above[n]) or above[n] or below[n]
                top, weight = 0.0, 0.0
                for m in near:
                    w = 8.0 if n >= real and m >= real else 2.0 if n >= real or m >= real else 1.0
                    if not below[m] or not below[n]:
                        w = 0.1  # what only feeds gives way to what is computed
                    top += w * x[m]
                    weight += w
                wishes.append(top / weight if weight else x[n])
                weights.append(weight or 0.01)
            for n, v in zip(row, _spaced(row, wishes, weights, size, real, gap), strict=True):
                x[n] = v
    return x


def _part_groups(
    rows: list[list[int]],
    x: list[float],
    size: list[float],
    group: list[tuple[Hashable, ...]],
    real: int,
    gap: float,
) -> None:
    """Push boxes out of the rectangles of groups they are not in, unless that is far: such a group has no rectangle."""
    where: dict[tuple[Hashable, ...], list[tuple[int, int]]] = {}
    for r, row in enumerate(rows):
        for i, n in enumerate(row):
            if n < real:
                for depth in range(1, len(group[n]) + 1):
                    where.setdefault(group[n][:depth], []).append((r, i))
    for key in sorted(where, key=len, reverse=True):
        members = where[key]
        nodes = [rows[r][i] for r, i in members]
        left = min(x[n] - size[n] / 2 for n in nodes) - gap
        right = max(x[n] + size[n] / 2 for n in nodes) + gap
        ends: dict[int, tuple[int, int]] = {}
        for r, i in members:
            low, high = ends.get(r, (i, i))
            ends[r] = min(low, i), max(high, i)
        pushes: list[tuple[list[int], float]] = []
        for r, (low, high) in ends.items():
            row = rows[r]
            after = next((n for n in row[high + 1 :] if n < real), None)
            if after is not None and (push := right - (x[after] - size[after] / 2)) > 0:
                pushes.append((row[row.index(after) :], push))
            before = next((n for n in reversed(row[:low]) if n < real), None)
            if before is not None and (push := (x[before] + size[before] / 2) - left) > 0:
                pushes.append((row[: row.index(before) + 1], -push))
        if all(abs(push) <= FAR for _, push in pushes):
            for moved, push in pushes:
                for n in moved:
                    x[n] += push


def _spaced(
    row: list[int], wishes: list[float], weights: list[float], size: list[float], real: int, gap: float
) -> list[float]:
    """The positions nearest to the wishes (least squares) that keep the order and the gaps: isotonic
    regression."""
    offsets, at = [], 0.0
    for i, n in enumerate(row):
        if i:
            previous = row[i - 1]
            space = gap if n < real and previous < real else DUMMY_GAP
            at += size[previous] / 2 + space + size[n] / 2
        offsets.append(at)
    blocks: list[tuple[float, float, int]] = []
    for wish, weight, offset in zip(wishes, weights, offsets, strict=True):
        block = ((wish - offset) * weight, weight, 1)
        while blocks and blocks[-1][0] / blocks[-1][1] > block[0] / block[1]:
            top = blocks.pop()
            block = (top[0] + block[0], top[1] + block[1], top[2] + block[2])
        blocks.append(block)
    result: list[float] = []
    for total, weight, n in blocks:
        result += [total / weight] * n
    return [v + o for v, o in zip(result, offsets, strict=True)]

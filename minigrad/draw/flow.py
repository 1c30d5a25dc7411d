"""Geometry that views share: arrows between layers, their places on the boxes, rails from parameters."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from .model import Box, Edge, Picture, Point, flowing, line, rounded

RAIL_STEP = 4.5
COLUMN_GAP = 11.0


def port(box: Box, at: float, top: bool) -> Point:
    """The point on the upper or lower side of a box, `at` to the right of its middle."""
    half = box.h / 2
    if box.shape == "circle":
        at = max(-half * 0.8, min(half * 0.8, at))
        half = (half * half - at * at) ** 0.5
    elif box.shape == "cylinder" and not top:
        half -= 1
    return box.x + at, box.y - half if top else box.y + half


def spread(count: int, box: Box) -> list[float]:
    """Where `count` arrows meet a side of a box, from left to right, as distances from its middle."""
    step = min(11.0, box.w * 0.7 / count)
    return [(k - (count - 1) / 2) * step for k in range(count)]


def connect(source: Point, target: Point, bends: Sequence[Point], leave: float, enter: float) -> list[Point]:
    """An arrow's path: straight where it can be, flowing through the bends of a long way.

    `leave` and `enter` are the y where the source's layer ends and the target's begins: between boxes of
    a layer an arrow runs vertically, so that it does not touch its neighbours.
    """
    points = [source]
    if abs(leave - source[1]) > 3:
        points.append((source[0], leave))
    points += bends
    if abs(enter - target[1]) > 3:
        points.append((target[0], enter))
    points.append(target)
    if len(points) == 2:
        return line(points)
    return flowing(points)


def straight(
    a: Point, b: Point, boxes: Sequence[Box], ends: tuple[Box, Box], margin: float = 4.0
) -> list[Point] | None:
    """A straight arrow from `a` to `b`, unless it touches one of the boxes or is too flat to read."""
    if abs(b[0] - a[0]) > 3.5 * abs(b[1] - a[1]):
        return None
    if a[1] == b[1]:
        return line([a, b])
    slope = (b[0] - a[0]) / (b[1] - a[1])
    top, bottom, left, right = min(a[1], b[1]), max(a[1], b[1]), min(a[0], b[0]), max(a[0], b[0])
    first, last = ends
    for box in boxes:
        x, half = box.x, box.w / 2 + margin
        if x + half <= left or x - half >= right or box is first or box is last:
            continue
        low, high = max(top, box.y - box.h / 2 - margin), min(bottom, box.y + box.h / 2 + margin)
        if low > high:
            continue
        x0, x1 = a[0] + (low - a[1]) * slope, a[0] + (high - a[1]) * slope
        if max(x0, x1) > x - half and min(x0, x1) < x + half:
            return None
    return line([a, b])


@dataclass(slots=True)
class Tap:
    """One use of a parameter: the box that uses it, where the arrow meets it, and the y of the rail to it."""

    box: Box
    at: Point
    rail: float


def pack(wishes: Sequence[tuple[float, float]], gap: float = COLUMN_GAP) -> list[float]:
    """Middles for boxes in a column, in the given order, near to their wishes: pairs of (wish, height)."""
    blocks: list[list[float]] = []
    offsets, at = [], 0.0
    for i, (wish, height) in enumerate(wishes):
        if i:
            at += wishes[i - 1][1] / 2 + gap + height / 2
        offsets.append(at)
        block = [wish - at, 1.0]
        while blocks and blocks[-1][0] / blocks[-1][1] > block[0] / block[1]:
            top = blocks.pop()
            block = [top[0] + block[0], top[1] + block[1]]
        blocks.append(block)
    result = []
    for total, n in blocks:
        result += [total / n] * int(n)
    return [v + o for v, o in zip(result, offsets, strict=True)]


def rails(picture: Picture, uses: Sequence[tuple[Box, list[Tap]]], left: float) -> None:
    """Put parameter boxes into a column left of `left`, and run a rail from each to all its uses.

    Each parameter has its own trunk, so that rails never lie on each other; the trunk nearest to the
    picture belongs to the outermost rail.
    """
    order = sorted(uses, key=lambda u: (sum(t.rail for t in u[1]) / len(u[1]), u[0].number))
    if not order:
        return
    widest = max(box.w for box, _ in order)
    trunk = left - 8.0 - len(order) * RAIL_STEP
    places = pack([(sum(t.rail for t in taps) / len(taps), box.h) for box, taps in order])
    for k, ((box, taps), y) in enumerate(zip(order, places, strict=True)):
        box.x, box.y = trunk - 12 - widest / 2, y
        box.w = widest
        rising = y > sum(t.rail for t in taps) / len(taps)
        x = trunk + (k if rising else len(order) - k) * RAIL_STEP
        picture.boxes.append(box)
        farthest: dict[float, Tap] = {}
        for tap in taps:
            if tap.rail not in farthest or tap.at[0] > farthest[tap.rail].at[0]:
                farthest[tap.rail] = tap
        for tap in taps:
            path = rounded([(box.right, box.y), (x, box.y), (x, tap.rail), (tap.at[0], tap.rail), tap.at], 3.0)
            edge = Edge(box, tap.box, path, "rail")
            if farthest[tap.rail] is not tap:
                edge.drawn = line([(tap.at[0], tap.rail), tap.at])
            picture.edges.append(edge)


def topmost_first(scope_boxes: dict[Hashable, list[Box]]) -> list[Hashable]:
    """Keys of nested groups, outer ones first: the larger."""
    return sorted(scope_boxes, key=lambda k: -len(scope_boxes[k]))

"""Arrows from shelf to shelf: straight up where the way is free, else around the right side."""

from __future__ import annotations

from ..flow import RAIL_STEP, Tap, connect, port, spread, straight
from ..graph import Item
from ..model import Box, Edge, Point, line, rounded
from .sheet import LANE, Column, Sheet, Shelf
from .sizes import from_below


def ways_up(sheet: Sheet, item: Item) -> list[tuple[Box, list[Point]]]:
    """Where a value can be picked up from above: the box, and the points of the way out of its row."""
    home = sheet.found.place.get(item)
    if home is None:
        box = sheet.make(item)
        return [(box, [port(box, 0.0, top=True)])]
    run, e = home
    shelf = sheet.shelves[sheet.row_of[run]]
    stamp = shelf.stamp
    assert stamp is not None
    for column in shelf.columns:
        if column.step != e:
            continue
        for key, other in run.columns[e].items():
            if other is not item or key not in column.boxes:
                continue
            box = column.boxes[key]
            exit_ = stamp.leave.get(key)
            if exit_ is None or exit_ == stamp.number[key]:
                return [(box, [port(box, 0.0, top=True), (box.x, shelf.top)])]
            number_ = next(n for n, (a, b) in enumerate(stamp.edges) if (a, b) == (stamp.number[key], exit_))
            start = sheet.ends[column][0].get(number_, port(box, 0.0, top=True))
            points = [
                start,
                (
                    start[0],
                    sheet.y(shelf, stamp.layer[stamp.number[key]]) - stamp.half[stamp.layer[stamp.number[key]]],
                ),
            ]
            points += sheet.bends(shelf, column, number_)
            return [(box, [*points, (column.left + stamp.x[exit_], shelf.top)])]
    return []


def into_single(sheet: Sheet, shelf: Shelf) -> None:
    for item in shelf.items:
        box = sheet.make(item)
        here = sheet.shelf_of[item]
        arriving: list[tuple[Box, list[Point], Item]] = []
        for source in sheet.sources(item):
            if source in sheet.shelf_of:
                arriving += [(b, points, source) for b, points in ways_up(sheet, source)]
        tapped = [s for s in dict.fromkeys(item.inputs) if s in sheet.shared]
        arriving.sort(key=lambda a: a[1][-1][0])
        places = spread(len(arriving) + len(tapped), box) if arriving or tapped else []
        for place, (source_box, points, source) in zip(places, arriving, strict=False):
            there = sheet.shelf_of[source]
            style = "dashed" if source is sheet.cut_from(item) else ""
            x = points[-1][0]
            if shelf.bar and here - there == 1 and abs(x - box.x) < box.w / 2 - 4:
                path = connect(points[0], (x, box.bottom), points[1:], points[0][1], box.bottom)
            elif here - there == 1 or _free(sheet, there, here, x, box.x + place):
                end = port(box, 0.0 if shelf.bar else place, top=False)
                if shelf.bar and source_box.w > box.w * 0.9:
                    end = (box.x, box.bottom)
                near = [sheet.make(i) for s in sheet.shelves[there : here + 1] for i in s.items]
                path = (len(points) == 1 and straight(points[0], end, near, (source_box, box))) or connect(
                    points[0], end, points[1:], sheet.shelves[there].top, shelf.bottom
                )
            elif not shelf.bar and (bends := _past(sheet, source, item)):
                first = (bends[0][0], source_box.top) if sheet.shelves[there].bar else points[-1]
                path = connect(first, port(box, place, top=False), bends, sheet.shelves[there].top, shelf.bottom)
            else:
                go_around(sheet, source, box, at=place, style=style)
                continue
            sheet.picture.edges.append(Edge(source_box, box, path, style))
        for k, source in enumerate(tapped):
            y = shelf.bottom + 7 + RAIL_STEP * shelf.rails.index(source)
            at = port(box, places[len(arriving) + k], top=False)
            if shelf.bar:
                at = (box.left + 12 + 8 * k, box.bottom)
            sheet.taps.setdefault(source, []).append(Tap(box, at, y))
        for column_box in _elided_feeding(sheet, item):
            x = column_box.x
            path = line([(x, column_box.top), (x, box.bottom)])
            if shelf.bar:
                sheet.picture.edges.append(Edge(column_box, box, path, "dashed"))


def _elided_feeding(sheet: Sheet, item: Item) -> list[Box]:
    found = []
    homes = [sheet.found.place.get(s) for s in item.inputs]
    for run in dict.fromkeys(home[0] for home in homes if home is not None):
        row = sheet.shelves[sheet.row_of[run]]
        if sheet.shelf_of[item] - sheet.row_of[run] == 1:
            found += [c.elided for c in row.columns if c.elided is not None]
    return found


def _free(sheet: Sheet, there: int, here: int, x0: float, x1: float, behind: bool = False) -> bool:
    """Whether nothing stands on the shelves between two, near the straight way; it may go behind bars."""
    low, high = min(x0, x1) - 6, max(x0, x1) + 6
    for shelf in sheet.shelves[there + 1 : here]:
        if shelf.bar and behind:
            continue
        if shelf.run is not None or shelf.bar:
            return False
        if any(sheet.make(i).right > low and sheet.make(i).left < high for i in shelf.items):
            return False
    return True


def _past(sheet: Sheet, source: Item, item: Item) -> list[Point]:
    """The way between what stands on the shelves from one single thing to another; empty if there is none."""
    points: list[Point] = []
    for at, x in sheet.ways.get((source, item), ()):
        shelf = sheet.shelves[at]
        if shelf.bar or any(sheet.make(i).left - 3 < x < sheet.make(i).right + 3 for i in shelf.items):
            return []
        points += [(x, shelf.bottom + 2), (x, shelf.top - 2)]
    return points


def go_around(
    sheet: Sheet, source: Item, target: Box, at: float = 0.0, row: Shelf | None = None, style: str = ""
) -> None:
    """Keep an arrow for later that has to go around what is between; `row` if it brings an initial
    state."""
    for box, points in ways_up(sheet, source)[:1]:
        sheet.pending.append((box, target, points, at, row, style))


def draw_around(sheet: Sheet) -> None:
    """Arrows that go around what is between: those into a row's left side at the left, others at the right.

    Each has a lane of its own.
    """
    middle = (sheet.left + sheet.right) / 2
    at_left = [p for p in sheet.pending if p[4] is not None and p[1].x <= middle]
    at_left.sort(key=lambda p: -p[1].y)
    for n, (source, target, points, _, _, style) in enumerate(at_left):
        x, y = points[-1]
        leave = y - 7 - 4 * (n % 3)
        beside = [b.left for b in sheet.picture.boxes if target.y - 12 < b.bottom and b.top < leave]
        lane = min([target.left, *beside]) - 8 - LANE * n
        way = [*points, (x, leave), (lane, leave), (lane, target.y), (target.left, target.y)]
        sheet.picture.edges.append(Edge(source, target, rounded(way), style))
    n = 0
    for pending in sheet.pending:
        if pending in at_left:
            continue
        source, target, points, at, row, style = pending
        lane = sheet.right + sheet.gutter + 4 + LANE * n
        x, y = points[-1]
        leave = y - 7 - 4 * (n % 3)
        way = [*points, (x, leave), (lane, leave)]
        if row is None:
            below = (
                next(
                    (s.bottom for s in sheet.shelves if s.run is None and target.y > s.top and target.y < s.bottom),
                    target.bottom,
                )
                + 7
                + 4 * (n % 3)
            )
            end = port(target, at, top=False)
            way += [(lane, below), (end[0], below), end]
        else:
            way += [(lane, target.y), (target.right, target.y)]
        sheet.picture.edges.append(Edge(source, target, rounded(way), style))
        n += 1


def into_row(sheet: Sheet, shelf: Shelf) -> None:
    run, stamp = shelf.run, shelf.stamp
    assert run is not None and stamp is not None
    row = sheet.row_of[run]
    for column in shelf.columns:
        if column.step is None:
            _bars_to_elided(sheet, shelf, column)
            continue
        inside = set(run.columns[column.step].values())
        for key, item in run.columns[column.step].items():
            if key not in column.boxes or key not in stamp.enter:
                continue
            box = column.boxes[key]
            sources = [s for s in dict.fromkeys(item.inputs) if from_below(sheet, s, item, inside)]
            entry = stamp.enter[key]
            for k, source in enumerate(sources):
                ways = ways_up(sheet, source)
                if not ways:
                    continue
                source_box, way = ways[0]
                if entry == stamp.number[key]:
                    come = spread(len(sources), box)[k]
                    x = box.x + come
                    tail = [(x, shelf.bottom), port(box, come, top=False)]
                else:
                    n = next(n for n, e in enumerate(stamp.edges) if e == (entry, stamp.number[key]))
                    x = column.left + stamp.x[entry]
                    end = sheet.ends[column][1].get(n, port(box, 0.0, top=False))
                    layer = stamp.layer[stamp.number[key]]
                    tail = [
                        (x, shelf.bottom),
                        (x, sheet.y(shelf, 0) - stamp.half[0]),
                        *sheet.bends(shelf, column, n),
                        (end[0], sheet.y(shelf, layer) + stamp.half[layer]),
                        end,
                    ]
                there = sheet.shelf_of[source]
                if sheet.shelves[there].bar:
                    way = [(x, source_box.top)]
                points = [*way, *tail]
                behind = sheet.shelves[there].bar
                if row - there > 1 and not _free(sheet, there, row, way[-1][0], x, behind):
                    go_around(sheet, source, box, at=0.0)
                    continue
                path = connect(points[0], points[-1], points[1:-1], points[0][1], points[-1][1])
                sheet.picture.edges.append(Edge(source_box, box, path))


def _bars_to_elided(sheet: Sheet, shelf: Shelf, column: Column) -> None:
    below = sheet.row_of[shelf.run] - 1 if shelf.run is not None else -1
    if below >= 0 and sheet.shelves[below].bar and column.elided is not None:
        bar = sheet.make(sheet.shelves[below].items[0])
        x = column.elided.x
        sheet.picture.edges.append(
            Edge(bar, column.elided, line([(x, bar.top), (x, column.elided.bottom)]), "dashed")
        )

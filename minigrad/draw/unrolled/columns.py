"""The rows themselves: boxes, clusters and arrows of each drawn step."""

from __future__ import annotations

from ...recording import Scope
from ..flow import RAIL_STEP, Tap, connect, port, spread, straight
from ..labels import clean
from ..model import Box, Cluster, Edge, Point
from ..scopes import scope_chain, scope_title
from .sheet import Column, Sheet, Shelf
from .sizes import ELIDED
from .stamp import place_box


def draw_row(sheet: Sheet, shelf: Shelf) -> None:
    run, stamp = shelf.run, shelf.stamp
    assert run is not None and stamp is not None
    for column in shelf.columns:
        if column.step is None:
            _draw_elided(sheet, shelf, column)
            continue
        for key, box in column.boxes.items():
            place_box(stamp, key, box, column.left, shelf.bottom)
            sheet.picture.boxes.append(box)
        _cell_cluster(sheet, shelf, column)
        _column_edges(sheet, shelf, column)


def _draw_elided(sheet: Sheet, shelf: Shelf, column: Column) -> None:
    run, stamp = shelf.run, shelf.stamp
    assert run is not None and stamp is not None
    hidden = sum(len(run.columns[e]) for e in column.hidden) + sum(len(run.columns[e]) for e in run.gap[1])
    count = len(column.hidden) + run.gone
    times = sorted(run.times[e] for e in column.hidden)
    span = f"{times[0]} … {times[-1]}" if count > 1 else str(times[0])
    box = Box(
        "elided",
        ("⋯", f"× {count} step{'s' * (count > 1)}", f"t = {span}", f"{hidden} nodes", "not drawn"),
        f"{count} step{'s' * (count > 1)} like the others, t = {span}",
        w=ELIDED,
        h=stamp.cell_top - stamp.cell_bottom,
    )
    box.x = column.left + ELIDED / 2
    box.y = shelf.bottom - (stamp.cell_top + stamp.cell_bottom) / 2
    column.elided = box
    sheet.picture.boxes.append(box)


def _cell_cluster(sheet: Sheet, shelf: Shelf, column: Column) -> None:
    run, stamp = shelf.run, shelf.stamp
    assert run is not None and stamp is not None and column.step is not None
    first, last = stamp.cell
    inside = [box for key, box in column.boxes.items() if first <= stamp.layer[stamp.number[key]] <= last]
    name, time = sheet.title(run, column.step)
    titles = {"split": (name, time), "swapped": (time, name)}
    cluster = Cluster(
        titles.get(stamp.title, (f"{name} · {time}", ""))[0],
        column.left + stamp.cell_left,
        shelf.bottom - stamp.cell_top,
        column.left + stamp.cell_right,
        shelf.bottom - stamp.cell_bottom,
        inside,
        tooltip=clean(run.scopes[column.step].path, 200),
        to_right=stamp.title == "right",
        other_title=titles.get(stamp.title, ("", ""))[1],
    )
    sheet.picture.clusters.append(cluster)
    _inner_clusters(sheet, shelf, column)


def _inner_clusters(sheet: Sheet, shelf: Shelf, column: Column) -> None:
    """Modules inside a step, and modules that hang on it."""
    run = shelf.run
    assert run is not None and column.step is not None
    cache: dict[Scope | None, tuple[Scope, ...]] = {None: ()}
    outside = set(scope_chain(run.scopes[column.step], cache))
    cell = {box for key, box in column.boxes.items() if isinstance(key, tuple) and key[0] == "at"}
    members: dict[Scope, list[Box]] = {}
    for key, item in run.columns[column.step].items():
        if item.kind == "op" and key in column.boxes:
            for scope in scope_chain(item.scope, cache):
                if scope not in outside:
                    members.setdefault(scope, []).append(column.boxes[key])
    for scope, boxes in members.items():
        if not scope.label or len(boxes) < 2 or set(boxes) >= cell:
            continue
        title = scope_title(scope)
        c = Cluster(
            title,
            min(b.left for b in boxes) - 7,
            min(b.top for b in boxes) - 5,
            max(b.right for b in boxes) + 7,
            max(b.bottom for b in boxes) + 5,
            boxes,
            tooltip=clean(scope.path, 200),
        )
        others = [b for b in column.boxes.values() if b not in set(boxes)]
        if any(b.right > c.left and b.left < c.right and b.bottom > c.top and b.top < c.bottom for b in others):
            continue
        c.aside = True
        sheet.picture.clusters.append(c)
        outer = next((o for o in sheet.picture.clusters if set(boxes) <= set(o.members) and o is not c), None)
        if outer is not None:
            outer.members = [b for b in outer.members if b not in set(boxes)]


def _column_edges(sheet: Sheet, shelf: Shelf, column: Column) -> None:
    run, stamp = shelf.run, shelf.stamp
    assert run is not None and stamp is not None and column.step is not None
    items = run.columns[column.step]
    at = {stamp.number[key]: item for key, item in items.items() if key in column.boxes}
    arriving: dict[int, list[tuple[float, int]]] = {}
    leaving: dict[int, list[tuple[float, int]]] = {}
    for e, (a, b) in enumerate(stamp.edges):
        bends = stamp.layout.bends.get(e)
        ax, bx = stamp.x[a], stamp.x[b]
        arriving.setdefault(b, []).append((bends[-1][1] if bends else ax, e))
        leaving.setdefault(a, []).append((bends[0][1] if bends else bx, e))
    start: dict[int, Point] = {}
    end: dict[int, Point] = {}
    for i, item in at.items():
        box = sheet.make(item)
        come = sorted(arriving.get(i, []))
        tapped = [s for s in dict.fromkeys(item.inputs) if s in sheet.shared]
        places = spread(len(come) + len(tapped), box) if come or tapped else []
        if not come and len(tapped) == 1:
            places = [min(box.w * 0.22, 12.0)]
        for place, (_, e) in zip(places, come, strict=False):
            end[e] = port(box, place, top=False)
        lanes = stamp.rails.get(stamp.layer[i], [])
        for place, source in zip(places[len(come) :], tapped, strict=True):
            y = (
                shelf.bottom
                - stamp.middle[stamp.layer[i]]
                + stamp.half[stamp.layer[i]]
                + 7
                + RAIL_STEP * (len(lanes) - 1 - lanes.index(source) if source in lanes else 0)
            )
            sheet.taps.setdefault(source, []).append(Tap(box, port(box, place, top=False), y))
        go = sorted(leaving.get(i, []))
        step = min(8.0, box.w * 0.5 / max(len(go), 1))
        for k, (_, e) in enumerate(go):
            start[e] = port(box, (k - (len(go) - 1) / 2) * step, top=True)
    for e, (a, b) in enumerate(stamp.edges):
        if a not in at or b not in at or at[a] not in at[b].inputs:
            continue
        way = sheet.bends(shelf, column, e)
        between = [
            box
            for key, box in column.boxes.items()
            if stamp.layer[a] <= stamp.layer[stamp.number[key]] <= stamp.layer[b]
        ]
        path = straight(start[e], end[e], between, (sheet.make(at[a]), sheet.make(at[b]))) or connect(
            start[e],
            end[e],
            way,
            sheet.y(shelf, stamp.layer[a]) - stamp.half[stamp.layer[a]],
            sheet.y(shelf, stamp.layer[b]) + stamp.half[stamp.layer[b]],
        )
        sheet.picture.edges.append(Edge(sheet.make(at[a]), sheet.make(at[b]), path))
    sheet.ends[column] = (start, end)

"""The heights of the shelves, and the x of what stands between the rows."""

from __future__ import annotations

from ..flow import RAIL_STEP
from ..graph import Item
from ..labels import shape_text
from .sheet import Sheet, Shelf

SHELF_GAP = 27.0
BAR = 22.0


def stack(sheet: Sheet) -> None:
    """Heights from the bottom up, then the x of single things."""
    for shelf in sheet.shelves:
        for item in shelf.items:
            here = sheet.shelf_of[item]
            for source in item.inputs:
                there = sheet.shelf_of.get(source)
                if there is not None and here - there > 1:
                    sheet.shelves[there].long += 1
                    shelf.long += 1
    y = 0.0
    for shelf in sheet.shelves:
        gap = SHELF_GAP + len(shelf.rails) * RAIL_STEP + shelf.long * 4
        y -= gap if y else 0.0
        shelf.bottom = y
        if shelf.stamp is not None:
            height = shelf.stamp.height
        elif shelf.bar:
            height = BAR
        else:
            height = max(sheet.make(item).h for item in shelf.items)
        shelf.top = y - height
        y = shelf.top
    middle = (sheet.left + sheet.right) / 2
    for start, end in _runs_of_single(sheet):
        part = sheet.shelves[start:end]
        wishes = []
        for shelf in part:
            for item in shelf.items:
                if shelf.bar:
                    wishes.append(middle - shelf.x[item])
                for source in item.inputs:
                    home = sheet.found.place.get(source)
                    if not shelf.bar and home is not None and (x := _leave_x(sheet, source)) is not None:
                        wishes.append(x - shelf.x[item])
        bars = [w for shelf in part if shelf.bar for item in shelf.items for w in [middle - shelf.x[item]]]
        chosen = bars or wishes
        left = min(shelf.x[i] for shelf in part for i in shelf.items)
        right = max(shelf.x[i] for shelf in part for i in shelf.items)
        shift = sum(chosen) / len(chosen) if chosen else middle - (left + right) / 2
        for shelf in part:
            for item in shelf.items:
                for source in sheet.sources(item):
                    way = sheet.ways.get((source, item), [])
                    way[:] = [(at, x + shift) for at, x in way]
                box = sheet.make(item)
                box.x, box.y = shelf.x[item] + shift, (shelf.top + shelf.bottom) / 2
                if shelf.bar:
                    box.x, box.w, box.h, box.shape = middle, sheet.right - sheet.left, BAR, ""
                    box.__post_init__()
                    terms = f" of {_terms(sheet, item)} terms" if item.symbol == "Σ" else ""
                    series = any(u.kind == "slice" for u in sheet.uses[item])
                    box.lines = (
                        f"{box.lines[0]}{terms} · {shape_text(item.shape)}"
                        + (" · a slice for each step" if series else ""),
                    )


def _terms(sheet: Sheet, item: Item) -> int:
    """How many terms a sum has, with those of the steps that were taken out."""
    runs = {home[0] for source in item.inputs if (home := sheet.found.place.get(source)) is not None}
    return len(item.inputs) + sum(run.gone for run in runs)


def _runs_of_single(sheet: Sheet) -> list[tuple[int, int]]:
    spans, start = [], None
    for i, shelf in enumerate([*sheet.shelves, Shelf(sheet.found.runs[0])]):
        if shelf.run is None and start is None:
            start = i
        elif shelf.run is not None and start is not None:
            spans.append((start, i))
            start = None
    return spans


def _leave_x(sheet: Sheet, item: Item) -> float | None:
    """The x at which an item's value leaves its row at the top, if its column is drawn."""
    home = sheet.found.place[item]
    shelf = sheet.shelves[sheet.row_of[home[0]]]
    for column in shelf.columns:
        if column.step == home[1]:
            for key, other in home[0].columns[home[1]].items():
                if other is item and shelf.stamp is not None and key in shelf.stamp.leave:
                    return column.left + shelf.stamp.x[shelf.stamp.leave[key]]
    return None

"""What goes on which shelf: a row for each loop, and between them what is computed for all steps at once."""

from __future__ import annotations

from ..graph import Item
from ..layered import arrange, assign_layers
from ..runs import Run
from .sheet import CannotUnroll, Sheet, Shelf


def sort_sources(sheet: Sheet) -> None:
    """Find what is an initial state, and what comes by a rail."""
    found = sheet.found
    carried = {(run, *use) for run in found.runs for state in run.states for use in state.uses}
    starts = {
        item
        for item in sheet.graph.items
        if item.kind not in ("op", "slice")
        and sheet.uses[item]
        and all(
            (found.place[u][0], found.position.get(u), k) in carried if u in found.place else False
            for u in sheet.uses[item]
            for k, s in enumerate(u.inputs)
            if s is item
        )
    }
    sheet.starts = starts
    sheet.shared = {
        item
        for item in sheet.graph.items
        if item not in starts
        and (
            item.kind == "parameter"
            or (
                item.kind not in ("op", "slice")
                and item not in found.place
                and any(u in found.place for u in sheet.uses[item])
                and len({found.place.get(u) for u in sheet.uses[item]}) > 1
            )
        )
    }


def schedule(sheet: Sheet) -> list[Shelf]:
    found = sheet.found
    glue = [item for item in sheet.graph.items if item not in found.place and item not in sheet.shared]
    glue = [item for item in glue if item not in sheet.starts]
    waiting = dict.fromkeys(glue)
    shelves: list[Shelf] = []
    done: set[Item] = set()

    def emit(items: list[Item]) -> None:
        for item in items:
            del waiting[item]
            done.add(item)
        shelves.extend(_segment(sheet, items, len(shelves)))

    for run in found.runs:
        inside = {item for column in run.columns for item in column.values()}
        needed, other = _needed(sheet, run, [s for item in inside for s in item.inputs if s not in inside])
        if other is not None:
            raise CannotUnroll(f"{other.title} and {run.title} need each other")
        for item in [i for i in needed if i.kind not in ("op", "slice")]:
            # a state that was cut off stands above what it was, if it can
            cut = sheet.cut_from(item)
            if cut is not None and cut not in inside:
                more, other = _needed(sheet, run, [cut])
                needed |= more if other is None else {}
        emit([item for item in waiting if item in needed])
        sheet.row_of[run] = len(shelves)
        for item in inside:
            sheet.shelf_of[item] = len(shelves)
        shelves.append(Shelf(run))
        done |= inside
        ready = [
            item
            for item in waiting
            if item.kind == "op"
            and any(s in inside for s in item.inputs)
            and is_bar(sheet, item)
            and not item.output
            and all(s in done or s in sheet.shared for s in item.inputs)
        ]
        if run is not found.runs[-1]:
            emit(ready)
    emit(list(waiting))
    return shelves


def _needed(sheet: Sheet, run: Run, items: list[Item]) -> tuple[dict[Item, None], Run | None]:
    """What has to be below a run for some items to be; and a run that cannot be, if one would have to."""
    needed: dict[Item, None] = {}
    stack = list(items)
    while stack:
        item = stack.pop()
        if item in needed:
            continue
        needed[item] = None
        home = sheet.found.place.get(item)
        if home is None:
            stack += item.inputs
        elif home[0].index >= run.index:
            return needed, home[0]
    return needed, None


def _columns_of(sheet: Sheet, items: list[Item]) -> set[tuple[Run, int]]:
    return {home for item in items if (home := sheet.found.place.get(item)) is not None}


def is_bar(sheet: Sheet, item: Item) -> bool:
    """Whether it is made from, or feeds, several columns."""
    if item.kind not in ("op", "slice"):
        return False
    return len(_columns_of(sheet, item.inputs)) > 1 or len(_columns_of(sheet, sheet.uses[item])) > 1


def _segment(sheet: Sheet, items: list[Item], start: int) -> list[Shelf]:
    """Shelves for things between two rows: a bar has one to itsheet."""
    if not items:
        return []
    items.sort(key=lambda item: item.index)
    at = {item: i for i, item in enumerate(items)}
    edges = [(at[s], i) for i, item in enumerate(items) for s in sheet.sources(item) if s in at]
    layers = assign_layers(len(items), edges)
    rows: list[list[Item]] = []
    for layer in range(max(layers) + 1):
        row = [item for item in items if layers[at[item]] == layer]
        # a bar made from columns stands right above them, one that feeds columns right below
        made = [item for item in row if is_bar(sheet, item) and _columns_of(sheet, item.inputs)]
        single = [item for item in row if not is_bar(sheet, item)]
        rows += [[item] for item in made]
        rows += [single] if single else []
        rows += [[item] for item in row if is_bar(sheet, item) and item not in made]
    final = [0] * len(items)
    for r, row in enumerate(rows):
        for item in row:
            final[at[item]] = r
    # what comes from the bars below passes between the things here
    below = sorted({s for item in items for s in sheet.sources(item)
                    if sheet.shelf_of.get(s) == start - 1 and s not in at and is_bar(sheet, s)},
                   key=lambda item: item.index)  # fmt: skip
    things = [*below, *items]
    at = {item: i for i, item in enumerate(things)}
    edges = [(at[s], at[item]) for item in items for s in sheet.sources(item) if s in at]
    sizes = [30.0 if is_bar(sheet, item) else sheet.make(item).w for item in things]
    layout = arrange(sizes, edges, layers=[0] * len(below) + [r + bool(below) for r in final], gap=22.0)
    for e, bends in layout.bends.items():
        a, b = edges[e]
        sheet.ways[things[a], things[b]] = [(start + r - bool(below), x) for r, x in bends]
    shelves = []
    for r, row in enumerate(rows):
        shelf = Shelf(None, row, is_bar(sheet, row[0]))
        for item in row:
            shelf.x[item] = layout.x[at[item]]
            sheet.shelf_of[item] = start + r
        shelf.rails = [s for item in row for s in dict.fromkeys(item.inputs) if s in sheet.shared]
        shelves.append(shelf)
    return shelves

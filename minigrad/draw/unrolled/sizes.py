"""Which steps are drawn, a stamp for each row, and the x of its columns."""

from __future__ import annotations

from functools import partial

from ..graph import Item
from ..labels import text_width
from ..model import SIZE
from ..runs import Key, Run, State
from .heat import state_box
from .sheet import LANE, Column, Sheet
from .stamp import make_stamp

ELIDED = 86.0


def _shown(sheet: Sheet, run: Run) -> list[Column]:
    order = sorted(range(run.steps), key=lambda e: run.times[e])
    if run.steps <= sheet.most:
        return [Column(e) for e in order]
    head = (sheet.most + 1) // 2
    tail = sheet.most // 2
    hidden = order[head : run.steps - tail]
    return [
        *(Column(e) for e in order[:head]),
        Column(None, hidden=hidden),
        *(Column(e) for e in order[run.steps - tail :]),
    ]


def measure(sheet: Sheet) -> None:
    """A stamp for each row, and the x of its columns."""
    sheet.gutter = 26.0
    cut = _cut_off(sheet)
    for run in sheet.found.runs:
        shelf = sheet.shelves[sheet.row_of[run]]
        shelf.columns = _shown(sheet, run)
        widths: dict[Key, tuple[float, float]] = {}
        for column in shelf.columns:
            if column.step is None:
                continue
            for key, item in run.columns[column.step].items():
                box = column.boxes[key] = sheet.make(item)
                w, h = widths.get(key, (0.0, 0.0))
                widths[key] = (max(w, box.w), max(h, box.h))
        shown = [c.step for c in shelf.columns if c.step is not None]
        pattern = max(shown, key=lambda e: (len(run.columns[e]), e == run.pattern, e > 0))
        above = {
            key
            for column in run.columns
            for key, item in column.items()
            if item in cut or any(_leaves(sheet, run, user) for user in sheet.uses[item])
        }
        pills: dict[Key, int] = {}
        for state in run.states:
            key = ("at", first_use(sheet, run, state))
            pills[key] = pills.get(key, 0) + 1
        drawn = [run.columns[e] for e in sorted(shown, key=lambda e: e != pattern)]
        inside = {item for column in drawn for item in column.values()}
        shelf.stamp = make_stamp(
            run,
            drawn,
            widths,
            partial(from_below, sheet, inside=inside),
            above & set(widths),
            lambda item: item in sheet.shared,
            pills,
            (
                max(text_width(sheet.title(run, e)[0], SIZE) for e in shown),
                max(text_width(f" · {sheet.title(run, e)[1]}", SIZE) for e in shown),
            ),
        )
        for column in shelf.columns:
            for key, box in column.boxes.items():
                if box.shape != "circle":
                    box.w, box.h = widths[key]
        if run.states:
            labels = [state_box(sheet, run, state, e) for state in run.states for e in (shown[0], shown[-1])]
            sheet.gutter = max(sheet.gutter, max(b.w for b in labels) + 2 * LANE * (len(run.states) + 1) + 4)
    pitch = max(s.stamp.width for s in sheet.shelves if s.stamp is not None)
    for shelf in sheet.shelves:
        if shelf.stamp is None:
            continue
        x = sheet.gutter if any(s.run is not None and s.run.states for s in sheet.shelves) else 0.0
        for column in shelf.columns:
            column.left = x + (0.0 if column.step is None else (pitch - shelf.stamp.width) / 2)
            column.width = ELIDED if column.step is None else shelf.stamp.width
            x += (ELIDED if column.step is None else pitch) + sheet.gutter
    rows = [s for s in sheet.shelves if s.columns]
    sheet.left = min(s.columns[0].left for s in rows)
    sheet.right = max(s.columns[-1].left + s.columns[-1].width for s in rows)


def _cut_off(sheet: Sheet) -> set[Item]:
    """Values of which something outside of their row shows a detached one."""
    found: set[Item] = set()
    for item in sheet.graph.items:
        source = sheet.cut_from(item) if item in sheet.starts or item in sheet.shelf_of else None
        home = sheet.found.place.get(source) if source is not None else None
        if source is not None and home is not None:
            users = [sheet.found.place.get(user) for user in sheet.uses[item]]
            if any(there is None or there[0] is not home[0] for there in users):
                found.add(source)
    return found


def _leaves(sheet: Sheet, run: Run, user: Item) -> bool:
    """Whether the arrow from a column of a run to its user goes up out of the row."""
    there = sheet.found.place.get(user)
    return there is None or there[0] is not run


def from_below(sheet: Sheet, source: Item, user: Item, inside: set[Item]) -> bool:
    """Whether a value comes into a column by an arrow from a lower shelf."""
    if source in inside or source in sheet.shared:
        return False
    home = sheet.found.place.get(user)
    if home is None:
        return False
    run, e = home
    p = sheet.found.position.get(user)
    if p is not None:
        k = user.inputs.index(source)
        if any((p, k) in state.uses for state in run.states):
            return False
    there = sheet.found.place.get(source)
    if there is not None and there[0] is run:
        return False
    return source in sheet.shelf_of


def first_use(sheet: Sheet, run: Run, state: State) -> int:
    """The position at whose height the state's pill stands: its lowest use."""
    return min(p for p, _ in state.uses)

"""The unrolled view: time from left to right, depth from bottom to top, every step the same.

From the bottom up the picture is a stack of shelves: rows of time steps, and between them what is
computed for all steps at once. A value that feeds all steps, or is made from all, is a bar as wide as
the row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from ..recording import Scope
from .flow import RAIL_STEP, Tap, connect, port, rails, spread, straight
from .graph import Item, box_kind, box_lines, full_kind, tooltip
from .labels import clean, norm, number, shape_text, subscript, text_width
from .layered import arrange, assign_layers
from .model import SIZE, Box, Cluster, Edge, Picture, Point, Strip, line, rounded
from .ops import scope_chain, scope_title
from .palette import heat_level
from .runs import Analysis, Key, Run, State, cell_title
from .stamp import PAD, PILL_GAP, Stamp, make_stamp, place_box

SHELF_GAP = 27.0
ELIDED = 86.0
LANE = 6.0
BAR = 22.0


class CannotUnroll(Exception):
    """The runs of a graph do not fit on shelves; says why."""


@dataclass(slots=True, eq=False)
class Column:
    """One drawn step of a row: its boxes by key, and where it stands. `step` is None for the elided ones."""

    step: int | None
    left: float = 0.0
    width: float = 0.0
    boxes: dict[Key, Box] = field(default_factory=dict)
    elided: Box | None = None
    hidden: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Shelf:
    """A row of steps, or a layer of single things. y grows downwards; `bottom` is its lower side."""

    run: Run | None = None
    items: list[Item] = field(default_factory=list)
    bar: bool = False
    top: float = 0.0
    bottom: float = 0.0
    stamp: Stamp | None = None
    columns: list[Column] = field(default_factory=list)
    rails: list[Item] = field(default_factory=list)
    x: dict[Item, float] = field(default_factory=dict)
    long: int = 0


def draw_unrolled(found: Analysis, title: str, most: int = 4) -> Picture:
    """Stack the shelves of an analysed graph; more than `most` steps are shown as two, a gap, and two."""
    return _Unrolled(found, title, most).picture


class _Unrolled:
    def __init__(self, found: Analysis, title: str, most: int) -> None:
        self.found = found
        self.graph = found.graph
        self.picture = Picture(title)
        self.most = most
        self.uses = self.graph.consumers()
        self.box: dict[Item, Box] = {}
        self.shelf_of: dict[Item, int] = {}
        self.row_of: dict[Run, int] = {}
        self.taps: dict[Item, list[Tap]] = {}
        self.reference: dict[State, float] = {}
        self.pending: list[tuple[Box, Box, list[Point], float, Shelf | None]] = []
        self.ends: dict[Column, tuple[dict[int, Point], dict[int, Point]]] = {}
        self.initial = self._initial()
        carried = {(run, *use) for run in found.runs for state in run.states for use in state.uses}
        starts = {
            item
            for item in self.graph.items
            if item.kind not in ("op", "slice")
            and self.uses[item]
            and all(
                (found.place[u][0], found.position.get(u), k) in carried if u in found.place else False
                for u in self.uses[item]
                for k, s in enumerate(u.inputs)
                if s is item
            )
        }
        self.starts = starts
        self.shared = {
            item
            for item in self.graph.items
            if item not in starts
            and (
                item.kind == "parameter"
                or (
                    item.kind not in ("op", "slice")
                    and item not in found.place
                    and any(u in found.place for u in self.uses[item])
                    and len({found.place.get(u) for u in self.uses[item]}) > 1
                )
            )
        }
        self.shelves = self._schedule()
        self._heat()
        self._measure()
        self._stack()
        self._draw()

    # -- what goes on which shelf
    # -----------------------------------------------------------------------------------

    def _initial(self) -> dict[tuple[Run, State], Item]:
        """What each carried state starts from, where it is not made in a step of the same run."""
        initial: dict[tuple[Run, State], Item] = {}
        for run in self.found.runs:
            for state in run.states:
                for p, k in state.uses:
                    user = run.bodies[0][p]
                    if user is not None and k < len(user.inputs):
                        initial.setdefault((run, state), user.inputs[k])
        return initial

    def _schedule(self) -> list[Shelf]:
        found = self.found
        glue = [item for item in self.graph.items if item not in found.place and item not in self.shared]
        glue = [item for item in glue if item not in self.starts]
        waiting = dict.fromkeys(glue)
        shelves: list[Shelf] = []
        done: set[Item] = set()

        def emit(items: list[Item]) -> None:
            for item in items:
                del waiting[item]
                done.add(item)
            shelves.extend(self._segment(items, len(shelves)))

        for run in found.runs:
            inside = {item for column in run.columns for item in column.values()}
            needed: set[Item] = set()
            stack = [s for item in inside for s in item.inputs if s not in inside]
            while stack:
                item = stack.pop()
                if item in needed:
                    continue
                needed.add(item)
                home = found.place.get(item)
                if home is not None:
                    if home[0].index >= run.index:
                        raise CannotUnroll(f"{home[0].title} and {run.title} need each other")
                    continue
                stack += item.inputs
            emit([item for item in waiting if item in needed])
            self.row_of[run] = len(shelves)
            for item in inside:
                self.shelf_of[item] = len(shelves)
            shelves.append(Shelf(run))
            done |= inside
            ready = [
                item
                for item in waiting
                if item.kind == "op"
                and any(s in inside for s in item.inputs)
                and self._is_bar(item)
                and not item.output
                and all(s in done or s in self.shared for s in item.inputs)
            ]
            if run is not found.runs[-1]:
                emit(ready)
        emit(list(waiting))
        return shelves

    def _columns_of(self, items: list[Item]) -> set[tuple[Run, int]]:
        return {home for item in items if (home := self.found.place.get(item)) is not None}

    def _is_bar(self, item: Item) -> bool:
        """Whether it is made from, or feeds, several columns."""
        if item.kind not in ("op", "slice"):
            return False
        return len(self._columns_of(item.inputs)) > 1 or len(self._columns_of(self.uses[item])) > 1

    def _segment(self, items: list[Item], start: int) -> list[Shelf]:
        """Shelves for things between two rows: a bar has one to itself."""
        if not items:
            return []
        items.sort(key=lambda item: item.index)
        at = {item: i for i, item in enumerate(items)}
        edges = [(at[s], i) for i, item in enumerate(items) for s in item.inputs if s in at]
        layers = assign_layers(len(items), edges)
        rows: list[list[Item]] = []
        for layer in range(max(layers) + 1):
            row = [item for item in items if layers[at[item]] == layer]
            # a bar made from columns stands right above them, one that feeds columns right below
            made = [item for item in row if self._is_bar(item) and self._columns_of(item.inputs)]
            single = [item for item in row if not self._is_bar(item)]
            rows += [[item] for item in made]
            rows += [single] if single else []
            rows += [[item] for item in row if self._is_bar(item) and item not in made]
        final = [0] * len(items)
        for r, row in enumerate(rows):
            for item in row:
                final[at[item]] = r
        sizes = [30.0 if self._is_bar(item) else self._make(item).w for item in items]
        layout = arrange(sizes, edges, layers=final, gap=22.0)
        shelves = []
        for r, row in enumerate(rows):
            shelf = Shelf(None, row, self._is_bar(row[0]))
            for item in row:
                shelf.x[item] = layout.x[at[item]]
                self.shelf_of[item] = start + r
            shelf.rails = [s for item in row for s in dict.fromkeys(item.inputs) if s in self.shared]
            shelves.append(shelf)
        return shelves

    # -- gradients
    # --------------------------------------------------------------------------------------------------

    def _heat(self) -> None:
        ratios: list[float] = []
        for run in self.found.runs:
            for state in run.states:
                grads = [g for g in run.grads(state) if g is not None]
                if not grads:
                    continue
                last = next((g for g in reversed(grads) if g > 0 and g == g), 1.0)
                self.reference[state] = last
                ratios += [g / last for g in grads if g > 0]
        if self.reference:
            finite = [r for r in ratios if r == r and r != float("inf")]
            wide = any(r < 1e-3 or r > 1e3 for r in finite)
            self.picture.heat_span = 6.0 if wide else 3.0
            self.picture.heat_title = "‖∂L/∂state‖ relative to the last step:"

    def _level(self, state: State, grad: float | None) -> str:
        if grad is None or state not in self.reference:
            return ""
        return heat_level(grad / self.reference[state], self.picture.heat_span)

    # -- sizes
    # ------------------------------------------------------------------------------------------------------

    def _make(self, item: Item, kind: str = "") -> Box:
        box = self.box.get(item)
        if box is None:
            name = self.found.name(item)
            if item.kind == "slice" and not item.output:
                box = Box("input", (name, shape_text(item.shape)), tooltip(item, name))
            else:
                box = Box(
                    kind or box_kind(item),
                    box_lines(item, name, self.graph.mixed_dtypes),
                    tooltip(item, name),
                    full_kind(item),
                )
            box.number = item.index
            self.box[item] = box
        return box

    def _shown(self, run: Run) -> list[Column]:
        order = sorted(range(run.steps), key=lambda e: run.times[e])
        if run.steps <= self.most:
            return [Column(e) for e in order]
        head = (self.most + 1) // 2
        tail = self.most // 2
        hidden = order[head : run.steps - tail]
        return [
            *(Column(e) for e in order[:head]),
            Column(None, hidden=hidden),
            *(Column(e) for e in order[run.steps - tail :]),
        ]

    def _measure(self) -> None:
        """A stamp for each row, and the x of its columns."""
        self.gutter = 26.0
        for run in self.found.runs:
            shelf = self.shelves[self.row_of[run]]
            shelf.columns = self._shown(run)
            widths: dict[Key, tuple[float, float]] = {}
            for column in shelf.columns:
                if column.step is None:
                    continue
                for key, item in run.columns[column.step].items():
                    box = column.boxes[key] = self._make(item)
                    w, h = widths.get(key, (0.0, 0.0))
                    widths[key] = (max(w, box.w), max(h, box.h))
            shown = [c.step for c in shelf.columns if c.step is not None]
            pattern = max(shown, key=lambda e: (len(run.columns[e]), e == run.pattern, e > 0))
            above = {
                key
                for column in run.columns
                for key, item in column.items()
                if any(self._leaves(run, user) for user in self.uses[item])
            }
            pills: dict[Key, int] = {}
            for state in run.states:
                key = ("at", self._first_use(run, state))
                pills[key] = pills.get(key, 0) + 1
            drawn = [run.columns[e] for e in sorted(shown, key=lambda e: e != pattern)]
            inside = {item for column in drawn for item in column.values()}
            shelf.stamp = make_stamp(
                run,
                drawn,
                widths,
                partial(self._from_below, inside=inside),
                above & set(widths),
                lambda item: item in self.shared,
                pills,
                max(text_width(self._title(run, e), SIZE) for e in shown) + 14,
            )
            for column in shelf.columns:
                for key, box in column.boxes.items():
                    if box.shape != "circle":
                        box.w, box.h = widths[key]
            if run.states:
                labels = [self._pill(run, state, e) for state in run.states for e in (shown[0], shown[-1])]
                self.gutter = max(self.gutter, max(b.w for b in labels) + 2 * LANE * (len(run.states) + 1) + 4)
        pitch = max(s.stamp.width for s in self.shelves if s.stamp is not None)
        for shelf in self.shelves:
            if shelf.stamp is None:
                continue
            x = self.gutter if any(s.run is not None and s.run.states for s in self.shelves) else 0.0
            for column in shelf.columns:
                column.left = x + (0.0 if column.step is None else (pitch - shelf.stamp.width) / 2)
                column.width = ELIDED if column.step is None else shelf.stamp.width
                x += (ELIDED if column.step is None else pitch) + self.gutter
        rows = [s for s in self.shelves if s.columns]
        self.left = min(s.columns[0].left for s in rows)
        self.right = max(s.columns[-1].left + s.columns[-1].width for s in rows)

    def _leaves(self, run: Run, user: Item) -> bool:
        """Whether the arrow from a column of a run to its user goes up out of the row."""
        there = self.found.place.get(user)
        return there is None or there[0] is not run

    def _from_below(self, source: Item, user: Item, inside: set[Item]) -> bool:
        """Whether a value comes into a column by an arrow from a lower shelf."""
        if source in inside or source in self.shared:
            return False
        home = self.found.place.get(user)
        if home is None:
            return False
        run, e = home
        p = self.found.position.get(user)
        if p is not None:
            k = user.inputs.index(source)
            if any((p, k) in state.uses for state in run.states):
                return False
        there = self.found.place.get(source)
        if there is not None and there[0] is run:
            return False
        return source in self.shelf_of

    def _first_use(self, run: Run, state: State) -> int:
        """The position at whose height the state's pill stands: its lowest use."""
        return min(p for p, _ in state.uses)

    def _pill(self, run: Run, state: State, e: int) -> Box:
        """The box between step `e` (in order of execution) and the next."""
        item = run.bodies[e][state.source]
        name = clean(state.name or "state", 40) + subscript(run.times[e])
        shape = item.shape if item is not None else ()
        lines: tuple[str, ...] = (f"{name} {shape_text(shape)}",)
        grad = item.grad if item is not None else None
        if grad is not None:
            lines += (norm(grad),)
        box = Box(
            "state",
            lines,
            f"carried from t = {run.times[e]} to the next step"
            + (f"\n‖∂L/∂{name}‖ = {number(grad)}" if grad is not None else ""),
        )
        box.heat = self._level(state, grad)
        return box

    # -- places
    # -----------------------------------------------------------------------------------------------------

    def _stack(self) -> None:
        """Heights from the bottom up, then the x of single things."""
        for shelf in self.shelves:
            for item in shelf.items:
                here = self.shelf_of[item]
                for source in item.inputs:
                    there = self.shelf_of.get(source)
                    if there is not None and here - there > 1:
                        self.shelves[there].long += 1
                        shelf.long += 1
        y = 0.0
        for shelf in self.shelves:
            gap = SHELF_GAP + len(shelf.rails) * RAIL_STEP + shelf.long * 4
            y -= gap if y else 0.0
            shelf.bottom = y
            if shelf.stamp is not None:
                height = shelf.stamp.height
            elif shelf.bar:
                height = BAR
            else:
                height = max(self._make(item).h for item in shelf.items)
            shelf.top = y - height
            y = shelf.top
        middle = (self.left + self.right) / 2
        for start, end in self._runs_of_single():
            part = self.shelves[start:end]
            wishes = []
            for shelf in part:
                for item in shelf.items:
                    if shelf.bar:
                        wishes.append(middle - shelf.x[item])
                    for source in item.inputs:
                        home = self.found.place.get(source)
                        if not shelf.bar and home is not None and (x := self._leave_x(source)) is not None:
                            wishes.append(x - shelf.x[item])
            bars = [w for shelf in part if shelf.bar for item in shelf.items for w in [middle - shelf.x[item]]]
            chosen = bars or wishes
            left = min(shelf.x[i] for shelf in part for i in shelf.items)
            right = max(shelf.x[i] for shelf in part for i in shelf.items)
            shift = sum(chosen) / len(chosen) if chosen else middle - (left + right) / 2
            for shelf in part:
                for item in shelf.items:
                    box = self._make(item)
                    box.x, box.y = shelf.x[item] + shift, (shelf.top + shelf.bottom) / 2
                    if shelf.bar:
                        box.x, box.w, box.h, box.shape = middle, self.right - self.left, BAR, ""
                        box.__post_init__()
                        terms = f" of {self._terms(item)} terms" if item.symbol == "Σ" else ""
                        series = any(u.kind == "slice" for u in self.uses[item])
                        box.lines = (
                            f"{box.lines[0]}{terms} · {shape_text(item.shape)}"
                            + (" · a slice for each step" if series else ""),
                        )

    def _terms(self, item: Item) -> int:
        """How many terms a sum has, with those of the steps that were taken out."""
        runs = {home[0] for source in item.inputs if (home := self.found.place.get(source)) is not None}
        return len(item.inputs) + sum(run.gap[1] for run in runs)

    def _runs_of_single(self) -> list[tuple[int, int]]:
        spans, start = [], None
        for i, shelf in enumerate([*self.shelves, Shelf(self.found.runs[0])]):
            if shelf.run is None and start is None:
                start = i
            elif shelf.run is not None and start is not None:
                spans.append((start, i))
                start = None
        return spans

    def _leave_x(self, item: Item) -> float | None:
        """The x at which an item's value leaves its row at the top, if its column is drawn."""
        home = self.found.place[item]
        shelf = self.shelves[self.row_of[home[0]]]
        for column in shelf.columns:
            if column.step == home[1]:
                for key, other in home[0].columns[home[1]].items():
                    if other is item and shelf.stamp is not None and key in shelf.stamp.leave:
                        return column.left + shelf.stamp.x[shelf.stamp.leave[key]]
        return None

    # -- drawing
    # ----------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        for shelf in self.shelves:
            if shelf.run is not None:
                self._draw_row(shelf)
            else:
                self.picture.boxes += [self._make(item) for item in shelf.items]
        for shelf in self.shelves:
            if shelf.run is not None:
                self._carry(shelf)
                self._into_row(shelf)
            else:
                self._into_single(shelf)
        self._draw_long()
        self._strips()
        if self.taps:
            left = min(min(b.left for b in self.picture.boxes), min(c.left for c in self.picture.clusters))
            rails(self.picture, [(self._make(item), taps) for item, taps in self.taps.items()], left)

    def _y(self, shelf: Shelf, layer: int) -> float:
        assert shelf.stamp is not None
        return shelf.bottom - shelf.stamp.middle[layer]

    def _draw_row(self, shelf: Shelf) -> None:
        run, stamp = shelf.run, shelf.stamp
        assert run is not None and stamp is not None
        for column in shelf.columns:
            if column.step is None:
                self._draw_elided(shelf, column)
                continue
            for key, box in column.boxes.items():
                place_box(stamp, key, box, column.left, shelf.bottom)
                self.picture.boxes.append(box)
            self._cell_cluster(shelf, column)
            self._column_edges(shelf, column)

    def _draw_elided(self, shelf: Shelf, column: Column) -> None:
        run, stamp = shelf.run, shelf.stamp
        assert run is not None and stamp is not None
        hidden = sum(len(run.columns[e]) for e in column.hidden) + run.gap[1] * len(run.columns[run.pattern])
        count = len(column.hidden) + run.gap[1]
        times = sorted(run.times[e] for e in column.hidden)
        box = Box(
            "elided",
            ("⋯", f"× {count} steps", f"t = {times[0]} … {times[-1]}", f"{hidden} nodes", "not drawn"),
            f"{count} steps like the others, t = {times[0]} to {times[-1]}",
            w=ELIDED,
            h=stamp.cell_top - stamp.cell_bottom,
        )
        box.x = column.left + ELIDED / 2
        box.y = shelf.bottom - (stamp.cell_top + stamp.cell_bottom) / 2
        column.elided = box
        self.picture.boxes.append(box)

    def _cell_cluster(self, shelf: Shelf, column: Column) -> None:
        run, stamp = shelf.run, shelf.stamp
        assert run is not None and stamp is not None and column.step is not None
        first, last = stamp.cell
        inside = [box for key, box in column.boxes.items() if first <= stamp.layer[stamp.number[key]] <= last]
        title = self._title(run, column.step)
        left, right = min(b.left for b in inside) - PAD, max(b.right for b in inside) + PAD
        bends = [x for e, ways in stamp.layout.bends.items() for at, x in ways if first <= at <= last]
        if bends:
            left, right = min(left, column.left + min(bends) - 4), max(right, column.left + max(bends) + 4)
        lacking = text_width(title, SIZE) + 14 - (right - left)
        if lacking > 0:
            left, right = left - lacking / 2, right + lacking / 2
        own = [box for key, box in column.boxes.items() if box in inside]
        self.picture.clusters.append(
            Cluster(
                title,
                left,
                shelf.bottom - stamp.cell_top,
                right,
                shelf.bottom - stamp.cell_bottom,
                own,
                tooltip=clean(run.scopes[column.step].path, 200),
            )
        )
        # the title gives way to arrows that leave through the top
        crossing = [column.left + stamp.x[b] for a, b in stamp.edges if stamp.layer[a] <= last < stamp.layer[b]]
        crossing += [column.left + stamp.x[n] for n in stamp.leave.values() if stamp.layer[n] <= last]
        wide = text_width(title, SIZE) + 8
        if any(left + 3 < x < left + 7 + wide for x in crossing) and not any(
            right - 7 - wide < x < right for x in crossing
        ):
            self.picture.clusters[-1].to_right = True
        self._inner_clusters(shelf, column)

    def _title(self, run: Run, e: int) -> str:
        return f"{cell_title(run, e)} · t = {run.times[e]}"

    def _inner_clusters(self, shelf: Shelf, column: Column) -> None:
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
            self.picture.clusters.append(c)
            outer = next((o for o in self.picture.clusters if set(boxes) <= set(o.members) and o is not c), None)
            if outer is not None:
                outer.members = [b for b in outer.members if b not in set(boxes)]

    def _column_edges(self, shelf: Shelf, column: Column) -> None:
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
            box = self._make(item)
            come = sorted(arriving.get(i, []))
            tapped = [s for s in dict.fromkeys(item.inputs) if s in self.shared]
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
                self.taps.setdefault(source, []).append(Tap(box, port(box, place, top=False), y))
            go = sorted(leaving.get(i, []))
            step = min(8.0, box.w * 0.5 / max(len(go), 1))
            for k, (_, e) in enumerate(go):
                start[e] = port(box, (k - (len(go) - 1) / 2) * step, top=True)
        for e, (a, b) in enumerate(stamp.edges):
            if a not in at or b not in at or at[a] not in at[b].inputs:
                continue
            way = self._bends(shelf, column, e)
            between = [
                box
                for key, box in column.boxes.items()
                if stamp.layer[a] <= stamp.layer[stamp.number[key]] <= stamp.layer[b]
            ]
            path = straight(start[e], end[e], between, (self._make(at[a]), self._make(at[b]))) or connect(
                start[e],
                end[e],
                way,
                self._y(shelf, stamp.layer[a]) - stamp.half[stamp.layer[a]],
                self._y(shelf, stamp.layer[b]) + stamp.half[stamp.layer[b]],
            )
            self.picture.edges.append(Edge(self._make(at[a]), self._make(at[b]), path))
        self.ends[column] = (start, end)

    def _bends(self, shelf: Shelf, column: Column, e: int) -> list[Point]:
        stamp = shelf.stamp
        assert stamp is not None
        points = []
        for layer, x in stamp.layout.bends.get(e, ()):
            y = self._y(shelf, layer)
            points += [
                (column.left + x, y + stamp.half[layer] + 2),
                (column.left + x, y - stamp.half[layer] - 2),
            ]
        return points

    def _carry(self, shelf: Shelf) -> None:
        """States in the gutters: from each drawn step to the next, and into the first."""
        run, stamp = shelf.run, shelf.stamp
        assert run is not None and stamp is not None
        order = list(reversed(shelf.columns)) if run.reverse else shelf.columns
        stacks: dict[int, list[State]] = {}
        for state in run.states:
            stacks.setdefault(stamp.layer[stamp.number["at", self._first_use(run, state)]], []).append(state)
        for i, state in enumerate(run.states):
            layer = stamp.layer[stamp.number["at", self._first_use(run, state)]]
            stack = stacks[layer]
            y = self._y(shelf, layer) + (stack.index(state) - (len(stack) - 1) / 2) * (29 + PILL_GAP)
            for before, after in zip([None, *order], order, strict=False):
                self._one_state(shelf, state, i, y, before, after)

    def _one_state(self, shelf: Shelf, state: State, i: int, y: float, before: Column | None, after: Column) -> None:
        run = shelf.run
        assert run is not None
        sign = -1 if run.reverse else 1
        out_lane = None
        if before is not None:
            edge_of = before.left + before.width if sign > 0 else before.left
            out_lane = edge_of + sign * LANE * (i + 0.7)
        in_edge = after.left if sign > 0 else after.left + after.width
        in_lane = in_edge - sign * LANE * (i + 0.7)
        if after.step is None:
            assert before is not None and before.step is not None and after.elided is not None
            source = self._source_box(run, state, before)
            if source is not None:
                points = self._out(shelf, before, source, out_lane, y, sign)[:-1]
                points.append((after.elided.left if sign > 0 else after.elided.right, points[-1][1]))
                item = run.bodies[before.step][state.source]
                self._heated(source, after.elided, points, state, item.grad if item is not None else None)
            return
        users = [(run.bodies[after.step][p], k) for p, k in state.uses]
        targets = [(u, self._make(u)) for u, k in users if u is not None and k < len(u.inputs)]
        if not targets:
            return
        e = after.step - 1
        if after.step == 0:
            pill, style = self._start(run, state), ""
        else:
            first = next((u, k) for u, k in users if u is not None and k < len(u.inputs))
            given = first[0].inputs[first[1]]
            if self.found.place.get(given) == (run, e):
                pill, style = self._pill(run, state, e), ""
            else:
                name = clean(state.name or "state", 40) + subscript(run.times[e])
                pill, style = (
                    Box("detach", ("✂ detach", f"{name} value only"), "the gradient stops here"),
                    "dashed",
                )
        pill.x = in_edge - sign * (LANE * (len(run.states) + 0.7) + pill.w / 2 + 1)
        pill.y = y
        self.picture.boxes.append(pill)
        item = run.bodies[e][state.source] if after.step > 0 else None
        grad = item.grad if item is not None and not style else None
        if before is not None:
            if before.step is None:
                assert before.elided is not None
                side = before.elided.right if sign > 0 else before.elided.left
                near = pill.left if sign > 0 else pill.right
                self._heated(before.elided, pill, [(side, y), (near, y)], state, grad, style)
            else:
                source = self._source_box(run, state, before)
                if source is not None:
                    points = self._out(shelf, before, source, out_lane, y, sign)
                    points.append((pill.left if sign > 0 else pill.right, y))
                    self._heated(source, pill, points, state, grad, style)
        for user, box in dict(targets).items():
            points = [(pill.right if sign > 0 else pill.left, y)]
            assert shelf.stamp is not None
            at = shelf.stamp.layer[shelf.stamp.number["at", self.found.position[user]]]
            if self._clear(after, shelf.stamp, box, at, -sign):
                points += [(in_lane, y), (in_lane, box.y), (box.left if sign > 0 else box.right, box.y)]
            else:
                channel = self._y(shelf, at) + shelf.stamp.half[at] + 5
                x = box.x - sign * min(box.w * 0.3, 10)
                points += [
                    (in_lane, y),
                    (in_lane, channel),
                    (x, channel),
                    (x, port(box, x - box.x, top=False)[1]),
                ]
            self._heated(pill, box, points, state, grad, style)

    def _start(self, run: Run, state: State) -> Box:
        """The box of an initial state."""
        item = self.initial[run, state]
        name = clean(state.name or "state", 40) + "₀"
        if item.kind == "op":
            box = Box(
                "state",
                (f"{name} {shape_text(item.shape)}", *((norm(item.grad),) if item.grad is not None else ())),
                tooltip(item, name),
            )
            box.heat = self._level(state, item.grad)
        elif item.kind == "parameter":
            box = Box("parameter", box_lines(item, item.name or name), tooltip(item, name))
        else:
            box = Box("constant", (f"{name} {shape_text(item.shape)}", "constant"), tooltip(item, name))
        if item in self.shelf_of:
            self._long(item, box, row=self.shelves[self.row_of[run]])
        return box

    def _source_box(self, run: Run, state: State, column: Column) -> Box | None:
        assert column.step is not None
        item = run.bodies[column.step][state.source]
        return self._make(item) if item is not None else None

    def _clear(self, column: Column, stamp: Stamp, box: Box, layer: int, side: int) -> bool:
        """Whether nothing stands beside a box on one side of its layer."""
        for key, other in column.boxes.items():
            if other is not box and stamp.layer[stamp.number[key]] == layer and (other.x - box.x) * side > 0:
                return False
        return True

    def _out(self, shelf: Shelf, column: Column, box: Box, lane: float | None, y: float, sign: int) -> list[Point]:
        """From a box to the lane beside its column, at the height of the pill."""
        stamp = shelf.stamp
        assert stamp is not None and lane is not None
        key = next(k for k, b in column.boxes.items() if b is box)
        layer = stamp.layer[stamp.number[key]]
        if self._clear(column, stamp, box, layer, sign):
            points = [(box.right if sign > 0 else box.left, box.y), (lane, box.y)]
        else:
            channel = self._y(shelf, layer) - stamp.half[layer] - 6
            x = box.x + sign * min(box.w * 0.3, 10)
            points = [(x, port(box, x - box.x, top=True)[1]), (x, channel), (lane, channel)]
        return [*points, (lane, y)]

    def _heated(
        self, source: Box, target: Box, points: list[Point], state: State, grad: float | None, style: str = ""
    ) -> None:
        heat = "" if style else self._level(state, grad)
        self.picture.edges.append(Edge(source, target, rounded(points), style, heat))

    # -- arrows between shelves
    # -------------------------------------------------------------------------------------

    def _tops(self, item: Item) -> list[tuple[Box, list[Point]]]:
        """Where a value can be picked up from above: the box, and the points of the way out of its row."""
        home = self.found.place.get(item)
        if home is None:
            box = self._make(item)
            return [(box, [port(box, 0.0, top=True)])]
        run, e = home
        shelf = self.shelves[self.row_of[run]]
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
                start = self.ends[column][0].get(number_, port(box, 0.0, top=True))
                points = [
                    start,
                    (
                        start[0],
                        self._y(shelf, stamp.layer[stamp.number[key]]) - stamp.half[stamp.layer[stamp.number[key]]],
                    ),
                ]
                points += self._bends(shelf, column, number_)
                return [(box, [*points, (column.left + stamp.x[exit_], shelf.top)])]
        return []

    def _into_single(self, shelf: Shelf) -> None:
        for item in shelf.items:
            box = self._make(item)
            here = self.shelf_of[item]
            arriving: list[tuple[Box, list[Point], Item]] = []
            for source in item.inputs:
                if source in self.shelf_of:
                    arriving += [(b, points, source) for b, points in self._tops(source)]
            tapped = [s for s in dict.fromkeys(item.inputs) if s in self.shared]
            arriving.sort(key=lambda a: a[1][-1][0])
            places = spread(len(arriving) + len(tapped), box) if arriving or tapped else []
            for place, (source_box, points, source) in zip(places, arriving, strict=False):
                there = self.shelf_of[source]
                x = points[-1][0]
                if shelf.bar and here - there == 1 and abs(x - box.x) < box.w / 2 - 4:
                    path = connect(points[0], (x, box.bottom), points[1:], points[0][1], box.bottom)
                elif here - there == 1 or self._free(there, here, x, box.x + place):
                    end = port(box, 0.0 if shelf.bar else place, top=False)
                    if shelf.bar and source_box.w > box.w * 0.9:
                        end = (box.x, box.bottom)
                    near = [self._make(i) for s in self.shelves[there : here + 1] for i in s.items]
                    path = (len(points) == 1 and straight(points[0], end, near, (source_box, box))) or connect(
                        points[0], end, points[1:], self.shelves[there].top, shelf.bottom
                    )
                else:
                    self._long(source, box, at=place)
                    continue
                self.picture.edges.append(Edge(source_box, box, path))
            for k, source in enumerate(tapped):
                y = shelf.bottom + 7 + RAIL_STEP * shelf.rails.index(source)
                at = port(box, places[len(arriving) + k], top=False)
                if shelf.bar:
                    at = (box.left + 12 + 8 * k, box.bottom)
                self.taps.setdefault(source, []).append(Tap(box, at, y))
            for column_box in self._elided_feeding(item):
                x = column_box.x
                path = line([(x, column_box.top), (x, box.bottom)])
                if shelf.bar:
                    self.picture.edges.append(Edge(column_box, box, path, "dashed"))

    def _elided_feeding(self, item: Item) -> list[Box]:
        found = []
        homes = [self.found.place.get(s) for s in item.inputs]
        for run in dict.fromkeys(home[0] for home in homes if home is not None):
            row = self.shelves[self.row_of[run]]
            if self.shelf_of[item] - self.row_of[run] == 1:
                found += [c.elided for c in row.columns if c.elided is not None]
        return found

    def _free(self, there: int, here: int, x0: float, x1: float, behind: bool = False) -> bool:
        """Whether nothing stands on the shelves between two, near the straight way; it may go behind bars."""
        low, high = min(x0, x1) - 6, max(x0, x1) + 6
        for shelf in self.shelves[there + 1 : here]:
            if shelf.bar and behind:
                continue
            if shelf.run is not None or shelf.bar:
                return False
            if any(self._make(i).right > low and self._make(i).left < high for i in shelf.items):
                return False
        return True

    def _long(self, source: Item, target: Box, at: float = 0.0, row: Shelf | None = None) -> None:
        """Keep an arrow for later that has to go around what is between; `row` if it brings an initial
        state."""
        for box, points in self._tops(source)[:1]:
            self.pending.append((box, target, points, at, row))

    def _draw_long(self) -> None:
        """Arrows that go around the right side, each in a lane of its own."""
        for n, (source, target, points, at, row) in enumerate(self.pending):
            lane = self.right + self.gutter + 4 + LANE * n
            x, y = points[-1]
            leave = y - 7 - 4 * (n % 3)
            way = [*points, (x, leave), (lane, leave)]
            if row is None:
                below = (
                    next(
                        (s.bottom for s in self.shelves if s.run is None and target.y > s.top and target.y < s.bottom),
                        target.bottom,
                    )
                    + 7
                    + 4 * (n % 3)
                )
                end = port(target, at, top=False)
                way += [(lane, below), (end[0], below), end]
            elif target.x > (self.left + self.right) / 2:
                way += [(lane, target.y), (target.right, target.y)]
            else:
                below = row.bottom + 8 + 4 * (n % 3)
                way += [
                    (lane, below),
                    (target.left - 8, below),
                    (target.left - 8, target.y),
                    (target.left, target.y),
                ]
            self.picture.edges.append(Edge(source, target, rounded(way)))

    def _into_row(self, shelf: Shelf) -> None:
        run, stamp = shelf.run, shelf.stamp
        assert run is not None and stamp is not None
        row = self.row_of[run]
        for column in shelf.columns:
            if column.step is None:
                self._bars_to_elided(shelf, column)
                continue
            inside = set(run.columns[column.step].values())
            for key, item in run.columns[column.step].items():
                if key not in column.boxes or key not in stamp.enter:
                    continue
                box = column.boxes[key]
                sources = [s for s in dict.fromkeys(item.inputs) if self._from_below(s, item, inside)]
                entry = stamp.enter[key]
                for k, source in enumerate(sources):
                    tops = self._tops(source)
                    if not tops:
                        continue
                    source_box, way = tops[0]
                    if entry == stamp.number[key]:
                        come = spread(len(sources), box)[k]
                        x = box.x + come
                        tail = [(x, shelf.bottom), port(box, come, top=False)]
                    else:
                        n = next(n for n, e in enumerate(stamp.edges) if e == (entry, stamp.number[key]))
                        x = column.left + stamp.x[entry]
                        end = self.ends[column][1].get(n, port(box, 0.0, top=False))
                        layer = stamp.layer[stamp.number[key]]
                        tail = [
                            (x, shelf.bottom),
                            (x, self._y(shelf, 0) - stamp.half[0]),
                            *self._bends(shelf, column, n),
                            (end[0], self._y(shelf, layer) + stamp.half[layer]),
                            end,
                        ]
                    there = self.shelf_of[source]
                    if self.shelves[there].bar:
                        way = [(x, source_box.top)]
                    points = [*way, *tail]
                    behind = self.shelves[there].bar
                    if row - there > 1 and not self._free(there, row, way[-1][0], x, behind):
                        self._long(source, box, at=0.0)
                        continue
                    path = connect(points[0], points[-1], points[1:-1], points[0][1], points[-1][1])
                    self.picture.edges.append(Edge(source_box, box, path))

    def _bars_to_elided(self, shelf: Shelf, column: Column) -> None:
        below = self.row_of[shelf.run] - 1 if shelf.run is not None else -1
        if below >= 0 and self.shelves[below].bar and column.elided is not None:
            bar = self._make(self.shelves[below].items[0])
            x = column.elided.x
            self.picture.edges.append(
                Edge(bar, column.elided, line([(x, bar.top), (x, column.elided.bottom)]), "dashed")
            )

    # -- strips
    # -----------------------------------------------------------------------------------------------------

    def _strips(self) -> None:
        for run in self.found.runs:
            if run.steps <= self.most or not run.states:
                continue
            state = next(
                (s for s in run.states if s.name == "h" and s in self.reference),
                next((s for s in reversed(run.states) if s in self.reference), None),
            )
            if state is None:
                continue
            grads = run.grads(state)
            if run.reverse:
                grads.reverse()
            first, last = min(run.times), max(run.times)
            levels, tips = [], []
            for t, grad in enumerate(grads, first):
                levels.append(self._level(state, grad) or "heat-none")
                tips.append(f"t = {t}: " + (norm(grad) if grad is not None else "no gradient"))
            which = f"{run.title} · " if len(self.found.runs) > 1 else ""
            self.picture.strips.append(
                Strip(
                    f"{which}‖∂L/∂{clean(state.name or 'state', 20)}ₜ‖   t = {first}",
                    levels,
                    tips,
                    f"t = {last}",
                )
            )

"""What the parts of the unrolled view share: the shelves, their columns, and the boxes made so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..flow import Tap
from ..graph import Graph, Item
from ..labels import shape_text
from ..model import Box, Picture, Point
from ..runs import Analysis, Key, Run, State, cell_title
from ..words import box_kind, box_lines, full_kind, tooltip
from .stamp import Stamp

LANE = 6.0


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


class Sheet:
    """The drawing under way.

    Attributes:
        found, graph: what is drawn.
        picture: what has been drawn.
        most: how many steps are shown.
        uses: who uses an item, an entry for each use.
        starts: data that serve as initial states only; they stand in the gutter before the first step.
        shared: what comes by a rail from the left.
        shelves: from the bottom up.
        shelf_of, row_of: on which of them an item or a run is.
        box: the box of an item.
        taps: where the rails of shared things end.
        reference: for each state, the norm that its heat is relative to.
        pending: arrows that have to go around: from, to, the way out, where to arrive, the row of an initial state,
            how they are drawn.
        ends: for each drawn column, where its edges begin and end.
        ways: for an arrow between single things (from, to), the shelves that it passes, and at which x.
        left, right, gutter: of the rows.
    """

    def __init__(self, found: Analysis, title: str, most: int) -> None:
        self.found = found
        self.graph: Graph = found.graph
        self.picture = Picture(title)
        self.most = most
        self.uses = self.graph.consumers()
        self.starts: set[Item] = set()
        self.shared: set[Item] = set()
        self.shelves: list[Shelf] = []
        self.shelf_of: dict[Item, int] = {}
        self.row_of: dict[Run, int] = {}
        self.box: dict[Item, Box] = {}
        self.taps: dict[Item, list[Tap]] = {}
        self.reference: dict[State, float] = {}
        self.pending: list[tuple[Box, Box, list[Point], float, Shelf | None, str]] = []
        self.ends: dict[Column, tuple[dict[int, Point], dict[int, Point]]] = {}
        self.ways: dict[tuple[Item, Item], list[tuple[int, float]]] = {}
        self.left = self.right = 0.0
        self.gutter = 26.0

    def cut_from(self, item: Item) -> Item | None:
        """What an item shows the value of, where detach() cut it off and the picture has it."""
        return item.cut if item.cut is not item and item.cut in self.uses else None

    def sources(self, item: Item) -> list[Item]:
        """Where arrows to an item come from."""
        cut = self.cut_from(item)
        return item.inputs if cut is None else [*item.inputs, cut]

    def make(self, item: Item, kind: str = "") -> Box:
        """The box of an item."""
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

    def y(self, shelf: Shelf, layer: int) -> float:
        """The middle of a layer of a row."""
        assert shelf.stamp is not None
        return shelf.bottom - shelf.stamp.middle[layer]

    def bends(self, shelf: Shelf, column: Column, e: int) -> list[Point]:
        """Where edge `e` of a step passes the layers between its ends."""
        stamp = shelf.stamp
        assert stamp is not None
        points = []
        for layer, x in stamp.layout.bends.get(e, ()):
            y = self.y(shelf, layer)
            points += [
                (column.left + x, y + stamp.half[layer] + 2),
                (column.left + x, y - stamp.half[layer] - 2),
            ]
        return points

    def title(self, run: Run, e: int) -> tuple[str, str]:
        """What a step is, and its time."""
        return cell_title(run, e, alone=len(self.found.runs) == 1), f"t = {run.times[e]}"

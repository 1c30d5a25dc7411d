"""The unrolled view: time from left to right, depth from bottom to top, every step the same.

From the bottom up the picture is a stack of shelves: rows of time steps, and between them what is computed for all
steps at once. A value that feeds all steps, or is made from all, is a bar as wide as the row.

    sheet     what the parts share                shelves   what goes on which shelf
    stamp     one step, laid out                  sizes     which steps are drawn, how wide
    heat      gradients of the carried states     places    heights and middles
    columns   the steps                           carry     states from step to step
    between   arrows from shelf to shelf            titles    of modules inside a step
"""

from __future__ import annotations

from ..flow import rails
from ..model import Picture
from ..runs import Analysis
from .between import draw_around, into_row, into_single
from .carry import carry
from .columns import draw_row
from .heat import measure_gradients, strips
from .places import stack
from .sheet import CannotUnroll, Sheet
from .shelves import schedule, sort_sources
from .sizes import measure
from .titles import settle_titles

__all__ = ["CannotUnroll", "draw_unrolled"]


def draw_unrolled(found: Analysis, title: str, most: int = 4) -> Picture:
    """Stack the shelves of an analysed graph; more than `most` steps are shown as two, a gap, and two.

    Raises:
        CannotUnroll: its loops do not fit on shelves.
    """
    sheet = Sheet(found, title, most)
    sort_sources(sheet)
    sheet.shelves = schedule(sheet)
    measure_gradients(sheet)
    measure(sheet)
    stack(sheet)
    picture = sheet.picture
    for shelf in sheet.shelves:
        if shelf.run is not None:
            draw_row(sheet, shelf)
        else:
            picture.boxes += [sheet.make(item) for item in shelf.items]
    for shelf in sheet.shelves:
        if shelf.run is not None:
            carry(sheet, shelf)
            into_row(sheet, shelf)
        else:
            into_single(sheet, shelf)
    draw_around(sheet)
    strips(sheet)
    if sheet.taps:
        left = min(
            *(b.left for b in picture.boxes),
            *(c.left for c in picture.clusters),
            *(x for e in picture.edges for x, _ in e.path),
        )
        rails(picture, [(sheet.make(item), taps) for item, taps in sheet.taps.items()], left)
    settle_titles(picture)
    return picture

"""Drawing graphs: `mg.draw(loss)`.

The steps, a file each:

    expand, shorten      a compiled loop becomes its steps, a long loop loses its middle
    twins, turns         modules of one name get numbers, the turns of plain Python loops scopes
    graph, gather        the tape becomes items, one for each value; or, if there are too many, for all that are alike
    analyse              what repeats: loops, compare, slices, attach, names, for what runs describe
    choose               which view
    ops, unrolled, modules, rolled, backward, programs      everything gets a place
    finish               margins, legend, notes
    svg, dot, listing    written down; render asks Graphviz for PNG and PDF

What is computed from constants alone is not on a tape, and its result is drawn as an input; only a mask on data, an
image cut into patches, and a value that detach() cut off say where they come from.
"""

from __future__ import annotations

from .diagram import Diagram, draw
from .render import RenderError

__all__ = ["Diagram", "RenderError", "draw"]

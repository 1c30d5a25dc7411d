"""Drawing graphs: `mg.draw(loss)`.

The steps, a file each:

    expand, shorten      a compiled loop becomes its steps, a long loop loses its middle
    graph, gather        the tape becomes items, one for each value; or, if there are too many, for all that are alike
    analyse              what repeats: loops, compare, slices, attach, names, for what runs describe
    choose               which view
    ops, unrolled, modules, rolled, backward, programs      everything gets a place
    finish               margins, legend, notes
    svg, dot, listing    written down; render asks Graphviz for PNG and PDF
"""

from __future__ import annotations

from .diagram import Diagram, draw
from .render import RenderError

__all__ = ["Diagram", "RenderError", "draw"]

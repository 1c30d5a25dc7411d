"""Drawing graphs: `mg.draw(loss)`.

The steps, a file each: `graph` reads the tape, `runs` finds what repeats, a view (`ops`, `unrolled`,
`collapse`, `backward`) gives everything a place, `svg` and `dot` write it down, `render` asks Graphviz
for PNG and PDF.
"""

from __future__ import annotations

from .diagram import Diagram, draw
from .render import RenderError

__all__ = ["Diagram", "RenderError", "draw"]

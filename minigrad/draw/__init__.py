"""Drawing graphs: `mg.draw(loss)`.

The steps, a file each: `graph` reads the tape, `runs` finds what repeats, a view (`ops`, `unrolled`, ...) gives
everything a place, `svg` and `dot` write it down, `render` asks Graphviz for PNG and PDF.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..probe import Gradients
from ..tensor import Tensor
from .diagram import Diagram
from .finish import finish
from .graph import Graph, Item, fold, graph_of
from .labels import clean
from .ops import draw_ops
from .render import RenderError
from .runs import analyse
from .unrolled import draw_unrolled

VIEWS = ("ops", "unrolled", "rolled", "modules", "backward")


def draw(outputs: Tensor | Sequence[Tensor], view: str | None = None, *, gradients: Gradients | bool | None = None,
         theme: str = "light", title: str | None = None, legend: bool = True) -> Diagram:
    """Draw the graph behind some values.

    Args:
        outputs: a Tensor or several.
        view: "ops", "unrolled", "rolled", "modules" or "backward"; chosen by what is found when left out.
        gradients: what `mg.record_gradients()` gave, or True to compute them now.
        theme: "light", "dark" or "auto".
        title: of the picture.
        legend: whether to explain colours and shapes below.
    """
    from ..tensor import tape

    record = gradients if isinstance(gradients, Gradients) else None
    found = analyse(graph_of(tape(outputs), record))
    if found.runs and not found.failed and view in (None, "unrolled"):
        picture = draw_unrolled(found, title or "computation graph")
        return Diagram(finish(picture, legend), "unrolled", "", theme)
    picture = draw_ops(found.graph, title or "computation graph", found.name)
    return Diagram(finish(picture, legend), "ops", "", theme)

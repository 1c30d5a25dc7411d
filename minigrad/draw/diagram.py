"""`draw`: a diagram of what was computed, as SVG, DOT text, PNG, PDF or plain text."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import graphviz
import numpy as np

from ..probe import Gradients, record_gradients
from ..recording import watching
from ..tensor import Tensor, grad, tape, tensor
from .analyse import analyse
from .choose import choose, describe
from .dot import dot
from .expand import expand, inside, with_inside
from .finish import finish
from .gather import beginning, gather
from .graph import graph_of
from .listing import MOST as LISTED
from .listing import listing
from .model import Picture
from .palette import THEMES
from .programs import before_and_after, draw_programs
from .reading import Reading
from .render import render
from .runs import Analysis
from .shorten import shorten
from .statistics import GradientStatistics, annotate, say_why_missing, values_again, values_of_steps
from .svg import svg
from .turns import find_turns
from .twins import number_twins

if TYPE_CHECKING:
    from ..compile.run import CompiledScan

FORMATS = ("svg", "dot", "txt", "png", "pdf")
VIEWS = ("ops", "unrolled", "rolled", "modules", "backward")

# Above this number of operations, without those of steps that are alike, values are not looked at one by one.
GATHER_ABOVE = 20_000

FREED = "The values of operations were freed by backward: statistics are drawn before it, or with retain_graph=True."

# Of a long loop, so many steps at either end are looked at.
KEEP = 8


class Diagram:
    """A finished picture. It shows itself in a notebook; `save` writes it, the suffix says as what.

    Attributes:
        picture: everything that is drawn, with its place.
        view: which of the views it is.
        theme: "light", "dark" or "auto".
        html: of the class; True shows diagrams in notebooks as inline HTML, where tooltips work also in JupyterLab,
            which puts SVG into an image.
    """

    html: ClassVar[bool] = False

    def __init__(self, picture: Picture, view: str, text: Callable[[], str], theme: str) -> None:
        self.picture = picture
        self.view = view
        self.theme = theme
        self._listing = text

    @property
    def svg(self) -> str:
        """The picture as SVG text."""
        return svg(self.picture, self.theme)

    @property
    def dot(self) -> str:
        """The picture as DOT text with positions, for `neato -n2`."""
        return dot(self.picture, self.theme)

    @property
    def source(self) -> graphviz.Source:
        """The DOT text as the graphviz package's object, for its own methods (`view()`, `render()`, `pipe()`).

        It needs a Graphviz program on the PATH; the positions are in the text, so ask for `neato_no_op=2`.
        """
        return graphviz.Source(self.dot, engine="neato")

    @property
    def notes(self) -> list[str]:
        """What was left out, and how to see it."""
        return list(self.picture.notes)

    def text(self) -> str:
        """The graph as a listing, one value a line."""
        return self._listing()

    def save(self, path: str | Path) -> Path:
        """Write the diagram; the suffix chooses among .svg, .png, .pdf, .dot and .txt.

        Raises:
            ValueError: another suffix.
            RenderError: PNG or PDF, and no renderer works; the message says what to do.
        """
        path = Path(path)
        kind = path.suffix.lower().lstrip(".")
        if kind not in FORMATS:
            raise ValueError(
                f"a diagram is saved as {', '.join('.' + f for f in FORMATS)}, not {path.suffix or path.name!r}."
            )
        if kind in ("png", "pdf"):
            path.write_bytes(render(self.dot, kind, path.with_suffix(".dot")))
        else:
            path.write_text(
                {"svg": lambda: self.svg, "dot": lambda: self.dot, "txt": self.text}[kind](), encoding="utf-8"
            )
        return path

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        kind = "text/html" if self.html else "image/svg+xml"
        bundle = {kind: self.svg, "text/plain": repr(self)}
        return {k: v for k, v in bundle.items() if (not include or k in include) and k not in (exclude or ())}

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<diagram: {self.picture.description or self.picture.title}>"


def draw(
    outputs: Tensor | Sequence[Tensor] | CompiledScan,
    view: str | None = None,
    *,
    gradients: Gradients | bool | None = None,
    theme: str = "light",
    title: str | None = None,
    steps: int = 4,
    depth: int | None = None,
    fold: bool = True,
    legend: bool = True,
    statistics: bool = False,
) -> Diagram:
    """Draw the graph behind some values.

        mg.draw(loss).save("loss.svg")

    Views:
        ops: every operation.
        unrolled: time from left to right, one column per step; what is chosen for anything recurrent: a scan, a module
            that is called again with its own state, modules that feed each other, a matrix used again and again in
            a plain loop.
        rolled: each loop over time as one box.
        modules: a box for each call of a module.
        backward: the values beside their gradients, with formulas; of several outputs, of the first. A formula that
            does not fit its box is in the tooltip and in `text()`. A compiled loop is one value here.

    Args:
        outputs: a Tensor or several; or what `mg.explain` gives, for a compiled loop before and after rewriting.
        view: one of the above; chosen by what is found when left out.
        gradients: what `mg.record_gradients()` gave, or True to compute them now (before `backward`, or
            after one with
            `retain_graph=True`); nothing is added to any `.grad`.
        theme: "light", "dark", or "auto" to follow the reader's setting (SVG only).
        title: of the picture.
        steps: how many time steps to draw at most; of more, the first and the last.
        depth: of the modules view: how many scopes deep to go.
        fold: leave out slices, reshapes, transposes and casts.
        legend: explain colours and shapes below.
        statistics: write mean and deviation of values into the boxes, and with gradients=True of gradients. Values
            are there until a backward frees them; those that no derivative reads are computed again for it, from what
            the leaves hold now. Where a range is missing, pointing at the box says why.

    Returns:
        A Diagram, with `.svg`, `.dot`, `.text()` and `.save(path)`.

    Raises:
        ValueError: an unknown view or theme, or steps below 2.
        TypeError: `outputs` are not Tensors.
        GraphError: gradients are to be computed and the graph was freed.
    """
    if view is not None and view not in VIEWS:
        raise ValueError(f"draw() has the views {', '.join(VIEWS)}, not {view!r}.")
    if theme not in (*THEMES, "auto"):
        raise ValueError(f"draw() has the themes light, dark and auto, not {theme!r}.")
    if steps < 2:
        raise ValueError(f"draw() shows at least 2 steps, got steps={steps}.")
    if not isinstance(outputs, (Tensor, Sequence)):
        return _draw_compiled(outputs, theme, title, legend)
    wanted = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    for t in wanted:
        if not isinstance(t, Tensor):
            raise TypeError(f"draw() draws Tensors, got {type(t).__name__}.")
    if not wanted:
        raise ValueError("draw() needs at least one Tensor.")
    with _no_collection():
        recorded = tape(wanted)
        everything, loops = expand(recorded)
        number_twins(everything)
        if view != "modules":
            find_turns(everything)
        detailed = GradientStatistics() if statistics else None
        record = gradients if isinstance(gradients, Gradients) else None
        if gradients and record is None:
            record = gradients_of(wanted, detailed)
        record = with_inside(loops, record) if record is not None else None
        if detailed is not None:
            detailed.texts.update(inside(loops, detailed.inside))

        # the coarse views count everything; the others need only the ends of a long loop
        coarse = view not in (None, "unrolled", "rolled")

        def analysis(reading: Reading) -> Analysis:
            if len(reading.nodes) > GATHER_ABOVE:
                return Analysis(gather(reading, record, fold), [], failed="its steps are not alike")
            graph = graph_of(reading, record)
            if not fold:
                for item in graph.items:
                    item.foldable = False
            for item, t in zip(graph.outputs, wanted, strict=True):
                item.value = t._data
            found = analyse(graph, reading, record)
            if statistics:
                drawn = {item.number for item in found.graph.items if item.value is None}
                known = values_again(recorded.nodes, drawn) | values_of_steps(loops, reading)
                if not annotate(found.graph.items, known, detailed):
                    notes.append(FREED)
            say_why_missing(found.graph.items, recorded.nodes, loops)
            return found

        notes: list[str] = []
        reading = everything if coarse else shorten(everything, max(steps, KEEP), uneven=view != "rolled")
        found = analysis(reading)
        if reading.cuts and (
            found.failed
            or sum(run.gone > 0 for run in found.runs) < len(reading.cuts)
            or any(item.gradient for item in found.graph.items)
        ):
            notes = []
            found = analysis(everything)
        picture, view, more = choose(wanted, found, view, title, steps, depth)
        picture.notes += [*notes, *more]
        picture.description = describe(found, picture, view)
        listed = found
        if found.graph.calls is not None:
            listed = Analysis(beginning(everything, LISTED, record), [])
        for item in (*found.graph.items, *listed.graph.items):
            item.value = None  # a diagram holds no arrays
    return Diagram(
        finish(picture, legend), view, lambda: "\n".join([listing(listed, title or ""), *picture.listing]), theme
    )


def _draw_compiled(scan: Any, theme: str, title: str | None, legend: bool) -> Diagram:
    """The program of a compiled loop."""
    from ..compile.run import CompiledScan  # not needed by those who never compile

    if not isinstance(scan, CompiledScan):
        raise TypeError(f"draw() draws Tensors, or what mg.explain() gives; got {type(scan).__name__}.")
    parts = before_and_after(scan)
    picture, _ = draw_programs(parts, title or "compiled loop")
    return Diagram(
        finish(picture, legend), "program", lambda: "\n\n".join(f"# {name}\n{part}" for name, part in parts), theme
    )


@contextmanager
def _no_collection() -> Iterator[None]:
    """Hold the garbage collector: a drawing makes many small objects, which it would walk over and over."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def gradients_of(outputs: Sequence[Tensor], detailed: GradientStatistics | None = None) -> Gradients:
    """The norms of all gradients of the sum of some outputs, computed now and added to no `.grad`.

    Args:
        outputs: what the gradients are of.
        detailed: for more than norms.
    """
    outputs = [t for t in outputs if t.requires_grad]
    leaves = [leaf for leaf in tape(outputs).leaves() if isinstance(leaf, Tensor) and leaf.requires_grad]
    seeds = [tensor(np.ones(t.shape, t.dtype)) for t in outputs]
    with record_gradients() as gradients, watching(detailed.watch) if detailed is not None else nullcontext():
        found = grad(outputs, leaves, seeds, retain_graph=True) if leaves else ()
    for leaf, g in zip(leaves, found, strict=True):
        if g is not None:
            gradients.add_leaf(leaf, g)
            if detailed is not None:
                detailed.add(id(leaf), g)
    return gradients

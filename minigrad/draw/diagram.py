"""`draw`: a diagram of what was computed, as SVG, DOT text, PNG, PDF or plain text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..probe import Gradients
from .dot import dot
from .model import Picture
from .render import RenderError, render
from .svg import svg

FORMATS = ("svg", "dot", "txt", "png", "pdf")


class Diagram:
    """A finished picture. It shows itself in a notebook; `save` writes it, the suffix says as what.

    Attributes:
        picture: everything that is drawn, with its place.
        view: which of the views it is.
        theme: "light", "dark" or "auto".
    """

    def __init__(self, picture: Picture, view: str, text: str, theme: str) -> None:
        self.picture = picture
        self.view = view
        self.theme = theme
        self._text = text

    @property
    def svg(self) -> str:
        """The picture as SVG text."""
        return svg(self.picture, self.theme)

    @property
    def dot(self) -> str:
        """The picture as DOT text with positions, for `neato -n2`."""
        return dot(self.picture, self.theme)

    @property
    def notes(self) -> list[str]:
        """What was left out, and how to see it."""
        return list(self.picture.notes)

    def text(self) -> str:
        """The graph as a listing, one value a line."""
        return self._text

    def save(self, path: str | Path) -> Path:
        """Write the diagram; the suffix chooses among .svg, .png, .pdf, .dot and .txt.

        Raises:
            ValueError: another suffix.
            RenderError: PNG or PDF, and no renderer works; the message says what to do.
        """
        path = Path(path)
        kind = path.suffix.lower().lstrip(".")
        if kind not in FORMATS:
            raise ValueError(f"a diagram is saved as {', '.join('.' + f for f in FORMATS)}, not {path.suffix or path.name!r}.")
        if kind in ("png", "pdf"):
            path.write_bytes(render(self.dot, kind, path.with_suffix(".dot")))
        else:
            path.write_text({"svg": lambda: self.svg, "dot": lambda: self.dot, "txt": self.text}[kind](),
                            encoding="utf-8")
        return path

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"image/svg+xml": self.svg, "text/plain": repr(self)}

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<diagram: {self.picture.description or self.picture.title}>"


__all__ = ["FORMATS", "Diagram", "Gradients", "RenderError"]

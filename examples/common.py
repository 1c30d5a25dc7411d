"""What the examples share: their arguments, and how a figure gets into a file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

MISSING = "matplotlib is not installed (pip install 'minigrad-rnn[plot]')"


def arguments(doc: str | None, data: str | None = None) -> argparse.Namespace:
    """The command line that all examples have: --full, --out, --seed and, where `data` says what it is, --data.

    `out` is a folder that exists.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the real experiment, not a quick look at it")
    parser.add_argument("--out", type=Path, default=Path("figures"), metavar="DIR",
                        help="where figures go (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers (%(default)s)")
    if data is not None:
        parser.add_argument("--data", type=Path, metavar="PATH", help=data)
    found = parser.parse_args()
    found.out.mkdir(parents=True, exist_ok=True)
    return found


def plot(path: Path, draw: Callable[[Any], None], rows: int = 1, columns: int = 1, size: tuple[float, float] = (7, 4),
         **subplots: Any) -> None:
    """Write what `draw` puts on one or several axes to a file; without matplotlib, say so and go on."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure  # no pyplot: there is no window and no global state
    except ImportError:
        print(f"no figure {path}: {MISSING}")
        return
    figure = Figure(figsize=size, layout="constrained")
    draw(figure.subplots(rows, columns, **subplots))
    with rc_context({"svg.hashsalt": path.name}):  # the same figure is the same file
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=100)
    print(f"figure: {path}")


def tidy(ax: Any, xlabel: str = "", ylabel: str = "", title: str = "") -> None:
    """Labels, no frame, light lines for the eye, and a legend where something is labelled."""
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e6e6e6")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False)

"""What the examples share: their arguments, where figures go, and plots that may be missing."""

from __future__ import annotations

import argparse
import atexit
import html
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Colours that stay apart in colour blindness (Okabe & Ito 2008), in the order in which curves use them.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

STYLE = {"svg.fonttype": "none", "svg.hashsalt": "minigrad", "font.family": "sans-serif", "font.size": 10,
         "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#E6E6E6",
         "axes.axisbelow": True, "legend.frameon": False}


def arguments(doc: str | None, *, data: str | None = None, seed: int = 0) -> argparse.Namespace:
    """The command line of an example: --full, --out, --seed and, where `data` says what it is, --data.

    Without --full nothing is compiled to machine code, since that takes longer than a quick run. At the end of the
    program the time it took is printed.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the real experiment, not the quick form")
    parser.add_argument("--out", type=Path, default=Path("figures"), metavar="DIR", help="where figures go (figures/)")
    parser.add_argument("--seed", type=int, default=seed, help=f"of all random numbers ({seed})")
    if data is not None:
        parser.add_argument("--data", metavar="PATH", help=data)
    a = parser.parse_args()
    if not a.full:
        os.environ.setdefault("MINIGRAD_BACKEND", "numpy")
    if hasattr(sys.stdout, "reconfigure"):  # letters of formulas, also where the terminal's encoding lacks them
        sys.stdout.reconfigure(encoding="utf-8", line_buffering=True)
    a.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    atexit.register(lambda: print(f"\nseed {a.seed}, {time.perf_counter() - start:.1f} s "
                                  f"(CPU {time.process_time():.1f} s)"))
    return a


def title(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}\n{'-' * len(text)}")


def save(out: Path, name: str, content: Any) -> None:
    """Write a diagram, or text, into the folder of figures, and say so."""
    path = out / name
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        content.save(path)
    print(f"figure: {path}")


def plot(out: Path, name: str, draw: Callable[..., Any], rows: int = 1, columns: int = 1,
         size: tuple[float, float] = (7.0, 4.0), **options: Any) -> None:
    """Make a figure of rows × columns axes, let `draw(*axes)` draw into them, save it as SVG, and say so.

    Without matplotlib there is only a line that says how to get it. Options go to `Figure.subplots`.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure  # no pyplot: there is no window and no global state
    except ImportError:
        print(f"no {name}: plots need matplotlib, pip install 'minigrad-rnn[plot]'")
        return
    with rc_context({**STYLE, "axes.prop_cycle": _cycle()}):
        figure = Figure(figsize=size, layout="constrained")
        draw(*figure.subplots(rows, columns, squeeze=False, **options).ravel())
        figure.savefig(out / name, metadata={"Date": None, "Creator": None})
    print(f"figure: {out / name}")


def _cycle() -> Any:
    from matplotlib import cycler

    return cycler(color=COLOURS)


def side_by_side(diagrams: dict[str, Any], columns: int, background: str = "#FFFFFF") -> str:
    """Diagrams in one SVG, as text: a grid with a caption above each. Their ids are prefixed, so none collide."""
    def size(svg: str) -> tuple[float, float]:
        found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
        assert found is not None
        return float(found[1]), float(found[2])

    pictures = [(caption, d.svg, *size(d.svg)) for caption, d in diagrams.items()]
    rows = [pictures[k:k + columns] for k in range(0, len(pictures), columns)]
    widths = [max(row[c][2] for row in rows if c < len(row)) for c in range(columns)]
    parts, y = [], 0.0
    for row in rows:
        height = max(picture[3] for picture in row)
        for c, (caption, svg, w, h) in enumerate(row):
            x = sum(widths[:c]) + (widths[c] - w) / 2
            parts += [f'<text x="{x + w / 2:.1f}" y="{y + 20:.1f}" font-weight="bold">{html.escape(caption)}</text>',
                      svg.replace("<svg ", f'<svg x="{x:.1f}" y="{y + 24 + (height - h) / 2:.1f}" '
                                           f'width="{w:.1f}" height="{h:.1f}" ', 1)]
        y += height + 32
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {sum(widths):.1f} {y:.1f}" role="img" '
            'font-family="Helvetica" font-size="14" text-anchor="middle">\n'
            f'<rect width="100%" height="100%" fill="{background}"/>\n' + "\n".join(parts) + "\n</svg>\n")

"""What the examples share: their arguments, where figures go, and plots that may be missing."""

from __future__ import annotations

import argparse
import atexit
import html
import io
import itertools
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# The matrices here are small: on them a second thread of OpenBLAS costs more than it brings. It is read when NumPy
# is imported, so this module comes first.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import minigrad as mg
from minigrad.environment import keep_memory

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
    keep_memory()
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
    with rc_context({**STYLE, "axes.prop_cycle": _cycle()}), warnings.catch_warnings():
        # it looks for the best place, and warns where that takes more than a second: the machine is busy
        warnings.filterwarnings("ignore", "Creating legend", UserWarning)
        figure = Figure(figsize=size, layout="constrained")
        draw(*figure.subplots(rows, columns, squeeze=False, **options).ravel())
        figure.savefig(picture := io.StringIO(), format="svg", metadata={"Date": None, "Creator": None})
    # a hundredth of a point is fine enough, and half the size
    (out / name).write_text(re.sub(r"(\d\.\d\d)\d+", r"\1", picture.getvalue()), encoding="utf-8")
    print(f"figure: {out / name}")


def _cycle() -> Any:
    from matplotlib import cycler

    return cycler(color=COLOURS)


def heat_lines(ax: Any, norms: Mapping[str, Any], most: int = 8) -> None:
    """Norms of gradients along time, a coloured line for each name: log₁₀ relative to the last step, within ± most."""
    ratios = np.array([np.log10(np.maximum(n, 1e-30) / n[-1]) for n in norms.values()])
    lines, steps = ratios.shape
    mesh = ax.pcolormesh(np.arange(steps + 1) + 0.5, np.arange(lines + 1), ratios, cmap="RdBu_r", vmin=-most, vmax=most,
                         rasterized=True)
    ax.set(yticks=np.arange(lines) + 0.5, yticklabels=list(norms), xlabel="time step")
    ax.invert_yaxis()
    ax.figure.colorbar(mesh, label="log₁₀ of the norm,\nrelative to the last step")


def picture(ax: Any, name: str, values: Any, grey: bool = False) -> None:
    """A matrix (H, W) as a picture without axes: in greys, or with 0 white and what is below it in another colour."""
    most, signed = abs(values).max(), values.min() < 0
    colours = {"cmap": "RdBu" if signed else "Greens", "vmin": -most * signed, "vmax": most}
    ax.imshow(values, **({"cmap": "gray"} if grey else colours))
    ax.set_title(name, fontsize=8)
    ax.set_axis_off()


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


# ------------------------------------------------------------------------------------- long runs that are stopped

def kept(a: argparse.Namespace, name: str) -> Path:
    """The file in which a run with these arguments keeps something."""
    data = Path(a.data).stem + "_" if getattr(a, "data", None) else ""
    return a.out / f"{name}_{data}seed_{a.seed}.npz".replace(" ", "_").replace(",", "")


def once(a: argparse.Namespace, name: str, make: Callable[..., Any], *arguments: Any) -> Any:
    """What `make(*arguments)` gives; with --full it is kept beside the figures, and taken from there the next time."""
    path = kept(a, name)
    if a.full and path.exists():
        print(f"  (from {path}, of an earlier run)")
        return mg.load(path)["result"]
    result = make(*arguments)
    if a.full:
        mg.save(path, {"result": result})
    return result


def save_training(path: Path, parts: Mapping[str, Any], curve: list[Any]) -> None:
    """Write the curve so far and all that the next step depends on: the states of the model and of the others."""
    model = parts["model"]
    mg.save(path, {"curve": curve, "generators": model.generator_state(),
                   **{name: part.state_dict() for name, part in parts.items()}})


def load_training(path: Path, parts: Mapping[str, Any]) -> list[Any]:
    """The curve of a training that was stopped, whose states the parts get; an empty one where there is none."""
    if not path.exists():
        return []
    saved = mg.load(path)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    parts["model"].load_generator_state(saved["generators"])
    print(f"    going on after epoch {len(saved['curve'])}, from {path}")
    return list(saved["curve"])


# ------------------------------------------------------------------------------------------------ coloured text

BLUE, ORANGE = (59, 132, 191), (233, 124, 47)
TERMINAL = (26, 32, 74, 152, 255, 223, 215, 208, 166)      # of the 256 colours: blue, white, orange


def level(value: float) -> int:
    """A value in -1 … 1 as one of nine levels, 4 in the middle."""
    return round(4 + 4 * max(-1.0, min(1.0, float(value))))


def rgb(k: int) -> str:
    """The colour of a level: blue, white, orange."""
    towards, part = (BLUE, (4 - k) / 4) if k < 4 else (ORANGE, (k - 4) / 4)
    return "#" + "".join(f"{round(255 + part * (c - 255)):02x}" for c in towards)


def visible(text: str) -> dict[str, np.ndarray]:
    """Things that one can see in a text, such as the place in the line: by name, a number for each character."""
    rows, column, word, indent, quoted, depth = [], 0, 0, True, False, 0
    for c in text:
        column, word = (0 if c == "\n" else column + 1), (0 if c.isspace() else word + 1)
        indent = c == "\n" or (indent and c == " ")
        quoted ^= c == '"'
        depth = max(0, depth + (c in "([{") - (c in ")]}"))
        rows.append((column, word, indent, quoted, depth > 0, c.isupper(), c.isspace()))
    return dict(zip(("place in the line", "place in the word", "indentation", "inside quotes", "inside brackets",
                     "capital letters", "spaces"), np.array(rows, float).T))


def coloured_terminal(text: str, values: Any) -> str:
    """Text with a background per character, for terminals with 256 colours; plain where nobody would see it."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return "".join(c if c == "\n" else f"\x1b[48;5;{TERMINAL[level(v)]};30m{c}\x1b[0m" for c, v in zip(text, values))


def coloured_html(sections: dict[str, tuple[str, Any]]) -> str:
    """A page: under each heading a text, with a background per character and the value as a tooltip."""
    page = ['<!doctype html><html lang="en"><meta charset="utf-8"><title>What single units do</title>',
            "<style>body{font:16px/1.5 sans-serif;margin:2em auto;max-width:60em}pre{font-size:15px;line-height:1.6}"
            "</style>"]
    for heading, (text, values) in sections.items():
        page.append(f"<h2>{html.escape(heading)}</h2><pre>" + "".join(
            f'<span style="background:{rgb(level(v))}" title="{v:+.2f}">{html.escape(c)}</span>'
            for c, v in zip(text, values)) + "</pre>")
    return "\n".join(page) + "</html>\n"


def coloured_svg(sections: dict[str, tuple[str, Any]], wide: float = 7.25, high: float = 17.0) -> str:
    """The same as one SVG."""
    parts, y, most = [], 0.0, 0
    for heading, (text, values) in sections.items():
        y += 2 * high
        parts.append(f'<text x="10" y="{y - 8:.0f}" font-family="Helvetica" font-weight="bold">'
                     f"{html.escape(heading)}</text>")
        levels, at = [level(v) for v in values], 0
        for line in text.split("\n"):
            for k, run in itertools.groupby(range(len(line)), lambda c, here=levels[at:]: here[c]):
                first, *more = run
                parts.append(f'<rect x="{10 + first * wide:.1f}" y="{y:.0f}" width="{(1 + len(more)) * wide:.1f}" '
                             f'height="{high:.0f}" fill="{rgb(k)}"/>')
            y, at, most = y + high, at + len(line) + 1, max(most, len(line))
            parts.append(f'<text x="10" y="{y - 4:.0f}" textLength="{len(line) * wide:.1f}" xml:space="preserve" '
                         f'font-family="monospace">{html.escape(line)}</text>' if line.strip() else "")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {20 + most * wide:.0f} {y + 10:.0f}" role="img" '
            f'font-size="12"><rect width="100%" height="100%" fill="#FFFFFF"/>\n' + "\n".join(parts) + "\n</svg>\n")

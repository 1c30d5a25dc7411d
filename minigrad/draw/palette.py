"""Colours: one place for both themes. Contrast and colour blindness are checked by tests from these
constants.

Never colour alone: each kind also has a shape or a border of its own (see `shapes` in `model`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """Colours of one theme.

    Attributes:
        fills: kind -> (fill, stroke).
        heat: from far below 1, through 1, to far above 1.
    """

    background: str
    text: str
    edge: str
    rail: str
    fills: dict[str, tuple[str, str]]
    heat: tuple[str, ...]
    no_heat: str = "#8A8A8A"
    not_finite: str = "#D000D0"


LIGHT = Theme(
    background="#FFFFFF",
    text="#1A1A1A",
    edge="#5A5A5A",
    rail="#B98520",
    fills={
        "input": ("#B9DAF5", "#00508A"),
        "parameter": ("#FFD36B", "#7A4F00"),
        "op": ("#FFFFFF", "#4D4D4D"),
        "named": ("#CFEFE0", "#00664B"),
        "state": ("#FFFFFF", "#4D4D4D"),
        "constant": ("#D4D4D4", "#4D4D4D"),
        "mask": ("#EFE88A", "#5E5800"),
        "detach": ("#FFFFFF", "#6E6E6E"),
        "output": ("#EFA9CB", "#86245F"),
        "elided": ("#F4F6F8", "#8E99A6"),
        "module": ("#E3E9F0", "#5B6B7C"),
        "backward": ("#FFFFFF", "#5E3C99"),
        "gradient": ("#E9E0F5", "#5E3C99"),
        "cluster": ("#F4F6F8", "#8E99A6"),
        "cluster backward": ("#F5F1FA", "#8E79B5"),
    },
    heat=("#1F4E8C", "#3B84BF", "#757575", "#D1602F", "#A31621"),
)

DARK = Theme(
    background="#11151A",
    text="#F2F4F7",
    edge="#A9B2BD",
    rail="#C99A3D",
    fills={
        "input": ("#0A4A75", "#6CBFF2"),
        "parameter": ("#6B4E00", "#F0B840"),
        "op": ("#252C35", "#A9B2BD"),
        "named": ("#0B5A44", "#5FD9B0"),
        "state": ("#11151A", "#A9B2BD"),
        "constant": ("#4A5058", "#C3C9D0"),
        "mask": ("#5F5B0A", "#DDD650"),
        "detach": ("#11151A", "#A9B2BD"),
        "output": ("#7A2159", "#F09ACB"),
        "elided": ("#1B2129", "#4A5562"),
        "module": ("#2A3440", "#8FA1B5"),
        "backward": ("#1B1724", "#B79BE8"),
        "gradient": ("#3D2C5E", "#B79BE8"),
        "cluster": ("#1B2129", "#4A5562"),
        "cluster backward": ("#1D1826", "#6F5C94"),
    },
    heat=("#4C9BE0", "#8CC4EA", "#9A9A9A", "#F4A582", "#FF6655"),
)

THEMES = {"light": LIGHT, "dark": DARK}

# Heat is rounded to this many levels on each side of 0, so that every level can be a class of a style sheet.
LEVELS = 12


def heat_level(ratio: float, span: float) -> str:
    """The name of the heat of a gradient whose norm is `ratio` times the reference; `span` decades
    saturate."""
    if ratio != ratio or ratio == math.inf:
        return "heat-nan"
    if ratio <= 0:
        return "heat-none"
    r = max(-1.0, min(1.0, math.log10(ratio) / span))
    return f"heat{round(r * LEVELS):+d}"


def heat_color(level: str, theme: Theme) -> str:
    """The colour of a heat level in a theme."""
    if level == "heat-nan":
        return theme.not_finite
    if level == "heat-none":
        return theme.no_heat
    position = (int(level[4:]) / LEVELS + 1) / 2 * (len(theme.heat) - 1)
    low = min(int(position), len(theme.heat) - 2)
    return _mix(theme.heat[low], theme.heat[low + 1], position - low)


def heat_width(level: str) -> float:
    """Line width of a heat level: thin where the gradient has vanished, thick where it has grown."""
    if level in ("heat-none", "heat-nan"):
        return 1.5
    return round(1.5 + 3.7 * (int(level[4:]) / LEVELS + 1) / 2, 2)


def _mix(a: str, b: str, share: float) -> str:
    pairs = ((int(a[i : i + 2], 16), int(b[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(x + (y - x) * share):02X}" for x, y in pairs)

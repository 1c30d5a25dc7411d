"""Plots, where matplotlib is there (the extra `plot`). They return the axes and take `ax=`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from .text import Level


def plot_loss(records: Iterable[Mapping[str, Any]], level: Level = "char", ax: Any = None) -> Any:
    """The loss over the steps of a run: a line for training, dots on a line for validation.

    Args:
        records: the lines of `metrics.jsonl`: dicts with "step", and "loss" or "valid" in nats.
        level: of the text; it chooses bits or, for words, perplexity.
        ax: where to draw; a figure of its own if left out.

    Raises:
        ImportError: there is no matplotlib.
    """
    if ax is None:
        from matplotlib.figure import Figure  # no pyplot: there is no window and no global state

        ax = Figure(figsize=(7, 4), layout="constrained").subplots()
    records = list(records)

    def unit(nats: float) -> float:
        return math.exp(min(nats, 50.0)) if level == "word" else nats / math.log(2)

    for name, label, style in (
        ("loss", "training", {"color": "#9fb8cf", "linewidth": 1.2}),
        ("valid", "validation", {"color": "#b03a2e", "linewidth": 1.8, "marker": "o", "markersize": 4}),
    ):
        points = [(r["step"], unit(r[name])) for r in records if r.get(name) is not None]
        if points:
            steps, values = zip(*points)
            best = f"{min(values):.3f}" if level != "word" else f"{min(values):.1f}"
            ax.plot(steps, values, label=label if name == "loss" else f"{label}, best {best}", **style)
    if level == "word":
        ax.set_yscale("log")
    ax.set_xlabel("step")
    ax.set_ylabel("perplexity" if level == "word" else f"loss in bits per {level}")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e6e6e6")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, loc="best")  # said, so that a busy machine is not warned of
    return ax

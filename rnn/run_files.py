"""The names of what a training writes to its folder."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

CONFIG, METRICS, SAMPLES, BEST = "config.json", "metrics.jsonl", "samples.txt", "best.npz"
CHECKPOINTS = "checkpoint-*.npz"  # a pattern: they are numbered
PICTURES = ("loss.png", "loss.svg")
FILES = (CONFIG, METRICS, SAMPLES, BEST, *PICTURES)  # all but the checkpoints


def is_of_a_run(path: Path) -> bool:
    """Whether a file was written by a training: such a one in the folder of the texts is not one of them."""
    return (path.name in FILES or fnmatch(path.name, CHECKPOINTS)) and all(
        (path.parent / name).is_file() for name in (CONFIG, METRICS))

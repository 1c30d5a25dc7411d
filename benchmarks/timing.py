"""Timing contenders side by side: in turn, so that a slow minute of the machine is everyone's slow minute."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any


def interleave(
    contenders: dict[str, Callable[[], Any]],
    repeats: int = 15,
    budget: float = 8.0,
    turn: float = 0.01,
    pause: float = 0.0,
) -> dict[str, list[float]]:
    """Seconds per call of each contender, measured A B C A B C … for `repeats` rounds.

    Each has been called once before. A turn is a pause (in which the last one's threads stop spinning), a
    call that is not timed when calls are short, and then enough calls to fill `turn` seconds, of which it
    gives the mean. A contender leaves after `budget` seconds, but not before its third turn. The garbage
    collector runs as usual over what the contenders make; what the libraries made at import is frozen, or one
    would pay for another's heap.
    """
    calls: dict[str, int] = {}
    for name, call in contenders.items():
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        calls[name] = max(1, min(1000, round(turn / seconds)))
    gc.collect()
    gc.freeze()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    spent = dict.fromkeys(contenders, 0.0)
    for _ in range(repeats):
        for name, call in contenders.items():
            if spent[name] > budget and len(times[name]) >= 3:
                continue
            if pause:
                time.sleep(pause)
            begin = time.perf_counter()
            if not times[name] or times[name][-1] < 5 * turn:
                call()
            start = time.perf_counter()
            for _ in range(calls[name]):
                call()
            end = time.perf_counter()
            times[name].append((end - start) / calls[name])
            spent[name] += end - begin
    return times

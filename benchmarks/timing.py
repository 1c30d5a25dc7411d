"""Timing contenders side by side: in turn, so that a slow minute of the machine is everyone's slow minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

#: `turn(calls, warm)`: the seconds of each of `calls` in a row, after one that is not timed if `warm`.
Turn = Callable[[int, bool], list[float]]


def turn_of(call: Callable[[], Any]) -> Turn:
    """Turns of a function in this process."""

    def turn(calls: int, warm: bool) -> list[float]:
        if warm:
            call()
        ticks = [time.perf_counter()]
        for _ in range(calls):
            call()
            ticks.append(time.perf_counter())
        return [end - start for start, end in pairwise(ticks)]

    return turn


def interleave(
    turns: dict[str, Turn],
    repeats: int = 15,
    budget: float = 8.0,
    fill: float = 0.01,
    pause: float = 0.0,
) -> dict[str, list[float]]:
    """Seconds of each contender's calls, measured A B C A B C … for `repeats` rounds.

    Each has been called once before. A turn is a pause (in which the last one's threads stop spinning), a
    call that is not timed when calls are short, and then enough calls to fill `fill` seconds. A contender
    leaves after `budget` seconds, but not before its third call.
    """
    calls = {}
    for name, take in turns.items():
        calls[name] = max(1, min(1000, round(fill / min(take(1, False) + take(1, False)))))
    times: dict[str, list[float]] = {name: [] for name in turns}
    spent = dict.fromkeys(turns, 0.0)
    for _ in range(repeats):
        for name, take in turns.items():
            if spent[name] > budget and len(times[name]) >= 3:
                continue
            if pause:
                time.sleep(pause)
            begin = time.perf_counter()
            times[name] += take(calls[name], not times[name] or times[name][-1] < 5 * fill)
            spent[name] += time.perf_counter() - begin
    return times

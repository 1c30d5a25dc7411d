"""The rows of a batch, shared out among threads: as many as NumPy's matrix products use.

In most loops over time no row of a batch knows of another. Then each thread takes some rows from the first step to the
last, and meets the others only at the end. What is computed for a row does not depend on the rows beside it, so all
results have the same bits for any number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from ..environment import thread_count

#: With fewer rows than this, a part is not worth waking a thread for.
LEAST_ROWS = 8


def cut(rows: int, count: int) -> list[tuple[int, int]]:
    """At most `count` parts of range(rows), as equal as can be, none of fewer than LEAST_ROWS rows unless alone."""
    count = max(1, min(count, rows // LEAST_ROWS))
    return [(k * rows // count, (k + 1) * rows // count) for k in range(count)]


def in_parts(work: Callable[[int, int], object], rows: int) -> None:
    """work(first, last) for parts that make up range(rows), each in a thread; it should give up Python's lock."""
    here, *elsewhere = cut(rows, thread_count())
    if not elsewhere:
        work(*here)
        return
    running = [_pool(os.getpid()).submit(work, *part) for part in elsewhere]
    work(*here)
    for part in running:
        part.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads of a process; a fork has none of its parent's."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="minigrad")

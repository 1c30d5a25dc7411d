"""The rows of a batch shared out among threads: the same bits, whoever computed them."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from itertools import pairwise
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

import minigrad as mg
import rnn
from minigrad.compile import numba_backend, parts, run
from minigrad.compile.tiles import LEAST_ROWS, ROWS, tiles
from minigrad.environment import blas_info, thread_count
from rnn.dropout import Zoneout

needs_tiles = pytest.mark.skipif(not tiles().size, reason="no vector registers for tiles here")


@pytest.mark.parametrize("rows, threads, expected", [
    (64, 1, [64]), (64, 2, [32, 32]), (19, 2, [9, 10]), (19, 16, [9, 10]), (15, 2, [15]), (1, 4, [1]), (0, 2, [0]),
    (100, 3, [33, 33, 34]),
])
def test_how_rows_are_cut(rows: int, threads: int, expected: list[int]) -> None:
    cuts = parts.cut(rows, threads)
    assert [b - a for a, b in cuts] == expected
    assert cuts[0][0] == 0 and cuts[-1][1] == rows
    assert all(end == start for (_, end), (start, _) in pairwise(cuts))
    assert parts.LEAST_ROWS >= ROWS  # a part must hold a tile


def test_each_part_runs_in_a_thread_and_errors_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "thread_count", lambda: 3)
    seen: dict[tuple[int, int], str] = {}
    parts.in_parts(lambda a, b: seen.update({(a, b): threading.current_thread().name}), 30)
    assert sorted(seen) == [(0, 10), (10, 20), (20, 30)]
    assert seen[0, 10] == threading.current_thread().name
    assert all(name.startswith("minigrad") for part, name in seen.items() if part[0])

    def fails(first: int, last: int) -> None:
        if first == 20:
            raise ValueError("the last part")

    with pytest.raises(ValueError, match="the last part"):
        parts.in_parts(fails, 30)


def test_the_count_is_that_of_the_products() -> None:
    assert thread_count() == (blas_info()["threads"] or 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "thread_count", lambda: 2)
    parts.in_parts(lambda a, b: None, 20)
    child = os.fork()
    if not child:
        done: list[int] = []
        parts.in_parts(lambda a, b: done.append(b - a), 20)
        os._exit(sum(done))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 20


def outcome() -> list[Any]:
    """Outputs and gradients of an LSTM with masks, on sequences of several lengths."""
    layer = rnn.LSTM(8, 70, rng=0, dropout=Zoneout(cell=0.3, hidden=0.2), dropout_rng=1, compiled="numba")
    x = mg.tensor(np.random.default_rng(2).standard_normal((LEAST_ROWS + 3, 6, 8)).astype(np.float32),
                  requires_grad=True)
    y, _ = layer(x, lengths=[6, 1, 3, *[5] * LEAST_ROWS])
    (y * np.cos(y)).sum().backward()
    return [y.data, x.grad, *(p.grad for p in layer.parameters())]


@needs_tiles
def test_an_lstm_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    ran: list[tuple[int, int]] = []
    original = parts.cut

    def cut(rows: int, count: int) -> list[tuple[int, int]]:
        found = original(rows, count)
        ran.extend(found)
        return found

    monkeypatch.setattr(parts, "cut", cut)
    monkeypatch.setattr(parts, "thread_count", lambda: 1)
    alone = outcome()
    assert ran == [(0, 19)] * 2  # there and back
    ran.clear()
    monkeypatch.setattr(parts, "thread_count", lambda: 2)
    shared = outcome()
    assert ran == [(0, 9), (9, 19)] * 2
    for a, b in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(a, b)


@needs_tiles
def test_a_step_whose_rows_need_each_other_is_not_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(run, "CACHE", OrderedDict())
    monkeypatch.setattr(numba_backend, "load_module", lambda source: MagicMock())  # written, not compiled
    W = mg.tensor(np.eye(64, dtype=np.float32), requires_grad=True)

    def apart(h: Any, x: Any) -> tuple[Any, Any]:
        h = np.tanh(h @ W + x)
        return h, h

    def together(h: Any, x: Any) -> tuple[Any, Any]:
        h = np.tanh((h - h[:1]) @ W + x)
        return h, h

    h, x = np.zeros((16, 64), np.float32), np.ones((4, 16, 64), np.float32)
    assert "in_parts(" in str(mg.explain(apart, h, x, backend="numba"))
    assert "in_parts(" not in str(mg.explain(together, h, x, backend="numba"))

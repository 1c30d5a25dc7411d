"""Traces that are remembered: the package's own cells are looked at once, all others at each call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import minigrad as mg
import rnn
from minigrad.compile import recall
from minigrad.compile.recall import Alike
from minigrad.nn import Parameter

X = np.random.default_rng(0).standard_normal((2, 9, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "_REMEMBERED", type(recall._REMEMBERED)())


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One entry for each step of an LSTM that runs in Python."""
    seen: list[Any] = []
    real = rnn.LSTMCell.step

    def step(self: Any, *arguments: Any) -> Any:
        seen.append(self)
        return real(self, *arguments)

    monkeypatch.setattr(rnn.LSTMCell, "step", step)
    return seen


def results(layer: rnn.Recurrent, how: bool | str) -> list[Any]:
    """The loss and all gradients."""
    layer.compiled = how
    layer.zero_grad()
    outputs, state = layer(mg.tensor(X))
    loss = (outputs ** 2).sum() + sum(s.sum() for s in state[0])
    loss.backward()
    return [loss.data, *(p.grad for p in layer.parameters())]


def agree(layer: rnn.Recurrent) -> None:
    for got, expected in zip(results(layer, "numpy"), results(layer, False), strict=True):
        assert_allclose(got, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("layer", [
    rnn.LSTM(3, 4, rng=0), rnn.LSTM(3, 4, peephole=True, projection=2, rng=0), rnn.LSTM(3, 4, layer_norm=True, rng=0),
    rnn.LSTM(3, 4, coupled=True, rng=0), rnn.GRU(3, 4, rng=0), rnn.GRU(3, 4, reset_after=False, rng=0),
    rnn.RNN(3, 4, 2, nonlinearity="relu", rng=0), rnn.Jordan(3, 4, rng=0), rnn.LSTM(3, 4, bidirectional=True, rng=0),
], ids=lambda layer: f"{type(layer).__name__}-{len(list(layer.parameters()))}")
def test_a_remembered_trace_gives_the_same(layer: rnn.Recurrent, monkeypatch: pytest.MonkeyPatch) -> None:
    first = results(layer, "numpy")
    traced: list[Any] = []
    monkeypatch.setattr("minigrad.compile.run.trace", lambda *a: traced.append(a))
    again = results(layer, "numpy")
    assert not traced
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a, b)
    agree(layer)


def test_the_step_runs_in_python_for_the_first_call_only(steps: list[Any]) -> None:
    layer = rnn.LSTM(3, 4, rng=0)
    results(layer, "numpy")
    count = len(steps)
    assert 0 < count < 9
    results(layer, "numpy")
    assert len(steps) == count
    other = rnn.LSTM(3, 4, rng=1)  # another of the same kind and size: with its own weights
    agree(other)
    assert len(steps) == count + 9  # the eager ones
    with mg.no_grad():
        layer.compiled = "numpy"
        outputs, _ = layer(mg.tensor(X))
    assert not outputs.requires_grad


def test_what_changes_the_step_is_seen() -> None:
    layer = rnn.LSTM(3, 4, rng=0)
    agree(layer)
    cell: Any = layer.cells[0]
    cell.clip_gradient = 1e-3
    agree(layer)
    cell.weight_hh = Parameter(2 * cell.weight_hh.data)
    agree(layer)
    cell.weight_hh.assign(3 * cell.weight_hh.data)
    agree(layer)
    cell.coins = [1]  # cannot be hashed
    agree(layer)
    del cell.coins
    step = cell.step
    factor = [2.0]
    cell.step = lambda *a: tuple(part if k else factor[0] * part for k, part in enumerate(step(*a)))
    agree(layer)
    factor[0] = 3.0  # the same function, which now does something else
    agree(layer)


def test_frozen_weights_are_traced_each_time_and_right(steps: list[Any]) -> None:
    layer = rnn.LSTM(3, 4, rng=0)
    layer.cells[0].weight_hh.requires_grad = False
    layer.compiled = "numpy"
    before = layer(mg.tensor(X))[0].data
    count = len(steps)
    assert np.array_equal(layer(mg.tensor(X))[0].data, before) and len(steps) > count


def test_cells_of_others_are_looked_at_every_time() -> None:
    class Growing(rnn.RNNCell):
        factor = 1.0

        def step(self, a: Any, state: Any, U: Any, taps: Any = rnn.cells.NO_TAPS) -> Any:
            return super().step(self.factor * a, state, U, taps)

    class Layer(rnn.Recurrent):
        cell_type = Growing

    layer = Layer(3, 4, rng=0)
    agree(layer)
    Growing.factor = 3.0
    agree(layer)


def test_closures_that_were_not_told_are_not_remembered() -> None:
    def loop(weight: Any) -> Any:
        told = Alike(lambda h, x: (mg.tanh(h * weight + x), h), "a key", [])
        return mg.scan(told, mg.tensor(np.zeros(3, np.float32)), mg.tensor(X[0]), compiled="numpy")[0]

    for value in (1.0, 2.0):
        weight = mg.tensor(np.full(3, value, np.float32), requires_grad=True)
        h = np.zeros(3, np.float32)
        for x in X[0]:
            h = np.tanh(h * value + x)
        assert_allclose(loop(weight).data, h, rtol=1e-5)


def test_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "SIZE", 2)
    for width in (2, 3, 4):
        layer = rnn.RNN(3, width, compiled="numpy", rng=0)
        layer(mg.tensor(X))
    assert len(recall._REMEMBERED) == 2

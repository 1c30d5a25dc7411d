"""Gradients along time, and truncated backpropagation."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from compare import randomise
from loops import complex_step, lstm_loop, rnn_loop

import minigrad as mg
import rnn

B, T, D, H = 2, 7, 2, 3


def unrolled(layer, x, loss_of):
    """‖∂L/∂state_t‖ for every step of a single cell, from the tensors themselves."""
    (cell,) = layer.cells
    state, U, states, ys = cell.initial_state(len(x)), cell.weights(), [], []
    a = cell.project(mg.tensor(x.swapaxes(0, 1)))
    for t in range(x.shape[1]):
        y, state = cell.step(a[t], state, U)
        states.append(state)
        ys.append(y)
    loss = loss_of(mg.stack(ys, axis=1))
    parts = zip(*states, strict=True)
    return {k: np.array([0.0 if g is None else np.linalg.norm(g.data) for g in
                         mg.grad(loss, list(part), retain_graph=True)])
            for k, part in zip(cell.State._fields, parts, strict=True)}


@pytest.mark.parametrize("make", [rnn.RNN, rnn.LSTM, rnn.GRU, rnn.Jordan])
def test_norms_are_those_of_the_states(make):
    layer = randomise(make(D, H, dtype=np.float64))
    x = np.random.default_rng(0).normal(size=(B, T, D))
    weights = np.random.default_rng(1).normal(size=(B, T, H))

    def loss_of(y):
        return (y * weights).sum()

    with rnn.gradient_probe() as probe:
        loss_of(layer(x)[0]).backward()
    (name,) = probe
    assert name == f"{make.__name__.lower()}/layer 0"
    expected = unrolled(layer, x, loss_of)
    assert probe[name].keys() >= expected.keys()
    for k, norms in expected.items():
        np.testing.assert_allclose(probe[name][k], norms, rtol=1e-12)


def test_steps_that_no_gradient_reaches_have_none():
    layer = rnn.LSTM(D, H, compiled=True)
    with rnn.gradient_probe(layer) as probe:
        y, _ = layer(np.ones((B, 12, D), np.float32))
        y[:, 3].sum().backward()
    assert layer.compiled is True
    norms = probe["lstm/layer 0"]
    for k in "hc":
        assert len(norms[k]) == 12
        assert (norms[k][:4] > 0).all()
        assert not norms[k][4:].any()


def test_stacked_bidirectional_and_called_twice():
    layer = rnn.GRU(D, H, 2, bidirectional=True)
    with rnn.gradient_probe() as probe:
        y, state = layer(np.ones((B, T, D), np.float32))
        z, _ = layer(np.ones((B, 4, D), np.float32), state, [2, 4])
        (y.sum() + z.sum()).backward()
    places = ["layer 0", "layer 0 backward", "layer 1", "layer 1 backward"]
    assert list(probe) == [*(f"gru/{p}" for p in places), *(f"gru/{p} (2)" for p in places)]
    assert len(probe) == 8
    assert len(probe["gru/layer 1"]["h"]) == T
    assert len(probe["gru/layer 1 (2)"]["h"]) == 4


@pytest.mark.parametrize(("scale", "last_steps", "first_step"), [
    (1.0, [2.4684, 3.3357, 4.7833], 249.4956), (0.5, [1.2342, 0.8339, 0.5979], 2.3794e-4)])
def test_vanishing_and_exploding(scale, last_steps, first_step):
    """States of zero, where tanh has slope 1: the gradient is multiplied by Uᵀ once per step."""
    layer = rnn.RNN(1, 3, dtype=np.float64)
    layer.cells[0].weight_hh.assign(scale * np.random.RandomState(3).randn(3, 3))
    with rnn.gradient_probe() as probe:
        y, _ = layer(np.zeros((2, 21, 1)))
        y[:, -1].sum().backward()
    norms = probe["rnn/layer 0"]["h"][::-1] / 2
    np.testing.assert_allclose(norms[1:4], last_steps, rtol=1e-4)
    assert np.isclose(norms[20], first_step, rtol=1e-4)


def test_plot():
    pytest.importorskip("matplotlib")
    layer = rnn.LSTM(D, H)
    with rnn.gradient_probe() as probe:
        y, _ = layer(np.ones((B, T, D), np.float32))
        y[:, 4].sum().backward()
    axes = probe.plot()
    assert [line.get_label() for line in axes.lines] == ["h", "c"]
    for line, norms in zip(axes.lines, probe["lstm/layer 0"].values(), strict=True):
        assert line.get_xdata().tolist() == [1, 2, 3, 4, 5]
        assert line.get_ydata().tolist() == norms[:5].tolist()
    assert axes.get_yscale() == "log"
    assert probe.plot(ax=axes, log=False) is axes
    assert len(axes.lines) == 4


def test_plot_without_matplotlib(monkeypatch):
    def missing(name, *args):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args)

    real = builtins.__import__
    layer = rnn.RNN(D, H)
    with rnn.gradient_probe() as probe:
        layer(np.ones((B, T, D), np.float32))[0].sum().backward()
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"minigrad-rnn\[plot\]"):
        probe.plot()


def test_a_name_that_the_probe_does_not_have_is_answered_with_those_it_has():
    layer = rnn.RNN(2, 3, rng=0)
    with rnn.gradient_probe() as probe:
        with pytest.raises(KeyError, match="nothing yet"):
            probe["layer 0"]
        y, _ = layer(np.ones((1, 4, 2), np.float32))
        np.sum(y).backward()
    with pytest.raises(KeyError, match="no gradients of 'layer 1': there are those of 'rnn/layer 0'"):
        probe["layer 1"]
    assert "layer 1" not in probe and "rnn/layer 0" in probe


def test_a_probe_that_saw_nothing():
    with rnn.gradient_probe() as probe:
        pass
    assert "nothing yet" in repr(probe)
    with pytest.raises(ValueError, match="no gradient has been recorded"):
        probe.plot()


# -- truncated backpropagation -----------------------------------------------------------------------------


@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (1, 4), (2, 2), (2, 3), (2, 5), (3, 6), (3, 20)])
@pytest.mark.parametrize(("make", "loop"), [(rnn.RNN, rnn_loop), (rnn.LSTM, lstm_loop)])
def test_truncated_backpropagation(make, loop, k1, k2):
    """Each gradient is that of a plain loop that starts k2 steps earlier from a constant state."""
    steps = 8
    layer = randomise(make(D, 2, dtype=np.float64))
    (cell,) = layer.cells
    p = {name: v.numpy() for name, v in cell.named_parameters()}
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(1, steps, D)), rng.normal(size=(1, steps, 2))
    states = [[np.zeros((1, 2))] * len(cell.sizes())]
    for t in range(steps):
        states.append(list(loop(p, x[:, t:t + 1], *states[-1])[1:]))

    window = rnn.TruncatedBPTT(layer, k1, k2)
    for start in range(0, steps, k1):
        end = min(start + k1, steps)
        y = window(x[:, start:end])
        assert y.shape == (1, end - start, 2)
        found = mg.grad((y * weights[:, start:end]).sum(), list(cell.parameters()))
        # the call before cut the window for k1 new steps; a shorter last chunk goes back no further
        begin = max(0, start + k1 - k2)

        def loss(values, begin=begin, start=start, end=end):
            y = loop(values, x[:, begin:end], *states[begin])[0]
            return (y[:, start - begin:] * weights[:, start:end]).sum()

        expected = complex_step(loss, p)
        for (name, _), g in zip(cell.named_parameters(), found, strict=True):
            np.testing.assert_allclose(g.data, expected[name], atol=1e-12, err_msg=name)
        for ours, plain in zip(window.state[0], states[end], strict=True):
            np.testing.assert_allclose(ours.data, plain, atol=1e-13)
            assert not ours.requires_grad


def test_truncated_backpropagation_while_learning():
    """The parameters change between calls; of the older ones only the first state of a window is left."""
    layer = randomise(rnn.GRU(D, H, dtype=np.float64))
    sgd = mg.optim.SGD(layer.parameters(), lr=0.1)
    x = np.random.default_rng(0).normal(size=(B, 12, D))
    window, losses = rnn.TruncatedBPTT(layer, 2, 6), []
    for _ in range(15):
        window.reset()
        total = 0.0
        for start in range(0, 12, 2):
            new = x[:, start:start + 2]
            loss = ((window(new) - new.sum(axis=-1, keepdims=True)) ** 2).mean()
            layer.zero_grad()
            loss.backward()
            sgd.step()
            total += loss.item()
        losses.append(total)
    assert losses[-1] < 0.9 * losses[0]


def test_truncated_backpropagation_takes_models_of_symbols_and_a_state():
    embedding, layer = mg.nn.Embedding(5, D, rng=0), rnn.RNN(D, H, rng=0)
    _, state = layer(np.ones((B, 1, D), np.float32))
    window = rnn.TruncatedBPTT(lambda ids, s: layer(embedding(ids), s), 2, 4, state)
    ids = np.arange(12).reshape(B, 6) % 5
    y = np.concatenate([window(ids[:, k:k + 2]).data for k in (0, 2, 4)], axis=1)
    np.testing.assert_allclose(y, layer(embedding(ids), state)[0].data, atol=1e-6)


def test_truncated_backpropagation_keeps_what_it_was_given():
    layer, x = rnn.RNN(D, H, rng=0), np.random.default_rng(0).normal(size=(B, 4, D)).astype(np.float32)
    window, buffer = rnn.TruncatedBPTT(layer, 2, 4), np.empty((B, 2, D), np.float32)
    for k in (0, 2):  # one buffer for all chunks
        buffer[:] = x[:, k:k + 2]
        y = window(buffer)
    np.testing.assert_allclose(y.data, layer(x)[0].data[:, 2:], atol=1e-6)


@pytest.mark.parametrize(("k1", "k2"), [(0, 1), (2, 1), (1.5, 2)])
def test_truncated_backpropagation_errors(k1, k2):
    with pytest.raises(ValueError, match="1 <= k1 <= k2"):
        rnn.TruncatedBPTT(rnn.RNN(D, H), k1, k2)


def test_more_steps_than_a_call_gets():
    window = rnn.TruncatedBPTT(rnn.RNN(D, H), 2, 4)
    with pytest.raises(ValueError, match="up to k1 = 2 new steps, not 3"):
        window(np.ones((B, 3, D), np.float32))

"""The cells: each variant beside a plain loop; limits in which they are the same; the small print."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from compare import B, D, H, T, assert_like_loop, randomise
from loops import gru_loop, jordan_loop, lstm_loop, rnn_loop

import minigrad as mg
import rnn

CELLS = {
    "rnn": lambda **o: rnn.RNNCell(D, H, **o),
    "relu": lambda **o: rnn.RNNCell(D, H, nonlinearity="relu", **o),
    "jordan": lambda **o: rnn.JordanCell(D, H, output_size=2, **o),
    "lstm": lambda **o: rnn.LSTMCell(D, H, **o),
    "lstm with everything": lambda **o: rnn.LSTMCell(D, H, peephole=True, coupled=True, layer_norm=True,
                                                     projection=2, **o),
    "gru": lambda **o: rnn.GRUCell(D, H, **o),
    "gru, reset before": lambda **o: rnn.GRUCell(D, H, reset_after=False, **o),
}
every_cell = pytest.mark.parametrize("make", CELLS.values(), ids=CELLS.keys())


# -- beside plain loops ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_rnn_is_its_formula(nonlinearity, bias):
    layer = randomise(rnn.RNN(D, H, bias=bias, nonlinearity=nonlinearity, dtype=np.float64))
    assert_like_loop(layer, rnn_loop, nonlinearity=nonlinearity)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "identity"])
def test_jordan_is_its_formula(activation):
    layer = randomise(rnn.Jordan(D, H, bias=activation != "tanh", output_size=2, activation=activation,
                                 dtype=np.float64))
    assert_like_loop(layer, jordan_loop, activation=activation)


@pytest.mark.parametrize(("peephole", "coupled", "layer_norm", "projection"),
                         list(product([False, True], [False, True], [False, True], [None, 2])))
def test_lstm_is_its_formula(peephole, coupled, layer_norm, projection):
    layer = randomise(rnn.LSTM(D, H, peephole=peephole, coupled=coupled, layer_norm=layer_norm,
                               projection=projection, dtype=np.float64))
    assert_like_loop(layer, lstm_loop, coupled=coupled, layer_norm=layer_norm)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reset_after", [True, False])
def test_gru_is_its_formula(reset_after, bias):
    layer = randomise(rnn.GRU(D, H, bias=bias, reset_after=reset_after, dtype=np.float64))
    assert_like_loop(layer, gru_loop, reset_after=reset_after)


def test_lstm_without_bias_is_its_formula():
    assert_like_loop(randomise(rnn.LSTM(D, H, bias=False, dtype=np.float64)), lstm_loop)


def test_lstm_backpropagation_by_hand():
    """The equations that are derived on the blackboard: δ of each gate, then of W, U, b, x, h and c."""
    rng = np.random.default_rng(3)
    cell = randomise(rnn.LSTMCell(D, H, dtype=np.float64))
    W, U, b = (cell.weight_ih.data, cell.weight_hh.data, cell.bias.data)
    x, h0, c0 = rng.normal(size=(T, B, D)), rng.normal(size=(B, H)), rng.normal(size=(B, H))
    gy, gh, gc = rng.normal(size=(T, B, H)), rng.normal(size=(B, H)), rng.normal(size=(B, H))

    h, c, saved = h0, c0, []
    for t in range(T):
        i, f, g, o = np.split(x[t] @ W + h @ U + b, 4, axis=1)
        i, f, g, o = 1 / (1 + np.exp(-i)), 1 / (1 + np.exp(-f)), np.tanh(g), 1 / (1 + np.exp(-o))
        new = f * c + i * g
        saved.append((h, c, i, f, g, o, new))
        h, c = o * np.tanh(new), new
    dW, dU, db, dx, dh, dc = *(np.zeros_like(v) for v in (W, U, b, x)), gh, gc
    for t in reversed(range(T)):
        h_before, c_before, i, f, g, o, c = saved[t]
        dh = dh + gy[t]
        dc = dc + dh * o * (1 - np.tanh(c) ** 2)
        δ = np.concatenate([dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g ** 2),
                            dh * np.tanh(c) * o * (1 - o)], axis=1)
        dW += x[t].T @ δ
        dU += h_before.T @ δ
        db += δ.sum(axis=0)
        dx[t], dh, dc = δ @ W.T, δ @ U.T, dc * f

    leaves = [mg.tensor(v, requires_grad=True) for v in (x, h0, c0)]
    state, ys = rnn.LSTMState(*leaves[1:]), []
    for t in range(T):
        y, state = cell(leaves[0][t], state)
        ys.append(y)
    np.testing.assert_allclose(state.h.data, h, atol=1e-14)
    wanted = [*leaves, cell.weight_ih, cell.weight_hh, cell.bias]
    found = mg.grad([mg.stack(ys), *state], wanted, [gy, gh, gc])
    for ours, by_hand in zip(found, (dx, dh, dc, dW, dU, db), strict=True):
        np.testing.assert_allclose(ours.data, by_hand, atol=1e-13)


@pytest.mark.parametrize("name", CELLS)
def test_second_derivatives(name):
    cell = randomise(CELLS[name](dtype=np.float64), seed=2)
    parameters = cell.parameters()
    rng = np.random.default_rng(1)

    def two_steps(x, *rest):
        state = type(cell.sizes())(*rest)
        y1, state = cell(x[0], state)
        y2, state = cell(x[1], state)
        return [y1 * y2, *state]

    state = [rng.normal(size=(1, n)) for n in cell.sizes()]
    assert mg.gradcheck(two_steps, [rng.normal(size=(2, 1, D)), *state], order=2)
    # and with respect to the weights: the Hessian is symmetric and agrees with differences of the gradient
    x, v = rng.normal(size=(2, 1, D)), [rng.normal(size=p.shape) for p in parameters]

    def gradient():
        loss = sum(y.sum() for y in two_steps(mg.tensor(x), *map(mg.tensor, state)))
        return mg.grad(loss, parameters, create_graph=True)

    slope = sum((g * d).sum() for g, d in zip(gradient(), v, strict=True) if g is not None)
    found = mg.grad(slope, parameters)
    before = [p.numpy() for p in parameters]
    ends = []
    for sign in (1e-6, -1e-6):
        for p, b, d in zip(parameters, before, v, strict=True):
            p.assign(b + sign * d)
        ends.append(gradient())
    for g, plus, minus in zip(found, *ends, strict=True):
        np.testing.assert_allclose(g.data, (plus.data - minus.data) / 2e-6, rtol=1e-5, atol=1e-7)


# -- limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset_after", [True, False])
def test_gru_with_open_reset_and_no_memory_is_the_rnn(reset_after):
    gru = rnn.GRUCell(D, H, reset_after=reset_after, dtype=np.float64, rng=0)
    plain = rnn.RNNCell(D, H, dtype=np.float64, rng=0)
    plain.weight_ih.assign(gru.weight_ih.data[:, 2 * H:])
    plain.weight_hh.assign(gru.weight_hh.data[:, 2 * H:])
    bias = np.repeat([1000.0, -1000.0, 0.3], H)  # r = 1 and z = 0
    gru.bias.assign(bias)
    plain.bias.assign(bias[2 * H:])
    rng = np.random.default_rng(0)
    x, h = mg.tensor(rng.normal(size=(B, D))), mg.tensor(rng.normal(size=(B, H)))
    ours, theirs = gru(x, rnn.GRUState(h))[0], plain(x, rnn.RNNState(h))[0]
    np.testing.assert_allclose(ours.data, theirs.data, rtol=0, atol=1e-15)


def test_peepholes_of_zero_and_an_identity_projection_change_nothing():
    plain = rnn.LSTM(D, H, dtype=np.float64, rng=0)
    other = rnn.LSTM(D, H, peephole=True, projection=H, dtype=np.float64, rng=1)
    other.cells[0].load_state_dict({
        **plain.cells[0].state_dict(), "weight_ci": np.zeros(H), "weight_cf": np.zeros(H),
        "weight_co": np.zeros(H), "weight_hr": np.eye(H)})
    x = np.random.default_rng(0).normal(size=(B, T, D))
    np.testing.assert_allclose(other(x)[0].data, plain(x)[0].data, rtol=0, atol=1e-15)


# -- initial values, dtypes, errors ------------------------------------------------------------------------


@pytest.mark.parametrize("projection", [None, 2, 7])
def test_recurrent_weights_start_orthogonal_gate_by_gate(projection):
    cell = rnn.LSTMCell(D, 4, projection=projection, dtype=np.float64)
    rows = projection or 4
    assert cell.weight_hh.shape == (rows, 16)
    for U in np.split(cell.weight_hh.data, 4, axis=1):
        small = U @ U.T if rows <= 4 else U.T @ U
        np.testing.assert_allclose(small, np.eye(min(rows, 4)), atol=1e-14)
    first, second = np.split(cell.weight_hh.data, 4, axis=1)[:2]
    assert not np.allclose(first, second)


def test_forget_bias_is_one_and_set_once():
    cell = rnn.LSTMCell(D, H)
    assert cell.bias.data.tolist() == [0] * H + [1] * H + [0] * 2 * H
    assert rnn.LSTMCell(D, H, forget_bias=2.5).bias.data[H:2 * H].tolist() == [2.5] * H
    assert not rnn.LSTMCell(D, H, coupled=True).bias.data.any()
    assert rnn.LSTMCell(D, H, bias=False).bias is None


@every_cell
def test_same_seed_same_weights(make):
    for a, b, c in zip(*(make(rng=seed).parameters() for seed in (1, 1, 2)), strict=True):
        assert (a.data == b.data).all()
        assert a.dtype == np.float32
        assert (a.data == np.median(a.data)).all() or not np.array_equal(a.data, c.data) or a.ndim == 1


@every_cell
def test_float32_stays_float32(make):
    cell = make(clip_gradient=1.0)
    x = mg.tensor(np.ones((B, D), np.float32), requires_grad=True)
    y, state = cell(x, cell.initial_state(B))
    assert {y.dtype, *(s.dtype for s in state)} == {np.dtype(np.float32)}
    (y.sum() + sum(s.sum() for s in state)).backward()
    assert {x.grad.dtype, *(p.grad.dtype for p in cell.parameters())} == {np.dtype(np.float32)}


@every_cell
def test_a_cell_is_pure(make):
    cell = make(rng=0)
    x, state = mg.tensor(np.ones((B, D), np.float32)), cell.initial_state(B)
    first, second = cell(x, state), cell(x, state)
    assert (first[0].data == second[0].data).all()
    assert all(not s.data.any() for s in state)


@pytest.mark.parametrize(("name", "values"),
                         [("rnn", "h"), ("lstm", "ifgohc"), ("gru", "rznh"), ("jordan", "hy")])
def test_gates_and_states_have_names(name, values):
    cell = CELLS[name]()
    y, _ = cell(mg.tensor(np.ones((B, D), np.float32)), cell.initial_state(B))
    labels = set(mg.tape(y).labels().values())
    assert set(values) <= labels
    assert {"weight_ih", "weight_hh", "bias"} <= labels


@pytest.mark.parametrize(("make", "words"), [
    (lambda: rnn.RNNCell(0, 3), "input_size is a positive int"),
    (lambda: rnn.GRUCell(3, 2.5), "hidden_size is a positive int"),
    (lambda: rnn.LSTMCell(3, 3, projection=0), "projection is a positive int"),
    (lambda: rnn.JordanCell(3, 3, output_size=-1), "output_size is a positive int"),
    (lambda: rnn.JordanCell(3, 3, activation="softsign"), "activation is one of"),
    (lambda: rnn.JordanCell(3, 3, nonlinearity="sin"), "nonlinearity is"),
    (lambda: rnn.RNNCell(3, 3, nonlinearity="sigmoid"), "nonlinearity is 'tanh' or 'relu'"),
    (lambda: rnn.LSTMCell(3, 3, clip_gradient=0), "clip_gradient is above 0"),
])
def test_errors_at_construction(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# -- clipping derivatives ----------------------------------------------------------------------------------


def test_derivatives_are_clipped_at_the_pre_activations():
    """With one sequence and one step, the gradient of the bias is that of the pre-activations."""
    ones = mg.tensor(np.ones((1, H)))
    x, state = mg.tensor(np.ones((1, D))), rnn.LSTMState(ones, ones)
    gradients = []
    for limit in (None, 0.05):
        cell = rnn.LSTMCell(D, H, clip_gradient=limit, dtype=np.float64, rng=0)
        y, _ = cell(x, state)
        (gradient,) = mg.grad(y.sum(), cell.bias)
        gradients.append(gradient.data)
    assert np.abs(gradients[0]).max() > 0.05
    np.testing.assert_allclose(gradients[1], np.clip(gradients[0], -0.05, 0.05), atol=1e-15)


@pytest.mark.parametrize("name", CELLS)
def test_derivatives_are_clipped_at_every_step(name):
    cell = CELLS[name](clip_gradient=1e-3, dtype=np.float64, rng=1)
    a = mg.tensor(np.random.default_rng(0).normal(size=(T, 1, cell.weight_ih.shape[1])), requires_grad=True)
    state, U = cell.initial_state(1), cell.weights()
    for t in range(T):
        y, state = cell.step(a[t], state, U)
    (100 * y.sum()).backward()
    assert np.abs(a.grad).max() <= 1e-3 + 1e-18
    assert np.isclose(np.abs(a.grad[-1]).max(), 1e-3)


# -- cost --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "most"), [("rnn", 3), ("lstm", 12), ("gru", 15)])
def test_a_step_without_extras_costs_no_extra_nodes(name, most):
    cell = CELLS[name]()
    state, U = cell.initial_state(B), cell.weights()
    y, state = cell.step(cell.project(mg.tensor(np.ones((B, D), np.float32))), state, U)
    before = len(mg.tape([y, *state]))
    y, state = cell.step(cell.project(mg.tensor(np.ones((B, D), np.float32))), state, U)
    assert len(mg.tape([y, *state])) - before <= most + 2  # 2: the projection

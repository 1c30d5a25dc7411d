"""Monte-Carlo and dynamic evaluation, beside independent loops."""

import math

import numpy as np
import pytest

import minigrad as mg
import rnn
from rnn.evaluation import evaluate_dynamic, evaluate_monte_carlo
from rnn.language_model import LanguageModel, evaluate

IDS = np.random.default_rng(0).integers(0, 5, 61)


def model(dropout=None):
    layers = rnn.LSTM(4, 6, dropout=dropout, dtype=np.float64, compiled=False, rng=1)
    return LanguageModel(5, layers, 4, rng=2)


def same_weights(a, b):
    return all(np.array_equal(a[k], b[k]) for k in a)


def test_without_dropout_monte_carlo_is_plain_evaluation():
    m = model()
    plain, averaged = evaluate(m, IDS, time_steps=9), evaluate_monte_carlo(m, IDS, 3, time_steps=9)
    assert averaged.symbols == plain.symbols == 60
    assert averaged.nats == pytest.approx(plain.nats, abs=1e-12)


def test_monte_carlo_averages_probabilities():
    m = model(rnn.dropout.Variational(0.4))
    found = evaluate_monte_carlo(m, IDS, 4, time_steps=60)
    again = model(rnn.dropout.Variational(0.4)).eval()  # the same generator, from the start
    p = 0.0
    with mg.no_grad(), rnn.dropout.monte_carlo(again):
        for _ in range(4):
            p = p + mg.softmax(again(IDS[None, :60])[0]).data[0, np.arange(60), IDS[1:]] / 4
    assert found.nats == pytest.approx(-np.log(p).mean(), abs=1e-12)
    assert evaluate(m, IDS).nats != found.nats


def test_monte_carlo_leaves_the_mode_as_it_was():
    m = model(rnn.dropout.Variational(0.4)).train()
    evaluate_monte_carlo(m, IDS, 2)
    assert m.training and not m.recurrent.monte_carlo


def test_monte_carlo_needs_a_sample():
    with pytest.raises(ValueError, match="at least one sample"):
        evaluate_monte_carlo(model(), IDS, 0)


def test_dynamic_evaluation_is_a_training_loop_that_scores_first():
    m, other = model(), model()
    before = m.state_dict()
    found = evaluate_dynamic(m, IDS, lr=0.5, max_norm=None, time_steps=20)
    assert same_weights(before, m.state_dict())
    total, state = 0.0, None
    for start in (0, 20, 40):
        inputs, targets = IDS[None, start:start + 20], IDS[None, start + 1:start + 21]
        loss, state = other.loss(inputs, targets, None if state is None else rnn.detach(state))
        total += loss.item() * 20
        gradients = mg.grad(loss, other.parameters())
        for p, g in zip(other.parameters(), gradients, strict=True):
            p.assign(p.data - 0.5 * g.data)
    assert found.nats == pytest.approx(total / 60, abs=1e-12)


def test_dynamic_evaluation_learns_a_repeating_text():
    m = model()
    text = np.tile([0, 1, 2, 3, 4], 60)
    assert evaluate_dynamic(m, text, lr=2.0, max_norm=None).nats < 0.8 * evaluate(m, text).nats < math.inf


def test_dynamic_evaluation_puts_the_weights_back_when_it_fails():
    class Breaks(mg.optim.SGD):
        def step(self):
            super().step()
            raise FloatingPointError("as if the gradient were not finite")

    m = model()
    before = m.state_dict()
    with pytest.raises(FloatingPointError):
        evaluate_dynamic(m, IDS, optimiser=Breaks(m.parameters(), 1.0))
    assert same_weights(before, m.state_dict())
    assert all(p.grad is None for p in m.parameters())

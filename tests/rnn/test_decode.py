"""Greedy, temperature, top-k, top-p, and drawing from what is left."""

import itertools
import math

import numpy as np
import pytest

import rnn
from rnn.decode import chooser, draw, generate, greedy, probabilities, temperature, top_k, top_p
from rnn.language_model import LanguageModel

P = np.array([0.5, 0.25, 0.15, 0.1])


def test_greedy():
    assert greedy(np.array([1.0, 3.0, 3.0])) == 1
    np.testing.assert_array_equal(greedy(np.array([[1.0, 2.0], [2.0, 1.0]])), [1, 0])


def test_temperature():
    np.testing.assert_allclose(probabilities(temperature(np.log(P), 0.5)), P**2 / (P**2).sum())
    np.testing.assert_allclose(probabilities(temperature(np.log(P), 1e9)), 0.25, rtol=1e-6)
    for t in (0, 1e-300):
        np.testing.assert_array_equal(probabilities(temperature(np.log(P), t)), [1, 0, 0, 0])
    for t in (-1, math.nan, math.inf):
        with pytest.raises(ValueError, match="temperature"):
            temperature(np.log(P), t)


def test_top_k():
    np.testing.assert_allclose(probabilities(top_k(np.log(P[::-1]), 2)), [0, 0, 1 / 3, 2 / 3])
    np.testing.assert_array_equal(top_k(np.log(P), 99), np.log(P))
    assert np.isfinite(top_k(np.zeros(5), 3)).sum() == 3  # of equals, the first
    with pytest.raises(ValueError, match="top-k"):
        top_k(P, 0)


def test_top_p():
    for p, kept in ((1e-9, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.8, 3), (1.0, 4)):
        assert np.isfinite(top_p(np.log(P), p)).sum() == kept
    shuffled = np.log(P)[[2, 0, 3, 1]]
    np.testing.assert_array_equal(np.isfinite(top_p(shuffled, 0.7)), [False, True, False, True])
    for p in (0, 1.1, math.nan):
        with pytest.raises(ValueError, match="top-p"):
            top_p(P, p)


def test_they_compose_and_take_batches():
    logits = np.random.default_rng(0).normal(size=(3, 2, 7)).astype(np.float32)
    for f in (lambda x: temperature(x, 0.7), lambda x: top_k(x, 3), lambda x: top_p(x, 0.8)):
        rows = f(logits)
        for i, j in itertools.product(range(3), range(2)):
            np.testing.assert_allclose(rows[i, j], f(logits[i, j]))
    kept = np.isfinite(top_p(top_k(temperature(logits, 2.0), 3), 0.9)).sum(-1)
    assert (kept >= 1).all() and (kept <= 3).all()


def test_what_is_drawn_was_allowed():
    rng = np.random.default_rng(0)
    for _ in range(300):
        logits = rng.normal(scale=rng.choice([0.0, 1.0, 50.0]), size=rng.integers(1, 12))
        allowed = top_p(top_k(logits, int(rng.integers(1, 15))), 1 - rng.random())
        assert np.isfinite(allowed[draw(allowed, rng)])


def test_draw_has_the_frequencies_of_the_probabilities():
    rng = np.random.default_rng(0)
    counts = np.bincount([draw(np.log(P), rng) for _ in range(4_000)], minlength=4)
    np.testing.assert_allclose(counts / 4_000, P, atol=0.03)


def test_draw_with_rounding_at_the_end_never_leaves_what_is_possible():
    class Last:
        def random(self):
            return 1.0

    assert draw(np.array([0.0, 0.0, -math.inf]), Last()) == 1


def test_weights_that_are_not_numbers_are_an_error():
    with pytest.raises(ValueError, match="not finite"):
        draw(np.array([math.nan, 1.0]), np.random.default_rng(0))


def test_chooser_complains_at_once():
    rng = np.random.default_rng(0)
    for settings in ({"t": -1}, {"k": 0}, {"p": 0}):
        with pytest.raises(ValueError):
            chooser(rng, **settings)
    assert chooser(rng, 0)(np.array([1.0, 5.0, 2.0])) == 1


def test_generate_feeds_back_what_it_chose():
    model = LanguageModel(9, rnn.LSTM(9, 6, rng=0), rng=1)
    got = list(itertools.islice(generate(model, [3, 1], greedy), 6))
    text = [3, 1]
    for _ in range(6):
        text.append(int(greedy(model(np.array([text]))[0].data[0, -1])))
    assert got == text[2:]
    with pytest.raises(ValueError, match="at least one"):
        next(generate(model, [], greedy))

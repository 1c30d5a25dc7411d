"""Beam search against every sequence there is, and decoding loops against the model's own."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import minigrad as mg
import rnn
from rnn.decode import chooser, greedy
from rnn.language_model import LanguageModel
from rnn.search import Hypothesis, beam_search, begin, decode, length_penalty, log_probabilities
from rnn.seq2seq import Seq2Seq


def markov(seed, V=4, order=5):
    """A model whose state is the last symbols: (step, state), and its probabilities as a function."""
    table = np.random.default_rng(seed).normal(0, 1.5, (V,) * (order + 1))

    def step(symbols, state):
        state = np.concatenate([state[:, 1:], symbols[:, None]], axis=1)
        return table[tuple(state.T)], state

    def log_p(sequence, start=0):
        history, total = [0] * (order - 1) + [start], 0.0
        for symbol in sequence:
            row = table[tuple(history[-order:])]
            total += row[symbol] - np.log(np.exp(row).sum())
            history.append(symbol)
        return total

    return step, np.zeros((1, order), int), log_p


def all_hypotheses(log_p, V, max_length, end, alpha):
    """Every sequence that ends, or is as long as may be."""
    found = []
    for n in range(1, max_length + 1):
        for sequence in itertools.product(range(V), repeat=n):
            if end in sequence[:-1] or (sequence[-1] != end and n < max_length):
                continue
            total = log_p(sequence)
            ended = sequence[-1] == end
            symbols = sequence[:-1] if ended else sequence
            found.append(Hypothesis(symbols, total / length_penalty(n, alpha), total, ended))
    return sorted(found, key=lambda h: -h.score)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("end, alpha", [(None, 0.0), (2, 0.0), (2, 0.6), (3, 2.0)])
def test_a_wide_beam_finds_the_best_of_all(seed, end, alpha):
    step, state, log_p = markov(seed)
    expected = all_hypotheses(log_p, 4, 5, end, alpha)
    found = beam_search(step, state, 0, 5, width=4 ** 5, end=end, alpha=alpha)
    assert [h.symbols for h in found[:50]] == [h.symbols for h in expected[:50]]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.ended == theirs.ended
        assert math.isclose(ours.score, theirs.score, abs_tol=1e-12)
        assert math.isclose(ours.log_probability, theirs.log_probability, abs_tol=1e-12)


def slow_beam(log_p, V, max_length, width, end, alpha):
    """The same search in other words, without the early end: beginnings are scored whole."""
    live, found = [()], []
    for n in range(1, max_length + 1):
        longer = [(*s, k) for s in live for k in range(V)]
        live = []
        for s in sorted(longer, key=lambda s: -log_p(s))[:width]:
            if s[-1] == end or n == max_length:
                found.append((log_p(s) / ((5 + n) / 6) ** alpha, s[:-1] if s[-1] == end else s))
            else:
                live.append(s)
    return [s for _, s in sorted(found, key=lambda f: -f[0])][:width]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("width", [1, 2, 3, 7])
@pytest.mark.parametrize("end, alpha", [(None, 0.0), (1, 0.0), (1, 1.0)])
def test_narrow_beams_against_a_slow_one(seed, width, end, alpha):
    step, state, log_p = markov(seed)
    found = beam_search(step, state, 0, 6, width=width, end=end, alpha=alpha)
    expected = slow_beam(log_p, 4, 6, width, end, alpha)
    assert [h.symbols for h in found] == expected
    assert len(found) <= width and sorted(found, key=lambda h: -h.score) == found
    for h in found:
        whole = h.symbols + ((end,) if h.ended else ())
        assert math.isclose(h.log_probability, log_p(whole), abs_tol=1e-12)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_width_one_is_greedy(seed, alpha):
    step, state, _ = markov(seed)
    (best,) = beam_search(step, state, 0, 8, width=1, end=2, alpha=alpha)
    (symbols,) = decode(step, state, [0], 8, end=2)
    assert list(best.symbols) == symbols


def test_length_normalisation_prefers_longer_ones():
    p = {(): [0.4, 0.6], (0,): [0.95, 0.05], (0, 0): [0.1, 0.9]}  # 1 ends: at once 0.6, after two zeros 0.342

    def step(symbols, state):
        state = state + 1
        return np.log([p[(0,) * int(n - 1)] for n in state[:, 0]]), state

    best = [beam_search(step, np.zeros((1, 1)), 0, 3, width=4, end=1, alpha=a)[0].symbols for a in (0.0, 5.0)]
    assert best == [(), (0, 0)]
    assert length_penalty(1, 0.7) == 1.0 and length_penalty(7, 1.0) == 2.0


def test_impossible_symbols_are_not_chosen():
    def step(symbols, state):
        return np.tile([0.0, -np.inf, 1.0], (len(symbols), 1)), state

    found = beam_search(step, (), 0, 2, width=50)
    assert len(found) == 4 and all(1 not in h.symbols for h in found)


def test_beam_search_refuses():
    step, state, _ = markov(0)
    for options in ({"width": 0}, {"max_length": 0}, {"alpha": -1.0}, {"alpha": math.nan}):
        with pytest.raises(ValueError, match="beam search needs"):
            beam_search(step, state, 0, **{"max_length": 3, **options})


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("choose", [greedy, chooser(np.random.default_rng(0)), chooser(np.random.default_rng(0), t=0),
                                    chooser(np.random.default_rng(0), k=1)])
def test_logits_that_are_no_numbers_are_refused(choose, wrong):
    """Of a training that diverged: not an empty list, and not the symbol that has the NaN."""
    table = np.array([[0.0, 1.0, 2.0], [0.0, wrong, -math.inf]])
    step = lambda symbols, state: (table[state], state + 1)
    for f in (lambda: beam_search(step, np.zeros(1, int), 0, 3, width=2),
              lambda: decode(step, np.zeros(1, int), [0], 3, choose)):
        with pytest.raises(ValueError, match="the logits are not numbers: the model's weights are not finite"):
            f()


def test_where_nothing_may_be_chosen():
    def dead_end(symbols, state):  # after symbol 1
        return np.where(symbols[:, None] == 1, -np.inf, [[0.0, 2.0, 1.0]]), state

    found = beam_search(dead_end, (), 0, 2, width=9)
    assert {h.symbols for h in found} == {(a, b) for a in (0, 2) for b in range(3)}
    assert beam_search(dead_end, (), 1, 2) == []
    with pytest.raises(ValueError, match="no symbol may be chosen: all logits are -inf"):
        decode(dead_end, (), [1], 2, chooser(np.random.default_rng(0)))


def test_log_probabilities_are_stable():
    logits = np.array([[1e4, 0.0, -1e4], [-np.inf, 3.0, 3.0]], np.float32)
    p = log_probabilities(logits)
    np.testing.assert_allclose(np.exp(p).sum(axis=1), 1)
    assert p.dtype == np.float64 and p[1, 0] == -np.inf


# ------------------------------------------------------------------------------------------------ on models


def language_model():
    layers = rnn.LSTM(5, 8, 2, dtype=np.float64, rng=0)
    model = LanguageModel(6, layers, 5, rng=1)
    rng = np.random.default_rng(2)
    for p in model.parameters():
        p.assign(rng.normal(0, 0.7, p.shape))
    return model.eval()


def log_p_of(model, prompt, symbols):
    """What the model says of a continuation, in one call."""
    ids = np.array([[*prompt, *symbols]])
    with mg.no_grad():
        logits, _ = model(ids[:, :-1])
    rows = log_probabilities(logits.data[0, len(prompt) - 1:])
    return rows[np.arange(len(symbols)), symbols].sum()


@pytest.mark.parametrize("prompt", [[3], [1, 4, 2]])
def test_language_model(prompt):
    model = language_model()
    step, state, start = begin(model, prompt)
    for h in beam_search(step, state, start, 4, width=6, end=5):
        whole = h.symbols + ((5,) if h.ended else ())
        assert math.isclose(h.log_probability, log_p_of(model, prompt, whole), abs_tol=1e-9)
    best = max(itertools.product(range(6), repeat=3), key=lambda s: log_p_of(model, prompt, s))
    assert beam_search(step, state, start, 3, width=6 ** 3)[0].symbols == best
    (symbols,) = decode(step, state, [start], 5)
    ids = list(prompt)
    for _ in range(5):
        with mg.no_grad():
            logits, _ = model(np.array([ids]))
        ids.append(int(logits.data[0, -1].argmax()))
    assert symbols == ids[len(prompt):]
    with pytest.raises(ValueError, match="at least one symbol"):
        begin(model, [])


MODELS = [{}, {"attention": "dot", "input_feeding": True}, {"attention": "general"},
          {"bidirectional": True, "peeky": True, "layer": rnn.GRU}]


@pytest.mark.parametrize("options", MODELS, ids=str)
def test_seq2seq(options):
    model = Seq2Seq.build(5, 6, 4, rng=0, dtype=np.float64, **options)
    rng = np.random.default_rng(1)
    for p in model.parameters():
        p.assign(rng.normal(0, 0.8, p.shape))
    source, lengths = rng.integers(0, 5, (1, 4)), np.array([3])

    def log_p(sequence):
        with mg.no_grad():
            logits = model(source, np.array([[0, *sequence[:-1]]]), lengths).data[0]
        return log_probabilities(logits)[np.arange(len(sequence)), sequence].sum()

    step, state = model.begin(source, lengths)
    found = beam_search(step, state, 0, 3, width=5 ** 3, end=4, alpha=0.8)
    expected = all_hypotheses(log_p, 5, 3, 4, 0.8)
    assert [h.symbols for h in found[:20]] == [h.symbols for h in expected[:20]]
    assert math.isclose(found[0].score, expected[0].score, abs_tol=1e-9)
    (first,) = beam_search(step, state, 0, 3, width=1, end=4)
    assert [list(first.symbols)] == model.answer(source, 0, 3, 4, lengths)


def test_decode_rows_do_not_depend_on_each_other():
    model = Seq2Seq.build(7, 8, 4, rng=3, attention="dot", reverse=True)
    sources = np.random.default_rng(4).integers(0, 7, (5, 6))
    together = model.answer(sources, 0, 6, end=2)
    weights = model.attention_weights
    assert weights.shape[0] == 5 and weights.shape[2] == 6
    np.testing.assert_allclose(weights.sum(axis=2), 1, rtol=1e-5)
    for k, answer in enumerate(together):
        assert model.answer(sources[k:k + 1], 0, 6, end=2) == [answer]
        assert 2 not in answer


def test_decode_with_chance():
    step, state, log_p = markov(1)
    n = 3000
    states = np.repeat(state, n, axis=0)
    drawn = decode(step, states, np.zeros(n, int), 2, chooser(np.random.default_rng(0)))
    share = dict.fromkeys(itertools.product(range(4), repeat=2), 0)
    for row in drawn:
        share[tuple(row)] += 1 / n
    for s, found in share.items():
        p = math.exp(log_p(s))
        assert abs(found - p) < 5 * math.sqrt(p * (1 - p) / n)
    cold = decode(step, states[:3], np.zeros(3, int), 6, chooser(np.random.default_rng(0), t=0))
    assert cold == decode(step, states[:3], np.zeros(3, int), 6)
    only = decode(step, states[:50], np.zeros(50, int), 3, chooser(np.random.default_rng(0), k=1))
    assert only == decode(step, states[:50], np.zeros(50, int), 3, greedy)


def test_a_learned_first_state_is_not_recorded():
    model = LanguageModel(4, rnn.GRU(4, 3, learn_initial_state=True, rng=0), rng=0)
    for prompt in ([1], [1, 2]):
        _, state, _ = begin(model, prompt)
        assert not any(h.requires_grad for (h,) in state)

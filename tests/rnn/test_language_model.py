"""The language model: shapes, tying, first loss, evaluation."""

import math

import numpy as np
import pytest

import minigrad as mg
import rnn
from rnn.language_model import LanguageModel, Score, evaluate

V = 11
CELLS = [rnn.RNN, rnn.LSTM, rnn.GRU]


def ids(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, V, shape)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("embedding", [None, 5])
def test_shapes_and_carried_state(kind, embedding):
    model = LanguageModel(V, kind(embedding or V, 6, 2, rng=0), embedding, rng=0)
    x = ids(3, 8)
    logits, state = model(x)
    assert logits.shape == (3, 8, V) and logits.dtype == np.float32
    first, middle = model(x[:, :5])
    second, end = model(x[:, 5:], middle)
    np.testing.assert_allclose(np.concatenate([first.data, second.data], axis=1), logits.data, atol=1e-6)
    for a, b in zip(mg.tree.tree_leaves(end), mg.tree.tree_leaves(state)):
        np.testing.assert_allclose(a.data, b.data, atol=1e-6)


def test_one_hot_is_an_embedding_with_the_identity():
    one_hot = LanguageModel(V, rnn.LSTM(V, 4, rng=0), rng=1)
    learned = LanguageModel(V, rnn.LSTM(V, 4, rng=0), V, rng=1)
    learned.embedding.weight.assign(np.eye(V))
    learned.output.load_state_dict(one_hot.output.state_dict())
    np.testing.assert_allclose(one_hot(ids(2, 3))[0].data, learned(ids(2, 3))[0].data, atol=1e-6)


def test_loss_is_the_mean_negative_log_probability():
    model = LanguageModel(V, rnn.GRU(V, 4, rng=0), rng=1)
    x, y = ids(2, 3), ids(2, 3, seed=1)
    loss, _ = model.loss(x, y)
    logits = model(x)[0].data.astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    assert loss.item() == pytest.approx(-np.take_along_axis(log_p, y[..., None], -1).mean(), rel=1e-5)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("embedding, tied", [(None, False), (32, False), (32, True)])
def test_first_loss_is_within_two_percent_of_ln_v(kind, embedding, tied):
    symbols = 65
    model = LanguageModel(symbols, kind(embedding or symbols, 32, rng=3), embedding, tied=tied, rng=4)
    batch = np.random.default_rng(5).integers(0, symbols, (32, 64))
    loss, _ = model.loss(batch, np.roll(batch, 1))
    assert loss.item() == pytest.approx(math.log(symbols), rel=0.02)


def test_tied_weights_are_one_parameter_with_one_gradient():
    model = LanguageModel(V, rnn.LSTM(6, 6, rng=0), 6, tied=True, rng=0)
    names = [name for name, _ in model.named_parameters()]
    assert "embedding.weight" in names and not [n for n in names if n.startswith("output.")]
    x, y = ids(2, 4), ids(2, 4, seed=1)
    model.loss(x, y)[0].backward()
    both = model.embedding.weight.grad

    untied = LanguageModel(V, rnn.LSTM(6, 6, rng=0), 6, rng=0)
    untied.embedding.weight.assign(model.embedding.weight.data)
    untied.output.weight.assign(model.embedding.weight.data.T)
    untied.output.bias.assign(model.output_bias.data)
    untied.loss(x, y)[0].backward()
    apart = untied.embedding.weight.grad + untied.output.weight.grad.T
    np.testing.assert_allclose(both, apart, atol=1e-6)


@pytest.mark.parametrize("recurrent, embedding, tied, message", [
    (rnn.LSTM(7, 6, rng=0), None, False, "inputs of size 7, and one-hot symbols have 11"),
    (rnn.LSTM(7, 6, rng=0), 5, False, "inputs of size 7, and the embedding has 5"),
    (rnn.LSTM(5, 6, rng=0), 5, True, "as wide as the layers' output: 6, not 5"),
    (rnn.LSTM(V, 6, rng=0), None, True, "6, not one-hot inputs"),
    (rnn.LSTM(V, 6, bidirectional=True, rng=0), None, False, "forward only"),
    (rnn.LSTM(V, 6, return_sequences=False, rng=0), None, False, "all steps"),
    (rnn.LSTM(V, 6, stateful=True, rng=0), None, False, "given their state"),
])  # fmt: skip
def test_what_does_not_fit_is_an_error(recurrent, embedding, tied, message):
    with pytest.raises(ValueError, match=message):
        LanguageModel(V, recurrent, embedding, tied=tied)


def test_dropout_is_in_training_only_and_from_its_own_generator():
    model, again = (LanguageModel(V, rnn.RNN(4, 4, dropout=0.5, rng=0, dropout_rng=7), 4, rng=0) for _ in "ab")
    x = ids(2, 5)
    trained = model(x)[0].data
    np.testing.assert_array_equal(trained, again(x)[0].data)
    assert not np.array_equal(trained, model(x)[0].data)
    model.eval()
    np.testing.assert_array_equal(model(x)[0].data, model(x)[0].data)


def test_initialise():
    model = LanguageModel(V, rnn.LSTM(V, 4, 2, rng=0), rng=0)
    model.initialise(0.08, forget_bias=1.0, rng=5)
    for name, p in model.named_parameters():
        data = p.numpy()
        if name.endswith(("cells.0.bias", "cells.1.bias")):
            assert (data[4:8] == 1.0).all()
            data = np.delete(data, np.s_[4:8])
        assert 0 < np.abs(data).max() <= 0.08


# ----------------------------------------------------------------------------------------------------------
# evaluation
# ----------------------------------------------------------------------------------------------------------


def test_evaluate_carries_the_state_and_does_not_depend_on_the_windows():
    model = LanguageModel(V, rnn.LSTM(V, 5, rng=0), rng=1)
    text = ids(53)
    whole, _ = model.loss(text[None, :-1], text[None, 1:])
    scores = [evaluate(model, text, 1, time) for time in (1, 7, 52, 64)]
    for score in scores:
        assert score.nats == pytest.approx(whole.item(), rel=1e-5)
        assert score.symbols == 52
    assert evaluate(model, text, 4, 8).symbols == 52


def test_evaluate_leaves_the_mode_and_no_gradients():
    model = LanguageModel(V, rnn.RNN(V, 4, dropout=0.5, rng=0), rng=1)
    assert model.training
    first = evaluate(model, ids(30))
    assert model.training and evaluate(model, ids(30)) == first
    assert all(p.grad is None for p in model.parameters())
    model.eval()
    evaluate(model, ids(30))
    assert not model.training


def test_score():
    score = Score(2 * math.log(2), 10)
    assert score.bits == pytest.approx(2) and score.perplexity == pytest.approx(4)
    assert Score(1e6, 1).perplexity == math.inf

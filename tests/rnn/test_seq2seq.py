"""Encoder, decoder and attention against plain NumPy, padding that cannot be seen, and training that
learns."""

from __future__ import annotations

import collections
import contextlib
import datetime
import itertools

import numpy as np
import pytest

import minigrad as mg
import rnn
from rnn.attention import KINDS, Attention
from rnn.pairs import PairBatches, Pairs, addition, dates, read_pairs
from rnn.seq2seq import Decoder, Encoder, Seq2Seq
from rnn.text import TextError

V, H, E, B, S, T = 9, 6, 4, 3, 5, 4
VARIANTS = [
    {}, {"reverse": True, "peeky": True}, {"attention": "dot", "reverse": True}, {"attention": "general"},
    {"attention": "additive", "num_layers": 2, "peeky": True, "layer": rnn.GRU},
    {"attention": "dot", "input_feeding": True, "num_layers": 2},
    {"attention": "general", "input_feeding": True, "bidirectional": True, "layer": rnn.RNN, "peeky": True},
    {"bidirectional": True, "peeky": True},
    {"attention": "dot", "carry_cell": False, "num_layers": 2},
    {"carry_cell": False, "layer": rnn.GRU},
    {"carry_cell": False, "bidirectional": True},
]


def build(seed=0, **options):
    """A small model in float64, its biases at random too."""
    model = Seq2Seq.build(V, H, E, rng=seed, dtype=np.float64, **options)
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.assign(rng.normal(0, 0.4, p.shape))
    return model


def some(seed=1, steps=S):
    return np.random.default_rng(seed).integers(0, V, (B, steps))


# ------------------------------------------------------------------------------------------------ attention


@pytest.mark.parametrize("kind", KINDS)
def test_attention_against_loops(kind):
    rng = np.random.default_rng(2)
    K = H if kind == "dot" else 5
    a = Attention(kind, H, K, dtype=np.float64, rng=rng)
    q, s = rng.normal(size=(B, T, H)), rng.normal(size=(B, S, K))
    lengths = np.array([5, 2, 1])
    mask = np.arange(S) < lengths[:, None]
    context, weights = a(mg.tensor(q), mg.tensor(s), a.keys(mg.tensor(s)), mask)
    for b, t in itertools.product(range(B), range(T)):
        scores = []
        for j in range(lengths[b]):
            if kind == "dot":
                scores.append(q[b, t] @ s[b, j])
            elif kind == "general":
                scores.append(q[b, t] @ a.weight.data.T @ s[b, j])
            else:
                scores.append(np.tanh(q[b, t] @ a.weight.data + s[b, j] @ a.weight_source.data) @ a.v.data)
        e = np.exp(scores)
        alpha = np.zeros(S)
        alpha[:lengths[b]] = e / e.sum()
        np.testing.assert_allclose(weights.data[b, t], alpha, rtol=0, atol=1e-12)
        np.testing.assert_allclose(context.data[b, t], alpha @ s[b], rtol=0, atol=1e-12)
    assert weights.name == "attention"


@pytest.mark.parametrize("kind", KINDS)
def test_attention_gradients(kind):
    rng = np.random.default_rng(3)
    a = Attention(kind, 3, 3, dtype=np.float64, rng=rng)
    mask = np.array([[True, True, False, False], [True] * 4])

    def f(q, s, *parameters):
        context, weights = a(q, s, a.keys(s), mask)
        return (context * context).sum() + (weights ** 3).sum()

    leaves = [mg.tensor(rng.normal(size=shape), requires_grad=True) for shape in ((2, 2, 3), (2, 4, 3))]
    mg.gradcheck(f, [*leaves, *a.parameters()])


def test_attention_refuses():
    with pytest.raises(ValueError, match="not 'cosine'"):
        Attention("cosine", 3, 3)
    with pytest.raises(ValueError, match="equal widths, not 3 and 4"):
        Attention("dot", 3, 4)


# ------------------------------------------------------------------------------------------------ the model


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_loop(cell, x, h, c):
    """x (batch, time, D) to the outputs, gate by gate."""
    W, U, b, ys = cell.weight_ih.data, cell.weight_hh.data, cell.bias.data, []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ W + h @ U + b, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        ys.append(h)
    return np.stack(ys, axis=1), h, c


@pytest.mark.parametrize("carry_cell", [True, False])
def test_peeky_attention_against_loops(carry_cell):
    model = build(reverse=True, peeky=True, attention="dot", carry_cell=carry_cell)
    sources, inputs = some(), some(2, T)
    zero = np.zeros((B, H))
    e, d = model.encoder, model.decoder
    read, h, c = lstm_loop(e.recurrent.cells[0], e.embedding.weight.data[sources[:, ::-1]], zero, zero)
    read = read[:, ::-1]
    peek = np.repeat(h[:, None], T, axis=1)
    x = np.concatenate([d.embedding.weight.data[inputs], peek], axis=2)
    hs, _, _ = lstm_loop(d.recurrent.cells[0], x, h, c if carry_cell else zero)
    scores = np.exp(np.einsum("bth,bsh->bts", hs, read))
    alpha = scores / scores.sum(axis=2, keepdims=True)
    seen = np.concatenate([alpha @ read, hs, peek], axis=2)
    np.testing.assert_allclose(model(sources, inputs).data, seen @ d.output.weight.data + d.output.bias.data,
                               rtol=0, atol=1e-12)
    np.testing.assert_allclose(model.attention_weights, alpha, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_step_by_step_is_the_scan(options):
    model = build(**options)
    sources, inputs, lengths = some(), some(2, T), np.array([5, 1, 3])
    whole = model(sources, inputs, lengths).data
    memory, state = model.encode(sources, lengths)
    for t in range(T):
        logits, state, alpha = model.decoder.step(inputs[:, t], memory, state)
        np.testing.assert_allclose(logits.data, whole[:, t], rtol=0, atol=1e-12)
        if alpha is not None:
            np.testing.assert_allclose(alpha.data, model.attention_weights[:, t], rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_padding_cannot_be_seen(options):
    model = build(**options)
    sources, inputs, lengths = some(), some(2, T), np.array([5, 1, 3])
    logits = model(sources, inputs, lengths).data
    weights = model.attention_weights
    other = np.where(np.arange(S) < lengths[:, None], sources, (sources + 1) % V)
    np.testing.assert_array_equal(model(other, inputs, lengths).data, logits)
    for k, n in enumerate(lengths):
        alone = model(sources[k:k + 1, :n], inputs[k:k + 1]).data
        np.testing.assert_allclose(alone[0], logits[k], rtol=0, atol=1e-12)
        if weights is not None:
            np.testing.assert_allclose(model.attention_weights[0], weights[k, :, :n], rtol=0, atol=1e-12)
            assert not weights[k, :, n:].any()


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_every_parameter_learns(options):
    model = build(**options)
    model.loss(some(), some(2, T + 1), np.array([5, 1, 3])).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and np.abs(p.grad).max() > 0, name


def test_gradients():
    model = Seq2Seq.build(3, 2, 2, attention="additive", input_feeding=True, peeky=True, reverse=True,
                          layer=rnn.GRU, rng=0, dtype=np.float64)
    sources, targets = some()[:2, :3] % 3, some(2, 3)[:2] % 3
    parameters = dict(model.named_parameters())
    loss = lambda *_: model.loss(sources, targets, np.array([3, 2]))
    mg.gradcheck(loss, list(parameters.values()), order=1)
    mg.gradcheck(loss, [p for name, p in parameters.items() if "attention" in name])


def test_attention_weights_are_in_the_order_of_the_source():
    model = build(reverse=True, attention="dot")
    sources, inputs = some(), some(2, T)
    model(sources, inputs)
    memory, state = model.encode(sources)
    h, _ = model.decoder.recurrent(model.decoder.embedding(inputs), state.cells)
    scores = h.data @ memory.outputs.data.swapaxes(1, 2)
    np.testing.assert_array_equal(scores.argmax(-1), model.attention_weights.argmax(-1))
    outputs, final = model.encoder(sources)  # read backwards: the last to be read is the first of the source
    np.testing.assert_array_equal(outputs.data[:, 0], final[0].h.data)


def test_ignored_padding_does_not_count():
    model = build()
    sources, targets = some(), some(2, T + 1)
    targets[:, -1] = 8
    targets[:, 1:-1] %= 8
    short = model.loss(sources, targets[:, :-1])
    np.testing.assert_allclose(model.loss(sources, targets, ignore_index=8).data, short.data, rtol=1e-12)


# ---------------------------------------------------------------------------------- scheduled sampling


@pytest.mark.parametrize("options", VARIANTS[::2], ids=str)
def test_scheduled_sampling_flips_a_coin_at_each_step(options, monkeypatch):
    model = build(**options)
    n, steps = 400, 6
    inputs = np.full((n, steps), 3)
    fed = []
    step = model.decoder.step
    monkeypatch.setattr(model.decoder, "step", lambda ids, *a: fed.append(ids) or step(ids, *a))
    model.rng = np.random.default_rng(0)
    model(np.zeros((n, 2), int), inputs, teacher_forcing=0.5)
    fed = np.stack(fed, axis=1) == 3
    assert fed[:, 0].all()  # the start symbol
    share = fed[:, 1:].mean(axis=0)
    assert ((share > 0.42) & (share < 0.75)).all()  # half, and what was drawn to be the same
    assert np.abs(np.corrcoef(fed[:, 1:].T) - np.eye(steps - 1)).max() < 0.25  # each has a coin of its own


def test_scheduled_sampling_ends_of_the_range():
    model = build(attention="dot")
    sources, inputs = some(), some(2, T)
    forced = model(sources, inputs).data
    model.decoder.output.bias.assign(np.eye(V)[5] * 1000)  # the model is sure of 5
    free = model(sources, inputs, teacher_forcing=0.0).data
    assert model.attention_weights.shape == (B, T, S)
    fives = model(sources, np.concatenate([inputs[:, :1], np.full((B, T - 1), 5)], axis=1)).data
    np.testing.assert_allclose(free, fives, rtol=0, atol=1e-9)
    assert np.abs(forced - free).max() > 0.1
    for bad in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="probability"):
            model(sources, inputs, teacher_forcing=bad)


def test_scheduled_sampling_is_repeatable():
    a, b = build(), build()
    a.rng, b.rng = np.random.default_rng(5), np.random.default_rng(5)
    for _ in range(2):
        first, second = (m(some(), some(2, T), teacher_forcing=0.3).data for m in (a, b))
        np.testing.assert_array_equal(first, second)
    assert "rng" in a.generator_state()


def test_scheduled_sampling_and_dropout_schemes():
    per_step = Seq2Seq.build(V, H, E, dropout=rnn.dropout.NonRecurrent(0.5), rng=0)
    assert np.isfinite(per_step.loss(some(), some(2, T), teacher_forcing=0.5).data)
    whole = Seq2Seq.build(V, H, E, dropout=rnn.dropout.WeightDrop(0.5), rng=0)
    assert np.isfinite(whole.loss(some(), some(2, T)).data)
    with pytest.raises(ValueError, match="masks per step"):
        whole.loss(some(), some(2, T), teacher_forcing=0.5)
    with pytest.raises(ValueError, match="dropout schemes"):
        Seq2Seq.build(V, H, E, attention="dot", input_feeding=True, dropout=0.5)


# ------------------------------------------------------------------------------------------------ refusals


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="encoder's layers get inputs of size 4; these take 5"):
        Encoder(V, 4, rnn.LSTM(5, H))
    with pytest.raises(ValueError, match="decoder's layers get inputs of size 10; these take 4"):
        Decoder(V, 4, rnn.LSTM(4, H), source_size=6, peeky=True)
    with pytest.raises(ValueError, match="source_size"):
        Decoder(V, 4, rnn.LSTM(4, H), attention="dot")
    with pytest.raises(ValueError, match="choose one"):
        Decoder(V, 4, rnn.LSTM(10, H), source_size=6, input_feeding=True)
    with pytest.raises(ValueError, match="forward only"):
        Decoder(V, 4, rnn.LSTM(4, H, bidirectional=True))
    with pytest.raises(ValueError, match="all steps"):
        Encoder(V, 4, rnn.LSTM(4, H, return_sequences=False))
    with pytest.raises(ValueError, match="go on from the last"):
        Encoder(V, 4, rnn.LSTM(4, H, stateful=True))
    model = build()
    with pytest.raises(ValueError, match="3 sources and 2 targets"):
        model(some(), some(2, T)[:2])
    with pytest.raises(ValueError, match=r"ids \(batch, time\)"):
        model(some()[0], some())
    with pytest.raises(ValueError, match="at least one more"):
        model.loss(some(), some(2, 1))


# --------------------------------------------------------------------------------------------------- pairs


def test_reading_pairs(tmp_path):
    path = tmp_path / "sums.txt"
    path.write_text("16+75  _91  \n52+607 _659 \n5+3    _8   \n")
    pairs = read_pairs(path)
    assert pairs == [("16+75", "91"), ("52+607", "659"), ("5+3", "8")]
    data = Pairs.from_text(pairs)
    assert data.questions.shape == (3, 6) and data.answers.shape == (3, 4)
    np.testing.assert_array_equal(data.lengths, [5, 6, 3])
    assert (data.answers[:, 0] == data.start).all()
    assert data.answers[2, 2] == data.end
    assert [data.text(row) for row in data.answers] == ["91", "659", "8"]
    assert [data.text(row) for row in data.questions] == ["16+75", "52+607", "5+3"]
    for bad in ("1+1 2\n", "1_2_3\n", "_2\n", "1_ \n", "1_2\n\n"):
        path.write_text(bad)
        with pytest.raises(TextError, match=r"line \d of"):
            read_pairs(path)
    with pytest.raises(TextError, match="cannot read"):
        read_pairs(tmp_path / "none")
    with pytest.raises(TextError, match="no pairs"):
        Pairs.from_text([])


def test_addition_is_right_and_has_all_lengths():
    pairs = addition(2000, rng=0)
    assert len(set(pairs)) == 2000 and addition(2000, rng=0) == pairs
    for question, answer in pairs:
        a, b = question.split("+")
        assert int(a) + int(b) == int(answer) and len(a) <= 3 and len(b) <= 3
    lengths = {tuple(map(len, q.split("+"))) for q, _ in pairs}
    assert lengths == set(itertools.product((1, 2, 3), repeat=2))
    assert len(addition(50, digits=1, rng=0)) == 50
    with pytest.raises(ValueError, match="up to 50"):
        addition(51, digits=1)


def test_dates_are_right_and_written_in_every_way():
    pairs = dates(3000, rng=0)
    assert len(set(pairs)) == 3000 and dates(3000, rng=0) == pairs
    readings = ("%m/%d/%y", "%b %d, %Y", "%B %d, %Y", "%A, %B %d, %Y")
    seen = collections.Counter()
    for question, answer in pairs:
        found = []
        for reading in readings:
            with contextlib.suppress(ValueError):
                found.append((reading, datetime.datetime.strptime(question, reading).date()))
        assert {day.isoformat() for _, day in found} == {answer}
        if question.count(",") == 2:
            weekday = datetime.date.fromisoformat(answer).strftime("%A")
            assert question.partition(",")[0].lower() == weekday.lower()
        seen[found[0][0], question.upper() == question, question.lower() == question] += 1
    assert len(seen) == 10  # three cases of words, one of numbers
    assert {a[:4] for _, a in pairs} == {str(year) for year in range(1970, 2018)}
    assert abs(seen["%m/%d/%y", True, True] / 3000 - 0.25) < 0.03
    with pytest.raises(ValueError, match="up to 70128"):
        dates(10**6)


def test_batches_cover_an_epoch_and_go_on_where_they_were():
    data = Pairs.from_text(addition(100, rng=0))
    train, test = data.split(0.9, rng=1)
    texts = {data.text(q) for q in data.questions}
    assert len(train) == 90 and {data.text(q) for part in (train, test) for q in part.questions} == texts
    batches = PairBatches(train, 16, rng=2)
    assert len(batches) == 5
    epochs = [[train.text(q) for batch in itertools.islice(batches, 5) for q in batch.questions]
              for _ in range(2)]
    assert all(len(set(e)) == 80 for e in epochs) and epochs[0] != epochs[1]
    for skipped in (0, 3, 5, 7):
        a = PairBatches(train, 16, rng=2)
        for _ in range(skipped):
            next(a)
        b = PairBatches(train, 16, rng=77)
        b.load_state_dict(a.state_dict())
        for _ in range(8):
            np.testing.assert_array_equal(next(a).questions, next(b).questions)
    for bad in ({}, a.state_dict() | {"batch_size": 8}, a.state_dict() | {"position": -1},
                a.state_dict() | {"generator": {"bit_generator": "MT19937"}}):
        before = b.state_dict()
        with pytest.raises(ValueError):
            b.load_state_dict(bad)
        assert b.state_dict() == before
    with pytest.raises(ValueError, match="cannot be drawn"):
        PairBatches(train, 91)
    with pytest.raises(ValueError, match="nothing on one side"):
        data.split(1.0)


def test_saved_place_survives_a_checkpoint(tmp_path):
    data = Pairs.from_text(addition(40, rng=0))
    a, b = PairBatches(data, 8, rng=1), PairBatches(data, 8, rng=2)
    next(a)
    mg.save(tmp_path / "place.npz", a.state_dict())
    b.load_state_dict(mg.load(tmp_path / "place.npz"))
    np.testing.assert_array_equal(next(a).answers, next(b).answers)


# ------------------------------------------------------------------------------------------------ learning


@pytest.mark.no_cover
@pytest.mark.parametrize("options", [{"reverse": True, "peeky": True}, {"attention": "general"}], ids=str)
def test_learns_to_copy_backwards(options):
    rng = np.random.default_rng(0)
    model = Seq2Seq.build(6, 24, 8, rng=1, layer=rnn.GRU, **options)
    optimiser = mg.optim.Adam(model.parameters(), lr=0.02)
    first = None
    for _ in range(120):
        x = rng.integers(0, 5, (32, 3))
        optimiser.zero_grad()
        loss = model.loss(x, np.concatenate([np.full((32, 1), 5), x[:, ::-1]], axis=1))
        loss.backward()
        mg.optim.clip_grad_norm(optimiser.parameters, 5.0)
        optimiser.step()
        first = first or float(loss.data)
    x = rng.integers(0, 5, (100, 3))
    assert first > 1.5 and float(loss.data) < 0.3
    right = np.mean([answer == list(row[::-1]) for answer, row in zip(model.answer(x, 5, 3), x, strict=True)])
    assert right > 0.8, right
    assert model.training  # as before

"""The layers beside PyTorch's (every gradient, each cotangent alone) and ONNX's, and what is ours alone."""

from __future__ import annotations

import numpy as np
import pytest
from golden import onnx_cases, torch_cases
from torch_layout import assert_all_close, run_ours

import minigrad as mg
import rnn


@pytest.mark.parametrize("case", torch_cases.ALL, ids=str)
def test_equal_to_torch(case):
    pytest.importorskip("torch")
    assert_all_close(run_ours(case), torch_cases.run_torch(case))


@pytest.mark.parametrize("case", torch_cases.STORED, ids=str)
def test_equal_to_stored_results_of_torch(case):
    with np.load(torch_cases.FILE) as stored:
        theirs = stored[str(case)]
    np.testing.assert_allclose(torch_cases.flat(run_ours(case)), theirs, rtol=1e-10, atol=1e-10)


# -- ONNX ---------------------------------------------------------------------------------------------------


def run_like_onnx(case):
    """What `run_onnx` returns, by our layers."""
    given = onnx_cases.weights(case)
    D, H = onnx_cases.D, onnx_cases.H
    options = {"bidirectional": case.bidirectional, "merge": None}
    if case.op == "RNN":
        layer = rnn.RNN(D, H, nonlinearity=case.activation.lower(), **options)
        ours, theirs = "h", "h"
    elif case.op == "LSTM":
        layer = rnn.LSTM(D, H, peephole=case.peephole, coupled=case.coupled, **options)
        ours, theirs = "igo" if case.coupled else "ifgo", "iofg"
    else:
        layer, ours, theirs = rnn.GRU(D, H, reset_after=case.reset_after, **options), "rzn", "zrn"
    assert ours == "".join(layer.cells[0].gates)

    def reordered(blocks):
        """(gates·H, ...) in their order to ours."""
        parts = dict(zip(theirs, np.split(blocks, len(theirs)), strict=True))
        return np.concatenate([parts[gate] for gate in ours])

    for d, cell in enumerate(layer.cells):
        cell.weight_ih.assign(reordered(given["W"][d]).T)
        cell.weight_hh.assign(reordered(given["R"][d]).T)
        b_ih, b_hh = (reordered(b) for b in np.split(given["B"][d], 2))
        if case.op == "GRU" and case.reset_after:
            cell.bias_hn.assign(b_hh[2 * H:])
            b_hh[2 * H:] = 0
        cell.bias.assign(b_ih + b_hh)
        if case.peephole:
            for gate, p in zip("iof", np.split(given["P"][d], 3), strict=True):
                if gate in ours:
                    getattr(cell, f"weight_c{gate}").assign(p)
    names = ["initial_h", "initial_c"] if case.op == "LSTM" else ["initial_h"]
    state = tuple(cell.State(*(mg.tensor(given[name][d]) for name in names))
                  for d, cell in enumerate(layer.cells))
    lengths = onnx_cases.LENGTHS if case.ragged else None
    y, final = layer(given["X"].swapaxes(0, 1), state, lengths)
    ys = y if case.bidirectional else [y]
    found = {"Y": np.stack([v.data.swapaxes(0, 1) for v in ys], axis=1)}
    for field, name in zip(final[0]._fields, ("Y_h", "Y_c"), strict=False):
        found[name] = np.stack([getattr(s, field).data for s in final])
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("case", onnx_cases.ALL, ids=str)
def test_equal_to_onnxruntime(case):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    ours = run_like_onnx(case)
    for name, expected in onnx_cases.run_onnx(case).items():
        assert ours[name].dtype == np.float32
        np.testing.assert_allclose(ours[name], expected, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("case", onnx_cases.ALL, ids=str)
def test_equal_to_stored_results_of_onnxruntime(case):
    with np.load(onnx_cases.FILE) as stored:
        theirs = stored[str(case)]
    np.testing.assert_allclose(onnx_cases.flat(run_like_onnx(case)), theirs, rtol=0, atol=1e-5)


# -- directions, lengths, what is returned -----------------------------------------------------------------

B, T, D, H = 3, 5, 2, 4
LAYERS = [rnn.RNN, rnn.LSTM, rnn.GRU, rnn.Jordan]
every_layer = pytest.mark.parametrize("make", LAYERS)


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape)


def leaves(state):
    return [v.data for cell in state for v in cell]


@every_layer
@pytest.mark.parametrize(("merge", "join"), [
    ("concat", lambda a, b: np.concatenate([a, b], axis=-1)), ("sum", lambda a, b: a + b),
    ("mul", lambda a, b: a * b), ("average", lambda a, b: (a + b) / 2)])
def test_merging_directions(make, merge, join):
    options = {"bidirectional": True, "dtype": np.float64, "rng": 0}
    forward, backward = make(D, H, merge=None, **options)(numbers(B, T, D))[0]
    layer = make(D, H, merge=merge, **options)
    y, _ = layer(numbers(B, T, D))
    np.testing.assert_allclose(y.data, join(forward.data, backward.data), atol=1e-15)
    assert y.shape == (B, T, layer.output_size)
    stacked = make(D, H, 2, merge=merge, **options)
    assert stacked(numbers(B, T, D))[0].shape == (B, T, stacked.output_size)


@every_layer
def test_the_backward_direction_is_the_forward_one_on_the_reversed_sequence(make):
    both = make(D, H, bidirectional=True, merge=None, dtype=np.float64, rng=0)
    one = make(D, H, dtype=np.float64)
    one.cells[0].load_state_dict(both.cells[1].state_dict())
    x = numbers(B, T, D)
    (_, backward), state = both(x)
    y, (last,) = one(x[:, ::-1])
    np.testing.assert_allclose(backward.data[:, ::-1], y.data, atol=1e-15)
    for a, b in zip(state[1], last, strict=True):
        np.testing.assert_allclose(a.data, b.data, atol=1e-15)


@every_layer
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("compiled", [False, "numpy"])
def test_padding_is_as_if_it_were_not_there(make, bidirectional, compiled):
    layer = make(D, H, 2, bidirectional=bidirectional, dtype=np.float64, rng=0, compiled=compiled)
    lengths, x = [2, 9, 5], numbers(B, 9, D)
    y, state = layer(x, lengths=lengths)
    garbage = x.copy()
    for b, n in enumerate(lengths):
        garbage[b, n:] = 1e3
        alone, alone_state = layer(x[b:b + 1, :n])
        np.testing.assert_allclose(y.data[b, :n], alone.data[0], atol=1e-14)
        assert not y.data[b, n:].any()
        for ours, theirs in zip(leaves(state), leaves(alone_state), strict=True):
            np.testing.assert_allclose(ours[b], theirs[0], atol=1e-14)
    assert np.array_equal(layer(garbage, lengths=lengths)[0].data, y.data)
    given = mg.tensor(x, requires_grad=True)
    out, final = layer(given, lengths=lengths)
    (out.sum() + sum(v.sum() for cell in final for v in cell)).backward()
    for b, n in enumerate(lengths):
        assert not given.grad[b, n:].any()
        assert given.grad[b, :n].all()


@every_layer
def test_the_last_valid_step_and_repeating_it(make):
    options = {"dtype": np.float64, "rng": 0}
    lengths, x = np.array([2, 5, 1]), numbers(B, T, D)
    y, _ = make(D, H, **options)(x, lengths=lengths)
    last = y.data[np.arange(B), lengths - 1]
    assert np.array_equal(make(D, H, return_sequences=False, **options)(x, lengths=lengths)[0].data, last)
    assert np.array_equal(make(D, H, return_sequences=False, **options)(x)[0].data,
                          make(D, H, **options)(x)[0].data[:, -1])
    repeated = make(D, H, past_end="repeat", **options)(x, lengths=mg.tensor(lengths))[0].data
    for b, n in enumerate(lengths):
        assert np.array_equal(repeated[b, :n], y.data[b, :n])
        assert (repeated[b, n:] == last[b]).all()
    full = np.full(B, T)
    assert np.array_equal(make(D, H, **options)(x, lengths=full)[0].data, make(D, H, **options)(x)[0].data)


@every_layer
@pytest.mark.parametrize("compiled", [False, "numpy"])
def test_a_sequence_in_two_parts_is_the_whole(make, compiled):
    layer = make(D, H, 2, dtype=np.float64, rng=0, compiled=compiled)
    x, weights = numbers(B, 20, D), numbers(B, 20, layer.output_size)
    whole, state = layer(x)
    first, middle = layer(x[:, :9])
    second, last = layer(x[:, 9:], middle)
    np.testing.assert_allclose(np.concatenate([first.data, second.data], axis=1), whole.data, atol=1e-14)
    for a, b in zip(leaves(last), leaves(state), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-14)
    parts = mg.grad((mg.concatenate([first, second], axis=1) * weights).sum(), layer.parameters())
    for a, b in zip(parts, mg.grad((whole * weights).sum(), layer.parameters()), strict=True):
        np.testing.assert_allclose(a.data, b.data, atol=1e-12)
    cut, _ = layer(x[:, 9:], rnn.detach(middle))
    assert not set(mg.tape(cut).nodes) & set(mg.tape(first).nodes)


@every_layer
def test_float32_and_float64(make):
    y, state = make(D, H, 2, bidirectional=True)(numbers(B, T, D).astype(np.float32), lengths=[1, 2, 5])
    assert y.dtype == np.float32
    assert {v.dtype for v in leaves(state)} == {np.dtype(np.float32)}
    assert make(D, H, dtype=np.float64)(numbers(B, T, D))[0].dtype == np.float64


@every_layer
def test_scopes_say_where(make):
    y, _ = make(D, H, 2, bidirectional=True)(numbers(B, T, D).astype(np.float32))
    name = make.__name__.lower()
    paths = {node.scope.path for node in mg.tape(y)}
    assert {f"{name}/layer 0/t = 1", f"{name}/layer 1 backward/t = {T}", f"{name}/layer 0 backward"} <= paths


# -- the state ---------------------------------------------------------------------------------------------


@every_layer
def test_a_learned_initial_state(make):
    layer = make(D, H, 2, learn_initial_state=True, dtype=np.float64, rng=0)
    x = numbers(B, T, D)
    assert np.array_equal(layer(x)[0].data, make(D, H, 2, dtype=np.float64, rng=0)(x)[0].data)
    learned = [p for name, p in layer.named_parameters() if name.startswith("initial")]
    assert [p.name for p in learned] == [f"{k}0" for k in layer.cells[0].State._fields] * 2
    for p in learned:
        p.assign(numbers(*p.shape))
    layer(x)[0].sum().backward()
    given = [mg.tensor(np.tile(p.data, (B, 1)), requires_grad=True) for p in learned]
    n = len(given) // 2
    state = [cell.State(*given[k * n:(k + 1) * n]) for k, cell in enumerate(layer.cells)]
    layer(x, state)[0].sum().backward()
    for p, g in zip(learned, given, strict=True):
        np.testing.assert_allclose(p.grad, g.grad.sum(axis=0), atol=1e-12)


@every_layer
@pytest.mark.parametrize("learn", [False, True])
def test_a_stateful_layer_goes_on(make, learn):
    options = {"dtype": np.float64, "rng": 0}
    layer = make(D, H, 2, stateful=True, learn_initial_state=learn, **options)
    plain = make(D, H, 2, **options)
    x = numbers(B, 6, D)
    whole, _ = plain(x)
    assert layer.state is None
    first, _ = layer(x[:, :4])
    second, state = layer(x[:, 4:])
    np.testing.assert_allclose(np.concatenate([first.data, second.data], axis=1), whole.data, atol=1e-14)
    assert not set(mg.tape(second).nodes) & set(mg.tape(first).nodes), "the kept state is a constant"
    assert all(np.array_equal(a, b) for a, b in zip(leaves(layer.state), leaves(state), strict=True))
    layer.reset_state()
    np.testing.assert_allclose(layer(x)[0].data, whole.data, atol=1e-14)
    layer.set_state(state)
    np.testing.assert_allclose(layer(x)[0].data, plain(x, state)[0].data, atol=1e-14)
    layer.set_state(tuple(type(s)(*(v.data for v in s)) for s in state))
    np.testing.assert_allclose(layer(x)[0].data, plain(x, state)[0].data, atol=1e-14)
    layer.set_state(None)
    np.testing.assert_allclose(layer(x)[0].data, whole.data, atol=1e-14)


@pytest.mark.parametrize("rows", [[1], np.array([False, True, False]), 1, mg.tensor([1, 1])])
@pytest.mark.parametrize("learn", [False, True])
def test_beginning_anew_in_some_rows(rows, learn):
    layer = rnn.LSTM(D, H, stateful=True, learn_initial_state=learn, dtype=np.float64, rng=0)
    for p in layer.parameters():
        p.assign(numbers(*p.shape))
    x = numbers(B, T, D)
    fresh, _ = layer(x)
    kept = layer.state
    going_on, _ = layer(x)
    layer.set_state(kept)
    layer.reset_state([])
    layer.reset_state(rows)
    for a, b in zip(leaves(layer.state), leaves(kept), strict=True):
        assert np.array_equal(a[[0, 2]], b[[0, 2]])
    mixed, _ = layer(x)
    np.testing.assert_allclose(mixed.data[1], fresh.data[1], atol=1e-14)
    np.testing.assert_allclose(mixed.data[[0, 2]], going_on.data[[0, 2]], atol=1e-14)
    if learn:
        mixed.sum().backward()
        assert all(p.grad.any() for p in layer.initial[0])
    again, _ = layer(x)
    assert not np.array_equal(again.data[1], fresh.data[1]), "rows begin anew once"


def test_rows_in_two_calls_add_up():
    layer = rnn.GRU(D, H, stateful=True, dtype=np.float64, rng=0)
    x = numbers(B, T, D)
    fresh, _ = layer(x)
    layer.reset_state([0])
    layer.reset_state([2])
    assert [bool(row.any()) for row in layer.state[0].h.data] == [False, True, False]
    np.testing.assert_allclose(layer(x)[0].data[[0, 2]], fresh.data[[0, 2]], atol=1e-14)


def test_state_errors():
    layer, kept = rnn.LSTM(D, H, 2), rnn.LSTM(D, H, stateful=True)
    x = np.ones((B, T, D), np.float32)
    with pytest.raises(ValueError, match="stateful=True"):
        layer.reset_state()
    with pytest.raises(ValueError, match="stateful=True"):
        layer.set_state(None)
    _, state = kept(x)
    with pytest.raises(ValueError, match="state of 3 sequences, and this batch has 2"):
        kept(x[:2])
    with pytest.raises(IndexError):
        kept.reset_state([3])
    with pytest.raises(ValueError, match="a tuple of 2 LSTMState"):
        layer(x, state)
    with pytest.raises(ValueError, match="expected a LSTMState with"):
        kept(x[:2], state)
    h = mg.tensor(np.zeros((B, H), np.float32))
    y, _ = rnn.GRU(D, H)(x, rnn.GRUState(h))  # one cell: its state alone will do
    assert y.shape == (B, T, H)
    kept.set_state(state[0])
    assert kept.state[0].h.shape == (B, H)


def test_a_state_of_an_earlier_graph_is_explained():
    layer = rnn.LSTM(D, H)
    x = np.ones((B, T, D), np.float32)
    y, state = layer(x)
    y.sum().backward()
    y, _ = layer(x, state)
    with pytest.raises(mg.GraphError, match=r"rnn\.detach\(state\)"):
        y.sum().backward()


# -- compiled ----------------------------------------------------------------------------------------------

SCHEMES = {
    rnn.RNN: [rnn.dropout.Zoneout(hidden=0.3), rnn.dropout.Recurrent(0.3)],
    rnn.Jordan: [rnn.dropout.Variational(0.3), rnn.dropout.NonRecurrent(0.3)],
    rnn.LSTM: [rnn.dropout.WeightDrop(0.3), rnn.dropout.Variational(0.3, tied=False), rnn.dropout.RNNDrop(0.3),
               rnn.dropout.Zoneout(cell=0.3, hidden=0.3), rnn.dropout.Recurrent(0.3)],
    rnn.GRU: [rnn.dropout.WeightDrop(0.3), rnn.dropout.Variational(0.3), rnn.dropout.Zoneout(hidden=0.3)],
}


@every_layer
@pytest.mark.parametrize("lengths", [None, [4, 9, 1]])
def test_compiled_is_eager(make, lengths):
    x, results = numbers(B, 9, D), []
    for compiled in (False, "numpy"):
        layer = make(D, H, 2, bidirectional=True, dropout=SCHEMES[make], learn_initial_state=True,
                     clip_gradient=0.3, compiled=compiled, dtype=np.float64, rng=0)
        y, state = layer(x, lengths=lengths)
        loss = (y * y).sum() + sum((v ** 3).sum() for cell in state for v in cell)
        results.append([y.data, *leaves(state), *(g.data for g in mg.grad(loss, layer.parameters()))])
    for eager, fast in zip(*results, strict=True):
        np.testing.assert_allclose(fast, eager, atol=1e-12)


# -- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "words"), [
    ({"num_layers": 0}, "num_layers is a positive int"),
    ({"merge": "max"}, "merge is None or one of concat, sum, mul, average"),
    ({"past_end": "wrap"}, "past_end is 'zero' or 'repeat'"),
    ({"hidden_size": -1}, "hidden_size is a positive int"),
])
def test_errors_at_construction(options, words):
    with pytest.raises(ValueError, match=words):
        rnn.GRU(**{"input_size": D, "hidden_size": H, **options})


@pytest.mark.parametrize(("x", "lengths", "error", "words"), [
    (np.ones((B, D)), None, ValueError, r"Add the batch axis: x\[None\]"),
    (np.ones((B, T, 3)), None, ValueError, r"shape \(batch, time, 2\), got \(3, 5, 3\)"),
    (np.ones((B, 0, D)), None, ValueError, "at least one sequence and one step"),
    (np.ones((B, T, D), int), None, TypeError, "nn.Embedding or mg.one_hot"),
    (np.ones((B, T, D)), [1, 2], ValueError, r"needs \(3,\)"),
    (np.ones((B, T, D)), [0, 1, 2], ValueError, "between 1 and the 5 steps"),
    (np.ones((B, T, D)), [6, 1, 2], ValueError, "lie between 1 and 6"),
    (np.ones((B, T, D)), [1.0, 1.0, 2.0], TypeError, "lengths are integers"),
])
def test_errors_at_the_call(x, lengths, error, words):
    with pytest.raises(error, match=words):
        rnn.RNN(D, H, dtype=np.float64)(x, lengths=lengths)

"""Every cell, variant and dropout scheme: the compiled loop gives what the eager one gives."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import numpy as np
import pytest

import minigrad as mg
import rnn
from minigrad.compile.run import NotCompiled
from rnn.dropout import NonRecurrent, Recurrent, RNNDrop, Variational, WeightDrop, Zoneout

B, D, H, T = 3, 4, 5, 8
LENGTHS = [8, 3, 1]
CELLS = {
    "rnn": (rnn.RNN, {}),
    "rnn relu": (rnn.RNN, {"nonlinearity": "relu"}),
    "lstm": (rnn.LSTM, {}),
    "lstm without bias": (rnn.LSTM, {"bias": False}),
    "lstm peephole": (rnn.LSTM, {"peephole": True}),
    "lstm coupled": (rnn.LSTM, {"coupled": True}),
    "lstm coupled peephole": (rnn.LSTM, {"coupled": True, "peephole": True}),
    "lstm layer norm": (rnn.LSTM, {"layer_norm": True}),
    "lstm projection": (rnn.LSTM, {"projection": 3}),
    "lstm clipped": (rnn.LSTM, {"clip_gradient": 0.01}),
    "gru": (rnn.GRU, {}),
    "gru reset before": (rnn.GRU, {"reset_after": False}),
    "gru clipped": (rnn.GRU, {"clip_gradient": 0.01}),
}
SCHEMES = {
    "nonrecurrent": NonRecurrent(0.5),
    "rnndrop": RNNDrop(0.5),
    "variational": Variational(0.4),
    "variational untied": Variational(0.4, tied=False),
    "weight drop": WeightDrop(0.5),
    "recurrent": Recurrent(0.5),
    "recurrent per sequence": Recurrent(0.5, per="sequence"),
    "zoneout": Zoneout(cell=0.3, hidden=0.2),
    "zoneout and others": [Zoneout(cell=0.3), WeightDrop(0.3), Variational(0.2)],
}
needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="numba is not installed")


def outcome(kind, options, how, *, dtype, lengths=None, training=True, **more):
    """Outputs, final states and all gradients of one call."""
    layer = kind(D, H, rng=0, dtype=dtype, dropout_rng=1, **options, **more)
    layer.train(training)
    layer.compiled = how
    rng = np.random.default_rng(2)
    x = mg.tensor(rng.standard_normal((B, T, D)).astype(dtype), requires_grad=True)
    state = layer.initial_state(B)
    state = tuple(type(s)(*(mg.tensor(rng.standard_normal(v.shape).astype(dtype), requires_grad=True) for v in s))
                  for s in state)
    y, final = layer(x, state, lengths=lengths)
    loss = (y * y).sum() + sum((v * np.cos(v)).sum() for s in final for v in s)
    loss.backward()
    if how:
        names = {n.primitive.name for n in mg.tape(loss)}
        assert "scan" in names and "stack" not in names
    return ([y.data] + [v.data for s in final for v in s] + [x.grad] + [v.grad for s in state for v in s]
            + [p.grad for p in layer.parameters()])


def assert_close(some, others, dtype, factor=1.0):
    tolerance = factor * (2e-5 if dtype == np.float32 else 1e-11)
    for a, b in zip(some, others, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype == dtype and a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1.0, np.abs(a).max()))


@pytest.fixture(autouse=True)
def compiled_or_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotCompiled)
        yield


@pytest.mark.parametrize(("lengths", "dtype"), [(None, np.float32), (LENGTHS, np.float64)], ids=["full", "ragged"])
@pytest.mark.parametrize("cell", CELLS)
def test_cells(cell, lengths, dtype):
    kind, options = CELLS[cell]
    more = {"dtype": dtype, "lengths": lengths, "bidirectional": True}
    assert_close(outcome(kind, options, False, **more), outcome(kind, options, "numpy", **more), dtype)


@pytest.mark.parametrize(("kind", "training"), [
    (rnn.RNN, True), (rnn.LSTM, True), (rnn.GRU, True),
    (rnn.LSTM, False),  # of the others, no scheme here leaves anything behind in evaluation
], ids=["RNN", "LSTM", "GRU", "LSTM in evaluation"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_schemes(kind, scheme, training):
    schemes = SCHEMES[scheme]
    for s in schemes if isinstance(schemes, list) else [schemes]:
        if not issubclass(kind.cell_type, s.cells) or (kind is not rnn.LSTM and getattr(s, "p_cell", 0)):
            pytest.skip("not defined for this cell")
    more = {"dtype": np.float64, "training": training, "lengths": LENGTHS, "num_layers": 2}
    assert_close(outcome(kind, {"dropout": schemes}, False, **more),
                 outcome(kind, {"dropout": schemes}, "numpy", **more), np.float64)


@needs_numba
@pytest.mark.parametrize("cell, more", [
    ("lstm peephole", {"dtype": np.float32, "lengths": LENGTHS}),
    ("gru", {"dtype": np.float32}),
    ("gru reset before", {"dtype": np.float64}),
    ("lstm layer norm", {"dtype": np.float32}),
    ("rnn relu", {"dtype": np.float64, "lengths": LENGTHS, "bidirectional": True}),
])
def test_kernels(cell, more):
    kind, options = CELLS[cell]
    assert_close(outcome(kind, options, False, **more), outcome(kind, options, "numba", **more), more["dtype"])


@needs_numba
def test_kernels_with_masks():
    options = {"dropout": [Zoneout(cell=0.3, hidden=0.2), Recurrent(0.5)]}
    assert_close(outcome(rnn.LSTM, options, False, dtype=np.float32),
                 outcome(rnn.LSTM, options, "numba", dtype=np.float32), np.float32)

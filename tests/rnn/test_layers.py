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

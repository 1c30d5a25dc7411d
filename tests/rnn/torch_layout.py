"""Our layers with PyTorch's weights, and our gradients under PyTorch's names."""

from __future__ import annotations

from typing import Any

import numpy as np
from golden.torch_cases import LENGTHS, Case, D, H, P, inputs, weights

import minigrad as mg
import rnn


def our_layer(case: Case, **options: Any) -> rnn.Recurrent:
    """The layer of a case, with its weights: (out, in) transposed, the two biases added."""
    common: dict[str, Any] = {"num_layers": case.layers, "bias": case.bias, "dtype": np.float64,
                              "bidirectional": case.bidirectional, **options}
    layer: rnn.Recurrent
    if case.kind in ("tanh", "relu"):
        layer = rnn.RNN(D, H, nonlinearity=case.kind, **common)
    elif case.kind == "gru":
        layer = rnn.GRU(D, H, **common)
    else:
        layer = rnn.LSTM(D, H, projection=P if case.kind == "projection" else None, **common)
    state = weights(case)
    for cell, s in zip(layer.cells, suffixes(case), strict=True):
        cell.weight_ih.assign(state[f"weight_ih_{s}"].T)
        cell.weight_hh.assign(state[f"weight_hh_{s}"].T)
        if case.kind == "projection":
            cell.weight_hr.assign(state[f"weight_hr_{s}"].T)
        if case.bias:
            b_ih, b_hh = state[f"bias_ih_{s}"], state[f"bias_hh_{s}"]
            if case.kind == "gru":
                cell.bias.assign(np.concatenate([b_ih[:2 * H] + b_hh[:2 * H], b_ih[2 * H:]]))
                cell.bias_hn.assign(b_hh[2 * H:])
            else:
                cell.bias.assign(b_ih + b_hh)
    return layer


def suffixes(case: Case) -> list[str]:
    return [f"l{k}{r}" for k in range(case.layers) for r in ("", "_reverse")[:1 + case.bidirectional]]


def run_ours(case: Case, **options: Any) -> dict[str, np.ndarray]:
    """What `run_torch` returns, by our layer."""
    layer, given = our_layer(case, **options), inputs(case)
    leaves = {k: mg.tensor(given[k], requires_grad=True) for k in ("x", "h0", "c0") if k in given}
    names = [k for k in ("h0", "c0") if k in leaves]
    state = tuple(layer.cells[0].State(*(leaves[k][i] for k in names)) for i in range(len(layer.cells)))
    y, final = layer(leaves["x"], state, LENGTHS if case.ragged else None)
    results = {"y": y} | {k: mg.stack([getattr(s, k) for s in final]) for k in layer.cells[0].State._fields}
    found = {k: v.data for k, v in results.items()}
    for cell, s in zip(layer.cells, suffixes(case), strict=True):
        leaves |= {f"weight_ih_{s}": cell.weight_ih, f"weight_hh_{s}": cell.weight_hh}
        if case.bias:
            leaves[f"bias_ih_{s}"] = cell.bias
            if case.kind == "gru":
                leaves[f"bias_hn_{s}"] = cell.bias_hn
        if case.kind == "projection":
            leaves[f"weight_hr_{s}"] = cell.weight_hr
    for k, v in results.items():
        grads = mg.grad(v, list(leaves.values()), given[f"d{k}"], retain_graph=True)
        for (name, leaf), grad in zip(leaves.items(), grads, strict=True):
            g = np.zeros(leaf.shape) if grad is None else grad.data
            if name.startswith("weight"):
                g = g.T
            elif name.startswith("bias_hn"):
                gates = found[f"d{k}/bias_ih_{name[8:]}"][:2 * H]
                name, g = f"bias_hh_{name[8:]}", np.concatenate([gates, g])
            found[f"d{k}/{name}"] = g
    return found


def assert_all_close(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], rtol: float = 1e-10) -> None:
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape, name
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(ours[name], expected, rtol=0, atol=rtol * scale, err_msg=name)

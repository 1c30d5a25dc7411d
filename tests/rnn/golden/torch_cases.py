"""What PyTorch's recurrent layers give on fixed inputs: outputs and every gradient, for each cotangent alone.

`python tests/rnn/golden/torch_cases.py` writes torch.npz, so that the comparison runs where PyTorch is not
installed. Inputs and weights are sines of their index; only the results are stored, one flat array per case.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

B, T, D, H, P = 3, 4, 2, 3, 2
FILE = Path(__file__).with_name("torch.npz")


class Case(NamedTuple):
    kind: str  # tanh, relu, lstm, projection, gru
    layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    ragged: bool = False

    def __str__(self) -> str:
        marks = {"bi": self.bidirectional, "nobias": not self.bias, "ragged": self.ragged}
        return "-".join([self.kind, f"{self.layers}", *(word for word, on in marks.items() if on)])


KINDS = ("tanh", "relu", "lstm", "projection", "gru")
ALL = [Case(kind, layers, bidirectional, bias, ragged)
       for kind, layers, bidirectional in product(KINDS, (1, 2, 3), (False, True))
       for bias, ragged in ((True, False), (False, True))]
STORED = [*(Case(kind) for kind in KINDS), Case("lstm", 1, True, True, True),
          Case("gru", 1, True, True, True), Case("lstm", 2, True, False)]
LENGTHS = np.array([2, 4, 1])


def values(number: int, *shape: int) -> np.ndarray:
    """Fixed numbers that look random."""
    n = int(np.prod(shape))
    return 0.8 * np.sin(1.7 * np.arange(1, n + 1) * (1 + 0.37 * number) + number).reshape(shape)


def inputs(case: Case) -> dict[str, np.ndarray]:
    """x, the initial state and the cotangents, by name."""
    cells = case.layers * (1 + case.bidirectional)
    out = P if case.kind == "projection" else H
    found = {"x": values(1, B, T, D), "h0": values(2, cells, B, out),
             "dy": values(4, B, T, out * (1 + case.bidirectional)),
             "dh": values(5, cells, B, out)}
    if case.kind in ("lstm", "projection"):
        found |= {"c0": values(3, cells, B, H), "dc": values(6, cells, B, H)}
    return found


def weights(case: Case) -> dict[str, np.ndarray]:
    """PyTorch's state_dict."""
    gates = {"tanh": 1, "relu": 1, "gru": 3}.get(case.kind, 4)
    out = P if case.kind == "projection" else H
    found: dict[str, np.ndarray] = {}
    for layer in range(case.layers):
        width = D if layer == 0 else out * (1 + case.bidirectional)
        for suffix in (f"l{layer}", f"l{layer}_reverse")[:1 + case.bidirectional]:
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (gates * H, width), "weight_hh": (gates * H, out),
                "bias_ih": (gates * H,), "bias_hh": (gates * H,), "weight_hr": (P, H)}
            for name, shape in shapes.items():
                if (case.bias or "bias" not in name) and (case.kind == "projection" or name != "weight_hr"):
                    found[f"{name}_{suffix}"] = values(10 + len(found), *shape)
    return found


def run_torch(case: Case) -> dict[str, np.ndarray]:
    """y, h, c, and `<cotangent>/<what>` for each gradient, by PyTorch."""
    import torch

    given, state = inputs(case), weights(case)
    options: dict[str, Any] = {"bias": case.bias, "batch_first": True, "bidirectional": case.bidirectional}
    if case.kind in ("tanh", "relu"):
        layer: Any = torch.nn.RNN(D, H, case.layers, nonlinearity=case.kind, **options)
    elif case.kind == "gru":
        layer = torch.nn.GRU(D, H, case.layers, **options)
    else:
        layer = torch.nn.LSTM(D, H, case.layers, proj_size=P if case.kind == "projection" else 0, **options)
    layer.double().load_state_dict({k: torch.tensor(v) for k, v in state.items()})
    leaves = {k: torch.tensor(given[k], requires_grad=True) for k in ("x", "h0", "c0") if k in given}
    x = leaves["x"]
    initial = (leaves["h0"], leaves["c0"]) if "c0" in leaves else leaves["h0"]
    if case.ragged:
        lengths = torch.tensor(LENGTHS)
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, final = layer(packed, initial)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
    else:
        y, final = layer(x, initial)
    results = {"y": y, **dict(zip("hc", final if isinstance(final, tuple) else (final,), strict=False))}
    leaves |= dict(layer.named_parameters())
    found = {k: v.detach().numpy() for k, v in results.items()}
    for k, v in results.items():
        grads = torch.autograd.grad(v, list(leaves.values()), torch.tensor(given[f"d{k}"]), retain_graph=True,
                                    allow_unused=True)
        for name, leaf, g in zip(leaves, leaves.values(), grads, strict=True):
            if name.startswith("bias_hh") and case.kind != "gru":
                continue  # equal to that of bias_ih
            found[f"d{k}/{name}"] = (torch.zeros_like(leaf) if g is None else g).numpy()
    return found


def flat(results: dict[str, np.ndarray]) -> np.ndarray:
    """All numbers, by sorted name."""
    return np.concatenate([results[name].ravel() for name in sorted(results)])


if __name__ == "__main__":
    np.savez_compressed(FILE, **{str(case): flat(run_torch(case)) for case in STORED})

"""A layer of one cell beside a plain loop: outputs, final state, and every gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from loops import Lookup, complex_step, no_mask

import minigrad as mg
import rnn

B, T, D, H = 2, 3, 2, 3


def randomise(layer: Any, seed: int = 0) -> Any:
    """Give every parameter a random value, so that no bias is zero and no gain is one."""
    rng = np.random.default_rng(seed)
    for p in layer.parameters():
        p.assign(rng.normal(0, 0.7, p.shape))
    return layer


def assert_like_loop(layer: rnn.Recurrent, loop: Callable[..., Any], m: Lookup = no_mask, *,
                     masks: dict[str, Any] | None = None, gradients: bool = True, tolerance: float = 1e-11,
                     **options: Any) -> None:
    """`layer` has one cell and is float64; `loop(p, x, *state, m, **options)` gives y and the final state."""
    rng = np.random.default_rng(5)
    (cell,) = layer.cells
    sizes = cell.sizes()
    leaves = {"x": rng.normal(size=(B, T, layer.input_size))}
    leaves |= {f"{k}0": rng.normal(size=(B, n)) for k, n in sizes._asdict().items()}
    parameters = {name: p.numpy() for name, p in cell.named_parameters()}
    given = {k: mg.tensor(v, requires_grad=True) for k, v in leaves.items()}
    states = [f"{k}0" for k in sizes._fields]
    y, (final,) = layer(given["x"], (type(sizes)(*(given[k] for k in states)),), masks=masks)
    ours = [y, *final]

    def plain(values: dict[str, Any]) -> list[Any]:
        p = {k: values[k] for k in parameters}
        return list(loop(p, values["x"], *(values[k] for k in states), m, **options))

    theirs = plain({**leaves, **parameters})
    cotangents = [rng.normal(size=v.shape) for v in theirs]
    for ours_k, theirs_k in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(ours_k.data, theirs_k, rtol=0, atol=tolerance)
    if not gradients:
        return
    expected = complex_step(
        lambda values: sum((v * g).sum() for v, g in zip(plain(values), cotangents, strict=True)),
        {**leaves, **parameters})
    wanted = {**given, **dict(cell.named_parameters())}
    found = mg.grad(ours, list(wanted.values()), cotangents)
    for (name, leaf), g in zip(wanted.items(), found, strict=True):
        value = np.zeros(leaf.shape) if g is None else g.data
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=tolerance, err_msg=name)

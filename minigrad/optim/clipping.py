"""Gradient clipping (Pascanu, Mikolov & Bengio 2013), between backward and the optimiser's step.

All gradients are looked at before the first is changed: a NaN or an infinity raises an error that names the
parameter, and leaves everything as it was.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tensor import Tensor
from .optimisers import Parameters, trainable

Array = NDArray[Any]


def global_norm(parameters: Parameters) -> float:
    """√(Σ g²) over all entries of all gradients, in float64; parameters without a gradient count as 0.

    Raises:
        FloatingPointError: a gradient is not finite; the message names its parameter.
    """
    scale, norm = _norm(trainable(parameters))
    return scale * norm


def clip_grad_norm(parameters: Parameters, max_norm: float) -> float:
    """Multiply all gradients by max_norm / (norm + 1e-6) if that is below 1.

    Args:
        parameters: those without a gradient are left out.
        max_norm: the largest norm to allow, above 0; infinity only measures.

    Returns:
        The global norm before clipping.

    Raises:
        ValueError: max_norm is not above 0.
        FloatingPointError: a gradient is not finite; the message names its parameter, and no gradient is
            changed.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm is above 0, got {max_norm!r}.")
    found = trainable(parameters)
    scale, norm = _norm(found)
    factor = max_norm / scale / (norm + 1e-6 / scale)
    if factor < 1:
        for p in found:
            g = p._grad
            if g is None:
                continue
            if factor > np.finfo(g.dtype).tiny:
                p._grad = np.asarray(g * factor)
            else:  # too small a number for this dtype, though the products are not
                p._grad = np.asarray(np.multiply(g, factor, dtype=np.float64)).astype(g.dtype)
    return scale * norm


def clip_grad_value(parameters: Parameters, limit: float) -> None:
    """Clip every entry of every gradient to ±limit.

    Raises:
        ValueError: the limit is not above 0.
        FloatingPointError: a gradient is not finite; the message names its parameter, and no gradient is
            changed.
    """
    if not limit > 0:
        raise ValueError(f"the limit is above 0, got {limit!r}.")
    found = trainable(parameters)
    _largest(found)
    for p in found:
        if p._grad is not None:
            p._grad = np.asarray(np.clip(p._grad, -limit, limit))


def _norm(parameters: list[Tensor]) -> tuple[float, float]:
    """(s, n) such that s·n is the norm. The scale s is 1 unless squares leave the range of float64."""
    gradients = [p._grad for p in parameters if p._grad is not None]
    with np.errstate(over="ignore", invalid="ignore"):
        total = sum(_sum_of_squares(g) for g in gradients)
    if 1e-200 < total < math.inf:
        return 1.0, math.sqrt(total)
    scale = _largest(parameters)
    if scale == 0:
        return 1.0, 0.0
    return scale, math.sqrt(sum(_sum_of_squares(g.astype(np.float64) / scale) for g in gradients))


def _sum_of_squares(g: Array) -> float:
    """Σ g² in float64, in pieces that stay in the cache."""
    flat, total = g.ravel(), 0.0
    for start in range(0, flat.size, 2**14):
        x = flat[start:start + 2**14].astype(np.float64, copy=False)
        total += float(x @ x)
    return total


def _largest(parameters: list[Tensor]) -> float:
    """The largest absolute value in all gradients, which are checked to be finite."""
    largest = 0.0
    for k, p in enumerate(parameters):
        g = p._grad
        if g is None or not g.size:
            continue
        top = max(float(np.max(g)), -float(np.min(g)))
        if not math.isfinite(top):
            name = f" {p.name!r}" if p.name else ""
            bad = f"{int(np.isnan(g).sum())} NaN and {int(np.isinf(g).sum())} infinite entries of {g.size}"
            raise FloatingPointError(
                f"the gradient of parameter {k}{name} of shape {p.shape} has {bad}; no gradient was changed. "
                "Skip this step with optimiser.zero_grad(), or find the cause with mg.anomaly_mode().")
        largest = max(largest, top)
    return largest

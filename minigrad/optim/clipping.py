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
    """√(Σ g²) over all entries of all gradients, computed in float64; parameters without a gradient count as
    0.

    Raises:
        FloatingPointError: a gradient is not finite; the message names its parameter.
    """
    scale, norm = _norm([g for _, g in _gradients(parameters)])
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
    found = _gradients(parameters)
    scale, norm = _norm([g for _, g in found])
    factor = max_norm / scale / (norm + 1e-6 / scale)
    if factor < 1:
        for p, g in found:
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
    for p, g in _gradients(parameters):
        p._grad = np.asarray(np.clip(g, -limit, limit))


def _gradients(parameters: Parameters) -> list[tuple[Tensor, Array]]:
    """Parameters and their gradients, all of them finite."""
    found = []
    for k, p in enumerate(trainable(parameters)):
        g = p._grad
        if g is None:
            continue
        if not math.isfinite(_largest(g)):
            name = f" {p.name!r}" if p.name else ""
            bad = f"{int(np.isnan(g).sum())} NaN and {int(np.isinf(g).sum())} infinite entries of {g.size}"
            raise FloatingPointError(
                f"the gradient of parameter {k}{name} of shape {p.shape} has {bad}; no gradient was changed. "
                "Skip this step with optimiser.zero_grad(), or find the cause with mg.anomaly_mode().")
        found.append((p, g))
    return found


def _largest(g: Array) -> float:
    """The largest absolute value, NaN if there is one."""
    return max(float(np.max(g)), -float(np.min(g))) if g.size else 0.0


def _norm(gradients: list[Array]) -> tuple[float, float]:
    """(s, n) such that s·n is the norm. The scale s is 1 unless squares would leave the range of float64."""
    largest = max(map(_largest, gradients), default=0.0)
    scale = 1.0 if largest == 0 or 1e-100 < largest < 1e100 else largest
    total = 0.0
    for g in gradients:
        x = g.ravel().astype(np.float64, copy=False)
        x = x if scale == 1 else x / scale
        total += float(x @ x)
    return scale, math.sqrt(total)

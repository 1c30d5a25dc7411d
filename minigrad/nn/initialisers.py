"""Initial values: functions `(shape, rng, ..., dtype=float32) -> ndarray`.

A matrix is used as `x @ W`, so its shape is (fan in, fan out), or (fan in, k · fan out) for k gates side by
side; a kernel is (filters, channels, height, width). Values are drawn as float64 and rounded, so that a
float32 and a float64 model made from the same seed agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Shape = Sequence[int]
Rng = np.random.Generator | int | None
"""A generator, which is used and moves on; a seed; or None for one that nobody can repeat."""


def fans(shape: Shape) -> tuple[int, int]:
    """(fan in, fan out) of a matrix (in, out) or of a kernel (filters, channels, height, width).

    Raises:
        ValueError: a shape with fewer than two axes has no fans.
    """
    if len(shape) < 2:
        raise ValueError(f"fans are those of a matrix (in, out) or a kernel, not of shape {tuple(shape)}.")
    if len(shape) == 2:
        return shape[0], shape[1]
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def uniform(shape: Shape, rng: Rng = None, bound: float = 0.08, dtype: DTypeLike = np.float32) -> Array:
    """Uniform in ±bound."""
    return np.random.default_rng(rng).uniform(-bound, bound, shape).astype(dtype)


def normal(shape: Shape, rng: Rng = None, std: float = 0.01, mean: float = 0.0,
           dtype: DTypeLike = np.float32) -> Array:
    """Normal with the given mean and standard deviation."""
    return np.random.default_rng(rng).normal(mean, std, shape).astype(dtype)


def xavier_uniform(shape: Shape, rng: Rng = None, gain: float = 1.0, dtype: DTypeLike = np.float32) -> Array:
    """Uniform with variance gain² · 2 / (fan in + fan out) (Glorot & Bengio 2010)."""
    return uniform(shape, rng, gain * math.sqrt(6 / max(sum(fans(shape)), 1)), dtype)


def xavier_normal(shape: Shape, rng: Rng = None, gain: float = 1.0, dtype: DTypeLike = np.float32) -> Array:
    """Normal with variance gain² · 2 / (fan in + fan out) (Glorot & Bengio 2010)."""
    return normal(shape, rng, gain * math.sqrt(2 / max(sum(fans(shape)), 1)), dtype=dtype)


def he_uniform(shape: Shape, rng: Rng = None, gain: float = 2 ** 0.5, dtype: DTypeLike = np.float32) -> Array:
    """Uniform with variance gain² / fan in; the default gain is for relu (He et al. 2015)."""
    return uniform(shape, rng, gain * math.sqrt(3 / max(fans(shape)[0], 1)), dtype)


def he_normal(shape: Shape, rng: Rng = None, gain: float = 2 ** 0.5, dtype: DTypeLike = np.float32) -> Array:
    """Normal with variance gain² / fan in; the default gain is for relu (He et al. 2015)."""
    return normal(shape, rng, gain * math.sqrt(1 / max(fans(shape)[0], 1)), dtype=dtype)


def orthogonal(shape: Shape, rng: Rng = None, blocks: int = 1, gain: float = 1.0,
               dtype: DTypeLike = np.float32) -> Array:
    """Orthogonal blocks side by side (Saxe et al. 2014), each uniformly distributed (Mezzadri 2007).

    Args:
        shape: (rows, blocks · columns). For square blocks WᵀW = gain² I; else the shorter side is
            orthonormal.
        rng: where the values come from.
        blocks: how many; the number of gates for a recurrent matrix (H, G·H).
        gain: factor on the whole.
        dtype: of the result.

    Raises:
        ValueError: not a matrix, or the columns are not divisible by `blocks`.
    """
    if len(shape) != 2 or blocks < 1 or shape[1] % blocks:
        raise ValueError(f"orthogonal takes (rows, blocks · columns), got {tuple(shape)}, {blocks} blocks.")
    rng = np.random.default_rng(rng)
    rows, columns = shape[0], shape[1] // blocks
    parts = []
    for _ in range(blocks):
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q = q * np.where(np.diagonal(r) < 0, -gain, gain)  # the signs make Q unique, and so uniform
        parts.append(q if rows >= columns else q.T)
    return np.ascontiguousarray(np.concatenate(parts, axis=1), dtype)


def zeros(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32) -> Array:
    """Zeros; `rng` is not used."""
    return np.zeros(shape, dtype)


def constant(shape: Shape, rng: Rng = None, value: float = 1.0, dtype: DTypeLike = np.float32) -> Array:
    """One value everywhere; `rng` is not used."""
    return np.full(shape, value, dtype)

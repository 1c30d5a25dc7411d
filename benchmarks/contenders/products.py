"""The floor: the matrix products of a step and nothing else, in NumPy, into arrays made beforehand.

The recurrent products run step by step; the weight gradients are one product each after the loop. An
engine can pass below this floor only by doing fewer products: with a vocabulary V smaller than B·T, say, the
V rows of the embedding can be projected once and gathered.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.problem import GATES, Array, Problem, Step


def make(problem: Problem) -> Step:
    """Nine products, two of them once per time step; the numbers are arbitrary, so there is no loss."""
    B, D, H, T, V = problem.shape
    G = GATES[problem.cell]
    random = np.random.default_rng(0)

    def array(*shape: int) -> Array:
        return random.standard_normal(shape, dtype=np.float32)

    W, U, O = problem.weight_ih, problem.weight_hh, problem.weight_out
    x, h, dz, dlogits = array(T * B, D), array(T, B, H), array(T, B, G * H), array(T * B, V)
    z, zh, y = array(T * B, G * H), array(B, G * H), array(T * B, V)
    dh, dy, dx = array(B, H), array(T * B, H), array(T * B, D)
    dW, dU, dO = array(D, G * H), array(H, G * H), array(H, V)
    hs, dzs = h.reshape(T * B, H), dz.reshape(T * B, G * H)
    matmul = np.matmul

    def step() -> tuple[Any, Any]:
        matmul(x, W, out=z)
        for h_t in h:
            matmul(h_t, U, out=zh)
        matmul(hs, O, out=y)
        matmul(dlogits, O.T, out=dy)
        matmul(hs.T, dlogits, out=dO)
        for dz_t in dz:
            matmul(dz_t, U.T, out=dh)
        matmul(hs.T, dzs, out=dU)
        matmul(dzs, W.T, out=dx)
        matmul(x.T, dzs, out=dW)
        return None, None

    return step

"""Attention: at each step, a mean of the source's outputs, weighted by how well each fits the present
state."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
from minigrad import Tensor
from minigrad.nn import Module, Parameter
from minigrad.nn import initialisers as init

from .cells import RandomSource

KINDS = ("dot", "general", "additive")


class Attention(Module):
    """For queries q_t and the source's outputs s_j:

        e_tj = score(q_t, s_j)
        α_t  = softmax(e_t) over j
        context_t = Σ_j α_tj s_j

        dot        score = q · s                        (Luong, Pham & Manning 2015)
        general    score = q W s                        (the same)
        additive   score = v · tanh(W q + U s)          (Bahdanau, Cho & Bengio 2015)

    Args:
        kind: "dot", "general" or "additive".
        query_size, source_size: widths of q and s; the same for "dot".
        size: the width of v, for "additive"; by default that of q.
        dtype: of the parameters.
        rng: for the initial values.

    `attention(query, outputs, keys, mask)` takes queries (batch, steps, query size), the outputs (batch,
    source, source size), `attention.keys(outputs)`, which is computed once per source, and the mask (batch,
    source) that is False at padding. It returns the contexts (batch, steps, source size) and α (batch, steps,
    source).

    Raises:
        ValueError: an unknown kind, or sizes that do not fit it.
    """

    def __init__(self, kind: str, query_size: int, source_size: int, size: int | None = None, *,
                 dtype: Any = np.float32, rng: RandomSource = None) -> None:
        if kind not in KINDS:
            raise ValueError(f"attention is one of {', '.join(map(repr, KINDS))}, not {kind!r}.")
        if kind == "dot" and query_size != source_size:
            raise ValueError(f"dot attention compares equal widths, not {query_size} and {source_size}; use "
                             "'general' or 'additive'.")
        rng = np.random.default_rng(rng)
        self.kind = kind
        if kind == "general":
            self.weight = _matrix(source_size, query_size, dtype, rng)
        elif kind == "additive":
            size = size or query_size
            self.weight = _matrix(query_size, size, dtype, rng)
            self.weight_source = _matrix(source_size, size, dtype, rng)
            self.v = Parameter(init.uniform((size,), rng, size ** -0.5, dtype=dtype), dtype=dtype)

    def keys(self, outputs: Tensor) -> Tensor:
        """What the scores need of the source, once for all steps."""
        if self.kind == "general":
            return outputs @ self.weight
        return outputs if self.kind == "dot" else outputs @ self.weight_source

    def forward(self, query: Tensor, outputs: Tensor, keys: Tensor,
                mask: Tensor | NDArray[np.bool_] | None = None) -> tuple[Tensor, Tensor]:
        if self.kind == "additive":
            q = query @ self.weight
            scores = mg.tanh(q[:, :, None] + keys[:, None]) @ self.v
        else:
            scores = query @ mg.swapaxes(keys, 1, 2)
        if mask is not None:
            scores = mg.where(mask[:, None], scores, -np.inf)
        weights = mg.softmax(scores)
        weights.name = "attention"
        return weights @ outputs, weights


def _matrix(rows: int, columns: int, dtype: Any, rng: np.random.Generator) -> Parameter:
    return Parameter(init.xavier_uniform((rows, columns), rng, dtype=dtype), dtype=dtype)

"""Dropout and penalties around recurrent layers, and masks kept on in evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

import minigrad as mg
from minigrad import Tensor
from minigrad.nn import Dropout, Embedding, Module

from ..cells import RandomSource
from .applied import given_mask, named_constant
from .scheme import probability

Array = NDArray[Any]


class LockedDropout(Module):
    """D(x) with one mask for all time steps of a sequence (Merity, Keskar & Socher 2018).

    Shapes: x (batch, time, features), mask (batch, 1, features).

    Args:
        p: the probability of dropping.
        rng: a Generator or seed for the masks.

    Attributes:
        mask: of the last call, or None.
        monte_carlo: keep dropping in evaluation.
    """

    monte_carlo: bool = False

    def __init__(self, p: float, rng: RandomSource = None) -> None:
        self.p = probability(p, "LockedDropout: p")
        self.rng = np.random.default_rng(rng)
        self.mask: Array | None = None

    def forward(self, x: Tensor, mask: ArrayLike | None = None) -> Tensor:
        self.mask = None
        if not self.p or not (self.training or self.monte_carlo):
            return x
        shape = (x.shape[0], 1, x.shape[2])
        self.mask = (mg.dropout_mask(shape, self.p, self.rng, x.dtype) if mask is None
                     else given_mask(mask, "mask", shape, x.dtype))
        return x * named_constant(self.mask, f"locked dropout mask p={self.p:g}")


class EmbeddingDropout(Module):
    """Dropout of word types: all occurrences of a symbol, or none (Gal & Ghahramani 2016).

        x_t = m[w_t]/k · W[w_t]

    Args:
        embedding: the vectors W, (V, D).
        p: the probability of dropping a symbol.
        per: a mask for each "sequence" of the batch, (batch, V), or one for the "call", (V).
        rng: a Generator or seed for the masks.

    Attributes:
        mask: of the last call, or None.
        monte_carlo: keep dropping in evaluation.
    """

    monte_carlo: bool = False

    def __init__(self, embedding: Embedding, p: float, *, per: Literal["sequence", "call"] = "sequence",
                 rng: RandomSource = None) -> None:
        if per not in ("sequence", "call"):
            raise ValueError(f"EmbeddingDropout: per is 'sequence' or 'call', not {per!r}.")
        self.embedding = embedding
        self.p = probability(p, "EmbeddingDropout: p")
        self.per = per
        self.rng = np.random.default_rng(rng)
        self.mask: Array | None = None

    @property
    def weight(self) -> Any:
        """W, for an output layer that shares it."""
        return self.embedding.weight

    def forward(self, ids: Any, mask: ArrayLike | None = None) -> Tensor:
        self.mask = None
        x: Tensor = self.embedding(ids)
        if not self.p or not (self.training or self.monte_carlo):
            return x
        ids = np.asarray(getattr(ids, "data", ids))
        shape = (len(self.weight),) if self.per == "call" else (len(ids), len(self.weight))
        self.mask = (mg.dropout_mask(shape, self.p, self.rng, x.dtype) if mask is None
                     else given_mask(mask, "mask", shape, x.dtype))
        chosen = self.mask[ids] if self.per == "call" else np.take_along_axis(self.mask, ids, axis=1)
        return x * named_constant(chosen[..., None], f"word dropout mask p={self.p:g}")


@contextmanager
def monte_carlo(module: Module) -> Iterator[Module]:
    """Context manager: dropout stays on in evaluation, in every part of `module`, recording or not.

        model.eval()
        with rnn.dropout.monte_carlo(model), mg.no_grad():
            p = sum(mg.softmax(model(x)[0]) for _ in range(50)) / 50
    """
    before: list[tuple[Module, str, bool]] = []
    for part in module.modules():
        flag = "training" if isinstance(part, Dropout) else "monte_carlo"
        if hasattr(part, flag):
            before.append((part, flag, getattr(part, flag)))
    try:
        for part, flag, _ in before:
            setattr(part, flag, True)
        yield module
    finally:
        for part, flag, value in before:
            setattr(part, flag, value)


def activation_regularisation(outputs: Tensor, alpha: float = 2.0) -> Tensor:
    """AR: α · mean(h²) of the dropped outputs, to be added to a loss (Merity, McCann & Socher 2017)."""
    return alpha * mg.mean(outputs ** 2)  # type: ignore[no-any-return]


def temporal_activation_regularisation(outputs: Tensor, beta: float = 1.0) -> Tensor:
    """TAR: β · mean((h_{t+1} - h_t)²) of the outputs before dropout, (batch, time, H), to be added to a loss.

    Merity, McCann & Socher (2017). Zero for a single step.
    """
    if outputs.shape[1] < 2:
        return 0.0 * mg.sum(outputs)  # type: ignore[no-any-return]
    return beta * mg.mean((outputs[:, 1:] - outputs[:, :-1]) ** 2)  # type: ignore[no-any-return]

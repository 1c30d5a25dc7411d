"""What every contender computes: the same training step, from the same numbers.

    embedding (V, D) → recurrent layer (D → H, one layer, T steps) → Linear (H → V) → mean cross-entropy
    over all B·T positions → the gradient of every parameter.    float32 throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
#: One full training step. Returns the loss and the embedding's gradient, the last thing that the backward
#: pass reaches, so that the contenders can be checked against each other.
Step = Callable[[], tuple[Any, Any]]

GATES = {"lstm": 4, "gru": 3, "rnn": 1}  # i f g o, r z n, and the plain tanh


class Shape(NamedTuple):
    """Sizes of one step, in the order that the tables print them."""

    batch: int
    input: int
    hidden: int
    time: int
    vocabulary: int

    def __str__(self) -> str:
        return ", ".join(map(str, self))


SHAPES = {
    "small": Shape(32, 65, 128, 64, 65),
    "online": Shape(1, 65, 100, 25, 65),
    "words": Shape(20, 100, 100, 35, 10_000),
    "medium": Shape(64, 128, 256, 64, 65),
    "large": Shape(64, 512, 512, 64, 65),
}


class NotAvailable(Exception):
    """This contender cannot run here, or not on this problem; the message says why."""


@dataclass
class Problem:
    """A shape, a cell ("lstm", "gru" or "rnn"), and the numbers: parameters as (inputs, outputs) matrices."""

    shape: Shape
    cell: str
    seed: int = 0
    ids: Array = field(init=False)  # (B, T) int64
    targets: Array = field(init=False)  # (B, T) int64
    embedding: Array = field(init=False)  # (V, D)
    weight_ih: Array = field(init=False)  # (D, G·H)
    weight_hh: Array = field(init=False)  # (H, G·H)
    bias: Array = field(init=False)  # (G·H)
    weight_out: Array = field(init=False)  # (H, V)
    bias_out: Array = field(init=False)  # (V)

    def __post_init__(self) -> None:
        B, D, H, T, V = self.shape
        G = GATES[self.cell]
        random = np.random.default_rng(self.seed)
        bound = H**-0.5

        def uniform(*shape: int) -> Array:
            return random.uniform(-bound, bound, shape).astype(np.float32)

        self.ids = random.integers(0, V, (B, T))
        self.targets = random.integers(0, V, (B, T))
        self.embedding = random.standard_normal((V, D), dtype=np.float32)
        self.weight_ih, self.weight_hh, self.bias = uniform(D, G * H), uniform(H, G * H), uniform(G * H)
        self.weight_out, self.bias_out = uniform(H, V), uniform(V)

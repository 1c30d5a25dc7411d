"""Dropout for recurrent networks: the six schemes of the literature, each a small class.

    lstm = rnn.LSTM(100, 200, dropout=rnn.dropout.Zoneout(cell=0.5, hidden=0.05))
    lstm = rnn.LSTM(100, 200, dropout=[rnn.dropout.WeightDrop(0.5), rnn.dropout.Variational(0.3, hidden=0)])

p is the probability of a zero, k = 1 - p, `·` the elementwise product, and D(v) = m·v/k with a mask m of
zeros (with probability p) and ones.

| scheme       | training                              | mask                       | evaluation             |
|--------------|---------------------------------------|----------------------------|------------------------|
| NonRecurrent | D(x) on the way up, never on h_{t-1}  | each step, unit, sample    | as it is               |
| RNNDrop      | c' = m·(f·c + i·g), not scaled        | once per sequence          | c·k, or the output ·k  |
| Variational  | W D(x) + U D(h), and D of the output  | once per sequence          | as it is               |
| WeightDrop   | (m·U/k) h                             | once per call, shape of U  | U                      |
| Recurrent    | c' = f·c + i·D(g)                     | each step, or per sequence | as it is               |
| Zoneout      | c' = z·c + (1-z)·c_new, h likewise    | each step, z = 1 is kept   | z is its probability   |

In evaluation every mask is replaced by its mean; for the scaled ones that is 1, and nothing is computed. To
keep the masks on (Monte-Carlo dropout) use `monte_carlo`. See docs/dropout.md for all equations.

The masks of a call are in `layer.masks` afterwards, and can be given to the next: `layer(x, masks=...)`. They
are drawn anew in each call, from the layer's own generator, before the loop over time starts.

A new scheme is one class: what to draw (`masks`), and the taps where it acts.

    class NoisyCandidate(Scheme):
        def __init__(self, p):
            self.p = p

        def masks(self, cell, bottom, top):
            return {"g": Mask(self.p, cell.hidden_size, "step")}

        def candidate(self, g, m):
            return m.times("g", g)
"""

from .around import (
    EmbeddingDropout,
    LockedDropout,
    activation_regularisation,
    monte_carlo,
    temporal_activation_regularisation,
)
from .scheme import Mask, Masks, Scheme
from .schemes import NonRecurrent, Recurrent, RNNDrop, Variational, WeightDrop, Zoneout

__all__ = [
    "EmbeddingDropout", "LockedDropout", "Mask", "Masks", "NonRecurrent", "RNNDrop", "Recurrent",
    "Scheme", "Variational", "WeightDrop", "Zoneout", "activation_regularisation", "monte_carlo",
    "temporal_activation_regularisation",
]

"""Truncated backpropagation through time, BPTT(k1, k2) (Williams & Peng 1990).

    every k1 steps of the sequence, go back through the last k2 of them

k1 = k2 is the usual cutting into chunks, `state = rnn.detach(state)`. There the first step of a chunk learns
nothing of what came before it; with k2 > k1 every step sees at least the k2 - k1 steps before it.

    window = rnn.TruncatedBPTT(model, k1=10, k2=40)
    for x, targets in chunks:                        # of k1 steps each
        loss = mg.cross_entropy(window(x), targets)  # the loss of the new steps only ...
        optimiser.zero_grad()
        loss.backward()                              # ... goes back through k2 steps
        optimiser.step()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg

from .layers import detach


class TruncatedBPTT:
    """Runs a recurrent model over a sequence, chunk by chunk, with gradients through the last k2 steps.

    With s_t the state after step t, and y_{t-k1+1} … y_t the outputs that a call returns,

        s_{t-k2} is a constant;      s_{τ+1}, y_{τ+1} = f(x_{τ+1}, s_τ)      for τ = t-k2 … t-1

    The steps before the new ones run again with the parameters as they are now, so that the gradient is the
    truncated one of the loss as it is returned, also when an optimiser has changed the parameters since.
    While fewer than k2 steps have been seen, gradients go back to the first. Dropout masks are drawn anew at
    each call.

    Args:
        forward: `forward(x, state) -> (y, state)`, a layer or a model that returns all steps; x and y have
            time as their second axis, and x is data: no gradient goes back to it.
        k1: how many new steps a call gets; the last one may get fewer.
        k2: how many steps gradients go back through, at least k1.
        state: before the first step; None for the model's own.

    Attributes:
        state: after the last step of the last call, as a constant.

    Raises:
        ValueError: not 1 <= k1 <= k2.
    """

    def __init__(self, forward: Callable[[Any, Any], tuple[Any, Any]], k1: int, k2: int,
                 state: Any = None) -> None:
        if not (isinstance(k1, int) and isinstance(k2, int) and 1 <= k1 <= k2):
            raise ValueError(f"truncated BPTT needs ints 1 <= k1 <= k2, got k1={k1!r}, k2={k2!r}.")
        self.forward = forward
        self.k1 = k1
        self.k2 = k2
        self.reset(state)

    def reset(self, state: Any = None) -> None:
        """Begin a new sequence, from `state`."""
        self.state = state if state is None else detach(state)
        self._start = self.state  # before the first step in _past
        self._past: Any = None

    def __call__(self, x: Any) -> Any:
        """The outputs of the new steps x (batch, up to k1, ...), whose graph goes back through k2 steps.

        Raises:
            ValueError: no new steps, or more than k1.
        """
        x = np.array(getattr(x, "data", x))  # kept for the calls to come: a copy
        new = x.shape[1]
        if not 1 <= new <= self.k1:
            raise ValueError(f"a call gets up to k1 = {self.k1} new steps, not {new}.")
        window = x if self._past is None else np.concatenate([self._past, x], axis=1)
        # The next window begins where this one has been cut: k2 steps before the end of the next chunk.
        cut = max(0, window.shape[1] + self.k1 - self.k2)
        state, outputs, start = self._start, [], self._start
        if cut:
            y, state = self.forward(window[:, :cut], state)
            outputs.append(y)
            start = detach(state)
        if cut < window.shape[1]:
            y, state = self.forward(window[:, cut:], state)
            outputs.append(y)
        self._start, self._past, self.state = start, window[:, cut:], detach(state)
        y = outputs[0] if len(outputs) == 1 else mg.concatenate(outputs, axis=1)
        return y[:, window.shape[1] - new:]

"""Two more ways to score a text: averaging over dropout masks, and learning from the text while it is read.

Plain evaluation, with carried state and dropout off, is `rnn.language_model.evaluate`. These two need what others tie
together: dropout in evaluation without gradients, and gradients in evaluation without dropout.
"""

from __future__ import annotations

import math

import numpy as np

import minigrad as mg
from minigrad.optim import SGD, Optimiser, clip_grad_norm

from .dropout import monte_carlo
from .language_model import LanguageModel, Score, State
from .layers import detach
from .text import Ids, windows


def evaluate_monte_carlo(model: LanguageModel, ids: Ids, samples: int = 10, batch_size: int = 1,
                         time_steps: int = 64) -> Score:
    """The score of the mean of the probabilities under `samples` dropout masks (Gal & Ghahramani 2016).

    Args:
        model: its masks are drawn anew for each window; each drawing carries a state of its own.
        ids: (n,) integers, laid out as in `evaluate`.
        samples: how many masks.

    Raises:
        ValueError: `samples` is less than 1.
        TextError: fewer than two ids.
    """
    if samples < 1:
        raise ValueError(f"Monte-Carlo evaluation needs at least one sample, got {samples}.")
    training = model.training
    total, symbols = 0.0, 0
    states: list[State | None] = [None] * samples
    model.eval()
    try:
        with mg.no_grad(), monte_carlo(model):
            for inputs, targets, first in windows(ids, batch_size, time_steps):
                found = []
                for k in range(samples):
                    logits, states[k] = model(inputs, None if first else states[k])
                    log_p = mg.log_softmax(logits).data.astype(np.float64)
                    found.append(np.take_along_axis(log_p, targets[..., None], -1)[..., 0])
                total -= float(np.sum(mg.logsumexp(np.stack(found), axis=0) - math.log(samples)))
                symbols += targets.size
    finally:
        model.train(training)
    return Score(total / symbols, symbols)


def evaluate_dynamic(model: LanguageModel, ids: Ids, lr: float = 0.1, max_norm: float | None = 0.25,
                     batch_size: int = 1, time_steps: int = 20, optimiser: Optimiser | None = None) -> Score:
    """The score when the model takes a gradient step on each window after predicting it (Mikolov et al. 2010).

    Every symbol is predicted before the model has learned from it. Dropout is off, and afterwards the model has the
    weights it had before.

    Args:
        model: the model.
        ids: (n,) integers, laid out as in `evaluate`.
        lr: learning rate of plain SGD.
        max_norm: the gradient's global norm is clipped to it; None for no clipping.
        time_steps: how often it learns.
        optimiser: used instead of SGD; its own state is left as the evaluation made it.

    Raises:
        FloatingPointError: a gradient is not finite; the weights are put back.
        TextError: fewer than two ids.
    """
    training = model.training
    before = model.state_dict()
    optimiser = optimiser or SGD(model.parameters(), lr)
    total, symbols = 0.0, 0
    state: State | None = None
    model.eval()
    model.zero_grad()
    try:
        for inputs, targets, first in windows(ids, batch_size, time_steps):
            loss, state = model.loss(inputs, targets, None if first or state is None else detach(state))
            total += loss.item() * targets.size
            symbols += targets.size
            loss.backward()
            if max_norm is not None:
                clip_grad_norm(optimiser.parameters, max_norm)
            optimiser.step()
            optimiser.zero_grad()
    finally:
        model.zero_grad()
        model.load_state_dict(before)
        model.train(training)
    return Score(total / symbols, symbols)

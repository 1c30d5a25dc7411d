"""MyGrad: the loop its users write, with its memory guard off, as its manual advises for speed."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.problem import NotAvailable, Problem, Step


def make(problem: Problem) -> Step:
    """LSTM only; the input of all steps is projected before the loop."""
    if problem.cell != "lstm":
        raise NotAvailable("only the LSTM is written for MyGrad")
    try:
        import mygrad
        from mygrad.nnet.activations import sigmoid
        from mygrad.nnet.losses import softmax_crossentropy
    except ImportError:
        raise NotAvailable("mygrad is not installed") from None
    mygrad.turn_memory_guarding_off()
    B, _, H, T, _ = problem.shape
    E, W, U, b, O, b_out = (
        mygrad.tensor(getattr(problem, name), copy=True)
        for name in ("embedding", "weight_ih", "weight_hh", "bias", "weight_out", "bias_out")
    )
    ids, targets = problem.ids, problem.targets.T.reshape(-1).copy()
    parameters = (E, W, U, b, O, b_out)

    def step() -> tuple[Any, Any]:
        for parameter in parameters:
            parameter.null_grad()
        x = mygrad.matmul(E[ids.T], W) + b
        h = c = np.zeros((B, H), np.float32)
        outputs = []
        for t in range(T):
            z = x[t] + mygrad.matmul(h, U)
            i, f = sigmoid(z[:, :H]), sigmoid(z[:, H : 2 * H])
            g, o = mygrad.tanh(z[:, 2 * H : 3 * H]), sigmoid(z[:, 3 * H :])
            c = f * c + i * g
            h = o * mygrad.tanh(c)
            outputs.append(h)
        logits = mygrad.matmul(mygrad.concatenate(outputs), O) + b_out
        loss = softmax_crossentropy(logits, targets)
        loss.backward()
        return loss.data, E.grad

    return step

"""HIPS autograd: the loop of its own LSTM example, a matrix per gate (its slices are slow)."""

from __future__ import annotations

from typing import Any

from benchmarks.problem import NotAvailable, Problem, Step


def make(problem: Problem) -> Step:
    """LSTM only, and only on shapes where a step takes less than about a second."""
    if problem.cell != "lstm":
        raise NotAvailable("only the LSTM is written for autograd")
    B, _, H, T, _ = problem.shape
    if B * T * H > 500_000:
        raise NotAvailable("too slow on this shape")
    try:
        import autograd.numpy as np
        from autograd import value_and_grad
    except ImportError:
        raise NotAvailable("autograd is not installed") from None
    ids, targets = problem.ids, problem.targets.T.reshape(-1)
    rows = np.arange(B * T)
    zeros = np.zeros((B, H), np.float32)
    split = [np.split(getattr(problem, name), 4, axis=-1) for name in ("weight_ih", "weight_hh", "bias")]
    gates = [tuple(array.copy() for array in gate) for gate in zip(*split)]  # i, f, g, o: (W, U, b)
    parameters = (problem.embedding, gates, problem.weight_out, problem.bias_out)

    def sigmoid(x: Any) -> Any:
        return 0.5 * np.tanh(0.5 * x) + 0.5

    def loss(parameters: Any) -> Any:
        E, gates, O, b_out = parameters
        h = c = zeros
        outputs = []
        for t in range(T):
            x = E[ids[:, t]]
            i, f, g, o = (np.dot(x, W) + np.dot(h, U) + b for W, U, b in gates)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        logits = np.dot(np.concatenate(outputs), O) + b_out
        m = logits.max(1, keepdims=True)
        log_z = np.log(np.sum(np.exp(logits - m), 1)) + m[:, 0]
        return np.mean(log_z - logits[rows, targets])

    compute = value_and_grad(loss)

    def step() -> tuple[Any, Any]:
        value, gradients = compute(parameters)
        return value, gradients[0]

    return step

"""JAX: `value_and_grad` of a `lax.scan`, under `jit`.

The input is projected inside the loop: on the CPU that ran faster than one product before it.
"""

from __future__ import annotations

from typing import Any

from benchmarks.problem import NotAvailable, Problem, Step


def make(problem: Problem) -> Step:
    """Compile the step; what is timed ends when the results are ready."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        raise NotAvailable("jax is not installed") from None
    B, _, H, _, _ = problem.shape
    sigmoid = jax.nn.sigmoid

    def lstm(p: Any, state: Any, x: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(x + h @ p["weight_hh"], 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        h = sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def gru(p: Any, state: Any, x: Any) -> Any:
        (h,) = state
        xr, xz, xn = jnp.split(x, 3, axis=-1)
        hr, hz, hn = jnp.split(h @ p["weight_hh"], 3, axis=-1)
        z = sigmoid(xz + hz)
        n = jnp.tanh(xn + sigmoid(xr + hr) * (hn + p["bias_hn"]))
        h = (1 - z) * n + z * h
        return (h,), h

    def rnn(p: Any, state: Any, x: Any) -> Any:
        h = jnp.tanh(x + state[0] @ p["weight_hh"])
        return (h,), h

    cell = {"lstm": lstm, "gru": gru, "rnn": rnn}[problem.cell]
    zeros = tuple(jnp.zeros((B, H), jnp.float32) for _ in range(2 if problem.cell == "lstm" else 1))

    def loss(p: Any, ids: Any, targets: Any) -> Any:
        def one(state: Any, x_t: Any) -> Any:
            return cell(p, state, x_t @ p["weight_ih"] + p["bias"])

        _, y = jax.lax.scan(one, zeros, p["embedding"][ids.T])  # time first, as scan wants it
        log_p = jax.nn.log_softmax(y @ p["weight_out"] + p["bias_out"])
        return -jnp.take_along_axis(log_p, targets.T[..., None], axis=-1).mean()

    names = ["embedding", "weight_ih", "weight_hh", "bias", "weight_out", "bias_out"]
    parameters = {name: jnp.asarray(getattr(problem, name)) for name in names}
    if problem.cell == "gru":
        parameters["bias_hn"] = jnp.zeros(H, jnp.float32)
    ids, targets = jnp.asarray(problem.ids), jnp.asarray(problem.targets)
    compiled = jax.jit(jax.value_and_grad(loss))

    def step() -> tuple[Any, Any]:
        value, gradients = jax.block_until_ready(compiled(parameters, ids, targets))
        return value, gradients["embedding"]

    return step

"""minigrad: the textbook cell, eagerly or compiled."""

from __future__ import annotations

from typing import Any

from benchmarks.problem import NotAvailable, Problem, Step


def make(problem: Problem, compiled: bool) -> Step:
    """`rnn.LSTM`, `rnn.GRU` or `rnn.RNN` between `nn.Embedding` and `nn.Linear`."""
    try:
        import minigrad as mg
        import rnn

        layer_class = {"lstm": rnn.LSTM, "gru": rnn.GRU, "rnn": rnn.RNN}[problem.cell]
    except (ImportError, AttributeError) as error:
        raise NotAvailable(f"not there yet: {error}") from None
    _, D, H, _, V = problem.shape
    embedding = mg.nn.Embedding(V, D)
    try:
        layer = layer_class(D, H, compiled=compiled)
    except (TypeError, NotImplementedError) as error:
        raise NotAvailable(f"not there yet: {error}") from None
    output = mg.nn.Linear(H, V)
    _assign(embedding, weight=problem.embedding)
    _assign(layer, weight_ih=problem.weight_ih, weight_hh=problem.weight_hh, bias=problem.bias, bias_hn=0.0)
    _assign(output, weight=problem.weight_out, bias=problem.bias_out)
    table = next(iter(embedding.parameters()))
    modules = (embedding, layer, output)

    def step() -> tuple[Any, Any]:
        for module in modules:
            module.zero_grad()
        y, _ = layer(embedding(problem.ids))
        loss = mg.cross_entropy(output(y), problem.targets)
        loss.backward()
        return loss.data, table.grad

    return step


def _assign(module: Any, **values: Any) -> None:
    """Set each parameter of `module` from the value whose name ends its dotted name."""
    for name, parameter in module.named_parameters():
        value = values[name.rpartition(".")[2]]
        array = parameter.data.copy()
        array[...] = value
        parameter.assign(array)

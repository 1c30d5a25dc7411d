"""PyTorch: its eager loop over a cell, and its hand-written layer."""

from __future__ import annotations

from typing import Any

from benchmarks.problem import NotAvailable, Problem, Step


def make_cells(problem: Problem) -> Step:
    """Embed the sequence, loop over `nn.LSTMCell` (GRUCell, RNNCell), stack, project."""
    torch = _torch()
    cell_class = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}[problem.cell]
    B, D, H, _, _ = problem.shape
    cell = cell_class(D, H)
    _load(cell, problem)
    lstm = problem.cell == "lstm"

    def run(x: Any) -> Any:
        h = torch.zeros(B, H)
        c = torch.zeros(B, H)
        outputs = []
        for x_t in x.unbind(1):
            if lstm:
                h, c = cell(x_t, (h, c))
            else:
                h = cell(x_t, h)
            outputs.append(h)
        return torch.stack(outputs, 1)

    return _step(torch, problem, cell, run)


def make_nn(problem: Problem) -> Step:
    """`nn.LSTM` (GRU, RNN): the whole loop in C++."""
    torch = _torch()
    layer_class = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[problem.cell]
    layer = layer_class(problem.shape.input, problem.shape.hidden, batch_first=True)
    _load(layer, problem)
    return _step(torch, problem, layer, lambda x: layer(x)[0])


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise NotAvailable("torch is not installed") from None
    return torch


def _load(module: Any, problem: Problem) -> None:
    """PyTorch keeps (outputs, inputs) matrices and two biases, in the gate order that `problem` has."""
    import torch

    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.startswith("bias_hh"):
                parameter.zero_()
            elif name.startswith("bias_ih"):
                parameter.copy_(torch.from_numpy(problem.bias))
            else:
                value = problem.weight_ih if name.startswith("weight_ih") else problem.weight_hh
                parameter.copy_(torch.from_numpy(value.T.copy()))


def _step(torch: Any, problem: Problem, recurrent: Any, run: Any) -> Step:
    V, H = problem.shape.vocabulary, problem.shape.hidden
    embedding = torch.nn.Embedding.from_pretrained(torch.from_numpy(problem.embedding.copy()), freeze=False)
    output = torch.nn.Linear(H, V)
    with torch.no_grad():
        output.weight.copy_(torch.from_numpy(problem.weight_out.T.copy()))
        output.bias.copy_(torch.from_numpy(problem.bias_out))
    ids, targets = torch.from_numpy(problem.ids), torch.from_numpy(problem.targets).reshape(-1)
    parameters = [*embedding.parameters(), *recurrent.parameters(), *output.parameters()]

    def step() -> tuple[Any, Any]:
        for parameter in parameters:
            parameter.grad = None
        logits = output(run(embedding(ids)))
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, V), targets)
        loss.backward()
        return loss.detach().numpy(), embedding.weight.grad.numpy()

    return step

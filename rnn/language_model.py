"""A language model: what comes next, given what came before.

    ids → embedding, or one-hot → recurrent layers → output → logits, one per symbol of the vocabulary

>>> model = LanguageModel(65, rnn.LSTM(65, 128))
>>> loss, state = model.loss(inputs, targets)            # mean nats per symbol
>>> loss, state = model.loss(more, targets, rnn.detach(state))
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad.nn import Embedding, Linear, Module, Parameter
from minigrad.nn import initialisers as init

from .cells import LSTMCell, RandomSource
from .layers import Recurrent
from .text import Ids, windows

State = tuple[Any, ...]


class LanguageModel(Module):
    """Predicts each next symbol of a text.

    Args:
        symbols: V, the size of the vocabulary.
        recurrent: the layers, with their dropout; their input size is `embedding`, or V for one-hot inputs.
        embedding: the size of the learned vectors, or None for one-hot inputs.
        tied: use the embedding matrix for the output too: one parameter, with one gradient (Press & Wolf
            2017, Inan et al. 2017). Needs an embedding as wide as the layers' output.
        rng: for the initial values.

    `model(ids, state=None)` takes ids (batch, time) and returns (logits (batch, time, V), state), with the
    state as the layers have it.

    Raises:
        ValueError: sizes that do not fit together, or layers that look ahead.
    """

    def __init__(self, symbols: int, recurrent: Recurrent, embedding: int | None = None, *, tied: bool = False,
                 rng: RandomSource = None) -> None:
        width = symbols if embedding is None else embedding
        if recurrent.input_size != width:
            inputs = "one-hot symbols have" if embedding is None else "the embedding has"
            raise ValueError(f"the layers take inputs of size {recurrent.input_size}, and {inputs} {width}")
        if recurrent.bidirectional or not recurrent.return_sequences or recurrent.stateful:
            raise ValueError("a language model needs layers that go forward only, return all steps, and are "
                             "given their state")
        if tied and embedding != recurrent.output_size:
            raise ValueError("tied weights need an embedding as wide as the layers' output: "
                             f"{recurrent.output_size}, not {embedding or 'one-hot inputs'}")
        rng = np.random.default_rng(rng)
        dtype = recurrent.dtype
        self.symbols = symbols
        self.embedding = None if embedding is None else Embedding(symbols, embedding, dtype=dtype, rng=rng)
        self.recurrent = recurrent
        self.output = None if tied else Linear(recurrent.output_size, symbols, dtype=dtype, rng=rng)
        self.output_bias = Parameter(np.zeros(symbols), dtype=dtype) if tied else None

    def forward(self, ids: Any, state: State | None = None) -> tuple[Tensor, State]:
        if self.embedding is None:
            x = mg.tensor(mg.one_hot(ids, self.symbols, dtype=self.recurrent.dtype), name="x")
        else:
            x = self.embedding(ids)
        h, state = self.recurrent(x, state)
        if self.output is not None:
            return self.output(h), state
        return mg.linear(h, self.embedding.weight.T, self.output_bias), state  # type: ignore[union-attr]

    def loss(self, inputs: Any, targets: Any, state: State | None = None) -> tuple[Tensor, State]:
        """Mean cross-entropy in nats of `targets` after `inputs`, both (batch, time); and the state."""
        logits, state = self(inputs, state)
        return mg.cross_entropy(logits, targets), state

    def initialise(self, bound: float, forget_bias: float | None = None, rng: RandomSource = None) -> None:
        """Draw every parameter uniformly from ±bound, biases too; then set the biases of the forget gates."""
        rng = np.random.default_rng(rng)
        for parameter in self.parameters():
            parameter.assign(init.uniform(parameter.shape, rng, bound, parameter.dtype))
        for cell in self.recurrent.cells if forget_bias is not None else ():
            if isinstance(cell, LSTMCell) and cell.bias is not None and "f" in cell.gates:
                bias, start = cell.bias.numpy(), cell.gates.index("f") * cell.hidden_size
                bias[start : start + cell.hidden_size] = forget_bias
                cell.bias.assign(bias)


class Score(NamedTuple):
    """How well a text was predicted: the mean nats per symbol, over so many symbols."""

    nats: float
    symbols: int

    @property
    def bits(self) -> float:
        """Bits per symbol: nats / ln 2."""
        return self.nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(nats): among how many equally likely symbols the model seems to choose."""
        return math.exp(self.nats) if self.nats < 700 else math.inf


def evaluate(model: LanguageModel, ids: Ids, batch_size: int = 1, time_steps: int = 64) -> Score:
    """The score of a model on ids (n,), each predicted from all before it in its row, with dropout off.

    The ids are cut into `batch_size` rows, each of which starts from a state of zeros: more rows are
    faster, and score a little worse. `time_steps` changes the memory needed, not the result.

    Raises:
        TextError: fewer than two ids.
    """
    training = model.training
    model.eval()
    total, symbols = 0.0, 0
    state: State | None = None
    try:
        with mg.no_grad(), np.errstate(all="ignore"):  # a model that has lost its numbers scores NaN
            for inputs, targets, first in windows(ids, batch_size, time_steps):
                loss, state = model.loss(inputs, targets, None if first else state)
                total += float(loss.data) * targets.size
                symbols += targets.size
    finally:
        model.train(training)
    return Score(total / symbols, symbols)

"""Two published training curves, reproduced: run this on the text of tiny-shakespeare (1 115 394 characters).

    python -m benchmarks.curves char-rnn TEXT         # two layers of LSTM-128; a few minutes an epoch at most
    python -m benchmarks.curves min-char-rnn TEXT     # one layer of RNN-100, one sequence at a time

`char-rnn` has the settings of Karpathy's program of that name; its validation loss stands beside the
published one. `min-char-rnn` has those of his hundred lines of NumPy: the loss of 25 characters, smoothed
as there. A single sequence at this learning rate is a bumpy road: after 10 000 iterations other seeds end
between 51 and 57 (`--seed 2` is one of the good ones); his own program scatters as widely over its first 2000.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np

import minigrad as mg
import rnn
from rnn.language_model import LanguageModel
from rnn.text import Batches, Ids, Vocabulary, read_corpus
from rnn.train import Trainer

PUBLISHED = {1: 2.146, 2: 1.851, 3: 1.691, 5: 1.539, 10: 1.425, 20: 1.387}  # nats per character after epochs


def char_rnn(text: str, epochs: int, cell: str, compiled: bool | str, seed: int) -> None:
    """Validation loss per epoch: two layers of 128 on one-hot characters, 50 sequences of 50 steps."""
    vocabulary = Vocabulary.from_text(text)
    train, valid = char_rnn_split(vocabulary.encode(text), 50, 50)
    V = len(vocabulary)
    kind = {"rnn": rnn.RNN, "lstm": rnn.LSTM, "gru": rnn.GRU}[cell]
    model = LanguageModel(V, kind(V, 128, 2, compiled=compiled))
    model.initialise(0.08, forget_bias=1.0, rng=seed)
    optimiser = mg.optim.RMSprop(model.parameters(), lr=2e-3, alpha=0.95)
    batches = Batches(train, 50, 50)
    # There the gradient is that of the sum over the 50 steps and here of the mean; RMSprop does not care,
    # clipping does.
    trainer = Trainer(model, optimiser, batches, clip_value=5.0 / 50, valid=valid,
                      schedule=mg.optim.ExponentialLR(optimiser, 0.97, start=10))
    size = sum(p.size for p in model.parameters())
    print(f"{V} symbols, {size:,} parameters, {len(batches)} steps an epoch, ln {V} = {math.log(V):.4f}")
    print("epoch   train   valid   published   difference   ms/step", flush=True)
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        losses = [trainer.step().loss for _ in range(len(batches))]
        ms = 1000 * (time.perf_counter() - start) / len(batches)
        nats = trainer.validate().nats
        known = PUBLISHED.get(epoch) if cell == "lstm" else None
        beside = f"{known:9.3f}   {nats - known:+10.3f}" if known else f"{'–':>9}   {'–':>10}"
        if epoch == 1:
            print(f"first batch: {losses[0]:.4f}")
        print(f"{epoch:5d} {sum(losses) / len(losses):7.3f} {nats:7.3f}   {beside} {ms:9.1f}", flush=True)


def char_rnn_split(ids: Ids, rows: int, steps: int) -> tuple[Ids, Ids]:
    """The text as 50 rows, of each of which the last 5 % are for validation, as char-rnn has it.

    (`rnn.text.split` holds out the end of the text, which in a collection of plays is another play.)
    """
    windows = len(ids) // (rows * steps)
    learn, hold = int(windows * 0.95) * steps, int(windows * 0.05) * steps
    table = ids[: rows * windows * steps].reshape(rows, -1)
    last = ids[-1:]  # a last target for the last row; each other row's is where the next one begins
    return np.append(table[:, :learn], last), np.append(table[:, learn : learn + hold], last)


def min_char_rnn(text: str, iterations: int, compiled: bool | str, seed: int) -> None:
    """Smoothed loss of 25 characters: one layer of 100, one sequence of 25 steps, Adagrad."""
    vocabulary = Vocabulary.from_text(text)
    V = len(vocabulary)
    model = LanguageModel(V, rnn.RNN(V, 100, compiled=compiled))
    rng = np.random.default_rng(seed)
    for parameter in model.parameters():  # as there: weights normal with a deviation of 0.01, biases zero
        std = 0.01 if parameter.ndim > 1 else 0.0
        parameter.assign(mg.nn.initialisers.normal(parameter.shape, rng, std))
    # There the loss is the sum over 25 characters and here the mean, so that limits on gradients are
    # divided by 25; and ε is 1e-8 below the root there, 1e-4 beside it.
    optimiser = mg.optim.Adagrad(model.parameters(), lr=0.1, eps=1e-4 / 25)
    trainer = Trainer(model, optimiser, Batches(vocabulary.encode(text), 1, 25), clip_value=5.0 / 25)
    smooth = 25 * math.log(V)
    print(f"iteration 0: {smooth:.2f} = 25 ln {V}")
    start = time.perf_counter()
    for k in range(1, iterations + 1):
        nats = 25 * trainer.step().loss
        smooth = 0.999 * smooth + 0.001 * nats
        if k == 1:
            print(f"first loss: {nats:.2f}")
        if k % max(1, iterations // 10) == 0:
            ms = 1000 * (time.perf_counter() - start) / k
            print(f"iteration {k}: {smooth:.2f}   {ms:.2f} ms/step", flush=True)


def main() -> None:
    """The command line."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("curve", choices=["char-rnn", "min-char-rnn"])
    parser.add_argument("text", help="file with the text")
    parser.add_argument("--epochs", type=int, default=5, help="of char-rnn (default 5; published up to 20)")
    parser.add_argument("--cell", choices=["rnn", "lstm", "gru"], default="lstm", help="of char-rnn")
    parser.add_argument("--iterations", type=int, default=10_000, help="of min-char-rnn (default 10000)")
    parser.add_argument("--compiled", choices=["auto", "yes", "no"], default="auto", help="the loop")
    parser.add_argument("--seed", type=int, default=123, help="of first values")
    a = parser.parse_args()
    text = read_corpus(a.text).text
    compiled = {"auto": "auto", "yes": True, "no": False}[a.compiled]
    if a.curve == "char-rnn":
        char_rnn(text, a.epochs, a.cell, compiled, a.seed)
    else:
        min_char_rnn(text, a.iterations, compiled, a.seed)


if __name__ == "__main__":
    main()

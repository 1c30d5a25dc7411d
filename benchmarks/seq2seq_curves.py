"""Exact-match accuracy per epoch of sequence-to-sequence models, beside the published one.

    python -m benchmarks.seq2seq_curves addition.txt date.txt          # files of lines `question_answer`
    python -m benchmarks.seq2seq_curves addition.txt --epochs 5 --models "reversed, peeky"

A file whose questions have a + is addition, any other is dates. The settings and the curves are those of
"Deep Learning from Scratch 2" (Saito 2018), chapters 7 and 8: embedding 16, batches of 128, Adam 1e-3,
gradients clipped to a norm of 5, 90 % for training, greedy decoding. Without a file, sums are made up.
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any

import numpy as np

import minigrad as mg
import rnn
from minigrad.environment import keep_memory
from rnn.pairs import PairBatches, Pairs, addition, read_pairs
from rnn.seq2seq import Seq2Seq

#: hidden size, epochs, and for each model its options and the published accuracy in % after some epochs
TASKS: dict[str, tuple[int, int, dict[str, tuple[dict[str, Any], dict[int, float]]]]] = {
    "addition": (128, 25, {
        "plain": ({}, {25: 12.0}),
        "reversed": ({"reverse": True}, {25: 54.0}),
        "reversed, peeky": ({"reverse": True, "peeky": True}, {25: 98.0}),
    }),
    "dates": (256, 10, {
        "reversed, attention": ({"reverse": True, "attention": "dot"}, {1: 0.0, 2: 51.8, 3: 99.9, 10: 100.0}),
    }),
}


def accuracy(model: Seq2Seq, data: Pairs, batch: int = 500) -> float:
    """How many of the questions are answered without a mistake, in %."""
    right = 0
    for k in range(0, len(data), batch):
        part = data[k:k + batch]
        width = part.answers.shape[1] - 1
        answers = model.answer(part.questions, data.start, width, data.end)
        right += sum(data.text(a) == data.text(b) for a, b in zip(answers, part.answers, strict=True))
    return 100 * right / len(data)


def train(name: str, data: Pairs, epochs: int | None, only: list[str] | None, compiled: bool | str) -> None:
    """Print the curve of each model of a task."""
    hidden, published_epochs, models = TASKS[name]
    training, test = data.split(0.9, rng=1984)
    print(f"{name}: {len(training):,} + {len(test):,} pairs, {len(data.vocabulary)} symbols, e.g. "
          f"{data.text(test.questions[0])!r} → {data.text(test.answers[0])!r}")
    for model_name, (options, published) in models.items():
        if only and model_name not in only:
            continue
        model = Seq2Seq.build(len(data.vocabulary), hidden, 16, layer=rnn.LSTM, compiled=compiled, rng=0,
                              **options)
        optimiser = mg.optim.Adam(model.parameters(), lr=1e-3)
        batches = PairBatches(training, 128, rng=0)
        print(f"\n{model_name}: {sum(p.size for p in model.parameters()):,} parameters\n"
              "epoch    loss   accuracy   published   ms/step", flush=True)
        for epoch in range(1, (epochs or published_epochs) + 1):
            start, losses = time.perf_counter(), []
            for batch in itertools.islice(batches, len(batches)):
                optimiser.zero_grad()
                loss = model.loss(batch.questions, batch.answers)
                loss.backward()
                mg.optim.clip_grad_norm(optimiser.parameters, 5.0)
                optimiser.step()
                losses.append(float(loss.data))
            took = 1000 * (time.perf_counter() - start) / len(batches)
            known = f"{published[epoch]:9.1f} %" if epoch in published else f"{'–':>11}"
            print(f"{epoch:5d} {np.mean(losses):7.4f} {accuracy(model, test):8.2f} % {known} {took:9.1f}",
                  flush=True)


def main() -> None:
    """The command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("files", nargs="*", help="files of lines question_answer")
    parser.add_argument("--epochs", type=int, help="by default as published: 25 for addition, 10 for dates")
    parser.add_argument("--models", nargs="*", help="only these, by the names that are printed")
    parser.add_argument("--compiled", choices=["auto", "yes", "no"], default="auto", help="the loop")
    a = parser.parse_args()
    keep_memory()
    compiled = {"auto": "auto", "yes": True, "no": False}[a.compiled]
    for pairs in [read_pairs(path) for path in a.files] or [addition(50_000, rng=0)]:
        name = "addition" if "+" in pairs[0][0] else "dates"
        train(name, Pairs.from_text(pairs), a.epochs, a.models, compiled)


if __name__ == "__main__":
    main()

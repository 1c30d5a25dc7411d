"""Exact-match accuracy per epoch of sequence-to-sequence models, beside the published one.

    python -m benchmarks.seq2seq_curves addition.txt date.txt          # files of lines `question_answer`
    python -m benchmarks.seq2seq_curves addition.txt --epochs 5 --models "reversed, peeky"
    python -m benchmarks.seq2seq_curves date.txt --save curves         # the same again goes on where it was

A file whose questions have a + is addition, any other is dates. The settings and the curves are those of
"Deep Learning from Scratch 2" (Saito 2018), chapters 7 and 8: embedding 16, batches of 128, Adam 1e-3,
gradients clipped to a norm of 5, 90 % for training, greedy decoding; first weights normal with deviation 1/√inputs,
those of embeddings 0.01, biases zero (`--start ours` takes minigrad's own). As in the book, the decoder of dates
gets the encoder's h, not its c. Without a file, sums are made up.
"""

from __future__ import annotations

import argparse
import itertools
import time
import zlib
from pathlib import Path
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
        "reversed, attention": ({"reverse": True, "attention": "dot", "carry_cell": False},
                                {1: 0.0, 2: 51.8, 3: 99.9, 10: 100.0}),
    }),
}


def start_as_published(model: Seq2Seq, rng: np.random.Generator) -> None:
    """First values of all parameters as the book's programs have them."""
    for name, parameter in model.named_parameters():
        shape = parameter.shape
        scale = 0.0 if len(shape) == 1 else 0.01 if "embedding" in name else shape[0] ** -0.5
        parameter.assign((scale * rng.standard_normal(shape)).astype(parameter.dtype))


def accuracy(model: Seq2Seq, data: Pairs, batch: int = 500) -> float:
    """How many of the questions are answered without a mistake, in %."""
    right = 0
    for k in range(0, len(data), batch):
        part = data[k:k + batch]
        width = part.answers.shape[1] - 1
        answers = model.answer(part.questions, data.start, width, data.end)
        right += sum(data.text(a) == data.text(b) for a, b in zip(answers, part.answers, strict=True))
    return 100 * right / len(data)


class Learner:
    """A model, its optimiser and its batches; what the next epoch depends on, and the curve so far."""

    def __init__(self, name: str, data: Pairs, options: dict[str, Any], compiled: bool | str, seed: int = 0,
                 published_start: bool = True) -> None:
        self.training, self.test = data.split(0.9, rng=1984)
        self.model = Seq2Seq.build(len(data.vocabulary), TASKS[name][0], 16, layer=rnn.LSTM, compiled=compiled,
                                   rng=seed, **options)
        if published_start:
            start_as_published(self.model, np.random.default_rng(seed))
        self.optimiser = mg.optim.Adam(self.model.parameters(), lr=1e-3)
        self.batches = PairBatches(self.training, 128, rng=seed)
        self.curve: list[list[float]] = []  # loss, accuracy in %, milliseconds and CPU milliseconds a step
        self._settings = repr((sorted(options.items()), seed, published_start))
        self._data = zlib.crc32(np.ascontiguousarray(np.hstack([data.questions, data.answers])).tobytes())

    def epoch(self) -> None:
        """Learn from every pair once; a point of the curve."""
        losses, start, cpu = [], time.perf_counter(), time.process_time()
        for batch in itertools.islice(self.batches, len(self.batches)):
            self.optimiser.zero_grad()
            loss = self.model.loss(batch.questions, batch.answers)
            loss.backward()
            mg.optim.clip_grad_norm(self.optimiser.parameters, 5.0)
            self.optimiser.step()
            losses.append(float(loss.data))
        took = [1000 * t / len(self.batches) for t in (time.perf_counter() - start, time.process_time() - cpu)]
        self.curve.append([float(np.mean(losses)), accuracy(self.model, self.test), *took])

    def save(self, path: Path) -> None:
        """Write all that the next epoch depends on."""
        mg.save(path, {"data": self._data, "settings": self._settings, "model": self.model.state_dict(),
                       "generators": self.model.generator_state(), "optimiser": self.optimiser.state_dict(),
                       "batches": self.batches.state_dict(), "curve": self.curve})

    def load(self, path: Path) -> None:
        """Go on from a file. Raises ValueError where it is of other pairs, another model or another start."""
        saved = mg.load(path)
        if saved["data"] != self._data:
            raise ValueError(f"{path} was learned from other pairs: give another folder")
        if saved.get("settings") != self._settings:
            raise ValueError(f"{path} was learned with other options, seed or first weights: give another folder")
        self.model.load_state_dict(saved["model"])
        self.model.load_generator_state(saved["generators"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.batches.load_state_dict(saved["batches"])
        self.curve = saved["curve"]


def train(name: str, data: Pairs, epochs: int | None, only: list[str] | None, folder: Path | None = None,
          **options: Any) -> None:
    """Print the curve of each model of a task; with a folder, from where an earlier call was."""
    _, published_epochs, models = TASKS[name]
    for model_name, (variant, published) in models.items():
        if only and model_name not in only:
            continue
        learner = Learner(name, data, variant, **options)
        path = None if folder is None else folder / f"{name}_{model_name.replace(', ', '_')}.npz"
        if path is not None and path.exists():
            learner.load(path)
        question, answer = data.text(learner.test.questions[0]), data.text(learner.test.answers[0])
        print(f"\n{name}, {model_name}: {len(learner.training):,} + {len(learner.test):,} pairs, "
              f"{len(data.vocabulary)} symbols, e.g. {question!r} → {answer!r}; "
              f"{sum(p.size for p in learner.model.parameters()):,} parameters\n"
              "epoch    loss   accuracy   published   ms/step    CPU ms", flush=True)
        for epoch in range(1, max(epochs or published_epochs, len(learner.curve)) + 1):
            if epoch > len(learner.curve):
                learner.epoch()
                if path is not None:
                    learner.save(path)
            loss, right, took, cpu = learner.curve[epoch - 1]
            known = f"{published[epoch]:9.1f} %" if epoch in published else f"{'–':>11}"
            print(f"{epoch:5d} {loss:7.4f} {right:8.2f} % {known} {took:9.1f} {cpu:9.1f}", flush=True)


def main() -> None:
    """The command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("files", nargs="*", help="files of lines question_answer")
    parser.add_argument("--epochs", type=int, help="by default as published: 25 for addition, 10 for dates")
    parser.add_argument("--models", nargs="*", help="only these, by the names that are printed")
    parser.add_argument("--compiled", choices=["auto", "yes", "no"], default="auto", help="the loop")
    parser.add_argument("--start", choices=["published", "ours"], default="published", help="first weights")
    parser.add_argument("--seed", type=int, default=0, help="of first weights and of the order of the batches")
    parser.add_argument("--save", type=Path, metavar="DIR", help="a folder for a file per model, written after each "
                                                                 "epoch, from which another call goes on bit for bit")
    a = parser.parse_args()
    keep_memory()
    compiled = {"auto": "auto", "yes": True, "no": False}[a.compiled]
    if a.save is not None:
        a.save.mkdir(parents=True, exist_ok=True)
    for pairs in [read_pairs(path) for path in a.files] or [addition(50_000, rng=0)]:
        name = "addition" if "+" in pairs[0][0] else "dates"
        train(name, Pairs.from_text(pairs), a.epochs, a.models, a.save, compiled=compiled, seed=a.seed,
              published_start=a.start == "published")


if __name__ == "__main__":
    main()

"""The progress of a training: one updating line on a terminal, a plain line every few seconds in a log.

step 1200/5000  epoch 2.4  loss 1.732 bits/char  val 1.81  |g| 0.93 (clipped 12%)  8k chars/s  eta 1:58
"""

from __future__ import annotations

import math
import os
import sys
import time
from contextlib import suppress
from typing import Any, TextIO

from tqdm import tqdm

from .text import Level
from .train import Plan, Step, Trainer

UNIT: dict[Level, str] = {"char": "char", "byte": "byte", "word": "word"}


def loss_text(nats: float, level: Level) -> str:
    """A loss in the unit that is usual for its level: `1.732 bits/char`, or `perplexity 134.2` for words."""
    if level == "word":
        return f"perplexity {math.exp(nats):,.1f}" if nats < 50 else "perplexity ∞"
    return f"{nats / math.log(2):.3f} bits/{UNIT[level]}"


def say(message: str) -> None:
    """A message on standard error."""
    write(message, sys.stderr)


def write(text: str, stream: TextIO) -> None:
    """A line on a stream, or nothing where nobody reads it any more or the disk is full: a training goes on without."""
    try:
        print(text, file=stream, flush=True)
    except OSError:
        leave(stream)


def leave(stream: TextIO) -> None:
    """Lead a stream that nobody reads any more to nowhere, so that Python does not complain at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Progress:
    """Shows each step. Messages go to `stream`, standard error unless given; a context manager that tidies
    up.

    Args:
        plan: how long the training is to be.
        level: of the text.
        every: seconds from one line to the next in a log.
        stream: where to.
    """

    def __init__(self, plan: Plan, level: Level, every: float = 5.0, stream: TextIO | None = None) -> None:
        self.plan = plan
        self.level = level
        self.stream = sys.stderr if stream is None else stream
        self.terminal = self.stream.isatty()
        self.every = 0.1 if self.terminal else every
        self.started = self.shown = time.monotonic()
        self.first_step: int | None = None
        self.symbols = 0
        self.loss = 0.0
        self.clipped = 0.0
        self.weight = 0.0  # of what has been averaged: 1 in the long run
        self.valid: float | None = None
        self.bar: tqdm[Any] | None = None
        if self.terminal:
            self.bar = tqdm(
                total=1.0, bar_format="{desc} |{bar:12}|", file=self.stream, leave=True, dynamic_ncols=True
            )

    def stepped(self, trainer: Trainer, step: Step) -> None:
        """One step more; shown when it is time."""
        now = time.monotonic()
        if self.first_step is None:  # the first, which may have had to compile, says nothing of the others
            self.first_step, self.started = trainer.steps, now
        else:
            self.symbols += trainer.batches.batch_size * trainer.batches.time_steps
        if not step.skipped:
            self.loss += 0.02 * (step.loss - self.loss)
            self.clipped += 0.02 * (step.clipped - self.clipped)
            self.weight += 0.02 * (1.0 - self.weight)
        if now - self.shown >= self.every:
            self.shown = now
            self._show(self.line(trainer, step, now), now, trainer)

    def line(self, trainer: Trainer, step: Step, now: float) -> str:
        """What to show after a step."""
        seconds = max(now - self.started, 1e-9)
        of = "" if self.plan.steps is None else f"/{self.plan.steps}"
        parts = [f"step {trainer.steps}{of}", f"epoch {trainer.epoch:.1f}"]
        if self.weight:
            parts.append(f"loss {loss_text(self.loss / self.weight, self.level)}")
        if self.valid is not None:
            parts.append(f"val {loss_text(self.valid, self.level).removeprefix('perplexity ').split()[0]}")
        parts.append(
            "step skipped: not finite"
            if step.skipped
            else f"|g| {step.norm:.2f}"
            + (f" (clipped {self.clipped / self.weight:.0%})" if self.weight else "")
        )
        if trainer.skipped:
            parts.append(f"{trainer.skipped} skipped")
        if self.symbols:
            parts.append(f"{_short(self.symbols / seconds)} {UNIT[self.level]}s/s")
        left = self._left(trainer, seconds)
        if left is not None:
            parts.append(f"eta {_clock(left)}")
        return "  ".join(parts)

    def say(self, message: str) -> None:
        """A message on a line of its own."""
        self._apart(message, self.stream)

    def text(self, text: str) -> None:
        """A text for standard output, between two showings of the line."""
        self._apart(text, sys.stdout)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def _apart(self, text: str, stream: TextIO) -> None:
        if self.bar is not None:
            self.bar.clear()
        write(text, stream)
        if self.bar is not None:
            self.bar.refresh()

    def _show(self, line: str, now: float, trainer: Trainer) -> None:
        if self.bar is None:
            write(line, self.stream)
            return
        left = self._left(trainer, now - self.started)
        self.bar.n = 0.0 if left is None else (now - self.started) / max(now - self.started + left, 1e-9)
        self.bar.set_description_str(line)

    def _left(self, trainer: Trainer, seconds: float) -> float | None:
        """Seconds until the plan is over, or None where it has no end."""
        ends = []
        if self.plan.seconds is not None:
            ends.append(self.plan.seconds - seconds)
        if self.plan.steps is not None and self.first_step is not None and trainer.steps > self.first_step:
            ends.append((self.plan.steps - trainer.steps) * seconds / (trainer.steps - self.first_step))
        return max(0.0, min(ends)) if ends else None


def _short(number: float) -> str:
    """8123 as 8.1k."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{letter}"
    return f"{number:.0f}"


def _clock(seconds: float) -> str:
    """118 as 1:58."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

"""Training a language model by truncated backpropagation through time.

`Trainer` is one step after the other, and all that a next step depends on; `fit` is the loop around it.
What is to be seen and kept of a training is the business of an `Observer`.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

import minigrad as mg
from minigrad.optim import Optimiser, PlateauLR, Schedule, clip_grad_norm, clip_grad_value, global_norm
from minigrad.tree import tree_map

from .language_model import LanguageModel, Score, State, evaluate
from .layers import detach
from .text import Batches, Ids

Period: TypeAlias = Literal["step", "epoch"]
NonFinite: TypeAlias = Literal["stop", "skip"]


class NonFiniteError(FloatingPointError):
    """The loss or a gradient was NaN or infinite. The parameters are those from before the step."""


class Step(NamedTuple):
    """What one step did: mean loss in nats, norm of the gradient before clipping, whether it was clipped or
    skipped.
    """

    loss: float
    norm: float
    clipped: bool
    skipped: bool


class Trainer:
    """Trains a model on a stream of windows, the state carried from each to the next.

    Args:
        model: what to train.
        optimiser: of its parameters.
        batches: the windows; an epoch begins with a state of zeros, or only the first one where they are `circular`.
        clip_norm: the largest global norm of the gradient, or None.
        clip_value: the largest absolute value of each entry of the gradient, or None; not both.
        schedule: of the optimiser's learning rate, or None; `PlateauLR` reads the validation loss.
        period: whether the schedule goes on with each step or each epoch.
        non_finite: what to do where the loss or a gradient is not finite: "stop" raises NonFiniteError,
            "skip" leaves the parameters as they are and goes on with the next window, from a state of
            zeros.
        valid: ids (n,) for validation, or None.

    Attributes:
        steps, skipped: how many were taken, and how many of these were skipped.
        best: the lowest validation loss so far, in nats.

    Raises:
        ValueError: settings that do not go together.
    """

    def __init__(
        self,
        model: LanguageModel,
        optimiser: Optimiser,
        batches: Batches,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        schedule: Schedule | None = None,
        period: Period = "epoch",
        non_finite: NonFinite = "stop",
        valid: Ids | None = None,
    ) -> None:
        if clip_norm is not None and clip_value is not None:
            raise ValueError("a gradient is clipped by its norm or by value, not both")
        if isinstance(schedule, PlateauLR) and valid is None:
            raise ValueError("a schedule that waits for a plateau needs a text for validation")
        self.model = model
        self.optimiser = optimiser
        self.batches = batches
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.schedule = schedule
        self.period = period
        self.non_finite = non_finite
        self.valid = valid
        self.state: State | None = None
        self.steps = 0
        self.skipped = 0
        self.best = float("inf")
        self._validated: tuple[int, Score] | None = None

    @property
    def epoch(self) -> float:
        """How often the text was gone through so far."""
        return self.batches.epoch

    def step(self) -> Step:
        """Learn from the next window.

        Raises:
            NonFiniteError: the loss or a gradient was not finite, if that is to stop the training. Nothing
                has changed then, so that the trainer can be saved.
        """
        place, generators = self.batches.state_dict(), self.model.generator_state()
        window = next(self.batches)
        state = None if window.first else self.state
        self.model.train()
        self.optimiser.zero_grad()
        try:
            with np.errstate(all="ignore"):  # what is not finite is found below, and said once
                loss, state = self.model.loss(window.inputs, window.targets, state)
                nats = float(loss.data)
                if not np.isfinite(nats):
                    raise FloatingPointError(f"the loss is {nats}")
                loss.backward()
            norm, clipped = self._clip()
        except FloatingPointError as error:
            self.optimiser.zero_grad()
            if self.non_finite == "stop":
                self.batches.load_state_dict(place)
                self.model.load_generator_state(generators)
                raise NonFiniteError(f"step {self.steps + 1}: {error}") from None
            self.state = None
            self.skipped += 1
            result = Step(float("nan"), float("nan"), False, True)
        else:
            with np.errstate(all="ignore"):  # an absurd rate shows in the next loss
                self.optimiser.step()
            self.state = detach(state)
            result = Step(nats, norm, clipped, False)
        self.steps += 1
        self._schedule()
        return result

    def _clip(self) -> tuple[float, bool]:
        """Clip the gradient; its norm before that, and whether it was changed."""
        parameters = self.optimiser.parameters
        if self.clip_norm is not None:
            norm = clip_grad_norm(parameters, self.clip_norm)
            return norm, norm > self.clip_norm
        norm = global_norm(parameters)
        if self.clip_value is None or norm <= self.clip_value:
            return norm, False
        limit = self.clip_value
        clipped = any(np.abs(p.grad).max() > limit for p in parameters if p.grad is not None)
        clip_grad_value(parameters, limit)
        return norm, clipped

    def _schedule(self) -> None:
        if self.schedule is not None and (
            self.period == "step" or self.batches.position % len(self.batches) == 0
        ):
            waits = isinstance(self.schedule, PlateauLR)
            self.schedule.step(self.validate().nats if waits else None)

    def validate(self) -> Score:
        """The score on the text for validation, computed once per step.

        Raises:
            ValueError: there is none.
        """
        if self.valid is None:
            raise ValueError("there is no text for validation")
        if self._validated is None or self._validated[0] != self.steps:
            self._validated = self.steps, evaluate(self.model, self.valid, *self._validation_layout())
        return self._validated[1]

    def _validation_layout(self) -> tuple[int, int]:
        """Rows and time steps: as in training, but rows so long that their beginnings hardly count."""
        assert self.valid is not None
        rows, length = self.batches.batch_size, self.batches.time_steps
        return max(1, min(rows, self.valid.size // (4 * length))), length

    # -- state ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on, as a tree for `mg.save`."""
        return {
            "steps": self.steps,
            "skipped": self.skipped,
            "best": self.best,
            "model": self.model.state_dict(),
            "generators": self.model.generator_state(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "batches": self.batches.state_dict(),
            "state": None if self.state is None else tree_map(lambda s: s.numpy(), self.state),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from where another trainer with the same settings was.

        Raises:
            ValueError: it does not fit; nothing is changed then.
        """
        before = self.state_dict()
        if saved.keys() != before.keys():
            raise ValueError(f"a saved training has {', '.join(before)}, and nothing else")
        try:
            self._assign(saved)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self._assign(before)
            raise ValueError(str(error) or f"the saved training does not fit: {error!r}") from error

    def _assign(self, saved: Mapping[str, Any]) -> None:
        if (self.schedule is None) != (saved["schedule"] is None):
            raise ValueError(
                "the saved training has "
                + ("a schedule, this one has none" if self.schedule is None else "no schedule, this one has")
            )
        self.batches.load_state_dict(saved["batches"])
        self.model.load_state_dict(saved["model"])
        self.model.load_generator_state(saved["generators"])
        self.optimiser.load_state_dict(saved["optimiser"])
        if self.schedule is not None:
            self.schedule.load_state_dict(saved["schedule"])
        self.state = None if saved["state"] is None else self._as_state(saved["state"])
        self.steps, self.skipped, self.best = int(saved["steps"]), int(saved["skipped"]), float(saved["best"])
        self._validated = None

    def _as_state(self, saved: Any) -> State:
        """Saved arrays as a state of the layers."""

        def constant(zero: mg.Tensor, value: Any) -> mg.Tensor:
            if value.shape != zero.shape or value.dtype != zero.dtype:
                raise ValueError(
                    f"the saved state has {value.dtype} {value.shape}, the layers {zero.dtype} {zero.shape}"
                )
            return mg.tensor(value)

        zeros = self.model.recurrent.initial_state(self.batches.batch_size)
        return tuple(tree_map(constant, zeros, saved))


# ----------------------------------------------------------------------------------------------------------
# The loop
# ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How long to train, and when to look.

    steps         in all, those of earlier calls included; None for no end.
    seconds       of this call, from the end of its first step, which may have had to compile; None for no end.
    valid_every   steps from one validation to the next.
    sample_every  steps from one sample to the next; 0 for none.
    log_every     steps whose mean makes one line of the metrics.
    save_seconds  the longest time between checkpoints, apart from those that follow each validation.
    """

    steps: int | None
    seconds: float | None = None
    valid_every: int = 1000
    sample_every: int = 0
    log_every: int = 10
    save_seconds: float = 60.0


class CosineToTheEnd(Schedule):
    """From `base` to 0 along half a cosine, however the training ends: by its steps or by its time.

        base · (1 + cos(π · progress)) / 2,      progress from 0 to 1

    `fit` sets the progress, to the part of the plan that is done. Where time decides, no two trainings are the same.
    """

    saved = ("base", "steps", "progress")

    def __init__(self, optimiser: Optimiser) -> None:
        super().__init__(optimiser)
        self.progress = 0.0

    def rate(self, steps: int) -> float:
        return self.base * 0.5 * (1.0 + math.cos(math.pi * min(self.progress, 1.0)))


class Observer:
    """Is told what happens in `fit`. This one does nothing."""

    def stepped(self, trainer: Trainer, step: Step) -> None:
        """After each step."""

    def measured(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """A line of metrics, of JSON types."""

    def save(self, trainer: Trainer, best: bool) -> None:
        """Time for a checkpoint; `best` where the validation loss is the lowest so far."""

    def sample(self, trainer: Trainer) -> None:
        """Time for a sample."""


class Interrupts:
    """While it is entered, the first SIGINT or SIGTERM is only noted; a second one ends the program as usual.

    Attributes:
        received: the signal, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(ValueError):  # only the main thread gets signals
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _note(self, number: int, frame: object) -> None:
        self.received = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())


class _Average:
    """The mean of what was met since the last line of the metrics."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def record(self, trainer: Trainer, seconds: float) -> dict[str, Any]:
        """A line of metrics; forgets the steps in it."""
        good = [s for s in self.steps if not s.skipped]
        line: dict[str, Any] = {"step": trainer.steps, "epoch": round(trainer.epoch, 4)}
        if good:
            line |= {
                "loss": sum(s.loss for s in good) / len(good),
                "norm": sum(s.norm for s in good) / len(good),
                "clipped": sum(s.clipped for s in good) / len(good),
            }
        line |= {"skipped": trainer.skipped, "lr": trainer.optimiser.lr, "seconds": round(seconds, 3)}
        self.steps = []
        return line


def fit(
    trainer: Trainer,
    plan: Plan,
    observer: Observer,
    interrupts: Interrupts | None = None,
    seconds_before: float = 0.0,
) -> str:
    """Train as planned, with a checkpoint at the end however it ends.

    Args:
        trainer: is changed.
        plan: how long.
        observer: is told.
        interrupts: ends the training after the present step once it has received a signal.
        seconds_before: what earlier calls took, for the metrics.

    Returns:
        Why it ended: "steps", "seconds" or the name of a signal.

    Raises:
        NonFiniteError: see `Trainer`; a checkpoint from before the step has been saved, unless the model was
            no good then either.
    """
    started = saved = time.monotonic()
    began: float | None = None  # when the first step was done
    average, complete = _Average(), -1  # the step whose metrics and checkpoint are written

    def over() -> str:
        if interrupts is not None and interrupts.received is not None:
            return interrupts.received.name
        if plan.steps is not None and trainer.steps >= plan.steps:
            return "steps"
        return "seconds" if plan.seconds is not None and elapsed() >= plan.seconds else ""

    def elapsed() -> float:
        return -math.inf if began is None else time.monotonic() - began

    def measure(validate: bool) -> bool:
        """Write a line of metrics, with validation or without; whether that is the best so far."""
        line = average.record(trainer, seconds_before + time.monotonic() - started)
        best = False
        if validate and trainer.valid is not None:
            nats = trainer.validate().nats
            if np.isfinite(nats):
                line["valid"] = nats
            best = nats < trainer.best
            trainer.best = nats if best else trainer.best
        observer.measured(trainer, line)
        return best

    def progress() -> float:
        """The part of the plan that the coming step completes."""
        parts = [0.0]
        if plan.steps is not None:
            parts.append((trainer.steps + 1) / plan.steps)
        if plan.seconds is not None:
            parts.append(elapsed() / max(plan.seconds, 1e-9))
        return max(parts)

    while not (why := over()):
        if isinstance(trainer.schedule, CosineToTheEnd):
            trainer.schedule.progress = progress()
        try:
            step = trainer.step()
        except NonFiniteError:
            if all(np.isfinite(p.data).all() for p in trainer.model.parameters()):
                observer.save(trainer, False)
            raise
        began = time.monotonic() if began is None else began
        average.steps.append(step)
        observer.stepped(trainer, step)
        look = trainer.steps % plan.valid_every == 0
        best = measure(validate=look) if look or trainer.steps % plan.log_every == 0 else False
        # before the checkpoint of this step, for who goes on from there does not come by here again
        if plan.sample_every and trainer.steps % plan.sample_every == 0:
            observer.sample(trainer)
        if look or time.monotonic() - saved > plan.save_seconds:
            observer.save(trainer, best)
            saved = time.monotonic()
            complete = trainer.steps if look else complete
    if trainer.steps != complete:  # who interrupts does not want to wait for a validation
        observer.save(trainer, measure(validate=why in ("steps", "seconds")))
    return why

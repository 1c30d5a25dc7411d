"""Schedules of the learning rate. Call `schedule.step()` after every epoch (or step): it sets
`optimiser.lr`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from .optimisers import Optimiser, not_negative


class Schedule:
    """A learning rate that depends on how often `step` was called.

    Attributes:
        base: the learning rate of the optimiser when the schedule was made.
        steps: how often `step` was called.
    """

    saved: ClassVar[tuple[str, ...]] = ("base", "steps")
    """The attributes that change or depend on the optimiser; the settings are given again when resuming."""

    def __init__(self, optimiser: Optimiser) -> None:
        self.optimiser = optimiser
        self.base = optimiser.lr
        self.steps = 0

    def rate(self, steps: int) -> float:
        """The learning rate after so many steps."""
        raise NotImplementedError

    def step(self, metric: float | None = None) -> float:
        """Set the optimiser's learning rate for what comes next, and return it. Only `PlateauLR` reads the
        metric."""
        self.steps += 1
        self.optimiser.lr = self.rate(self.steps)
        return self.optimiser.lr

    def state_dict(self) -> dict[str, Any]:
        """Numbers only. The learning rate itself is saved with the optimiser."""
        return {"kind": type(self).__name__, **{name: getattr(self, name) for name in self.saved}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()` of a schedule with the same settings.

        Raises:
            ValueError: it is of another class; nothing is changed then.
        """
        if not isinstance(state, Mapping) or state.keys() != {"kind", *self.saved}:
            raise ValueError(f"this is not the state of a {type(self).__name__}.")
        if state["kind"] != type(self).__name__:
            raise ValueError(f"this is the state of {state['kind']}, not of {type(self).__name__}.")
        for name in self.saved:
            if isinstance(state[name], bool) or not isinstance(state[name], (int, float)):
                raise ValueError(f"{name!r} in the state of {type(self).__name__} is not a number.")
        for name in self.saved:
            setattr(self, name, state[name])


class StepLR(Schedule):
    """base · factor^⌊steps / every⌋

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(self, optimiser: Optimiser, every: int, factor: float = 0.1) -> None:
        super().__init__(optimiser)
        if every < 1:
            raise ValueError(f"every is at least 1, got {every!r}.")
        self.every, self.factor = every, not_negative("factor", factor)

    def rate(self, steps: int) -> float:
        return self.base * self.factor ** (steps // self.every)


class ExponentialLR(Schedule):
    """Multiplied by `factor` at every step from number `start` on: base · factor^max(0, steps - start + 1).

    "Decay 0.97 from epoch 10" is `factor=0.97, start=10`: ten epochs at the base rate, the eleventh at 0.97
    of it.

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(self, optimiser: Optimiser, factor: float, start: int = 1) -> None:
        super().__init__(optimiser)
        if start < 1:
            raise ValueError(f"steps are counted from 1, so start is at least 1, got {start!r}.")
        self.factor, self.start = not_negative("factor", factor), start

    def rate(self, steps: int) -> float:
        return self.base * self.factor ** max(0, steps - self.start + 1)


class CosineLR(Schedule):
    """From `base` to `minimum` along half a cosine (Loshchilov & Hutter 2017), after a linear warm-up.

        base · (steps + 1) / warmup                                     while steps < warmup
        minimum + (base - minimum) · (1 + cos(π · progress)) / 2        after it, progress from 0 to 1 at
        `total`

    Making it sets the optimiser's learning rate to the first one.

    Args:
        optimiser: whose learning rate to set.
        total: after how many steps the minimum is reached, warm-up included.
        warmup: how many steps the warm-up has; 0 for none.
        minimum: the last learning rate.

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(self, optimiser: Optimiser, total: int, warmup: int = 0, minimum: float = 0.0) -> None:
        super().__init__(optimiser)
        if not 0 <= warmup < total:
            raise ValueError(f"the warm-up lies in 0 … total - 1, got {warmup!r} of {total!r}.")
        self.total, self.warmup, self.minimum = total, warmup, not_negative("minimum", minimum)
        optimiser.lr = self.rate(0)

    def rate(self, steps: int) -> float:
        if steps < self.warmup:
            return self.base * (steps + 1) / self.warmup
        progress = min((steps - self.warmup) / (self.total - self.warmup), 1.0)
        return self.minimum + (self.base - self.minimum) * 0.5 * (1.0 + math.cos(math.pi * progress))


class PlateauLR(Schedule):
    """Multiplied by `factor` when the metric, which should fall, has not fallen for more than `patience`
    steps.

    A NaN counts as not having fallen.

    Args:
        optimiser: whose learning rate to set.
        factor: in (0, 1); 0.25 is "a quarter when validation stops improving".
        patience: how many steps without improvement to let pass.
        threshold: by how much the metric must fall below the best so far.
        minimum: the learning rate does not go below it.

    Raises:
        ValueError: a setting is out of its range.
    """

    saved = ("base", "steps", "best", "waited")

    def __init__(self, optimiser: Optimiser, factor: float = 0.25, patience: int = 0, threshold: float = 0.0,
                 minimum: float = 0.0) -> None:
        super().__init__(optimiser)
        if not 0 < factor < 1:
            raise ValueError(f"factor lies in (0, 1), got {factor!r}.")
        self.factor, self.patience = factor, int(not_negative("patience", patience))
        self.threshold, self.minimum = not_negative("threshold", threshold), not_negative("minimum", minimum)
        self.best, self.waited = math.inf, 0

    def step(self, metric: float | None = None) -> float:
        if metric is None:
            raise ValueError("PlateauLR.step(metric) needs the metric: schedule.step(validation_loss).")
        self.steps += 1
        self.waited += 1
        if metric < self.best - self.threshold:
            self.best, self.waited = float(metric), 0
        elif self.waited > self.patience:
            self.optimiser.lr = min(self.optimiser.lr, max(self.optimiser.lr * self.factor, self.minimum))
            self.waited = 0
        return self.optimiser.lr

"""Batches: parallel rows of a text, a window of time steps after the other."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .checks import TextError, checked_whole
from .vocabulary import Ids, as_ids

SHORTEN = "give more text, a smaller batch or fewer time steps"


class Window(NamedTuple):
    """A stretch of some parallel rows of a text, one beside the other.

    inputs   int64 of shape (batch, time).
    targets  the same, one symbol further on: what is to be predicted from the inputs.
    first    True where the rows begin: the carried state is to be reset, to one of this batch size.
    """

    inputs: Ids
    targets: Ids
    first: bool


def split(
    ids: Ids, fractions: Sequence[float] = (0.95, 0.05), *, batch_size: int = 1, time_steps: int = 1
) -> tuple[Ids, ...]:
    """Cut ids of shape (n,) into contiguous parts: for training, validation and, with three fractions, test.

    The parts are views. Raises TextError where fractions are not positive or do not sum to 1, and where a
    part is too short for a window: of `batch_size` × `time_steps` the first, of 1 × `time_steps` the others.
    """
    ids = as_ids(ids)
    batch_size, time_steps = checked_whole("batch_size", batch_size, 1), checked_whole("time_steps", time_steps, 1)
    if not all(f > 0 for f in fractions) or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise TextError(f"the fractions of a split are positive and sum to 1, unlike {tuple(fractions)}")
    ends = [round(ids.size * sum(fractions[:i])) for i in range(1, len(fractions))] + [ids.size]
    parts = tuple(ids[start:end] for start, end in zip([0, *ends], ends))
    for i, part in enumerate(parts):
        rows = batch_size if i == 0 else 1
        if part.size < rows * time_steps + 1:
            name = ("training", "validation", "test")[i] if i < 3 else f"part {i + 1}"
            raise TextError(
                f"the text is too short: {part.size:,} of its {ids.size:,} symbols are for {name}, and "
                f"a window of {rows} × {time_steps} needs {rows * time_steps + 1:,}; {SHORTEN}"
            )
    return parts


class Batches(Iterator[Window]):
    """The endless stream of windows for truncated backpropagation through time.

    The ids, of shape (n,), are laid out as `batch_size` contiguous rows, and the windows of `time_steps` go
    along all rows at once, so that the state after one window is the state before the next. The ids at the
    end that do not fill a window of all rows, at most batch_size × time_steps, are not used. After the last
    window of an epoch comes the first again, with `first` set. A batch of 1 is one walk along the text.

        for window in itertools.islice(batches, len(batches)): ...      # one epoch

    With `circular` the text is a circle: the rows begin at equal distances, and each of them goes on where the
    next one began, the last where the first did. No id is left out, and only the very first window has `first`
    set: the state is never reset. An epoch has as many windows as without.

    `len(batches)` is the number of windows in an epoch, `batches.position` that of the windows given so far.
    Raises TextError where the text is too short for a single window.
    """

    def __init__(self, ids: Ids, batch_size: int, time_steps: int, *, circular: bool = False) -> None:
        ids = self._ids = as_ids(ids)
        batch_size = self.batch_size = checked_whole("batch_size", batch_size, 1)
        time_steps = self.time_steps = checked_whole("time_steps", time_steps, 1)
        self.circular = circular
        self.position = 0
        self._length = (ids.size - 1) // (batch_size * time_steps)
        if self._length < 1:
            raise TextError(
                f"the text is too short: it has {ids.size:,} symbols, and a window of "
                f"{batch_size} × {time_steps} needs {batch_size * time_steps + 1:,}; {SHORTEN}"
            )
        apart = (ids.size - 1) // batch_size if circular else self._length * time_steps
        self._places = apart * np.arange(batch_size)[:, None] + np.arange(time_steps)  # of the first inputs
        self._checksum = zlib.crc32(ids.tobytes())

    def __len__(self) -> int:
        return self._length

    def __next__(self) -> Window:
        step = self.position if self.circular else self.position % self._length
        pairs = self._ids.size - 1  # of an input and its target
        inputs = (self._places + step * self.time_steps % pairs) % pairs
        self.position += 1
        return Window(self._ids[inputs], self._ids[inputs + 1], step == 0)

    @property
    def epoch(self) -> float:
        """How often the text was gone through so far."""
        return self.position / self._length

    def state_dict(self) -> dict[str, int]:
        """Where the stream is, and what it must be the stream of."""
        return {"position": self.position, **self._layout()}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go to where another stream of the same text and shape was. Raises TextError for any other state."""
        if state.keys() != self.state_dict().keys():
            raise TextError(f"a saved place in a text has {', '.join(self.state_dict())}, and nothing else")
        position = checked_whole("the saved position", state["position"], 0)
        for name, here in self._layout().items():
            if state[name] != here:
                raise TextError(
                    f"the saved place is in another text or layout: {name} {state[name]!r}, not {here!r}; "
                    "go on with the same text, batch size and time steps, or begin a new run"
                )
        self.position = position

    def _layout(self) -> dict[str, int]:
        return {
            "batch_size": self.batch_size,
            "time_steps": self.time_steps,
            "windows": self._length,
            "checksum": self._checksum,
            **({"circular": 1} if self.circular else {}),
        }


def windows(ids: Ids, batch_size: int, time_steps: int) -> Iterator[Window]:
    """The windows of one pass for evaluation: each symbol after the first is a target exactly once.

    ids of shape (n,) are laid out as `batch_size` rows of equal length, whose last window may be shorter than
    `time_steps`; the fewer than `batch_size` targets that are left come last, as one row that starts anew.
    A batch of 1 is a single walk along the text: the perplexity without any break.
    Raises TextError, at the call, for fewer than two ids.
    """
    ids = as_ids(ids)
    if ids.size < 2:
        raise TextError("the text is too short to evaluate: it needs two symbols at least")
    return _windows(ids, checked_whole("batch_size", batch_size, 1), checked_whole("time_steps", time_steps, 1))


def _windows(ids: Ids, batch_size: int, time_steps: int) -> Iterator[Window]:
    length = (ids.size - 1) // batch_size
    used = batch_size * length
    inputs, targets = (ids[k : used + k].reshape(batch_size, length) for k in (0, 1))
    for start in range(0, length, time_steps):
        now = slice(start, start + time_steps)
        yield Window(inputs[:, now].copy(), targets[:, now].copy(), start == 0)
    if used < ids.size - 1:
        yield from _windows(ids[used:], 1, time_steps)

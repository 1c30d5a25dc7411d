"""Pairs of a question and its answer, as fixed-width character ids: what a sequence-to-sequence model learns
from.

    pairs = read_pairs("addition.txt")         # lines `16+75  _91  `; or made: addition(50_000, rng=0)
    data = Pairs.from_text(pairs)
    train, test = data.split(0.9, rng=0)
    batches = PairBatches(train, 128, rng=1)
    for batch in itertools.islice(batches, len(batches)): ...      # batch.questions, batch.answers
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .text import Ids, TextError, Vocabulary

PAD = " "  # fills what is shorter than the longest, and so ends an answer
START = "_"  # stands between question and answer in a file, and is the first symbol of every answer

MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
FIRST_DAY = datetime.date(1970, 1, 1)

Rng = np.random.Generator | int | None


def read_pairs(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """The pairs of a file with a line `question_answer` each, without the blanks at their ends.

    Raises:
        TextError: the file cannot be read, or a line is no such pair; the message names the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"cannot read {os.fspath(path)}: {error}") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        parts = [part.rstrip(PAD) for part in line.split(START)]
        if len(parts) != 2 or not all(parts):
            place = f"line {number} of {os.fspath(path)}"
            raise TextError(f"{place} is no question{START}answer: {line[:60]!r}")
        pairs.append((parts[0], parts[1]))
    return pairs


def addition(number: int, digits: int = 3, rng: Rng = None) -> list[tuple[str, str]]:
    """Different sums of two numbers, such as ("52+607", "659").

    Each number is drawn from those below 10, 100, … or 10^digits, one as likely as the other.

    Raises:
        ValueError: there are not so many.
    """
    largest = 10 ** digits
    if not 0 < number <= largest ** 2 // 2:
        raise ValueError(f"with {digits} digits up to {largest ** 2 // 2} sums are drawn, not {number!r}.")
    rng = np.random.default_rng(rng)
    found: dict[tuple[int, int], None] = {}
    while len(found) < number:
        limits = 10 ** rng.integers(1, digits + 1, (number, 2))
        found |= dict.fromkeys((int(a), int(b)) for a, b in rng.integers(0, limits))
    return [(f"{a}+{b}", str(a + b)) for a, b in list(found)[:number]]


def dates(number: int, rng: Rng = None) -> list[tuple[str, str]]:
    """Different ways to write a date from 1970 to 2017, such as ("march 7, 1995", "1995-03-07").

    A quarter each: 3/7/95; Mar 7, 1995; March 7, 1995; Tuesday, March 7, 1995. Half of the words are capitalised, and a
    quarter each in small and in capital letters.

    Raises:
        ValueError: there are not so many.
    """
    days = (datetime.date(2018, 1, 1) - FIRST_DAY).days
    if not 0 < number <= 4 * days:
        raise ValueError(f"up to {4 * days} dates are drawn, not {number!r}.")
    rng = np.random.default_rng(rng)
    found: dict[tuple[str, str], None] = {}
    while len(found) < number:
        for day, form, case in rng.integers(0, (days, 4, 4), (number, 3)).tolist():
            d = FIRST_DAY + datetime.timedelta(day)
            month = MONTHS[d.month - 1]
            written = (f"{d.month}/{d.day}/{d.year % 100:02}", f"{month[:3]} {d.day}, {d.year}",
                       f"{month} {d.day}, {d.year}", f"{WEEKDAYS[d.weekday()]}, {month} {d.day}, {d.year}")[form]
            cased = (written, written, written.lower(), written.upper())[case]
            found[cased, d.isoformat()] = None
    return list(found)[:number]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Questions and answers as ids.

    questions   (N, longest question), padded with blanks
    answers     (N, 1 + longest answer), which begin with the start symbol
    lengths     (N,) of the questions
    vocabulary  of both, with the start symbol and the blank
    """

    questions: Ids
    answers: Ids
    lengths: Ids
    vocabulary: Vocabulary

    @classmethod
    def from_text(cls, pairs: Sequence[tuple[str, str]], vocabulary: Vocabulary | None = None) -> Pairs:
        """Pairs of text as ids; without a vocabulary, of the characters in them.

        Raises:
            TextError: there are none, or a character is not in the vocabulary.
        """
        if not pairs:
            raise TextError("there are no pairs")
        if vocabulary is None:
            characters = {*PAD, *START}.union(*(set(q + a) for q, a in pairs))
            vocabulary = Vocabulary(tuple(sorted(characters)))
        questions, answers = [q for q, _ in pairs], [START + a for _, a in pairs]
        return cls(_encoded(questions, vocabulary), _encoded(answers, vocabulary),
                   np.array([len(q) for q in questions]), vocabulary)

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, rows: Any) -> Pairs:
        return replace(self, questions=self.questions[rows], answers=self.answers[rows],
                       lengths=self.lengths[rows])

    @property
    def start(self) -> int:
        """The id of the start symbol."""
        return self.vocabulary.symbols.index(START)

    @property
    def end(self) -> int:
        """The id of the blank, which ends an answer that is shorter than the longest."""
        return self.vocabulary.symbols.index(PAD)

    def split(self, fraction: float = 0.9, rng: Rng = None) -> tuple[Pairs, Pairs]:
        """Shuffle, and cut in two: so much of them, and the rest.

        Raises:
            ValueError: one of the two would be empty.
        """
        cut = round(len(self) * fraction)
        if not 0 < cut < len(self):
            raise ValueError(f"{fraction!r} of {len(self)} pairs leaves nothing on one side.")
        order = np.random.default_rng(rng).permutation(len(self))
        return self[order[:cut]], self[order[cut:]]

    def text(self, ids: Iterable[int]) -> str:
        """Ids as text, without the start symbol and the blanks at the end."""
        return "".join(self.vocabulary.symbols[k] for k in ids).removeprefix(START).rstrip(PAD)


class PairBatches(Iterator[Pairs]):
    """Batches without end, in an order drawn anew for each epoch; pairs that do not fill a batch wait for
    another.

    `len(batches)` is the number of batches in an epoch, `batches.position` that of the batches given so far.

    Args:
        pairs: N of them.
        batch_size: at most N.
        rng: for the order; it is the iterator's own.

    Raises:
        ValueError: a batch size out of 1 … N.
    """

    def __init__(self, pairs: Pairs, batch_size: int, rng: Rng = None) -> None:
        if not 1 <= batch_size <= len(pairs):
            raise ValueError(f"a batch of {batch_size!r} cannot be drawn from {len(pairs)} pairs.")
        self.pairs = pairs
        self.batch_size = batch_size
        self.rng = np.random.default_rng(rng)
        self.position = 0
        self._before: dict[str, Any] = {}
        self._order = np.arange(0)

    def __len__(self) -> int:
        return len(self.pairs) // self.batch_size

    def __next__(self) -> Pairs:
        k = self.position % len(self)
        if k == 0:
            self._shuffle()
        self.position += 1
        return self.pairs[self._order[k * self.batch_size:(k + 1) * self.batch_size]]

    def _shuffle(self) -> None:
        self._before = dict(self.rng.bit_generator.state)
        self._order = self.rng.permutation(len(self.pairs))

    def state_dict(self) -> dict[str, Any]:
        """Where it is: the position, and the generator's state from before the present epoch's order was
        drawn."""
        begun = self.position % len(self) != 0
        generator = self._before if begun else dict(self.rng.bit_generator.state)
        return {"position": self.position, "generator": generator, "pairs": len(self.pairs),
                "batch_size": self.batch_size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where another one with as many pairs and the same batch size was.

        Raises:
            ValueError: it does not fit; nothing is changed then.
        """
        own = self.state_dict()
        if state.keys() != own.keys() or any(state[k] != own[k] for k in ("pairs", "batch_size")):
            raise ValueError(f"this is no place among {len(self.pairs)} pairs, {self.batch_size} at a time.")
        position = state["position"]
        if isinstance(position, bool) or not isinstance(position, int) or position < 0:
            raise ValueError(f"the saved position is {position!r}.")
        before = self.rng.bit_generator.state
        try:
            self.rng.bit_generator.state = state["generator"]
        except (ValueError, TypeError, KeyError) as error:
            self.rng.bit_generator.state = before
            raise ValueError(f"the saved generator does not fit: {error}") from None
        self.position = position
        if position % len(self):
            self._shuffle()


def _encoded(texts: list[str], vocabulary: Vocabulary) -> Ids:
    """Texts as rows of equal width."""
    width = max(map(len, texts))
    joined = vocabulary.encode("".join(text.ljust(width, PAD) for text in texts))
    return np.asarray(joined).reshape(len(texts), width)

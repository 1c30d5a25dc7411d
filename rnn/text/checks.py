"""What users get wrong with texts, said in one line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class TextError(ValueError):
    """A mistake in what the user gave. The message is one line: what was wrong, and what to do."""


def printable(name: str) -> str:
    """A name as it is where it prints on one line, else with what does not print escaped."""
    return name if name.isprintable() else ascii(name)


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise TextError(f"{name} is one of {', '.join(choices)}, not {value!r}")


def checked_whole(name: str, value: object, least: int) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise TextError(f"{name} is a whole number of at least {least}, not {value!r}")
    return int(value)

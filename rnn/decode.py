"""Choosing the next symbol: from logits to text.

The functions take and return logits, arrays of shape (..., V), and compose: a symbol that may not be chosen
has a logit of -inf.

>>> draw(top_p(temperature(logits, 0.8), 0.95), rng)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minigrad as mg

from .language_model import LanguageModel

Array = NDArray[Any]
Choice = Callable[[Array], int]


def numbers(logits: Array) -> Array:
    """The logits, if they are numbers or -inf.

    Raises:
        ValueError: there is a NaN or +inf among them.
    """
    if not np.all(np.less(logits, math.inf)):
        raise ValueError("the logits are not numbers: the model's weights are not finite")
    return logits


def greedy(logits: Array) -> Any:
    """The most likely symbol, the first of equals: (..., V) to ints (...)."""
    return np.argmax(logits, axis=-1)


def temperature(logits: Array, t: float) -> Array:
    """logits / t: below 1 the likely becomes likelier, above 1 all become alike; 0 leaves only the most
    likely.

    Raises:
        ValueError: t is negative or not finite.
    """
    if not 0 <= t < math.inf:
        raise ValueError(f"a temperature is a number from 0 on, not {t!r}")
    logits = np.asarray(logits, dtype=np.float64)
    if t == 0:
        return top_k(logits, 1)
    # The largest first becomes 0, since dividing by a small t may overflow: downwards that gives -inf, as
    # it should.
    with np.errstate(over="ignore"):
        return (logits - logits.max(axis=-1, keepdims=True)) / t  # type: ignore[no-any-return]


def top_k(logits: Array, k: int) -> Array:
    """Only the k most likely symbols (Fan et al. 2018); the first of equals stay. A k above V leaves all.

    Raises:
        ValueError: k is below 1.
    """
    if k < 1:
        raise ValueError(f"top-k keeps at least one symbol, not {k!r}")
    order = np.argsort(-logits, axis=-1, kind="stable")
    return _without(logits, order[..., k:])


def top_p(logits: Array, p: float) -> Array:
    """The smallest set of most likely symbols whose probabilities sum to at least p (Holtzman et al. 2020).

    Raises:
        ValueError: p does not lie in (0, 1].
    """
    if not 0 < p <= 1:
        raise ValueError(f"top-p lies above 0 and at most at 1, unlike {p!r}")
    order = np.argsort(-logits, axis=-1, kind="stable")
    sorted_p = np.take_along_axis(probabilities(logits), order, axis=-1)
    before = np.cumsum(sorted_p, axis=-1) - sorted_p  # what the likelier ones have in all
    kept = np.where(before < p, np.take_along_axis(logits, order, axis=-1), -math.inf)
    out = np.empty_like(kept)
    np.put_along_axis(out, order, kept, axis=-1)
    return out


def probabilities(logits: Array) -> Array:
    """softmax in float64."""
    logits = np.asarray(logits, dtype=np.float64)
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]


def draw(logits: Array, rng: np.random.Generator) -> int:
    """A symbol at random with the probabilities softmax(logits), for logits (V,).

    Raises:
        ValueError: there is a NaN among them, or nothing that may be chosen.
    """
    with np.errstate(invalid="ignore"):
        reach = np.cumsum(probabilities(logits))
    if not reach[-1] > 0:
        raise ValueError("the logits are not numbers: the model's weights are not finite")
    k = int(np.searchsorted(reach, rng.random() * reach[-1], side="right"))
    return min(
        k, int(np.flatnonzero(np.diff(reach, prepend=0.0))[-1])
    )  # rounding may lead past the last possible one


def chooser(rng: np.random.Generator, t: float = 1.0, k: int | None = None, p: float | None = None) -> Choice:
    """How to choose a symbol, given logits (V,): temperature first, then top-k, then top-p, then by chance.

    Raises:
        ValueError: a setting is out of its range; later, there is a NaN or +inf among the logits, or -inf alone.
    """

    def allowed(logits: Array) -> Array:
        if numbers(logits).max() == -math.inf:
            raise ValueError("no symbol may be chosen: all logits are -inf")
        logits = temperature(logits, t)
        if k is not None:
            logits = top_k(logits, k)
        return logits if p is None else top_p(logits, p)

    allowed(np.zeros(1))  # complains now, not at the first symbol
    return lambda logits: draw(allowed(logits), rng)


def generate(model: LanguageModel, prompt: Iterable[int], choose: Choice) -> Iterator[int]:
    """Symbol after symbol, without end, after the ids of a prompt; each is the input for the next.

    Raises:
        ValueError: the prompt is empty.
    """
    ids = np.asarray(list(prompt), dtype=np.int64)
    if not ids.size:
        raise ValueError("a prompt has at least one symbol")
    model.eval()
    state = None
    while True:
        with mg.no_grad():
            logits, state = model(ids[None, :], state)
        symbol = choose(logits.data[0, -1])
        yield symbol
        ids = np.array([symbol])


def _without(logits: Array, columns: Array) -> Array:
    out = np.array(logits, dtype=np.result_type(logits, np.float32))
    np.put_along_axis(out, columns, -math.inf, axis=-1)
    return out

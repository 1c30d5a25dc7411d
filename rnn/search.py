"""Writing a whole sequence with any model: symbol after symbol, or by beam search.

A model is given as a step function and its first state,

    step(symbols (N,), state) -> (logits (N, V), state)

where the state is a tree of Tensors or arrays with N rows: `Seq2Seq.begin` makes them from sources, and `begin` below
from a language model and a prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

import minigrad as mg
from minigrad.tree import tree_map

from .decode import greedy, numbers
from .language_model import LanguageModel

Array = NDArray[Any]
Step = Callable[[Array, Any], tuple[Array, Any]]


def begin(model: LanguageModel, prompt: Iterable[int]) -> tuple[Step, Any, int]:
    """A language model that has read a prompt: (step, state, the prompt's last symbol), N = 1. Nothing is
    recorded.

    Dropout is as the model's mode has it: call `model.eval()` first.

    Raises:
        ValueError: the prompt is empty.
    """
    ids = np.asarray(list(prompt), dtype=np.int64)
    if not ids.size:
        raise ValueError("a prompt has at least one symbol")

    def step(symbols: Array, state: Any) -> tuple[Array, Any]:
        with mg.no_grad():
            logits, state = model(symbols[:, None], state)
        return logits.data[:, -1], state

    with mg.no_grad():
        state: Any = model.recurrent.initial_state(1)
        if ids.size > 1:
            _, state = model(ids[None, :-1], state)
    return step, state, int(ids[-1])


def decode(step: Step, state: Any, start: ArrayLike, max_length: int, choose: Callable[[Array], Any] = greedy,
           end: int | None = None) -> list[list[int]]:
    """Symbol after symbol, each the input for the next, for N sequences side by side.

    Args:
        step, state: the model.
        start: the first symbol of each (N,), which is not part of the result.
        max_length: how many symbols at most.
        choose: from logits (V,) to a symbol; `rnn.decode` has greedy choice, temperature, top-k and top-p.
        end: the symbol that ends a sequence; it is not part of the result.

    Returns:
        N lists of symbols.

    Raises:
        ValueError: there is a NaN or +inf among the logits.
    """
    symbols = np.atleast_1d(np.asarray(start))
    done = np.zeros(len(symbols), bool)
    written: list[Array] = []
    while len(written) < max_length and not done.all():
        logits, state = step(symbols, state)
        symbols = greedy(numbers(logits)) if choose is greedy else np.array([choose(row) for row in logits])
        if end is not None:
            symbols = np.where(done, end, symbols)
            done |= symbols == end
        written.append(symbols)
    rows = [[int(row[k]) for row in written] for k in range(len(symbols))]
    return [row[:row.index(end)] if end in row else row for row in rows]


class Hypothesis(NamedTuple):
    """A sequence that beam search found.

    symbols            without the end symbol
    score              log_probability / penalty, by which they are ranked
    log_probability    of all its symbols and of its end, in nats
    ended              whether it came to the end symbol, or only to max_length
    """

    symbols: tuple[int, ...]
    score: float
    log_probability: float
    ended: bool


def length_penalty(length: int, alpha: float) -> float:
    """((5 + length) / 6)^alpha (Wu et al. 2016, equation 14): 1 for alpha = 0, and the length's power for
    large ones."""
    return math.pow((5.0 + length) / 6.0, alpha)


def beam_search(step: Step, state: Any, start: int, max_length: int, width: int = 5, end: int | None = None,
                alpha: float = 0.0) -> list[Hypothesis]:
    """The likeliest sequences that a search among `width` beginnings at a time finds (Sutskever et al. 2014).

        score = log P(symbols) / ((5 + length) / 6)^alpha

    At each step the `width` likeliest continuations of all beginnings are kept; those that came to the end
    symbol are set aside. The end symbol counts for the length. Of equals the first found is preferred. Width
    1 is greedy choice.

    Args:
        step, state: the model, for one sequence (N = 1).
        start: the first symbol, which is not part of the result.
        max_length: how many symbols at most, the end included.
        width: how many beginnings to keep.
        end: the symbol that ends a sequence, or None.
        alpha: how much longer sequences are preferred.

    Returns:
        At most `width` hypotheses, the best first; fewer where -inf among the logits leaves no more.

    Raises:
        ValueError: a setting is out of its range, or there is a NaN or +inf among the logits.
    """
    if width < 1 or max_length < 1 or not alpha >= 0:
        raise ValueError("beam search needs a width and a max_length from 1 and an alpha from 0 on, "
                         f"not {width!r}, {max_length!r} and {alpha!r}.")
    live: list[tuple[int, ...]] = [()]
    totals, last = np.zeros(1), np.array([start])
    found: list[Hypothesis] = []
    for length in range(1, max_length + 1):
        logits, state = step(last, state)
        candidates = totals[:, None] + log_probabilities(numbers(logits))
        best = np.argsort(-candidates, axis=None, kind="stable")[:width]
        best = best[np.isfinite(candidates.flat[best])]
        rows, symbols = np.divmod(best, candidates.shape[1])
        totals = candidates[rows, symbols]
        ended = (symbols == end) if end is not None else np.zeros(len(best), bool)
        over = ended | (length == max_length)
        for k in np.flatnonzero(over):
            whole = live[rows[k]] + (() if ended[k] else (int(symbols[k]),))
            score = float(totals[k]) / length_penalty(length, alpha)
            found.append(Hypothesis(whole, score, float(totals[k]), bool(ended[k])))
        rows, last, totals = rows[~over], symbols[~over], totals[~over]
        live = [(*live[row], int(symbol)) for row, symbol in zip(rows, last, strict=True)]
        found = sorted(found, key=lambda h: -h.score)[:width]
        # A log probability only falls, and the longest sequence divides it by most: none can do better.
        if not live or (len(found) == width
                        and found[-1].score >= totals.max() / length_penalty(max_length, alpha)):
            break
        state = tree_map(lambda s, rows=rows: s[rows], state)
    return found


def log_probabilities(logits: Array) -> Array:
    """log softmax in float64; a row that is -inf all over, where no symbol may follow, stays as it is."""
    logits = np.asarray(logits, dtype=np.float64)
    top = logits.max(axis=-1, keepdims=True)
    shifted = logits - np.where(top == -math.inf, 0.0, top)
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted - np.where(total == -math.inf, 0.0, total)

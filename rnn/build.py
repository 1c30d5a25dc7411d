"""The parts of a training run, made from its settings."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.optim import ExponentialLR, Optimiser, PlateauLR, Schedule

from . import dropout
from .dropout import Scheme
from .language_model import LanguageModel
from .layers import GRU, LSTM, RNN, Jordan, Recurrent
from .run_files import is_of_a_run
from .settings import DECAYS, EPOCHS, CellName, Compiled, OptimiserName, SchemeName, Settings, SettingsError
from .text import Batches, Corpus, Ids, Vocabulary, read_corpus, split
from .train import CosineToTheEnd, Plan, Trainer

CELLS: dict[CellName, type[Recurrent]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


def projected(inputs: int, hidden: int, layers: int, **options: Any) -> LSTM:
    """An LSTM whose state is half as wide as its cells."""
    return LSTM(inputs, hidden, layers, projection=max(hidden // 2, 1), **options)


#: What can be drawn besides, without having been trained.
DRAWN: dict[str, Callable[..., Recurrent]] = {
    "rnn": RNN, "lstm": LSTM, "gru": GRU, "jordan": Jordan, "peephole": partial(LSTM, peephole=True),
    "coupled": partial(LSTM, coupled=True), "layer-norm": partial(LSTM, layer_norm=True), "projection": projected,
    "reset-before": partial(GRU, reset_after=False)}
COMPILED: dict[Compiled, bool | str] = {"auto": "auto", "yes": True, "no": False}
OPTIMISERS: dict[OptimiserName, type[Optimiser]] = {
    "sgd": mg.optim.SGD, "adagrad": mg.optim.Adagrad, "rmsprop": mg.optim.RMSprop, "adam": mg.optim.Adam,
    "adamw": mg.optim.AdamW}

PURPOSES = ("initial values", "dropout", "sampling")


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A private generator for each purpose, so that one cannot use up another's numbers."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose),)))


def read(s: Settings) -> tuple[Corpus, Vocabulary]:
    """The text and its vocabulary. Raises TextError."""
    corpus = read_corpus(s.source, level=s.level, pattern=s.pattern, encoding=s.encoding,
                         normalize=s.normalize, limit=s.limit, skip=is_of_a_run)
    return corpus, Vocabulary.from_text(corpus.text, s.level, min_count=s.min_count, max_size=s.max_symbols)


def parts(s: Settings, ids: Ids) -> tuple[Ids, Ids | None]:
    """The ids for training and those for validation, if any. Raises TextError where there are too few."""
    if not s.valid:
        return ids, None
    learn, hold = split(ids, (1 - s.valid, s.valid), batch_size=s.batch, time_steps=s.time)
    return learn, hold


def make_model(s: Settings, symbols: int) -> LanguageModel:
    """A model with its first values. Raises SettingsError for a dropout scheme that the cell cannot have."""
    _check_memory(s, symbols)
    rng = generator(s.seed, "initial values")
    extra: dict[str, Any] = {"forget_bias": s.forget_bias} if s.cell == "lstm" else {}
    try:
        recurrent = CELLS[s.cell](s.vectors or symbols, s.hidden, s.layers, compiled=COMPILED[s.compiled],
                                  dropout=make_scheme(s), rng=rng, dropout_rng=generator(s.seed, "dropout"), **extra)
    except ValueError as error:
        raise SettingsError(f"--cell {s.cell} --scheme {s.scheme}: {error}") from None
    model = LanguageModel(symbols, recurrent, s.vectors or None, tied=s.tied, rng=rng)
    if s.init is not None:
        model.initialise(s.init, s.forget_bias, rng)
    return model


def make_drawn(s: Settings, cell: str, symbols: int, bidirectional: bool) -> LanguageModel | Recurrent:
    """A new model for a picture; only its layers where they read both ways. Raises SettingsError for a dropout scheme
    that the cell cannot have.
    """
    kinds: dict[str, CellName] = {"rnn": "rnn", "jordan": "rnn", "gru": "gru", "reset-before": "gru"}
    s = replace(s, cell=kinds.get(cell, "lstm"))
    _check_memory(s, symbols)
    try:
        recurrent = DRAWN[cell](s.vectors or symbols, s.hidden, s.layers, bidirectional=bidirectional,
                                dropout=make_scheme(s), rng=s.seed)
    except ValueError as error:
        raise SettingsError(f"--cell {cell} --scheme {s.scheme}: {error}") from None
    return recurrent if bidirectional else LanguageModel(symbols, recurrent, s.vectors or None, rng=s.seed)


def _check_memory(s: Settings, symbols: int) -> None:
    """Raise SettingsError for a model that cannot be trained here, before it is tried for minutes."""
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[s.cell]
    inputs = (s.vectors or symbols) + (s.layers - 1) * s.hidden
    size = symbols * (s.vectors + s.hidden) + gates * s.hidden * (inputs + s.layers * s.hidden)
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system that does not say
        return
    if 4 * 4 * size > memory:  # float32: the parameters, their gradients, and up to two moments
        raise SettingsError(f"training {size:,} parameters needs {16 * size / 1e9:,.0f} GB of memory, and there are "
                            f"{memory / 1e9:,.0f}: give a smaller --hidden, --layers or --embedding")


def make_scheme(s: Settings) -> Scheme | None:
    """The dropout scheme, if any. With its one entry dropped, a one-hot symbol would be gone."""
    inputs = s.vectors > 0
    schemes: dict[SchemeName, Callable[[float], Scheme]] = {
        "non-recurrent": lambda p: dropout.NonRecurrent(p, bottom=inputs),
        "rnndrop": dropout.RNNDrop,
        "variational": lambda p: dropout.Variational(p, input=None if inputs else 0.0),
        "weight-drop": dropout.WeightDrop,
        "recurrent": dropout.Recurrent,
        "zoneout": lambda p: dropout.Zoneout(hidden=p, cell=p if s.cell == "lstm" else 0.0),
    }
    return schemes[s.scheme](s.dropout) if s.dropout else None


def make_trainer(s: Settings, model: LanguageModel, learn: Ids, hold: Ids | None) -> Trainer:
    """A trainer before its first step. Raises TextError where the text is too short."""
    batches = Batches(learn, s.batch, s.time)
    extra: dict[str, Any] = {"alpha": 0.95} if s.optimizer == "rmsprop" else {}
    optimiser = OPTIMISERS[s.optimizer](model.parameters(), lr=s.rate, **extra)
    schedule = make_schedule(s, optimiser)
    return Trainer(model, optimiser, batches, schedule=schedule,
                   period="step" if s.schedule == "cosine" else "epoch",
                   clip_norm=None if s.clip_value else s.clip or None, clip_value=s.clip_value or None,
                   non_finite=s.non_finite, valid=hold)


def make_schedule(s: Settings, optimiser: Optimiser) -> Schedule | None:
    """The schedule of the learning rate; None for a constant one."""
    kind = s.schedule or ("exponential" if s.lr_decay else "constant")
    factor = s.lr_decay or DECAYS.get(kind, 1.0)
    if kind == "exponential":
        return ExponentialLR(optimiser, factor, start=s.decay_from)
    if kind == "plateau":
        return PlateauLR(optimiser, factor)
    return CosineToTheEnd(optimiser) if kind == "cosine" else None


def make_plan(s: Settings, windows: int) -> Plan:
    """How long to train and when to look, where an epoch has so many windows."""
    every = s.valid_every or min(max(windows, 100), 1000)
    return Plan(steps=total_steps(s, windows), seconds=None if s.minutes is None else 60 * s.minutes,
                valid_every=every, sample_every=every if s.sample_every is None else s.sample_every)


def total_steps(s: Settings, windows: int) -> int | None:
    """How many steps the settings ask for, or None where only the time ends the training."""
    ends = [] if s.steps is None else [s.steps]
    epochs = EPOCHS if s.epochs is s.steps is s.minutes is None else s.epochs
    if epochs is not None:
        ends.append(max(1, math.ceil(epochs * windows)))
    return min(ends, default=None)

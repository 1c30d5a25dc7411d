"""What a training run is made of, as plain values that a file can hold, and the parts made from them."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import numpy as np

import minigrad as mg
from minigrad.optim import CosineLR, ExponentialLR, Optimiser, PlateauLR, Schedule

from .language_model import LanguageModel
from .layers import GRU, LSTM, RNN, Recurrent
from .text import Batches, Corpus, Ids, Level, NormalForm, TextError, Vocabulary, read_corpus, split
from .train import NonFinite, Trainer

CellName: TypeAlias = Literal["rnn", "lstm", "gru"]
OptimiserName: TypeAlias = Literal["sgd", "adagrad", "rmsprop", "adam", "adamw"]
ScheduleName: TypeAlias = Literal["constant", "exponential", "cosine", "plateau"]
Compiled: TypeAlias = Literal["auto", "yes", "no"]

CELLS: dict[CellName, type[Recurrent]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}
LEARNING_RATES: dict[OptimiserName, float] = {
    "sgd": 1.0, "adagrad": 0.05, "rmsprop": 2e-3, "adam": 3e-3, "adamw": 3e-3}
DECAYS = {"exponential": 0.97, "plateau": 0.25}
CHANGEABLE = frozenset({"epochs", "steps", "minutes", "lr", "clip", "clip_value", "non_finite", "valid_every",
                        "sample_every", "keep", "compiled"})
"""What may be another when a run goes on."""
PURPOSES = ("initial values", "dropout", "sampling")


class SettingsError(ValueError):
    """A setting that cannot be. The message is one line: which, and what it can be."""


@dataclass(frozen=True)
class Settings:
    """All that decides how a run goes; the help of `python -m rnn train` says what each is."""

    # the text
    source: str = "python-reference"
    level: Level = "char"
    pattern: str = "*.txt"
    encoding: str = "utf-8"
    normalize: NormalForm | None = None
    limit: int | None = None
    min_count: int = 1
    max_symbols: int | None = None
    valid: float = 0.05
    # the model
    cell: CellName = "lstm"
    hidden: int = 256
    layers: int = 1
    embedding: int = 0
    tied: bool = False
    dropout: float = 0.0
    init: float | None = None
    forget_bias: float = 1.0
    compiled: Compiled = "auto"
    # the training
    batch: int = 32
    time: int = 64
    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None
    optimizer: OptimiserName = "adam"
    lr: float | None = None
    schedule: ScheduleName = "constant"
    lr_decay: float | None = None
    decay_from: int = 1
    clip: float | None = 5.0
    clip_value: float | None = None
    non_finite: NonFinite = "stop"
    seed: int = 0
    # what is kept and shown
    valid_every: int | None = None
    sample_every: int | None = None
    keep: int = 3

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(Settings).items():
            if not _fits(getattr(self, name), hint):
                raise SettingsError(f"{option(name)} cannot be {getattr(self, name)!r}")
        for name in ("hidden", "layers", "batch", "time", "min_count", "decay_from", "keep", "limit", "steps",
                     "valid_every"):
            self._need(name, lambda v: v >= 1, "at least 1")
        for name in ("embedding", "sample_every", "seed"):
            self._need(name, lambda v: v >= 0, "at least 0")
        for name in ("epochs", "minutes", "lr", "lr_decay", "clip", "clip_value", "init"):
            self._need(name, lambda v: 0 < v < math.inf, "above 0")
        self._need("max_symbols", lambda v: v >= 2, "at least 2")
        self._need("dropout", lambda v: 0 <= v < 1, "at least 0 and below 1")
        self._need("valid", lambda v: 0 <= v <= 0.5, "between 0 and 0.5")
        self._need("forget_bias", math.isfinite, "a finite number")
        if self.tied and self.embedding != self.hidden:
            raise SettingsError(f"--tied needs an embedding as wide as the layers: --embedding {self.hidden}")
        if self.schedule == "plateau" and not self.valid:
            raise SettingsError("--schedule plateau needs a text for validation: --valid 0.05")
        if self.schedule == "cosine" and self.epochs is None and self.steps is None and self.minutes is not None:
            raise SettingsError("--schedule cosine needs to know its end: --epochs or --steps")
        if self.schedule == "plateau" and not (self.lr_decay or 0) < 1:
            raise SettingsError(f"--lr-decay is below 1 with --schedule plateau, not {self.lr_decay}")

    def _need(self, name: str, good: Any, what: str) -> None:
        value = getattr(self, name)
        if value is not None and not good(value):
            raise SettingsError(f"{option(name)} is {what}, not {value!r}")

    @property
    def rate(self) -> float:
        """The learning rate that was asked for, or the usual one of the optimiser."""
        return LEARNING_RATES[self.optimizer] if self.lr is None else self.lr

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON types; `from_json` takes them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Settings:
        """The settings that `to_json` wrote. Raises SettingsError for anything else."""
        names = {field.name for field in fields(cls)}
        if not isinstance(value, Mapping) or not value.keys() <= names:
            raise SettingsError("these are not the settings of a run")
        return cls(**value)

    def changed(self, given: Mapping[str, Any]) -> Settings:
        """The settings of a run that goes on with some of them given anew.

        Raises:
            SettingsError: one that cannot change in the course of a run.
        """
        for name, value in given.items():
            if name not in CHANGEABLE and value != getattr(self, name):
                raise SettingsError(f"{option(name)} is fixed for this run: {getattr(self, name)!r}; leave it out, or "
                                    "begin a new run with --run")
        if given.keys() & {"clip", "clip_value"}:  # one takes the place of the other
            given = {"clip": None, "clip_value": None, **given}
        if given.keys() & {"epochs", "steps", "minutes"}:  # a new end takes the place of the old one
            given = {"epochs": None, "steps": None, "minutes": None, **given}
        return replace(self, **given)


def option(name: str) -> str:
    """The command line's name of a setting."""
    return "the source" if name == "source" else "--" + name.replace("_", "-")


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of a type: a plain one, a Literal, or a union of these. An int is a float too, a bool is not."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, h) for h in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


# --------------------------------------------------------------------------------------------------------------
# The parts
# --------------------------------------------------------------------------------------------------------------


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A private generator for a purpose, so that one cannot use up another's numbers."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose),)))


def read(settings: Settings) -> tuple[Corpus, Vocabulary]:
    """The text and its vocabulary. Raises TextError."""
    s = settings
    corpus = read_corpus(s.source, level=s.level, pattern=s.pattern, encoding=s.encoding, normalize=s.normalize,
                         limit=s.limit)
    return corpus, Vocabulary.from_text(corpus.text, s.level, min_count=s.min_count, max_size=s.max_symbols)


def parts(settings: Settings, ids: Ids) -> tuple[Ids, Ids | None]:
    """The ids for training and those for validation, if any. Raises TextError where there are too few."""
    s = settings
    if not s.valid:
        return ids, None
    train, valid = split(ids, (1 - s.valid, s.valid), batch_size=s.batch, time_steps=s.time)
    return train, valid


def make_model(settings: Settings, symbols: int) -> LanguageModel:
    """A model with its first values."""
    s = settings
    rng = generator(s.seed, "initial values")
    extra = {"forget_bias": s.forget_bias} if s.cell == "lstm" else {}
    recurrent = CELLS[s.cell](s.embedding or symbols, s.hidden, s.layers, rng=rng,
                              compiled={"auto": "auto", "yes": True, "no": False}[s.compiled], **extra)
    model = LanguageModel(symbols, recurrent, s.embedding or None, tied=s.tied, dropout=s.dropout, rng=rng,
                          dropout_rng=generator(s.seed, "dropout"))
    if s.init is not None:
        model.initialise(s.init, s.forget_bias, rng)
    return model


def steps_to_take(settings: Settings, batches: Batches) -> int | None:
    """How many steps the settings ask for, or None where only the time ends the training."""
    s = settings
    ends = [s.steps] if s.steps is not None else []
    if s.epochs is not None or (s.steps is None and s.minutes is None):
        ends.append(max(1, math.ceil((10 if s.epochs is None else s.epochs) * len(batches))))
    return min(ends, default=None)


def make_trainer(settings: Settings, model: LanguageModel, train: Ids, valid: Ids | None) -> Trainer:
    """A trainer at its first step. Raises TextError where the text is too short."""
    s = settings
    batches = Batches(train, s.batch, s.time)
    kinds: dict[OptimiserName, type[Optimiser]] = {
        "sgd": mg.optim.SGD, "adagrad": mg.optim.Adagrad, "rmsprop": mg.optim.RMSprop, "adam": mg.optim.Adam,
        "adamw": mg.optim.AdamW}
    extra: dict[str, Any] = {"alpha": 0.95} if s.optimizer == "rmsprop" else {}
    optimiser = kinds[s.optimizer](model.parameters(), lr=s.rate, **extra)
    decay = s.lr_decay if s.lr_decay is not None else DECAYS.get(s.schedule, 1.0)
    schedule: Schedule | None = None
    if s.schedule == "exponential":
        schedule = ExponentialLR(optimiser, decay, start=s.decay_from)
    elif s.schedule == "plateau":
        schedule = PlateauLR(optimiser, decay)
    elif s.schedule == "cosine":
        schedule = CosineLR(optimiser, steps_to_take(s, batches) or 1)
    return Trainer(model, optimiser, batches, schedule=schedule, period="step" if s.schedule == "cosine" else "epoch",
                   clip_norm=None if s.clip_value is not None else s.clip, clip_value=s.clip_value,
                   non_finite=s.non_finite, valid=valid)


__all__ = ["CELLS", "LEARNING_RATES", "PURPOSES", "Settings", "SettingsError", "TextError", "generator", "make_model",
           "make_trainer", "option", "parts", "read", "steps_to_take"]

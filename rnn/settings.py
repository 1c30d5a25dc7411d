"""What decides how a training run goes: plain values that a file can hold and the command line can take."""

# ruff: noqa: RUF009 -- `setting` makes a field, as `field` does

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from .text import Level, NormalForm
from .train import NonFinite

CellName: TypeAlias = Literal["rnn", "lstm", "gru"]
Compiled: TypeAlias = Literal["auto", "yes", "no"]
SchemeName: TypeAlias = Literal["non-recurrent", "rnndrop", "variational", "weight-drop", "recurrent", "zoneout"]
OptimiserName: TypeAlias = Literal["sgd", "adagrad", "rmsprop", "adam", "adamw"]
ScheduleName: TypeAlias = Literal["constant", "exponential", "cosine", "plateau"]

RATES: dict[OptimiserName, float] = {"sgd": 1.0, "adagrad": 0.05, "rmsprop": 2e-3, "adam": 3e-3,
                                     "adamw": 3e-3}
DECAYS = {"exponential": 0.97, "plateau": 0.25}
EPOCHS = 10.0


class SettingsError(ValueError):
    """A setting that cannot be. The message is one line: which, and what it can be."""


def setting(default: Any, text: str, unset: str = "", *, least: float = -math.inf, above: float = -math.inf,
            below: float = math.inf, metavar: str = "", later: bool = False) -> Any:
    """A field of `Settings`.

    Args:
        default: its value where none is given.
        text: what it is, for the help of the command line.
        unset: what None means, for the same.
        least, above, below: bounds of a number; below is exclusive, and so is above.
        metavar: what stands for a value in the help.
        later: whether it may be another when a run goes on.
    """
    return field(default=default, metadata={"text": text, "unset": unset, "metavar": metavar, "later": later,
                                            "least": least, "above": above, "below": below})


@dataclass(frozen=True)
class Settings:
    """All settings of a run. Raises SettingsError for values that cannot be, or not together."""

    source: str = setting("python-reference", "file, folder, - or the name of an embedded text")
    level: Level = setting("char", "what a symbol is")
    pattern: str = setting("*.txt", "which files of a folder, at any depth", metavar="GLOB")
    encoding: str = setting("utf-8", "of the text", metavar="NAME")
    normalize: NormalForm | None = setting(None, "Unicode normal form to bring the text to", "as it is")
    limit: int | None = setting(None, "read so many characters at most", "all", least=1)
    min_count: int = setting(1, "rarer symbols become one, for unknown ones", least=1)
    max_symbols: int | None = setting(None, "so many symbols at most, the most frequent", "all", least=2)
    valid: float = setting(0.05, "part of the text, at its end, that is held out for validation; 0 for none",
                           least=0, below=0.9)

    cell: CellName = setting("lstm", "of the recurrent layers")
    hidden: int = setting(256, "width of each layer", least=1)
    layers: int = setting(1, "how many on top of each other", least=1)
    embedding: int | None = setting(None, "size of the learned vectors for symbols; 0 for one-hot",
                                    "as wide as the layers for words and with --tied, else 0", least=0)
    tied: bool = setting(False, "use the embedding for the output too")
    dropout: float = setting(0.0, "drop probability", least=0, below=1)
    scheme: SchemeName = setting("non-recurrent", "where to drop; one-hot inputs are never dropped")
    init: float | None = setting(None, "draw all first values uniformly from ± this", "as suits each layer",
                                 above=0)
    forget_bias: float = setting(1.0, "first value of the LSTM's forget bias")
    compiled: Compiled = setting("auto", "whether the loop over time is compiled", later=True)

    batch: int = setting(32, "how many stretches of the text are read side by side", least=1)
    time: int = setting(64, "steps of backpropagation through time", least=1)
    epochs: float | None = setting(None, "how often to go through the text",
                                   f"{EPOCHS:g}, without --steps and --minutes", above=0, later=True)
    steps: int | None = setting(None, "stop after so many steps", "no limit", least=1, later=True)
    minutes: float | None = setting(None, "stop so many minutes after the first step, which may have to compile",
                                    "no limit", above=0, later=True)
    optimizer: OptimiserName = setting("adam", "how parameters move")
    lr: float | None = setting(None, "learning rate", ", ".join(f"{name} {r:g}" for name, r in RATES.items()),
                               above=0, later=True)
    schedule: ScheduleName | None = setting(
        None, "of the learning rate: exponential and plateau multiply it by --lr-decay, after each epoch or "
        "where validation does not improve; cosine lets it fall to 0 at the end",
        "constant, with --lr-decay exponential")
    lr_decay: float | None = setting(None, "factor of the schedule",
                                     ", ".join(f"{name} {f}" for name, f in DECAYS.items()), above=0, below=1)
    decay_from: int = setting(1, "first epoch after which an exponential schedule decays", least=1)
    clip: float = setting(5.0, "largest norm of the gradient; 0 for any", least=0, later=True)
    clip_value: float = setting(0.0, "largest value in the gradient, in place of --clip; 0 for any",
                                least=0, later=True)
    non_finite: NonFinite = setting("stop", "where a loss or gradient is not finite: stop with a checkpoint, "
                                    "or skip the step", later=True)
    seed: int = setting(0, "of all random numbers", least=0)
    threads: int | None = setting(None, "of the matrix products; with another number, the last bits of sums differ",
                                  "what OPENBLAS_NUM_THREADS says, or 1: those of a time step are too small to share",
                                  least=1, below=1025, later=True)

    valid_every: int | None = setting(None, "steps from one validation to the next",
                                      "an epoch, within 100 and 1000", least=1, later=True)
    sample_every: int | None = setting(None, "steps from one sample to the next; 0 for none",
                                       "with each validation", least=0, later=True)
    keep: int = setting(3, "how many checkpoints to keep, beside the best", least=1, later=True)

    def __post_init__(self) -> None:
        hints = get_type_hints(Settings)
        for one in fields(self):
            value = getattr(self, one.name)
            if not _fits(value, hints[one.name]):
                raise SettingsError(f"{option(one.name)} cannot be {value!r}")
            _check_bounds(one, value)
        if self.tied and self.vectors != self.hidden:
            raise SettingsError(f"--tied needs an embedding as wide as the layers: --embedding {self.hidden}")
        if self.schedule == "plateau" and not self.valid:
            raise SettingsError("--schedule plateau needs a text for validation: --valid 0.05")

    def check_effects(self) -> None:
        """Raise SettingsError for a setting without an effect: who gave it meant it to have one."""
        kind = self.schedule or ("constant" if self.lr_decay is None else "exponential")
        if self.scheme != "non-recurrent" and not self.dropout:
            raise SettingsError(f"--scheme {self.scheme} drops nothing without a probability: --dropout 0.3")
        if self.lr_decay is not None and kind in ("constant", "cosine"):
            raise SettingsError(f"--lr-decay is for --schedule exponential or plateau, not {kind}")
        if self.decay_from != 1 and kind != "exponential":
            raise SettingsError(f"--decay-from is for --schedule exponential, not {kind}")
        if self.forget_bias != 1 and self.cell != "lstm":
            raise SettingsError(f"--forget-bias is for --cell lstm, not {self.cell}")

    @property
    def vectors(self) -> int:
        """The size of the embedding, 0 for one-hot inputs."""
        if self.embedding is None:
            return self.hidden if self.tied or self.level == "word" else 0
        return self.embedding

    @property
    def rate(self) -> float:
        """The learning rate that was asked for, or the usual one of the optimiser."""
        return RATES[self.optimizer] if self.lr is None else self.lr

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON types; `from_json` takes them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Settings:
        """The settings that `to_json` wrote. Raises SettingsError for anything else."""
        if not isinstance(value, Mapping) or not value.keys() <= {one.name for one in fields(cls)}:
            raise SettingsError("these are not the settings of a run")
        return cls(**value)

    def changed(self, given: Mapping[str, Any]) -> Settings:
        """The settings of a run that goes on with some of them given anew.

        Raises:
            SettingsError: one that cannot change in the course of a run.
        """
        later = {one.name for one in fields(self) if one.metadata["later"]}
        for name, value in given.items():
            if name not in later and value != getattr(self, name):
                raise SettingsError(f"{option(name)} is fixed for this run, at {getattr(self, name)!r}: "
                                    "leave it out, or begin a new run")
        for names in ({"epochs", "steps", "minutes"}, {"clip", "clip_value"}):
            if given.keys() & names:  # the new takes the place of the old
                given = {name: 0.0 if name.startswith("clip") else None for name in names} | dict(given)
        return replace(self, **given)


def option(name: str) -> str:
    """The command line's name of a setting."""
    return "the source" if name == "source" else "--" + name.replace("_", "-")


def _check_bounds(one: Field[Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    least, above, below = (one.metadata[name] for name in ("least", "above", "below"))
    if isinstance(value, int) and abs(value) > 2**1000:  # more than a float can be
        raise SettingsError(f"{option(one.name)} is a smaller number, not one of {value.bit_length()} bits")
    if not (math.isfinite(value) and least <= value and above < value < below):
        bounds = [text for text, bound in ((f"at least {least:g}", least), (f"above {above:g}", above),
                                           (f"below {below:g}", below)) if math.isfinite(bound)]
        raise SettingsError(f"{option(one.name)} is {' and '.join(bounds) or 'a finite number'}, not {value}")


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of a type: a plain one, a Literal, or a union of these. An int will do for a
    float.
    """
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, h) for h in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)

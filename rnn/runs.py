"""The folder of a training run.

    config.json           the settings
    checkpoint-….npz      the last few, each with all that is needed to go on bit for bit
    best.npz              the model with the lowest validation loss so far
    metrics.jsonl         a line of JSON for every few steps; losses are in nats
    samples.txt           what the model wrote on its way
    loss.png, loss.svg    where matplotlib is installed

Files are written beside their place and then renamed; the two that grow are cut back, when a run goes on,
to what they were at the checkpoint it goes on from.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import secrets
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad.checkpoint import CheckpointError, latest, save_rotating
from minigrad.environment import blas_info

from .build import generator, make_model, make_plan
from .decode import chooser, generate
from .language_model import LanguageModel
from .plot import plot_loss
from .progress import Progress
from .run_files import BEST, CHECKPOINTS, CONFIG, FILES, METRICS, PICTURES, SAMPLES
from .settings import Settings
from .text import EOS, TextError, Vocabulary
from .train import Observer, Step, Trainer

SAMPLE = {"char": 300, "byte": 300, "word": 60}  # symbols in one of the texts that a model writes while it learns
Say = Callable[[str], None]
CONFIG_LIMIT, LINE_LIMIT = 2**20, 10_000  # bytes of settings, characters in a line of metrics

# What damaged content may run into, on its way through what expects it whole.
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)


class RunError(ValueError):
    """A folder is not what it should be. The message is one line: what it is, and what to do."""


# ----------------------------------------------------------------------------------------------------------
# The folder
# ----------------------------------------------------------------------------------------------------------


class RunFolder:
    """A folder with a run in it, or for one.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def files(self) -> list[Path]:
        """What a run has left here."""
        return [p for name in FILES if (p := self.path / name).exists()] + self.checkpoints()

    def checkpoints(self) -> list[Path]:
        """The checkpoints that are kept, by number."""
        return sorted(self.path.glob(CHECKPOINTS))

    def begin(self, settings: Settings, overwrite: bool = False) -> None:
        """Make the folder, and write down the settings of a new run.

        Raises:
            RunError: there is a run already, and it is not to be overwritten; or the folder cannot be
                written.
        """
        old = self.files()
        if old and not overwrite:
            raise RunError(
                f"{self.path} already has a run in it ({old[0].name}): go on with it (--resume {self.path}), "
                "give another folder (--run), or lose it (--overwrite)"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for file in old:
                file.unlink()
        except OSError as error:
            raise self._unwritable(error) from None
        self.write(settings)

    def write(self, settings: Settings) -> None:
        """Write down the settings. Raises RunError where that cannot be done."""
        text = json.dumps({"settings": settings.to_json()}, indent=2)
        try:
            write_file(self.path / CONFIG, text.encode())
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> RunError:
        return RunError(f"cannot write to {self.path}: {error.strerror or error}; give another --run folder")

    def settings(self) -> Settings:
        """The settings in config.json. Raises RunError where there are none."""
        where = self.path / CONFIG
        for path in (where, self.path / METRICS, self.path / SAMPLES):
            if path.exists() and not (path.is_file() or path.is_dir()):  # to open a pipe is to wait for its other end
                raise RunError(f"{path} is a pipe or a device, not a file that train wrote")
        try:
            if where.stat().st_size > CONFIG_LIMIT:
                raise ValueError("it is too large to be the settings of a run")
            return Settings.from_json(json.loads(where.read_text(encoding="utf-8"))["settings"])
        except FileNotFoundError:
            what = "there is no folder" if not self.path.exists() else "there is no run in"
            raise RunError(
                f"{what} {self.path}: give the folder that train wrote, such as runs/python-reference-lstm"
            ) from None
        except DAMAGE as error:
            raise RunError(f"cannot use {where}: {_reason(error)}") from None

    def append(self, name: str, text: str) -> None:
        """Add to the end of a file. Raises RunError where that cannot be done."""
        try:
            with open(self.path / name, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError as error:
            raise RunError(f"cannot write to {self.path / name}: {error.strerror or error}; when that is mended, "
                           f"go on: --resume {self.path}") from None

    def sizes(self) -> dict[str, int]:
        """How long the files are that grow."""
        return {
            name: (self.path / name).stat().st_size if (self.path / name).exists() else 0
            for name in (METRICS, SAMPLES)
        }

    def cut(self, sizes: dict[str, int]) -> None:
        """Cut the files that grow back to earlier sizes. Raises RunError where that cannot be done."""
        for name in (METRICS, SAMPLES):
            path = self.path / name
            try:
                if path.exists() and path.stat().st_size > sizes.get(name, 0):
                    os.truncate(path, sizes.get(name, 0))
            except OSError as error:
                raise RunError(f"cannot write to {path}: {error.strerror or error}") from None

    def begin_again(self, windows: int) -> None:
        """Go on with a run that never got as far as a checkpoint: from its first step.

        Args:
            windows: how many an epoch has.

        Raises:
            RunError: it did get so far, and its checkpoints are gone.
        """
        last = max((record["step"] for record in self.records()), default=0)
        if last > make_plan(self.settings(), windows).valid_every:
            raise RunError(f"the checkpoints of {self.path} are gone, and its metrics are of {last:,} steps: put one "
                           "back, or begin a new run in another folder (--run)")
        self.cut({})

    def records(self) -> list[dict[str, Any]]:
        """The lines of the metrics; those that are damaged are left out."""
        found = []
        with suppress(OSError), open(self.path / METRICS, encoding="utf-8", errors="replace") as file:
            while line := file.readline(LINE_LIMIT):
                with suppress(ValueError, RecursionError):
                    record = json.loads(line)
                    if _is_record(record):
                        found.append(record)
        return found

    def picture(self, settings: Settings) -> list[Path]:
        """Draw the loss, where matplotlib is installed; the files written."""
        try:
            ax = plot_loss(self.records(), settings.level)
        except ImportError:
            return []
        ax.set_title(
            f"{os.path.basename(settings.source) or settings.source}, {settings.cell.upper()} "
            f"{settings.layers} × {settings.hidden}",
            loc="left",
            parse_math=False,
        )
        for name in PICTURES:
            buffer = io.BytesIO()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a name in a script that the font does not have
                ax.figure.savefig(buffer, format=name.rpartition(".")[2], dpi=150)
            write_file(self.path / name, buffer.getvalue())
        return [self.path / name for name in PICTURES]


def _is_record(record: object) -> bool:
    """Whether this is a line of metrics: a step, and perhaps losses."""
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        return False
    numbers = [record[name] for name in ("step", "loss", "valid") if record.get(name) is not None]
    return all(type(x) in (int, float) and abs(x) < 1e300 for x in numbers)


def new_folder(settings: Settings, below: str = "runs") -> Path:
    """A folder that is not there yet, named after the text and the cell."""
    stem = {"-": "standard-input"}.get(settings.source, Path(settings.source).stem) or "run"
    name = f"{stem}-{settings.cell}"
    for k in itertools.count(1):
        path = Path(below, name if k == 1 else f"{name}-{k}")
        if not path.exists():
            return path
    raise AssertionError


def write_file(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it: it is either whole or not there. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = str(path)
        with suppress(OSError):
            temporary.unlink()
        raise


# ----------------------------------------------------------------------------------------------------------
# What is saved
# ----------------------------------------------------------------------------------------------------------


class Saved(NamedTuple):
    """A checkpoint: the file, what made the model, and the rest as a tree."""

    path: Path
    settings: Settings
    vocabulary: Vocabulary
    tree: dict[str, Any]

    def model(self) -> LanguageModel:
        """The model with its saved values. Raises RunError where they do not fit."""
        try:
            values = self.tree["trainer"]["model"]
            _check_sizes(self.settings, len(self.vocabulary), values)
            model = make_model(self.settings, len(self.vocabulary))
            model.load_state_dict(values)
        except DAMAGE as error:
            raise RunError(f"cannot use {self.path}: {_reason(error)}") from None
        return model


def load_saved(path: str | os.PathLike[str], say: Say, best: bool = True) -> Saved:
    """A checkpoint: of a file, or the best or else the newest valid one of a run's folder.

    Raises:
        RunError: there is none.
    """
    path = Path(path)
    if path.is_file():
        return _unpacked(path, _load(path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found: tuple[Path, Any] | None = None
        if best and (path / BEST).exists():
            try:
                found = path / BEST, mg.load(path / BEST)
            except CheckpointError as error:
                warnings.warn(f"skipped a checkpoint: {error}", RuntimeWarning, stacklevel=1)
        if found is None and path.is_dir():
            found = latest(path)
    for warning in caught:
        say(str(warning.message))
    if found is None:
        RunFolder(path).settings()  # says so where there is no run at all
        raise RunError(f"there is no usable checkpoint in {path}: train it first (train --resume {path})")
    return _unpacked(*found)


def _load(path: Path) -> Any:
    try:
        return mg.load(path)
    except CheckpointError as error:
        raise RunError(str(error)) from None


def _unpacked(path: Path, tree: Any) -> Saved:
    try:
        if not isinstance(tree, dict):
            raise TypeError("it is not of a run")
        return Saved(
            path, Settings.from_json(tree["settings"]), Vocabulary.from_json(tree["vocabulary"]), tree
        )
    except DAMAGE as error:
        raise RunError(f"cannot use {path}: {_reason(error)}") from None


def _check_sizes(settings: Settings, symbols: int, values: Any) -> None:
    """Compare what the settings ask for with what is saved, before memory is taken for a model of that
    size.
    """
    cells = sum(name.endswith(".weight_hh") for name in values)
    shape = values["recurrent.cells.0.weight_hh"].shape
    rows = values["embedding.weight"].shape if settings.vectors else (symbols, 0)
    output = values["output_bias" if settings.tied else "output.bias"].shape
    if (cells, shape[0], rows[0], output) != (settings.layers, settings.hidden, symbols, (symbols,)) or (
        settings.vectors and rows[1] != settings.vectors
    ):
        raise ValueError("its settings and its model do not belong together")


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return " ".join(text.split())[:300]


# ----------------------------------------------------------------------------------------------------------
# Keeping a run
# ----------------------------------------------------------------------------------------------------------


class Recorder(Observer):
    """Writes what happens in a training to a run's folder, and shows it.

    Args:
        folder: where to.
        settings: of the run.
        vocabulary: of its text.
        progress: the line that shows it.

    Attributes:
        rng: the generator of the samples.
        seconds: how long the run was trained in all, up to the last line of metrics.
    """

    def __init__(
        self, folder: RunFolder, settings: Settings, vocabulary: Vocabulary, progress: Progress
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.vocabulary = vocabulary
        self.progress = progress
        self.rng = generator(settings.seed, "sampling")
        self.seconds = 0.0

    def stepped(self, trainer: Trainer, step: Step) -> None:
        self.progress.stepped(trainer, step)

    def measured(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self.seconds = record["seconds"]
        self.progress.valid = record.get("valid", self.progress.valid)
        self.folder.append(METRICS, json.dumps(record) + "\n")

    def sample(self, trainer: Trainer) -> None:
        text = sample_text(trainer.model, self.vocabulary, self.rng)
        title = f"--- step {trainer.steps}, epoch {trainer.epoch:.1f} ---"
        self.folder.append(SAMPLES, f"{title}\n{text}\n\n")
        self.progress.say(title)
        self.progress.text(text)

    def save(self, trainer: Trainer, best: bool) -> None:
        training = trainer.state_dict()
        common = {"settings": self.settings.to_json(), "vocabulary": self.vocabulary.to_json()}
        if best:
            mg.save(self.folder.path / BEST, {**common, "trainer": {"model": training["model"]}})
        everything = {
            **common,
            "trainer": training,
            "sampling": self.rng,
            "seconds": self.seconds,
            "threads": blas_info()["threads"],
            "sizes": self.folder.sizes(),
        }
        save_rotating(self.folder.path, trainer.steps, everything, keep=self.settings.keep)

    def resume(self, saved: Saved, trainer: Trainer) -> None:
        """Put everything back to where it was. Raises RunError where it does not fit."""
        tree = saved.tree
        try:
            trainer.load_state_dict(tree["trainer"])
            self.rng.bit_generator.state = tree["sampling"]
            self.seconds = float(tree["seconds"])
            sizes = {str(name): int(size) for name, size in tree["sizes"].items()}
        except TextError:
            raise
        except DAMAGE as error:
            raise RunError(f"cannot go on from {saved.path}: {_reason(error)}") from None
        self.folder.cut(sizes)
        threads, before = blas_info()["threads"], tree.get("threads")
        if type(before) is not type(threads) or before != threads:
            self.progress.say(
                f"note: matrix products use {threads} threads here and used {str(before)[:20]} before, "
                "so that the last bits may differ"
            )


def start_ids(vocabulary: Vocabulary) -> list[int]:
    """What to begin a text from where there is no prompt: the end of a line, or else the first symbol."""
    for symbol in ("\n", EOS):
        if symbol in vocabulary.symbols:
            return [vocabulary.symbols.index(symbol)]
    return [0]


def sample_text(
    model: LanguageModel, vocabulary: Vocabulary, rng: np.random.Generator, t: float = 0.8
) -> str:
    """A few lines of what the model writes."""
    training = model.training
    start = start_ids(vocabulary)
    ids = list(itertools.islice(generate(model, start, chooser(rng, t)), SAMPLE[vocabulary.level]))
    model.train(training)
    return vocabulary.decode(ids).strip("\n")

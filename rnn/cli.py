"""The commands: `python -m rnn train | sample | evaluate | draw | info`.

Texts and results go to standard output, messages to standard error. A mistake of the user is one line that
says what is wrong and what to do, and the exit status 2; what goes wrong in a run is status 1; a training
that was stopped by a signal has the status that is usual for it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import os
import platform
import shutil
import signal
import sys
import unicodedata
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.checkpoint import CheckpointError
from minigrad.draw.render import RenderError
from minigrad.environment import blas_info, cpu_name, keep_memory, use_threads

from .build import make_drawn, make_model, make_plan, make_trainer, parts, read
from .decode import chooser, generate
from .language_model import LanguageModel, evaluate
from .layers import Recurrent
from .options import PROGRAM, parser
from .progress import UNIT, Progress, leave, loss_text, say
from .runs import Recorder, RunError, RunFolder, load_saved, new_folder, start_ids
from .settings import Settings, SettingsError
from .text import EMBEDDED, Level, TextError
from .train import CosineToTheEnd, Interrupts, NonFiniteError, Plan, Trainer, fit

MANY_NOTES = 10  # about a text that are shown
MISTAKES = (SettingsError, TextError, RunError, CheckpointError, RenderError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this: nobody wants to read it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    options = parser(_version("minigrad-rnn"))
    arguments = options.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):  # what a terminal cannot show is shown as a question mark
        if isinstance(getattr(stream, "errors", None), str) and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if arguments.command is None:
        options.print_help()
        return 0
    try:
        for name in ("source", "run", "resume", "folder", "output"):
            path = getattr(arguments, name, None)
            if path is not None and (not path or "\0" in path):
                raise SettingsError(f"{path!r} is no name of a file or folder")
        return COMMANDS[arguments.command](arguments)
    except MISTAKES as error:
        return _fail(arguments, str(error), 2)
    except NonFiniteError as error:
        return _fail(arguments, str(error), 1)
    except BrokenPipeError:  # who read has read enough
        leave(sys.stdout)
        return 0
    except OSError as error:
        return _fail(arguments, f"{error.filename or 'standard output'}: {error.strerror or error}", 2)
    except MemoryError:
        what = "give a smaller --hidden, --batch or --time, or --limit the text"
        return _fail(arguments, f"there is not enough memory: {what}", 2)
    except KeyboardInterrupt:
        return _fail(arguments, "interrupted", 128 + signal.SIGINT)


def _set_up(threads: int | None) -> None:
    """What suits a process that trains: memory that is kept, and products that do not wait for each other."""
    keep_memory()
    if threads is not None:
        if not use_threads(threads):
            say("note: --threads is for OpenBLAS, and NumPy uses another BLAS here")
    elif not any(name in os.environ for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")):
        use_threads(1)


def _fail(arguments: Namespace, message: str, status: int) -> int:
    say(f"{arguments.prog}: {' '.join(message.split())}")
    return status


# ----------------------------------------------------------------------------------------------------------
# train
# ----------------------------------------------------------------------------------------------------------


def train(arguments: Namespace) -> int:
    """A new run, or one that goes on."""
    given = {name: value for name, value in vars(arguments).items() if name not in ("command", "prog")}
    run, overwrite = given.pop("run", None), given.pop("overwrite", False)
    resume = given.pop("resume", None)
    if given.get("clip") and given.get("clip_value"):
        raise SettingsError("--clip and --clip-value exclude each other: give one")
    if resume is None:
        settings, saved = Settings(**_found_again(given)), None
        settings.check_effects()
        folder = RunFolder(new_folder(settings) if run is None else run)
    else:
        if run is not None or overwrite:
            raise SettingsError("--resume goes on in its own folder: leave out --run and --overwrite")
        folder = RunFolder(resume)
        settings = folder.settings().changed(_found_again(given))
        saved = load_saved(resume, say, best=False) if folder.checkpoints() else None
    _set_up(settings.threads)

    corpus, vocabulary = read(settings)
    for note in corpus.notes[:MANY_NOTES]:
        say(f"note: {note}")
    if len(corpus.notes) > MANY_NOTES:
        say(f"note: and {len(corpus.notes) - MANY_NOTES:,} more of the kind")
    if saved is not None and saved.vocabulary != vocabulary:
        raise RunError(f"{corpus.name} is not the text that {resume} was trained on: it has other symbols")
    ids = vocabulary.encode(corpus.text)
    learn, hold = parts(settings, ids)
    trainer = make_trainer(settings, make_model(settings, len(vocabulary)), learn, hold)
    plan = make_plan(settings, len(trainer.batches))

    with Interrupts() as interrupts, Progress(plan, vocabulary.level) as progress:
        recorder = Recorder(folder, settings, vocabulary, progress)
        if saved is not None:
            recorder.resume(saved, trainer)
            if "lr" in given:
                _change_rate(trainer, settings.rate, plan)
        if plan.steps is not None and trainer.steps >= plan.steps:
            raise SettingsError(f"the run has come to its end, step {trainer.steps}: "
                                "give more --epochs, --steps or --minutes")
        if resume is None:
            folder.begin(settings, overwrite)
        else:
            if saved is None:
                folder.begin_again(len(trainer.batches))
            if saved is not None and "lr" in given:  # whoever kills this run finds the new rate
                recorder.save(trainer, best=False)
            folder.write(settings)
        unit = UNIT[vocabulary.level] + "s"
        progress.say(f"text   {corpus.name}: {len(ids):,} {unit}, {len(vocabulary):,} different; "
                     f"{len(learn):,} to learn from, {0 if hold is None else len(hold):,} for validation")
        progress.say(f"model  {_describe(settings, trainer)}")
        progress.say(f"run    {folder.path}" + (f", from step {trainer.steps}" if saved else ""))
        try:
            why = fit(trainer, plan, recorder, interrupts, seconds_before=recorder.seconds)
        except NonFiniteError as error:
            rate = trainer.schedule.base if settings.schedule == "cosine" and trainer.schedule else trainer.optimiser.lr
            raise NonFiniteError(
                f"{error}; the last good model is kept: go on from there with a lower rate, "
                f"--resume {folder.path} --lr {rate / 4:g}, or --non-finite skip") from None
    folder.picture(settings)
    best = f", best validation {loss_text(trainer.best, vocabulary.level)}" if trainer.best < np.inf else ""
    where = f"step {trainer.steps}, epoch {trainer.epoch:.1f}{best}"
    if why in ("steps", "seconds"):
        say(f"done: {where}; let it write: {PROGRAM} sample {folder.path}")
        return 0
    say(f"stopped by {why}: {where}; go on: {PROGRAM} train --resume {folder.path}")
    return 128 + signal.Signals[why]


def _found_again(given: dict[str, Any]) -> dict[str, Any]:
    """The settings with a source that is found again, from wherever the run goes on."""
    source = given.get("source", "-")
    return given if source == "-" or source in EMBEDDED else {**given, "source": os.path.abspath(source)}


def _change_rate(trainer: Trainer, rate: float, plan: Plan) -> None:
    """The learning rate is another from here on; of a cosine it is what the rest of its course is measured by."""
    schedule = trainer.schedule
    trainer.optimiser.lr = rate
    if schedule is not None:
        schedule.base = rate
    if isinstance(schedule, mg.optim.ExponentialLR):
        schedule.steps = min(schedule.steps, schedule.start - 1)  # not all of its decay so far at once
    if isinstance(schedule, CosineToTheEnd):
        schedule.progress = trainer.steps / plan.steps if plan.steps else 0.0
        trainer.optimiser.lr = schedule.rate(schedule.steps)


def _describe(settings: Settings, trainer: Trainer) -> str:
    size = sum(p.size for p in trainer.model.parameters())
    inputs = f"embedding {settings.vectors}" if settings.vectors else "one-hot"
    return (f"{settings.cell.upper()} {settings.layers} × {settings.hidden}, {inputs}, {size:,} parameters; "
            f"{len(trainer.batches):,} steps an epoch")


# ----------------------------------------------------------------------------------------------------------
# sample, evaluate
# ----------------------------------------------------------------------------------------------------------


def sample(arguments: Namespace) -> int:
    """Write, symbol by symbol."""
    a = arguments
    if a.top_p == 0:
        raise SettingsError("--top-p is above 0")
    saved = load_saved(a.folder, say)
    _set_up(saved.settings.threads)
    form, prompt = saved.settings.normalize, _prompt(a.prompt, saved.vocabulary.level)
    ids = saved.vocabulary.encode(unicodedata.normalize(form, prompt) if form else prompt).tolist()
    model = saved.model()
    decoder = saved.vocabulary.decoder()
    _write("".join(map(decoder.feed, ids)))
    choose = chooser(np.random.default_rng(a.seed), a.temperature, a.top_k, a.top_p)
    try:
        for symbol in itertools.islice(generate(model, ids or start_ids(saved.vocabulary), choose), a.length):
            _write(decoder.feed(symbol))
    except ValueError as error:
        raise RunError(f"cannot sample from {saved.path}: {error}") from None
    _write(decoder.flush() + "\n")
    return 0


def _prompt(text: str, level: Level) -> str:
    """A text from the command line: UTF-8 where its bytes are, in any locale."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeEncodeError:  # half a character, which no command line has: the vocabulary says where
        return text
    except UnicodeDecodeError as error:
        if level == "byte":
            return text
        byte = error.object[error.start]
        raise SettingsError(f"--prompt is not UTF-8: byte {error.start + 1} of it is 0x{byte:02x}, which only a model "
                            "at level byte can read") from None


def _write(text: str) -> None:
    """Write to standard output so that it is seen at once."""
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()


def score(arguments: Namespace) -> int:
    """The score on what was held out, or on another text."""
    saved = load_saved(arguments.folder, say)
    _set_up(saved.settings.threads)
    # Symbols that are rare here are whatever the vocabulary of the run says.
    settings = {**saved.settings.to_json(), "min_count": 1, "max_symbols": None}
    if arguments.source is not None:
        settings |= {"source": arguments.source, "limit": None}
    for name in ("pattern", "encoding", "limit"):
        if getattr(arguments, name) is not None:
            settings[name] = getattr(arguments, name)
    corpus, _ = read(Settings.from_json(settings))
    ids, name = saved.vocabulary.encode(corpus.text), corpus.name
    if arguments.source is None and saved.settings.valid:
        ids = ids[round(ids.size * (1 - saved.settings.valid)):]
        name = f"the end of {name}, held out for validation"
    rows = max(1, min(arguments.batch, ids.size - 1))
    result = evaluate(saved.model(), ids, rows, saved.settings.time)
    unit = UNIT[saved.vocabulary.level]
    print(f"{result.bits:.4f} bits/{unit}   {result.nats:.4f} nats/{unit}   "
          f"perplexity {result.perplexity:.4f}")
    say(f"{result.symbols:,} {unit}s of {name}; model {saved.path}")
    return 0


# ----------------------------------------------------------------------------------------------------------
# draw, info
# ----------------------------------------------------------------------------------------------------------


def draw(arguments: Namespace) -> int:
    """A picture of the graph of the loss over a few steps."""
    a = arguments
    if a.folder is not None:
        for name in ("cell", "hidden", "layers", "symbols", "scheme", "bidirectional"):
            if getattr(a, name):
                raise SettingsError(f"--{name} is for a new model: leave it out, or RUN")
        saved = load_saved(a.folder, say)
        cell: str = saved.settings.cell
        model: LanguageModel | Recurrent = saved.model()
    else:
        cell = a.cell or "lstm"
        settings = Settings(hidden=a.hidden or 8, layers=a.layers or 1, embedding=4 if a.scheme else None,
                            dropout=0.5 if a.scheme else 0.0, scheme=a.scheme or "non-recurrent")
        model = make_drawn(settings, cell, a.symbols or 5, a.bidirectional)
    steps = "one step" if a.steps == 1 else f"{a.steps} steps"
    what = "language model" if isinstance(model, LanguageModel) else "read both ways"
    title = f"{cell.upper()} {what} over {steps}"
    loss = small_loss(model, a.steps)
    try:
        path = mg.draw(loss, a.view, gradients=True, theme=a.theme, title=title).save(Path(a.output))
    except ValueError as error:  # about the suffix
        raise SettingsError(str(error)) from None
    say(f"drew {path}" + (": open it in a browser" if path.suffix == ".svg" else ""))
    return 0


def small_loss(model: LanguageModel | Recurrent, steps: int) -> mg.Tensor:
    """For a picture: the loss of a model, or the mean square of layers' outputs, over a few steps of one sequence."""
    if isinstance(model, LanguageModel):
        model.recurrent.compiled = False  # every step is to be seen
        ids = np.arange(steps + 1)[None, :] % model.symbols
        loss, _ = model.loss(ids[:, :-1], ids[:, 1:])
    else:
        model.compiled = False
        x = np.random.default_rng(0).normal(size=(1, steps, model.input_size)).astype(model.dtype)
        outputs, _ = model(mg.tensor(x, name="x"))
        loss = np.mean(np.square(outputs))
    loss.name = "loss"
    return loss


def info(arguments: Namespace) -> int:
    """What this runs on, and what could be faster."""
    blas = blas_info()
    rows = {
        "minigrad": _version("minigrad-rnn"),
        "Python": f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        "NumPy": np.__version__,
        "CPU": f"{cpu_name()}, {os.cpu_count()} logical",
        "BLAS": " ".join(filter(None, (blas["library"], blas["version"]))) or "unknown",
        "kernels": blas["core"] or "unknown",
        "threads": str(blas["threads"] or "unknown"),
        "numba": _version("numba", "not installed; it speeds up the loop over time: 'minigrad-rnn[fast]'"),
        "matplotlib": _version("matplotlib", "not installed; it draws the loss: 'minigrad-rnn[plot]'"),
        "Graphviz": shutil.which("dot") or "not installed; drawings are SVG without it",
    }
    for name, value in rows.items():
        print(f"{name:11} {value}")
    print(f"\n{blas['advice'] or 'The matrix products use the best kernels known for this CPU.'}")
    return 0


def _version(distribution: str, missing: str = "unknown") -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return missing


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "train": train, "sample": sample, "evaluate": score, "draw": draw, "info": info}

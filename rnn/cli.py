"""The command line: `python -m rnn train | sample | evaluate | draw | info`.

Texts and results go to standard output, messages to standard error. A mistake of the user is one line that says what is
wrong and what to do, and the exit status 2; what goes wrong in a run is status 1.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import itertools
import os
import platform
import shutil
import signal
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np

import minigrad as mg
from minigrad.checkpoint import CheckpointError
from minigrad.draw import RenderError
from minigrad.environment import blas_info, cpu_name

from .decode import chooser, generate
from .language_model import LanguageModel, evaluate
from .progress import UNIT, Progress, loss_text
from .runs import BEST, Recorder, RunError, RunFolder, Saved, load_saved, new_folder, say_to_stderr, start_ids
from .settings import (
    CELLS,
    LEARNING_RATES,
    Compiled,
    ScheduleName,
    Settings,
    SettingsError,
    make_model,
    make_trainer,
    parts,
    read,
    steps_to_take,
)
from .text import EMBEDDED, LEVELS, NORMAL_FORMS, TextError, Vocabulary
from .train import Interrupts, NonFinite, NonFiniteError, Plan, fit

MISTAKES = (SettingsError, TextError, RunError, CheckpointError, RenderError)
say = say_to_stderr


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    arguments = parser().parse_args(argv)
    _tolerant(sys.stdout)
    _tolerant(sys.stderr)
    call: Callable[[argparse.Namespace], int] = arguments.call
    try:
        return call(arguments)
    except MISTAKES as error:
        return _fail(arguments, str(error), 2)
    except NonFiniteError as error:
        return _fail(arguments, str(error), 1)
    except BrokenPipeError:  # who read has read enough
        _close_stdout()
        return 0
    except OSError as error:
        return _fail(arguments, f"{error.filename or 'a file'}: {error.strerror or error}", 2)
    except MemoryError:
        return _fail(arguments, "there is not enough memory: give a smaller --hidden, --batch or --time, or --limit the text", 2)
    except KeyboardInterrupt:
        return _fail(arguments, "interrupted", 128 + signal.SIGINT)


def _fail(arguments: argparse.Namespace, message: str, status: int) -> int:
    say(f"{arguments.prog}: {' '.join(message.split())}")
    return status


def _tolerant(stream: Any) -> None:
    """What a terminal cannot show is shown as a question mark."""
    if hasattr(stream, "reconfigure") and getattr(stream, "errors", "") == "strict":
        stream.reconfigure(errors="replace")


def _close_stdout() -> None:
    """Nobody reads standard output any more; so that Python does not complain at its end, it goes nowhere."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass


# --------------------------------------------------------------------------------------------------------------
# Arguments
# --------------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


TRAIN = """\
Train a language model on a text, and keep everything in a folder.

The text is a file, a folder (with --pattern), "-" for standard input, or one that comes with Python:
{embedded}.
Ctrl-C stops with a checkpoint; --resume goes on from there, bit for bit."""

TRAIN_EXAMPLES = """\
examples:
  python -m rnn train                                    the language reference of Python, for 10 epochs
  python -m rnn train novel.txt --minutes 5              as far as it comes in five minutes
  python -m rnn train notes/ --pattern '*.md' --level word --embedding 100
  zcat log.gz | python -m rnn train - --level byte --run runs/log
  python -m rnn train --cell gru --layers 2 --hidden 128 --dropout 0.3
  python -m rnn train --resume runs/novel-lstm --epochs 20 --lr 5e-4"""

SAMPLE_EXAMPLES = """\
examples:
  python -m rnn sample runs/novel-lstm
  python -m rnn sample runs/novel-lstm --prompt 'It was ' --temperature 0.7 --length 1000
  python -m rnn sample runs/novel-lstm --top-k 10 --top-p 0.95 --seed 1 | less"""

EVALUATE_EXAMPLES = """\
examples:
  python -m rnn evaluate runs/novel-lstm                 the part held out for validation
  python -m rnn evaluate runs/novel-lstm other.txt"""

DRAW_EXAMPLES = """\
examples:
  python -m rnn draw runs/novel-lstm -o graph.svg
  python -m rnn draw --cell lstm --steps 3
  python -m rnn draw --cell gru --hidden 4 --layers 2 -o gru.svg"""


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = _Parser(prog="python -m rnn", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
                  description="Recurrent networks that learn to write: train one on any text, and read what it writes.",
                  epilog="Each command has its own help: python -m rnn train --help")
    top.add_argument("--version", action="version", version=f"minigrad {_version('minigrad-rnn')}")
    top.set_defaults(call=lambda _: top.print_help() or 0, prog=top.prog)
    commands = top.add_subparsers(title="commands", metavar="command")

    def command(name: str, call: Callable[[argparse.Namespace], int], summary: str, description: str = "",
                epilog: str = "", **options: Any) -> _Parser:
        sub: _Parser = commands.add_parser(
            name, help=summary, description=description or summary[0].upper() + summary[1:] + ".", epilog=epilog,
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        sub.set_defaults(call=call, prog=sub.prog)
        return sub

    _train_arguments(command("train", train, "learn from a text", TRAIN.format(embedded=", ".join(EMBEDDED)),
                             TRAIN_EXAMPLES, argument_default=argparse.SUPPRESS))
    _sample_arguments(command("sample", sample, "let a trained model write", epilog=SAMPLE_EXAMPLES))
    _evaluate_arguments(command("evaluate", score, "measure how well a trained model predicts a text",
                                epilog=EVALUATE_EXAMPLES))
    _draw_arguments(command("draw", draw, "draw the graph of a model over a few steps", epilog=DRAW_EXAMPLES))
    command("info", info, "versions, the matrix products' kernels and threads, and what could be faster")
    return top


def _train_arguments(sub: argparse.ArgumentParser) -> None:
    defaults = Settings()

    def group(title: str) -> Callable[..., None]:
        section = sub.add_argument_group(title)

        def add(flag: str, text: str, default: Any = None, **options: Any) -> None:
            name = flag.lstrip("-").replace("-", "_")
            value = getattr(defaults, name) if default is None and hasattr(defaults, name) else default
            shown = "" if value is None or value is False else f" (default {value})"
            if "choices" in options and "metavar" not in options:
                options["metavar"] = "|".join(options["choices"])
            section.add_argument(flag, help=(text + shown).replace("%", "%%"), **options)

        return add

    add = group("the text")
    add("source", "file, folder, - or the name of an embedded text", nargs="?")
    add("--level", "what a symbol is", choices=LEVELS)
    add("--pattern", "which files of a folder, at any depth", metavar="GLOB")
    add("--encoding", "of the text", metavar="NAME")
    add("--normalize", "Unicode normal form to bring the text to", "leave it as it is", choices=NORMAL_FORMS)
    add("--limit", "read so many characters at most", "all", type=int, metavar="N")
    add("--min-count", "rarer symbols become one, for unknown ones", type=int, metavar="N")
    add("--max-symbols", "so many symbols at most, the most frequent", "all", type=int, metavar="N")
    add("--valid", "part of the text, at its end, that is held out for validation; 0 for none", type=float,
        metavar="FRACTION")

    add = group("the model")
    add("--cell", "of the recurrent layers", choices=tuple(CELLS))
    add("--hidden", "width of each layer", type=int, metavar="N")
    add("--layers", "how many on top of each other", type=int, metavar="N")
    add("--embedding", "size of the learned vectors for symbols; 0 for one-hot", type=int, metavar="N")
    add("--tied", "use the embedding for the output too (needs --embedding as wide as --hidden)", action="store_true")
    add("--dropout", "drop probability between embedding and layers and between layers and output", type=float,
        metavar="P")
    add("--init", "draw all first values uniformly from ± this", "by layer: orthogonal, Xavier", type=float,
        metavar="X")
    add("--forget-bias", "first value of the LSTM's forget bias", type=float, metavar="X")
    add("--compiled", "how the loop over time runs", choices=get_args(Compiled))

    add = group("the training")
    add("--batch", "how many stretches of the text are read side by side", type=int, metavar="N")
    add("--time", "steps of backpropagation through time", type=int, metavar="N")
    add("--epochs", "how often to go through the text", "10, if neither --steps nor --minutes is given", type=float,
        metavar="X")
    add("--steps", "stop after so many steps", type=int, metavar="N")
    add("--minutes", "stop after so many minutes", type=float, metavar="X")
    add("--optimizer", "how parameters move", choices=tuple(LEARNING_RATES))
    add("--lr", "learning rate", ", ".join(f"{name} {rate:g}" for name, rate in LEARNING_RATES.items()), type=float,
        metavar="X")
    add("--schedule", "of the learning rate: exponential and plateau multiply it by --lr-decay, after each epoch or where "
        "validation does not improve; cosine lets it fall to 0 at the end", choices=get_args(ScheduleName))
    add("--lr-decay", "factor of the schedule; given alone it means exponential", "exponential 0.97, plateau 0.25",
        type=float, metavar="X")
    add("--decay-from", "first epoch after which an exponential schedule decays", type=int, metavar="N")
    add("--clip", "largest norm of the gradient; 0 for any", type=_or_none, metavar="X")
    add("--clip-value", "largest value in the gradient, in place of --clip", "none", type=_or_none, metavar="X")
    add("--non-finite", "where a loss or gradient is not finite: stop with a checkpoint, or skip the step",
        choices=get_args(NonFinite))
    add("--seed", "of all random numbers", type=int, metavar="N")

    add = group("the run")
    add("--run", "folder for everything", "a new one in runs/", metavar="FOLDER")
    add("--overwrite", "replace the run that is in the folder", action="store_true")
    add("--resume", "go on with a run; of the other options it takes --epochs, --steps, --minutes, --lr, --clip, "
        "--clip-value, --non-finite, --valid-every, --sample-every, --keep and --compiled", metavar="FOLDER")
    add("--valid-every", "steps from one validation to the next", "an epoch, within 100 and 1000", type=int, metavar="N")
    add("--sample-every", "steps from one sample to the next; 0 for none", "with each validation", type=int, metavar="N")
    add("--keep", "how many checkpoints to keep, beside the best", type=int, metavar="N")


def _sample_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", metavar="RUN", help="folder that train wrote, or one of its checkpoints")
    sub.add_argument("--prompt", default="", metavar="TEXT", help="what it begins with (default: a new line)")
    sub.add_argument("--length", type=_number(int, 0), default=500, metavar="N",
                     help="how many symbols to write (default %(default)s)")
    sub.add_argument("--temperature", type=_number(float, 0), default=1.0, metavar="X",
                     help="below 1 more usual, above 1 more daring, 0 always the likeliest (default %(default)s)")
    sub.add_argument("--top-k", type=_number(int, 1), metavar="K", help="choose among the K likeliest (default: all)")
    sub.add_argument("--top-p", type=_number(float, 0, 1), metavar="P",
                     help="choose among the likeliest that have the probability P together (default: all)")
    sub.add_argument("--seed", type=_number(int, 0), metavar="N", help="to write the same again (default: by chance)")


def _evaluate_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", metavar="RUN", help="folder that train wrote, or one of its checkpoints")
    sub.add_argument("source", nargs="?", help="another text (default: what the run held out for validation)")
    sub.add_argument("--pattern", metavar="GLOB", help="which files, if the text is a folder (default: as in training)")
    sub.add_argument("--encoding", metavar="NAME", help="of the text (default: as in training)")
    sub.add_argument("--limit", type=_number(int, 1), metavar="N", help="read so many characters at most")
    sub.add_argument("--batch", type=_number(int, 1), default=1, metavar="N",
                     help="cut the text into so many rows, which is faster and costs each its beginning (default 1)")


def _draw_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", nargs="?", metavar="RUN", help="folder that train wrote (default: a new, small model)")
    sub.add_argument("-o", "--output", default="graph.svg", metavar="FILE",
                     help=".svg, .dot or .txt; .png or .pdf where Graphviz is installed (default %(default)s)")
    sub.add_argument("--steps", type=_number(int, 1), default=3, metavar="N", help="steps in time (default %(default)s)")
    sub.add_argument("--cell", choices=tuple(CELLS), help="of a new model (default lstm)")
    sub.add_argument("--hidden", type=_number(int, 1), metavar="N", help="of a new model (default 8)")
    sub.add_argument("--layers", type=_number(int, 1), metavar="N", help="of a new model (default 1)")
    sub.add_argument("--symbols", type=_number(int, 2), metavar="N", help="of a new model's vocabulary (default 5)")
    sub.add_argument("--theme", choices=("light", "dark", "auto"), default="light", help="colours (default %(default)s)")


def _number(kind: type[Any], least: float, most: float | None = None) -> Callable[[str], Any]:
    """A type of argument: a number within bounds."""
    def convert(text: str) -> Any:
        value = kind(text)
        if not (least <= value and value <= (sys.float_info.max if most is None else most)):
            bounds = f"at least {least}" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"it is {bounds}, not {text}")
        return value

    convert.__name__ = {int: "whole number", float: "number"}[kind]  # argparse shows it where the text is no number
    return convert


def _or_none(text: str) -> float | None:
    """A number, where 0 means none."""
    return float(text) or None


_or_none.__name__ = "number"


# --------------------------------------------------------------------------------------------------------------
# Commands
# --------------------------------------------------------------------------------------------------------------


def train(arguments: argparse.Namespace) -> int:
    """`train`: a new run, or one that goes on."""
    given = {k: v for k, v in vars(arguments).items() if k not in ("call", "prog")}
    run, resume, overwrite = given.pop("run", None), given.pop("resume", None), given.pop("overwrite", False)
    if resume is not None and (run is not None or overwrite):
        raise SettingsError("--resume goes on in its own folder: leave out --run and --overwrite")
    saved: Saved | None = None
    if resume is not None:
        folder = RunFolder(resume)
        settings = folder.settings().changed(given)
        if list(folder.path.glob("checkpoint-*.npz")):
            saved = load_saved(resume, say, best=False)
    else:
        settings = _new_settings(given)
        folder = RunFolder(new_folder(settings) if run is None else run)

    corpus, vocabulary = read(settings)
    for note in corpus.notes:
        say(f"note: {note}")
    if saved is not None and saved.vocabulary != vocabulary:
        raise RunError(f"{corpus.name} is not the text that {resume} was trained on: its symbols are others")
    ids = vocabulary.encode(corpus.text)
    learn, hold = parts(settings, ids)
    model = make_model(settings, len(vocabulary))
    trainer = make_trainer(settings, model, learn, hold)
    windows = len(trainer.batches)
    every = settings.valid_every or min(max(windows, 100), 1000)
    plan = Plan(steps=steps_to_take(settings, trainer.batches),
                seconds=None if settings.minutes is None else 60 * settings.minutes, valid_every=every,
                sample_every=every if settings.sample_every is None else settings.sample_every)
    if resume is None:
        folder.begin(settings, overwrite)

    unit = UNIT[vocabulary.level] + "s"
    with Interrupts() as interrupts, Progress(plan, vocabulary.level) as progress:
        recorder = Recorder(folder, settings, vocabulary, progress)
        if saved is not None:
            recorder.resume(saved, trainer)
            if "lr" in given:
                trainer.optimiser.lr = settings.rate
                if trainer.schedule is not None:
                    trainer.schedule.base = settings.rate
        progress.say(f"text   {corpus.name}: {len(ids):,} {unit}, {len(vocabulary):,} different; {len(learn):,} to learn "
                     f"from, {0 if hold is None else len(hold):,} for validation")
        size = sum(p.size for p in model.parameters())
        progress.say(f"model  {settings.cell.upper()} {settings.layers} × {settings.hidden}, "
                     + (f"embedding {settings.embedding}" if settings.embedding else "one-hot")
                     + f", {size:,} parameters; {windows:,} steps an epoch")
        progress.say(f"run    {folder.path}" + (f", from step {trainer.steps}" if saved else ""))
        if plan.steps is not None and trainer.steps >= plan.steps:
            raise SettingsError(f"the run has come to its end, step {trainer.steps}: give more --epochs, --steps or --minutes")
        try:
            why = fit(trainer, plan, recorder, interrupts, seconds_before=recorder.seconds)
        except NonFiniteError as error:
            raise NonFiniteError(f"{error}; the model from before this step is in {folder.path}: go on with a lower "
                                 f"rate (--resume {folder.path} --lr {settings.rate / 4:g}), or --non-finite skip") from None
    folder.picture(settings)
    best = f", best validation {loss_text(trainer.best, vocabulary.level)}" if np.isfinite(trainer.best) else ""
    if why.startswith("SIG"):
        say(f"stopped by {why} at step {trainer.steps}{best}; go on with: python -m rnn train --resume {folder.path}")
        return 128 + signal.Signals[why]
    say(f"done: step {trainer.steps}, epoch {trainer.epoch:.1f}{best}; let it write with: python -m rnn sample {folder.path}")
    return 0


def _new_settings(given: dict[str, Any]) -> Settings:
    if "clip" in given and "clip_value" in given and given["clip"] and given["clip_value"]:
        raise SettingsError("--clip and --clip-value exclude each other: give one")
    if "lr_decay" in given and "schedule" not in given:
        given["schedule"] = "exponential"
    source = given.get("source", Settings.source)
    if source != "-" and source not in EMBEDDED:
        given["source"] = os.path.abspath(source)
    return Settings(**given)


def sample(arguments: argparse.Namespace) -> int:
    """`sample`: write, symbol by symbol."""
    a = arguments
    if a.top_p == 0:
        raise SettingsError("--top-p is above 0")
    saved = load_saved(a.folder, say)
    prompt = unicodedata.normalize(saved.settings.normalize, a.prompt) if saved.settings.normalize else a.prompt
    ids = saved.vocabulary.encode(prompt).tolist()
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


def _write(text: str) -> None:
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()


def score(arguments: argparse.Namespace) -> int:
    """`evaluate`: the score on a text."""
    a = arguments
    saved = load_saved(a.folder, say)
    settings = saved.settings
    given = {name: getattr(a, name) for name in ("source", "pattern", "encoding", "limit") if getattr(a, name) is not None}
    held_out = a.source is None
    if not held_out:
        given = {"limit": None, **given}
    settings = Settings.from_json({**settings.to_json(), **given, "min_count": 1, "max_symbols": None})
    corpus = read(settings)[0]
    ids = saved.vocabulary.encode(corpus.text)
    name = corpus.name
    if held_out and settings.valid:
        ids, name = ids[round(ids.size * (1 - settings.valid)):], f"the validation part of {name}"
    result = evaluate(saved.model(), ids, a.batch, settings.time)
    unit = UNIT[saved.vocabulary.level]
    print(f"{result.bits:.4f} bits/{unit}  {result.nats:.4f} nats/{unit}  perplexity {result.perplexity:.4f}  "
          f"({result.symbols:,} {unit}s of {name}; {saved.path.name})")
    return 0


def draw(arguments: argparse.Namespace) -> int:
    """`draw`: a picture of the graph of the loss over a few steps."""
    a = arguments
    output = Path(a.output)
    if a.folder is not None:
        for name in ("cell", "hidden", "layers", "symbols"):
            if getattr(a, name) is not None:
                raise SettingsError(f"--{name} is for a new model: leave it out, or RUN")
        saved = load_saved(a.folder, say)
        settings, model = saved.settings, saved.model()
    else:
        settings = Settings(cell=a.cell or "lstm", hidden=a.hidden or 8, layers=a.layers or 1)
        model = make_model(settings, a.symbols or 5)
    title = f"{settings.cell.upper()} language model over {a.steps} step{'s' if a.steps > 1 else ''}"
    loss = graph(model, a.steps)
    try:
        path = mg.draw(loss, gradients=True, theme=a.theme, title=title).save(output)
    except ValueError as error:  # of the suffix
        raise SettingsError(str(error)) from None
    say(f"drew {path}: open it in a browser" if path.suffix == ".svg" else f"drew {path}")
    return 0


def graph(model: LanguageModel, steps: int) -> mg.Tensor:
    """The loss of a model over a few steps of one sequence, named for a picture."""
    ids = np.arange(steps + 1)[None, :] % model.symbols
    loss, _ = model.loss(ids[:, :-1], ids[:, 1:])
    loss.name = "loss"
    return loss


def info(arguments: argparse.Namespace) -> int:
    """`info`: what this runs on."""
    blas = blas_info()
    dot = shutil.which("dot")
    rows = [
        ("minigrad", _version("minigrad-rnn")),
        ("Python", f"{platform.python_version()} ({platform.python_implementation()}, {platform.system()} {platform.machine()})"),
        ("NumPy", np.__version__),
        ("CPU", f"{cpu_name()}, {os.cpu_count()} logical"),
        ("BLAS", " ".join(filter(None, (blas["library"], blas["version"]))) or "unknown"),
        ("kernels", blas["core"] or "unknown"),
        ("threads", str(blas["threads"] or "unknown")),
        *[(name, _version(name) if importlib.util.find_spec(name) else f"not installed: {what}") for name, what in (
            ("numba", "pip install 'minigrad-rnn[fast]' compiles the loop over time"),
            ("matplotlib", "pip install 'minigrad-rnn[plot]' draws loss curves"))],
        ("Graphviz", dot or "not installed: drawings are SVG only"),
    ]
    for name, value in rows:
        print(f"{name:11} {value}")
    print(f"\n{blas['advice'] or 'The matrix products use the best kernels that are known for this CPU.'}")
    return 0


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


__all__ = ["BEST", "Vocabulary", "main", "parser"]

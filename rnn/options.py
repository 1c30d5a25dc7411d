"""The options of the command line, and their help. Those of `train` are the fields of `Settings`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from .build import DRAWN
from .settings import SchemeName, Settings, option
from .text import EMBEDDED

PROGRAM = "python -m rnn"
GROUPS = {"source": "the text", "cell": "the model", "batch": "the training", "valid_every": "the run"}
"""Where a group of settings begins, and its title."""

TRAIN = f"""\
Train a language model on a text, and keep everything in a folder.

The text is a file, a folder (with --pattern), "-" for standard input, or one that comes with Python:
{', '.join(EMBEDDED)}.
Ctrl-C stops with a checkpoint; --resume goes on from there, bit for bit."""

EXAMPLES = {
    "train": """
  python -m rnn train                                 the language reference of Python, for 10 epochs
  python -m rnn train novel.txt --minutes 5           as far as it comes in five minutes
  python -m rnn train notes/ --pattern '*.md' --level word --embedding 100
  zcat log.gz | python -m rnn train - --level byte --run runs/log
  python -m rnn train --cell gru --layers 2 --hidden 128 --dropout 0.3
  python -m rnn train --resume runs/novel-lstm --epochs 20 --lr 5e-4""",
    "sample": """
  python -m rnn sample runs/novel-lstm
  python -m rnn sample runs/novel-lstm --prompt 'It was ' --temperature 0.7 --length 1000
  python -m rnn sample runs/novel-lstm --top-k 10 --top-p 0.95 --seed 1 | less""",
    "evaluate": """
  python -m rnn evaluate runs/novel-lstm              the part held out for validation
  python -m rnn evaluate runs/novel-lstm other.txt""",
    "draw": """
  python -m rnn draw runs/novel-lstm -o graph.svg
  python -m rnn draw --cell lstm --steps 3
  python -m rnn draw --cell gru --hidden 4 --layers 2 -o gru.svg
  python -m rnn draw --scheme zoneout --view rolled"""}

LARGEST = 10**18  # whole number that an option takes: what counts and sizes can be
RUN = "folder that train wrote, or one of its checkpoints"


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)\n")


def parser(version: str) -> argparse.ArgumentParser:
    """The parser of the whole command line; it leaves the name of the command in `command`, and `prog`."""
    layout = argparse.RawDescriptionHelpFormatter
    top = Parser(prog=PROGRAM, allow_abbrev=False, formatter_class=layout,
                 description="Networks that learn to write: train one on any text, and read what it writes.",
                 epilog=f"Each command has its own help: {PROGRAM} train --help")
    top.add_argument("--version", action="version", version=f"minigrad {version}")
    top.set_defaults(command=None, prog=PROGRAM)
    commands = top.add_subparsers(title="commands", metavar="command")

    def command(name: str, summary: str, usage: str, add: Callable[[argparse.ArgumentParser], None],
                description: str = "", **more: Any) -> None:
        sub = commands.add_parser(
            name, help=summary, usage=f"{PROGRAM} {name} {usage}", allow_abbrev=False, formatter_class=layout,
            description=description or summary[0].upper() + summary[1:] + ".",
            epilog="examples:" + EXAMPLES[name] if name in EXAMPLES else None, **more)
        sub.set_defaults(command=name, prog=f"{PROGRAM} {name}")
        add(sub)

    command("train", "learn from a text", "[source] [options]", _train, TRAIN,
            argument_default=argparse.SUPPRESS)
    command("sample", "let a trained model write", "RUN [options]", _sample)
    command("evaluate", "measure how well a model predicts a text", "RUN [source] [options]", _evaluate)
    command("draw", "draw the graph of a model over a few steps", "[RUN] [options]", _draw)
    command("info", "versions, kernels and threads, and what could be faster", "", lambda sub: None)
    return top


def _train(sub: argparse.ArgumentParser) -> None:
    hints = get_type_hints(Settings)
    group = sub.add_argument_group(GROUPS["source"])
    for one in fields(Settings):
        if one.name in GROUPS:
            group = sub.add_argument_group(GROUPS[one.name]) if one.name != "source" else group
        name = "source" if one.name == "source" else option(one.name)
        group.add_argument(name, help=_help(one), **_kind(one, hints[one.name]))
    group.add_argument("--run", metavar="FOLDER", help="folder for everything (default: a new one in runs/)")
    group.add_argument("--overwrite", action="store_true", help="replace the run that is in the folder")
    later = ", ".join(option(one.name) for one in fields(Settings) if one.metadata["later"])
    group.add_argument("--resume", metavar="FOLDER",
                       help=f"go on with a run; these options may be given anew: {later}; --lr holds from here on, "
                            "and a schedule goes on from it")


def _kind(one: Field[Any], hint: Any) -> dict[str, Any]:
    """How argparse reads a setting."""
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)] if get_origin(
        hint) is not Literal else [hint]
    kind = kinds[0]
    if one.name == "source":
        return {"nargs": "?"}
    if kind is bool:
        return {"action": "store_true"}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind), "metavar": "|".join(get_args(kind))}
    return {"type": {int: _number(int), float: _number(float)}.get(kind, str),
            "metavar": one.metadata["metavar"] or {int: "N", float: "X"}.get(kind, "TEXT")}


def _help(one: Field[Any]) -> str:
    default = one.metadata["unset"] if one.default is None else "" if one.default is False else one.default
    return f"{one.metadata['text']}{f' (default: {default})' if default != '' else ''}".replace("%", "%%")


def _sample(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", metavar="RUN", help=RUN)
    sub.add_argument("--prompt", default="", metavar="TEXT", help="what it begins with (default: a new line)")
    sub.add_argument("--length", type=_number(int, 0), default=500, metavar="N",
                     help="how many symbols to write (default: %(default)s)")
    sub.add_argument("--temperature", type=_number(float, 0), default=1.0, metavar="X",
                     help="below 1 tamer, above 1 wilder, 0 only the likeliest (default: %(default)s)")
    sub.add_argument("--top-k", type=_number(int, 1), metavar="K",
                     help="choose among the K likeliest (default: all)")
    sub.add_argument("--top-p", type=_number(float, 0, 1), metavar="P",
                     help="choose among the likeliest that have the probability P together (default: all)")
    sub.add_argument("--seed", type=_number(int, 0), metavar="N",
                     help="to write the same again (default: by chance)")


def _evaluate(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", metavar="RUN", help=RUN)
    sub.add_argument("source", nargs="?", help="another text (default: what the run held out for validation)")
    sub.add_argument("--pattern", metavar="GLOB",
                     help="which files, if the text is a folder (default: as in training)")
    sub.add_argument("--encoding", metavar="NAME", help="of the text (default: as in training)")
    sub.add_argument("--limit", type=_number(int, 1), metavar="N", help="read so many characters at most")
    sub.add_argument("--batch", type=_number(int, 1), default=1, metavar="N",
                     help="cut the text into so many rows: faster, and a little worse (default: %(default)s)")


def _draw(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", nargs="?", metavar="RUN", help=RUN + " (default: a new, small model)")
    sub.add_argument("-o", "--output", default="graph.svg", metavar="FILE",
                     help=".svg, .dot, .txt; .png and .pdf with Graphviz installed (default: %(default)s)")
    sub.add_argument("--steps", type=_number(int, 1, 1000), default=3, metavar="N",
                     help="steps in time (default: %(default)s)")
    sub.add_argument("--cell", choices=DRAWN, help="of a new model; peephole, coupled, layer-norm and projection are "
                                                   "LSTMs, reset-before is a GRU (default: lstm)")
    sub.add_argument("--bidirectional", action="store_true",
                     help="new layers that read both ways, without the rest of a model")
    sub.add_argument("--hidden", type=_number(int, 1), metavar="N", help="of a new model (default: 8)")
    sub.add_argument("--layers", type=_number(int, 1), metavar="N", help="of a new model (default: 1)")
    sub.add_argument("--symbols", type=_number(int, 2), metavar="N", help="of a new model (default: 5)")
    sub.add_argument("--scheme", choices=get_args(SchemeName), help="dropout of a new model (default: none)")
    sub.add_argument("--view", choices=("ops", "unrolled", "rolled", "modules", "backward"),
                     help="every operation, every step, one step, modules, or values beside their gradients "
                          "(default: what suits)")
    sub.add_argument("--theme", choices=("light", "dark", "auto"), default="light",
                     help="colours (default: %(default)s)")


def _number(kind: type[int] | type[float], least: float = -math.inf,
            most: float = math.inf) -> Callable[[str], int | float]:
    """A type of argument: a number, from `least` to `most`."""
    name = "whole number" if kind is int else "number"

    def convert(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"a {name} is needed, not {text[:40]!r}") from None
        if isinstance(value, int) and abs(value) > LARGEST:
            raise argparse.ArgumentTypeError(f"a smaller number is needed, not one of {len(text)} digits")
        if least <= value <= most and math.isfinite(value):
            return value
        bounds = f" from {least} to {most}" if math.isfinite(most) else f" of at least {least}"
        what = name + (bounds if math.isfinite(least) else "")
        raise argparse.ArgumentTypeError(f"a {what} is needed, not {text}")

    return convert

"""One training step beside other libraries.

    python -m benchmarks.step                                       every shape, one thread and two: minutes
    python -m benchmarks.step --shapes small --threads 1 --repeats 5                       a look: seconds
    python -m benchmarks.step --cell gru --contenders minigrad torch-nn products

Each contender runs in a process of its own, confined to as many cores as it has threads; they take turns. The
numbers are medians (`--statistic min` on a busy machine). All start from the same weights, and their losses and
gradients are compared before anything is timed.

Each runs as its users run it. For minigrad that is what `rnn train` does: `keep_memory` has the C library keep freed
memory for the next step. With `--keep-memory` all contenders do.

The BLAS of NumPy is OpenBLAS as a rule, which may choose older kernels than the CPU has. "best" sets
OPENBLAS_CORETYPE to what minigrad.environment advises, "default" leaves it, and any other word is taken for
the name of a kernel. PyTorch and JAX bring their own products and do not look at it. OpenBLAS's threads wait
for work as long as minigrad has them wait where it is imported before NumPy.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders import CONTENDERS, LABELS
from benchmarks.problem import GATES, SHAPES, Shape
from benchmarks.process import Contender, Ended
from benchmarks.timing import interleave
from minigrad import before_numpy
from minigrad.environment import cpu_name

AGAINST = {
    "torch-cells": "PyTorch's cell loop",
    "torch-nn": "PyTorch's layer",
    "jax": "JAX",
    "mygrad": "MyGrad",
    "products": "the matrix products alone",
}


def main() -> None:
    """Parse the options; measure with each setting; print its tables as they come."""
    options = _options().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exit takes the running children with it
    everything = []
    for threads in options.threads:
        seen: dict[str, str] = {}
        for blas in options.blas:
            core = _probe(threads, blas)["core"]
            if core in seen:
                print(f"\n{_plural(threads, 'thread')}: “{blas}” BLAS is “{seen[core]}” again: {core}.\n")
                continue
            seen[core] = blas
            try:
                result = measure(threads, blas, options)
            except Ended as how:  # in a turn: what it has shown so far says nothing
                sys.exit(f"benchmarks.step: {how}.")
            everything.append(result)
            print("\n".join(report(result, options.statistic)), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(everything, indent=1), encoding="utf-8")


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.step", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add("--cell", choices=list(GATES), default="lstm")
    add("--shapes", nargs="+", default=["all"], choices=["all", *SHAPES], metavar="SHAPE",
        help="all, " + ", ".join(SHAPES))
    add("--threads", nargs="+", type=int, default=[1, 2])
    add("--blas", nargs="+", default=["best", "default"], help="best, default, or an OpenBLAS kernel's name")
    add("--contenders", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS), metavar="NAME",
        help=", ".join(CONTENDERS))
    add("--repeats", type=int, default=15, help="rounds of turns; a turn is 10 ms of steps, at least one")
    add("--budget", type=float, default=8.0, help="seconds for a contender on a shape, after three steps")
    add("--statistic", choices=["median", "min"], default="median")
    add("--keep-memory", action="store_true", help="the C library keeps freed memory, for all contenders alike")
    add("--json", help="write every measured time to this file")
    return parser


# ---------------------------------------------------------------------------------- a process per contender


def _environment(threads: int, blas: str) -> dict[str, str]:
    """The variables of a contender's process: libraries read them at import."""
    count = str(threads)
    environment = os.environ | {
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "NUMBA_NUM_THREADS": count,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}",
        "NPROC": count,
        before_numpy.VARIABLE: os.environ.get(before_numpy.VARIABLE, before_numpy.WAIT),
    }
    if blas != "default":
        core = _best_core() if blas == "best" else blas
        if core:
            environment["OPENBLAS_CORETYPE"] = core
    return environment


def _probe(threads: int, blas: str) -> Any:
    """What `blas_info` says in such a process."""
    code = "import json; from minigrad.environment import blas_info; print(json.dumps(blas_info()))"
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, env=_environment(threads, blas), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(printed.stdout.splitlines()[-1])


@cache
def _best_core() -> str | None:
    """The kernel that `blas_info` advises, or None where the default is as good."""
    advice = _probe(1, "default")["advice"]
    _, found, rest = advice.partition("OPENBLAS_CORETYPE=")
    return rest.split()[0] if found else None


def measure(threads: int, blas: str, options: argparse.Namespace) -> dict[str, Any]:
    """Start every contender; on each shape, compare them and time them."""
    environment = _environment(threads, blas)
    shapes = list(SHAPES) if "all" in options.shapes else options.shapes
    times: dict[str, dict[str, list[float]]] = {}
    notes: list[str] = []
    versions = {"Python": platform.python_version()}
    with ExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory())
        contenders = []
        for name in options.contenders:
            keeps = options.keep_memory or name.startswith("minigrad")
            contenders.append(Contender(name, options.cell, threads, folder, keeps, environment))
            running.callback(contenders[-1].stop)
        for shape in shapes:
            print(f"… {options.cell}, {shape}, {_plural(threads, 'thread')}", file=sys.stderr, flush=True)
            results = {}
            for contender in list(contenders):
                try:
                    results[contender] = contender.build(shape)
                    versions |= contender.versions()
                except Ended as how:
                    results[contender] = {"note": f"FAILED, {how}"}
                    contenders.remove(contender)
            notes += [f"{c.name}, {shape}: {result['note']}" for c, result in results.items() if "note" in result]
            results = {c: result for c, result in results.items() if "note" not in result}
            notes += disagreements(shape, {c.name: result for c, result in results.items()})
            turns = {c.name: c.turn for c in results}
            times[shape] = interleave(turns, options.repeats, options.budget, pause=0.02 if threads > 1 else 0.0)
    machine = {"cpu": cpu_name(), "cores": os.cpu_count(), "system": platform.system(), "blas": _probe(threads, blas)}
    return {"cell": options.cell, "threads": threads, "blas": blas, "times": times, "notes": notes,
            "machine": machine, "versions": versions}


def disagreements(shape: str, results: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each contender whose loss, or embedding gradient, is not the first one's to 0.1 %."""
    lines: list[str] = []
    known = {name: (result["loss"], np.load(result["gradient"])) for name, result in results.items()
             if result["loss"] is not None}
    if not known:
        return lines
    first, (loss, gradient) = next(iter(known.items()))
    for name, (other_loss, other_gradient) in known.items():
        off = abs(other_loss - loss) / abs(loss)
        turned = np.linalg.norm(other_gradient - gradient) / np.linalg.norm(gradient)
        if off > 1e-3 or turned > 1e-3:
            lines.append(f"{name}, {shape}: DISAGREES with {first} (loss {off:.1e}, gradient {turned:.1e})")
    return lines


# ---------------------------------------------------------------------------------------------- the tables


def report(result: dict[str, Any], statistic: str = "median") -> list[str]:
    """Markdown: a heading that says what ran where, milliseconds, then ratios."""
    reduce = min if statistic == "min" else statistics.median
    took = {
        shape: {name: 1000 * reduce(times) for name, times in rows.items()}
        for shape, rows in result["times"].items()
    }
    names = [name for name in _labels(result["cell"]) if any(name in row for row in took.values())]
    labels = _labels(result["cell"])
    blas = result["machine"]["blas"]
    most = max((len(times) for rows in result["times"].values() for times in rows.values()), default=0)
    lines = [
        "",
        f"## {result['cell'].upper()}, one training step, {_plural(result['threads'], 'thread')}, "
        f"BLAS kernels: {blas['core'] or 'unknown'} ({result['blas']})",
        "",
        f"{result['machine']['cpu']}, {_plural(result['machine']['cores'], 'core')}, "
        f"{result['machine']['system']}. " + ", ".join(f"{k} {v}" for k, v in result["versions"].items())
        + f". {blas['library']} {blas['version']}, {_plural(blas['threads'], 'thread')}. "
        f"{'Least' if statistic == 'min' else 'Median'} of up to {most} steps, "
        "in turns. Shapes are (batch, input, hidden, time, vocabulary).",
        "",
    ]
    lines += _table("milliseconds", took, names, labels, None)
    for reference, title in AGAINST.items():
        if reference in names:
            lines += ["", *_table(f"÷ {title}", took, names, labels, reference)]
    if result["notes"]:
        lines += ["", *(f"- {note}" for note in result["notes"])]
    return lines


def _table(
    title: str,
    took: dict[str, dict[str, float]],
    names: list[str],
    labels: dict[str, str],
    reference: str | None,
) -> list[str]:
    """Rows of contenders, columns of shapes; as ratios to `reference` if given, with their geometric mean."""
    heads = [title, *(f"({Shape(*SHAPES[shape])})" for shape in took)]
    lines = ["| " + " | ".join(heads) + (" | geometric mean |" if reference else " |")]
    lines.append("|---|" + "--:|" * (len(took) + bool(reference)))
    for name in names:
        values = []
        for row in took.values():
            below = row.get(reference) if reference else 1.0
            values.append(row[name] / below if name in row and below else None)
        cells = ["–" if value is None else _number(value) for value in values]
        if reference:
            known = [value for value in values if value is not None]
            mean = _number(math.exp(sum(map(math.log, known)) / len(known))) if known else "–"
            cells.append(mean if len(known) == len(values) else f"{mean} (of {len(known)})")
        lines.append("| " + " | ".join([labels[name], *cells]) + " |")
    return lines


def _labels(cell: str) -> dict[str, str]:
    return {name: label.format(CELL=cell.upper()) for name, label in LABELS.items()}


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _plural(count: int | None, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


if __name__ == "__main__":
    main()

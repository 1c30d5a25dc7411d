"""What the compiled loop costs: variants of the cell beside the plain one, and sequences of any length.

    python -m benchmarks.loops variants        LSTM variants and dropout schemes ÷ the plain cell
    python -m benchmarks.loops lengths         time and memory per step, for 64 to 4096 steps

One layer, forward and backward, from outputs (batch, time, hidden) whose sum is the loss. Times are the
medians (`--statistic min` on a busy machine) of turns taken one after the other; memory is the peak of what
NumPy allocates during one call (tracemalloc). Set OMP_NUM_THREADS and OPENBLAS_NUM_THREADS for other than one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tracemalloc
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import minigrad as mg
import rnn
from benchmarks.timing import interleave, turn_of
from minigrad.environment import blas_info, cpu_name, keep_memory

LENGTHS = (64, 256, 1024, 4096)


def layers(input_size: int, hidden: int) -> dict[str, rnn.Recurrent]:
    """The plain LSTM and those that should cost little more."""
    D = rnn.dropout
    make = lambda **options: rnn.LSTM(input_size, hidden, compiled=True, rng=0, **options)
    return {
        "plain": make(),
        "peephole": make(peephole=True),
        "coupled": make(coupled=True),
        "zoneout": make(dropout=D.Zoneout(cell=0.5, hidden=0.05)),
        "recurrent dropout": make(dropout=D.Recurrent(0.25)),
        "variational, tied": make(dropout=D.Variational(0.25, hidden=0.25, tied=True)),
        "variational, untied": make(dropout=D.Variational(0.25, hidden=0.25)),
    }


def step(layer: rnn.Recurrent, x: Any) -> Callable[[], None]:
    """Forward and backward of one layer."""

    def run() -> None:
        layer.zero_grad()
        np.sum(layer(x)[0]).backward()

    return run


def variants(batch: int, input_size: int, hidden: int, time: int, repeats: int, statistic: str) -> None:
    """A table of milliseconds and ratios."""
    x = mg.tensor(np.random.default_rng(0).normal(size=(batch, time, input_size)).astype(np.float32))
    steps = {name: step(layer, x) for name, layer in layers(input_size, hidden).items()}
    for run in steps.values():
        run()  # compiles
    took = typical(interleave({name: turn_of(run) for name, run in steps.items()}, repeats), statistic)
    print(f"\n| LSTM ({batch}, {input_size}, {hidden}, {time}) | ms | ÷ plain |\n|---|--:|--:|")
    for name, seconds in took.items():
        print(f"| {name} | {1000 * seconds:.2f} | {seconds / took['plain']:.2f} |")


def lengths(batch: int, input_size: int, hidden: int, repeats: int, statistic: str) -> None:
    """A table of microseconds and kilobytes per time step, kept whole and with √T checkpoints."""
    rng = np.random.default_rng(0)
    cell = rnn.LSTMCell(input_size, hidden, rng=0)

    def one(time: int, every: int | None) -> Callable[[], None]:
        x = mg.tensor(rng.normal(size=(time, batch, input_size)).astype(np.float32))

        def run() -> None:
            cell.zero_grad()
            U = cell.weights()
            swapped = lambda state, a: cell.step(a, state, U)[::-1]
            _, ys = mg.scan(swapped, cell.initial_state(batch), cell.project(x), compiled=True,
                            checkpoint_every=every)
            np.sum(ys).backward()

        return run

    print(f"\n| LSTM ({batch}, {input_size}, {hidden}), steps | µs per step | kB per step | checkpoints: "
          "µs per step | kB per step |\n|---|--:|--:|--:|--:|")
    for time in LENGTHS:
        steps = {"whole": one(time, None), "checkpoints": one(time, round(time**0.5))}
        cells = []
        for run in steps.values():
            run()  # compiles
        took = typical(interleave({name: turn_of(run) for name, run in steps.items()}, repeats), statistic)
        for name, run in steps.items():
            tracemalloc.start()
            run()
            cells += [f"{1e6 * took[name] / time:.0f}", f"{tracemalloc.get_traced_memory()[1] / time / 1000:.0f}"]
            tracemalloc.stop()
        print("| " + " | ".join([str(time), *cells]) + " |", flush=True)


def typical(times: dict[str, list[float]], statistic: str) -> dict[str, float]:
    """Seconds of each."""
    reduce = min if statistic == "min" else statistics.median
    return {name: reduce(values) for name, values in times.items()}


def main() -> None:
    """The command line."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loops", description=__doc__, formatter_class=layout)
    parser.add_argument("what", choices=["variants", "lengths"])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--input", type=int, default=65)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--time", type=int, default=64, help="steps, for the variants")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--statistic", choices=["median", "min"], default="median")
    a = parser.parse_args()
    keep_memory()
    blas = blas_info()
    print(f"{cpu_name()}; {blas['library']} {blas['core']}, {blas['threads']} threads; "
          f"{a.statistic} over {a.repeats} turns")
    if a.what == "variants":
        variants(a.batch, a.input, a.hidden, a.time, a.repeats, a.statistic)
    else:
        lengths(a.batch, a.input, a.hidden, a.repeats, a.statistic)


if __name__ == "__main__":
    main()

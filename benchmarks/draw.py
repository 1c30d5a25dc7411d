"""What a picture costs, by the size of the graph.

    python -m benchmarks.draw                     a table in Markdown; about a minute
    python -m benchmarks.draw --nodes 1000 10000

CPU seconds of `mg.draw(loss)` and its SVG, the least of some runs: the default view of an LSTM over many time steps,
the same with truncated backpropagation every 20 steps, steps that are not alike, modules called one after the
other, and a chain of operations without any; then every operation asked for. The graphs are made before the clock
starts.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable

import numpy as np

import minigrad as mg
import rnn
from minigrad import Tensor


def lstm(nodes: int) -> Tensor:
    """A layer over many steps, after backward: 12 operations a step."""
    steps = max(nodes // 12, 2)
    x = mg.tensor(np.random.default_rng(0).normal(size=(2, steps, 4)).astype(np.float32), name="x")
    outputs, _ = rnn.LSTM(4, 8, rng=0, compiled=False)(x)
    return np.mean(outputs**2)


def truncated(nodes: int) -> Tensor:
    """A loop by hand with a loss at each step, cut every 20 steps: 19 operations a step."""
    cell, head, targets = rnn.LSTMCell(4, 8, rng=0), mg.nn.Linear(8, 5, rng=0), np.array([1, 2])
    state, loss = cell.initial_state(2), mg.tensor(0.0)
    for t in range(1, max(nodes // 19, 2) + 1):
        with mg.scope(f"t = {t}", step=t):
            h, state = cell(mg.tensor(np.ones((2, 4), np.float32), name="x"), state)
        loss = loss + mg.cross_entropy(head(h), targets)
        if t % 20 == 0:
            state = rnn.detach(state)
    return loss


def uneven(nodes: int) -> Tensor:
    """Steps that do something else each time, at random."""
    choice = np.random.default_rng(0).integers(0, 2, nodes // 3 * 2)
    h = mg.tensor(np.ones(2), requires_grad=True, name="h")
    for t, odd in enumerate(choice, 1):
        with mg.scope(f"t = {t}", step=t):
            h = np.tanh(h) if odd else np.tanh(h) * 2.0
    return h.sum()


def modules(nodes: int) -> Tensor:
    """Modules one after the other, of five names."""
    y = mg.tensor(np.ones(2), requires_grad=True, name="x")
    for k in range(nodes // 2):
        with mg.scope(f"block {k % 5}", label="Block"):
            y = np.tanh(y) + 1.0
    return y


def chain(nodes: int) -> Tensor:
    """Operations one after the other."""
    y = mg.tensor(np.ones(2), requires_grad=True, name="x")
    for _ in range(nodes):
        y = np.tanh(y)
    return y


COLUMNS: dict[str, tuple[Callable[[int], Tensor], str | None]] = {
    "LSTM": (lstm, None),
    "truncated loop": (truncated, None),
    "uneven steps": (uneven, None),
    "modules": (modules, None),
    "chain": (chain, None),
    "LSTM, `ops`": (lstm, "ops"),
}


def seconds(loss: Tensor, view: str | None, repeats: int) -> tuple[float, str, int]:
    """CPU seconds of a drawing and its SVG, the view that came out, and the number of boxes."""
    least, diagram = float("inf"), None
    for _ in range(repeats):
        gc.collect()
        start = time.process_time()
        diagram = mg.draw(loss, view)
        diagram.svg  # noqa: B018
        least = min(least, time.process_time() - start)
    assert diagram is not None
    return least, diagram.view, len(diagram.picture.boxes)


def table(sizes: list[int], repeats: int = 3) -> str:
    """The times, a row for each size, in Markdown."""
    rows = [["operations", *COLUMNS], ["--:"] * (len(COLUMNS) + 1)]
    for nodes in sizes:
        print(f"{nodes} operations", file=sys.stderr)
        row = [f"{nodes:,}".replace(",", " ")]
        for make, view in COLUMNS.values():
            took, drawn, boxes = seconds(make(nodes), view, repeats)
            row.append(f"{took:.2f} s ({drawn}, {boxes} boxes)")
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Time the drawing of graphs.")
    parser.add_argument("--nodes", type=int, nargs="*", default=[100, 1000, 10_000, 100_000], help="sizes")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, of which the fastest counts")
    arguments = parser.parse_args()
    print(table(arguments.nodes, arguments.repeats))

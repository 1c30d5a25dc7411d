"""What an engine adds to each operation.

    python -m benchmarks.overhead        a chain of 1000 operations on 32 float32: x + b, tanh, x + b, …
    python -m benchmarks.overhead --leaf                     the same, with b a leaf that wants its gradient

Microseconds per operation for building the chain (forward), differentiating it (backward) and letting it go
(release), and the bytes per operation that Python and NumPy hold while the graph is alive, as tracemalloc
counts them; it does not see PyTorch's. Contenders take turns; medians. Their gradients are compared before
anything is timed.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
#: Builds the chain from x and b and returns its end (a sum), and what runs backward from there; the second
#: gives the gradient with respect to x.
Forward = Callable[[], Any]
Backward = Callable[[Any], Any]


# ------------------------------------------------------------------------------------------- the contenders


def ours(x: Array, b: Array, operations: int, leaf: bool) -> tuple[Forward, Backward]:
    """minigrad."""
    import minigrad as mg

    start = mg.tensor(x, requires_grad=True)
    addend: Any = mg.tensor(b, requires_grad=True) if leaf else b

    def forward() -> Any:
        y = start
        for _ in range(operations // 2):
            y = np.tanh(y + addend)
        return y.sum()

    def backward(loss: Any) -> Any:
        start.grad = None
        if leaf:
            addend.grad = None
        loss.backward()
        return start.grad

    return forward, backward


def pytorch(x: Array, b: Array, operations: int, leaf: bool) -> tuple[Forward, Backward]:
    """PyTorch, eager."""
    import torch

    torch.set_num_threads(1)
    start = torch.tensor(x, requires_grad=True)
    addend = torch.tensor(b, requires_grad=leaf)

    def forward() -> Any:
        y = start
        for _ in range(operations // 2):
            y = torch.tanh(y + addend)
        return y.sum()

    def backward(loss: Any) -> Any:
        start.grad = addend.grad = None
        loss.backward()
        return start.grad

    return forward, backward


def autograd(x: Array, b: Array, operations: int, leaf: bool) -> tuple[Forward, Backward]:
    """HIPS autograd; its traced forward and its backward apart, as its own `grad` joins them."""
    import autograd.numpy as anp
    from autograd.core import make_vjp

    def forward() -> Any:
        def chain(inputs: Any) -> Any:
            y, addend = inputs if leaf else (inputs, b)
            for _ in range(operations // 2):
                y = anp.tanh(y + addend)
            return anp.sum(y)

        from autograd.builtins import tuple as traced

        return make_vjp(chain, traced((x, b)) if leaf else x)

    def backward(result: Any) -> Any:
        vjp, value = result
        gradient = vjp(np.ones_like(value))
        return gradient[0] if leaf else gradient

    return forward, backward


def mygrad(x: Array, b: Array, operations: int, leaf: bool) -> tuple[Forward, Backward]:
    """MyGrad, its memory guard off."""
    import mygrad

    mygrad.turn_memory_guarding_off()
    start = mygrad.tensor(x)
    addend = mygrad.tensor(b, constant=not leaf)

    def forward() -> Any:
        y = start
        for _ in range(operations // 2):
            y = mygrad.tanh(y + addend)
        return y.sum()

    def backward(loss: Any) -> Any:
        start.null_grad()
        loss.backward()
        return start.grad

    return forward, backward


def naive(x: Array, b: Array, operations: int, leaf: bool) -> tuple[Forward, Backward]:
    """The least that a tape can be: a list of (output, rule, inputs), walked back; no checks, no features."""

    class Value:
        __slots__ = ("data", "grad")

        def __init__(self, data: Array) -> None:
            self.data = data
            self.grad: Any = None

    tape: list[tuple[Value, Callable[..., Any], tuple[Value, ...]]] = []

    def record(data: Array, rule: Callable[..., Any], *inputs: Value) -> Value:
        output = Value(data)
        tape.append((output, rule, inputs))
        return output

    def add(p: Value, q: Value) -> Value:
        return record(p.data + q.data, lambda g, y: (g, g), p, q)

    def add_constant(p: Value, q: Array) -> Value:
        return record(p.data + q, lambda g, y: (g,), p)

    def tanh(p: Value) -> Value:
        return record(np.tanh(p.data), lambda g, y: (g * (1 - y * y),), p)

    start, addend = Value(x), Value(b)

    def forward() -> Value:
        y = start
        for _ in range(operations // 2):
            y = tanh(add(y, addend) if leaf else add_constant(y, b))
        return y

    def backward(end: Value) -> Any:
        start.grad = addend.grad = None
        end.grad = np.ones_like(end.data)
        for output, rule, inputs in reversed(tape):
            for value, g in zip(inputs, rule(output.grad, output.data)):
                value.grad = g if value.grad is None else value.grad + g
        tape.clear()
        return start.grad

    return forward, backward


def by_hand(x: Array, b: Array, operations: int, leaf: bool) -> tuple[Forward, Backward]:
    """NumPy alone, forward and a backward written for this chain: what the arithmetic costs."""

    def forward() -> list[Array]:
        y, saved = x, []
        for _ in range(operations // 2):
            y = np.tanh(y + b)
            saved.append(y)
        return saved

    def backward(saved: list[Array]) -> Array:
        g = np.ones_like(saved[-1])
        db = np.zeros_like(b)
        for y in reversed(saved):
            g = g * (1 - y * y)
            if leaf:
                db += g
        return g

    return forward, backward


CONTENDERS = {
    "minigrad": ours,
    "PyTorch": pytorch,
    "autograd": autograd,
    "MyGrad": mygrad,
    "a naive tape": naive,
    "NumPy by hand": by_hand,
}


# ------------------------------------------------------------------------------------------- the measurement


def main() -> None:
    """Parse the options, measure in turn, print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add("--operations", type=int, default=1000, help="length of the chain")
    add("--size", type=int, default=32, help="numbers in each array")
    add("--leaf", action="store_true", help="let b be a second leaf that wants its gradient")
    add("--repeats", type=int, default=41)
    add("--contenders", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS), metavar="NAME",
        help=", ".join(CONTENDERS))
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])

    random = np.random.default_rng(0)
    x, b = (random.standard_normal((2, options.size), dtype=np.float32) * np.float32(0.1))
    pairs: dict[str, tuple[Forward, Backward]] = {}
    notes = []
    for name in options.contenders:
        try:
            forward, backward = CONTENDERS[name](x, b, options.operations, options.leaf)
            gradient = np.asarray(backward(forward()))
        except ImportError as error:
            notes.append(f"{name}: not installed ({error})")
        except Exception as error:
            notes.append(f"{name}: FAILED, {type(error).__name__}: {error}")
        else:
            expected = _reference(x, b, options.operations)
            if not np.allclose(gradient, expected, rtol=1e-3):
                notes.append(f"{name}: its gradient DISAGREES")
            pairs[name] = forward, backward
    phases = _time(pairs, options.repeats)
    held = {name: _held(*pair) for name, pair in pairs.items()}

    print(f"\nPython {platform.python_version()}, NumPy {np.__version__}; {options.operations} operations on "
          f"{options.size} float32, median of {options.repeats}.\n")
    print("| per operation | forward µs | backward µs | release µs | sum µs | bytes |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, rows in phases.items():
        micro = [1e6 * statistics.median(row) / options.operations for row in rows]
        bytes_held = f"{held[name] / options.operations:.0f}" if name != "PyTorch" else "–"  # not Python's
        numbers = " | ".join(f"{value:.2f}" for value in [*micro, sum(micro)])
        print(f"| {name} | {numbers} | {bytes_held} |")
    for note in notes:
        print(f"\n- {note}")


def _reference(x: Array, b: Array, operations: int) -> Array:
    """The gradient in float64."""
    wide: Any = (x.astype(np.float64), b.astype(np.float64))
    forward, backward = by_hand(*wide, operations, leaf=False)
    result: Array = backward(forward())
    return result


def _time(pairs: dict[str, tuple[Forward, Backward]], repeats: int) -> dict[str, list[list[float]]]:
    """Seconds of forward, backward and release in every repeat, contenders in turn."""
    clock = time.perf_counter
    phases: dict[str, list[list[float]]] = {name: [[], [], []] for name in pairs}
    gc.collect()
    gc.freeze()
    for _ in range(repeats):
        for name, (forward, backward) in pairs.items():
            backward(forward())
            t0 = clock()
            end = forward()
            t1 = clock()
            backward(end)
            t2 = clock()
            del end
            t3 = clock()
            for row, seconds in zip(phases[name], (t1 - t0, t2 - t1, t3 - t2)):
                row.append(seconds)
    return phases


def _held(forward: Forward, backward: Backward) -> int:
    """Bytes that the graph holds between forward and backward."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    end = forward()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    backward(end)
    return after - before


if __name__ == "__main__":
    main()

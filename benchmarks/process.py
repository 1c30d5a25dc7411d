"""A contender in a process of its own, as its users run it: with its own threads, heap and garbage collector.

    python -m benchmarks.process NAME CELL THREADS FOLDER [--keep-memory]      what the parent starts

The two talk in lines of JSON: `{"build": shape}` is answered with the loss, and the file in FOLDER that holds the
embedding's gradient, or with a note that says why there is none; `{"turn": [calls, warm]}` with the seconds of
each call. Between its turns a contender waits for the next line, and takes no time from the others.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.timing import turn_of


class Ended(Exception):
    """A contender's process is gone."""


class Contender:
    """The parent's side of one contender."""

    def __init__(self, name: str, cell: str, threads: int, folder: str, keep_memory: bool,
                 environment: Mapping[str, str]) -> None:
        self.name = name
        command = [sys.executable, "-m", "benchmarks.process", name, cell, str(threads), folder]
        self._process = subprocess.Popen([*command, *["--keep-memory"] * keep_memory], env=environment, text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1)

    def build(self, shape: str) -> dict[str, Any]:
        """Make the step for this shape and run it once: {"loss": …, "gradient": a file or None}, or {"note": …}."""
        return dict(self._ask({"build": shape}))

    def turn(self, calls: int, warm: bool) -> list[float]:
        """See `benchmarks.timing.Turn`."""
        return list(self._ask({"turn": [calls, warm]})["seconds"])

    def versions(self) -> dict[str, str]:
        """Of the libraries that it has loaded."""
        return dict(self._ask({"versions": True}))

    def stop(self) -> None:
        """End the process, whatever it is at."""
        self._process.kill()
        self._process.wait()

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            answer = self._process.stdout.readline()
        except OSError:
            answer = ""
        if not answer:
            raise Ended(f"the process of {self.name} ended with status {self._process.wait()}")
        return json.loads(answer)


def serve() -> None:
    """The contender's side: answer until the parent has nothing more to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's affair
    answers = os.dup(1)
    os.dup2(2, 1)  # what libraries print goes elsewhere
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("cell")
    parser.add_argument("threads", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keep-memory", action="store_true")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # Linux; elsewhere the variables must do
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-options.threads:])
    from benchmarks.contenders import CONTENDERS
    from benchmarks.problem import SHAPES, NotAvailable, Problem

    if options.keep_memory:
        from minigrad.environment import keep_memory

        keep_memory()
    if options.name.startswith("torch"):
        with contextlib.suppress(ImportError):
            import torch

            torch.set_num_threads(options.threads)
    step = None

    def build(shape: str) -> dict[str, Any]:
        nonlocal step
        step = None  # frees what the last shape took
        step = CONTENDERS[options.name](Problem(SHAPES[shape], options.cell))
        loss, gradient = step()  # compiles, allocates
        gc.collect()
        file = _kept(gradient, options.folder, options.name)
        return {"loss": None if loss is None else float(loss), "gradient": file}

    for line in sys.stdin:
        question = json.loads(line)
        try:
            if "build" in question:
                answer: dict[str, Any] = build(question["build"])
            elif "turn" in question:
                assert step is not None
                answer = {"seconds": turn_of(step)(*question["turn"])}
            else:
                answer = versions()
        except NotAvailable as reason:
            answer = {"note": str(reason)}
        except Exception as error:
            if "build" not in question:
                raise
            answer = {"note": f"FAILED, {type(error).__name__}: {error}"}
        os.write(answers, (json.dumps(answer) + "\n").encode())


def _kept(gradient: Any, folder: Path, name: str) -> str | None:
    """The file that the gradient was written to."""
    import numpy as np

    if gradient is None:
        return None
    path = folder / f"{name}.npy"
    np.save(path, np.asarray(gradient))
    return str(path)


def versions() -> dict[str, str]:
    """Versions of the libraries that are loaded."""
    names = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX", "mygrad": "MyGrad", "numba": "numba"}
    return {name: str(getattr(sys.modules[module], "__version__", "?"))
            for module, name in names.items() if module in sys.modules}


if __name__ == "__main__":
    serve()

"""Training killed at random moments (SIGKILL), resumed each time, ends with the weights of an uninterrupted run.

    python -m tests.crash --kills 100 --seed 0

A run is begun by the command line, in a process of its own, and killed after a random time: while it starts, in a step,
while a checkpoint is written, renamed or deleted, while metrics or samples are. What it left is resumed by the command
line, until it comes to its end; then another one is begun, until there were as many kills as asked for. At the end of
each run its checkpoint, its samples and its metrics (apart from the seconds) must be those of a run that nobody killed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from rnn.cli import main as command_line
from rnn.runs import RunFolder

STEPS = 30
AT_ITS_END = 2  # status of a resumption that finds nothing left to do
OPTIONS = ["--hidden", "6", "--embedding", "4", "--batch", "2", "--time", "8", "--dropout", "0.2",
           "--scheme", "zoneout", "--lr-decay", "0.9", "--optimizer", "adam", "--compiled", "no", "--keep", "2",
           "--steps", str(STEPS), "--valid-every", "3", "--sample-every", "12"]
TEXT = "the quick brown fox jumps over the lazy dog; " * 20


class Lost(AssertionError):
    """A run that was killed did not go on as if nothing had happened."""


def child(arguments: list[str]) -> int:
    """Run the command line in a forked process; the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        RunFolder.picture = lambda *_: []  # type: ignore[method-assign]  # drawing takes longer than all the rest
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as said:
            status = command_line(arguments)
        if status not in (0, AT_ITS_END):
            os.write(2, said.getvalue().encode())
    finally:
        os._exit(status)


def finish(pid: int) -> int:
    """Wait for a process; its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def last(folder: Path) -> Path:
    """The checkpoint at the end of a run."""
    return folder / f"checkpoint-{STEPS:08d}.npz"


def outcome(folder: Path) -> dict[str, Any]:
    """What a run leaves that is the same in every run of these settings: names → bytes."""
    tree = mg.load(last(folder))
    del tree["seconds"], tree["sizes"]
    mg.save(folder / "compare.tmp", tree)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {"checkpoint": (folder / "compare.tmp").read_bytes(), "samples": (folder / "samples.txt").read_bytes(),
             "metrics": json.dumps([{k: v for k, v in line.items() if k != "seconds"} for line in lines]).encode(),
             "best": (folder / "best.npz").read_bytes()}
    (folder / "compare.tmp").unlink()
    return found


def crash(kills: int, seed: int, work: Path) -> Counter[str]:
    """Kill and resume; how far the killed runs had come. Raises Lost at the first that does not go on as it should."""
    rng = np.random.default_rng(seed)
    (work / "text.txt").write_text(TEXT, encoding="utf-8")
    begin = ["train", str(work / "text.txt"), *OPTIONS, "--run"]
    started = time.monotonic()
    if finish(child([*begin, str(work / "whole")])):
        raise Lost("the run that nobody killed failed")
    whole_seconds = time.monotonic() - started
    expected = outcome(work / "whole")
    killed, found = 0, Counter[str]()
    while killed < kills:
        folder = work / "run"
        shutil.rmtree(folder, ignore_errors=True)
        arguments = [*begin, str(folder)]
        while True:
            pid = child(arguments)
            # a third of a run at most, so that one run is killed several times
            deadline = time.monotonic() + rng.random() * whole_seconds / 3
            while killed < kills and time.monotonic() < deadline:
                time.sleep(0.0005)
            if killed < kills:
                os.kill(pid, signal.SIGKILL)
            status = finish(pid)
            if status == -signal.SIGKILL:
                killed += 1
                found[stage(folder)] += 1
            elif status == 0 or (status == AT_ITS_END and last(folder).exists()):
                found["a run came to its end"] += 1
                break
            else:
                raise Lost(f"going on after kill {killed} failed with status {status}")
            begun = (folder / "config.json").exists()
            arguments = ["train", "--resume", str(folder)] if begun else [*begin, str(folder), "--overwrite"]
        now = outcome(folder)
        for name in expected:
            if now[name] != expected[name]:
                raise Lost(f"after {killed} kills the {name} of a run differ from those of the uninterrupted one")
    return found


def stage(folder: Path) -> str:
    """How far a killed run had come."""
    if not (folder / "config.json").exists():
        return "killed before it had begun"
    if any(folder.glob(".*.tmp")):
        return "killed while a file was written"
    steps = len(list(folder.glob("checkpoint-*.npz")))
    return "killed between checkpoints" if steps else "killed before the first checkpoint"


def main() -> int:
    """The command; exit status 1 if a run was lost."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--seed", type=int, default=0)
    a = options.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as work:
        try:
            found = crash(a.kills, a.seed, Path(work))
        except Lost as error:
            print(error, file=sys.stderr)
            return 1
    for name, times in sorted(found.items()):
        print(f"  {name:36} {times:5}")
    print(f"{a.kills} kills; every run ended with the weights, samples and metrics of the uninterrupted one")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Short forms of the long runs: random programs, hostile files, killed trainings, mutants of the rules."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import files
import numpy as np
import programs
import pytest

import minigrad as mg

ROOT = Path(__file__).parents[2]
needs_torch = pytest.mark.skipif(programs.torch is None, reason="PyTorch is the reference here")


@pytest.mark.no_cover
@needs_torch
def test_random_programs_beside_pytorch() -> None:
    programs.torch.set_num_threads(1)
    used = Counter[str]()
    for number in range(30):
        programs.check(20, number, differences=False, used=used)
    assert len(used) > 30


def test_random_programs_beside_central_differences() -> None:
    used = Counter[str]()
    for number in range(25):
        programs.check(21, number, differences=True, used=used)
    assert len(used) > 30


def test_a_program_is_found_again_and_printed() -> None:
    a, b = programs.build(3, 4), programs.build(3, 4)
    assert str(a) == str(b) and "loss = " in str(a)
    for x, y in zip(a.values, b.values, strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_fuzzer_notices_a_wrong_rule(monkeypatch: Any) -> None:
    tanh = mg.tanh
    monkeypatch.setattr(tanh, "rules", (lambda g, y, x: g * (1 + y * y),))
    with pytest.raises(programs.Mismatch, match="tanh"):
        for number in range(60):
            programs.check(24, number, differences=True)


def test_hostile_files(tmp_path: Path) -> None:
    outcomes = Counter[str]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(80):
            kind, content = files.choose(23, number)
            if kind == "safetensors":
                pytest.importorskip("safetensors")
            outcomes[files.attempt(kind, content, str(tmp_path))] += 1
    assert outcomes["error"] > 40 and outcomes["loaded"] > 5


@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked and killed by signals")
def test_a_killed_training_goes_on_as_if_nothing_had_been() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.crash", "--kills", "3", "--seed", "1"], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "3 kills; every run ended with the weights" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="mutants live in forked processes")
def test_mutants_of_a_rule_are_caught() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.mutate", "--only", "elementwise.tanh["], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 survived" in done.stdout

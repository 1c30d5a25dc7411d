"""Imports point one way: nothing in the engine knows what is built on it."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: From the bottom up. A module may import from its own rank and below.
RANKS: list[set[str]] = [
    {"minigrad.before_numpy", "minigrad.primitive", "minigrad.tree", "minigrad.environment"},
    {"minigrad.recording"},
    {"minigrad.accumulate"},
    {"minigrad.tape"},
    {"minigrad.backward"},
    {"minigrad.conversions", "minigrad.operators", "minigrad.tensor"},
    {"minigrad.rules"},
    {"minigrad.scan", "minigrad.nn", "minigrad.optim", "minigrad.check", "minigrad.checkpoint",
     "minigrad.draw",
     "minigrad.probe", "minigrad.compile"},
    {"minigrad"},
    {"rnn"},
    {"examples", "benchmarks"},
]
ENGINE = {"minigrad.primitive", "minigrad.recording", "minigrad.accumulate", "minigrad.tape", "minigrad.backward",
          "minigrad.conversions", "minigrad.operators", "minigrad.tensor", "minigrad.rules"}
FOLDERS = ("minigrad", "rnn", "examples", "benchmarks")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(p) for p in FILES}


@cache
def imported(path: Path) -> set[str]:
    """The modules of this project that a file imports, wherever in the file."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *(node.module.split(".") if node.module else [])])
            names = {f"{source}.{alias.name}" for alias in node.names}
            found.update(names & MODULES)
            if not names <= MODULES:
                found.add(source)
    return {name for name in found if name.split(".")[0] in FOLDERS}


def rank(module: str) -> int:
    """The place of the longest listed prefix; a private helper of the package belongs to the package."""
    parts = module.split(".")
    for n in range(len(parts), 0, -1):
        for i, names in enumerate(RANKS):
            if ".".join(parts[:n]) in names:
                return i
    raise AssertionError(f"{module} has no place in RANKS")


def test_imports_point_downwards() -> None:
    for path in FILES:
        mine = module_name(path)
        for other in imported(path):
            assert rank(other) <= rank(mine), f"{mine} imports {other}"


def test_who_may_know_whom() -> None:
    for path in FILES:
        mine, others = module_name(path), imported(path)
        if mine.startswith("minigrad"):
            assert not any(o.split(".")[0] in ("rnn", "examples", "benchmarks") for o in others), mine
        if any(mine == e or mine.startswith(e + ".") for e in ENGINE):
            assert all(any(o == e or o.startswith(e + ".") for e in ENGINE) for o in others), (mine, others)
        if mine.startswith("rnn"):
            assert not any(o.split(".")[0] in ("examples", "benchmarks") for o in others), mine


def test_every_listed_engine_module_exists() -> None:
    assert ENGINE <= MODULES


def test_the_engine_needs_numpy_alone() -> None:
    for path in FILES:
        if any(module_name(path).startswith(e) for e in ENGINE):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = ([a.name for a in node.names] if isinstance(node, ast.Import) else
                         [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else [])
                outside = {n.split(".")[0] for n in names} - {"minigrad", "numpy"}
                assert outside <= sys.stdlib_module_names, f"{path.name} imports {outside}"

"""Renderers that fail, and what is said then."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minigrad.draw import render as module
from minigrad.draw.render import RenderError, render, renderers

DOT = "digraph { a -> b }\n"


@pytest.fixture
def alone(monkeypatch):
    """Only what MINIGRAD_DOT says."""
    monkeypatch.setattr(module.shutil, "which", lambda *_, **__: None)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pygraphviz" else find(name))


@pytest.mark.parametrize("program, said", [
    ("no/such/program", "No such file"), (sys.executable, f"MINIGRAD_DOT ({sys.executable}): ")])
def test_what_was_tried_is_said(alone, program, said, monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGRAD_DOT", program)
    with pytest.raises(RenderError) as error:
        render(DOT, "png", tmp_path / "graph.dot")
    assert said in str(error.value) and str(tmp_path / "graph.dot") in str(error.value)
    assert (tmp_path / "graph.dot").read_text() == DOT


def test_one_that_does_not_end(alone, monkeypatch, tmp_path):
    def slow(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setenv("MINIGRAD_DOT", "slow")
    monkeypatch.setattr(module.subprocess, "run", slow)
    with pytest.raises(RenderError, match="timed out after 60 seconds"):
        render(DOT, "pdf", tmp_path / "graph.dot")


def test_where_the_dot_text_cannot_be_saved_it_is_saved_elsewhere(alone, monkeypatch, tmp_path):
    monkeypatch.delenv("MINIGRAD_DOT", raising=False)
    with pytest.raises(RenderError) as error:
        render(DOT, "png", tmp_path / "no folder" / "graph.dot")
    found = re.search(r"DOT text in (.*\.dot)\.\n", str(error.value))
    assert found is not None
    saved = Path(found[1])
    assert saved.read_text() == DOT
    saved.unlink()


def test_the_first_that_works_makes_the_file(alone, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "renderers", lambda kind: iter([
        ("broken", [sys.executable, "-c", "raise SystemExit('no')"]),
        ("working", [sys.executable, "-c", "import sys; print(sys.stdin.read().upper(), end='')"])]))
    assert render(DOT, "png", tmp_path / "graph.dot") == DOT.upper().encode()
    assert not (tmp_path / "graph.dot").exists()


def test_pygraphviz_comes_last(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    *_, (origin, command) = renderers("pdf")
    assert origin == "pygraphviz" and command[0] == sys.executable and command[-1] == "pdf"

"""Every example runs in its quick form, draws what it says it draws, and prints the numbers it is about."""

import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))
ENVIRONMENT = os.environ | {"MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1", "MINIGRAD_BACKEND": "numpy",
                            "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
ENVIRONMENT.pop("MINIGRAD_DOT", None)


def run(*arguments, cwd):
    """What a Python process printed, that ended well and without noise."""
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, env=ENVIRONMENT, capture_output=True,
                          encoding="utf-8", timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def number(pattern, printed):
    """The number in the first group of a pattern that has to be there."""
    found = re.search(pattern, printed)
    assert found, f"{pattern!r} is not in\n{printed}"
    return float(found[1].replace(",", ""))


def hello(printed):
    assert re.findall(r"it says '(\w+)'", printed)[1] == "hello"
    assert number(r"it says 'hello'; loss ([\d.]+)", printed) < 0.02
    assert number(r"U = 0[\s\S]*; loss ([\d.]+)", printed) > math.log(2) / 2


def bptt_by_hand(printed):
    assert number(r"largest difference of all: (\S+)", printed) < 1e-12
    shares = [float(s) for s in re.findall(r"terms: +([\d.]+) %", printed)]
    assert shares[0] > shares[1] > shares[2] == 0


def vanishing_and_exploding(printed):
    assert "2.4684, 3.3357, 4.7833 … 249.4956 " in printed
    assert "1.2342, 0.8339, 0.5979 … 2.3794e-4 " in printed
    ratio = {name.strip(): float(r) for name, r in re.findall(r"^  (.{20}) ‖∂L/∂s_1‖.*= (\S+)$", printed, re.MULTILINE)}
    assert ratio["RNN, U × 0.5"] < ratio["RNN"] < ratio["LSTM"] < 1 < ratio["RNN, U × 2"]
    worst = r" not clipped .* worst loss +(\S+)"
    assert number(worst, printed) > 10 * number(worst.replace("not ", ""), printed)


def gates(printed):
    adding, copying = printed.split("copy memory, T")
    assert number(r"1/6 = ([\d.]+)", adding) == round(1 / 6, 4)
    T = number(r"^ = (\d+)", copying)
    assert number(r"10 ln 8 / \d+ = ([\d.]+)", copying) == round(10 * math.log(8) / (T + 20), 4)
    for cell in ("LSTM", "peephole LSTM", "coupled LSTM", "GRU", "GRU, reset before"):
        assert number(rf"\n  {cell} +([\d.]+)", adding) < 1 / 12


def character_model(printed):
    symbols = number(r"letters of (\d+) kinds", printed)
    losses = [float(loss) for loss in re.findall(r"of 25 letters ([\d.]+)$", printed, re.MULTILINE)]
    assert losses[0] == round(25 * math.log(symbols), 2)
    assert losses[-1] < losses[0] - 1
    assert number(r"validation ([\d.]+) nats", printed) < 0.8 * math.log(symbols)
    assert max(abs(float(r)) for r in re.findall(r"unit +\d+ +([+-][\d.]+)", printed)) > 0.3
    assert len(re.findall(r"^t = [\d.]+:", printed, re.MULTILINE)) == 4


def deeper_and_both_ways(printed):
    right = re.findall(r"^  \d layers?, (forward|both ways) +([\d.]+)%", printed, re.MULTILINE)
    assert max(float(share) for direction, share in right if direction == "forward") < 84  # 81.25, and some luck
    assert min(float(share) for direction, share in right if direction == "both ways") > 90
    assert number(r"both ways: ([\d.]+)% of the second and third words", printed) > 95
    assert number(r"  forward: ([\d.]+)% of the second and third words", printed) < 60
    assert printed.count(": True") == 2


def six_dropouts(printed):
    rows = re.findall("^  (\\w+)" + 4 * r" +([\d.]+) ± [\d.]+", printed, re.MULTILINE)
    assert [name for name, *_ in rows] == ["none", "NonRecurrent", "RNNDrop", "Variational", "WeightDrop", "Recurrent",
                                           "Zoneout"]
    assert all(1 < float(bits) < 7 for _, *found in rows for bits in found)
    assert rows[0][3] == rows[0][4]  # no masks, nothing to average


def word_model(printed):
    words = number(r"learn from, ([\d,]+) different", printed)
    tests = [float(p) for p in re.findall(r"^test perplexity ([\d.]+)", printed, re.MULTILINE)]
    assert len(tests) == 4 and max(tests) < words / 2
    sizes = [number(rf"{k}\. [a-z ]+\n-+\n([\d,]+) parameters", printed) for k in (1, 2, 3, 4)]
    assert sizes[0] < sizes[1] == sizes[2] > sizes[3]
    assert "the same bits as four steps in one go" in printed


def sequence_to_sequence(printed):
    for model in re.split(r"epoch  1", printed)[1:]:
        losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", model)]
        assert losses == sorted(losses, reverse=True)
    assert len(re.findall(r"epoch  1: ", printed)) == 5


def many_to_one(printed):
    bag, *readers = (number(rf"\n{how} +([\d.]+) %", printed) for how in
                     ("bag of words", "last valid step", "both directions"))
    assert bag < 70 and min(readers) > 85
    changes = [float(c) for c in re.findall(r"change the verdict by (\S+)", printed)]
    assert changes[:2] == [0, 0] and changes[2] > 1e-3


def convolution(printed):
    assert re.findall(r"^[a-z 0-9]+? +(\d+ × \d+)$", printed, re.MULTILINE) == [
        "26 × 26", "28 × 28", "13 × 13", "22 × 22", "7 × 7", "7 × 7"]
    assert number(r"([\d.]+) % right after each epoch", printed) > 75


def higher_derivatives(printed):
    assert "step 4: x = 2.094551481542327" in printed
    assert "Newton, 6 steps: (1.000000, 1.000000)" in printed
    distances = [number(rf"penalty {p}: .* truth ([\d.]+)", printed) for p in ("0.01", " 0.0")]
    assert distances[0] < distances[1]
    curvature = number(r"largest curvature: ([\d.]+)", printed)
    assert math.isclose(curvature, number(r"difference of two gradients: ([\d.]+)", printed), rel_tol=1e-3)


def your_own_cell(printed):
    assert number(r"difference from the loop: (\S+)", printed) < 1e-12
    assert "agree with differences: True" in printed
    assert number(r"difference of the gradients: (\S+)", printed) < 1e-6
    assert number(r"eager +(\d+) lines", printed) > 50 * number(r"compiled +(\d+) lines", printed)
    assert len(re.findall(r"bits per character in validation", printed)) == 4


def korean(printed):
    assert "NFC: 2 characters, U+D55C U+AE00; 6 bytes" in printed
    assert "NFD: 6 characters" in printed and "; 18 bytes" in printed
    bits = [float(b) for b in re.findall(r"([\d.]+) bits a character", printed)]
    assert len(bits) == 4 and max(bits) < 25


CHECKS = {"01": hello, "02": bptt_by_hand, "03": vanishing_and_exploding, "04": gates, "05": character_model,
          "06": deeper_and_both_ways, "07": six_dropouts, "08": word_model, "09": sequence_to_sequence,
          "10": many_to_one, "11": convolution, "12": higher_derivatives, "13": your_own_cell, "14": korean}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path):
    pytest.importorskip("matplotlib")
    printed = run(path, cwd=tmp_path)
    figures = [tmp_path / name for name in re.findall(r"^figure: (.+)$", printed, re.MULTILINE)]
    assert figures, printed
    for figure in figures:
        assert figure.stat().st_size > 500
        if figure.suffix == ".svg":
            assert ET.parse(figure).getroot().tag.endswith("svg")
    assert {f.parent for f in figures} == {tmp_path / "figures"}
    if path.name[:2] in CHECKS:
        CHECKS[path.name[:2]](printed)


def test_without_matplotlib_there_is_a_line_instead_of_a_plot(tmp_path):
    start = ("import runpy, sys; sys.modules['matplotlib'] = None; path = sys.argv[1]; sys.argv = [path]; "
             "sys.path.insert(0, path.rpartition('/')[0]); runpy.run_path(path, run_name='__main__')")
    printed = run("-c", start, EXAMPLES[0].as_posix(), cwd=tmp_path)
    assert "no 01_loss.svg: plots need matplotlib" in printed
    assert (tmp_path / "figures" / "01_graph.svg").exists()
    assert not (tmp_path / "figures" / "01_loss.svg").exists()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_begins_with_its_idea_and_source(path):
    text = path.read_text(encoding="utf-8")
    docstring = re.match(r'"""(.*?)"""', text, re.DOTALL)
    assert docstring
    assert re.search(r"\b(19|20)\d\d\b", docstring[1]), "the year of a paper"


def test_the_readme_shows_figures_that_are_there_and_names_every_example():
    readme = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"\]\((?!https?:)([^)#]+)\)", readme):
        assert (ROOT / "examples" / name).exists(), name
    for path in EXAMPLES:
        assert path.name in readme

"""Drawing: what is in the picture, that it is well made, and that it always comes."""

from __future__ import annotations

import itertools
import os
import stat
import sys
import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from draw_examples import EXAMPLES, attention, loop, perceptron, ragged, recurrent, uneven

import minigrad as mg
from minigrad.draw import Diagram, RenderError
from minigrad.draw.dot import quote
from minigrad.draw.labels import clean, number, subscript, text_width
from minigrad.draw.palette import THEMES, heat_color, heat_level
from minigrad.draw.render import renderers

VIEWS = ("ops", "unrolled", "rolled", "modules", "backward")
SVG = "{http://www.w3.org/2000/svg}"

HOSTILE = [
    '"',
    "\\",
    'a" ; b [URL="x"]',
    "\\N \\G \\L",
    "<b>x</b>",
    "<<i>x</i>>",
    "&amp;&lt;",
    "a\nb\rc\td",
    "\x00\x07\x1b",
    "\ud800",
    "\uffff",
    "]]>",
    "--> <!-- ",
    "%s {x} $y",
    "n0:port",
    "𝔘ñï中文🙂",
    "\u202eabc",
    "x" * 10_000,
    "'; }",
    "end\\",
]


@cache
def example(name: str) -> mg.Tensor:
    """One of the examples, made once; drawing changes nothing."""
    return EXAMPLES[name]()


def kinds(diagram: Diagram) -> dict[str, int]:
    count: dict[str, int] = {}
    for box in diagram.picture.boxes:
        count[box.kind] = count.get(box.kind, 0) + 1
    return count


def labels(diagram: Diagram, kind: str) -> list[str]:
    return [" ".join(box.lines) for box in diagram.picture.boxes if box.kind == kind]


# -- what is chosen
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_chooses_the_view_that_fits(name: str) -> None:
    view = mg.draw(example(name)).view
    assert view == ("ops" if name in ("perceptron", "uneven", "convolution") else "unrolled")


def test_steps_that_differ_are_drawn_plainly_and_it_is_said() -> None:
    diagram = mg.draw(uneven(), "unrolled")
    assert diagram.view == "ops"
    assert "differs" in diagram.notes[0]
    assert "differs" in diagram.svg


def test_draws_after_backward_and_leaves_no_trace() -> None:
    loss = recurrent()
    before = mg.draw(loss).svg
    loss.backward()
    with_norms = mg.draw(loss)
    assert with_norms.view == "unrolled" and before != with_norms.svg
    assert any("‖grad‖" in text for text in labels(with_norms, "parameter"))


def test_draws_leaves_and_constants() -> None:
    leaf = mg.tensor([1.0, 2.0], requires_grad=True, name="w")
    for outputs in (leaf, mg.tensor(3.0), [leaf, leaf * 2.0]):
        ElementTree.fromstring(mg.draw(outputs).svg)


def test_wrong_arguments_are_explained() -> None:
    loss = perceptron()
    with pytest.raises(ValueError, match="views ops, unrolled"):
        mg.draw(loss, "sideways")
    with pytest.raises(ValueError, match="light, dark and auto"):
        mg.draw(loss, theme="pink")
    with pytest.raises(ValueError, match="at least 2"):
        mg.draw(loss, steps=1)
    with pytest.raises(TypeError, match="ndarray"):
        mg.draw([np.zeros(2)])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="at least one"):
        mg.draw([])
    with pytest.raises(ValueError, match=r"\.svg"):
        mg.draw(loss).save("picture.gif")


# -- what is in the picture
# ---------------------------------------------------------------------------------------


def test_unrolled_lstm_has_what_a_lecture_shows() -> None:
    diagram = mg.draw(recurrent("LSTM", 3), gradients=True)
    assert [c.full_title for c in diagram.picture.clusters] == [f"LSTMCell · t = {t}" for t in (1, 2, 3)]
    named = labels(diagram, "named")
    for t, letter in itertools.product("₁₂₃", "ifgoch"):
        assert any(text.startswith(f"{letter}{t} = ") for text in named), letter + t
    states = [text.split()[0] for text in labels(diagram, "state")]
    assert sorted(states) == ["c₁", "c₂", "h₁", "h₂"]
    assert sorted(text.split()[0] for text in labels(diagram, "constant")) == ["c₀", "h₀"]
    assert [text.split()[0] for text in labels(diagram, "input")] == ["x", "x₁", "x₂", "x₃", "target"]
    assert len(labels(diagram, "parameter")) == 5
    assert all("‖grad‖" in text for text in labels(diagram, "parameter") + labels(diagram, "state"))
    weight = next(b for b in diagram.picture.boxes if b.lines[0].startswith("weight_hh"))
    rails = [e for e in diagram.picture.edges if e.source is weight]
    assert len(rails) == 3 and all(e.style == "rail" for e in rails)


def test_a_parameter_is_drawn_once() -> None:
    for name in ("perceptron", "gru", "bidirectional", "attention", "convolution"):
        loss = example(name)
        count = sum(leaf._requires_grad for leaf in mg.tape(loss).leaves())
        for view in ("ops", "unrolled"):
            assert kinds(mg.draw(loss, view)).get("parameter", 0) == count, (name, view)


def test_many_steps_are_elided() -> None:
    diagram = mg.draw(loop(50), gradients=True)
    (elided,) = labels(diagram, "elided")
    assert "× 46 steps" in elided and "t = 3 … 48" in elided and "nodes" in elided
    (strip,) = diagram.picture.strips
    assert len(strip.levels) == 50
    assert len(diagram.picture.boxes) < 60
    assert len(labels(mg.draw(loop(50), steps=10), "elided")) == 1
    assert not labels(mg.draw(loop(4)), "elided")


def test_a_cut_is_seen() -> None:
    diagram = mg.draw(loop(4, cut=(2,)), gradients=True)
    assert labels(diagram, "detach") == ["✂ detach h₂ value only"]
    assert sorted(text.split()[0] for text in labels(diagram, "state")) == ["h₁", "h₃"]
    assert sum(edge.style == "dashed" for edge in diagram.picture.edges) == 2


def test_backwards_in_time_runs_from_right_to_left() -> None:
    diagram = mg.draw(recurrent("RNN", 3, bidirectional=True))
    carried = [e for e in diagram.picture.edges if e.source.kind == "state"]
    assert {e.path[0][0] < e.path[-1][0] for e in carried} == {True, False}
    assert "backwards in time" in diagram.picture.description


def test_attention_reads_one_memory_at_every_step() -> None:
    diagram = mg.draw(attention(3))
    memory = next(b for b in diagram.picture.boxes if b.lines[0].startswith("memory"))
    assert sum(e.source is memory for e in diagram.picture.edges) == 6
    assert any("h₀" in text for text in labels(diagram, "state"))


def test_masks_are_notes_and_the_masked_state_keeps_its_name() -> None:
    diagram = mg.draw(ragged())
    assert kinds(diagram)["mask"] == 2
    assert [text.split()[0] for text in labels(diagram, "state")] == ["h₁", "h₂"]
    x = mg.tensor(np.ones((3, 4)), requires_grad=True, name="x")
    dropped = mg.draw(mg.dropout(x, 0.5, np.random.default_rng(0)))
    assert labels(dropped, "mask") == ["dropout mask (3, 4) p=0.5"]


def test_rolled_shows_one_cell_with_an_arrow_back() -> None:
    diagram = mg.draw(loop(50), "rolled", gradients=True)
    assert diagram.view == "rolled" and len(diagram.picture.boxes) < 12
    (back,) = [e for e in diagram.picture.edges if e.source is e.target]
    assert "hₜ → t + 1" in back.label and "(t = 1) …" in back.label
    assert any("x₁ … x₅₀" in text for text in labels(diagram, "input"))


def test_modules_shows_calls() -> None:
    diagram = mg.draw(recurrent("LSTM", 20, 2), "modules")
    text = " ".join(labels(diagram, "module"))
    assert "Linear" in text and "LSTM" in text
    assert mg.draw(recurrent("LSTM", 3, 2), "modules", depth=1).picture.boxes


def test_backward_writes_the_formulas() -> None:
    x = mg.tensor(np.ones((2, 4)), name="x")
    W = mg.tensor(np.full((4, 3), 0.1), requires_grad=True, name="W")
    z = x @ W
    h = np.tanh(z)
    loss = (h * h).sum()
    mg.name(z=z, h=h, loss=loss)
    diagram = mg.draw(loss, "backward")
    assert any(text.startswith("∂L/∂z = ḡ · (1 − h²)") for text in labels(diagram, "backward"))
    assert any(text.startswith("∂L/∂W = xᵀ ḡ") for text in labels(diagram, "gradient"))
    rows = {b.lines[0].split(" ")[0]: b.y for b in diagram.picture.boxes}
    assert rows["z"] == rows["∂L/∂z"] and rows["h"] == rows["∂L/∂h"]
    assert W.grad is None
    loss.backward()
    with pytest.raises(mg.GraphError, match="retain_graph"):
        mg.draw(loss, "backward")


def test_folded_operations_come_back_on_request() -> None:
    loss = recurrent()
    assert "split" not in mg.draw(loss, "ops").text()
    assert "split" in mg.draw(loss, "ops", fold=False).text()


# -- gradients
# ----------------------------------------------------------------------------------------------------


def test_recorded_norms_are_those_of_the_gradients() -> None:
    x = mg.tensor([1.0, 2.0], requires_grad=True, name="x")
    y = np.tanh(x)
    loss = (y * y).sum()
    (expected,) = mg.grad(loss, y, retain_graph=True)
    with mg.record_gradients() as gradients:
        loss.backward()
    assert y.node is not None and expected is not None
    assert gradients.norms[y.node.number, 0] == pytest.approx(np.linalg.norm(expected.data))
    ref = weakref.ref(y.node)
    del y, loss
    assert ref() is None and len(gradients) == 3


def test_gradients_can_be_asked_for_and_are_added_nowhere() -> None:
    loss = recurrent()
    diagram = mg.draw(loss, gradients=True)
    parameters = [leaf for leaf in mg.tape(loss).leaves() if leaf._requires_grad]
    assert all(getattr(p, "grad", None) is None for p in parameters)
    loss.backward()
    by_hand = f"‖grad‖ {number(np.linalg.norm(parameters[0].grad), 2)}"
    assert any(by_hand in text for text in labels(diagram, "parameter"))


def test_vanishing_is_blue_and_exploding_red() -> None:
    assert (
        heat_level(1.0, 3) == "heat+0"
        and heat_level(1e-9, 3) == "heat-12"
        and heat_level(1e9, 3) == "heat+12"
    )
    assert heat_level(float("nan"), 3) == heat_level(float("inf"), 3) == "heat-nan"
    assert heat_level(0.0, 3) == "heat-none"
    for theme in THEMES.values():
        assert (
            heat_color("heat-12", theme) == theme.heat[0] and heat_color("heat+12", theme) == theme.heat[-1]
        )
    levels = mg.draw(loop(40, last_only=True), gradients=True).picture.strips[0].levels
    assert int(levels[0][4:]) < -3 and levels[-1] == "heat+0"


# -- well made
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("view", VIEWS)
def test_nothing_overlaps_and_nothing_lies_outside(name: str, view: str) -> None:
    picture = mg.draw(example(name), view, gradients=True).picture
    for a, b in itertools.combinations(picture.boxes, 2):
        apart = a.right <= b.left or b.right <= a.left or a.bottom <= b.top or b.bottom <= a.top
        assert apart, (a.lines, b.lines)
    for box in picture.boxes:
        assert box.left > 0 and box.right < picture.width and box.top > 0 and box.bottom < picture.height
        assert (
            max((text_width(line, box.size) for line in box.lines), default=0) <= box.w
            or box.shape == "circle"
        )
    for cluster in picture.clusters:
        inside = {
            b
            for b in picture.boxes
            if b.left >= cluster.left
            and b.right <= cluster.right
            and b.top >= cluster.top
            and b.bottom <= cluster.bottom
        }
        assert set(cluster.members) <= inside
    for edge in picture.edges:
        assert len(edge.path) % 3 == 1
        assert all(-1 <= x <= picture.width + 1 and -1 <= y <= picture.height + 1 for x, y in edge.path)
        for box, (x, y) in ((edge.source, edge.path[0]), (edge.target, edge.path[-1])):
            assert box.left - 2 <= x <= box.right + 2 and box.top - 2 <= y <= box.bottom + 2, box.lines


@pytest.mark.parametrize(("name", "theme"), [*zip(EXAMPLES, itertools.cycle(["auto", "light", "dark"]))])
def test_svg_is_well_formed_and_speaks(name: str, theme: str) -> None:
    diagram = mg.draw(example(name), gradients=True, theme=theme, title="A <title> & more")
    root = ElementTree.fromstring(diagram.svg)
    assert root.get("role") == "img" and root.get("viewBox") and root.get("width") is None
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None and title.text == "A <title> & more"
    assert description is not None and "operations" in (description.text or "")
    assert "href" not in diagram.svg and "<script" not in diagram.svg
    assert ("prefers-color-scheme" in diagram.svg) == (theme == "auto")
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    tips = [e.text or "" for e in root.iter(f"{SVG}title")]
    assert any("shape" in tip for tip in tips)


@pytest.mark.parametrize("name", ["perceptron", "gru", "bidirectional", "long loop", "attention"])
def test_same_input_same_bytes(name: str) -> None:
    first, second = mg.draw(EXAMPLES[name](), gradients=True), mg.draw(EXAMPLES[name](), gradients=True)
    assert first.svg == second.svg and first.dot == second.dot and first.text() == second.text()


def test_ids_of_different_figures_do_not_collide() -> None:
    first, second = (
        {e.get("id") for e in ElementTree.fromstring(mg.draw(f()).svg).iter()} for f in (loop, perceptron)
    )
    assert first & second == {None}


def test_notebooks_get_svg_and_text() -> None:
    diagram = mg.draw(perceptron())
    bundle = diagram._repr_mimebundle_()
    assert bundle["image/svg+xml"] == diagram.svg and "operations" in bundle["text/plain"]
    assert str(diagram) == diagram.text()


# -- text
# ---------------------------------------------------------------------------------------------------------


def test_text_rolls_up_the_loop() -> None:
    lines = mg.draw(loop(50)).text().splitlines()
    assert len(lines) < 20
    assert any(line.startswith("for t = 1 … 50:") and "carried: h (2, 5)" in line for line in lines)
    assert any("hₜ₋₁" in line and line.startswith("    ") for line in lines)
    assert lines[-1] == "return loss"


def test_text_of_a_plain_graph() -> None:
    text = mg.draw(perceptron()).text()
    assert "h = tanh(%2)" in text and "y = matmul(h, W2)" in text and "parameter W1" in text


def test_small_words() -> None:
    assert subscript(120) == "₁₂₀"
    assert number(1e-5) == "1e-5" and number(0.12345) == "0.123" and number(float("nan")) == "NaN"
    assert clean("a" * 100) == "a" * 59 + "…" and clean("a \n b") == "a b"


# -- hostile names
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_are_only_text(name: str) -> None:
    x = mg.tensor(np.ones((2, 2)), requires_grad=True, name=name)
    with mg.scope(name, label=name):
        y = np.tanh(x @ x)
        z = y * 2.0
    mg.name(loss=z)
    y.name = name
    diagram = mg.draw(z, title=name)
    root = ElementTree.fromstring(diagram.svg)
    assert "href" not in {key for e in root.iter() for key in e.attrib}
    assert {e.tag.removeprefix(SVG) for e in root.iter()} <= {
        "svg",
        "title",
        "desc",
        "rect",
        "g",
        "path",
        "circle",
        "text",
    }
    plain = mg.draw(np.tanh(x @ x) * 2.0)
    assert diagram.dot.count(" -> ") == plain.dot.count(" -> ")
    diagram.dot.encode()
    diagram.text()


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_quoted_text_cannot_end_early(name: str) -> None:
    quoted = quote(name)
    assert quoted[0] == quoted[-1] == '"' and "\n" not in quoted and len(quoted) < 1000
    inside, k = quoted[1:-1], 0
    while k < len(inside):
        if inside[k] == "\\":
            assert inside[k + 1] in '\\"n'
            k += 1
        else:
            assert inside[k] != '"'
        k += 1


# -- rendering
# ----------------------------------------------------------------------------------------------------


@pytest.fixture
def no_renderer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("MINIGRAD_DOT", raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))


def test_svg_needs_no_renderer(no_renderer: None, tmp_path: Path) -> None:
    diagram = mg.draw(loop())
    assert list(renderers()) == []
    for suffix in ("svg", "dot", "txt"):
        assert diagram.save(tmp_path / f"a.{suffix}").read_text(encoding="utf-8")


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_without_a_renderer_the_message_helps(no_renderer: None, tmp_path: Path, suffix: str) -> None:
    with pytest.raises(RenderError, match=r"apt install graphviz") as error:
        mg.draw(loop()).save(tmp_path / f"a.{suffix}")
    assert str(tmp_path / "a.dot") in str(error.value) and "render" in str(error.value)
    assert (tmp_path / "a.dot").read_text(encoding="utf-8").startswith("digraph")


@pytest.mark.skipif(os.name == "nt", reason="a script is no program there")
def test_the_renderer_of_choice_is_asked_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "my dot"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.stdout.write(' '.join(sys.argv[1:]) + sys.stdin.read(7))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("MINIGRAD_DOT", str(program))
    made = mg.draw(perceptron()).save(tmp_path / "a.png").read_text()
    assert "-n2" in made and "-Tpng" in made and made.endswith("digraph")


@pytest.mark.skipif(not any(origin == "system" for origin, _ in renderers()), reason="no Graphviz here")
def test_graphviz_reads_what_we_write(tmp_path: Path) -> None:
    y = mg.tensor(np.ones(2), requires_grad=True)
    for name in HOSTILE:
        with mg.scope(name, label=name):
            y = np.tanh(y * mg.tensor(np.ones(2), requires_grad=True, name=name))
        y.name = name
    mg.draw(y, title=HOSTILE[2]).save(tmp_path / "hostile.png")
    made = mg.draw(attention(), gradients=True).save(tmp_path / "attention.pdf")
    assert made.read_bytes().startswith(b"%PDF")


# -- size
# ---------------------------------------------------------------------------------------------------------


def calls(work: Callable[[], object]) -> int:
    """How many functions of Python it calls: what it costs, whatever else the machine does."""
    count = 0

    def seen(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_a_large_graph_is_drawn_by_module() -> None:
    def chain(length: int) -> mg.Tensor:
        y = mg.tensor(np.ones(2), requires_grad=True, name="x")
        for k in range(length):
            with mg.scope(f"block {k % 3}", label="Block"):
                y = np.tanh(y) + 1.0
        return y

    y = chain(10_000)
    diagram = mg.draw(y)
    ElementTree.fromstring(diagram.svg)
    assert diagram.view == "modules" and "too many" in diagram.notes[0]
    assert len(diagram.picture.boxes) < 200
    assert len(diagram.text().splitlines()) < 2100
    short, long = chain(1000), chain(3000)
    assert calls(lambda: mg.draw(long, "modules").svg) < 3.5 * calls(lambda: mg.draw(short, "modules").svg)


@pytest.mark.parametrize("view", ["unrolled", "rolled", "modules"])
def test_a_long_loop_costs_what_its_tape_costs(view: str) -> None:
    short, long = loop(100), loop(400)
    assert mg.draw(long, view).view == view
    assert calls(lambda: mg.draw(long, view)) < 4.5 * calls(lambda: mg.draw(short, view))


# -- colours
# ------------------------------------------------------------------------------------------------------


def _linear(color: str) -> np.ndarray:
    c = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def _luminance(color: str) -> float:
    return float(_linear(color) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("theme", THEMES)
def test_text_is_readable_on_every_fill(theme: str) -> None:
    colors = THEMES[theme]
    for fill in [colors.background, *(fill for fill, _ in colors.fills.values())]:
        low, high = sorted((_luminance(fill), _luminance(colors.text)))
        assert (high + 0.05) / (low + 0.05) >= 6, fill


# Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB.
BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("theme", THEMES)
def test_fills_or_shapes_stay_apart_for_the_colour_blind(theme: str, blindness: str) -> None:
    from minigrad.draw.model import DASHES, SHAPES

    matrix = np.array(BLINDNESS[blindness])
    fills = {
        k: np.clip(matrix @ _linear(fill), 0, 1) ** (1 / 2.4)
        for k, (fill, _) in THEMES[theme].fills.items()
        if k in SHAPES
    }
    for a, b in itertools.combinations(fills, 2):
        same_form = SHAPES[a] == SHAPES[b] and (a in DASHES) == (b in DASHES)
        assert not same_form or np.linalg.norm(fills[a] - fills[b]) > 0.03, (a, b)


def test_the_graphviz_packages_own_object():
    a = mg.tensor([1.0, 2.0], requires_grad=True, name="a")
    diagram = mg.draw(np.sum(a * a))
    assert diagram.source.source == diagram.dot
    assert diagram.source.engine == "neato"

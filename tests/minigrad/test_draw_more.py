"""Drawing: long loops, compiled loops, recorded gradients, statistics, notebooks."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from draw_examples import EXAMPLES, attention, loop, perceptron, ragged, recurrent

import minigrad as mg
from minigrad.draw import Diagram
from minigrad.draw.labels import number, text_width
from minigrad.draw.model import SIZE, polyline
from minigrad.draw.render import renderers

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> list[tuple[str, tuple[tuple[str, str], ...], str]]:
    """What is seen of a picture: everything but tooltips and ids."""
    found = []
    for e in ElementTree.fromstring(svg).iter():
        if e.tag != f"{SVG}title" and e.tag != f"{SVG}svg":
            found.append((e.tag, tuple((k, v) for k, v in e.attrib.items() if k != "id"), e.text or ""))
    return found


def kinds(diagram: Diagram) -> set[str]:
    return {box.kind for box in diagram.picture.boxes}


# -- long loops


def two_kinds(steps: int = 100) -> mg.Tensor:
    """A step that does now one thing, now another."""
    rng = np.random.default_rng(0)
    h = mg.tensor(np.ones(2), requires_grad=True, name="h")
    for t in range(1, steps + 1):
        with mg.scope(f"t = {t}", step=t):
            h = np.tanh(h) if rng.random() < 0.5 else np.tanh(h) * 2.0
    return h.sum()


def calls(steps: int = 60) -> mg.Tensor:
    """Two modules called one after the other again and again, without a word about time; a number that changes."""
    W = mg.tensor(np.eye(2), requires_grad=True, name="W")
    lower = upper = mg.tensor(np.zeros((1, 2)))
    for t in range(steps):
        with mg.scope("lower", label="RNNCell"):
            lower = np.tanh(mg.tensor(np.ones((1, 2)), name="x") * 0.9**t + lower @ W)
            mg.name(h=lower)
        with mg.scope("upper", label="RNNCell"):
            upper = np.tanh(lower + upper @ W)
            mg.name(h=upper)
    return upper.sum()


LONG = {
    "lstm": lambda: recurrent("LSTM", 60),
    "gru": lambda: recurrent("GRU", 60, 2),
    "bidirectional": lambda: recurrent("RNN", 60, 1, True),
    "loop": lambda: loop(60),
    "last": lambda: loop(60, last_only=True),
    "cut once": lambda: loop(130, cut=(100,)),
    "cut often": lambda: loop(60, cut=tuple(range(4, 60, 4))),
    "attention": lambda: attention(60, 3),
    "ragged": lambda: ragged(60),
    "two kinds of steps": two_kinds,
    "calls": calls,
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_loop_made_short_gives_the_same_picture(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from minigrad.draw import expand, shorten

    loss = LONG[name]()
    reading, _ = expand.expand(mg.tape(loss))
    assert len(shorten.shorten(reading, 8).nodes) < 0.75 * len(reading.nodes)
    pictures = {}
    for least in (40, 10**6):
        monkeypatch.setattr(shorten, "LEAST", least)
        pictures[least] = [drawn(mg.draw(loss, view, gradients=True).svg) for view in ("unrolled", "rolled")]
    assert pictures[40] == pictures[10**6]


@pytest.mark.parametrize("what", ["other operations", "from farther back", "needed afterwards"])
def test_what_does_not_repeat_is_not_made_short(what: str) -> None:
    from minigrad.draw.reading import whole
    from minigrad.draw.shorten import shorten

    rng = np.random.default_rng(0)
    h = [mg.tensor(np.ones(2), requires_grad=True, name="h")]
    for t in range(1, 100):
        with mg.scope(f"t = {t}", step=t):
            new = np.tanh(h[-1])
            for choice in rng.integers(0, 2, 20) if what == "other operations" else ():
                new = new * 0.5 if choice else np.tanh(new)
            h.append(new * h[-3] if what == "from farther back" and t > 3 else new)
    reading = whole(mg.tape(h[-1] * h[50] if what == "needed afterwards" else h[-1]))
    assert shorten(reading, 8) is reading


def test_gradients_of_steps_taken_out_are_those_of_their_own_values() -> None:
    from minigrad.draw.analyse import analyse
    from minigrad.draw.expand import expand
    from minigrad.draw.graph import graph_of
    from minigrad.draw.shorten import shorten

    loss = two_kinds()
    with mg.record_gradients() as gradients:
        loss.backward(retain_graph=True)
    reading, _ = expand(mg.tape(loss))
    series = []
    for each in (reading, shorten(reading, 8)):
        (run,) = analyse(graph_of(each, gradients), each, gradients).runs
        series.append([run.grads(state) for state in run.states])
    assert series[0] == series[1] and len(series[0][0]) == 100


@pytest.mark.parametrize("view", [None, "ops", "modules", "backward"])
def test_what_is_too_large_is_gathered_by_module(view: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    from minigrad.draw import diagram

    monkeypatch.setattr(diagram, "GATHER_ABOVE", 100)
    x = y = mg.tensor(np.ones(2), requires_grad=True, name="x")
    for k in range(2000):
        with mg.scope(f"block {k % 3}", label="Block"):
            y = np.tanh(y).reshape(2) * x + mg.tensor(np.ones(2), name="shift")
        if k == 1000:
            with mg.scope("middle"):
                y = np.exp(y * 1e-3)
    loss = y.sum()
    mg.name(loss=loss)
    drawing = mg.draw(loss, view, gradients=True)
    found = {box.lines for box in drawing.picture.boxes}
    assert drawing.view == "modules" and not drawing.picture.strips
    assert {("Block 0", "2001 ops, 667 calls"), ("middle", "2 ops · (2,)"), ("loss = sum", "()")} <= found
    assert ("parameter", "x") in {(box.kind, box.lines[0].split()[0]) for box in drawing.picture.boxes}
    assert (view == "modules") == (not drawing.notes)
    lines = drawing.text().splitlines()
    assert lines[-1] == "return loss" and lines[-2] == "… 6003 more operations" and len(lines) < 4100


def test_names_in_a_listing_are_told_apart_quickly() -> None:
    w = mg.tensor(np.ones(2), requires_grad=True, name="w")
    loss = mg.tensor(0.0, requires_grad=True)
    for _ in range(1500):
        loss = loss + (w * mg.tensor(np.ones(2))).sum()
    lines = mg.draw(loss).text().splitlines()
    assert len({line.split()[1] for line in lines if line.startswith("input ")}) == 1500


def test_thousands_of_steps_still_show_the_decay() -> None:
    diagram = mg.draw(loop(1500, last_only=True), gradients=True)
    (elided,) = (box for box in diagram.picture.boxes if box.kind == "elided")
    assert "× 1496 steps" in elided.lines
    (strip,) = diagram.picture.strips
    assert len(strip.levels) == 375 and strip.tooltips[0].startswith("t = 1 … 4: ")
    assert "unrolled over 1500 steps" in diagram.picture.description


# -- compiled loops


def compiled_layer(compiled: bool, reverse: bool = False) -> mg.Tensor:
    rng = np.random.default_rng(0)
    W = mg.tensor(rng.normal(size=(4, 5)), requires_grad=True, name="W")
    U = mg.tensor(rng.normal(size=(5, 5)), requires_grad=True, name="U")
    x = mg.tensor(rng.normal(size=(9, 2, 4)), name="x")

    def step(h: mg.Tensor, a: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        h = np.tanh(a + h @ U)
        mg.name(h=h)
        return h, h

    with mg.scope("layer 0", label="RNNCell"):
        _, outputs = mg.scan(step, mg.tensor(np.zeros((2, 5))), x @ W, reverse=reverse,
                             compiled="numpy" if compiled else False)
    loss = (outputs * outputs).mean()
    mg.name(loss=loss)
    return loss


@pytest.mark.parametrize("reverse", [False, True])
def test_a_compiled_loop_looks_like_the_eager_one(reverse: bool) -> None:
    eager, compiled = (mg.draw(compiled_layer(on, reverse), gradients=True) for on in (False, True))
    assert len(mg.tape(compiled_layer(True, reverse))) < 10
    assert compiled.text() == eager.text()
    assert drawn(compiled.svg) == drawn(eager.svg)


def test_a_compiled_loop_is_drawn_after_backward_too() -> None:
    loss = compiled_layer(True)
    with mg.record_gradients() as gradients:
        loss.backward()
    diagram = mg.draw(loss, gradients=gradients)
    assert diagram.view == "unrolled" and not diagram.notes
    assert any("‖grad‖" in line for box in diagram.picture.boxes if box.kind == "parameter" for line in box.lines)


@pytest.mark.parametrize("reverse", [False, True])
def test_recorded_gradients_reach_into_a_compiled_loop(reverse: bool) -> None:
    pictures = []
    for compiled in (False, True):
        loss = compiled_layer(compiled, reverse)
        with mg.record_gradients() as gradients:
            loss.backward()
        before = dict(gradients.norms)
        pictures.append(mg.draw(loss, gradients=gradients))
        assert gradients.norms == before
    eager, other = pictures
    assert [b.lines for b in eager.picture.boxes if b.kind == "state"] == [
        b.lines for b in other.picture.boxes if b.kind == "state"
    ]
    assert [e.heat for e in eager.picture.edges] == [e.heat for e in other.picture.edges]
    assert any("‖grad‖" in line for b in other.picture.boxes if b.kind == "state" for line in b.lines)


def test_the_program_of_a_compiled_loop_before_and_after_rewriting() -> None:
    U = mg.tensor(np.eye(3), requires_grad=True, name="U")

    def step(h: mg.Tensor, x: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        new = np.tanh(h @ U + x) * mg.sigmoid(h @ U + x)
        mg.name(h=new)
        return new, new

    scan = mg.explain(step, mg.tensor(np.zeros((2, 3))), mg.tensor(np.ones((4, 2, 3))), backend="numpy")
    diagram = mg.draw(scan, title="twice")
    before, after = (int(c.title.split()[-2]) for c in diagram.picture.clusters)
    assert after < before and f"rewritten {after} operations" in diagram.picture.description
    assert {"state", "input", "parameter", "backward", "gradient", "output"} <= kinds(diagram)
    assert diagram.text().startswith("# as traced\nstate") and "# rewritten" in diagram.text()
    ElementTree.fromstring(diagram.svg)
    assert diagram.dot == mg.draw(scan, title="twice").dot
    with pytest.raises(TypeError, match="explain"):
        mg.draw(3.0)  # type: ignore[arg-type]


# -- recorded gradients


def test_recorded_gradients_have_a_colour_of_their_own() -> None:
    x = mg.tensor(0.5, requires_grad=True, name="x")
    y = np.tanh(x) * x
    (dy,) = mg.grad(y, x, create_graph=True)
    (ddy,) = mg.grad(dy, x, create_graph=True)
    assert dy is not None and ddy is not None
    mg.name(y=y, dy=dy, ddy=ddy)
    diagram = mg.draw([y, dy, ddy])
    assert diagram.view == "ops" and {"backward", "op", "output"} <= kinds(diagram)
    assert {edge.style for edge in diagram.picture.edges} >= {"", "backward", "saved"}
    for edge in diagram.picture.edges:
        if edge.style == "backward":
            assert edge.source.kind in ("backward", "gradient", "output")
    assert "gradient" in str(mg.tape(dy))
    assert "backward" not in kinds(mg.draw(y))
    assert mg.draw(recurrent() * 2.0).view == "unrolled"


def test_a_recorded_gradient_of_a_loop_is_no_loop() -> None:
    W = mg.tensor(np.eye(2), requires_grad=True, name="W")
    h = mg.tensor(np.ones((1, 2)))
    for t in range(1, 4):
        with mg.scope(f"t = {t}", step=t):
            h = np.tanh(h @ W)
    (g,) = mg.grad(h.sum(), W, create_graph=True)
    assert g is not None
    diagram = mg.draw((g * g).sum())
    assert diagram.view == "ops" and "backward" in kinds(diagram)
    assert any(cluster.kind == "cluster backward" for cluster in diagram.picture.clusters) or diagram.picture.boxes


# -- numbers


def test_tooltips_say_the_range_of_values() -> None:
    x = mg.tensor([1.0, -2.0, np.inf], requires_grad=True, name="x")
    ids = mg.tensor([3, 7], name="ids")
    tips = "\n".join(box.tooltip for box in mg.draw([np.tanh(x), ids * 2]).picture.boxes)
    assert "values −2 … 1, 1 not finite" in tips
    assert "values −0.964 … 1" in tips
    assert "values 3 … 7" in tips or "values 6 … 14" in tips


def test_statistics_are_drawn_on_request() -> None:
    loss = perceptron()
    diagram = mg.draw(loss, gradients=True, statistics=True)
    h = next(box for box in diagram.picture.boxes if box.lines[0].startswith("h = "))
    assert any(line.startswith("mean ") for line in h.lines) and any(line.startswith("grad ") for line in h.lines)
    weight = next(box for box in diagram.picture.boxes if box.lines[0].startswith("W1"))
    W1 = next(leaf for leaf in mg.tape(loss).leaves() if leaf._name == "W1")
    assert f"{W1._data.mean():.2g}".replace("-", "−") in " ".join(weight.lines)
    assert not diagram.notes
    loss.backward()
    assert "were freed" in mg.draw(loss, statistics=True).notes[0]


def test_a_diagram_holds_no_arrays() -> None:
    import gc
    import weakref

    class Array(np.ndarray):
        pass

    data = np.ones(3).view(Array)
    x = mg.tensor(np.ones(3), requires_grad=True)
    y = np.tanh(x)
    assert y.node is not None
    ref = weakref.ref(y.node)
    diagram = mg.draw(y * y)
    del y
    gc.collect()
    assert ref() is None and diagram.text() and data.size == 3


# -- titles


@pytest.mark.parametrize("name", [n for n in EXAMPLES if n not in ("perceptron", "uneven")])
def test_no_arrow_runs_through_the_title_of_a_step(name: str) -> None:
    picture = mg.draw(EXAMPLES[name](), "unrolled").picture
    for cluster in picture.clusters:
        if "t = " not in cluster.full_title:
            continue
        spans = [(cluster.title_start, cluster.title_start + 0.93 * text_width(cluster.title, SIZE))]
        if cluster.other_title:
            spans.append((cluster.right - 7 - 0.93 * text_width(cluster.other_title, SIZE), cluster.right - 7))
        for edge, (left, right) in itertools.product(picture.edges, spans):
            if edge.style == "rail":
                continue
            for x, y in polyline(edge.path):
                assert not (left < x < right and cluster.top + 3 < y < cluster.top + 14), (cluster.full_title, edge)


@pytest.mark.parametrize("make", [lambda: second(), lambda: crossed()], ids=["second derivative", "many arrows"])
def test_no_arrow_runs_through_the_title_of_a_module(make: Callable[[], list[mg.Tensor]]) -> None:
    picture = mg.draw(make(), "ops").picture
    assert picture.clusters
    for cluster, edge in itertools.product(picture.clusters, picture.edges):
        left, right = cluster.title_start, cluster.title_start + 0.93 * text_width(cluster.title, SIZE)
        for x, y in polyline(edge.path, 40):
            assert not (left < x < right and cluster.top + 3 < y < cluster.top + 14), (cluster.title, edge.path)
    assert all(c.right < picture.width for c in picture.clusters)


def test_titles_of_modules_in_a_step_stay_in_it() -> None:
    picture = mg.draw(attention(), "unrolled").picture
    steps = [c for c in picture.clusters if "t = " in c.full_title]
    inner = [c for c in picture.clusters if c.aside]
    assert len(inner) == 6
    for cluster in inner:
        end = cluster.title_start + text_width(cluster.title, SIZE)
        assert any(s.left < cluster.left and end < s.right and s.top < cluster.top < s.bottom for s in steps)


def second() -> list[mg.Tensor]:
    x = mg.tensor(0.5, requires_grad=True, name="x")
    y = np.tanh(x)
    (first,) = mg.grad(y, x, create_graph=True)
    assert first is not None
    (curvature,) = mg.grad(first, x, create_graph=True)
    assert curvature is not None
    return [y, first, curvature]


def crossed() -> list[mg.Tensor]:
    x = mg.tensor(np.ones(2), requires_grad=True, name="x")
    y = np.tanh(x)
    with mg.scope("a module with many inputs", label="M"):
        total = sum((y * float(k) for k in range(2, 7)), np.exp(y))
    return [total]


@pytest.mark.parametrize("kind, layers, both", [("LSTM", 1, False), ("GRU", 2, True)])
def test_the_frame_of_a_rolled_loop_holds_its_title(kind: str, layers: int, both: bool) -> None:
    picture = mg.draw(recurrent(kind, 3, layers, both), "rolled", gradients=True).picture
    for cluster in picture.clusters:
        assert cluster.title_start + text_width(cluster.title, SIZE) <= cluster.right
        for edge in picture.edges:
            if not {edge.source, edge.target} & set(cluster.members):
                assert not any(
                    cluster.left < x < cluster.right and cluster.top < y < cluster.bottom
                    for x, y in polyline(edge.path)
                ), (cluster.title, edge.path)


# -- cuts and constants


@pytest.mark.parametrize("freed", [False, True])
def test_a_cut_that_is_no_state_is_a_cut(freed: bool) -> None:
    W = mg.tensor(np.eye(2), requires_grad=True, name="W")
    h = np.tanh(mg.tensor(np.ones((1, 2)), name="x") @ W)
    mg.name(h=h)
    loss = ((h * 2.0 - h.detach()) ** 2).sum()
    if freed:
        loss.backward()
    diagram = mg.draw(loss)
    (box,) = (b for b in diagram.picture.boxes if b.kind == "detach")
    assert box.lines == ("✂ detach", "h value only")
    arrows = [e for e in diagram.picture.edges if box in (e.source, e.target)]
    assert len(arrows) == 2 and all(e.style == "dashed" for e in arrows)
    assert "detached h" in diagram.text()


def test_a_start_that_was_cut_off_is_a_cut() -> None:
    W = mg.tensor(np.eye(2), requires_grad=True, name="W")
    start = np.tanh(mg.tensor(np.ones((1, 2)), name="x") @ W)
    h, _ = mg.scan(lambda h, x: (np.tanh(h @ W + x),) * 2, start.detach(), mg.tensor(np.ones((3, 1, 2)), name="x"))
    boxes = mg.draw([h.sum(), start.sum()]).picture.boxes
    assert [b.lines[0] for b in boxes if b.kind == "detach"] == ["✂ detach"]


def test_what_the_first_step_has_instead_of_a_mask_is_named() -> None:
    import rnn

    x = mg.tensor(np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32), name="x")
    outputs, _ = rnn.LSTM(4, 5, dropout=rnn.dropout.Zoneout(cell=0.5, hidden=0.1), rng=0, compiled=False)(x)
    boxes = mg.draw(outputs.sum()).picture.boxes
    assert {b.lines[0] for b in boxes if b.kind == "constant"} == {
        "h₀ (2, 5)", "c₀ (2, 5)", "mask × h₀", "mask × c₀"
    }
    masks = [b.lines for b in boxes if b.kind == "mask"]
    assert masks.count(("1 − mask", "(2, 5)")) == 5 and ("Zoneout h mask", "(2, 5) p=0.1") in masks


# -- notebooks and renderers


def test_notebooks_can_have_inline_html(monkeypatch: pytest.MonkeyPatch) -> None:
    diagram = mg.draw(perceptron())
    assert set(diagram._repr_mimebundle_(include={"text/plain"})) == {"text/plain"}
    assert set(diagram._repr_mimebundle_(exclude={"text/plain"})) == {"image/svg+xml"}
    monkeypatch.setattr(Diagram, "html", True)
    bundle = diagram._repr_mimebundle_()
    assert bundle["text/html"] == diagram.svg and "image/svg+xml" not in bundle


def test_pygraphviz_is_asked_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name == "pygraphviz" else None)
    origin, command = list(renderers("png"))[-1]
    assert origin == "pygraphviz" and command[0] == sys.executable and command[-1] == "png"


# -- hostile names, everywhere a name can be


HOSTILE = [
    '"', "\\", "\\N", "<b>x</b>", "<<i>x</i>>", 'a"] b [URL="u"]', "&quot;", "\x00\x1b", "🙂" * 3000, "x:y",
    "\ud800",
]


@pytest.mark.parametrize("view", ["ops", "unrolled", "rolled", "modules", "backward"])
@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_are_text_in_every_view(name: str, view: str) -> None:
    def build(word: str) -> mg.Tensor:
        W = mg.tensor(np.eye(2), requires_grad=True, name=word)
        h = mg.tensor(np.zeros((1, 2)), name=word)
        for t in range(1, 4):
            with mg.scope(f"t = {t}", step=t), mg.scope(word, label=word):
                h = np.tanh(mg.tensor(np.ones((1, 2)), name=word) + h @ W)
                h.name = word
        out = h.sum()
        out.name = word
        return out

    diagram, plain = mg.draw(build(name), view, gradients=True, title=name), mg.draw(build("x"), view, gradients=True)
    root = ElementTree.fromstring(diagram.svg)
    assert {e.tag.removeprefix(SVG) for e in root.iter()} <= {
        "svg", "title", "desc", "rect", "g", "path", "circle", "text"
    }
    assert not {"href", "onclick", "onload"} & {key.rpartition("}")[2] for e in root.iter() for key in e.attrib}
    assert diagram.dot.count("->") >= plain.dot.count("->") and "\x00" not in diagram.dot
    diagram.dot.encode()


@pytest.mark.skipif(not any(origin == "system" for origin, _ in renderers()), reason="no Graphviz here")
def test_graphviz_finds_the_same_nodes_whatever_their_names(tmp_path: Path) -> None:
    import re
    import subprocess

    y = mg.tensor(np.ones(2), requires_grad=True)
    for name in HOSTILE:
        with mg.scope(name, label=name):
            y = np.tanh(y * mg.tensor(np.ones(2), requires_grad=True, name=name))
        y.name = name
    diagram = mg.draw(y, title=HOSTILE[0])
    command = next(command for origin, command in renderers("plain") if origin == "system")
    done = subprocess.run(command, input=diagram.dot.encode(), capture_output=True, timeout=60, check=True)
    found = re.findall(r"^node (n\d+) ", done.stdout.decode(), re.MULTILINE)
    assert sorted(found) == sorted(f"n{i}" for i in range(len(diagram.picture.boxes)))


# -- modules that nobody named


def two_cells(steps: int) -> mg.Tensor:
    import rnn

    rng = np.random.default_rng(0)
    lower, upper = rnn.LSTMCell(4, 5, rng=0), rnn.LSTMCell(5, 5, rng=1)
    below, above = lower.initial_state(2), upper.initial_state(2)
    losses = []
    for _ in range(steps):
        h, below = lower(mg.tensor(rng.normal(size=(2, 4)).astype(np.float32), name="x"), below)
        h, above = upper(h, above)
        losses.append((h * h).sum())
    return sum(losses[1:], losses[0])


@pytest.mark.parametrize("steps", [2, 3, 6, 60])
def test_two_cells_of_one_class_are_two_layers(steps: int) -> None:
    diagram = mg.draw(two_cells(steps), gradients=True)
    assert diagram.view == "unrolled" and not diagram.notes
    rows = {c.full_title.split(" · ")[0]: c.top for c in diagram.picture.clusters}
    assert set(rows) == {"LSTMCell 1", "LSTMCell 2"} and rows["LSTMCell 2"] < rows["LSTMCell 1"]
    names = {b.lines[0].split(" (")[0] for b in diagram.picture.boxes if b.kind == "parameter"}
    assert names == {f"lstmcell {k}.{part}" for k in (1, 2) for part in ("weight_ih", "weight_hh", "bias")}
    assert diagram.text().count("for t = ") == 2


def test_one_cell_called_again_is_one_and_twins_are_told_apart_in_every_view() -> None:
    x = mg.tensor(np.ones((2, 3)), name="x")
    first, second = mg.nn.Linear(3, 3, rng=0), mg.nn.Linear(3, 3, rng=1)
    for outputs, titles in ((first(np.tanh(first(x))), {"Linear"}), (second(first(x)), {"Linear 1", "Linear 2"})):
        modules = [b for b in mg.draw(outputs.sum(), "modules").picture.boxes if b.kind == "module"]
        assert {b.lines[0] for b in modules} == titles
        words = mg.draw(outputs.sum()).text()
        assert ("linear 2.weight" in words) == ("Linear 2" in titles)


# -- statistics inside compiled loops


@pytest.mark.parametrize(("steps", "options"), [(3, {}), (60, {"num_layers": 2, "bidirectional": True})])
def test_statistics_reach_into_compiled_loops(steps: int, options: dict[str, int]) -> None:
    import rnn

    def drawn(compiled: bool | str) -> Diagram:
        x = mg.tensor(np.random.default_rng(0).normal(size=(2, steps, 4)).astype(np.float32), name="x")
        outputs, _ = rnn.GRU(4, 5, rng=0, compiled=compiled, **options)(x)
        return mg.draw((outputs * outputs).mean(), gradients=True, statistics=True)

    eager, compiled = drawn(False), drawn("numpy")
    assert not compiled.notes and len(eager.picture.boxes) == len(compiled.picture.boxes)
    for known, found in zip(eager.picture.boxes, compiled.picture.boxes, strict=True):
        assert {line for line in known.lines if line[0] not in "mg"} <= set(found.lines)
        for word in ("mean ", "grad "):
            one, other = ([line for line in box.lines if line.startswith(word)] for box in (known, found))
            assert len(one) <= len(other)
            for a, b in zip(one, other, strict=False):
                numbers = ([float(v.replace("−", "-")) for v in line[5:].split(" ± ")] for line in (a, b))
                assert np.allclose(*numbers, rtol=0.05, atol=1e-6)
        if found.kind == "named":
            assert {line.split()[0] for line in found.lines[2:]} == {"mean", "grad"}
            assert "values " in found.tooltip and "entries of the gradient" in found.tooltip


def test_statistics_of_a_freed_compiled_loop_say_that_they_are_gone() -> None:
    _, outputs = mg.scan(lambda h, x: (np.tanh(h + x),) * 2, mg.tensor(np.zeros(2), requires_grad=True),
                         mg.tensor(np.ones((9, 2))), compiled="numpy")
    loss = outputs.sum()
    loss.backward()
    assert "freed" in mg.draw(loss, statistics=True).notes[0]


def test_a_loss_shows_its_value() -> None:
    loss = perceptron()
    box = next(b for b in mg.draw(loss, statistics=True).picture.boxes if b.kind == "output")
    assert box.lines[2] == f"value {number(loss.item())}"
    assert f"values {number(loss.item())}" in next(
        b for b in mg.draw(loss).picture.boxes if b.kind == "output"
    ).tooltip


# -- steps of which none has everything


@pytest.mark.parametrize("view", ["unrolled", "rolled"])
def test_two_steps_of_zoneout_are_put_together(view: str) -> None:
    import rnn

    x = mg.tensor(np.random.default_rng(0).normal(size=(2, 2, 4)).astype(np.float32), name="x")
    scheme = rnn.dropout.Zoneout(cell=0.5, hidden=0.1)
    outputs, _ = rnn.LSTM(4, 5, dropout=scheme, rng=0, compiled=False)(x)
    diagram = mg.draw(outputs.sum(), view)
    assert diagram.view == view and not diagram.notes
    lines = diagram.text().splitlines()
    (head,) = (line for line in lines if line.startswith("for t = 1 … 2:"))
    assert head.endswith("carried: h (2, 5), c (2, 5)")
    for letter in "ifgoch":  # the second step makes no c, the first keeps nothing of h
        assert sum(line.strip().startswith(f"{letter}ₜ = ") for line in lines) == 1
    assert any("× hₜ₋₁" in line for line in lines)
    if view == "unrolled":
        states = {b.lines[0].split()[0] for b in diagram.picture.boxes if b.kind in ("state", "constant")}
        assert {"h₁", "c₁", "h₀", "c₀"} <= states
        named = {b.lines[0].split()[0] for b in diagram.picture.boxes if b.kind == "named"}
        assert "c₁" in named and "c₂" not in named and {"h₁", "h₂"} <= named


def test_steps_that_do_little_alike_are_not_put_together() -> None:
    h = W = mg.tensor(np.eye(2), requires_grad=True, name="W")
    for t in (1, 2):
        with mg.scope(f"t = {t}", step=t):
            h = np.tanh(np.exp(h @ W) * 2.0) if t == 1 else mg.sigmoid(np.sqrt(h * h) + W) @ W
    diagram = mg.draw(h.sum(), "unrolled")
    assert diagram.view == "ops" and "differs" in diagram.notes[0]


# -- what goes into a convolution


@pytest.mark.parametrize("view", ["ops", "modules", "backward"])
def test_a_convolution_shows_the_image_it_is_given(view: str) -> None:
    image = mg.tensor(np.random.default_rng(0).normal(size=(2, 1, 6, 6)).astype(np.float32), name="image")
    first, second = mg.nn.Conv2d(1, 2, 3, rng=0), mg.nn.Conv2d(2, 1, 3, rng=1)
    diagram = mg.draw(second(np.tanh(first(image))).sum(), view)
    inputs = [b.lines for b in diagram.picture.boxes if b.kind == "input"]
    assert inputs == [("image", "(2, 1, 6, 6)")]
    assert "windows(image)" in diagram.text()
    if view == "ops":
        clusters = {c.title: {b.lines[0] for b in c.members} for c in diagram.picture.clusters}
        assert {"windows", "matmul", "+"} <= clusters["Conv2d 1"] and {"windows", "matmul", "+"} <= clusters["Conv2d 2"]


def test_arrows_from_saved_values_go_around_boxes() -> None:
    x = mg.tensor(np.ones((2, 3)), name="x")
    y = np.tanh(x @ mg.tensor(np.ones((3, 3)), requires_grad=True, name="V"))
    W = mg.tensor(np.ones((3, 4)), requires_grad=True, name="W")
    picture = mg.draw((y @ W).sum(), "backward").picture
    saved = [e for e in picture.edges if e.style == "saved"]
    assert saved
    for edge in saved:
        for x0, y0 in polyline(edge.path)[1:-1]:
            for box in picture.boxes:
                if box is not edge.source and box is not edge.target:
                    assert not (box.left < x0 < box.right and box.top < y0 < box.bottom), (edge.tooltip, box.lines)


# -- where a state that was cut off comes from


def test_a_detached_start_has_an_arrow_from_what_it_was() -> None:
    import rnn

    x = mg.tensor(np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32), name="x")
    lstm = rnn.LSTM(4, 5, rng=0, compiled=False)
    first, state = lstm(x)
    second, _ = lstm(x, rnn.detach(state))
    picture = mg.draw(first.sum() + second.sum(), gradients=True).picture
    cuts = [b for b in picture.boxes if b.kind == "detach"]
    assert [b.lines[1] for b in cuts] == ["c₀ value only", "h₀ value only"]
    for box, name in zip(cuts, ("c₃", "h₃"), strict=True):
        (arrow,) = [e for e in picture.edges if e.target is box]
        assert arrow.style == "dashed" and arrow.source.lines[0].startswith(name) and arrow.source.y > box.y


def test_arrows_to_and_from_a_cut_in_the_middle_of_an_unrolled_picture_are_dashed() -> None:
    W = mg.tensor(np.eye(2), requires_grad=True, name="W")
    h, outputs = mg.scan(lambda h, x: (np.tanh(h @ W + x),) * 2, mg.tensor(np.zeros((1, 2)), name="h"),
                         mg.tensor(np.ones((3, 1, 2)), name="x"))
    mean = outputs.mean(axis=0)
    picture = mg.draw((h - mean.detach() + mean).sum()).picture
    (box,) = [b for b in picture.boxes if b.kind == "detach"]
    (arrow,) = [e for e in picture.edges if e.target is box]
    assert arrow.style == "dashed" and arrow.source.lines[0] == "mean"


# -- light and dark in one file


def test_every_colour_of_an_auto_picture_has_its_dark_rule() -> None:
    import re

    diagram = mg.draw(loop(50), gradients=True, theme="auto")
    dark = mg.draw(loop(50), gradients=True, theme="dark")
    style = next(e.text or "" for e in ElementTree.fromstring(diagram.svg).iter(f"{SVG}style"))
    assert all(re.fullmatch(r"(\.[A-Za-z][\w-]*( \.[A-Za-z][\w-]*|\.[A-Za-z][\w-]*| text)*,?)+", part)
               for part in re.findall(r"(?<=[{}])([^{}@]+)(?=\{)", style))
    rules = [(selector.split()[-1].split("."), dict(p.split(":") for p in body.split(";")))
             for part, body in re.findall(r"([^{}@]+)\{([^{}]*)\}", style.partition("{")[2])
             for selector in part.split(",")]
    for one, other in zip(*(ElementTree.fromstring(d.svg).iter() for d in (
        mg.draw(loop(50), gradients=True, theme="light"), dark
    )), strict=True):
        classes = set((one.get("class") or "").split())
        if one.get("fill") is None and one.get("stroke") is None:
            continue
        for attribute in ("fill", "stroke"):
            if one.get(attribute) == other.get(attribute):
                continue
            tag = one.tag.removeprefix(SVG)
            fitting = [(len(names), body[attribute]) for names, body in rules if attribute in body
                       and names[0] in ("", tag) and set(filter(None, names[1:])) <= classes]
            best = max(n for n, _ in fitting)
            assert [value for n, value in fitting if n == best][-1] == other.get(attribute), (one.attrib, attribute)


# -- one module in two loops, and arrows back


def test_a_cell_that_goes_through_two_sequences_side_by_side_is_two_loops() -> None:
    import rnn

    rng = np.random.default_rng(0)
    cell = rnn.GRUCell(4, 5, rng=0)
    states = [cell.initial_state(2), cell.initial_state(2)]
    for _ in range(3):
        for k in range(2):
            _, states[k] = cell(mg.tensor(rng.normal(size=(2, 4)).astype(np.float32), name="x"), states[k])
    diagram = mg.draw((states[0].h - states[1].h).sum(), gradients=True)
    assert diagram.view == "unrolled" and diagram.text().count("for t = 1 … 3:") == 2
    assert len([b for b in diagram.picture.boxes if b.kind == "parameter"]) == 4


def test_a_cut_does_not_make_two_loops_of_one() -> None:
    import rnn

    rng = np.random.default_rng(0)
    cell, losses = rnn.RNNCell(4, 5, rng=0), []
    state = cell.initial_state(2)
    for t in range(4):
        h, state = cell(mg.tensor(rng.normal(size=(2, 4)).astype(np.float32), name="x"), state)
        losses.append((h * h).sum())
        if t == 1:
            state = rnn.detach(state)
    diagram = mg.draw(losses[0] + losses[1] + losses[2] + losses[3])
    assert diagram.view == "unrolled" and "for t = 1 … 4:" in diagram.text()
    assert [b.lines for b in diagram.picture.boxes if b.kind == "detach"] == [("✂ detach", "h₂ value only")]


@pytest.mark.parametrize("view", ["rolled", "modules"])
def test_arrows_back_touch_no_box_between(view: str) -> None:
    import rnn

    lower, upper = rnn.LSTMCell(4, 5, rng=0), rnn.LSTMCell(5, 4, rng=1)
    below, above, h = lower.initial_state(2), upper.initial_state(2), mg.tensor(np.ones((2, 4), np.float32), name="go")
    for k in range(4):  # in no order that repeats
        h, below = lower(h, below)
        h, above = upper(h, above)
        if k == 1:
            _, below = lower(h, below)
    picture = mg.draw(h.sum(), view, gradients=True).picture
    back = [e for e in picture.edges if e.style == "dashed"]
    assert len(back) == (view == "rolled")
    for edge in back:
        assert edge.source is not edge.target
        for x, y in polyline(edge.path)[1:-1]:
            assert not any(b.left < x < b.right and b.top < y < b.bottom for b in picture.boxes)
    assert [b.lines for b in picture.boxes if b.kind == "input" and b.lines[0].startswith("go")] == [("go₁", "(2, 4)")]


def test_what_goes_into_a_layer_keeps_its_name() -> None:
    import rnn

    layer = rnn.GRU(4, 5, rng=0, compiled=False)
    for data, name in ((mg.tensor(np.ones((2, 3, 4), np.float32), name="frames"), "frames"),
                       (mg.tensor(np.ones((2, 3, 4), np.float32)), "input")):
        boxes = mg.draw(layer(data)[0].sum()).picture.boxes
        assert next(b.lines for b in boxes if b.kind == "input") == (name, "(3, 2, 4)")
        assert data.name == (None if name == "input" else name)

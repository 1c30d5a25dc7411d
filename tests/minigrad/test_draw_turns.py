"""Drawing what plain Python does: cells that feed each other, shared weights, cuts from outside, masks on data."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest
from draw_examples import perceptron, recurrent

import minigrad as mg
import rnn
from minigrad import nn
from minigrad.draw import Diagram
from minigrad.draw.model import polyline


def data(*shape: int, name: str | None = None, seed: int = 0) -> mg.Tensor:
    return mg.tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32), name=name)


def of_kind(diagram: Diagram, kind: str) -> list[tuple[str, ...]]:
    return [box.lines for box in diagram.picture.boxes if box.kind == kind]


# -- turns of plain loops


def mutual(turns: int = 4) -> mg.Tensor:
    """Two cells that feed each other."""
    lower, upper = rnn.LSTMCell(4, 5, rng=0), rnn.LSTMCell(5, 4, rng=1)
    below, above, h = lower.initial_state(2), upper.initial_state(2), data(2, 4, name="go")
    for _ in range(turns):
        h, below = lower(h, below)
        h, above = upper(h, above)
    return h.sum()


def fed_back(turns: int = 4) -> mg.Tensor:
    """The output of a head is the next input, a loss at each turn."""
    cell, head = rnn.GRUCell(3, 5, rng=0), nn.Linear(5, 3, rng=1)
    state, y, losses = cell.initial_state(2), data(2, 3, name="go"), []
    for t in range(turns):
        h, state = cell(y, state)
        y = mg.softmax(head(h))
        mg.name(y=y)
        losses.append(((y - data(2, 3, seed=t)) ** 2).mean())
    return sum(losses[1:], losses[0])


def between(turns: int = 4) -> mg.Tensor:
    """The state is changed between the calls."""
    cell = rnn.LSTMCell(4, 5, rng=0)
    state = cell.initial_state(2)
    for t in range(turns):
        _, state = cell(data(2, 4, name="x", seed=t), state)
        state = rnn.LSTMState(state.h * 0.9, np.clip(state.c, -1, 1))
    return (state.h * state.h).sum()


def numbered(turns: int = 4) -> mg.Tensor:
    """Numbered steps, and something after each that the next one needs."""
    cell, head = rnn.RNNCell(3, 5, rng=0), nn.Linear(5, 3, rng=1)
    state, y = cell.initial_state(2), data(2, 3, name="go")
    for t in range(1, turns + 1):
        with mg.scope(f"t = {t}", step=t):
            h, state = cell(y, state)
        y = np.tanh(head(h))
    return (y * y).sum()


def residual(turns: int = 4) -> mg.Tensor:
    """One layer again and again, added to what it was given."""
    layer, y = nn.Linear(4, 4, rng=0), data(2, 4, name="x")
    for _ in range(turns):
        y = y + np.tanh(layer(y))
    return y.sum()


def twice(turns: int = 4) -> mg.Tensor:
    """One cell is called twice in each turn."""
    lower, upper = rnn.GRUCell(4, 4, rng=0), rnn.RNNCell(4, 4, rng=1)
    below, above, h = lower.initial_state(2), upper.initial_state(2), data(2, 4, name="go")
    for _ in range(turns):
        for _ in range(2):
            h, below = lower(h, below)
        h, above = upper(h, above)
    return h.sum()


TURNS: dict[str, tuple[Callable[[int], mg.Tensor], list[str]]] = {
    "mutual": (mutual, ["c (2, 5)", "h (2, 5)", "c (2, 4)", "h (2, 4)"]),
    "fed back": (fed_back, ["h (2, 5)", "y (2, 3)"]),
    "between": (between, ["h (2, 5)", "c (2, 5)"]),
    "numbered": (numbered, ["h (2, 5)", "state (2, 3)"]),
    "residual": (residual, ["state (2, 4)"]),
    "twice": (twice, ["h (2, 4)", "h (2, 4)"]),
}


@pytest.mark.parametrize("turns", [4, 60])
@pytest.mark.parametrize("name", TURNS)
def test_loops_in_plain_python_are_unrolled(name: str, turns: int) -> None:
    make, states = TURNS[name]
    diagram = mg.draw(make(turns), gradients=True)
    assert diagram.view == "unrolled" and not diagram.notes
    (head,) = (line for line in diagram.text().splitlines() if line.startswith("for t = "))
    assert head.startswith(f"for t = 1 … {turns}:")
    assert sorted(head.partition("carried: ")[2].replace("), ", ")|").split("|")) == sorted(states)
    picture = diagram.picture
    assert sum("t = " in c.full_title for c in picture.clusters) == 4
    assert any(box.kind == "elided" for box in picture.boxes) == (turns > 4)
    for edge in picture.edges:  # no arrow touches a box that is not its own
        for x, y in polyline(edge.path)[1:-1] if edge.style != "rail" else ():
            assert not any(
                b.left + 2 < x < b.right - 2 and b.top + 2 < y < b.bottom - 2
                for b in picture.boxes if b not in (edge.source, edge.target)
            )  # fmt: skip
    assert mg.draw(make(turns), "rolled").view == "rolled"
    ElementTree.fromstring(diagram.svg)


def test_all_turns_do_the_same() -> None:
    """Also the last one, whose value no call takes any more."""
    for make in (fed_back, residual, numbered):
        lines = mg.draw(make(4)).text().splitlines()
        begin = next(i for i, line in enumerate(lines) if line.startswith("for t = "))
        after = [line for line in lines[begin + 1 :] if not line.startswith(" ")]
        assert not any("tanh(" in line or "softmax(" in line for line in after)


def test_what_a_loop_starts_from_keeps_its_name() -> None:
    boxes = mg.draw(mutual()).picture.boxes
    assert {b.lines[0] for b in boxes if b.kind == "constant"} == {
        "go (2, 4)", "h₀ (2, 5)", "c₀ (2, 5)", "h₀ (2, 4)", "c₀ (2, 4)"
    }  # fmt: skip


def test_modules_of_a_turn_are_named_when_it_is_rolled_up() -> None:
    (box,) = (b for b in mg.draw(mutual(), "rolled").picture.boxes if "ops per step" in " ".join(b.lines))
    assert box.lines[0] == "LSTMCell 1, LSTMCell 2"
    assert {c.title for c in mg.draw(mutual()).picture.clusters if c.aside} == {"LSTMCell 1", "LSTMCell 2"}


def test_one_activation_after_each_of_several_layers_is_no_loop() -> None:
    class Tanh(nn.Module):
        def forward(self, x: mg.Tensor) -> mg.Tensor:
            return np.tanh(x)

    y, activation = data(2, 4, name="x"), Tanh()
    for k in range(4):
        y = activation(nn.Linear(4, 4, rng=k)(y))
    diagram = mg.draw(y.sum())
    assert diagram.view == "ops" and "for t" not in diagram.text()


def test_calls_in_no_order_are_not_unrolled() -> None:
    cells = [rnn.RNNCell(4, 4, rng=k) for k in range(2)]
    states, h = [cell.initial_state(2) for cell in cells], data(2, 4, name="go")
    for k in (0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0):
        h, states[k] = cells[k](h, states[k])
    diagram = mg.draw(h.sum())
    assert diagram.view == "rolled" and "need each other" in diagram.notes[0]


def test_a_value_of_another_loop_is_named_for_all_its_steps() -> None:
    lower, upper = rnn.RNNCell(4, 5, rng=0), rnn.RNNCell(5, 5, rng=1)
    below, above = lower.initial_state(2), upper.initial_state(2)
    for t in range(3):
        h, below = lower(data(2, 4, name="x", seed=t), below)
        h, above = upper(h, above)
    assert "matmul(hₜ of RNNCell 1, rnncell 2.weight_ih)" in mg.draw(h.sum()).text()


# -- cells that share a parameter


@pytest.mark.parametrize("turns", [3, 60])
def test_cells_tied_by_one_weight_are_two_cells(turns: int) -> None:
    lower, upper = rnn.LSTMCell(4, 4, rng=0), rnn.LSTMCell(4, 4, rng=1)
    upper.weight_hh = lower.weight_hh
    below, above = lower.initial_state(2), upper.initial_state(2)
    for t in range(turns):
        h, below = lower(data(2, 4, name="x", seed=t), below)
        h, above = upper(h, above)
    diagram = mg.draw((h * h).sum(), gradients=True)
    assert diagram.view == "unrolled" and not diagram.notes and diagram.text().count("for t = ") == 2
    names = [lines[0].rpartition(" (")[0] for lines in of_kind(diagram, "parameter")]
    assert sorted(names) == ["lstmcell 1.bias", "lstmcell 1.weight_ih", "lstmcell 2.bias", "lstmcell 2.weight_ih",
                             "weight_hh"]  # fmt: skip


def test_a_call_that_leaves_out_a_parameter_is_of_the_same_module() -> None:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            self.W = nn.Parameter(np.eye(2), name="W")
            self.b = nn.Parameter(np.ones(2), name="b")

        def forward(self, x: mg.Tensor, plain: bool) -> mg.Tensor:
            return x @ self.W if plain else x @ self.W + self.b

    layer, x = Sometimes(), mg.tensor(np.ones((1, 2)), name="x")
    boxes = mg.draw((layer(x, True) * layer(x, False)).sum(), "modules").picture.boxes
    assert {b.lines[0] for b in boxes if b.kind == "module"} == {"Sometimes"}


# -- cuts


@pytest.mark.parametrize("view", ["unrolled", "rolled", "ops", "modules"])
def test_a_state_from_the_window_before_is_a_cut(view: str) -> None:
    cell = rnn.LSTMCell(4, 5, rng=0)
    state = cell.initial_state(2)
    for window in range(2):
        state, losses = rnn.detach(state), []
        for t in range(3):
            h, state = cell(data(2, 4, name="x", seed=t), state)
            losses.append((h * h).sum())
        loss = losses[0] + losses[1] + losses[2]
        if window == 0:
            assert not of_kind(mg.draw(loss, view), "detach")  # what the first window starts from is a constant
            loss.backward()
    diagram = mg.draw(loss, view, gradients=True)
    cuts = [box for box in diagram.picture.boxes if box.kind == "detach"]
    assert len(cuts) == (1 if view == "rolled" else 2)
    assert all(box.lines[0] == "✂ detach" and "value only" in box.lines[1] for box in cuts)
    assert diagram.text().count("detached ") == 2
    if view == "unrolled":
        assert sorted(box.lines[1] for box in cuts) == ["c₀ value only", "h₀ value only"]


# -- constants that show what they are made of


def test_a_mask_on_data_is_drawn() -> None:
    for product in (mg.dropout(data(4, 6, name="x"), 0.5, np.random.default_rng(0)),
                    nn.Dropout(0.5, rng=0)(data(4, 6, name="x"))):
        out = nn.Linear(6, 3, rng=0)(product).sum()
        assert len(mg.tape(out)) == 2  # nothing of it is on the tape
        diagram = mg.draw(out)
        (mask,) = of_kind(diagram, "mask")
        assert mask == ("dropout mask", "(4, 6) p=0.5") and of_kind(diagram, "input") == [("x", "(4, 6)")]
        assert "%1 = x × mask" in diagram.text()


@pytest.mark.parametrize("compiled", [False, "numpy"])
@pytest.mark.parametrize("scheme", [rnn.dropout.NonRecurrent(0.5), rnn.dropout.Variational(0.5)], ids=repr)
def test_the_mask_of_the_first_layers_input_is_drawn(scheme: rnn.dropout.Scheme, compiled: bool | str) -> None:
    outputs, _ = rnn.LSTM(4, 5, num_layers=2, dropout=scheme, rng=0, compiled=compiled)(data(2, 3, 4, name="x"))
    diagram = mg.draw(outputs.sum())
    masks = [lines[0] for lines in of_kind(diagram, "mask")]
    assert sum(" x mask" in name for name in masks) == 2 and not diagram.notes
    assert ("x", "(3, 2, 4)") in of_kind(diagram, "input")


def test_an_array_given_to_a_convolution_is_the_image() -> None:
    image = np.random.default_rng(0).normal(size=(2, 1, 6, 6)).astype(np.float32)
    weight = mg.tensor(np.ones((2, 1, 3, 3), np.float32), requires_grad=True, name="w")
    made = mg.conv2d(image, weight)
    assert np.array_equal(made.data, mg.conv2d(mg.tensor(image), weight).data)
    assert of_kind(mg.draw(made.sum()), "input") == [("input", "(2, 1, 6, 6)")]
    assert isinstance(mg.conv2d(image, weight.data), np.ndarray)


def test_an_arrow_passes_beside_a_mask_between_two_layers() -> None:
    layer = rnn.LSTM(4, 5, num_layers=2, dropout=rnn.dropout.NonRecurrent(0.5), rng=0, compiled=False)
    picture = mg.draw(layer(data(2, 3, 4, name="x"))[0].sum()).picture
    right = max(box.right for box in picture.boxes)
    assert all(x <= right for edge in picture.edges for x, _ in edge.path)


# -- what is said about values


def test_values_that_the_tape_does_not_keep_are_computed_for_statistics() -> None:
    x, layer = data(2, 4, name="x"), nn.Linear(4, 3, rng=0)
    z = layer(x)
    y = np.tanh(z) + 1.0
    loss = y.sum()
    for value, name in ((z, "linear"), (y, "+ 1")):
        plain, full = (next(b for b in mg.draw(loss, statistics=on).picture.boxes if b.lines[0] == name)
                       for on in (False, True))  # fmt: skip
        assert "needed by no derivative" in plain.tooltip and "values " in full.tooltip
        mean = f"mean {value.data.astype(float).mean():.2g} ± {value.data.astype(float).std():.2g}".replace("-", "−")
        assert mean in full.lines and len(plain.lines) == 1
    loss.backward()
    assert "were freed by backward" in next(b for b in mg.draw(loss).picture.boxes if b.lines[0] == "tanh").tooltip


def test_what_is_unknown_inside_a_compiled_loop_says_so() -> None:
    outputs, _ = rnn.RNN(4, 5, rng=0, compiled="numpy")(data(2, 3, 4, name="x"))
    loss = (outputs * 2.0 + 1.0).sum()
    tips = [b.tooltip for b in mg.draw(loss).picture.boxes if b.kind == "named"]
    assert tips and all("inside a compiled loop" in tip for tip in tips)
    every = mg.draw(loss, statistics=True).picture.boxes
    assert all("values " in b.tooltip for b in every if b.kind in ("op", "named", "output"))


@pytest.mark.parametrize("make", [perceptron, lambda: recurrent("GRU", 3, 2, True)], ids=["perceptron", "gru"])
def test_statistics_say_what_the_values_are(make: Callable[[], mg.Tensor]) -> None:
    """Each value of the tape, computed again, is what it was."""
    from minigrad.draw.statistics import in_words, values_again
    from minigrad.recording import watching

    seen: dict[int, list[tuple[str, str]]] = {}

    def watch(phase: str, primitive: object, node: mg.tape.__class__, arguments: object, y: object) -> None:
        if phase == "forward" and node is not None:
            seen[node.number] = [in_words(v) for v in (y if isinstance(y, list) else [y])]

    with watching(watch):
        loss = make()
    nodes = mg.tape(loss).nodes
    found = values_again(nodes, {node.number for node in nodes})
    assert found and all(seen[number][slot] == words for (number, slot), words in found.items())


# -- formulas


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_the_gradient_of_a_compiled_loop_has_a_short_formula(kind: str) -> None:
    outputs, _ = getattr(rnn, kind)(4, 5, rng=0, compiled="numpy")(data(2, 3, 4, name="x"))
    diagram = mg.draw((outputs * outputs).mean(), "backward")
    formulas = {lines[0].partition(" = ")[::2] for lines in of_kind(diagram, "gradient")}
    assert ("∂L/∂weight_hh", "loop backwards (ḡ)") in formulas and ("∂L/∂weight_ih", "xᵀ ḡ") in formulas
    assert not any("…" in formula for _, formula in formulas)


def test_a_long_formula_stands_whole_in_text_and_tooltip() -> None:
    h = U = mg.tensor(np.random.default_rng(0).normal(size=(3, 3)), requires_grad=True, name="U")
    for t in range(1, 4):
        with mg.scope(f"t = {t}", step=t):
            h = np.tanh(h @ U)
            mg.name(h=h)
    diagram = mg.draw(h.sum(), "backward")
    (box,) = (b for b in diagram.picture.boxes if b.kind == "gradient")
    assert box.lines[0].endswith("…")
    full = box.tooltip.splitlines()[0]
    assert "…" not in full and full.startswith(box.lines[0][:-1]) and full in diagram.text()
    assert {"h₁ = tanh", "h₂ = tanh", "h₃ = tanh"} <= {b.lines[0] for b in diagram.picture.boxes}


def test_arrows_from_saved_values_touch_no_box() -> None:
    picture = mg.draw(recurrent("LSTM", 2), "backward").picture
    for edge in picture.edges:
        for x, y in polyline(edge.path)[1:-1] if edge.style == "saved" else ():
            assert not any(b.left < x < b.right and b.top < y < b.bottom
                           for b in picture.boxes if b not in (edge.source, edge.target))  # fmt: skip


# -- loops without any module or scope


def weight(*shape: int, name: str, seed: int = 0) -> mg.Tensor:
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 0.4
    return mg.tensor(values, requires_grad=True, name=name)


def bare(turns: int = 4) -> mg.Tensor:
    """An LSTM as one writes it first, its loss added up on the way."""
    W, U, b = weight(3, 16, name="W"), weight(4, 16, name="U"), weight(16, name="b")
    h = c = mg.tensor(np.zeros((2, 4), np.float32))
    loss: mg.Tensor | None = None
    for t in range(turns):
        i, f, g, o = np.split(data(2, 3, name="x", seed=t) @ W + h @ U + b, 4, axis=-1)
        c = mg.sigmoid(f) * c + mg.sigmoid(i) * np.tanh(g)
        h = mg.sigmoid(o) * np.tanh(c)
        mg.name(c=c, h=h)
        term = (h * h).mean()
        loss = term if loss is None else loss + term
    assert loss is not None
    return loss


def bare_attention() -> mg.Tensor:
    """Two loops, one after the other; weights are transposed anew in each turn."""
    We, Ue, Wd, Ud = (weight(*shape, name=name) for shape, name in (
        ((3, 4), "We"), ((4, 4), "Ue"), ((4, 4), "Wd"), ((4, 4), "Ud")
    ))  # fmt: skip
    h, memory = mg.tensor(np.zeros((2, 4), np.float32)), []
    for t in range(4):
        h = np.tanh(data(2, 3, name="x", seed=t) @ We + h @ Ue.T)
        mg.name(h=h)
        memory.append(h)
    M, y, outputs = np.stack(memory, axis=1), data(2, 4, name="go"), []
    for _ in range(3):
        h = np.tanh(y @ Wd + h @ Ud.T)
        a = mg.softmax((M * h[:, None, :]).sum(axis=-1), axis=-1)
        y = (a[:, :, None] * M).sum(axis=1)
        mg.name(h=h, a=a, y=y)
        outputs.append(y)
    return (np.stack(outputs) ** 2).mean()


@pytest.mark.parametrize("turns", [4, 60])
def test_a_bare_loop_is_unrolled(turns: int) -> None:
    diagram = mg.draw(bare(turns), gradients=True)
    assert diagram.view == "unrolled" and not diagram.notes
    names = {box.lines[0].split()[0] for box in diagram.picture.boxes}
    assert {"c₀", "h₀", "c₁", "h₁", "h₂", "x₁", f"x{'₄' if turns == 4 else '₆₀'}"} <= names
    assert f"for t = 1 … {turns}:  # carried: h (2, 4), c (2, 4)" in diagram.text().replace("c (2, 4), h (2, 4)",
                                                                                            "h (2, 4), c (2, 4)")
    assert f"of {turns} terms" in " ".join(box.lines[0] for box in diagram.picture.boxes)


def test_two_bare_loops_are_two_rows() -> None:
    diagram = mg.draw(bare_attention(), gradients=True)
    assert diagram.view == "unrolled" and not diagram.notes
    loops = [line for line in diagram.text().splitlines() if line.startswith("for t = ")]
    assert [line.split(":")[0] for line in loops] == ["for t = 1 … 4", "for t = 1 … 3"]
    assert "h (2, 4)" in loops[1] and "y (2, 4)" in loops[1]


def test_a_loop_inside_a_module_is_unrolled() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            self.W, self.U = nn.Parameter(np.eye(3, dtype=np.float32)), nn.Parameter(np.eye(3, dtype=np.float32))

        def forward(self, x: mg.Tensor) -> mg.Tensor:
            h = mg.tensor(np.zeros((len(x.data), 3), np.float32))
            for t in range(x.shape[1]):
                h = np.tanh(x[:, t] @ self.W + h @ self.U)
                mg.name(h=h)
            return h

    diagram = mg.draw(nn.Linear(3, 2, rng=0)(Network()(data(2, 5, 3))).sum())
    assert diagram.view == "unrolled" and {"x₁", "x₅"} <= {b.lines[0] for b in diagram.picture.boxes}
    assert {c.full_title for c in diagram.picture.clusters} >= {"Network · t = 1", "Network · t = 5"}


@pytest.mark.parametrize("what", ["two uses", "a vector", "side by side"])
def test_what_is_no_loop_stays_a_graph(what: str) -> None:
    W, v = weight(3, 3, name="W"), weight(3, name="v")
    y = data(2, 3, name="x")
    if what == "two uses":
        y = np.tanh(np.tanh(y @ W) @ W)
    elif what == "a vector":
        for _ in range(4):
            y = y * v + 1.0
    else:
        y = sum((np.tanh(data(2, 3, seed=t) @ W) for t in range(4)), y)
    assert mg.draw(y.sum()).view == "ops"


def test_loops_in_loops_have_two_numbers() -> None:
    U, V = weight(4, 4, name="U"), weight(4, 4, name="V", seed=1)

    def word(state: mg.Tensor, chars: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        def char(h: mg.Tensor, c: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
            h = np.tanh(c + h @ U)
            mg.name(h=h)
            return h, h

        with mg.scope("chars", label="CharRNN"):
            last, _ = mg.scan(char, mg.tensor(np.zeros((2, 4), np.float32)), chars)
        s = np.tanh(last + state @ V)
        mg.name(s=s)
        return s, s

    _, ys = mg.scan(word, mg.tensor(np.zeros((2, 4), np.float32)), data(3, 2, 2, 4), compiled=False)
    names = {box.lines[0].split()[0] for box in mg.draw(ys.sum()).picture.boxes}
    assert {"s₁", "s₂", "s₃", "h₁,₁", "h₁,₂", "h₃,₂", "x₁,₂", "zeros"} <= names


# -- what else was wrong in pictures of strangers


def test_a_view_of_all_of_a_memory_is_no_input_of_a_step() -> None:
    rng = np.random.default_rng(0)
    encoder = rnn.Encoder(9, 4, rnn.GRU(4, 6, rng=0, compiled=False), rng=0)
    decoder = rnn.Decoder(7, 4, rnn.GRU(4, 6, rng=0, compiled=False), source_size=6, attention="dot", rng=0)
    logits = rnn.Seq2Seq(encoder, decoder, rng=0)(rng.integers(0, 9, (2, 4)), rng.integers(0, 7, (2, 3)),
                                                  teacher_forcing=0.5)  # fmt: skip
    assert mg.draw(logits.sum(), "ops").picture.width < 2000  # groups far apart do not push each other away
    picture = mg.draw(logits.sum()).picture
    assert {b.lines[0] for b in picture.boxes if b.kind == "input"} == {"ids", *(f"ids{n}" for n in "₁₂₃"),
                                                                        *(f"x{n}" for n in "₁₂₃₄")}  # fmt: skip
    titles = [(c.title_start, c.top + c.drop, c) for c in picture.clusters if c.aside]
    for x, y, cluster in titles:  # neither boxes nor other titles stand on a title
        assert not any(b.left < x + 20 and b.right > x and b.top < y + 12 and b.bottom > y + 3 for b in picture.boxes)
        assert not any(abs(x - x2) < 20 and abs(y - y2) < 12 for x2, y2, other in titles if other is not cluster)


def test_rails_do_not_run_through_titles_and_titles_stay_in_their_frames() -> None:
    from minigrad.draw.labels import text_width
    from minigrad.draw.model import SIZE

    net = nn.Sequential(nn.Linear(6, 5, rng=0), nn.Linear(5, 3, rng=1))
    picture = mg.draw(((net(data(4, 6)) - net(data(4, 6, seed=1))) ** 2).sum()).picture
    for cluster in picture.clusters:
        low, high = cluster.title_start, cluster.title_start + 0.93 * text_width(cluster.title, SIZE)
        assert cluster.left <= low and high <= cluster.right
        for edge in picture.edges:
            for x, y in polyline(edge.path) if edge.style == "rail" else ():
                assert not (low < x < high and cluster.top + 3 < y < cluster.top + 14)


def test_outputs_without_a_gradient_are_drawn_beside_others() -> None:
    x = mg.tensor(np.ones(3), requires_grad=True, name="x")
    y = np.tanh(x)
    diagram = mg.draw([y, mg.tensor(np.ones(2), name="only")], gradients=True)
    assert {b.lines[0] for b in diagram.picture.boxes if b.kind == "output"} == {"tanh", "only"}
    assert "one output: loss of 2" in mg.draw([(y * y).sum(), y], "backward").notes[0].replace("the first", "loss")


def test_large_gradient_graphs_are_shown_by_module_and_their_arrows_are_fewer() -> None:
    cell, x = rnn.LSTMCell(2, 3, rng=0), mg.tensor(np.ones((1, 2), np.float32), requires_grad=True, name="x")
    h, _ = cell(x, cell.initial_state(1))
    (slope,) = mg.grad(h.sum(), x, create_graph=True)
    (curvature,) = mg.grad((slope * slope).sum(), x, create_graph=True)
    mg.name(slope=slope, curvature=curvature)
    diagram = mg.draw([slope, curvature])
    assert diagram.view == "modules" and "view='ops'" in diagram.notes[0]
    assert {"slope · gradient", "curvature · gradient"} <= {b.lines[0] for b in diagram.picture.boxes}
    every = mg.draw([slope, curvature], "ops")
    saved = sum(edge.style == "saved" for edge in every.picture.edges)
    assert "× f" in {b.lines[0] for b in every.picture.boxes} and saved < 60 and "stands for" in every.notes[0]


def test_a_loop_that_goes_back_in_time_says_so() -> None:
    diagram = mg.draw(recurrent("RNN", 3, 1, True), "rolled")
    labels = [edge.label for edge in diagram.picture.edges if edge.label]
    assert any("t + 1" in label for label in labels) and any("t − 1" in label for label in labels)
    assert "matmul(hₜ₊₁" in diagram.text() and "matmul(hₜ₋₁" in diagram.text()

"""Drawing: what is written for some networks, to the byte: every view, layers, cuts, masks, gradients, programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from draw_examples import EXAMPLES, attention, loop, perceptron, recurrent

import minigrad as mg
import rnn

GOLDEN = Path(__file__).parent / "golden"


def dropout(scheme: rnn.dropout.Scheme) -> mg.Tensor:
    x = mg.tensor(np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4), name="x")
    outputs, _ = rnn.LSTM(4, 3, dropout=scheme, rng=0, compiled=False)(x)
    return outputs.sum()


def gradients_on_the_tape() -> list[mg.Tensor]:
    x = mg.tensor(0.5, requires_grad=True, name="x")
    y = np.tanh(x)
    (slope,) = mg.grad(y, x, create_graph=True)
    assert slope is not None
    (curvature,) = mg.grad(slope, x, create_graph=True)
    assert curvature is not None
    mg.name(y=y, slope=slope, curvature=curvature)
    return [y, slope, curvature]


def program() -> Any:
    U = mg.tensor(np.eye(2) / 2, requires_grad=True, name="U")

    def step(h: mg.Tensor, x: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        h = 1.0 * np.tanh(x + h @ U)
        mg.name(h=h)
        return h, h

    return mg.explain(step, mg.tensor(np.zeros((1, 2))), mg.tensor(np.ones((3, 1, 2)), name="x"), backend="numpy")


DRAWINGS: dict[str, tuple[Callable[[], Any], str | None]] = {
    "perceptron_ops": (EXAMPLES["perceptron"], "ops"),
    "rnn_unrolled": (EXAMPLES["rnn"], "unrolled"),
    "lstm_rolled": (EXAMPLES["lstm"], "rolled"),
    "lstm_modules": (EXAMPLES["lstm"], "modules"),
    "perceptron_backward": (perceptron, "backward"),
    "stacked_bidirectional": (lambda: recurrent("GRU", 2, 2, True), None),
    "attention": (lambda: attention(2, 2), None),
    "truncated": (lambda: loop(4, cut=(2,)), None),
    "elided": (lambda: loop(60), None),
    "gradient_graph": (gradients_on_the_tape, None),
    "program": (program, None),
    **{
        f"dropout_{name.lower()}": (lambda make=make: dropout(make()), None)
        for name, make in {
            "NonRecurrent": lambda: rnn.dropout.NonRecurrent(0.5),
            "RNNDrop": lambda: rnn.dropout.RNNDrop(0.5),
            "Variational": lambda: rnn.dropout.Variational(0.5),
            "WeightDrop": lambda: rnn.dropout.WeightDrop(0.5),
            "Recurrent": lambda: rnn.dropout.Recurrent(0.5),
            "Zoneout": lambda: rnn.dropout.Zoneout(cell=0.5, hidden=0.1),
        }.items()
    },
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_golden(name: str) -> None:
    """To renew: delete the files and run the test once."""
    make, view = DRAWINGS[name]
    diagram = mg.draw(make(), view, title=name.split("_")[0])
    found = {GOLDEN / f"{name}.dot": diagram.dot, GOLDEN / f"{name}.txt": diagram.text() + "\n"}
    missing = [path for path in found if not path.exists()]
    for path in missing:
        path.write_text(found[path], encoding="utf-8")
    if missing:
        names = ", ".join(path.name for path in missing)
        pytest.fail(f"{names}: missing, and now written. Look at them, then run again.")
    for path, text in found.items():
        assert text == path.read_text(encoding="utf-8"), path.name


def test_parameters_of_one_name_are_told_apart_by_their_modules() -> None:
    x = mg.tensor(np.ones((1, 2, 3), np.float32), name="x")
    encoder, head = rnn.RNN(3, 4, 2, rng=0, compiled=False), mg.nn.Linear(4, 3, rng=0)
    outputs, _ = encoder(x)
    text = mg.draw(head(outputs).sum()).text()
    for name in ("linear.bias", "rnn.layer 0.bias", "rnn.layer 1.bias", "layer 0.weight_hh", "weight "):
        assert f"parameter {name}" in text, name

"""Build the gallery: `python examples/gallery/build.py`.

Every picture is drawn by `mg.draw` from a network that just ran; the page shows them with a light and a dark
theme, and how long each took.
"""

from __future__ import annotations

import argparse
import html
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
import rnn
from minigrad import Tensor, nn

Made = tuple[Tensor, dict[str, Any]]


def score(outputs: Tensor) -> Tensor:
    """An output layer and a loss over all steps."""
    head = nn.Linear(outputs.shape[-1], 5, rng=0)
    targets = np.random.default_rng(1).integers(0, 5, outputs.shape[:-1])
    loss = mg.cross_entropy(head(outputs), targets)
    mg.name(loss=loss)
    return loss


def layer(kind: type[rnn.Recurrent], steps: int = 3, **options: Any) -> Tensor:
    """A recurrent layer on random inputs."""
    x = mg.tensor(np.random.default_rng(0).normal(size=(2, steps, 4)).astype(np.float32), name="x")
    outputs, _ = kind(4, 8, rng=0, compiled=False, **options)(x)
    return score(outputs)


def by_hand(steps: int, cut: tuple[int, ...] = (), last_only: bool = False, gain: float = 1.0) -> Tensor:
    """A loop over a cell, with a loss at each step or at the last."""
    rng = np.random.default_rng(0)
    cell, head = rnn.LSTMCell(4, 8, rng=0), nn.Linear(8, 5, rng=0)
    cell.weight_hh.assign(cell.weight_hh.data * gain)
    state = cell.initial_state(2)
    losses = []
    for t in range(1, steps + 1):
        x = mg.tensor(rng.normal(size=(2, 4)).astype(np.float32), name="x")
        with mg.scope(f"t = {t}", step=t):
            h, state = cell(x, state)
        if t == steps or not last_only:
            losses.append(mg.cross_entropy(head(h), rng.integers(0, 5, 2)))
            mg.name(L=losses[-1])
        if t in cut:
            state = rnn.detach(state)
    loss = losses[0]
    for term in losses[1:]:
        loss = loss + term
    mg.name(loss=loss)
    return loss


def translation() -> Tensor:
    """An encoder and a decoder with attention."""
    rng = np.random.default_rng(0)
    encoder = rnn.Encoder(9, 4, rnn.GRU(4, 8, rng=0, compiled=False), rng=0)
    decoder = rnn.Decoder(7, 4, rnn.GRU(4, 8, rng=0, compiled=False), source_size=8, attention="general", rng=0)
    model = rnn.Seq2Seq(encoder, decoder, rng=0)
    logits = model(rng.integers(0, 9, (2, 4)), rng.integers(0, 7, (2, 3)))
    loss = mg.cross_entropy(logits, rng.integers(0, 7, (2, 3)))
    mg.name(loss=loss)
    return loss


def convolutional() -> Tensor:
    """Two convolutions, pooling, a linear layer."""
    image = mg.tensor(np.random.default_rng(0).normal(size=(2, 1, 12, 12)).astype(np.float32), name="image")
    y = mg.max_pool2d(mg.relu(nn.Conv2d(1, 4, 3, rng=0)(image)), 2)
    y = mg.relu(nn.Conv2d(4, 8, 3, rng=0)(y))
    return score(y.reshape(2, -1))


def one_step() -> Tensor:
    """One step of the simplest network, for its gradient's formulas."""
    rng = np.random.default_rng(0)
    x = mg.tensor(rng.normal(size=(2, 4)), name="x")
    W = mg.tensor(rng.normal(size=(4, 8)), requires_grad=True, name="W")
    b = mg.tensor(rng.normal(size=8), requires_grad=True, name="b")
    z = x @ W + b
    h = np.tanh(z)
    loss = (h * h).sum()
    mg.name(z=z, h=h, loss=loss)
    return loss


def second_derivative() -> Tensor:
    """The graph of a second derivative, as it is on the tape."""
    x = mg.tensor(0.5, requires_grad=True, name="x")
    y = np.tanh(x)
    mg.name(y=y)
    (first,) = mg.grad(y, x, create_graph=True)
    assert first is not None
    mg.name(first=first)
    (second,) = mg.grad(first, x, create_graph=True)
    assert second is not None
    mg.name(second=second)
    return second


SCHEMES: dict[str, Callable[[], rnn.dropout.Scheme]] = {
    "NonRecurrent": lambda: rnn.dropout.NonRecurrent(0.5),
    "RNNDrop": lambda: rnn.dropout.RNNDrop(0.5),
    "Variational": lambda: rnn.dropout.Variational(0.5),
    "WeightDrop": lambda: rnn.dropout.WeightDrop(0.5),
    "Recurrent": lambda: rnn.dropout.Recurrent(0.5),
    "Zoneout": lambda: rnn.dropout.Zoneout(cell=0.5, hidden=0.1),
}

GALLERY: dict[str, tuple[str, Callable[[], Made]]] = {
    "rnn": ("A simple recurrent network", lambda: (layer(rnn.RNN), {})),
    "lstm": ("An LSTM", lambda: (layer(rnn.LSTM), {})),
    "lstm_loop": ("An LSTM cell in a loop, a loss at each step", lambda: (by_hand(3), {})),
    "peephole": ("An LSTM with peepholes", lambda: (layer(rnn.LSTM, peephole=True), {})),
    "gru": ("A GRU", lambda: (layer(rnn.GRU), {})),
    "bidirectional": ("Two layers in both directions",
                      lambda: (layer(rnn.RNN, num_layers=2, bidirectional=True), {})),
    "attention": ("An encoder and a decoder with attention", lambda: (translation(), {})),
    **{f"dropout_{name.lower()}": (f"Dropout: {name}", lambda make=make: (layer(rnn.LSTM, dropout=make()), {}))
       for name, make in SCHEMES.items()},
    "truncated": ("Truncated backpropagation: the gradient is cut after step 2",
                  lambda: (by_hand(4, cut=(2,)), {})),
    "vanishing": ("A gradient that vanishes over 50 steps",
                  lambda: (by_hand(50, last_only=True, gain=0.3), {})),
    "rolled": ("The same 50 steps rolled up", lambda: (by_hand(50, last_only=True, gain=0.3), {"view": "rolled"})),
    "modules": ("Modules of a two-layer LSTM",
                lambda: (layer(rnn.LSTM, steps=20, num_layers=2), {"view": "modules"})),
    "cnn": ("A convolutional network", lambda: (convolutional(), {})),
    "backward": ("Gradients beside their values", lambda: (one_step(), {"view": "backward"})),
    "second": ("A second derivative", lambda: (second_derivative(), {})),
}

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>minigrad: gallery</title>
<style>body{{font:16px/1.5 sans-serif;margin:2em auto;max-width:1500px;padding:0 1em}}
figure{{margin:3em 0;overflow-x:auto}}figcaption{{font-weight:bold}}summary{{cursor:pointer}}
pre{{font-size:13px;overflow-x:auto}}</style>
<h1>Gallery</h1>
<p>Drawn by <code>mg.draw</code>. Colour and width of the carried states show the gradient.</p>
{figures}
<table><tr><th>picture</th><th>operations</th><th>boxes drawn</th><th>seconds</th></tr>
{rows}</table>
</html>
"""


def build(folder: Path, only: list[str]) -> None:
    """Draw everything into a folder, with an index page."""
    folder.mkdir(parents=True, exist_ok=True)
    figures, rows = [], []
    for name in only or GALLERY:
        title, make = GALLERY[name]
        loss, options = make()
        operations = len(mg.tape(loss))
        start = time.perf_counter()
        diagram = mg.draw(loss, gradients=options.get("view") != "backward", title=title, **options)
        diagram.save(folder / f"{name}.svg")
        seconds = time.perf_counter() - start
        mg.draw(loss, gradients=options.get("view") != "backward", title=title, theme="dark",
                **options).save(folder / f"{name}_dark.svg")
        text = html.escape(diagram.text())
        figures.append(f'<figure id="{name}"><figcaption>{html.escape(title)}</figcaption>'
                       f'<picture><source media="(prefers-color-scheme: dark)" srcset="{name}_dark.svg">'
                       f'<img src="{name}.svg" alt="{html.escape(diagram.picture.description)}"></picture>'
                       f"<details><summary>as text</summary><pre>{text}</pre></details></figure>")
        rows.append(f"<tr><td>{html.escape(title)}</td><td>{operations}</td>"
                    f"<td>{len(diagram.picture.boxes)}</td><td>{seconds:.2f}</td></tr>")
        boxes = len(diagram.picture.boxes)
        print(f"{name:24} {diagram.view:9} {operations:6} operations {boxes:4} boxes  {seconds:.2f} s")
    (folder / "index.html").write_text(PAGE.format(figures="\n".join(figures), rows="\n".join(rows)),
                                       encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the gallery.")
    parser.add_argument("only", nargs="*", choices=[*GALLERY, []], help="names of pictures; all when left out")
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/gallery"), help="folder (runs/gallery)")
    arguments = parser.parse_args()
    build(arguments.out, arguments.only)

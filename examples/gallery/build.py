"""Build the gallery: `python examples/gallery/build.py`.

Every picture is drawn by `mg.draw` from a network that just ran. Beside the pictures, which follow the reader's light
or dark setting, there are two pages: README.md, and index.html with the same graphs as text. The table of times is
what `python -m benchmarks.draw` printed into timing.md.
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

HERE = Path(__file__).parent
Made = tuple[Any, dict[str, Any]]


def score(outputs: Tensor) -> Tensor:
    """An output layer and a loss over all steps."""
    head = nn.Linear(outputs.shape[-1], 5, rng=0)
    targets = np.random.default_rng(1).integers(0, 5, outputs.shape[:-1])
    loss = mg.cross_entropy(head(outputs), targets)
    mg.name(loss=loss)
    return loss


def layer(kind: type[rnn.Recurrent], steps: int = 3, compiled: bool = False, **options: Any) -> Tensor:
    """A recurrent layer on random inputs."""
    x = mg.tensor(np.random.default_rng(0).normal(size=(2, steps, 4)).astype(np.float32), name="x")
    outputs, _ = kind(4, 8, rng=0, compiled="numpy" if compiled else False, **options)(x)
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


def bare() -> Tensor:
    """The LSTM as one writes it first: matrices, NumPy, and a loop."""
    rng = np.random.default_rng(0)
    W, U, b = (mg.tensor(rng.normal(size=shape) / 3, requires_grad=True, name=name)
               for name, shape in (("W", (4, 32)), ("U", (8, 32)), ("b", 32)))
    h = c = mg.tensor(np.zeros((2, 8)))
    loss = mg.tensor(0.0)
    for _ in range(3):
        x = mg.tensor(rng.normal(size=(2, 4)), name="x")
        i, f, g, o = np.split(x @ W + h @ U + b, 4, axis=-1)
        i, f, g, o = mg.sigmoid(i), mg.sigmoid(f), np.tanh(g), mg.sigmoid(o)
        c = f * c + i * g
        h = o * np.tanh(c)
        mg.name(i=i, f=f, g=g, o=o, c=c, h=h)
        loss = loss + (h * h).mean()
    mg.name(loss=loss)
    return loss


def mutual() -> Tensor:
    """Two cells that feed each other."""
    lower, upper = rnn.GRUCell(4, 6, rng=0), rnn.RNNCell(6, 4, rng=1)
    below, above = lower.initial_state(2), upper.initial_state(2)
    y = mg.tensor(np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32), name="go")
    for _ in range(3):
        h, below = lower(y, below)
        y, above = upper(h, above)
    loss = (y * y).sum()
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


def wasteful() -> Any:
    """A step written without a thought of its cost: the compiler sees what is done twice, and what not at all."""
    rng = np.random.default_rng(0)
    U = mg.tensor(rng.normal(size=(8, 16)), requires_grad=True, name="U")

    def step(h: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        z = mg.sigmoid((a + h @ U)[:, :8])
        n = np.tanh((a + h @ U)[:, 8:])
        new = 1.0 * (z * n + (1.0 - z) * h)
        mg.name(z=z, n=n, h=new)
        return new, new

    x = mg.tensor(rng.normal(size=(5, 2, 16)), name="a")
    return mg.explain(step, mg.tensor(np.zeros((2, 8)), name="h"), x, backend="numpy")


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


def second_derivative() -> list[Tensor]:
    """A value, its derivative, and the derivative of that, as they are on the tape."""
    x = mg.tensor(0.5, requires_grad=True, name="x")
    y = np.tanh(x)
    (first,) = mg.grad(y, x, create_graph=True)
    assert first is not None
    (second,) = mg.grad(first, x, create_graph=True)
    assert second is not None
    mg.name(y=y, first=first, second=second)
    return [y, first, second]


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
    "bare": ("An LSTM in plain Python: a loop, no module, no scope", lambda: (bare(), {})),
    "mutual": ("Two cells that feed each other", lambda: (mutual(), {})),
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
    "compiled": ("A compiled layer over 50 steps is drawn as the loop it stands for",
                 lambda: (layer(rnn.GRU, steps=50, compiled=True), {})),
    "program": ("The program of a compiled loop before and after rewriting", lambda: (wasteful(), {"gradients": None})),
    "statistics": ("Means and deviations on request",
                   lambda: (layer(rnn.RNN, steps=2), {"statistics": True})),
    "backward": ("Gradients beside their values", lambda: (one_step(), {"view": "backward", "gradients": None})),
    "second": ("A second derivative", lambda: (second_derivative(), {})),
}

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>minigrad: gallery</title>
<style>body{{font:16px/1.5 sans-serif;margin:2em auto;max-width:1500px;padding:0 1em}}
figure{{margin:3em 0;overflow-x:auto}}figcaption{{font-weight:bold}}summary{{cursor:pointer}}
pre{{font-size:13px;overflow-x:auto}}</style>
<h1>Gallery</h1>
<p>Drawn by <code>mg.draw</code>. Colour and width of the carried states show the gradient.</p>
{figures}
</html>
"""

README = """# Gallery

Every picture is drawn by `mg.draw` from a network that just ran, without Graphviz: `python examples/gallery/build.py`
makes them all again, and `index.html`, which has each graph as text too. Colour and width of the carried states
show the norm of the gradient: blue where it has vanished, red where it has grown. Pointing at a box shows its shape,
the range of its values, its gradient and where it was made. The pictures follow a light or dark setting.

{figures}

## What they cost

| picture | operations | boxes | view |
|---|--:|--:|---|
{rows}

CPU seconds by the number of operations, as `python -m benchmarks.draw` prints them; behind each the view that was
chosen. Of a long loop only the ends are looked at, once every step in between has been found to be like one that is;
of what is still too large, values that are alike are counted and not looked at, it is drawn by module, and a note
says so.

{times}
"""


def build(folder: Path, only: list[str]) -> None:
    """Draw everything into a folder, with two pages that show it."""
    folder.mkdir(parents=True, exist_ok=True)
    figures, sections, rows = [], [], []
    for name in only or GALLERY:
        title, make = GALLERY[name]
        drawn, options = make()
        options = {"gradients": True, **options}
        start = time.process_time()
        diagram = mg.draw(drawn, title=title, theme="auto", **options)
        diagram.save(folder / f"{name}.svg")
        seconds = time.process_time() - start
        description = diagram.picture.description
        text = html.escape(diagram.text())
        figures.append(f'<figure id="{name}"><figcaption>{html.escape(title)}</figcaption>'
                       f'<img src="{name}.svg" alt="{html.escape(description)}">'
                       f"<details><summary>as text</summary><pre>{text}</pre></details></figure>")
        sections.append(f"## {title}\n\n![{description}]({name}.svg)")
        operations = len(mg.tape(drawn)) if isinstance(drawn, (Tensor, list)) else len(drawn.rewritten.forward)
        boxes = len(diagram.picture.boxes)
        rows.append(f"| [{title}]({name}.svg) | {operations} | {boxes} | {diagram.view} |")
        print(f"{name:24} {diagram.view:9} {operations:6} operations {boxes:4} boxes  {seconds:.2f} s")
    if only:
        return
    times = HERE / "timing.md"
    known = times.read_text(encoding="utf-8").strip() if times.exists() else ""
    (folder / "index.html").write_text(PAGE.format(figures="\n".join(figures)), encoding="utf-8")
    page = README.format(figures="\n\n".join(sections), rows="\n".join(rows), times=known)
    (folder / "README.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the gallery.")
    parser.add_argument("only", nargs="*", choices=[*GALLERY, []], help="names of pictures; all when left out")
    parser.add_argument("-o", "--out", type=Path, default=HERE, help="folder (this one)")
    arguments = parser.parse_args()
    build(arguments.out, arguments.only)

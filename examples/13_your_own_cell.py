"""13. A recurrent cell of your own in ten lines: written, checked, drawn, compiled, raced.

The cell is the minimal gated unit (Zhou, Wu, Zhang & Zhou 2016), a GRU with one gate instead of two:

    f  = σ(W_f x + U_f h + b_f)                 what to renew, and what the candidate sees of the past
    n  = tanh(W_n x + U_n (f·h) + b_n)
    h' = (1 - f)·h + f·n

A cell says what one step does; the projection of all inputs, stacking, both directions, ragged batches, dropout
schemes, backpropagation through time, the compiled loop and the picture come with `rnn.Cell` and `rnn.Recurrent`.
"""

import time

import common
import numpy as np

import minigrad as mg
import rnn
from rnn.language_model import LanguageModel
from rnn.text import Batches, Vocabulary, read_corpus, split
from rnn.train import Trainer


class MinimalGatedUnit(rnn.Cell):
    gates = ("f", "n")  # columns of the weights: a block of H for each gate
    products = (1, 1)  # two recurrent products, of one gate each
    State = rnn.GRUState

    def step(self, a, state, U, taps=rnn.cells.NO_TAPS):
        h, (a_f, a_n) = state.h, mg.split(a, 2, axis=-1)
        f = mg.sigmoid(a_f + taps.product(h, U[0], slice(0, 1)))
        n = mg.tanh(a_n + taps.product(f * h, U[1], slice(1, 2)))
        new = taps.update(state, rnn.GRUState((1 - f) * h + f * taps.candidate(n)))
        mg.name(f=f, n=n, h=new.h)
        return new.h, new


class MGU(rnn.Recurrent):
    cell_type = MinimalGatedUnit


options = common.arguments(__doc__)
rng = np.random.default_rng(options.seed)

common.title("Check it: against a loop in plain NumPy, and its derivatives against differences")
layer = MGU(3, 4, dtype=float, rng=rng, compiled=False)
x = rng.normal(size=(2, 5, 3))
(W_f, W_n), (U_f, U_n), (b_f, b_n) = (np.split(p.data, 2, axis=-1) for p in layer.parameters())
h = np.zeros((2, 4))
for x_t in np.swapaxes(x, 0, 1):
    f = 1 / (1 + np.exp(-(x_t @ W_f + h @ U_f + b_f)))
    h = (1 - f) * h + f * np.tanh(x_t @ W_n + (f * h) @ U_n + b_n)
outputs, (state,) = layer(mg.tensor(x))
print(f"largest difference from the loop: {np.abs(state.h.data - h).max():.1e}")
cell = layer.cells[0]


def one_step(x, h, W, U, b):
    """The cell as a function of everything that it depends on."""
    a, U = x @ W + b, tuple(mg.split(U, 2, axis=1))
    return cell.step(a, rnn.GRUState(h), U)[0]


points = [x[:, 0], rng.normal(size=(2, 4)), *(p.data for p in layer.parameters())]
print(f"first and second derivatives agree with differences: {mg.gradcheck(one_step, points)}")

common.title("Draw it")
outputs, _ = layer(mg.tensor(x[:, :3], name="x"))
loss = np.mean(outputs**2)
mg.name(loss=loss)
common.save(options.out, "13_minimal_gated_unit.svg", mg.draw(loss, title="The minimal gated unit over three steps"))

common.title("Compile it: the loop over time as one node, derived from the same lines")
x = mg.tensor(rng.normal(size=(32, 64, 32)).astype(np.float32))
results = {}
for compiled in (False, True):
    layer = MGU(32, 64, rng=options.seed, compiled=compiled)
    times = []
    for _ in range(12 if options.full else 4):
        layer.zero_grad()
        start = time.perf_counter()
        loss = np.mean(layer(x)[0] ** 2)
        program = mg.tape(loss)
        loss.backward()
        times.append(1000 * (time.perf_counter() - start))
    results[compiled] = layer.cells[0].weight_hh.grad
    print(f"{'compiled' if compiled else 'eager':9}{len(program):5d} lines of tape, "
          f"{min(times):7.2f} ms for forward and backward")
print(f"largest difference of the gradients: {np.abs(results[True] - results[False]).max():.1e}")

common.title("Race it: characters of Python's reference, the same number of units and of steps")
text = read_corpus("python-reference", limit=400_000 if options.full else 40_000).text
vocabulary = Vocabulary.from_text(text)
learn, valid = split(vocabulary.encode(text), (0.9, 0.1), batch_size=32, time_steps=32)
V, hidden, steps = len(vocabulary), *((128, 1000) if options.full else (32, 40))
curves = {}
for kind in (rnn.RNN, MGU, rnn.GRU, rnn.LSTM):
    model = LanguageModel(V, kind(V, hidden, rng=options.seed), rng=options.seed)
    trainer = Trainer(model, mg.optim.Adam(model.parameters(), lr=5e-3), Batches(learn, 32, 32), clip_norm=1.0,
                      valid=valid)
    curve, took = [], 0.0
    for k in range(steps):
        start = time.perf_counter()
        trainer.step()
        took += time.perf_counter() - start
        if (k + 1) % (steps // (10 if options.full else 2)) == 0:
            curve.append((k + 1, trainer.validate().bits))
    curves[kind.__name__] = curve
    print(f"{kind.__name__:5}{sum(p.size for p in model.parameters()):8,} parameters, "
          f"{curve[-1][1]:.3f} bits per character in validation, {1000 * took / steps:6.1f} ms a step")


def draw(ax) -> None:
    for name, curve in curves.items():
        ax.plot(*zip(*curve), ".-", label=f"{name}: {curve[-1][1]:.2f}")
    ax.set(xlabel="step", ylabel="bits per character in validation", title=f"{hidden} units each")
    ax.legend()


common.plot(options.out, "13_race.svg", draw)
print("Look at the picture of the cell: the one gate feeds the candidate and the mixture.")

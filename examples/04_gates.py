"""4. Gates: five cells that keep what a plain recurrent network forgets, and two tasks that need it.

    LSTM       c' = f·c + i·g, h' = o·tanh(c'): what to forget, to write and to show is learned
               (Hochreiter & Schmidhuber 1997; the forget gate: Gers, Schmidhuber & Cummins 2000)
    peephole   the gates see the cell too (Gers & Schmidhuber 2000)
    coupled    f = 1 - i: what is written replaces what is forgotten (Greff et al. 2017)
    GRU        h' = (1 - z)·n + z·h, one state and two gates; the reset gate r acts after the product with U,
               as in today's libraries, or before it, as in the paper (Cho et al. 2014)

*Adding*: of T random numbers two are marked, one in each half; say their sum at the end. Always saying 1 has a mean
squared error of 2/12 = 1/6. *Copy memory*: read 10 symbols out of 8, wait T steps, write them down. Without any memory
of them the cross-entropy is 10 ln 8 / (T + 20), as only 10 of the T + 20 outputs are in doubt. Both tasks are
Hochreiter & Schmidhuber's (1997), in the form of Arjovsky, Shah & Bengio (2016).
"""

import math
import time

import common
import numpy as np

import minigrad as mg
import rnn

CELLS = {
    "RNN": (rnn.RNN, {}),
    "LSTM": (rnn.LSTM, {}),
    "peephole LSTM": (rnn.LSTM, {"peephole": True}),
    "coupled LSTM": (rnn.LSTM, {"coupled": True}),
    "GRU": (rnn.GRU, {}),
    "GRU, reset before": (rnn.GRU, {"reset_after": False}),
}


def adding(rng, batch, T):
    """Inputs (batch, T, 2), numbers and marks; targets (batch, 1)."""
    row, x = np.arange(batch), np.zeros((batch, T, 2), np.float32)
    x[..., 0] = rng.random((batch, T))
    x[row, rng.integers(0, T // 2, batch), 1] = x[row, rng.integers(T // 2, T, batch), 1] = 1
    return x, np.sum(x[..., 0] * x[..., 1], axis=1, keepdims=True)


def copy(rng, batch, T):
    """Inputs (batch, T + 20, 10), one-hot; targets (batch, T + 20). Symbol 8 is a blank, 9 says "now"."""
    symbols = rng.integers(0, 8, (batch, 10))
    x, y = np.full((batch, T + 20), 8), np.full((batch, T + 20), 8)
    x[:, :10], x[:, T + 9], y[:, -10:] = symbols, 9, symbols
    return np.eye(10, dtype=np.float32)[x], y


def learn(name, task, T, hidden, steps, batch, lr, seed):
    """Train a cell on a task; the list of losses."""
    kind, options = CELLS[name]
    layer = kind(2 if task is adding else 10, hidden, return_sequences=task is copy, rng=seed, **options)
    readout = mg.nn.Linear(hidden, 1 if task is adding else 9, rng=seed)
    adam = mg.optim.Adam([*layer.parameters(), *readout.parameters()], lr=lr)
    rng, losses = np.random.default_rng(seed), []
    for _ in range(steps):
        x, y = task(rng, batch, T)
        outputs = readout(layer(x)[0])
        loss = mg.mse_loss(outputs, y) if task is adding else mg.cross_entropy(outputs, y)
        adam.zero_grad()
        loss.backward()
        mg.optim.clip_grad_norm(adam.parameters, 1.0)
        adam.step()
        losses.append(loss.item())
    return losses


def diagram(name, seed):
    """One step of a cell, drawn."""
    kind, options = CELLS[name]
    cell = kind.cell_type(3, 4, rng=seed, **options)
    x = mg.tensor(np.zeros((1, 3), np.float32), name="x")
    _, state = cell(x, cell.initial_state(1))
    return mg.draw(list(state), legend=False)


def smooth(losses, window):
    """A running mean."""
    return np.convolve(losses, np.ones(window) / window, mode="valid")


def main():
    a = common.arguments(__doc__)
    if a.full:
        tasks = {"adding": (adding, 50, 32, 1000, 32, 5e-3), "copy memory": (copy, 10, 32, 2000, 32, 1e-2)}
    else:
        tasks = {"adding": (adding, 10, 16, 120, 32, 2e-2), "copy memory": (copy, 3, 16, 40, 8, 2e-2)}
    curves = {}
    for title, (task, T, *rest) in tasks.items():
        baseline = 1 / 6 if task is adding else 10 * math.log(8) / (T + 20)
        says = "1/6" if task is adding else f"10 ln 8 / {T + 20}"
        common.title(f"{title}, T = {T}: without memory {says} = {baseline:.4f}")
        for name in CELLS:
            start = time.process_time()
            losses = common.once(a, f"04_{title}_{name}", learn, name, task, T, *rest, a.seed)
            curves[title, name] = losses
            below = np.flatnonzero(smooth(losses, 20) < 0.5 * baseline)
            when = f"half the baseline after {below[0] + 20} steps" if below.size else "never at half the baseline"
            print(f"  {name:18} {np.mean(losses[-20:]):.4f}   {when}   ({time.process_time() - start:.1f} s)")

    common.title("To look at")
    common.save(a.out, "04_cells.svg", common.side_by_side(
        {name: diagram(name, a.seed) for name in CELLS if name != "RNN"}, columns=5))
    print("        one step of each: from c0 to c (h0 to h in a GRU) there is a road with nothing but × and +")

    def draw(*axes):
        for ax, (title, (task, T, *_)) in zip(axes, tasks.items()):
            for name in CELLS:
                ax.plot(smooth(curves[title, name], 20), label=name)
            ax.axhline(1 / 6 if task is adding else 10 * math.log(8) / (T + 20), color="black", linestyle=":",
                       label="without memory")
            ax.set(title=f"{title}, T = {T}", xlabel="step", ylabel="loss", ylim=(0, None))
        axes[0].legend(fontsize=8)

    common.plot(a.out, "04_curves.svg", draw, columns=2, size=(10, 3.6))
    print("        a curve on the dotted line has learned all but the memory")


if __name__ == "__main__":
    main()

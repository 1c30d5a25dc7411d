"""3. Gradients that vanish, gradients that explode, and what can be done.

On its way back through time a gradient is multiplied by the transposed recurrent weights at every step,

    dh ← dh Wᵀ        so that after k steps it is  dh (Wᵀ)^k

and a repeated product grows or shrinks like the k-th power of a number: the largest singular value of W says how fast
at most, the largest eigenvalue how fast in the long run (Hochreiter 1991; Bengio, Simard & Frasconi 1994; Pascanu,
Mikolov & Bengio 2013). The numbers of the first part are those of Saito, "Deep Learning from Scratch 2" (2018).

In an RNN the slope of tanh, at most 1, comes in at every step too. In an LSTM the cell is carried by

    c_t = f_t·c_{t-1} + i_t·g_t        ∂c_t/∂c_{t-1} = f_t, and what goes through the gates

so with forget gates near 1 an error survives (Hochreiter & Schmidhuber 1997); a GRU has the same road, h' = … + z·h.
Clipping, g ← g·min(1, v/‖g‖), keeps a step from being thrown out of the valley where a gradient explodes. Its direction
stays, and nothing that has vanished comes back.
"""

from contextlib import suppress

import common
import numpy as np

import minigrad as mg
import rnn


def repeated(W, steps=20, N=2):
    """‖dh‖/N while dh ← dh Wᵀ, from ones: by hand, and checked against the graph of h ← h W."""
    dh, norms = np.ones((N, len(W))), []
    h = inputs = mg.tensor(dh, requires_grad=True)
    for _ in range(steps):
        dh, h = dh @ W.T, h @ W
        norms.append(np.linalg.norm(dh) / N)
        (by_graph,) = mg.grad(h.sum(), inputs, retain_graph=True)
        assert np.linalg.norm(by_graph.data - dh) <= 1e-12 * np.linalg.norm(dh)
    return norms


def probe(layer, x):
    """‖∂L/∂h_t‖ for all steps, of a loss that looks at the last output only."""
    with rnn.gradient_probe(layer) as found:
        np.sum(layer(x)[0][:, -1] ** 2).backward()
    (norms,) = found.values()
    return norms["c" if "c" in norms else "h"]          # what carries the memory


def descend(clip, steps, seed, gain=2.5):
    """Train an RNN whose weights explode to add two marked numbers; losses, gradients' norms, until not finite."""
    rng = np.random.default_rng(seed)
    layer, readout = rnn.RNN(2, 32, return_sequences=False, rng=seed), mg.nn.Linear(32, 1, rng=seed)
    layer.cells[0].weight_hh.assign(gain * layer.cells[0].weight_hh.data)
    sgd = mg.optim.SGD([*layer.parameters(), *readout.parameters()], lr=0.05)
    losses, norms = [], []
    with np.errstate(all="ignore"), suppress(FloatingPointError):   # clip_grad_norm raises it: a gradient is not finite
        for _ in range(steps):
            numbers, marks = rng.random((32, 20)), np.zeros((32, 20))
            marks[np.arange(32), rng.integers(0, 10, 32)] = marks[np.arange(32), rng.integers(10, 20, 32)] = 1
            x = np.stack([numbers, marks], axis=-1).astype(np.float32)
            loss = mg.mse_loss(readout(layer(x)[0])[:, 0], np.sum(numbers * marks, axis=1).astype(np.float32))
            sgd.zero_grad()
            loss.backward()
            losses.append(loss.item())
            norms.append(mg.optim.clip_grad_norm(sgd.parameters, clip))
            sgd.step()
    return losses, norms


def main():
    a = common.arguments(__doc__)
    common.title("‖dh‖/N over 20 products with Wᵀ")
    W = np.random.RandomState(3).randn(3, 3)
    for label, matrix in (("W", W), ("0.5 W", 0.5 * W)):
        norms, size = repeated(matrix), np.linalg.svd(matrix)[1][0]
        say = f"{norms[-1]:.4f}" if norms[-1] > 1 else f"{norms[-1]:.4e}".replace("e-0", "e-")
        print(f"  {label:6} {norms[0]:.4f}, {norms[1]:.4f}, {norms[2]:.4f} … {say}"
              f"     largest singular value {size:.3f}, eigenvalue {abs(np.linalg.eigvals(matrix)).max():.3f}")

    T, H = (50, 32) if not a.full else (200, 64)
    common.title(f"The gradient of the memory over {T} steps: the first over the last")
    x = np.random.default_rng(a.seed).normal(size=(8, T, 4)).astype(np.float32)
    cells = {"RNN": rnn.RNN(4, H, rng=a.seed), "RNN, U × 0.5": rnn.RNN(4, H, rng=a.seed),
             "RNN, U × 2": rnn.RNN(4, H, rng=a.seed), "GRU": rnn.GRU(4, H, rng=a.seed),
             "LSTM": rnn.LSTM(4, H, rng=a.seed), "LSTM, forget bias 4": rnn.LSTM(4, H, forget_bias=4.0, rng=a.seed)}
    for name, gain in (("RNN, U × 0.5", 0.5), ("RNN, U × 2", 2.0)):
        cells[name].cells[0].weight_hh.assign(gain * cells[name].cells[0].weight_hh.data)
    norms = {name: probe(layer, x) for name, layer in cells.items()}
    for name, n in norms.items():
        print(f"  {name:20} ‖∂L/∂s_1‖ / ‖∂L/∂s_{T}‖ = {n[0] / n[-1]:.1e}")

    steps = 120 if not a.full else 2000
    common.title(f"Learning with weights that explode: {steps} steps, with clipping at 1 and without")
    clipped, free = descend(1.0, steps, a.seed), descend(np.inf, steps, a.seed)
    for name, (losses, gs) in (("clipped", clipped), ("not clipped", free)):
        print(f"  {name:12} steps {len(gs):4}   worst loss {max(losses):8.2g}   mean of the last 50 "
              f"{np.mean(losses[-50:]):8.2g}   largest gradient {max(gs):8.2g}{', then inf, NaN' * (len(gs) < steps)}")

    common.title("To look at")
    common.plot(a.out, "03_heat.svg", lambda ax: common.heat_lines(ax, norms), size=(8, 3))
    print("        time runs to the right, the gradient to the left: blue has vanished, red has exploded")

    def clipping(left, right):
        for (losses, gs), label in ((free, "not clipped"), (clipped, "clipped at 1")):
            left.semilogy(losses, label=label)
            right.semilogy(gs, label=label)
        left.axhline(1 / 6, color="black", linestyle=":", label="always saying the mean: 1/6")
        left.set(xlabel="step", ylabel="loss")
        right.set(xlabel="step", ylabel="‖gradient‖ before clipping")
        left.figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)

    common.plot(a.out, "03_clipping.svg", clipping, columns=2, size=(9, 3.6))
    print("        one step too large leads to where gradients are larger still; clipped, none is")
    long, _ = rnn.LSTM(4, 8, rng=a.seed, forget_bias=0.0, compiled=False)(x[:2])
    common.save(a.out, "03_lstm.svg", mg.draw(np.sum(long[:, -1] ** 2), gradients=True))
    print("        the same line of heat below the picture of an LSTM, whose forget gates are half open")


if __name__ == "__main__":
    main()

"""2. Backpropagation through time, written out and checked against the graph.

The textbook's network reads x_t and predicts y_t at every step; s_t is its state, and vectors are columns:

    s_t = tanh(U x_t + W s_{t-1})      ŷ_t = softmax(V s_t)      E_t = -log of the probability of y_t in ŷ_t

V acts once on the way to E₃, so its derivative is a single outer product:

    ∂E₃/∂V = (ŷ₃ - y₃) ⊗ s₃

W acts at step 3 and, through s₂ and s₁, at the two steps before. The chain rule gives a sum over the steps k = 3, 2, 1:

    ∂E₃/∂W = Σ_k δ_k ⊗ s_{k-1}        δ₃ = Vᵀ(ŷ₃ - y₃) · (1 - s₃²)        δ_{k-1} = Wᵀδ_k · (1 - s_{k-1}²)
    ∂E₃/∂U = Σ_k δ_k ⊗ x_k

Each δ is the one after it, times Wᵀ and the slope of tanh: this is how an error travels back in time. Cutting the sum
after some terms is truncated backpropagation. In a graph the same cut is a `detach`: the value passes, no gradient.

Rumelhart, Hinton & Williams (1986); Werbos, "Backpropagation through time: what it does and how to do it" (1990).
"""

import common
import numpy as np

import minigrad as mg


def by_hand(U, W, V, s0, x, y, keep=None):
    """∂E/∂U, ∂E/∂W, ∂E/∂V of the last step's error, in NumPy, and each step's part of ∂E/∂W, the last first.

    s0 is the state before, x (T, D) the inputs, y the wanted symbol; `keep` says how many terms of the sums to take.
    """
    s = [s0]                                                     # s[t + 1] is the state after x[t]
    for x_t in x:
        s.append(np.tanh(U @ x_t + W @ s[-1]))
    e = np.exp(V @ s[-1])
    error = e / e.sum() - np.eye(len(V))[y]                      # ŷ - y
    delta = (V.T @ error) * (1 - s[-1] ** 2)
    dU, parts = np.zeros_like(U), []
    for t in range(len(x))[::-1][:keep]:
        parts.append(np.outer(delta, s[t]))
        dU += np.outer(delta, x[t])
        delta = (W.T @ delta) * (1 - s[t] ** 2)
    return dU, sum(parts), np.outer(error, s[-1]), parts


def by_graph(U, W, V, s0, x, y, cut=None, all_errors=False):
    """The same error as a graph, or the sum of those of all steps; no gradient goes behind state number `cut`."""
    U, W, V = (mg.tensor(m, requires_grad=True, name=n) for m, n in ((U, "U"), (W, "W"), (V, "V")))
    s, errors = mg.tensor(s0, name="s0"), []
    for t, x_t in enumerate(x, 1):
        with mg.scope(f"t = {t}", step=t):
            s = np.tanh(U @ mg.tensor(x_t, name="x") + W @ s)
            mg.name(s=s)
        if all_errors or t == len(x):
            errors.append(mg.cross_entropy(V @ s, y))
        if t == cut:
            s = s.detach()
    E = sum(errors[1:], errors[0])
    mg.name(E=E)
    return E, (U, W, V)


def compare(hand, tensors):
    """Print the two side by side; the largest difference."""
    largest = 0.0
    for name, d, t in zip("UWV", hand, tensors):
        difference, i = np.abs(d - t.grad).max(), np.abs(d).argmax()
        largest = max(largest, difference)
        print(f"  ∂E/∂{name}   by hand {d.flat[i]:+.15f}   graph {t.grad.flat[i]:+.15f}"
              f"   largest difference {difference:.1e}")
    return largest


def main():
    a = common.arguments(__doc__)
    rng = np.random.default_rng(a.seed)
    D, H, T = (8, 5, 3) if not a.full else (50, 100, 40)
    given = [rng.normal(0, 1 / np.sqrt(m), (n, m)) for n, m in ((H, D), (H, H), (D, H))]        # U, W, V
    given += [rng.uniform(-1, 1, H), np.eye(D)[rng.integers(0, D, T)], 3]                       # s0, x, y

    common.title(f"The last of {T} errors: the textbook beside the graph (the largest entry of each matrix)")
    *hand, parts = by_hand(*given)
    E, tensors = by_graph(*given)
    E.backward(retain_graph=True)
    largest = compare(hand, tensors)

    common.title("∂E/∂W is a sum over time: how much each step has in it")
    norms = [np.linalg.norm(part) for part in parts]
    for back, norm in enumerate(norms[:12]):
        print(f"  k = {T - back:2}   |δ_k ⊗ s_(k-1)| = {norm:.2e}   {'█' * round(40 * norm / max(norms))}")

    keep = 2
    common.title(f"Truncated: only the last {keep} terms, and the graph with s_{T - keep} detached")
    *hand, _ = by_hand(*given, keep)
    E_cut, tensors_cut = by_graph(*given, cut=T - keep)
    E_cut.backward()
    largest = max(largest, compare(hand, tensors_cut))
    print(f"\nlargest difference of all: {largest:.1e}")

    common.title("What truncation leaves out")
    for k in sorted({min(k, T) for k in (1, 2, 3, 5, 10, 20, T)}):
        missing = np.linalg.norm(sum(parts[k:])) / np.linalg.norm(sum(parts))
        print(f"  {k:2} of {T} terms: {100 * missing:8.4f} % of ∂E/∂W is missing")

    common.title("To look at")
    common.save(a.out, "02_bptt.svg", mg.draw(E, gradients=True))
    print("        every road from E back to W is a term of the sum; ‖grad‖ between the steps: the error that travels")
    every, _ = by_graph(*given, cut=T - keep, all_errors=True)
    common.save(a.out, "02_truncated.svg", mg.draw(every, gradients=True))
    print("        with an error at each step, and cut: the state's value passes the scissors, the gradient does not")

    def draw(ax):
        ax.bar(range(len(norms)), norms)
        ax.set(xlabel="steps back in time", ylabel="norm of the term of ∂E/∂W", yscale="linear" if T < 9 else "log")
        ax.xaxis.get_major_locator().set_params(integer=True)

    common.plot(a.out, "02_terms.svg", draw, size=(6, 3))
    print("        the terms by distance: why a few steps are often enough, and why far things are hard to learn")


if __name__ == "__main__":
    main()

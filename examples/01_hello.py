"""1. Hello: the smallest recurrent network that has to remember something.

It reads h, e, l, l and is to say, after each letter, which one comes next: e, l, l, o. Letters are one-hot vectors, and

    s_t = tanh(x_t W + s_{t-1} U + b)        the state: the letter, and what is left of those before it
    p_t = softmax(s_t V)                     a probability for each of the four letters

The second l is followed by o and the first by l, though the input is the same: whoever looks at the letter alone can
but guess there, and pays ln 2 in two places of four. So a network without U cannot get below ln 2 / 2 = 0.3466 nats
a letter, and one with U can go to 0.

Recurrent networks that predict letters: Elman, "Finding structure in time" (1990). The word hello: Karpathy, "The
unreasonable effectiveness of recurrent neural networks" (2015).
"""

import math

import common
import numpy as np

import minigrad as mg

LETTERS = "helo"
EYE = np.eye(len(LETTERS))
INPUTS, TARGETS = (np.array([LETTERS.index(c) for c in word]) for word in ("hell", "ello"))


def network(rng, hidden=8):
    """The parameters, by name."""
    shapes = {"W": (4, hidden), "U": (hidden, hidden), "b": (hidden,), "V": (hidden, 4)}
    return {name: mg.tensor(rng.normal(0, 0.5, size), requires_grad=True, name=name) for name, size in shapes.items()}


def run(p, ids):
    """Logits (time, 4) for letters in a row: the two formulas above."""
    x = mg.tensor(EYE[ids][:, None], name="x")                        # (time, 1, 4): one-hot
    s0 = mg.tensor(np.zeros((1, p["b"].size)), name="s0")

    def step(s, x):
        s = np.tanh(x @ p["W"] + s @ p["U"] + p["b"])
        mg.name(s=s)                                                  # only for the picture
        return s, s

    _, states = mg.scan(step, s0, x)
    return states[:, 0] @ p["V"]


def train(p, steps=150, lr=0.5, memory=True):
    """Gradient descent. The list of losses; without memory, U stays 0."""
    losses = []
    for _ in range(steps):
        loss = mg.cross_entropy(run(p, INPUTS), TARGETS)
        for t in p.values():
            t.grad = None
        loss.backward()                                               # all of backpropagation through time
        for name, t in p.items():
            if memory or name != "U":
                t.assign(t.data - lr * t.grad)
        losses.append(loss.item())
    return losses


def say(p, letter="h", more=4):
    """Let it talk: what it says is what it hears next."""
    word = letter
    with mg.no_grad():
        for _ in range(more):
            logits = run(p, [LETTERS.index(c) for c in word])
            word += LETTERS[int(np.argmax(logits.data[-1]))]
    return word


def table(p):
    """What it thinks comes next, letter by letter."""
    probabilities = mg.softmax(run(p, INPUTS)).data
    print("  read      " + "".join(f"{c:>8}" for c in LETTERS))
    for t, row in enumerate(probabilities):
        print(f"  {'hell'[:t + 1]:5} →   " + "".join(f"{q:8.3f}" for q in row) + f"     wanted: {'ello'[t]}")


def main():
    a = common.arguments(__doc__)
    p = network(np.random.default_rng(a.seed))
    common.title("Before learning")
    table(p)
    print(f"  it says {say(p)!r}")

    losses = train(p)
    common.title("After 150 steps of gradient descent")
    table(p)
    print(f"  it says {say(p)!r}; loss {losses[-1]:.4f}")

    blind = network(np.random.default_rng(a.seed))
    blind["U"].assign(np.zeros_like(blind["U"].data))
    without = train(blind, memory=False)
    common.title("The same without memory (U = 0)")
    table(blind)
    print(f"  it says {say(blind)!r}; loss {without[-1]:.4f}, and not below ln 2 / 2 = {math.log(2) / 2:.4f}")

    if a.full:
        said = [say(q) for s in range(100) if train(q := network(np.random.default_rng(s)))]
        print(f"\n{said.count('hello')} of 100 networks with other first weights say 'hello'")

    common.title("To look at")
    loss = mg.cross_entropy(run(p, INPUTS), TARGETS)
    mg.name(loss=loss)
    common.save(a.out, "01_graph.svg", mg.draw(loss, gradients=True, title="hello"))
    print("        what was computed for 'hell': time goes right, W, U, b and V are used at every step")

    def draw(ax):
        ax.plot(losses, label="with memory")
        ax.plot(without, label="without")
        ax.axhline(math.log(2) / 2, color="black", linestyle=":", label="ln 2 / 2")
        ax.set(xlabel="step", ylabel="loss in nats a letter", ylim=(0, None))
        ax.legend()

    common.plot(a.out, "01_loss.svg", draw, size=(6, 3.2))
    print("        what memory is worth: the two letters after an l are known instead of guessed")


if __name__ == "__main__":
    main()

"""6. Deeper, and in both directions: what a second layer and a look at the future are worth.

*Bidirectional* (Schuster & Paliwal 1997): a second network reads the sequence from its end, and both outputs together
say something about each step. *Stacked* (Graves, Mohamed & Hinton 2013): the outputs of a layer are the inputs of the
next. `return_sequences=False` keeps the last output only, for a single answer per sequence.

A task whose best answers can be counted: x is a row of random bits, and the tag of step t is the majority of the five
bits x_{t-2} … x_{t+2}. Who has not seen the last two can be right in

    2 · (1/8 · 1 + 3/8 · 3/4) = 81.25 %

of all cases and not more: 1/8 for three equal bits, which decide; 3/8 for two against one, which hold in 3 of 4 cases.

And one in words, made up: "the old man the boats" — is *man* a noun or a verb? The words after it tell.
"""

import common
import numpy as np

import minigrad as mg
import rnn

NOUNS, VERBS = ["sailors", "ships", "harbours", "boats", "waves"], ["see", "fear", "like", "know", "paint"]
BOTH = ["man", "ship", "wave"]                          # a noun or a verb
WORDS = ["the", "old", "."] + NOUNS + VERBS + BOTH
TAGS = ["-", "adjective", "noun", "verb"]


def bits(rng, batch, T=12):
    """Random bits, one-hot (batch, T, 2); tags (batch, T), -1 where not all five bits are there."""
    x, tags = rng.integers(0, 2, (batch, T)), np.full((batch, T), -1)
    tags[:, 2:-2] = sum(x[:, k:T - 4 + k] for k in range(5)) > 2
    return np.eye(2, dtype=np.float32)[x], tags


def sentences(rng, batch):
    """Six words: "the old man the boats ." or "the old man fear waves ."; the second and third have tags, others -1.

    Where an object follows at once, "the old" are people and "man" is what they do; else the man is old.
    """
    ids, tags = [], np.full((batch, 6), -1)
    for row in tags:
        word, verb, other = rng.choice(BOTH), rng.choice(VERBS), rng.choice(NOUNS)
        follows, row[1:3] = ("the", (2, 3)) if rng.random() < 0.5 else (verb, (1, 2))
        ids.append([WORDS.index(w) for w in ("the", "old", word, follows, other, ".")])
    return np.eye(len(WORDS), dtype=np.float32)[ids], tags


def learn(task, features, classes, layers, both, hidden, steps, rows, seed):
    """A tagger: layers, readout and, while it learned, the share of right tags."""
    # as many units in all, whether they read one way or both
    layer = rnn.LSTM(features, hidden // (1 + both), layers, bidirectional=both, rng=seed)
    readout = mg.nn.Linear(layer.output_size, classes, rng=seed)
    adam = mg.optim.Adam([*layer.parameters(), *readout.parameters()], lr=1e-2)
    asked, wanted = task(np.random.default_rng(seed + 1), rows)
    rng, curve = np.random.default_rng(seed), []
    for k in range(1, steps + 1):
        x, tags = task(rng, 32)
        loss = mg.cross_entropy(readout(layer(x)[0])[tags >= 0], tags[tags >= 0])
        adam.zero_grad()
        loss.backward()
        adam.step()
        if k % (steps // 5) == 0:
            with mg.no_grad():
                said = readout(layer(asked)[0]).data.argmax(-1)
            curve.append((k, np.mean((said == wanted)[wanted >= 0])))
    return layer, readout, curve


def main():
    a = common.arguments(__doc__)
    hidden, steps, rows = (16, 100, 300) if not a.full else (32, 600, 500)
    common.title(f"The majority of five bits, {steps} steps (without the future 81.25 % at most, in {rows} rows ± "
                 f"{100 * (0.8125 * 0.1875 / rows / 8) ** 0.5:.1f})")
    curves = {}
    for both in (False, True):
        for layers in (1, 2) if not a.full else (1, 2, 3):
            name = f"{layers} layer{'s' * (layers > 1)}, {'both ways' if both else 'forward'}"
            layer, _, curves[name] = learn(bits, 2, 2, layers, both, hidden, steps, rows, a.seed)
            size = sum(p.size for p in layer.parameters())
            print(f"  {name:20} {curves[name][-1][1]:7.2%}   ({size:,} parameters)")

    common.title("Words: what is what before and after having read on")
    show, _ = sentences(np.random.default_rng(3), 2)
    for both in (False, True):
        layer, readout, curve = learn(sentences, len(WORDS), len(TAGS), 1, both, hidden, steps // 2, rows, a.seed)
        said = mg.softmax(readout(layer(show)[0])).data
        print(f"  {'both ways' if both else 'forward'}: {curve[-1][1]:.1%} of the second and third words")
        for x, p in zip(show, said):
            words = [WORDS[k] for k in x.argmax(-1)]
            print("    " + "  ".join(f"{w}/{TAGS[q.argmax()]} {q.max():.2f}" if i in (1, 2) else w
                                     for i, (w, q) in enumerate(zip(words, p))))

    common.title("return_sequences, and which step is the last")
    x = bits(np.random.default_rng(a.seed), 4)[0]
    layer = rnn.GRU(2, 8, bidirectional=True, rng=a.seed)
    outputs, (forward, backward) = layer(x)
    print(f"  x {x.shape} → outputs {outputs.shape}; a state for each direction, {forward.h.shape}")
    layer.return_sequences = False
    print(f"  return_sequences=False → {layer(x)[0].shape}, the outputs of the last step")
    print(f"  forward, the final state is the last output: {np.allclose(forward.h.data, outputs.data[:, -1, :8])}")
    print(f"  backward it is the first: {np.allclose(backward.h.data, outputs.data[:, 0, 8:])}"
          "   (at the last step that direction has read one symbol: take the states)")

    common.title("To look at")
    y, _ = rnn.RNN(2, 4, 2, bidirectional=True, rng=a.seed, compiled=False)(x[:1, :3])
    common.save(a.out, "06_graph.svg", mg.draw(mg.nn.Linear(8, 2, rng=a.seed)(y)))
    print("        two layers, each in two rows: the arrows of the backward row go left")

    def draw(ax):
        for name, curve in curves.items():
            ax.plot(*zip(*curve), "--" if "forward" in name else "-", marker="o", markersize=3, label=name)
        ax.axhline(0.8125, color="black", linestyle=":", label="81.25 %")
        ax.set(xlabel="step", ylabel="accuracy", title="the majority of five bits")
        ax.legend(fontsize=8)

    common.plot(a.out, "06_accuracy.svg", draw, size=(6, 3.5))
    print("        no depth makes up for not knowing the future")


if __name__ == "__main__":
    main()

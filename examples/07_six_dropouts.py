"""7. Six ways to drop units of a recurrent network, drawn and compared.

Dropout sets units to zero at random, so that none can be relied on. Where to do that in a network whose state is
carried on for hundreds of steps, and how often to draw the mask, has six answers in the literature (p is the
probability of a zero, k = 1 - p, D(v) = m·v/k):

    NonRecurrent   D(x_t) on every arrow that goes up, none along time           Zaremba, Sutskever & Vinyals 2014
    RNNDrop        c' = m·(f·c + i·g), one mask for the whole sequence           Moon, Choi, Lee & Song 2015
    Variational    W D(x) + U D(h), one mask for the whole sequence              Gal & Ghahramani 2016
    WeightDrop     (m·U/k) h: weights, not units                                 Merity, Keskar & Socher 2018
    Recurrent      c' = f·c + i·D(g): what is added, not what is kept            Semeniuta, Severyn & Barth 2016
    Zoneout        c' = z·c + (1 - z)·(f·c + i·g): units keep their old value    Krueger et al. 2017

What came out there, on the Penn Treebank by characters with one layer of 1000 units, in bits per character (validation
and test): plain 1.466 and 1.356, recurrent dropout 1.358 and 1.321, zoneout 1.362 and 1.27 (Krueger et al. 2017).

Here: the same budget for each on a text that is too short for the network, so that without dropout it learns by heart.
Monte-Carlo dropout (Gal & Ghahramani 2016) averages the probabilities under several masks instead of leaving them off.

    python examples/07_six_dropouts.py --full --data ptb.train.txt
"""

import time

import common
import numpy as np

import minigrad as mg
import rnn
from rnn.dropout import NonRecurrent, Recurrent, RNNDrop, Variational, WeightDrop, Zoneout
from rnn.evaluation import evaluate_monte_carlo
from rnn.language_model import LanguageModel, evaluate
from rnn.text import Batches, Vocabulary, read_corpus
from rnn.train import Trainer

# A letter is one-hot: dropping its only entry would drop the letter, so the inputs of the first layer stay.
SCHEMES = {
    "none": None,
    "NonRecurrent": NonRecurrent(0.5, bottom=False),
    "RNNDrop": RNNDrop(0.25),
    "Variational": Variational(0.25, input=0.0),
    "WeightDrop": WeightDrop(0.5),
    "Recurrent": Recurrent(0.5),
    "Zoneout": Zoneout(cell=0.5, hidden=0.05),
}


def diagram(name, seed):
    """Two steps of an LSTM with a scheme, drawn."""
    scheme = {**SCHEMES, "NonRecurrent": NonRecurrent(0.5), "Variational": Variational(0.25)}[name]
    # with gradients also for these, since what no gradient needs (a mask times a constant) is not in the graph
    x, h0, c0 = (mg.tensor(np.zeros(shape, np.float32), requires_grad=True, name=name)
                 for name, shape in (("x", (1, 2, 3)), ("h0", (1, 4)), ("c0", (1, 4))))
    y, (last,) = rnn.LSTM(3, 4, dropout=scheme, compiled=False, rng=seed)(x, rnn.LSTMState(h0, c0))
    mg.name(y=y)
    return mg.draw([y, last.c], legend=False)


def learn(scheme, parts, V, hidden, batch, length, steps, seed):
    """Train a model; bits per letter on the parts: training, validation, test, and test with Monte-Carlo dropout."""
    train, valid, test = parts
    model = LanguageModel(V, rnn.LSTM(V, hidden, dropout=scheme, rng=seed), rng=seed)
    adam = mg.optim.Adam(model.parameters(), lr=4e-3)
    trainer = Trainer(model, adam, Batches(train, batch, length), clip_norm=1.0)
    for _ in range(steps):
        trainer.step()
    bits = [evaluate(model, part, 10, length).bits for part in (train[:len(valid)], valid, test)]
    return [*bits, bits[2] if scheme is None else evaluate_monte_carlo(model, test, 8, 10, length).bits]


def main():
    a = common.arguments(__doc__, data="a text, in place of the language reference inside Python")
    size, hidden, batch, length, steps, seeds = (5_000, 64, 10, 35, 700, 5) if a.full else (2_000, 16, 10, 16, 12, 2)
    text = read_corpus(a.data or "python-reference", limit=2 * size).text
    vocabulary = Vocabulary.from_text(text)
    ids = vocabulary.encode(text)
    parts = ids[:size], ids[size:size * 3 // 2], ids[size * 3 // 2:]

    epochs = steps / len(Batches(parts[0], batch, length))
    common.title(f"LSTM-{hidden}, {size:,} letters, {epochs:.0f} epochs, {seeds} seeds: bits per letter")
    print("                 training         validation       test             test, Monte Carlo")
    results = {}
    for name, scheme in SCHEMES.items():
        start = time.process_time()
        found = np.array([common.once(a, f"07_{name}_{s}", learn, scheme, parts, len(vocabulary), hidden, batch, length,
                                      steps, a.seed + s) for s in range(seeds)])
        results[name] = found
        columns = [f"{m:.3f} ± {s:.3f}" for m, s in zip(found.mean(0), found.std(0, ddof=1))]
        print(f"  {name:14} {'    '.join(columns)}    ({time.process_time() - start:.0f} s)")
    order = sorted(results, key=lambda name: results[name][:, 1].mean())
    print(f"\n  validation, best first: {', '.join(order)}")
    print("  in the literature: recurrent dropout and zoneout close together, plain well behind"
          + ("" if a.full else "\n  (after so few steps nothing is learned by heart: see --full)"))

    common.title("To look at")
    common.save(a.out, "07_schemes.svg", common.side_by_side(
        {name: diagram(name, a.seed) for name in SCHEMES if name != "none"}, columns=2))
    print("        where each paper puts its masks; one outside the steps is drawn once, one inside anew at each step")

    def draw(ax):
        for y, found in enumerate(results.values()):
            for column, label, colour in ((0, "training", common.COLOURS[5]), (1, "validation", common.COLOURS[0]),
                                          (2, "test", common.COLOURS[1])):
                ax.plot(found[:, column], np.full(seeds, y + 0.15 * (column - 1)), "o", color=colour, markersize=4,
                        label=label if y == 0 else None)
        ax.set(yticks=range(len(results)), yticklabels=list(results), xlabel="bits per letter")
        ax.invert_yaxis()
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)  # above: its dots are not results

    common.plot(a.out, "07_results.svg", draw, size=(7, 3.8))
    print("        a dot for each seed: the distance from training to validation is what was learned by heart")


if __name__ == "__main__":
    main()

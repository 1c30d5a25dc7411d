"""5. A network that writes, letter by letter; and what its units have learned.

First Karpathy's min-char-rnn (2015) in our vocabulary: one layer of 100 units, 25 letters at a time, the state carried
on and its gradient cut, Adagrad, gradients clipped to ±5. Then the model of his char-rnn: two layers of LSTM (here in
the quick form one small one), many rows of text at a time, RMSprop, a validation text.

Then a look inside, as Karpathy, Johnson & Li did ("Visualizing and understanding recurrent networks", 2015): for some
things that one can see in a text, such as the place in the line or being inside quotes, we look for the unit that goes
along with it most, and colour the text by its activation. No one told the network of lines or quotes.

Last, temperature: softmax(logits / t). Below 1 it writes what it is sure of, again and again; above 1 it gets wild.

    python examples/05_character_model.py --full --data tiny-shakespeare.txt     # 1 115 394 letters, as published
"""

import itertools
import math

import common
import numpy as np

import minigrad as mg
import rnn
from rnn.decode import chooser, generate
from rnn.language_model import LanguageModel
from rnn.text import Batches, Vocabulary, read_corpus
from rnn.train import Trainer


def min_char_rnn(ids, V, iterations, seed, H=100, T=25):
    """All of min-char-rnn but the sampling. The smoothed losses of 25 letters, in nats."""
    rng = np.random.default_rng(seed)
    Wxh, Whh, Why = (mg.nn.Parameter(0.01 * rng.normal(size=s), dtype=np.float32) for s in ((V, H), (H, H), (H, V)))
    bh, by = mg.nn.Parameter(np.zeros(H), dtype=np.float32), mg.nn.Parameter(np.zeros(V), dtype=np.float32)
    adagrad = mg.optim.Adagrad([Wxh, Whh, Why, bh, by], lr=0.1, eps=1e-4)
    smooth, p = [T * math.log(V)], len(ids)
    for _ in range(iterations):
        if p + T + 1 > len(ids):                                  # at the end of the text: from its beginning
            p, h = 0, mg.tensor(np.zeros((1, H), np.float32))
        x, y = np.eye(V, dtype=np.float32)[ids[p:p + T], None], ids[p + 1:p + T + 1]

        def step(h, a):
            h = np.tanh(a + h @ Whh)
            return h, h

        h, hs = mg.scan(step, h, mg.tensor(x) @ Wxh + bh, compiled="auto")
        loss = T * mg.cross_entropy(hs[:, 0] @ Why + by, y)
        adagrad.zero_grad()
        loss.backward()
        mg.optim.clip_grad_value(adagrad.parameters, 5.0)
        adagrad.step()
        h, p = h.detach(), p + T
        smooth.append(0.999 * smooth[-1] + 0.001 * loss.item())
    return smooth


def rows_split(ids, rows, steps):
    """The text as so many rows, the last 5 % of each for validation, as char-rnn has it."""
    windows = len(ids) // (rows * steps)
    learn = int(windows * 0.95) * steps
    table = ids[:rows * windows * steps].reshape(rows, -1)
    return np.append(table[:, :learn], ids[-1:]), np.append(table[:, learn:], ids[-1:])


def features(text):
    """Things that can be seen in a text, a number for each character."""
    rows, column, word, indent, quoted, depth = [], 0, 0, True, False, 0
    for c in text:
        column, word = (0 if c == "\n" else column + 1), (0 if c.isspace() else word + 1)
        indent = c == "\n" or (indent and c == " ")
        quoted ^= c == '"'
        depth = max(0, depth + (c in "([{") - (c in ")]}"))
        rows.append((column, word, indent, quoted, depth > 0, c.isupper(), c.isspace()))
    return dict(zip(("place in the line", "place in the word", "indentation", "inside quotes", "inside brackets",
                     "capital letters", "spaces"), np.array(rows, float).T))


def explained(h, text):
    """For each feature the largest correlation with a unit, and that unit; the best explained first."""
    z = (h - h.mean(0)) / (h.std(0) + 1e-6)
    found = {}
    for name, f in features(text).items():
        if f.std():
            r = (f - f.mean()) / f.std() @ z / len(f)
            found[name] = r[np.argmax(np.abs(r))], int(np.argmax(np.abs(r)))
    return dict(sorted(found.items(), key=lambda item: -abs(item[1][0])))


def main():
    a = common.arguments(__doc__, data="a text to learn, in place of the language reference inside Python")
    corpus = read_corpus(a.data or "python-reference", limit=None if a.full else 32_000)
    vocabulary = Vocabulary.from_text(corpus.text)
    ids, V = vocabulary.encode(corpus.text), len(vocabulary)

    iterations = 200 if not a.full else 10_000
    common.title(f"min-char-rnn on {corpus.name.split('/')[-1]}: {len(ids):,} letters of {V} kinds")
    smooth = min_char_rnn(ids, V, iterations, a.seed)
    for k in range(0, iterations + 1, iterations // 4):
        print(f"  iteration {k:6,}: smoothed loss of 25 letters {smooth[k]:.2f}")
    print(f"  (it begins at 25 ln {V} = {25 * math.log(V):.2f})")

    layers, H, B, T, epochs = (1, 64, 16, 32, 1) if not a.full else (2, 128, 50, 50, 3)
    model = LanguageModel(V, rnn.LSTM(V, H, layers))
    model.initialise(0.08, forget_bias=1.0, rng=a.seed)
    optimiser = mg.optim.RMSprop(model.parameters(), lr=2e-3 if a.full else 1e-2, alpha=0.95)
    learn, valid = rows_split(ids, B, T)
    trainer = Trainer(model, optimiser, Batches(learn, B, T), clip_value=5.0 / T, valid=valid)
    common.title(f"{layers} × LSTM-{H}, {len(trainer.batches)} steps an epoch")
    losses = []
    for epoch in range(1, epochs + 1):
        losses += [trainer.step().loss for _ in range(len(trainer.batches))]
        print(f"  epoch {epoch}: validation {trainer.validate().nats:.3f} nats a letter")

    common.title("Units that learned something (correlation with what one can see)")
    seen = valid[:4000]
    text = vocabulary.decode(seen)
    model.eval()
    with mg.no_grad():
        h = model.recurrent(np.eye(V, dtype=np.float32)[seen][None])[0].data[0]
    found, sections = explained(h, text), {}
    for name, (r, unit) in found.items():
        print(f"  {name:18} unit {unit:3}   {r:+.2f}")
        sections[f"{name}: unit {unit}, correlation {r:+.2f}"] = text[:500], h[:500, unit] / np.abs(h[:, unit]).max()
    for heading, section in list(sections.items())[:2]:
        print(f"\n  {heading}\n" + common.coloured_terminal(*section))

    common.title("Temperature")
    known = set(corpus.text.split())
    for t in (0.3, 0.7, 1.0, 1.5):
        choose = chooser(np.random.default_rng(a.seed), t)
        letters = generate(model, vocabulary.encode("The " if "The " in corpus.text else text[:4]), choose)
        said = vocabulary.decode(list(itertools.islice(letters, 150 if not a.full else 1000)))
        words = said.split()
        print(f"t = {t}: {sum(w in known for w in words) / max(1, len(words)):4.0%} of its words are in the text\n"
              f"    {said[:110]!r}")

    common.title("To look at")
    common.save(a.out, "05_units.html", common.coloured_html(sections))
    common.save(a.out, "05_units.svg", common.coloured_svg(dict(list(sections.items())[:3])))
    print("        each letter has the colour of a unit's activation there: blue below zero, orange above")

    def draw(left, right):
        left.plot(smooth)
        left.set(xlabel="iteration", ylabel="smoothed loss of 25 letters", title="min-char-rnn")
        right.plot(losses, linewidth=0.7)
        right.set(xlabel="step", ylabel="loss in nats a letter", title=f"{layers} × LSTM-{H}")

    common.plot(a.out, "05_loss.svg", draw, columns=2, size=(9, 3))


if __name__ == "__main__":
    main()

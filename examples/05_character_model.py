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
    smooth = [T * math.log(V)]

    def step(h, a):
        h = np.tanh(a + h @ Whh)
        return h, h

    for x, y, first in itertools.islice(Batches(ids, 1, T), iterations):
        if first:                                                 # at the beginning of the text
            h = mg.tensor(np.zeros((1, H), np.float32))
        h, hs = mg.scan(step, h, mg.tensor(mg.one_hot(x.T, V)) @ Wxh + bh, compiled="auto")
        loss = T * mg.cross_entropy(hs[:, 0] @ Why + by, y[0])
        adagrad.zero_grad()
        loss.backward()
        mg.optim.clip_grad_value(adagrad.parameters, 5.0)
        adagrad.step()
        h = h.detach()
        smooth.append(0.999 * smooth[-1] + 0.001 * loss.item())
    return smooth


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
    rows = ids[:len(ids) // (B * T) * B * T].reshape(B, -1)
    cut = int(rows.shape[1] // T * 0.95) * T              # as in char-rnn: the end of each row is for validation
    learn, valid = (np.append(part, ids[-1]) for part in (rows[:, :cut], rows[:, cut:]))
    trainer = Trainer(model, optimiser, Batches(learn, B, T), clip_value=5.0 / T, valid=valid)
    common.title(f"{layers} × LSTM-{H}, {len(trainer.batches)} steps an epoch")
    losses = []
    for epoch in range(1, epochs + 1):
        losses += [trainer.step().loss for _ in range(len(trainer.batches))]
        print(f"  epoch {epoch}: validation {trainer.validate().nats:.3f} nats a letter")

    common.title("Units that learned something (correlation with what one can see)")
    text = vocabulary.decode(valid[:4000])
    with mg.no_grad():
        h = model.recurrent(np.eye(V, dtype=np.float32)[valid[None, :4000]])[0].data[0]
    # of what does occur in the text: how far each unit goes along with it
    found = {name: np.corrcoef(seen, h.T)[0, 1:] for name, seen in common.visible(text).items() if seen.std()}
    sections = {}
    for name, r in sorted(found.items(), key=lambda item: -np.abs(item[1]).max()):
        unit = np.abs(r).argmax()
        print(f"  {name:18} unit {unit:3}   {r[unit]:+.2f}")
        heading = f"{name}: unit {unit}, correlation {r[unit]:+.2f}"
        sections[heading] = text[:500], h[:500, unit] / np.abs(h[:, unit]).max()
    for heading, section in list(sections.items())[:2]:
        print(f"\n  {heading}\n" + common.coloured_terminal(*section))

    common.title("Temperature")
    known = set(corpus.text.split())
    for t in (0.3, 0.7, 1.0, 1.5):
        choose = chooser(np.random.default_rng(a.seed), t)
        letters = generate(model, vocabulary.encode("The " if "The " in corpus.text else text[:4]), choose)
        said = vocabulary.decode(list(itertools.islice(letters, 150 if not a.full else 1000)))
        share = np.mean([word in known for word in said.split()] or 0)
        print(f"t = {t}: {share:4.0%} of its words are in the text\n    {said[:110]!r}")

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

"""8. A language model of words, one step at a time: layers, dropout, tied weights.

A word is an id, the id a vector; the vectors go through an LSTM, and a softmax over the whole vocabulary says which
word comes next. It is measured in perplexity, the exponential of the mean loss: among how many equally likely words the
model seems to choose. The steps:

1. One layer, as in "Deep Learning from Scratch 2" (Saito 2018): on the Penn Treebank 100 units come to a perplexity of
   134 to 136 in four epochs, with plain gradient descent at a rate of 20.
2. Two layers.
3. Dropout on the arrows that go up, not on those that go on in time (Zaremba, Sutskever & Vinyals 2014).
4. One matrix for reading and for writing words (Press & Wolf 2017; Inan, Khosravi & Socher 2017).

With --full every epoch ends with a checkpoint beside the figures, and a run that is started again goes on from there,
bit for bit. Quick, or without --data: the language reference inside every Python.
"""

import time

import common
import numpy as np

import minigrad as mg
import rnn
from rnn.language_model import LanguageModel, evaluate
from rnn.text import Batches, Vocabulary, read_corpus, split
from rnn.train import Trainer

options = common.arguments(__doc__, data="folder with Penn Treebank's ptb.train.txt, ptb.valid.txt and ptb.test.txt")
PUBLISHED = {"train": {1: 225, 2: 163, 3: 136, 4: 110}, "test": "134 to 136"}  # Penn Treebank, the first step
STEPS = {"one layer": {}, "two layers": {"num_layers": 2},
         "and dropout": {"num_layers": 2, "dropout": rnn.dropout.NonRecurrent(0.5 if options.data else 0.3)},
         "and tied weights": {"num_layers": 2, "dropout": rnn.dropout.NonRecurrent(0.5 if options.data else 0.3),
                              "tied": True}}
if options.data is not None:
    texts = [read_corpus(f"{options.data}/ptb.{part}.txt").text for part in ("train", "valid", "test")]
    vocabulary = Vocabulary.from_text(texts[0], "word")
    learn, valid, test = (vocabulary.encode(text) for text in texts)
else:
    text = read_corpus("python-reference", limit=None if options.full else 40_000).text
    vocabulary = Vocabulary.from_text(text, "word", min_count=2)
    learn, valid, test = split(vocabulary.encode(text), (0.8, 0.1, 0.1), batch_size=20, time_steps=35)
hidden, epochs = (100, 4 if options.data else 12) if options.full else (40, 2)
print(f"{len(learn):,} words to learn from, {len(vocabulary):,} different; {len(valid):,} for validation, "
      f"{len(test):,} for the test")


def new_trainer(tied: bool = False, **layers) -> Trainer:
    """A model with the first values of the book, and what trains it."""
    rng = np.random.default_rng(options.seed)
    lstm = rnn.LSTM(hidden, hidden, forget_bias=0.0, rng=rng, **layers)
    model = LanguageModel(len(vocabulary), lstm, hidden, tied=tied, rng=rng)
    for name, p in model.named_parameters():
        std = 0.01 if name.startswith("embedding") else p.shape[0] ** -0.5 if p.ndim == 2 else 0.0
        p.assign(mg.nn.initialisers.normal(p.shape, rng, std))
    sgd = mg.optim.SGD(model.parameters(), lr=20.0 if options.full else 10.0)
    return Trainer(model, sgd, Batches(learn, 20, 35, circular=True), clip_norm=0.25)  # as there: no state is reset


curves, scores = {}, []
for number, (name, settings) in enumerate(STEPS.items(), 1):
    common.title(f"{number}. {name}")
    trainer = new_trainer(**settings)
    print(f"{sum(p.size for p in trainer.model.parameters()):,} parameters, {len(trainer.batches):,} windows an epoch")
    path = options.out / f"08_{'ptb' if options.data else 'python'}_step_{number}_seed_{options.seed}.npz"
    curve, every = [], []
    if options.full and path.exists():
        saved = mg.load(path)
        trainer.load_state_dict(saved["trainer"])
        curve, every = saved["curve"], saved["losses"]
        print(f"going on after epoch {len(curve)}, from {path}")
    for epoch in range(len(curve) + 1, epochs + 1):
        start, cpu = time.perf_counter(), time.process_time()
        losses = [trainer.step().loss for _ in range(len(trainer.batches))]
        took, train = time.perf_counter() - start, float(np.exp(np.mean(losses[-20:])))  # of the last 20 windows
        cpu = time.process_time() - cpu
        curve.append([train, evaluate(trainer.model, valid, 10, 35).perplexity, took])
        every.append(losses)
        known = f" (published: {PUBLISHED['train'][epoch]})" if options.data and number == 1 else ""
        print(f"epoch {epoch}: perplexity {train:.1f} at the end{known}, {curve[-1][1]:.1f} in validation, "
              f"{took:.1f} s (CPU {cpu:.1f} s)", flush=True)
        if options.full:
            mg.save(path, {"trainer": trainer.state_dict(), "curve": curve, "losses": every})
    score = evaluate(trainer.model, test, 10, 35).perplexity
    known = f", published {PUBLISHED['test']}" if options.data and number == 1 and options.full else ""
    gain = f"; the step has brought {scores[-1] - score:+.2f}" if scores else ""
    print(f"test perplexity {score:.2f}{known}{gain}")
    scores.append(score)
    curves[f"{name}: {score:.1f}"] = curve

common.title("To stop and to go on")
straight, stopped, resumed = (new_trainer(**STEPS["and dropout"]) for _ in range(3))
for _ in range(4):
    straight.step()
for _ in range(2):
    stopped.step()
mg.save(options.out / "08_stopped.npz", stopped.state_dict())
resumed.load_state_dict(mg.load(options.out / "08_stopped.npz"))
(options.out / "08_stopped.npz").unlink()
for _ in range(2):
    resumed.step()
same = all(np.array_equal(a.data, b.data) for a, b in zip(straight.model.parameters(), resumed.model.parameters()))
print(f"two steps, a checkpoint, another two: {'the same bits as' if same else 'NOT'} four steps in one go")


def draw(ax) -> None:
    for name, curve in curves.items():
        ax.plot(range(1, len(curve) + 1), [point[1] for point in curve], ".-", label=name)
    ax.set(xlabel="epoch", ylabel="perplexity in validation", yscale="log",
           title=f"{'Penn Treebank' if options.data else 'The language reference of Python'}; legend: test perplexity")
    ax.legend()


common.plot(options.out, "08_word_model.svg", draw)
print("Look at what each step gains, and at how far training and validation are apart without dropout.")

"""9. From one sequence to another: sums and dates, read by an encoder and written by a decoder.

The encoder reads "52+607" and hands its last state to a decoder that writes "659", symbol after symbol (Sutskever,
Vinyals & Le 2014). Reading backwards brings the beginning of the question near that of the answer (the same paper),
and a decoder that sees the encoder's state at every step ("peeky") need not remember it (Cho et al. 2014). With
attention (Bahdanau, Cho & Bengio 2015; here the dot product of Luong, Pham & Manning 2015) the decoder looks back at
every symbol that was read, and shows where it looks; it has to, since it gets the encoder's h alone, not the memory c.
In training it gets the true symbol before (teacher forcing); scheduled sampling (Bengio et al. 2015) gives it its own
now and then, as it will be later on. The settings and the curves to compare with are those of Saito, "Deep Learning
from Scratch 2" (2018): addition 12 %, reversed 54 %, peeky 98 %; dates 99.9 %.

Quick: two digits and a few dates for some epochs, enough to see that it runs; nothing is learned to the end.
"""

import itertools
import time

import common
import numpy as np

import minigrad as mg
import rnn
from rnn.pairs import PairBatches, Pairs, addition, dates, read_pairs

options = common.arguments(__doc__, data="a file of lines `question_answer`, in place of sums and dates made up")
#: number of pairs, hidden size, epochs, batch size, step size: quick and full
SIZES = {"addition": ((1500, 32, 3, 64, 1e-2), (50_000, 128, 25, 128, 1e-3)),
         "dates": ((400, 32, 4, 32, 2e-2), (50_000, 256, 10, 128, 1e-3))}
MODELS = {"addition": {"plain": {}, "reversed": {"reverse": True}, "reversed, peeky": {"reverse": True, "peeky": True}},
          "dates": {"reversed, attention": {"reverse": True, "attention": "dot", "carry_cell": False}}}


def accuracy(model: rnn.Seq2Seq, data: Pairs, beam: int = 1) -> float:
    """How many questions are answered without a mistake, in %; with a beam, by the likeliest answer that is found."""
    longest = data.answers.shape[1] - 1
    if beam == 1:
        found = [answer for part in np.array_split(np.arange(len(data)), max(len(data) // 500, 1))
                 for answer in model.answer(data.questions[part], data.start, longest, data.end)]
    else:
        model.eval()
        found = [rnn.beam_search(*model.begin(q[None]), data.start, longest, beam, data.end)[0].symbols
                 for q in data.questions]
    return 100 * np.mean([data.text(a) == data.text(b) for a, b in zip(found, data.answers)])


def train(name: str, data: Pairs, test: Pairs, size: tuple, forcing: float = 1.0,
          **how) -> tuple[rnn.Seq2Seq, list[float]]:
    """A model after its epochs, and how it answered the test after each of them; with --full it can be stopped."""
    _, hidden, epochs, batch_size, rate = size
    model = rnn.Seq2Seq.build(len(data.vocabulary), hidden, 16, layer=rnn.LSTM, rng=options.seed, **how)
    adam = mg.optim.Adam(model.parameters(), lr=rate)
    batches = PairBatches(data, batch_size, rng=options.seed)
    parts, path = {"model": model, "adam": adam, "batches": batches}, common.kept(options, f"09_{name}")
    curve = common.load_training(path, parts) if options.full else []
    for epoch in range(len(curve), epochs):
        start, p = time.perf_counter(), 1 - (1 - forcing) * epoch / max(epochs - 1, 1)  # fewer true symbols by and by
        for batch in itertools.islice(batches, len(batches)):
            adam.zero_grad()
            loss = model.loss(batch.questions, batch.answers, teacher_forcing=p)
            loss.backward()
            mg.optim.clip_grad_norm(adam.parameters, 5.0)
            adam.step()
        curve.append(accuracy(model, test))
        took = time.perf_counter() - start
        print(f"    epoch {epoch + 1:2d}: loss {loss.item():.4f}, {curve[-1]:6.2f} % right, {took:.1f} s", flush=True)
        if options.full:
            common.save_training(path, parts, curve)
    return model, curve


def attention_map(model: rnn.Seq2Seq, test: Pairs) -> None:
    """Where the decoder looks while it writes: a row for each symbol written, a column for each symbol read."""
    rows = np.argsort([-len(test.text(q)) for q in test.questions], kind="stable")[[0, len(test) // 3, -1]]
    answers = model.answer(test.questions[rows], test.start, test.answers.shape[1] - 1, test.end)

    def draw(*axes):
        for ax, row, answer, weights in zip(axes, rows, answers, model.attention_weights):
            question, written = test.text(test.questions[row]), test.text(answer)
            ax.imshow(weights[:len(written), :len(question)], cmap="Blues", vmin=0, vmax=1)
            ax.set_xticks(range(len(question)), list(question))
            ax.set_yticks(range(len(written)), list(written))
            ax.tick_params(length=0)
            ax.grid(False)

    common.plot(options.out, "09_attention.svg", draw, rows=3, size=(7, 7))


curves = {}
given = None if options.data is None else read_pairs(options.data)
wanted = [*SIZES] if given is None else ["addition" if "+" in given[0][0] else "dates"]
for task in wanted:
    size = SIZES[task][options.full]
    digits = 3 if options.full else 2
    made = addition(min(size[0], 10 ** (2 * digits) // 2), digits, rng=options.seed) if task == "addition" else dates(
        size[0], rng=options.seed)
    data, test = Pairs.from_text(made if given is None else given[:None if options.full else size[0]]).split(0.9, 1984)
    print(f"{task}: {len(data):,} to learn from, {len(test):,} to be asked, such as "
          f"{test.text(test.questions[0])!r} → {test.text(test.answers[0])!r}")
    for name, how in MODELS[task].items():
        print(f"  {name}")
        model, curves[f"{task}: {name}"] = train(f"{task} {name}", data, test, size, **how)
    if task == "dates":
        attention_map(model, test)
    else:
        few = test[:500 if options.full else 50]
        print(f"  greedy {accuracy(model, few):.2f} %, beam of 5 {accuracy(model, few, 5):.2f} % of {len(few)}")
        print("  reversed, peeky, scheduled sampling: true symbols fall from all to three quarters")
        _, curves[f"{task}: … and scheduled sampling"] = train("sampled", data, test, size, 0.75, **how)


def draw_curves(ax) -> None:
    for name, curve in curves.items():
        ax.plot(range(1, len(curve) + 1), curve, marker=".", label=name)
    ax.set(xlabel="epoch", ylabel="answers without a mistake, %", ylim=(-2, 102))
    ax.legend()


common.plot(options.out, "09_accuracy.svg", draw_curves)
print("Look at the attention map: months are read where the month is written, whatever the order of the words.")

"""10. Many to one: a whole sentence, one verdict; sentences of different lengths in one batch.

Sentences are generated as reviews are written: "the plot was not dull but the music was awful we saw it on monday".
What is said last counts, "not" turns it round, and words without an opinion stand before and after. So the order of
the words matters, and a bag of words (the mean of their vectors) cannot get it right, however long it learns.

A batch is padded to its longest sentence. Given `lengths`, a layer stops at each sentence's own end: the state freezes,
the backward direction starts there, and what is returned is the last valid step. Then padding cannot be seen, which is
checked below by padding more. Without `lengths` the layer reads the padding too, and its verdict has to survive that.
The bidirectional reader is that of Schuster & Paliwal (1997), the gated unit that of Cho et al. (2014).
"""

import common
import numpy as np

import minigrad as mg
import rnn

GOOD, BAD = ["good", "great", "lovely", "funny", "clever"], ["bad", "dull", "awful", "boring", "silly"]
THINGS = ["film", "plot", "music", "cast", "end"]
FILLERS = ["we", "saw", "it", "on", "monday", "in", "the", "rain", "with", "some", "friends"]
WORDS = ["<pad>", *dict.fromkeys([*GOOD, *BAD, *THINGS, *FILLERS, "the", "was", "not", "very", "but"])]
IDS = {word: k for k, word in enumerate(WORDS)}


def sentence(rng: np.random.Generator) -> tuple[list[str], int]:
    """A review and whether it likes the film."""
    words = FILLERS[:rng.integers(0, 6)]
    for k in range(rng.integers(1, 3)):
        likes, negated = rng.integers(2), rng.integers(2)
        opinion = (GOOD if likes else BAD)[rng.integers(5)]
        words = [*words, *["but"][:k], "the", THINGS[rng.integers(5)], "was", *["not"][:negated],
                 *["very"][:rng.integers(2)], opinion]
    return [*words, *FILLERS[:rng.integers(0, len(FILLERS))]], int(likes != negated)


def batch(rng: np.random.Generator, size: int, more: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids (size, longest + more) padded with 0, lengths (size,), labels (size,)."""
    made = [sentence(rng) for _ in range(size)]
    lengths = np.array([len(words) for words, _ in made])
    ids = np.zeros((size, lengths.max() + more), int)
    for row, (words, _) in zip(ids, made):
        row[:len(words)] = [IDS[word] for word in words]
    return ids, lengths, np.array([label for _, label in made])


class Reader(mg.nn.Module):
    """Embedding, a layer or none, a verdict."""

    def __init__(self, how: str, hidden: int, rng: np.random.Generator) -> None:
        self.how = how
        self.embedding = mg.nn.Embedding(len(WORDS), 16, rng=rng)
        both = how == "both directions"
        self.layer = None if how == "bag of words" else rnn.GRU(
            16, hidden, bidirectional=both, return_sequences=how.startswith("mean"), rng=rng)
        self.output = mg.nn.Linear(16 if self.layer is None else self.layer.output_size, 2, rng=rng)

    def forward(self, ids: np.ndarray, lengths: np.ndarray) -> mg.Tensor:
        x = self.embedding(ids)
        if self.layer is None:
            mask = (ids > 0)[..., None].astype(np.float32)
            return self.output(np.sum(x * mask, axis=1) / lengths[:, None].astype(np.float32))
        h, _ = self.layer(x, lengths=None if self.how == "padding is read" else lengths)
        if self.how.startswith("mean"):  # outputs past the end are zeros, so that only valid steps count
            h = np.sum(h, axis=1) / lengths[:, None].astype(np.float32)
        return self.output(h)


options = common.arguments(__doc__)
rng = np.random.default_rng(options.seed)
asked = batch(rng, 5000 if options.full else 300)
hidden, steps = (48, 1000) if options.full else (24, 105)
print(f"'{' '.join(WORDS[k] for k in asked[0][0] if k)}' → {'good' if asked[2][0] else 'bad'}; "
      f"{asked[1].min()} to {asked[1].max()} words")
common.title(f"How many of {len(asked[0])} new sentences are understood")
readers, curves = {}, {}
for how in ("bag of words", "padding is read", "last valid step", "mean over valid steps", "both directions"):
    own = np.random.default_rng(options.seed + 1)
    reader = readers[how] = Reader(how, hidden, own)
    adam = mg.optim.Adam(reader.parameters(), lr=5e-3 if options.full else 1.5e-2)
    curve = []
    for step in range(steps):
        ids, lengths, labels = batch(own, 64)
        adam.zero_grad()
        mg.cross_entropy(reader(ids, lengths), labels).backward()
        mg.optim.clip_grad_norm(adam.parameters, 1.0)
        adam.step()
        if (step + 1) % (steps // (20 if options.full else 3)) == 0:
            with mg.no_grad():
                right = np.argmax(reader(*asked[:2]).data, axis=-1) == asked[2]
            curve.append((step + 1, 100 * right.mean()))
    curves[how] = curve
    print(f"{how:24}{curve[-1][1]:6.1f} %")

common.title("Padding cannot be seen")
ids, lengths, _ = batch(np.random.default_rng(5), 8)
more = np.pad(ids, ((0, 0), (0, 25)))
with mg.no_grad():
    for how in ("last valid step", "both directions", "padding is read"):
        change = np.abs(readers[how](ids, lengths).data - readers[how](more, lengths).data).max()
        print(f"{how:24}25 more blanks change the verdict by {change:.1e}")
tried = ["the", "plot", "was", "good", "but", "the", "music", "was", "not", "very", "funny", "we", "saw", "it"]
reader = readers["last valid step"]
with mg.no_grad():  # the verdict after each word: a batch of all beginnings, which have different lengths
    ids = np.tril(np.tile([IDS[word] for word in tried], (len(tried), 1)))
    verdicts = mg.softmax(reader(ids, np.arange(1, len(tried) + 1))).data[:, 1]


def draw(left, right) -> None:
    for how, curve in curves.items():
        left.plot(*zip(*curve), ".-", label=how)
    left.set(xlabel="step", ylabel="sentences understood, %", ylim=(45, 101))
    left.legend(loc="center right", fontsize=8)
    colours = ["#009E73" if v > 0.5 else "#D55E00" for v in verdicts]
    right.bar(range(len(tried)), verdicts - 0.5, bottom=0.5, color=colours)
    right.set_xticks(range(len(tried)), tried, rotation=60, ha="right")
    right.set(ylim=(0, 1), ylabel="probability of a good review", title="The verdict while the sentence is read")


common.plot(options.out, "10_many_to_one.svg", draw, columns=2, size=(11, 4))
print("Look at where the verdict turns: at each opinion, at 'not', and not at the words after it.")

"""11. A convolutional network from the same engine: kernels, stride, padding, dilation, pooling, dropout, softmax.

A kernel is a small picture that is held against every place of a large one (Fukushima 1980; LeCun et al. 1989: learned
by backpropagation). `mg.conv2d` cuts out every patch and multiplies them all with all kernels at once, so that its
gradient is not written anywhere: it comes from that of cutting and that of a matrix product. Stride steps over places,
dilation (Yu & Koltun 2016) spreads the kernel, 'same' pads so that every place has an answer, 'valid' does not. Pooling
keeps the largest answer of a neighbourhood, or the mean; dropout (Srivastava et al. 2014) leaves out half of what is
known, so that no verdict hangs on one kernel.

Without --data it learns circles, squares, triangles and crosses; with the test set of MNIST (10 000 digits, LeCun et
al. 1998) it learns from 8 000 and is asked the other 2 000.
"""

import gzip
import itertools
import time
from pathlib import Path

import common
import numpy as np

import minigrad as mg
from minigrad import nn

options = common.arguments(__doc__, data="folder with MNIST's test set: files with 'images' and 'labels' in the names")
rng = np.random.default_rng(options.seed)
SHAPES = ("circle", "square", "triangle", "cross")


def shapes(number: int, side: int = 28) -> tuple[np.ndarray, np.ndarray]:
    """Outlines at random places and sizes, with noise: (number, 1, side, side) and which of SHAPES each is."""
    labels = rng.integers(0, 4, number)
    y, x = np.mgrid[:side, :side][:, None]
    cx, cy = rng.uniform(0.35 * side, 0.65 * side, (2, number, 1, 1))
    r = rng.uniform(0.18 * side, 0.32 * side, (number, 1, 1))
    u, v = (x - cx) / r, (y - cy) / r
    distances = np.stack([np.hypot(u, v), np.maximum(abs(u), abs(v)), np.maximum(v, abs(2 * u) - v - 1),
                          1 + np.minimum(abs(u - v), abs(u + v)) / 1.5 + np.maximum(np.hypot(u, v) - 1.2, 0)])
    drawn = np.exp(-((np.take_along_axis(distances, labels[None, :, None, None], 0)[0] - 1) * r) ** 2)
    return (drawn + 0.15 * rng.normal(size=drawn.shape)).astype(np.float32)[:, None], labels


def read_idx(folder: Path, word: str) -> np.ndarray:
    """The array in MNIST's format: two zeros, type, number of axes, sizes (big-endian), then the bytes."""
    path = min(p for p in folder.iterdir() if word in p.name)
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(np.frombuffer(raw, ">i4", raw[3], 4))


common.title("What the options do to a picture of 28 × 28")
shape = shapes(1)[0]
edge = np.array([[[[1, 0, -1], [2, 0, -2], [1, 0, -1]]]], np.float32)  # Sobel: where it gets darker to the right
tried = {"valid": {}, "same": {"padding": "same"}, "stride 2": {"stride": 2}, "dilation 3": {"dilation": 3}}
answers = {name: mg.conv2d(mg.tensor(shape), mg.tensor(edge), **how).data[0, 0] for name, how in tried.items()}
for name, pool in (("max pooled", mg.max_pool2d), ("mean pooled", mg.avg_pool2d)):
    answers[name] = pool(mg.tensor(answers["same"][None, None]), 4).data[0, 0]
for name, answer in answers.items():
    print(f"{name:12}{answer.shape[0]} × {answer.shape[1]}")

if options.data:
    images = read_idx(Path(options.data), "images")[:, None].astype(np.float32) / 255
    labels = read_idx(Path(options.data), "labels").astype(int)
    order = rng.permutation(len(images))
    images, labels, cut = images[order], labels[order], len(order) * 4 // 5
else:
    cut = 4000 if options.full else 600
    images, labels = shapes(cut + 400)
(learn, ask), (learn_labels, ask_labels) = np.split(images, [cut]), np.split(labels, [cut])
classes, epochs = labels.max() + 1, (8 if options.full else 1) if options.data else (6 if options.full else 4)


def network(pool: type[nn.Module], drop: float) -> nn.Sequential:
    """Two convolutions, each pooled; then two layers of units."""
    r = np.random.default_rng(options.seed)
    return nn.Sequential(nn.Conv2d(1, 8, 5, padding="same", rng=r), nn.ReLU(), pool(2),
                         nn.Conv2d(8, 16, 3, padding="valid", rng=r), nn.ReLU(), pool(3), nn.Flatten(),
                         nn.Dropout(drop, rng=r), nn.Linear(16 * 4 * 4, 64, rng=r), nn.ReLU(),
                         nn.Linear(64, classes, rng=r))


def right(net: nn.Sequential) -> float:
    """How many of the pictures that were held out are named, in %."""
    net.eval()
    with mg.no_grad():
        named = [np.argmax(net(mg.tensor(part)).data, axis=-1) for part in np.array_split(ask, 10)]
    net.train()
    return 100 * np.mean(np.concatenate(named) == ask_labels)


common.title(f"{len(learn):,} to learn from, {len(ask):,} held out, {classes} classes")
nets = {}
variants = itertools.product((nn.MaxPool2d, nn.AvgPool2d), (0.5, 0.0)) if options.full else ((nn.MaxPool2d, 0.0),)
for pool, drop in variants:
    net = nets[pool, drop] = network(pool, drop)
    adam = mg.optim.Adam(net.parameters(), lr=2e-3 if options.full else 5e-3)
    schedule, start = mg.optim.CosineLR(adam, epochs), time.perf_counter()
    print(f"{pool.__name__}, dropout {drop}: ", end="")
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(cut), cut // 50):
            adam.zero_grad()
            mg.cross_entropy(net(mg.tensor(learn[rows])), learn_labels[rows]).backward()
            adam.step()
        schedule.step()
        print(f"{right(net):.2f}", end=" ", flush=True)
    print(f"% right after each epoch, {time.perf_counter() - start:.1f} s")
print(f"one of class {ask_labels[0]}: softmax gives", *mg.softmax(net.eval()(mg.tensor(ask[:1]))).data[0].round(3))


def draw(*axes) -> None:
    net = next(iter(nets.values()))
    seen = net[1](net[0](mg.tensor(ask[:1])))
    deep = net[4](net[3](net[2](seen)))
    rows = [("input", shape[0, 0]), *answers.items(), ("a picture to name", ask[0, 0])]
    rows += [(f"kernel {k + 1}", kernel[0]) for k, kernel in enumerate(net[0].weight.data)]
    rows += [(f"its answer {k + 1}", answer) for k, answer in enumerate(seen.data[0])]
    rows += [(f"second layer {k + 1}", answer) for k, answer in enumerate(deep.data[0, :8])]
    for ax, (name, values) in zip(axes, rows):
        common.picture(ax, name, values, grey=name in ("input", "a picture to name"))


common.plot(options.out, "11_convolution.svg", draw, rows=4, columns=8, size=(11, 6))
print("Look at the second row: the network has found kernels for edges by itself. Below: what each of them answers.")

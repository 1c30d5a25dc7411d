"""Random shapes, axes and indices: values against NumPy, gradients against PyTorch where it is installed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose

import minigrad as mg

try:
    import torch

    torch.set_num_threads(1)
except ImportError:
    torch = None  # type: ignore[assignment]

quick = settings(max_examples=40, derandomize=True, deadline=None, database=None,
                 suppress_health_check=list(HealthCheck))
needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is the reference here")

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
full_shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)
seeds = st.integers(0, 2**32 - 1)


def random(shape: Any, seed: int) -> Any:
    return np.asarray(np.random.default_rng(seed).uniform(0.5, 2.0, shape))


def compare(ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: Any) -> None:
    """Value and gradients of both, from the same random cotangent."""
    xs = [mg.tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, t = ours(*xs), theirs(*ts)
    assert_allclose(y.data, t.detach().numpy(), rtol=1e-10, atol=1e-12)
    g = np.asarray(np.random.default_rng(0).standard_normal(y.shape))
    y.backward(g)
    t.backward(torch.tensor(g))
    for x, reference in zip(xs, ts):
        expected = np.zeros(x.shape) if reference.grad is None else reference.grad.numpy()
        assert_allclose(np.zeros(x.shape) if x.grad is None else x.grad, expected, rtol=1e-9, atol=1e-11)


# ------------------------------------------------------------------------------------------------------------
# Values: NumPy's
# ------------------------------------------------------------------------------------------------------------


@quick
@given(st.data())
def test_binary_functions_broadcast_as_numpy_does(data: Any) -> None:
    a, b = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0,
                                                       max_side=3)).input_shapes
    x, y = random(a, 1), random(b, 2)
    f = data.draw(st.sampled_from([np.add, np.multiply, np.divide, np.power, np.maximum, np.hypot,
                                   np.logaddexp]))
    dtypes = st.sampled_from([np.float16, np.float32, np.float64, np.int32])
    p, q = x.astype(data.draw(dtypes)), y.astype(data.draw(dtypes))
    ours, expected = f(mg.tensor(p), mg.tensor(q)), np.asarray(f(p, q))
    assert ours.dtype == expected.dtype
    assert_allclose(ours.data, expected)
    s, t = mg.tensor(x, requires_grad=True), mg.tensor(y, requires_grad=True)
    (s * t).backward(g := random((x * y).shape, 3))
    for leaf, full in ((s, g * y), (t, g * x)):
        lead = full.ndim - leaf.ndim
        stretched = tuple(i + lead for i, n in enumerate(leaf.shape) if n != full.shape[i + lead])
        assert_allclose(leaf.grad, full.sum((*range(lead), *stretched)).reshape(leaf.shape), rtol=1e-12)


@quick
@given(full_shapes, st.data())
def test_reductions_and_their_gradients_obey_the_axes(shape: tuple[int, ...], data: Any) -> None:
    n = len(shape)
    axis = data.draw(st.one_of(st.none(), st.integers(-n, n - 1),
                               st.lists(st.integers(0, n - 1), unique=True, min_size=1).map(tuple)))
    keepdims = data.draw(st.booleans())
    x = random(shape, 0)
    for f in (np.sum, np.mean, np.max, np.min, np.prod, np.var, np.std):
        t = mg.tensor(x, requires_grad=True)
        y = f(t, axis=axis, keepdims=keepdims)
        assert_allclose(y.data, f(x, axis=axis, keepdims=keepdims))
        y.sum().backward()
        assert t.grad.shape == shape
        if f in (np.sum, np.max, np.min):
            assert_allclose(t.grad.sum(), y.size if f is not np.sum else x.size)
        if f is np.mean:
            assert_allclose(t.grad, y.size / x.size)
        if f is np.prod:  # Euler: a product of n factors is homogeneous of degree n
            assert_allclose((t.grad * x).sum(), y.data.sum() * x.size / y.size)


@quick
@given(full_shapes, st.data())
def test_every_index_is_numpys_and_its_gradient_counts_picks(shape: tuple[int, ...], data: Any) -> None:
    index = data.draw(st.one_of(
        hnp.basic_indices(shape, allow_newaxis=True, max_dims=6),
        hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, min_side=0, max_side=3)),
        hnp.arrays(bool, shape)))
    x = random(shape, 0)
    t = mg.tensor(x, requires_grad=True)
    y = t[index]
    assert_allclose(y.data, x[index])
    y.backward(g := random(y.shape, 1))
    expected = np.zeros(shape)
    np.add.at(expected, index, g)
    assert_allclose(t.grad, expected)


@quick
@given(full_shapes, st.data())
def test_moving_axes_and_back(shape: tuple[int, ...], data: Any) -> None:
    """Whatever permutes entries has the inverse permutation as its gradient: f(g pulled back) is g."""
    n = len(shape)
    axes = data.draw(st.permutations(range(n)))
    axis = data.draw(st.integers(-n, n - 1))
    shift = data.draw(st.integers(-5, 5))
    x = random(shape, 0)
    for f in (lambda t: np.transpose(t, axes), lambda t: np.flip(t, axis), lambda t: np.roll(t, shift, axis),
              lambda t: np.swapaxes(t, 0, axis), lambda t: np.moveaxis(t, axis, 0),
              lambda t: np.reshape(t, -1),
              lambda t: np.sort(t, axis=axis)):
        t = mg.tensor(x, requires_grad=True)
        y = f(t)
        assert_allclose(y.data, f(x))
        y.backward(y.data)
        assert_allclose(t.grad, x)


@quick
@given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.integers(0, 2), st.integers(1, 3))
def test_joining_and_parting_are_inverse(sizes: list[int], axis: int, side: int) -> None:
    parts = [random([n if i == axis else side for i in range(3)], k) for k, n in enumerate(sizes)]
    ts = [mg.tensor(p, requires_grad=True) for p in parts]
    joined = np.concatenate(ts, axis=axis)
    assert_allclose(joined.data, np.concatenate(parts, axis=axis))
    back = np.split(joined, np.cumsum(sizes)[:-1], axis=axis)
    total = sum((b * p).sum() for b, p in zip(back, parts))
    for g, p in zip(mg.grad(total, ts), parts):
        assert_allclose(g.data, p)


@quick
@given(full_shapes, seeds)
def test_gradients_are_linear_in_the_cotangent(shape: tuple[int, ...], seed: int) -> None:
    x = mg.tensor(random(shape, seed), requires_grad=True)
    y = np.tanh(x * 2.0) * mg.softmax(x) + np.cumsum(x, axis=-1)
    g, h = random(shape, 1), random(shape, 2)
    a, b, c = (mg.grad(y, x, v, retain_graph=True)[0].data for v in (g, h, 2 * g - 3 * h))
    assert_allclose(c, 2 * a - 3 * b, atol=1e-10)


# ------------------------------------------------------------------------------------------------------------
# Gradients: PyTorch's
# ------------------------------------------------------------------------------------------------------------


@needs_torch
@quick
@given(st.data())
def test_matmul_of_all_kinds(data: Any) -> None:
    side = st.integers(0, 4)
    k = data.draw(side)
    stack = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, min_side=1,
                                                        max_side=3)).input_shapes
    a = data.draw(st.sampled_from([(k,), (*stack[0], data.draw(side), k)]))
    b = data.draw(st.sampled_from([(k,), (*stack[1], k, data.draw(side))]))
    compare(np.matmul, torch.matmul, random(a, 0), random(b, 1))


@needs_torch
@quick
@given(st.data())
def test_einsum_of_all_kinds(data: Any) -> None:
    sizes = dict(zip("ijkl", (2, 3, 1, 2)))
    letters = st.sampled_from("ijkl")
    terms = data.draw(st.lists(st.lists(letters, min_size=0, max_size=3, unique=True).map("".join),
                               min_size=1, max_size=3))
    used = sorted(set("".join(terms)))
    right = "".join(data.draw(st.permutations(used))[:data.draw(st.integers(0, len(used)))])
    subscripts = f"{','.join(terms)}->{right}"
    arrays = [random([sizes[c] for c in term], i) for i, term in enumerate(terms)]
    compare(lambda *xs: np.einsum(subscripts, *xs), lambda *ts: torch.einsum(subscripts, *ts), *arrays)


@needs_torch
@quick
@given(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.integers(1, 3),
       st.tuples(*[st.integers(0, 2)] * 2),
       st.tuples(*[st.integers(1, 3)] * 2), st.tuples(*[st.integers(1, 2)] * 2))
def test_conv2d(channels: int, filters: int, k: int, l: int, padding: Any, stride: Any,
                dilation: Any) -> None:
    x, w, b = random((2, channels, 7, 6), 0), random((filters, channels, k, l), 1), random(filters, 2)
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    compare(lambda x, w, b: mg.conv2d(x, w, b, **options),
            lambda x, w, b: torch.nn.functional.conv2d(x, w, b, **options), x, w, b)


@needs_torch
@pytest.mark.filterwarnings("ignore:Using padding='same'")  # it is slower there for even kernels
@quick
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), seeds)
def test_conv2d_same(k: int, l: int, dilation: int, seed: int) -> None:
    compare(lambda x, w: mg.conv2d(x, w, padding="same", dilation=dilation),
            lambda x, w: torch.nn.functional.conv2d(x, w, padding="same", dilation=dilation),
            random((1, 2, 5, 6), seed), random((2, 2, k, l), seed + 1))


@needs_torch
@quick
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), seeds)
def test_pooling(k: int, l: int, stride: int, seed: int) -> None:
    x = np.random.default_rng(seed).permutation(60).reshape(1, 2, 5, 6) / 7.0
    F = torch.nn.functional
    compare(lambda x: mg.max_pool2d(x, (k, l), stride), lambda x: F.max_pool2d(x, (k, l), stride), x)
    compare(lambda x: mg.avg_pool2d(x, (k, l), stride), lambda x: F.avg_pool2d(x, (k, l), stride), x)


@needs_torch
@quick
@given(full_shapes, st.data())
def test_softmax_family(shape: tuple[int, ...], data: Any) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = random(shape, 0) * 20 - 20
    compare(lambda x: mg.softmax(x, axis), lambda x: torch.softmax(x, axis), x)
    compare(lambda x: mg.log_softmax(x, axis), lambda x: torch.log_softmax(x, axis), x)
    compare(lambda x: mg.logsumexp(x, axis), lambda x: torch.logsumexp(x, axis), x)
    compare(lambda x: np.cumprod(x, axis), lambda x: torch.cumprod(x, axis), np.round(x))
    compare(lambda x: np.take_along_axis(x, np.argsort(x.data, axis), axis),
            lambda x: torch.sort(x, axis).values, x)


@needs_torch
@quick
@given(st.integers(1, 5), st.integers(1, 4), st.sampled_from(["mean", "sum", "none"]), seeds)
def test_losses(rows: int, classes: int, reduction: Any, seed: int) -> None:
    x, t = random((rows, classes), seed) * 5, np.random.default_rng(seed).integers(0, classes, rows)
    F = torch.nn.functional
    compare(lambda x: mg.cross_entropy(x, t, reduction),
            lambda x: F.cross_entropy(x, torch.tensor(t), reduction=reduction), x)
    compare(lambda x: mg.nll_loss(x, t, reduction),
            lambda x: F.nll_loss(x, torch.tensor(t), reduction=reduction), x)
    compare(lambda a, b: mg.mse_loss(a, b, reduction), lambda a, b: F.mse_loss(a, b, reduction=reduction), x,
            x * 2)
    compare(lambda x, w, b: mg.layer_norm(x, w, b), lambda x, w, b: F.layer_norm(x, (classes,), w, b),
            x, random(classes, 1), random(classes, 2))


#: Steps a random program is made of: a function of the values so far and a picker of one of them.
STEPS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (lambda a, b: a + b, lambda a, b: a + b),
    (lambda a, b: a * b * 0.3, lambda a, b: a * b * 0.3),
    (lambda a, b: a / (b * b + 1.0), lambda a, b: a / (b * b + 1.0)),
    (lambda a, b: np.tanh(a) - b, lambda a, b: torch.tanh(a) - b),
    (lambda a, b: a @ b * 0.2, lambda a, b: a @ b * 0.2),
    (lambda a, b: np.where(a > b, a, b * 0.5), lambda a, b: torch.where(a > b, a, b * 0.5)),
    (lambda a, b: np.maximum(a, 0.7) + b[::-1], lambda a, b: torch.clamp(a, min=0.7) + torch.flip(b, [0])),
    (lambda a, b: mg.softmax(a) * b.T, lambda a, b: torch.softmax(a, -1) * b.T),
    (lambda a, b: a[[0, 2, 2]] + b.mean(0), lambda a, b: a[[0, 2, 2]] + b.mean(0)),
    (lambda a, b: np.stack([a[0], b[1], a[2]]), lambda a, b: torch.stack([a[0], b[1], a[2]])),
    (lambda a, b: mg.sigmoid(a) * b.sum(1, keepdims=True),
     lambda a, b: torch.sigmoid(a) * b.sum(1, keepdim=True)),
    (lambda a, b: np.concatenate([a[:1], b[1:]]), lambda a, b: torch.cat([a[:1], b[1:]])),
    (lambda a, b: np.cumsum(a, axis=1) * 0.5 - b, lambda a, b: torch.cumsum(a, 1) * 0.5 - b),
    (lambda a, b: np.sqrt(a * a + 1.0) + b, lambda a, b: torch.sqrt(a * a + 1.0) + b),
]


@needs_torch
@quick
@given(st.lists(st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 9), st.integers(0, 9)), min_size=1,
                max_size=10),
       seeds)
def test_random_programs(program: list[tuple[int, int, int]], seed: int) -> None:
    """Value, gradient and Hessian-vector product of random graphs."""
    arrays = [np.random.default_rng(seed + i).standard_normal((3, 3)) for i in range(2)]
    v = np.random.default_rng(seed + 2).standard_normal((3, 3))

    def run(leaves: list[Any], side: int) -> Any:
        values = list(leaves)
        for step, i, j in program:
            values.append(STEPS[step][side](values[i % len(values)], values[-1 - j % len(values)]))
        return (values[-1] * values[-1]).sum() + sum((x * x).sum() for x in leaves)

    xs = [mg.tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, t = run(xs, 0), run(ts, 1)
    assert_allclose(y.item(), t.item(), rtol=1e-9)
    first, reference = mg.grad(y, xs, create_graph=True), torch.autograd.grad(t, ts, create_graph=True)
    for a, b in zip(first, reference):
        assert_allclose(a.data, b.detach().numpy(), rtol=1e-7, atol=1e-8 * (1 + abs(y.item())))
    ours = mg.grad(sum((a * v).sum() for a in first), xs)
    theirs = torch.autograd.grad(sum((b * torch.tensor(v)).sum() for b in reference), ts)
    scale = 1 + max(float(b.abs().max()) for b in theirs)
    assert math.isfinite(scale)
    for a, b in zip(ours, theirs):
        assert_allclose(a.data, b.numpy(), rtol=1e-6, atol=1e-8 * scale)

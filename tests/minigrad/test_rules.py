"""The derivative table, line by line: every sample of every primitive against NumPy and differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from samples import DECLARED, GROUPS, SAMPLES, Sample, generator

import minigrad as mg
from minigrad.primitive import TABLE, Primitive
from minigrad.recording import watching

every_sample = pytest.mark.parametrize("sample", GROUPS.values(), ids=GROUPS)


def leaves(arrays: Sequence[Any], dtype: Any = np.float64) -> list[mg.Tensor]:
    return [mg.tensor(a, requires_grad=True, dtype=dtype) for a in arrays]


@cache
def numbers(shape: tuple[int, ...], dtype: Any, *key: Any) -> Any:
    found = np.asarray(generator(shape, *key).standard_normal(shape)).astype(dtype)
    found.flags.writeable = False
    return found


def cotangent(y: Any, *key: Any) -> Any:
    """Random numbers of y's shape and dtype, the same for the same key."""
    return numbers(y.shape, y.dtype, *key)


def gradients(y: mg.Tensor, xs: Sequence[mg.Tensor], g: Any = None, create_graph: bool = False) -> list[Any]:
    """`mg.grad`, with zeros where y does not depend on an x."""
    found = mg.grad(y, xs, g, create_graph=create_graph) if y.requires_grad else [None] * len(xs)
    return [mg.tensor(np.zeros(x.shape, x.dtype)) if d is None else d for x, d in zip(xs, found)]


def raw_gradients(sample: Sample, arrays: Sequence[Any], dtype: Any = np.float64) -> list[Any]:
    """The gradients of an ordinary backward from a random cotangent."""
    xs = leaves(arrays, dtype)
    y = sample.f(*xs)
    y.backward(cotangent(y, sample.id))
    return [x.grad for x in xs]


# ------------------------------------------------------------------------------------------------------------
# The table of samples is complete
# ------------------------------------------------------------------------------------------------------------


def test_every_primitive_has_a_sample() -> None:
    seen: set[Primitive] = set()
    for sample in SAMPLES:
        seen.update(node.primitive for node in mg.tape(sample.f(*leaves(sample.args))))
    assert [p for p in DECLARED if p.rules and p not in seen] == []


def test_every_public_function_has_a_sample() -> None:
    shown = {s.of for s in SAMPLES}
    differentiable = {f.__name__ for f, do in TABLE.items() if not isinstance(do, Primitive) or do.rules}
    ours = {"sigmoid", "relu", "softplus", "gelu", "softmax", "log_softmax", "logsumexp", "cross_entropy",
            "nll_loss", "mse_loss", "binary_cross_entropy_with_logits", "dropout", "embedding", "conv2d",
            "max_pool2d", "avg_pool2d", "layer_norm", "linear", "clip_gradient",
            "stop_gradient"}
    about_shapes = {"shape", "ndim", "size", "nonzero"}
    assert (differentiable | ours) - about_shapes - shown == set()


def test_every_sample_has_its_own_name_and_is_in_a_group() -> None:
    names = [s.id for s in SAMPLES]
    assert len(set(names)) == len(names)
    assert sorted(s.id for group in GROUPS.values() for s in group) == sorted(names)


# ------------------------------------------------------------------------------------------------------------
# Values
# ------------------------------------------------------------------------------------------------------------


@every_sample
def test_value_is_numpys(sample: Sample) -> None:
    y = sample.f(*leaves(sample.args))
    expected = np.asarray(sample.reference(*sample.args))
    assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
    assert_allclose(y.data, expected, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------------------------------------------------
# Derivatives
# ------------------------------------------------------------------------------------------------------------


def slope(f: Callable[..., float], arrays: Sequence[Any], directions: Sequence[Any],
          h: float = 1e-5) -> float:
    """The derivative of f along a direction, by central differences."""
    at = lambda t: f(*(a + t * d for a, d in zip(arrays, directions)))
    return (at(h) - at(-h)) / (2 * h)


def projection(f: Callable[..., mg.Tensor], order: int, key: str) -> Callable[[Sequence[Any]], mg.Tensor]:
    """A number that depends on the `order`-th derivative of f: gradients times random cotangents, summed."""

    def number(xs: Sequence[mg.Tensor]) -> mg.Tensor:
        y = f(*xs)
        total = np.sum(y * cotangent(y, key))
        for k in range(order):
            parts = gradients(total, xs, create_graph=True)
            total = sum(np.sum(g * cotangent(g, key, k, i)) for i, g in enumerate(parts))
        return total

    return number


@every_sample
def test_P4_three_derivatives_agree_with_central_differences(sample: Sample) -> None:
    """Each order is compared with differences of the one below it, along a random direction."""
    directions = [cotangent(a, sample.id, "direction", i) for i, a in enumerate(sample.args)]
    for order in (1, 2, 3):
        number = projection(sample.f, order - 1, sample.id)
        xs = leaves(sample.args)
        exact = sum(float((g.data * d).sum()) for g, d in zip(gradients(number(xs), xs), directions))
        numeric = slope(lambda *arrays, f=number: f(leaves(arrays)).item(), sample.args, directions)
        assert_allclose(exact, numeric, rtol=1e-6, atol=1e-7, err_msg=f"derivative {order}")


@every_sample
def test_P4_raw_and_graph_gradients_are_the_same_bits(sample: Sample) -> None:
    """The ordinary backward runs on arrays that cannot be written to, the other one on Tensors."""
    xs = leaves(sample.args)
    for x in xs:
        x._data.flags.writeable = False

    def freeze(phase: str, primitive: Primitive, node: Any, arguments: Any, result: Any) -> None:
        for array in result if isinstance(result, list) else [result]:
            if isinstance(array, np.ndarray):
                array.flags.writeable = False

    with watching(freeze):
        y = sample.f(*xs)
        seed = cotangent(y, sample.id)
        raw = mg.grad(y, xs, seed)
    graph = mg.grad(sample.f(*xs), xs, seed, create_graph=True)
    for x, a, b in zip(xs, raw, graph):
        assert (a is None) == (b is None)
        if a is not None:
            assert (a.shape, a.dtype) == (b.shape, b.dtype) == (x.shape, x.dtype)
            assert_array_equal(a.data, b.data, strict=True)


@pytest.mark.no_cover
@every_sample
def test_gradient_twice_gives_the_same_bits_and_a_zero_cotangent_gives_zero(sample: Sample) -> None:
    first, second = raw_gradients(sample, sample.args), raw_gradients(sample, sample.args)
    xs = leaves(sample.args)
    y = sample.f(*xs)
    zeros = mg.grad(y, xs, np.zeros(y.shape))
    for a, b, zero in zip(first, second, zeros):
        assert_array_equal(a, b, strict=True)
        assert zero is not None and not zero.data.any()


@pytest.mark.no_cover
@every_sample
def test_gradients_share_no_memory(sample: Sample) -> None:
    """Not with each other, the seed, the data or the value: one may be clipped in place, the others stay."""
    xs = leaves(sample.args)
    y = sample.f(*xs)
    seed = cotangent(y, sample.id)
    y.backward(seed, retain_graph=True)
    handed = [x.grad for x in xs] + [g._data for g in mg.grad(y, [*xs, xs[0], y], seed)]
    others = [x._data for x in xs] + [y._data, seed]
    for i, g in enumerate(handed):
        assert type(g) is np.ndarray and g.flags.writeable
        assert not any(np.may_share_memory(g, other) for other in [*handed[:i], *others])


# ------------------------------------------------------------------------------------------------------------
# dtypes
# ------------------------------------------------------------------------------------------------------------


@every_sample
def test_P6_float32_stays_float32(sample: Sample) -> None:
    """Value, gradient, second gradient, and all on the way; no rule's float64 is cast back in silence."""
    xs = leaves(sample.args, np.float32)
    y = sample.f(*xs)
    assert y.dtype == np.float32
    first = gradients(y, xs, cotangent(y, sample.id), create_graph=True)
    total = sum(np.sum(g * g) for g in first)
    second = gradients(total, xs, create_graph=True)
    casts_in_the_sample = sample.of == "cast"
    for node in mg.tape([y, *first, *second]):
        for dtype in node.dtype if isinstance(node.dtype, list) else [node.dtype]:
            assert dtype == np.float32, node
        assert casts_in_the_sample or node.primitive.name != "cast", node
    for x, g in zip(xs, raw_gradients(sample, sample.args, np.float32)):
        assert (g.shape, g.dtype) == (x.shape, np.float32)
    for a, b in zip(raw_gradients(sample, sample.args, np.float32), raw_gradients(sample, sample.args)):
        assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.no_cover
@every_sample
def test_float16_stays_float16(sample: Sample) -> None:
    y = sample.f(*leaves(sample.args, np.float16))
    assert y.dtype == np.float16
    for a, b in zip(raw_gradients(sample, sample.args, np.float16), raw_gradients(sample, sample.args)):
        assert a.dtype == np.float16
        if sample.half:
            assert_allclose(a, b, rtol=0.05, atol=0.05)


SCALARS: dict[str, Callable[[Any], Any]] = {
    "+": lambda x: x + 2.0, "1 +": lambda x: 1 + x, "-": lambda x: 2.0 - x, "*": lambda x: 2 * x * 0.5,
    "/": lambda x: 1.0 / x / 3, "**": lambda x: 2.0**x + x**2 + x**0.5 + x**-1, "%": lambda x: x % 0.7,
    "maximum": lambda x: np.maximum(x, 1.0), "where": lambda x: np.where(x > 1, x, 0.0),
    "clip": lambda x: np.clip(x, 0.6, 1.0), "logaddexp": lambda x: np.logaddexp(x, 0.0),
    "arctan2": lambda x: np.arctan2(x, 2.0), "hypot": lambda x: np.hypot(1.0, x),
    "pad": lambda x: np.pad(x, 1), "True": lambda x: x * True,
}


@pytest.mark.parametrize("f", SCALARS.values(), ids=SCALARS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_P6_python_numbers_do_not_widen(f: Callable[[Any], Any], dtype: Any, shape: tuple[int, ...]) -> None:
    if shape == () and f is SCALARS["pad"]:
        shape = (1,)
    x = mg.tensor(np.full(shape, 1.5), requires_grad=True, dtype=dtype)
    y = f(x)
    (g,) = mg.grad(y.sum(), x, create_graph=True)
    assert (y.dtype, g.dtype) == (dtype, dtype)
    assert {n.dtype for n in mg.tape([y, g] if g.requires_grad else y)} == {np.dtype(dtype)}


# ------------------------------------------------------------------------------------------------------------
# Layouts
# ------------------------------------------------------------------------------------------------------------


def strided(a: Any) -> Any:
    """Every second entry of a larger array, along each axis."""
    return np.asarray(np.kron(a, np.ones((2,) * a.ndim))[tuple(slice(None, None, 2) for _ in a.shape)])


def backwards(a: Any) -> Any:
    """Strides below zero."""
    every = tuple(slice(None, None, -1) for _ in a.shape)
    return np.array(a[every])[every]


def stride_0(a: Any) -> Any:
    """The first entry along the first axis, repeated without a copy."""
    return np.broadcast_to(a[:1], a.shape) if a.ndim else a


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "Fortran": lambda a: a.T.copy().T, "strided": strided, "backwards": backwards, "stride 0": stride_0}
#: Equal entries tie here, or make a kink.
TIED = {"maximum", "minimum", "max", "min", "ptp", "sort", "median", "max_pool2d", "fmax", "fmin",
        "remainder", "fmod", "norm", "std"}

#: What follows the sample, so that the cotangent that reaches it has another layout.
FOLLOWING: dict[str, Callable[[Any], Any]] = {
    "transposed": np.transpose, "flipped": np.flip, "spread": np.sum,
    "parts": lambda y: np.concatenate([y, y], axis=-1) if y.ndim else y}


@pytest.mark.no_cover
@every_sample
def test_layout_of_arguments_does_not_matter(sample: Sample) -> None:
    expected = raw_gradients(sample, sample.args)
    for name, layout in LAYOUTS.items():
        arranged = [layout(a) for a in sample.args]
        if name == "stride 0":
            if sample.of in TIED:
                continue
            expected = raw_gradients(sample, [np.array(a, order="C") for a in arranged])
        xs = leaves(arranged)
        for x, a in zip(xs, arranged):
            x._data = a
        y = sample.f(*xs)
        y.backward(cotangent(y, sample.id))
        for x, g in zip(xs, expected):
            assert_allclose(x.grad, g, rtol=1e-10, atol=1e-10, err_msg=name)


@pytest.mark.no_cover
@every_sample
def test_layout_of_cotangents_does_not_matter(sample: Sample) -> None:
    for name, then in FOLLOWING.items():
        xs = leaves(sample.args)
        y = sample.f(*xs)
        end = then(y)
        seed = cotangent(end, sample.id)
        end.backward(seed)
        again = leaves(sample.args)
        # the same cotangent, taken through what follows alone and laid out in C order
        middle = mg.tensor(y.data, requires_grad=True)
        then(middle).backward(seed)
        sample.f(*again).backward(middle.grad)
        for x, expected in zip(xs, again):
            assert_allclose(x.grad, expected.grad, rtol=1e-10, atol=1e-10, err_msg=name)


# ------------------------------------------------------------------------------------------------------------
# Broadcasting
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1), (1, 4), (3, 4), (1, 1), (2, 1, 4), (2, 3, 1),
                                   (1, 3, 4), (2, 3, 4), (1, 1, 1), (1, 1, 2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_P3_broadcasting_is_undone_in_every_direction(shape: tuple[int, ...], dtype: Any) -> None:
    """The gradient has the argument's shape and is the sum over the axes along which it was stretched."""
    x = mg.tensor(np.ones(shape), requires_grad=True, dtype=dtype)
    other = generator("P3").standard_normal((2, 3, 4)).astype(dtype)
    g = generator("P3", shape).standard_normal(np.broadcast_shapes(shape, other.shape)).astype(dtype)
    (x * other).backward(g)
    assert x.grad is not None and x.grad.dtype == dtype
    full = g.astype(float) * other.astype(float)
    shape_4 = (1,) * (full.ndim - len(shape)) + shape
    axes = tuple(i for i, (n, m) in enumerate(zip(shape_4, full.shape)) if n != m)
    assert_allclose(x.grad, full.sum(axis=axes, keepdims=True).reshape(shape),
                    rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(50,), (1, 50), (1,), ()])
def test_P3_sums_of_many_float32_rows_are_accurate(shape: tuple[int, ...]) -> None:
    rows = generator("rows").uniform(0.5, 1.0, (20_000, 50)).astype(np.float32)
    b = mg.tensor(np.zeros(shape), requires_grad=True, dtype=np.float32)
    (b + rows).backward(rows)
    exact = rows.sum(0 if shape not in ((1,), ()) else None, dtype=np.float64).reshape(shape)
    assert_allclose(b.grad, exact, rtol=1e-6)

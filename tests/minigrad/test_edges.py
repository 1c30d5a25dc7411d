"""Corner cases and the convention taken in each: ties, kinks, zeros, tails, infinities, shapes, indices."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from samples import INDICES

import minigrad as mg
from minigrad.rules.indexing import add_at
from minigrad.rules.reduction import normalize_axis

inf, nan = math.inf, math.nan


def slopes(f: Callable[..., Any], *values: Any, dtype: Any = np.float64) -> Any:
    """The gradients of sum(f(values)) with respect to the values: arrays, in a list if there are several."""
    xs = [mg.tensor(v, requires_grad=True, dtype=dtype) for v in values]
    found = mg.grad(np.sum(f(*xs)), xs)
    arrays = [np.zeros(x.shape) if g is None else g.data for x, g in zip(xs, found)]
    return arrays[0] if len(arrays) == 1 else arrays


def second(f: Callable[..., Any], value: Any, dtype: Any = np.float64) -> Any:
    """The second derivative of f, entry by entry."""

    def first(x: mg.Tensor) -> Any:
        (g,) = mg.grad(np.sum(f(x)), x, create_graph=True)
        return g if g.requires_grad else x * 0.0

    return slopes(first, value, dtype=dtype)


# ------------------------------------------------------------------------------------------------------------
# Ties and kinks
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [np.max, np.min])
def test_extrema_share_the_gradient_among_the_tied(f: Any) -> None:
    assert_array_equal(slopes(f, [2.0, 2.0, 2.0, 2.0]), [0.25] * 4)
    tied = np.array([[1.0, 3.0, 3.0], [1.0, 1.0, 3.0]]) * (1 if f is np.max else -1)
    assert_array_equal(slopes(lambda x: f(x, axis=1), tied), [[0, 0.5, 0.5], [0, 0, 1]])
    assert_array_equal(slopes(lambda x: f(x, axis=0), tied), [[0.5, 1, 0.5], [0.5, 0, 0.5]])
    assert_array_equal(slopes(lambda x: f(x, axis=(0, 1), keepdims=True), tied),
                       np.array([[0, 1, 1], [0, 0, 1]]) / 3)


def test_many_ties_do_not_overflow_float16() -> None:
    g = slopes(np.max, np.zeros(100_000), dtype=np.float16)
    assert g.dtype == np.float16 and np.all(g == np.float16(1e-5))


def test_means_of_many_do_not_overflow_float16() -> None:
    for n in (100_000, 65_530, 40_000):
        g = slopes(np.mean, np.zeros(n), dtype=np.float16)
        assert g.dtype == np.float16
        assert_allclose(g, 1 / n, atol=2.0**-24)  # the least that a float16 can be
    assert_allclose(slopes(lambda x: np.mean(x) * 0.1, np.zeros(1000), dtype=np.float16), 1e-4, rtol=1e-3)


@pytest.mark.parametrize("f", [np.maximum, np.minimum, np.fmax, np.fmin])
def test_equal_arguments_get_half_each(f: Any) -> None:
    assert_array_equal(slopes(f, [1.0, 2.0], [1.0, 2.0]), [[0.5, 0.5], [0.5, 0.5]])
    assert_array_equal(slopes(lambda a, b: f(a, b) * [3.0, -5.0], [1.0, 2.0], [1.0, 2.0]), [[1.5, -2.5]] * 2)
    assert_array_equal(slopes(f, [0.0], [-0.0]), [[0.5], [0.5]])
    assert_array_equal(slopes(lambda x: f(x, x), [1.0, 2.0]), [1, 1])
    assert_array_equal(slopes(lambda x: f(x, 0.0), [0.0]), [0.5])


def test_fmax_ignores_nan() -> None:
    assert_array_equal(slopes(np.fmax, [nan, 1.0], [2.0, nan]), [[0, 1], [1, 0]])
    assert_array_equal(slopes(np.fmin, [nan, 1.0], [2.0, nan]), [[0, 1], [1, 0]])


@pytest.mark.parametrize("f", [mg.relu, np.absolute, abs, np.fabs])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_slope_0_at_0(f: Any, zero: float) -> None:
    assert_array_equal(slopes(f, [zero]), [0])
    assert_array_equal(second(f, [zero, 1.0, -1.0]), [0, 0, 0])


def test_copysign_takes_the_sign_of_zero() -> None:
    assert_array_equal(slopes(lambda x: np.copysign(x, -0.0), [2.0, -3.0]), [-1, 1])
    assert_array_equal(slopes(lambda x: np.copysign(x, 0.0), [2.0, -3.0, 0.0]), [1, -1, 0])


def test_clip_passes_the_gradient_at_its_bounds() -> None:
    assert_array_equal(slopes(lambda x: np.clip(x, -1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0]), [0, 1, 1, 1, 0])
    assert_array_equal(slopes(lambda lo, hi: np.clip(np.array([-2.0, -1.0, 1.0, 2.0]), lo, hi), -1.0, 1.0),
                       [1, 1])
    assert_array_equal(slopes(np.clip, 0.0, 2.0, 1.0), [0, 0, 1])  # crossed bounds: the upper one wins
    assert_array_equal(slopes(np.clip, 1.0, 2.0, 1.0), [0, 0, 1])
    assert_array_equal(slopes(lambda x, lo, hi: np.clip(x, lo, hi) * -3.0, 0.0, 1.0, 2.0), [0, -3, 0])
    for x, slope in ((0.0, [0, 1, 0]), (1.0, [1, 0, 0]), (2.0, [0, 0, 1])):  # equal ones: the nearer
        assert_array_equal(slopes(np.clip, x, 1.0, 1.0), slope)
    assert_array_equal(slopes(lambda x: x.clip(0.0), [-1.0, 1.0]), [0, 1])


def test_max_pooling_shares_ties_and_padding_never_wins() -> None:
    assert_array_equal(slopes(lambda x: mg.max_pool2d(x, 2), -np.ones((1, 1, 2, 2))),
                       np.full((1, 1, 2, 2), 0.25))
    assert_array_equal(slopes(lambda x: mg.max_pool2d(x, 2, stride=1, padding="same"),
                              -np.ones((1, 1, 1, 1))), [[[[1]]]])


def test_sort_and_median_keep_tied_entries_in_order() -> None:
    assert_array_equal(slopes(lambda x: np.sort(x) * np.arange(4.0), [1.0, 0.0, 1.0, 0.0]), [2, 0, 3, 1])
    assert_array_equal(slopes(np.median, [3.0, 3.0, 1.0, 9.0]), [0.5, 0.5, 0, 0])


def test_the_median_with_nan_is_nan_as_numpys() -> None:
    x = np.array([[1.0, nan, 2.0], [5.0, 4.0, 3.0]])
    for axis in (None, 0, 1):
        for keepdims in (False, True):
            found = np.median(mg.tensor(x), axis=axis, keepdims=keepdims)
            assert_array_equal(found.data, np.median(x, axis=axis, keepdims=keepdims))
    assert_array_equal(slopes(lambda x: np.median(x, axis=1), x), [[0, 1, 0], [0, 1, 0]])


# ------------------------------------------------------------------------------------------------------------
# Zeros
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [
    np.linalg.norm, lambda x: np.linalg.norm(x, 2), lambda x: np.linalg.norm(x, 1),
    lambda x: np.linalg.norm(x, inf),
    lambda x: np.linalg.norm(x, 3), lambda x: np.linalg.norm(x, 0.5),
    lambda x: np.linalg.norm(np.reshape(x, (1, 3)), axis=1), np.std, np.var,
    lambda x: np.hypot(x, x)])
def test_the_gradient_of_a_length_at_zero_is_zero(length: Any) -> None:
    assert_array_equal(slopes(length, np.zeros(3)), np.zeros(3))
    assert_array_equal(slopes(length, np.zeros(3), dtype=np.float32), np.zeros(3))


def test_a_norm_of_an_order_below_1_with_a_zero_entry() -> None:
    assert_allclose(slopes(lambda x: np.linalg.norm(x, 0.5), [0.0, 4.0, 9.0]), [0, 2.5, 5 / 3])


def test_hypot_with_one_side_of_no_length() -> None:
    assert_array_equal(slopes(np.hypot, [3.0, 0.0, -2.0], [0.0, -4.0, 0.0]), [[1, 0, -1], [0, -1, 0]])


def test_std_of_a_constant_vector() -> None:
    assert_array_equal(slopes(np.std, np.full(4, 5.0)), np.zeros(4))
    assert_array_equal(slopes(lambda x: np.std(x, axis=1), [[5.0, 5.0], [1.0, 3.0]]), [[0, 0], [-0.5, 0.5]])


def test_norm_neither_overflows_nor_underflows() -> None:
    for dtype, size in ((np.float32, 1e30), (np.float64, 1e300), (np.float32, 1e-30), (np.float64, 1e-300)):
        x = mg.tensor([3 * size, 4 * size], requires_grad=True, dtype=dtype)
        y = np.linalg.norm(x)
        assert_allclose(y.item(), 5 * size, rtol=1e-6)
        assert_allclose(mg.grad(y, x)[0].data, [0.6, 0.8], rtol=1e-6)
    assert np.linalg.norm(mg.tensor([1.0, inf])).item() == inf
    assert math.isnan(np.linalg.norm(mg.tensor([1.0, nan])).item())


def test_sqrt_at_0_is_infinite_and_silent() -> None:
    assert_array_equal(slopes(np.sqrt, [0.0, 1.0]), [inf, 0.5])
    assert_array_equal(slopes(np.cbrt, [0.0]), [inf])
    assert_array_equal(slopes(lambda x: x**0.5, [0.0]), [inf])


@pytest.mark.parametrize("exponent", [lambda b, x: b, lambda b, x: np.full(x.shape, float(b)),
                                      lambda b, x: mg.tensor(np.full(x.shape, float(b)), requires_grad=True)],
                         ids=["number", "array", "tensor"])
def test_powers_at_0_and_of_negative_bases(exponent: Any) -> None:
    base = [0.0, -0.0, -2.0, 3.0]
    for b, first, then in [(0, [0, 0, 0, 0], [0] * 4), (1, [1, 1, 1, 1], [0] * 4),
                           (2, [0, 0, -4, 6], [2] * 4),
                           (3, [0, 0, 12, 27], [0, 0, -12, 18])]:
        f = lambda x, b=b: x ** exponent(b, x)
        assert_array_equal(slopes(f, base), first)
        assert_array_equal(second(f, base), then)
    assert_allclose(slopes(lambda x: x ** exponent(-1, x), [-2.0]), [-0.25])


def test_the_exponents_gradient_is_never_nan() -> None:
    db = slopes(lambda b: mg.tensor([0.0, 0.0, -2.0, 2.0, 1.0]) ** b, [2.0, 0.0, 2.0, 2.0, 5.0])
    assert_allclose(db, [0, 0, 0, 4 * math.log(2), 0])
    assert_array_equal(slopes(lambda b: 0**b, [2.0, 0.5]), [0, 0])
    with np.errstate(divide="ignore"):
        assert not np.isnan(slopes(lambda b: mg.tensor([0.0]) ** b, [-1.0])).any()


def test_prod_is_exact_with_zeros() -> None:
    assert_array_equal(slopes(np.prod, [2.0, 0.0, 3.0]), [0, 6, 0])
    assert_array_equal(slopes(np.prod, [2.0, 0.0, 0.0]), [0, 0, 0])
    assert_array_equal(slopes(lambda x: np.prod(x, axis=1), [[2.0, 0.0], [0.0, 0.0]]), [[0, 2], [0, 0]])
    x = mg.tensor([2.0, 0.0, 0.0, 5.0], requires_grad=True)
    (g,) = mg.grad(np.prod(x), x, create_graph=True)
    H = np.array([mg.grad(g[i], x, retain_graph=True)[0].data for i in range(4)])
    expected = np.zeros((4, 4))
    expected[1, 2] = expected[2, 1] = 10.0
    assert_array_equal(H, expected)


def test_cumprod_is_exact_with_zeros() -> None:
    assert_array_equal(slopes(np.cumprod, [2.0, 0.0, 3.0, 4.0]), [1, 2 + 6 + 24, 0, 0])
    assert_array_equal(slopes(np.cumprod, [0.0, 0.0, 3.0]), [1, 0, 0])
    f = lambda x: np.cumprod(x)[-1]
    x = mg.tensor([3.0, 0.0, 0.0], requires_grad=True)
    (g,) = mg.grad(f(x), x, create_graph=True)
    assert_array_equal(mg.grad(g[1], x)[0].data, [0, 0, 3])


def test_tiny_arguments_keep_their_digits() -> None:
    for f in (np.log1p, np.expm1, np.arcsinh, np.arctanh, np.sinh, np.tanh, np.sin):
        assert f(mg.tensor(1e-20)).item() == 1e-20
        assert_allclose(slopes(f, 1e-20), 1.0)


# ------------------------------------------------------------------------------------------------------------
# Tails
# ------------------------------------------------------------------------------------------------------------

FAR = [-1e4, -1000.0, -100.0, 0.0, 100.0, 1000.0, 1e4]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("f", "value", "slope"), [
    (mg.sigmoid, [0, 0, 0, 0.5, 1, 1, 1], [0, 0, 0, 0.25, 0, 0, 0]),
    (np.tanh, [-1, -1, -1, 0, 1, 1, 1], [0, 0, 0, 1, 0, 0, 0]),
    (mg.softplus, [0, 0, 0, math.log(2), 100, 1000, 1e4], [0, 0, 0, 0.5, 1, 1, 1]),
    (lambda x: np.logaddexp(x, 0.0), [0, 0, 0, math.log(2), 100, 1000, 1e4], [0, 0, 0, 0.5, 1, 1, 1]),
    (mg.relu, [0, 0, 0, 0, 100, 1000, 1e4], [0, 0, 0, 0, 1, 1, 1]),
], ids=["sigmoid", "tanh", "softplus", "logaddexp", "relu"])
def test_far_out(f: Any, value: Any, slope: Any, dtype: Any) -> None:
    x = mg.tensor(FAR, dtype=dtype)
    tolerance = {"rtol": 1e-3 if dtype == np.float16 else 1e-6, "atol": 2e-7}
    assert_allclose(f(x).data, value, **tolerance)
    assert_allclose(slopes(f, FAR, dtype=dtype), slope, **tolerance)
    assert_allclose(second(f, FAR, dtype=dtype), [0] * 7, atol=0.26)
    assert np.isfinite(second(f, FAR, dtype=dtype)).all()


def test_second_derivatives_are_exact_in_the_tails() -> None:
    x = np.array([-30.0, -20.0, -5.0, 0.0, 5.0, 20.0])
    e = np.exp(-np.abs(x))
    s2 = e / (1 + e) ** 2
    assert_allclose(second(mg.softplus, x), s2, rtol=1e-6)
    assert_allclose(second(lambda x: np.logaddexp(x, 0.0), x), s2, rtol=1e-6)
    assert_allclose(second(mg.sigmoid, x), -np.sign(x) * s2 * (1 - e) / (1 + e), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu_far_out(dtype: Any) -> None:
    assert_array_equal(slopes(mg.gelu, [-1e4, 0.0, 1e4], dtype=dtype), [0, 0.5, 1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [90.0, 1e4])
def test_softmax_family_of_large_logits(dtype: Any, size: float) -> None:
    x = mg.tensor([[size, 0.0, -size], [size, size, -size]], requires_grad=True, dtype=dtype)
    assert_allclose(mg.softmax(x).data, [[1, 0, 0], [0.5, 0.5, 0]], atol=1e-30)
    assert_allclose(mg.log_softmax(x).data[0], [0, -size, -2 * size])
    assert_allclose(mg.logsumexp(x, axis=1).data, [size, size + math.log(2)], rtol=1e-6)
    loss = mg.cross_entropy(x, [2, 0], "none")
    assert_allclose(loss.data, [2 * size, math.log(2)], rtol=1e-6)
    (g,) = mg.grad(loss.sum(), x)
    assert_allclose(g.data, [[1, 0, -1], [-0.5, 0.5, 0]], atol=1e-30)
    assert np.isfinite(second(lambda x: mg.cross_entropy(x, [2, 0]), x.data, dtype=dtype)).all()


def test_masks_of_minus_infinity() -> None:
    x = [[1.0, -inf, 1.0], [-inf, -inf, 2.0]]
    assert_array_equal(mg.softmax(mg.tensor(x)).data, [[0.5, 0, 0.5], [0, 0, 1]])
    g = slopes(lambda x: mg.softmax(x) * np.array([1.0, 5.0, 2.0]), x)
    assert_allclose(g, [[-0.25, 0, 0.25], [0, 0, 0]])
    assert_allclose(slopes(lambda x: mg.logsumexp(x, axis=1), x), [[0.5, 0, 0.5], [0, 0, 1]])
    assert_allclose(slopes(lambda x: mg.cross_entropy(x, [0, 2], "sum"), x), [[-0.5, 0, 0.5], [0, 0, 0]])
    assert mg.cross_entropy(mg.tensor(x), [1, 2], "none").data[0] == inf
    assert np.isfinite(second(lambda x: mg.softmax(x) ** 2, x)).all()


def test_a_row_of_minus_infinity_everywhere() -> None:
    x = [[-inf, -inf], [0.0, 0.0]]
    y = mg.logsumexp(mg.tensor(x), axis=1)
    assert_allclose(y.data, [-inf, math.log(2)])
    assert_array_equal(slopes(lambda x: mg.logsumexp(x, axis=1), x), [[0, 0], [0.5, 0.5]])
    assert_array_equal(mg.softmax(mg.tensor(x)).data, [[0, 0], [0.5, 0.5]])
    assert_array_equal(slopes(lambda x: mg.softmax(x) * [1.0, 2.0], x)[0], [0, 0])
    assert mg.logsumexp(mg.tensor([-inf, inf])).item() == inf
    assert mg.logsumexp(mg.tensor(np.zeros((0,)))).item() == -inf


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("f", [np.logaddexp, np.logaddexp2])
def test_logaddexp_of_nothing_and_nothing(f: Any, dtype: Any) -> None:
    """-inf and -inf are a row of -inf of `logsumexp`: the gradient is 0, to any order, and no NaN as elsewhere."""
    a, b = [-inf, -inf, 0.0, 1.0], [-inf, 0.0, -inf, 1.0]
    assert_array_equal(f(mg.tensor(a), mg.tensor(b)).data, f(a, b))
    assert_array_equal(slopes(f, a, b, dtype=dtype), [[0, 0, 1, 0.5], [0, 1, 0, 0.5]])
    assert_array_equal(slopes(lambda x: f(x, -inf), [-inf, 0.0], dtype=dtype), [0, 1])
    other = np.array(b, dtype)
    for bend in (second(lambda x: f(x, other), a, dtype=dtype), second(lambda x: f(other, x), a, dtype=dtype)):
        assert_array_equal(bend[:3], [0, 0, 0])
    assert_array_equal(slopes(f, inf, 0.0), [1, 0])
    assert_array_equal(slopes(f, inf, inf), [nan, nan])  # as of softmax: which is the larger cannot be known


def test_softmax_of_integers() -> None:
    assert_allclose(mg.softmax(mg.tensor([1, 1])).data, [0.5, 0.5])
    assert_allclose(mg.logsumexp(mg.tensor([0, 0])).item(), math.log(2))
    assert_allclose(mg.cross_entropy(mg.tensor([[0, 0]]), [1]).item(), math.log(2))


def test_variance_of_data_with_a_large_offset() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0]) + 1e9
    assert np.var(mg.tensor(x)).item() == 1.25
    assert_allclose(slopes(np.var, x), [-0.75, -0.25, 0.25, 0.75])
    assert_allclose(mg.layer_norm(mg.tensor(x), eps=0.0).data, (np.arange(4) - 1.5) / math.sqrt(1.25))


def test_layer_norm_of_a_constant_row_is_zero() -> None:
    assert_array_equal(mg.layer_norm(mg.tensor(np.full((2, 3), 7.0))).data, np.zeros((2, 3)))
    assert np.isfinite(slopes(lambda x: mg.layer_norm(x) ** 2, np.full((2, 3), 7.0))).all()


# ------------------------------------------------------------------------------------------------------------
# where, and NaN
# ------------------------------------------------------------------------------------------------------------


def test_where_keeps_a_bad_branch_out_of_the_other() -> None:
    x = [-1.0, 0.0, 4.0]
    with np.errstate(all="ignore"):
        a, b = slopes(lambda a, b: np.where(np.array([True, False, True]), np.log(a), b), [1.0, -1.0, 2.0], x)
    assert_array_equal(b, [0, 1, 0])
    assert_array_equal(a, [1, 0, 0.5])
    guarded = lambda x: np.where(x > 0, np.sqrt(np.where(x > 0, x, 1.0)), 0.0)
    assert_array_equal(slopes(guarded, x), [0, 0, 0.25])
    assert_array_equal(second(guarded, x), [0, 0, -1 / 32])
    assert_array_equal(slopes(lambda x: np.where(x > 0, inf * np.ones(3), x), x), [1, 1, 0])


def test_nan_to_num() -> None:
    x = [nan, 1.0, inf, -inf]
    assert_array_equal(np.nan_to_num(mg.tensor(x)).data, np.nan_to_num(x))
    assert_array_equal(np.nan_to_num(mg.tensor(x), nan=2.0, posinf=3.0, neginf=4.0).data, [2, 1, 3, 4])
    assert_array_equal(slopes(np.nan_to_num, x), [0, 1, 0, 0])
    assert np.nan_to_num(mg.tensor(x, dtype=np.float32)).dtype == np.float32


def test_nan_reaches_the_gradient_instead_of_vanishing() -> None:
    assert_array_equal(slopes(np.max, [1.0, nan]), [0, 1])
    assert np.isnan(slopes(lambda x: x * x, [nan]))[0]
    assert np.isnan(slopes(np.std, [1.0, nan])).all()


def test_clip_gradient_and_stop_gradient() -> None:
    x = [1.0, 2.0, 3.0]
    assert_array_equal(slopes(lambda x: mg.clip_gradient(x, 2.5) * [-5.0, 1.0, 5.0], x), [-2.5, 1, 2.5])
    assert_array_equal(slopes(lambda x: x * mg.stop_gradient(x), x), x)
    assert mg.stop_gradient(np.ones(2)).sum() == 2


# ------------------------------------------------------------------------------------------------------------
# Shapes
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [np.sum, np.mean, np.max, np.prod, np.cumsum, np.sort, mg.logsumexp, np.ravel,
                               np.square])
def test_numbers_and_single_entries(f: Any) -> None:
    for shape in ((), (1,), (1, 1, 1)):
        x = np.full(shape, 3.0)
        if f is np.sort and shape == ():
            continue
        assert slopes(f, x).shape == shape


def test_empty_arrays_have_empty_gradients() -> None:
    for f in (np.sum, np.exp, np.prod, lambda x: np.prod(x, axis=0), lambda x: x.T @ x,
              lambda x: np.concatenate([x, x]),
              lambda x: mg.softmax(x, axis=1), lambda x: x[np.zeros(0, int)], np.cumsum,
              lambda x: np.pad(x, 1),
              lambda x: np.sort(x, axis=0), lambda x: np.linalg.norm(x, axis=1), lambda x: np.std(x, axis=1)):
        assert slopes(f, np.zeros((0, 3))).shape == (0, 3)


def test_no_degrees_of_freedom_give_nan_not_an_error() -> None:
    x = mg.tensor([1.0], requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's own, in the forward
        y = np.var(x, ddof=1)
    y.backward()
    assert_array_equal(x.grad, [nan])


def test_zero_inner_dimension() -> None:
    A, B = slopes(lambda a, b: a @ b, np.zeros((2, 0)), np.zeros((0, 3)))
    assert (A.shape, B.shape) == ((2, 0), (0, 3))
    assert_array_equal((mg.tensor(np.zeros((2, 0))) @ np.zeros((0, 3))).data, np.zeros((2, 3)))


@pytest.mark.parametrize("axis", [2, -3, (0, 0), (0, -2), 1.5])
def test_axes_that_do_not_exist_raise(axis: Any) -> None:
    x = mg.tensor(np.ones((2, 3)), requires_grad=True)
    for f in (np.sum, np.max, np.var, np.linalg.norm, mg.softmax, mg.logsumexp):
        with pytest.raises((ValueError, TypeError, IndexError)):
            f(x, axis=axis)


METHODS: list[tuple[str, Any, dict[str, Any]]] = [
    ("sum", (1,), {}), ("mean", (), {"keepdims": True}), ("var", (0,), {"ddof": 1}), ("std", (), {"axis": 1}),
    ("prod", (1,), {}), ("max", (0,), {}), ("min", (), {"axis": 1, "keepdims": True}), ("argmax", (1,), {}),
    ("argmin", (), {}), ("any", (0,), {}), ("all", (1,), {}), ("cumsum", (1,), {}), ("cumsum", (), {}),
    ("clip", (-0.5, 0.5), {}), ("dot", (np.ones((3, 2)),), {}), ("reshape", (3, 2), {}), ("reshape", ((3, 2),), {}),
    ("ravel", (), {}), ("flatten", (), {}), ("transpose", (), {}), ("transpose", (1, 0), {}),
    ("transpose", ((1, 0),), {}), ("swapaxes", (0, 1), {}), ("squeeze", (), {}), ("take", ([2, 0], 1), {}),
    ("repeat", (2,), {"axis": 0}), ("diagonal", (1,), {})]


@pytest.mark.parametrize(("name", "args", "more"), METHODS)
def test_methods_are_numpys(name: str, args: Any, more: dict[str, Any]) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3))
    t = mg.tensor(x, requires_grad=True)
    found, expected = getattr(t, name)(*args, **more), getattr(x, name)(*args, **more)
    assert_array_equal(found.data, expected)
    assert found.requires_grad == (name not in ("argmax", "argmin", "any", "all"))
    assert set(dir(np.ndarray)) >= {name}


def test_arrays_may_be_given_by_name() -> None:
    x = mg.tensor([1.26, 2.0], requires_grad=True)
    assert_array_equal(np.round(a=x, decimals=1).data, [1.3, 2.0])
    assert_array_equal(np.isclose(a=x, b=x, rtol=0.1).data, [True, True])
    assert_array_equal(np.isclose(x, b=x).data, [True, True])
    assert np.array_equal(a1=x, a2=x).item() is np.allclose(x, b=x).item() is True
    assert_array_equal(np.zeros_like(a=x).data, [0, 0])
    assert_array_equal(np.sum(a=x).data, 3.26)
    with pytest.raises(TypeError, match="'str' object cannot be interpreted"):
        np.round(x, decimals="a")


def test_operators_are_numpys() -> None:
    x, n = mg.tensor([2.0, -3.0], requires_grad=True), mg.tensor([6, 5])
    assert_array_equal((+x).data, x.data)
    assert_array_equal((7.0 % x).data, 7.0 % x.data)
    assert_array_equal((7.0 // x).data, 7.0 // x.data)
    assert_array_equal((2.0 ** x).data, 2.0 ** x.data)
    assert_array_equal((n ^ 3).data, [5, 6])
    assert_array_equal((x <= 2.0).data, [True, True])
    assert_array_equal(x.T.data, x.data)


def test_axes_along_which_nothing_can_be_taken() -> None:
    x = mg.tensor(np.ones((2, 3)), requires_grad=True)
    for axis in (2, -3, 5):
        with pytest.raises(np.exceptions.AxisError, match=f"axis {axis} is out of bounds"):
            np.take_along_axis(x, np.zeros((2, 3), int), axis)
    with pytest.raises(np.exceptions.AxisError, match="dimension 0"):
        np.sort(x[0, 0])


def test_what_is_left_out_of_a_call_is_said() -> None:
    x = mg.tensor(np.ones((2, 3)))
    with pytest.raises(TypeError, match="one int axis"):
        np.median(x, axis=(0, 1))
    with pytest.raises(ValueError, match="left out of the output"):
        np.einsum("...i->i", x)
    assert np.einsum("...i->...", x).shape == (2,) and np.einsum("...i->i", x[0]).shape == (3,)


def test_axes_are_checked_before_they_are_counted() -> None:
    assert [normalize_axis(a, 3) for a in (None, (-1, 0), 1)] == [(0, 1, 2), (2, 0), (1,)]
    with pytest.raises(np.exceptions.AxisError):
        normalize_axis((0, 3), 3)
    with pytest.raises(ValueError, match="names an axis twice"):
        normalize_axis((0, -3), 3)
    with pytest.raises(ValueError, match="one int axis"):
        np.average(mg.tensor(np.ones((2, 3))), weights=[1.0, 2.0])


def test_shapes_that_do_not_fit_raise_numpys_error() -> None:
    x = mg.tensor(np.ones((2, 3)), requires_grad=True)
    for act in (lambda: x + np.ones(2), lambda: x @ x, lambda: np.reshape(x, (4, 2)),
                lambda: np.stack([x, x[0]]),
                lambda: np.concatenate([x, np.ones((1, 2))]), lambda: np.split(x, 2, axis=1), lambda: x[5],
                lambda: np.einsum("ij,ij->k", x, x), lambda: np.broadcast_to(x, (3, 3)),
                lambda: np.concatenate([]),
                lambda: np.concatenate([x[0, 0], x[0, 0]]), lambda: np.diag(np.ones((1, 1, 1)) * x[0, 0])):
        with pytest.raises((ValueError, IndexError)):
            act()


def test_linalg_diagonal_takes_the_last_two_axes() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    assert_array_equal(np.linalg.diagonal(mg.tensor(x)).data, np.linalg.diagonal(x))
    assert_array_equal(np.diagonal(mg.tensor(x)).data, np.diagonal(x))


@pytest.mark.parametrize("f", [np.tril, np.triu, np.diag, lambda x: np.clip(x, None, 2),
                               lambda x: np.clip(x, 2, None),
                               np.nan_to_num, lambda x: ~x, lambda x: x & 3, lambda x: x | 4, lambda x: x ^ 1,
                               lambda x: x % 3, lambda x: x // 2, abs, lambda x: -x, np.sum, np.max,
                               np.cumsum,
                               lambda x: np.pad(x, 1), lambda x: x[[0, 0]], np.sort, np.square,
                               lambda x: x**2])
def test_integers_stay_integers(f: Any) -> None:
    x = np.arange(9).reshape(3, 3) - 4
    y = f(mg.tensor(x))
    assert y.dtype == f(x).dtype
    assert_array_equal(y.data, f(x))


def test_nonzero_is_ready_to_index_with() -> None:
    x = mg.tensor([[0.0, 2.0], [3.0, 0.0]], requires_grad=True)
    assert_array_equal(x[np.nonzero(x)].data, [2, 3])
    assert_array_equal(slopes(lambda x: x[np.nonzero(x > 1.0)] ** 2, x.data), [[0, 4], [6, 0]])


def test_shapes_are_asked_for_with_numpys_functions() -> None:
    x = mg.tensor(np.ones((2, 3)), requires_grad=True)
    assert (np.shape(x), np.ndim(x), np.size(x), np.size(x, 1)) == ((2, 3), 2, 6, 3)
    assert (len(x), x.T.shape) == (2, (3, 2))


# ------------------------------------------------------------------------------------------------------------
# Indices
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_the_gradient_of_an_index_adds_at_it(index: Any) -> None:
    x = mg.tensor(np.arange(15.0).reshape(5, 3), requires_grad=True)
    y = x[index]
    g = np.random.default_rng(0).standard_normal(y.shape)
    y.backward(g)
    expected = np.zeros((5, 3))
    np.add.at(expected, index, g)
    assert_allclose(x.grad, expected)


@pytest.mark.parametrize("indices", [(0, 1), [2, 0], (1,), np.array([True, False, True]), 1, ((0, 1), (2, 2))])
def test_take_takes_numbers_as_numpys(indices: Any) -> None:
    x = np.arange(9.0).reshape(3, 3)
    for axis in (None, 0, 1, -1):
        assert_array_equal(np.take(mg.tensor(x), indices, axis=axis).data, np.take(x, indices, axis=axis))


def test_split_at_indices_that_fall_is_refused() -> None:
    x = np.arange(10.0)
    for indices in ([3, 3, 7], [-4, -1], [2, 40], [0, 10]):
        for part, expected in zip(np.split(mg.tensor(x), indices), np.split(x, indices), strict=True):
            assert_array_equal(part.data, expected)
    with pytest.raises(ValueError, match="do not rise"):
        np.split(mg.tensor(x), [5, 2])


def test_indices_may_be_tensors() -> None:
    x, i = mg.tensor([1.0, 2.0, 3.0], requires_grad=True), mg.tensor([2, 2, 0])
    assert_array_equal(x[i].data, [3, 3, 1])
    assert_array_equal(x[x > 1.5].data, [2, 3])
    assert_array_equal(x[np.argmax(x)].data, 3)
    assert_array_equal(x[np.argsort(-x)].data, [3, 2, 1])
    assert_array_equal(slopes(lambda x: np.take(x, i) * [1.0, 2.0, 4.0], x.data), [4, 0, 3])


def test_overlapping_slices_add_up() -> None:
    assert_array_equal(slopes(lambda x: x[:3].sum() + x[1:].sum() + x[::2].sum() + x[-1], np.zeros(5)),
                       [2, 2, 3, 1, 3])


def test_embedding_adds_repeated_rows_up() -> None:
    ids = np.random.default_rng(0).integers(0, 400, 3000)
    for rows in (400, 200):
        g = slopes(lambda w, n=rows: mg.embedding(w, ids % n), np.zeros((rows, 4)), dtype=np.float32)
        assert_array_equal(g, np.repeat(np.bincount(ids % rows, minlength=rows)[:, None], 4, axis=1))


def test_one_hot() -> None:
    assert_array_equal(mg.one_hot([[0, 2]], 3), [[[1, 0, 0], [0, 0, 1]]])
    assert mg.one_hot([1], 2).dtype == np.float32
    for bad, error in (([0.5], TypeError), ([3], IndexError), ([-1], IndexError)):
        with pytest.raises(error):
            mg.one_hot(bad, 3)
    assert mg.one_hot(np.zeros((0,), int), 3).shape == (0, 3)


@pytest.mark.parametrize("index", [np.array([1, 1, 3]), (np.array([1, 1]), slice(None)), slice(0, 2),
                                   np.arange(4) > 1])
def test_add_at_is_numpys(index: Any) -> None:
    target, expected = np.zeros((4, 3)), np.zeros((4, 3))
    values = np.random.default_rng(0).standard_normal(target[index].shape)
    add_at(target, index, values)
    np.add.at(expected, index, values)
    assert_allclose(target, expected)


# ------------------------------------------------------------------------------------------------------------
# Losses and dropout
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [1.0, -2.0, 0.0, 1e-30])
@pytest.mark.parametrize("offset", [0.0, 12.0, -300.0, 1e4])
def test_the_slope_of_cross_entropy_is_exact_wherever_the_logits_lie(offset: float, weight: float) -> None:
    rng = np.random.default_rng(0)
    logits = (3 * rng.standard_normal((6, 50)) + offset).astype(np.float32)
    targets = rng.integers(0, 50, 6)
    x = mg.tensor(logits, requires_grad=True)
    mg.cross_entropy(x, targets, "none").backward(np.full(6, weight, np.float32))
    exact = np.exp(logits - logits.max(-1, keepdims=True).astype(np.float64))
    exact /= exact.sum(-1, keepdims=True)
    exact[np.arange(6), targets] -= 1.0
    assert_allclose(x.grad, weight * exact, rtol=4e-6, atol=2e-7 * abs(weight))


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 1, 0), (1, 0, 2)])
def test_cross_entropy_of_logits_in_any_layout(order: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((2, 3, 4))
    targets = rng.integers(0, np.transpose(logits, order).shape[-1], np.transpose(logits, order).shape[:-1])
    x = mg.tensor(logits, requires_grad=True)
    plain = mg.tensor(np.transpose(logits, order).copy(), requires_grad=True)
    mg.cross_entropy(np.transpose(x, order), targets).backward()
    mg.cross_entropy(plain, targets).backward()
    assert_allclose(np.transpose(x.grad, order), plain.grad)
    assert_allclose(plain.grad.sum(-1), 0, atol=1e-12)
    (first,) = mg.grad(mg.cross_entropy(np.transpose(x, order), targets), x, create_graph=True)
    assert_allclose(first.data, x.grad)


def test_ignored_targets_do_not_count() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3))
    f = lambda x: mg.cross_entropy(x, [0, -100, 2, -100], ignore_index=-100)
    g = slopes(f, x)
    assert_array_equal(g[[1, 3]], np.zeros((2, 3)))
    assert_allclose(g[[0, 2]], slopes(lambda x: mg.cross_entropy(x, [0, 2]), x[[0, 2]]))
    assert_allclose(f(mg.tensor(x)).item(), mg.cross_entropy(mg.tensor(x[[0, 2]]), [0, 2]).item())
    assert mg.cross_entropy(mg.tensor(x), [7] * 4, ignore_index=7).item() == 0.0


def test_nll_loss_of_log_softmax_is_cross_entropy() -> None:
    x, t = np.random.default_rng(0).standard_normal((5, 3)), [0, 2, 1, 1, 0]
    for reduction in ("mean", "sum", "none"):
        a = slopes(lambda x, r=reduction: mg.nll_loss(mg.log_softmax(x), t, r), x)
        assert_allclose(a, slopes(lambda x, r=reduction: mg.cross_entropy(x, t, r), x), atol=1e-15)


def test_binary_cross_entropy_far_out() -> None:
    f = lambda x: mg.binary_cross_entropy_with_logits(x, np.array([0.0, 1.0, 0.0, 1.0]), "none")
    x = [1000.0, 1000.0, -1000.0, -1000.0]
    assert_array_equal(f(mg.tensor(x)).data, [1000, 0, 0, 1000])
    assert_array_equal(slopes(f, x), [1, 0, 0, -1])


def test_dropout_keeps_the_mean_and_the_dtype() -> None:
    rng = np.random.default_rng(0)
    x = mg.tensor(np.ones(100_000), requires_grad=True, dtype=np.float32)
    y = mg.dropout(x, 0.25, rng)
    assert y.dtype == np.float32 and set(np.unique(y.data)) == {np.float32(0), np.float32(4 / 3)}
    assert abs(y.data.mean() - 1) < 0.01
    y.sum().backward()
    assert_array_equal(x.grad, y.data)
    assert_array_equal(mg.dropout(x, 0.0, rng).data, x.data)


def test_layer_norm_has_mean_0_and_variance_1() -> None:
    y = mg.layer_norm(mg.tensor(np.random.default_rng(0).standard_normal((4, 50)) * 9 + 5)).data
    assert_allclose(y.mean(-1), 0, atol=1e-12)
    assert_allclose(y.std(-1), 1, rtol=1e-6)
    assert_allclose(slopes(mg.layer_norm, np.random.default_rng(0).standard_normal((4, 5))), 0, atol=1e-12)


def test_functions_of_plain_numbers() -> None:
    assert mg.sum(3.0) == 3.0 and mg.mean(2.0) == 2.0 and mg.softmax(1.0, axis=None) == 1.0

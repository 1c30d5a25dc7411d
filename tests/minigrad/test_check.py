"""The checks that others rely on: gradcheck must fail where a gradient is wrong; jacobian and hvp."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import minigrad as mg
from minigrad.primitive import Primitive

X = np.array([0.3, -0.7, 1.2])

# cubes whose rules are right, wrong in a factor, in an entry, and right as numbers but not as a function
RIGHT = Primitive("cube", lambda x: x ** 3, [lambda g, y, x: g * 3.0 * x * x])
FACTOR = Primitive("cube", lambda x: x ** 3, [lambda g, y, x: g * 2.999 * x * x])
ENTRY = Primitive("cube", lambda x: x ** 3, [lambda g, y, x: g * 3.0 * x * x + np.array([0.0, 0.0, 0.01])])
CUT = Primitive("cube", lambda x: x ** 3, [lambda g, y, x: g * 3.0 * getattr(x, "_data", x) ** 2])
WRONG_SLOPE = Primitive("three_squares", lambda x: 3.0 * x * x, [lambda g, y, x: g * 5.0 * x])
SECOND = Primitive("cube", lambda x: x ** 3, [lambda g, y, x: g * WRONG_SLOPE(x)])
TRANSPOSED = Primitive("product", np.matmul, [lambda g, y, a, b: g @ b, lambda g, y, a, b: a.T @ g])


def test_gradcheck_passes_what_is_right() -> None:
    assert mg.gradcheck(RIGHT, X) is True
    assert mg.gradcheck(lambda x: (RIGHT(x), np.sin(x).sum()), [X], order=3)  # several outputs
    assert mg.gradcheck(lambda x, i: x[i], [X, np.array([0, 0, 2])])  # integers are passed on
    assert mg.gradcheck(lambda x, z: x * 2.0, [X, X])  # z has no part in it
    assert mg.gradcheck(lambda x: np.sign(x), [X])  # constant
    assert mg.gradcheck(lambda x: (np.sign(x), x * x), [X])


@pytest.mark.parametrize("f", [FACTOR, ENTRY])
def test_gradcheck_fails_on_a_wrong_rule(f: Any) -> None:
    with pytest.raises(mg.GradientError, match=r"the gradient of .*cube.* input 0 at index \(.,\) is .* differences"):
        mg.gradcheck(f, X, order=1)


@pytest.mark.parametrize("f", [CUT, SECOND])
def test_gradcheck_fails_on_a_wrong_second_derivative(f: Any) -> None:
    assert mg.gradcheck(f, X, order=1)
    with pytest.raises(mg.GradientError, match="the gradient of the gradient of"):
        mg.gradcheck(f, X, order=2)


def test_gradcheck_sees_where_all_entries_together_are_right() -> None:
    """Cotangents are random: with ones, whatever only changes places would not be seen."""
    def misplaced(x: Any) -> Any:
        return Primitive("misplaced", lambda x: x * 1.0, [lambda g, y, x: g[::-1]])(x)

    with pytest.raises(mg.GradientError, match="misplaced"):
        mg.gradcheck(misplaced, X)
    A, B = np.random.default_rng(0).normal(size=(2, 3, 3))
    with pytest.raises(mg.GradientError, match=r"input 0 at index \(0, 0\) .* float64\[3, 3\], float64\[3, 3\]"):
        mg.gradcheck(lambda a, b: TRANSPOSED(a, b), [A, B])


def test_gradcheck_sees_nan_and_a_gradient_that_is_missing() -> None:
    nan = Primitive("nan", lambda x: x * 1.0, [lambda g, y, x: g * np.nan])
    with pytest.raises(mg.GradientError, match="nan"):
        mg.gradcheck(nan, X)
    with pytest.raises(mg.GradientError, match="is 0, central differences give"):
        mg.gradcheck(lambda x: x * 0.0 + x.detach() * 2.0, X)


def test_gradcheck_needs_double_precision() -> None:
    with pytest.raises(TypeError, match="input 1 is float32"):
        mg.gradcheck(lambda a, b: a * b, [X, X.astype(np.float32)])


def test_jacobian() -> None:
    A = np.arange(6.0).reshape(2, 3)
    assert_array_equal(mg.jacobian(lambda x: A @ x, X), A)
    assert_allclose(mg.jacobian(lambda x: x * x, mg.tensor(X)), np.diag(2 * X))
    assert mg.jacobian(lambda x: np.outer(x, x), X).shape == (3, 3, 3)
    assert_array_equal(mg.jacobian(lambda x: x.sum(), X), np.ones(3))
    assert_array_equal(mg.jacobian(np.sign, X), np.zeros((3, 3)))
    assert_array_equal(mg.jacobian(lambda x: np.stack([x[0], mg.tensor(1.0)]), X), [[1, 0, 0], [0, 0, 0]])
    with pytest.raises(TypeError, match="int64"):
        mg.jacobian(lambda x: x * 2, [1, 2])


def test_hvp() -> None:
    H = np.array([[2.0, 1.0, 0.0], [1.0, 0.0, 3.0], [0.0, 3.0, 4.0]])
    v = np.array([1.0, -2.0, 0.5])
    assert_allclose(mg.hvp(lambda x: 0.5 * (x @ H @ x), X, v), H @ v)
    assert_allclose(mg.hvp(lambda x: (x ** 3).sum(), X, mg.tensor(v)), 6 * X * v)
    assert_array_equal(mg.hvp(lambda x: (2.0 * x).sum(), X, v), np.zeros(3))  # linear: no slope of the slope
    with pytest.raises(ValueError, match=r"v has shape \(2,\), x has \(3,\)"):
        mg.hvp(lambda x: x.sum(), X, v[:2])
    with pytest.raises(ValueError, match=r"the output has shape \(3,\)"):
        mg.hvp(lambda x: x * x, X, v)

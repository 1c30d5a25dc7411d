"""Derivatives of functions that act on each entry.

Conventions at kinks: `abs`, `relu` have slope 0 at 0; `maximum`, `minimum` give half to each of two equal arguments;
`clip` passes the gradient at its bounds; `sqrt` has slope infinity at 0, without a warning; `logaddexp` of -inf and
-inf has gradient 0, as `logsumexp` of nothing else has. `sign`, `floor`, comparisons and the like are constants.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..primitive import constant, implements, primitive, rule

Array = NDArray[Any]

LN2 = math.log(2.0)
LN10 = math.log(10.0)
NO_LOW = -math.inf
NO_HIGH = math.inf

# ---------------------------------------------------------------------------------------------------------------
# Arithmetic
# ---------------------------------------------------------------------------------------------------------------

negative = rule(np.negative, lambda g, y, x: -g)
positive = rule(np.positive, lambda g, y, x: g)
add = rule(np.add,
           lambda g, y, a, b: g,
           lambda g, y, a, b: g)
subtract = rule(np.subtract,
                lambda g, y, a, b: g,
                lambda g, y, a, b: -g)
multiply = rule(np.multiply,
                lambda g, y, a, b: g * b,
                lambda g, y, a, b: g * a)
divide = rule(np.divide,
              lambda g, y, a, b: g / b,
              lambda g, y, a, b: -g * (a / b) / b)
reciprocal = rule(np.reciprocal, lambda g, y, x: -g * y * y)
square = rule(np.square, lambda g, y, x: 2.0 * g * x)
remainder = rule(np.remainder,
                 lambda g, y, a, b: g,
                 lambda g, y, a, b: -g * np.floor_divide(a, b))
fmod = rule(np.fmod,
            lambda g, y, a, b: g,
            lambda g, y, a, b: -g * np.trunc(a / b))

# ---------------------------------------------------------------------------------------------------------------
# Powers, exponentials, logarithms
# ---------------------------------------------------------------------------------------------------------------


def power_slope(a: Any, b: Any) -> Any:
    """d(a**b)/da = b a**(b-1), and 0 where b is 0, also at a = 0."""
    return np.where(b == 0, 0.0, b * _power(a, np.where(b == 0, 1.0, b - 1)))


def safe_log(a: Any) -> Any:
    """log a where a > 0; 0 elsewhere, so that a**b log a is 0 at a = 0 and says nothing for a negative base."""
    return np.log(np.where(a > 0, a, 1.0))


_power = rule(np.power,
              lambda g, y, a, b: g * power_slope(a, b),
              lambda g, y, a, b: g * np.where(a > 0, y, 0.0) * safe_log(a))


@primitive(lambda g, y, x, *, b: g * (b * _constant_power(x, b=b - 1)) if b else g * 0.0)  # type: ignore[has-type]
def _constant_power(x: Array, *, b: float) -> Array:
    """x ** b for a number b."""
    return np.power(x, b)


@primitive(lambda g, y, b, *, a: g * y * math.log(a))
def _exponential(b: Array, *, a: float) -> Array:
    """a ** b for a positive number a."""
    return np.power(a, b)


@implements(np.power)
def power(a: Any, b: Any) -> Any:
    """a ** b.

    With a plain number as the exponent the derivative is b a**(b-1), right for negative bases and at 0. The derivative
    by a varying exponent is y log a, taken as 0 where a <= 0.
    """
    if type(b) in (int, float):
        return square(a) if b == 2 else _constant_power(a, b=b)
    if type(a) in (int, float) and a > 0:
        return _exponential(b, a=a)
    return _power(a, b)


sqrt = rule(np.sqrt, lambda g, y, x: g * 0.5 / y)
cbrt = rule(np.cbrt, lambda g, y, x: g / (3.0 * y * y))
exp = rule(np.exp, lambda g, y, x: g * y)
exp2 = rule(np.exp2, lambda g, y, x: g * y * LN2)
expm1 = rule(np.expm1, lambda g, y, x: g * (y + 1.0))
log = rule(np.log, lambda g, y, x: g / x)
log2 = rule(np.log2, lambda g, y, x: g / (x * LN2))
log10 = rule(np.log10, lambda g, y, x: g / (x * LN10))
log1p = rule(np.log1p, lambda g, y, x: g / (1.0 + x))


def over(a: Any, b: Any) -> Any:
    """a - b, and -inf wherever a is: the share of nothing is 0, also in nothing."""
    return np.where(a == -math.inf, a, a - b)


logaddexp = rule(np.logaddexp,
                 lambda g, y, a, b: g * sigmoid(over(a, b)),  # type: ignore[has-type]
                 lambda g, y, a, b: g * sigmoid(over(b, a)))  # type: ignore[has-type]
logaddexp2 = rule(np.logaddexp2,
                  lambda g, y, a, b: g * sigmoid(over(a, b) * LN2),  # type: ignore[has-type]
                  lambda g, y, a, b: g * sigmoid(over(b, a) * LN2))  # type: ignore[has-type]

# ---------------------------------------------------------------------------------------------------------------
# Trigonometric and hyperbolic
# ---------------------------------------------------------------------------------------------------------------

sin = rule(np.sin, lambda g, y, x: g * np.cos(x))
cos = rule(np.cos, lambda g, y, x: -g * np.sin(x))
tan = rule(np.tan, lambda g, y, x: g * (1.0 + y * y))
arcsin = rule(np.arcsin, lambda g, y, x: g / np.sqrt((1.0 - x) * (1.0 + x)))
arccos = rule(np.arccos, lambda g, y, x: -g / np.sqrt((1.0 - x) * (1.0 + x)))
arctan = rule(np.arctan, lambda g, y, x: g / (1.0 + x * x))
arctan2 = rule(np.arctan2,
               lambda g, y, a, b: g * b / (a * a + b * b),
               lambda g, y, a, b: -g * a / (a * a + b * b))
sinh = rule(np.sinh, lambda g, y, x: g * np.cosh(x))
cosh = rule(np.cosh, lambda g, y, x: g * np.sinh(x))
tanh = rule(np.tanh, lambda g, y, x: g * (1 - y * y))
arcsinh = rule(np.arcsinh, lambda g, y, x: g / np.sqrt(x * x + 1.0))
arccosh = rule(np.arccosh, lambda g, y, x: g / np.sqrt((x - 1.0) * (x + 1.0)))
arctanh = rule(np.arctanh, lambda g, y, x: g / ((1.0 - x) * (1.0 + x)))
hypot = rule(np.hypot,
             lambda g, y, a, b: g * a / np.where(y == 0, 1.0, y),
             lambda g, y, a, b: g * b / np.where(y == 0, 1.0, y))
deg2rad = rule(np.deg2rad, lambda g, y, x: g * (math.pi / 180.0))
rad2deg = rule(np.rad2deg, lambda g, y, x: g * (180.0 / math.pi))
implements(np.radians)(deg2rad)
implements(np.degrees)(rad2deg)

# ---------------------------------------------------------------------------------------------------------------
# Kinks
# ---------------------------------------------------------------------------------------------------------------


def share(g: Any, mine: Any, tie: Any) -> Any:
    """g where `mine`, half of it where `tie`, 0 elsewhere."""
    return np.where(mine, g, np.where(tie, 0.5 * g, 0.0))


absolute = rule(np.absolute, lambda g, y, x: g * np.sign(x))
fabs = rule(np.fabs, lambda g, y, x: g * np.sign(x))
maximum = rule(np.maximum,
               lambda g, y, a, b: share(g, a > b, a == b),
               lambda g, y, a, b: share(g, b > a, a == b))
minimum = rule(np.minimum,
               lambda g, y, a, b: share(g, a < b, a == b),
               lambda g, y, a, b: share(g, b < a, a == b))
fmax = rule(np.fmax,
            lambda g, y, a, b: share(g, (a > b) | (b != b), a == b),
            lambda g, y, a, b: share(g, (b > a) | (a != a), a == b))
fmin = rule(np.fmin,
            lambda g, y, a, b: share(g, (a < b) | (b != b), a == b),
            lambda g, y, a, b: share(g, (b < a) | (a != a), a == b))
copysign = rule(np.copysign,
                lambda g, y, a, b: g * np.sign(a) * np.sign(y),
                None)


@primitive(lambda g, y, x, low, high: np.where((x >= low) & (x <= high), g, 0.0),
           lambda g, y, x, low, high: np.where((x < low) & (low <= high), g, 0.0),
           lambda g, y, x, low, high: np.where((x > high) | (low > high), g, 0.0))
def _clip(x: Array, low: Any, high: Any) -> Array:
    # integers stay integers where a bound is missing
    return np.clip(x, None if low is NO_LOW else low, None if high is NO_HIGH else high)


@implements(np.clip)
def clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    """np.clip. The gradient passes where a is inside the bounds or on one; bounds that are Tensors get the rest."""
    low = min if a_min is None else a_min
    high = max if a_max is None else a_max
    return _clip(a, NO_LOW if low is None else low, NO_HIGH if high is None else high)


@primitive(None,
           lambda g, y, condition, a, b: np.where(condition, g, 0.0),
           lambda g, y, condition, a, b: np.where(condition, 0.0, g))
def _where(condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition, a, b)


@implements(np.where)
def where(condition: Any, x: Any, y: Any) -> Any:
    """np.where(condition, x, y). The gradient of the branch that was not taken is exactly 0 at this point.

    An infinite slope before `where` still turns that 0 into NaN (0 * inf); guard the argument too:
    `np.where(ok, np.sqrt(np.where(ok, x, 1.0)), 0.0)`.
    """
    return _where(condition, x, y)


@implements(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, posinf: float | None = None,
               neginf: float | None = None) -> Any:
    """np.nan_to_num: NaN and infinities replaced by numbers. No gradient passes where something was replaced."""
    if x.dtype.kind != "f":
        return x
    limits = np.finfo(x.dtype)
    x = where(x == math.inf, float(limits.max) if posinf is None else posinf, x)
    x = where(x == -math.inf, float(limits.min) if neginf is None else neginf, x)
    return where(x != x, nan, x)


constant(np.sign, np.floor, np.ceil, np.rint, np.trunc, np.round, np.floor_divide, np.heaviside, np.signbit,
         np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal, np.isclose,
         np.logical_and, np.logical_or, np.logical_not, np.logical_xor, np.bitwise_and, np.bitwise_or,
         np.bitwise_xor, np.invert, np.isnan, np.isinf, np.isfinite,
         np.zeros_like, np.ones_like, np.array_equal, np.allclose)


@implements(np.divmod)
def divmod_(a: Any, b: Any) -> tuple[Any, Any]:
    """np.divmod: the quotient, a constant, and the remainder."""
    return np.floor_divide(a, b), remainder(a, b)


# ---------------------------------------------------------------------------------------------------------------
# What networks add
# ---------------------------------------------------------------------------------------------------------------


# As an array, which NumPy computes with at once; a Python number is converted at every call.
HALF = np.array(0.5, np.float32)


@primitive(lambda g, y, x: g * (y * (1 - y)))
def sigmoid(x: Array) -> Any:
    """1 / (1 + exp(-x)), without overflow.

    In float32 it is computed as tanh(x/2)/2 + 1/2, which NumPy does faster; the error stays below 1e-7 but is not
    relative to the value in the left tail.
    """
    x = np.asarray(x)
    if x.dtype == np.float32:
        y = np.asarray(np.multiply(x, HALF))
        np.tanh(y, y)
        np.multiply(y, HALF, y)
        return np.add(y, HALF, y)
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-x))


@primitive(lambda g, y, x: np.where(x > 0, g, 0.0))
def relu(x: Array) -> Array:
    """max(x, 0), with slope 0 at 0."""
    return np.maximum(x, 0)


@primitive(lambda g, y, x: g * sigmoid(x))
def softplus(x: Array) -> Array:
    """log(1 + exp(x)), without overflow."""
    return np.logaddexp(x, 0.0)


def gelu(x: Any) -> Any:
    """Gaussian error linear unit, in the tanh form of Hendrycks & Gimpel (2016)."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))))


@primitive(lambda g, y, x, *, limit: clip(g, -limit, limit))
def _clip_gradient(x: Array, *, limit: float) -> Array:
    return np.array(x)


def clip_gradient(x: Any, limit: float) -> Any:
    """The identity, whose backward clips each entry of the gradient to ±limit (Graves 2013).

    Raises:
        ValueError: `limit` is not positive.
    """
    if not limit > 0:
        raise ValueError(f"clip_gradient needs a positive limit, got {limit}.")
    return _clip_gradient(x, limit=limit)


def stop_gradient(x: Any) -> Any:
    """The same value as a constant: no gradient flows through."""
    return x.detach() if hasattr(x, "detach") else x

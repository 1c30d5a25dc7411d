"""The table that the tests of the rules walk: for every primitive and every public function, calls to try.

A sample is a function of float arrays and the arrays to call it with. They lie inside the domain and away
from kinks and ties, so that three derivatives exist; the corners have their own tests.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minigrad as mg
from minigrad.accumulate import cast, unbroadcast
from minigrad.primitive import PRIMITIVES
from minigrad.rules import softmax as softmax_rules
from minigrad.rules.convolution import add_windows, windows
from minigrad.rules.indexing import scatter

Array = NDArray[Any]

#: What the package declares by itself, before a test declares more.
DECLARED = tuple(PRIMITIVES)


@dataclass(frozen=True)
class Sample:
    """A call: `f(*args)`, to show the function `of`.

    `reference` gives the same value with NumPy alone; it is `f` itself where that is NumPy's.
    """

    of: str
    case: str
    f: Callable[..., Any]
    args: tuple[Array, ...]
    reference: Callable[..., Any]
    half: bool = True  # whether float16 is precise enough to compare

    @property
    def id(self) -> str:
        return f"{self.of}-{self.case}"


SAMPLES: list[Sample] = []


class Group(tuple[Sample, ...]):
    """The samples of one function. A test of the table is given a group and walks it, see `conftest.py`: to begin a
    test takes pytest longer than what most samples need.
    """


def add(of: str, f: Callable[..., Any], *args: Array, case: str = "",
        reference: Callable[..., Any] | None = None,
        half: bool = True) -> None:
    """Put a sample into the table; its id tells the shapes and the case."""
    shapes = ",".join("x".join(map(str, a.shape)) or "0d" for a in args)
    SAMPLES.append(Sample(of, f"{shapes}{case and '-' + case}", f, args, reference or f, half))


def generator(*key: Any) -> np.random.Generator:
    """Random numbers of its own for each key, the same in every run."""
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def normal(*shape: int) -> Array:
    """Any numbers."""
    return np.asarray(generator("normal", shape).standard_normal(shape))


def positive(*shape: int) -> Array:
    """Between 0.5 and 2."""
    return np.asarray(generator("positive", shape).uniform(0.5, 2.0, shape))


def inside(*shape: int) -> Array:
    """Between -0.9 and 0.9."""
    return np.asarray(generator("inside", shape).uniform(-0.9, 0.9, shape))


def apart(*shape: int, offset: float = 0.1) -> Array:
    """Numbers of both signs, at least 0.3 from each other and 0.1 from 0, and no two of the same size."""
    n = math.prod(shape)
    return np.asarray((generator("apart", shape).permutation(n).reshape(shape) - n // 2) * 0.3 + offset)


def integers(high: int, *shape: int) -> Array:
    """Integers in 0 … high-1."""
    return np.asarray(generator("integers", high, shape).integers(0, high, shape))


# ------------------------------------------------------------------------------------------------------------
# One argument, each entry by itself
# ------------------------------------------------------------------------------------------------------------

UNARY: dict[Any, Callable[..., Array]] = {
    np.negative: normal, np.positive: normal, np.reciprocal: positive, np.square: normal, np.sqrt: positive,
    np.cbrt: positive, np.exp: normal, np.exp2: normal, np.expm1: normal, np.log: positive, np.log2: positive,
    np.log10: positive, np.log1p: positive, np.sin: normal, np.cos: normal, np.tan: inside, np.arcsin: inside,
    np.arccos: inside, np.arctan: normal, np.sinh: normal, np.cosh: normal, np.tanh: normal,
    np.arcsinh: normal,
    np.arctanh: inside, np.deg2rad: normal, np.rad2deg: normal, np.radians: normal, np.degrees: normal,
    np.absolute: apart, np.fabs: apart, np.nan_to_num: normal,
}

for _f, _domain in UNARY.items():
    for _shape in ((), (2, 3), (0, 3)):
        add(_f.__name__, _f, _domain(*_shape))
for _shape in ((), (2, 3), (0, 3)):
    add("arccosh", np.arccosh, positive(*_shape) + 1.0)
    add("sigmoid", mg.sigmoid, normal(*_shape), reference=lambda x: 1 / (1 + np.exp(-x)))
    add("relu", mg.relu, apart(*_shape), reference=lambda x: np.maximum(x, 0))
    add("softplus", mg.softplus, normal(*_shape), reference=lambda x: np.log(1 + np.exp(x)))
    add("gelu", mg.gelu, normal(*_shape),
        reference=lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
    add("clip_gradient", lambda x: mg.clip_gradient(x, 1e3), normal(*_shape), reference=lambda x: x)
    add("cast", lambda x: cast(x, dtype=getattr(x, "dtype", None)), normal(*_shape))

# ------------------------------------------------------------------------------------------------------------
# Two arguments, broadcast against each other
# ------------------------------------------------------------------------------------------------------------

PAIRS = [((3,), (3,)), ((2, 1), (1, 3)), ((), (2, 3)), ((2, 3), ()), ((1, 1, 2), (3, 1)), ((0, 3), (3,)),
         ((), ())]

BINARY: dict[Any, tuple[Callable[..., Array], Callable[..., Array]]] = {
    np.add: (normal, normal), np.subtract: (normal, normal), np.multiply: (normal, normal),
    np.divide: (normal, positive), np.power: (positive, normal), np.logaddexp: (normal, normal),
    np.logaddexp2: (normal, normal), np.arctan2: (positive, positive), np.hypot: (positive, positive),
}
APART: list[Any] = [np.maximum, np.minimum, np.fmax, np.fmin, np.remainder, np.fmod]

for _a, _b in PAIRS:
    for _f, (_left, _right) in BINARY.items():
        add(_f.__name__, _f, _left(*_a), _right(*_b))
    for _f in APART:  # the second argument is never within 0.05 of the first
        add(_f.__name__, _f, apart(*_a), apart(*_b, offset=0.25) if _f not in (np.remainder, np.fmod)
            else positive(*_b) + 3.0)
    _mask, _sign = np.arange(math.prod(_b)).reshape(_b) % 2 == 0, apart(*_b)
    add("where", lambda a, b, m=_mask: np.where(m, a, b), normal(*_a), normal(*_b))
    add("copysign", lambda a, s=_sign: np.copysign(a, s.astype(a.dtype)), apart(*_a), case=f"sign of {_b}")

for _f in (np.remainder, np.fmod):  # b goes several times into a, of either sign
    add(_f.__name__, _f, np.array([7.3, -7.3, 5.1, -5.1]), np.array([2.0, 2.5, -1.5, -2.3]), case="several times")
add("divmod", lambda a, b: np.divmod(a, b)[1], apart(3, 4), positive(4) + 3.0)

add("clip", lambda x: np.clip(x, -0.35, 0.55), apart(3, 4))
add("clip", lambda x: np.clip(x, None, 0.55), apart(3, 4), case="above")
add("clip", lambda x: np.clip(x, -0.35, None), apart(3, 4), case="below")
add("clip", np.clip, apart(3, 4), np.array([-0.3, -0.6, -0.7, -0.9]), np.array(0.5), case="bounds")
add("clip", lambda x: np.clip(x, min=-0.35, max=0.55), apart(5), case="keywords")
for _exponent in (0, 1, 2, 3, -1, -2, 0.5, 2.5):
    add("power", lambda x, b=_exponent: x**b, positive(2, 3), case=f"exponent {_exponent}")
add("power", lambda x: x**3, apart(5), case="negative base")
add("power", lambda x: np.power(x, np.array([2.0, 3.0, -1.0], x.dtype)), apart(2, 3),
    case="array of exponents")
add("power", lambda x: 2**x, normal(3), case="of a number")
add("power", lambda x: 0.5**x, normal(3), case="of a number below 1")
add("where", lambda a, b: np.where(np.array([[True], [False]]), a, b), normal(2, 3), normal(3),
    case="condition")
add("where", lambda a: np.where(a > 0, a, 0.5), apart(5), case="with a number")
add("divide", lambda x: 1 / x, positive(3), case="number by")
add("subtract", lambda x: 1 - x, positive(3), case="from a number")
add("multiply", lambda x: x * x, normal(3), case="same twice")
add("stop_gradient", lambda x: x * mg.stop_gradient(np.ones(3, x.dtype)), normal(3), reference=lambda x: x)

# ------------------------------------------------------------------------------------------------------------
# Reductions
# ------------------------------------------------------------------------------------------------------------

AXES: list[Any] = [None, 0, -1, (0, 2), (-1, 0), (0, 1, 2)]
REDUCTIONS: list[tuple[Any, Callable[..., Array]]] = [
    (np.sum, normal), (np.mean, normal), (np.var, normal), (np.std, normal), (np.prod, positive),
    (np.max, apart), (np.min, apart), (np.ptp, apart), (np.amax, apart), (np.amin, apart)]

for _f, _domain in REDUCTIONS:
    for _axis in AXES:
        for _keep in (False, True):
            add(_f.__name__, lambda x, f=_f, a=_axis, k=_keep: f(x, axis=a, keepdims=k), _domain(2, 3, 2),
                case=f"axis {_axis}{' kept' * _keep}")
    add(_f.__name__, lambda x, f=_f: f(x, axis=1), _domain(3, 1) if _f not in (np.std,) else normal(3, 2),
        case="size 1")
for _f, _domain in REDUCTIONS[:1] + REDUCTIONS[4:7]:
    add(_f.__name__, _f, _domain(), case="of a number")
for _f in (np.sum, np.prod):
    add(_f.__name__, lambda x, f=_f: f(x, axis=0), np.zeros((0, 3)), case="of nothing")
    add(_f.__name__, lambda x, f=_f: f(x, axis=1), np.zeros((0, 3)), case="nothing left")
    add(_f.__name__, lambda x, f=_f: f(x, axis=0, keepdims=True), np.zeros((0, 3)), case="of nothing, kept")
add("mean", lambda x: np.mean(x, axis=1), np.zeros((0, 3)), case="nothing left")
add("var", lambda x: np.var(x, axis=-1, ddof=1), normal(2, 4), case="ddof")
add("std", lambda x: np.std(x, axis=0, ddof=1), normal(4, 2), case="ddof")
add("sum", lambda x: x.sum(), normal(4), case="method")
add("sum", lambda x: np.add.reduce(x), normal(4, 2), case="reduce")
add("average", lambda x: np.average(x), normal(3, 2))
add("average", lambda x: np.average(x, weights=positive(3, 2).astype(x.dtype)), normal(3, 2), case="weights")
add("average", lambda x, w: np.average(x, axis=0, weights=w), normal(3, 2), positive(3),
    case="weights of one axis")
for _axis in (None, 0, -1, (0, 1)):
    add("logsumexp", lambda x, a=_axis: mg.logsumexp(x, axis=a), normal(3, 4), case=f"axis {_axis}",
        reference=lambda x, a=_axis: np.log(np.sum(np.exp(x), axis=a)))
    add("norm", lambda x, a=_axis: np.linalg.norm(x, axis=a), normal(3, 4), case=f"axis {_axis}")
add("logsumexp", lambda x: mg.logsumexp(x, axis=1, keepdims=True), normal(3, 4), case="kept",
    reference=lambda x: np.log(np.sum(np.exp(x), axis=1, keepdims=True)))
add("logsumexp", mg.logsumexp, normal(), reference=lambda x: x)
for _ord in (1, 2, 3, 2.5, math.inf):
    add("norm", lambda x, o=_ord: np.linalg.norm(x, o), apart(4), case=f"ord {_ord}")
    add("norm", lambda x, o=_ord: np.linalg.norm(x, o, axis=1, keepdims=True), apart(3, 4),
        case=f"ord {_ord}, kept")
add("norm", lambda x: np.linalg.norm(x, "fro"), normal(2, 3), case="Frobenius")
add("trace", np.trace, normal(3, 4))
add("trace", lambda x: np.trace(x, offset=1, axis1=2, axis2=0), normal(3, 2, 3), case="axes")
for _axis in (None, 0, -1):
    add("cumsum", lambda x, a=_axis: np.cumsum(x, axis=a), normal(3, 2), case=f"axis {_axis}")
    add("cumprod", lambda x, a=_axis: np.cumprod(x, axis=a), normal(3, 2), case=f"axis {_axis}")
    add("median", lambda x, a=_axis: np.median(x, axis=a), apart(3, 4), case=f"axis {_axis}")
    add("median", lambda x, a=_axis: np.median(x, axis=a, keepdims=True), apart(5, 3),
        case=f"axis {_axis}, kept")
    add("sort", lambda x, a=_axis: np.sort(x, axis=a), apart(3, 4), case=f"axis {_axis}")
add("cumsum", lambda x: np.cumsum(x, axis=0), np.zeros((0, 2)))
add("cumprod", lambda x: np.cumprod(x, axis=0), np.zeros((0, 2)))
add("diff", np.diff, normal(4))
add("diff", lambda x: np.diff(x, n=2, axis=0), normal(4, 3), case="second")
add("diff", lambda x: np.diff(x, axis=0), normal(1, 3), case="nothing left")

# ------------------------------------------------------------------------------------------------------------
# Shapes
# ------------------------------------------------------------------------------------------------------------

SHAPES: list[tuple[str, Callable[..., Any], Array]] = [
    ("reshape", lambda x: np.reshape(x, (3, -1)), normal(2, 3)),
    ("reshape", lambda x: np.reshape(x, ()), normal(1, 1)),
    ("reshape", lambda x: np.reshape(x, (0, 5)), normal(3, 0)),
    ("reshape", lambda x: x.reshape(4, 1, 3), normal(2, 6)),
    ("ravel", np.ravel, normal(2, 3)),
    ("ravel", np.ravel, normal()),
    ("transpose", np.transpose, normal(2, 3, 4)),
    ("transpose", lambda x: np.transpose(x, (1, 2, 0)), normal(2, 3, 2)),
    ("transpose", lambda x: np.transpose(x, (-1, 0, 1)), normal(2, 3, 1)),
    ("transpose", lambda x: x.T, normal(3, 1)),
    ("transpose", np.transpose, normal()),
    ("permute_dims", lambda x: np.permute_dims(x, (2, 0, 1)), normal(2, 3, 4)),
    ("swapaxes", lambda x: np.swapaxes(x, 0, -1), normal(2, 3, 4)),
    ("matrix_transpose", np.matrix_transpose, normal(2, 3, 4)),
    ("moveaxis", lambda x: np.moveaxis(x, 0, -1), normal(2, 3, 4)),
    ("moveaxis", lambda x: np.moveaxis(x, [0, 1], [-1, 0]), normal(2, 3, 1)),
    ("expand_dims", lambda x: np.expand_dims(x, (0, -1)), normal(2, 3)),
    ("expand_dims", lambda x: np.expand_dims(x, 0), normal()),
    ("squeeze", np.squeeze, normal(1, 3, 1)),
    ("squeeze", lambda x: np.squeeze(x, -1), normal(1, 2, 1)),
    ("atleast_1d", np.atleast_1d, normal()),
    ("atleast_1d", np.atleast_1d, normal(2)),
    ("atleast_2d", np.atleast_2d, normal()),
    ("atleast_2d", np.atleast_2d, normal(3)),
    ("atleast_2d", np.atleast_2d, normal(3, 1)),
    ("flip", np.flip, normal(2, 3)),
    ("flipud", np.flipud, normal(3, 2)),
    ("fliplr", np.fliplr, normal(3, 2)),
    ("flip", lambda x: np.flip(x, -1), normal(3, 2)),
    ("flip", lambda x: np.flip(x, (0, 2)), normal(3, 2, 2)),
    ("roll", lambda x: np.roll(x, 2), normal(2, 3)),
    ("roll", lambda x: np.roll(x, -1, axis=-1), normal(3, 2)),
    ("roll", lambda x: np.roll(x, (1, -2), axis=(0, 1)), normal(3, 4)),
    ("roll", lambda x: np.roll(x, 1, axis=(0, 1)), normal(2, 4)),
    ("broadcast_to", lambda x: np.broadcast_to(x, (2, 3)), normal(3)),
    ("broadcast_to", lambda x: np.broadcast_to(x, (4, 2, 3)), normal(2, 1)),
    ("broadcast_to", lambda x: np.broadcast_to(x, 3), normal()),
    ("broadcast_to", lambda x: np.broadcast_to(x, (0, 3)), normal(1, 3)),
    ("full_like", lambda x: np.full_like(x, x[0]), normal(2, 3)),
    ("tile", lambda x: np.tile(x, 3), normal(2)),
    ("tile", lambda x: np.tile(x, (2, 1, 2)), normal(2, 3)),
    ("tile", lambda x: np.tile(x, (2,)), normal(2, 3)),
    ("tile", lambda x: np.tile(x, (0, 2)), normal(2, 2)),
    ("repeat", lambda x: np.repeat(x, 2), normal(2, 3)),
    ("repeat", lambda x: np.repeat(x, [1, 0, 3], axis=1), normal(2, 3)),
    ("repeat", lambda x: np.repeat(x, 2, axis=-1), normal(3)),
    ("split", lambda x: np.split(x, 3)[1], normal(6, 2)),
    ("split", lambda x: np.concatenate(np.split(x, [1, 4], axis=-1)[::2], axis=1), normal(2, 6)),
    ("array_split", lambda x: np.array_split(x, 3)[0], normal(7, 2)),
    ("array_split", lambda x: np.array_split(x, [2, 5], -1)[1], normal(2, 7)),
    ("unstack", lambda x: np.unstack(x)[1] * np.unstack(x)[0], normal(3, 2)),
    ("unstack", lambda x: np.unstack(x, axis=-1)[-1], normal(2, 3, 2)),
    ("pad", lambda x: np.pad(x, 1), normal(2, 3)),
    ("pad", lambda x: np.pad(x, ((1, 0), (2, 1)), constant_values=3.0), normal(2, 3)),
    ("pad", lambda x: np.pad(x, (1, 2)), normal(3)),
    ("pad", lambda x: np.pad(x, 1), normal(0, 2)),
    ("tril", np.tril, normal(3, 4)),
    ("tril", lambda x: np.tril(x, -1), normal(2, 3, 3)),
    ("tril", np.tril, normal(3)),
    ("triu", np.triu, normal(3, 4)),
    ("triu", lambda x: np.triu(x, 1), normal(2, 3, 3)),
    ("diagonal", np.diagonal, normal(3, 4)),
    ("diagonal", lambda x: np.diagonal(x, -1, 0, 2), normal(3, 2, 4)),
    ("diagonal", lambda x: np.diagonal(x, 5), normal(3, 3)),
    ("diagonal", lambda x: np.linalg.diagonal(x, offset=1), normal(2, 3, 4)),
    ("diag", np.diag, normal(3)),
    ("diag", lambda x: np.diag(x, 2), normal(2)),
    ("diag", lambda x: np.diag(x, -1), normal(4)),
    ("diag", lambda x: np.diag(x, 1), normal(3, 4)),
]
for _n, (_of, _f, _x) in enumerate(SHAPES):
    add(_of, _f, _x, case=str(_n))
for _mode in ("edge", "reflect", "symmetric", "wrap"):
    add("pad", lambda x, m=_mode: np.pad(x, ((1, 2), (0, 3)), mode=m), normal(3, 4), case=_mode)

for _axis in (0, -1):
    add("concatenate", lambda a, b, x=_axis: np.concatenate([a, b, a], axis=x), normal(2, 2), normal(2, 2),
        case=f"axis {_axis}")
    add("stack", lambda a, b, x=_axis: np.stack([a, b, a], axis=x), normal(2, 3), normal(2, 3),
        case=f"axis {_axis}")
add("concatenate", lambda a, b: np.concatenate([a, b], axis=None), normal(2, 2), normal(3))
add("concatenate", lambda a, b: np.concatenate([a, b]), normal(0, 2), normal(3, 2))
add("concat", lambda a, b: np.concat([a, np.ones((1, 2), a.dtype), b]), normal(1, 2), normal(3, 2))
add("stack", lambda a, b: np.stack([a, b]), normal(), normal())
add("stack", lambda a: np.stack([a, np.ones(2, a.dtype)], axis=1), normal(2), case="with an array")
add("vstack", lambda a, b: np.vstack([a, b]), normal(3), normal(2, 3))
add("hstack", lambda a, b: np.hstack([a, b]), normal(3), normal(2))
add("hstack", lambda a, b: np.hstack([a, b]), normal(2, 3), normal(2, 1))
add("column_stack", lambda a, b: np.column_stack([a, b]), normal(3), normal(3, 2))
add("unbroadcast", lambda x: unbroadcast(x, shape=(1, 3)), normal(4, 2, 3),
    reference=lambda x: x.sum((0, 1))[None])
add("unbroadcast", lambda x: unbroadcast(x, shape=(2, 3)), normal(4, 2, 3), reference=lambda x: x.sum(0),
    case="rows")
add("unbroadcast", lambda x: unbroadcast(x, shape=()), normal(4, 2), reference=np.sum)
add("unbroadcast", lambda x: unbroadcast(x, shape=(3,)), normal(0, 3), reference=lambda x: x.sum(0))

# ------------------------------------------------------------------------------------------------------------
# Picking entries
# ------------------------------------------------------------------------------------------------------------

_FIVE = np.array([0, 4, 4, 1, -1])
INDICES: dict[str, Any] = {
    "int": 1, "negative int": -1, "NumPy int": np.int64(2), "slice": slice(1, 4),
    "step": slice(None, None, 2),
    "backwards": slice(None, None, -1), "backwards by two": slice(4, 0, -2), "tuple": (slice(1, 3), 0),
    "ellipsis": (..., 0), "newaxis": (None, slice(None), None, 1), "nothing": slice(2, 2),
    "repeated": _FIVE, "rows of rows": np.array([[0, 1], [1, 1]]), "list": [3, 0, 3],
    "no rows": np.zeros(0, int),
    "empty list": [], "mask": np.arange(5) % 2 == 0, "mask of all": np.arange(15).reshape(5, 3) % 4 == 0,
    "no mask": np.zeros(5, bool), "pairs": (np.array([0, 0, 4]), np.array([1, 1, -1])),
    "crossed": (np.array([[0], [4]]), np.array([0, 0, 2])), "mixed": (slice(1, 4), np.array([2, 2, 0])),
    "mixed with int": (np.array([1, 1]), 2), "with newaxis": (np.array([1, 1]), None, slice(0, 2)),
    "entry": (2, 1), "unsigned": np.array([1, 1, 2], np.uint8), "true": True, "false": np.array(False),
    "all": ..., "none": None, "nested tuple": ((0, 0, 2),),
}
for _case, _index in INDICES.items():
    add("getitem", lambda x, i=_index: x[i], normal(5, 3), case=_case)
add("getitem", lambda x: x[np.array([1, 1, 0, 3])], normal(4), case="vector")
add("getitem", lambda x: x[:, np.array([1, 1]), :, np.array([0, 2])], normal(2, 3, 2, 4), case="separated")
add("getitem", lambda x: x[1:3, np.array([0, 0]), None, ...], normal(4, 3, 2), case="everything")
add("getitem", lambda x: x[()], normal(), case="number")
add("getitem", lambda x: x[...], normal(), case="number, all")
add("getitem", lambda x: x[None], normal(), case="number, axis")
add("getitem", lambda x: x[1:4] * x[:3] + x[2] * x[2:], normal(5), case="overlapping")
add("getitem", lambda x: x[np.array([[300, 300], [2, 0]])], normal(301, 2), case="many rows")
add("getitem", lambda x: x[np.zeros((2, 0), int)], normal(3, 2), case="no rows, two axes")
add("getitem", lambda x: x[np.array([0, 1, 1])], normal(3, 0), case="empty rows")
for _axis in (None, 0, -1):
    add("take", lambda x, a=_axis: np.take(x, np.array([[0, 2], [2, 1]]), axis=a), normal(3, 4),
        case=f"axis {_axis}")
add("take", lambda x: x.take(1, axis=1), normal(3, 4), case="one")
add("take_along_axis", lambda x: np.take_along_axis(x, integers(3, 3, 2), -1), normal(3, 4))
add("take_along_axis", lambda x: np.take_along_axis(x, integers(3, 5, 4), 0), normal(3, 4), case="axis 0")
add("take_along_axis", lambda x: np.take_along_axis(x, integers(6, 5), None), normal(2, 3), case="flat")
add("take_along_axis", lambda x: np.take_along_axis(x, integers(4, 1, 2), axis=-1), normal(3, 4),
    case="broadcast")
add("compress", lambda x: np.compress([True, False, True], x, axis=-1), normal(2, 3))
add("compress", lambda x: np.compress([False, True, True], x), normal(2, 2), case="flat")
add("embedding", lambda w: mg.embedding(w, np.array([[0, 2], [2, 2]])), normal(3, 4),
    reference=lambda w: w[np.array([[0, 2], [2, 2]])])
add("scatter", lambda a, b: scatter(a, b, indices=(_FIVE, slice(0, 2)), shape=(5, 2)), normal(5, 2),
    normal(2, 2),
    reference=lambda a, b: np.stack([a[0] + b[0], a[3] + b[1], 0 * a[0], 0 * a[0], a[1] + a[2] + a[4]]))

# ------------------------------------------------------------------------------------------------------------
# Products
# ------------------------------------------------------------------------------------------------------------

MATMUL: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (5, 3, 4)), ((5, 2, 3), (1, 3, 4)), ((2, 1, 2, 3), (5, 3, 4)), ((3,), (5, 3, 2)),
    ((5, 2, 3), (3,)),
    ((2, 0), (0, 3)), ((0,), (0,)), ((0, 3), (3, 2)), ((4, 2, 0), (0, 3)), ((4, 2, 0), (4, 0, 3)),
    ((2, 3), (3, 0)),
    ((4, 2, 3), (3, 0)), ((0, 2, 3), (3, 4)), ((1, 1), (1, 1)), ((0,), (0, 2)), ((2, 0), (0,)),
]
for _a, _b in MATMUL:
    add("matmul", lambda a, b: a @ b, normal(*_a), normal(*_b))
    if len(_a) <= 2 or len(_b) <= 2:
        add("dot", np.dot, normal(*_a), normal(*_b))
for _a, _b in [((2, 3), (3, 4)), ((2, 2, 3), (3, 4)), ((3,), (3, 4)), ((0, 3), (3, 4)), ((2, 0), (0, 4))]:
    add("linear", mg.linear, normal(*_a), normal(*_b), normal(_b[-1]))
add("linear", mg.linear, normal(3), normal(3), normal(), case="a number")
add("linear", lambda x, w, b: mg.linear(np.swapaxes(np.tanh(x), 0, 1), w, b), normal(4, 2, 3), normal(3, 5), normal(5),
    case="of what was computed time first")
add("linear", lambda x, w, b: mg.linear(np.tanh(mg.linear(x, w, b)), w, b), normal(2, 3), normal(3, 3), normal(3),
    case="weight used twice")
add("linear", mg.linear, normal(2, 3, 2), normal(2, 16), normal(16), case="a vocabulary")
add("linear", mg.linear, normal(3, 1), normal(1, 8), normal(1), case="a vocabulary with one bias")
add("linear", lambda x, w: mg.linear(x, w, 0.5), normal(2, 2), normal(2, 16), case="a number as bias")
add("linear", lambda x, w, b: mg.linear(x, w, b) * mg.linear(x * x, w, b), normal(3, 1), normal(1, 8), normal(8),
    case="a vocabulary used twice")
add("dot", np.dot, normal(), normal(3))
add("dot", np.dot, normal(2, 3, 4), normal(2, 4, 3))
add("dot", lambda x: x.dot(2.0), normal(3), case="with a number")
add("matmul", lambda w, x: np.tanh(np.tanh(x @ w) @ w) @ w, normal(3, 3), normal(2, 3),
    case="weight used thrice")
add("matmul", lambda x: np.ones((2, 3), x.dtype) @ x, normal(3, 2), case="array @ tensor")
add("outer", np.outer, normal(3), normal(2))
add("outer", np.outer, normal(2, 2), normal(3))
add("outer", np.linalg.outer, normal(4), normal(3))
add("inner", np.inner, normal(3), normal(3))
add("inner", np.inner, normal(2, 3), normal(4, 3))
add("inner", np.inner, normal(), normal(4, 3))
add("vdot", np.vdot, normal(2, 3), normal(2, 3))
for _axes in (0, 1, 2, ((1, 0), (0, 1)), (-1, 0)):
    add("tensordot", lambda a, b, x=_axes: np.tensordot(a, b, axes=x), normal(3, 3), normal(3, 3),
        case=f"axes {_axes}")
add("tensordot", lambda a, b: np.tensordot(a, b, axes=((0, 2), (1, 0))), normal(2, 3, 4), normal(4, 2))
EINSUM: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
    ("i,i->", ((3,), (3,))), ("ij,jk->ik", ((2, 3), (3, 4))), ("ij,jk", ((2, 3), (3, 4))),
    ("ba,b", ((2, 3), (2,))),
    ("ii->i", ((3, 3),)), ("ii->", ((3, 3),)), ("ii", ((3, 3),)), ("iij->ji", ((3, 3, 2),)),
    ("ij->", ((2, 3),)),
    ("ij->j", ((2, 3),)), ("ij->ji", ((2, 3),)), ("ij,kl->il", ((2, 3), (4, 2))),
    ("i,j,ij->", ((2,), (3,), (2, 3))),
    ("...ij,...jk->...ik", ((5, 2, 3), (5, 3, 4))), ("...ij,jk->...ik", ((5, 2, 3), (3, 4))),
    ("i...,i...->...", ((3, 2), (3, 2))), ("...i", ((2, 3),)), ("...,...->...", ((2, 3), (3,))),
    ("bij,bkj->bik", ((2, 3, 4), (2, 5, 4))), ("iij,jkk->ik", ((2, 2, 3), (3, 4, 4))),
    ("i,i->i", ((3,), (1,))),
    ("iii->i", ((2, 2, 2),)), ("ij,ij,ij->i", ((2, 3), (2, 3), (2, 3))), ("ij,jk->ik", ((2, 0), (0, 3))),
    ("...->...", ((2, 3),)), (",ij->ij", ((), (2, 3))), ("ii,ij->j", ((2, 2), (2, 3))),
    ("iijj->ij", ((2, 2, 3, 3),)),
]
for _subscripts, _shapes in EINSUM:
    add("einsum", lambda *a, s=_subscripts: np.einsum(s, *a), *(normal(*s) for s in _shapes),
        case=_subscripts)

# ------------------------------------------------------------------------------------------------------------
# Images
# ------------------------------------------------------------------------------------------------------------


def slow_conv2d(x: Array, weight: Array, bias: Array | None = None, stride: Any = 1,
                padding: Any = ((0, 0), (0, 0)),
                dilation: Any = 1) -> Array:
    """Convolution by the definition, one output at a time. `padding` is ((top, bottom), (left, right))."""
    (s, t), (d, e) = ((v, v) if isinstance(v, int) else v for v in (stride, dilation))
    x = np.pad(x, ((0, 0), (0, 0), *padding))
    (B, _, H, W), (F, _, k, l) = x.shape, weight.shape
    rows, columns = (H - (k - 1) * d - 1) // s + 1, (W - (l - 1) * e - 1) // t + 1
    y = np.zeros((B, F, rows, columns), x.dtype)
    for r in range(rows):
        for c in range(columns):
            for i in range(k):
                for j in range(l):
                    y[:, :, r, c] += x[:, :, r * s + i * d, c * t + j * e] @ weight[:, :, i, j].T
    return y if bias is None else y + bias[:, None, None]


add("conv2d", mg.conv2d, normal(2, 2, 4, 5), normal(3, 2, 2, 3), reference=slow_conv2d)
add("conv2d", mg.conv2d, normal(1, 2, 4, 3), normal(2, 2, 2, 2), normal(2), reference=slow_conv2d)
CONV: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "stride 2": ({"stride": 2}, {"stride": 2}),
    "strides": ({"stride": (1, 2)}, {"stride": (1, 2)}),
    "dilation": ({"dilation": 2}, {"dilation": 2}),
    "dilations, strides": ({"dilation": (1, 2), "stride": (2, 1)}, {"dilation": (1, 2), "stride": (2, 1)}),
    "padding 1": ({"padding": 1}, {"padding": ((1, 1), (1, 1))}),
    "padding by axis": ({"padding": (0, 2)}, {"padding": ((0, 0), (2, 2))}),
    "padding by side": ({"padding": ((1, 0), (0, 2))}, {"padding": ((1, 0), (0, 2))}),
    "same": ({"padding": "same"}, {"padding": ((0, 1), (1, 1))}),
    "same, stride 2": ({"padding": "same", "stride": 2}, {"padding": ((0, 1), (0, 1)), "stride": 2}),
    "same, dilation 2": ({"padding": "same", "dilation": 2}, {"padding": ((1, 1), (2, 2)), "dilation": 2}),
}
for _case, (_ours, _theirs) in CONV.items():
    add("conv2d", lambda x, w, o=_ours: mg.conv2d(x, w, **o), normal(1, 2, 5, 6), normal(2, 2, 2, 3),
        case=_case,
        reference=lambda x, w, o=_theirs: slow_conv2d(x, w, **o))


def pooled(x: Array, f: Callable[..., Any], kernel: tuple[int, int], stride: tuple[int, int]) -> Array:
    """Pooling by the definition."""
    rows, columns = ((n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, stride))
    return np.array([[f(x[:, :, r * stride[0]:, c * stride[1]:][:, :, :kernel[0], :kernel[1]], axis=(2, 3))
                      for c in range(columns)] for r in range(rows)]).transpose(2, 3, 0, 1)


for _name, _pool, _f in (("max_pool2d", mg.max_pool2d, np.max), ("avg_pool2d", mg.avg_pool2d, np.mean)):
    add(_name, lambda x, p=_pool: p(x, 2), apart(2, 1, 4, 5),
        reference=lambda x, f=_f: pooled(x, f, (2, 2), (2, 2)))
    add(_name, lambda x, p=_pool: p(x, (3, 2), stride=1), apart(1, 2, 4, 3), case="overlapping",
        reference=lambda x, f=_f: pooled(x, f, (3, 2), (1, 1)))
add("windows", lambda x: windows(x, kernel=(2, 1), stride=(1, 2), dilation=(1, 1)), normal(1, 1, 3, 3))
add("add_windows", lambda x: add_windows(x, shape=(1, 2, 4, 3), kernel=(2, 2), stride=(1, 1),
                                         dilation=(2, 1)),
    normal(1, 2, 2, 2, 2, 2))

# ------------------------------------------------------------------------------------------------------------
# Softmax, losses, normalisation
# ------------------------------------------------------------------------------------------------------------


def slow_softmax(x: Array, axis: Any = -1) -> Array:
    return np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)


def slow_cross_entropy(x: Array, targets: Array) -> Array:
    return -np.log(np.take_along_axis(slow_softmax(x), targets[..., None], -1)[..., 0])


for _axis in (-1, 0, (0, 1)):
    add("softmax", lambda x, a=_axis: mg.softmax(x, axis=a), normal(3, 4), case=f"axis {_axis}",
        reference=lambda x, a=_axis: slow_softmax(x, a))
    add("log_softmax", lambda x, a=_axis: mg.log_softmax(x, axis=a), normal(3, 4), case=f"axis {_axis}",
        reference=lambda x, a=_axis: np.log(slow_softmax(x, a)))
add("softmax", mg.softmax, normal(0, 3), reference=lambda x: x)
add("log_softmax", mg.log_softmax, normal(2, 1), reference=lambda x: 0 * x)
for _shape in ((4,), (3, 4), (2, 3, 4), (0, 4)):
    _targets = integers(4, *_shape[:-1])
    add("cross_entropy", lambda x, t=_targets: mg.cross_entropy(x, t, reduction="none"), normal(*_shape),
        case="none",
        reference=lambda x, t=_targets: slow_cross_entropy(x, t))
    if 0 not in _shape:
        add("cross_entropy", lambda x, t=_targets: mg.cross_entropy(x, t), normal(*_shape),
            reference=lambda x, t=_targets: slow_cross_entropy(x, t).mean())
add("cross_entropy", lambda x: mg.cross_entropy(x, integers(4, 3), reduction="sum"), normal(3, 4), case="sum",
    reference=lambda x: slow_cross_entropy(x, integers(4, 3)).sum())
add("cross_entropy", lambda x: mg.cross_entropy(x, np.array([1, -1, 3]), ignore_index=-1), normal(3, 4),
    case="ignore",
    reference=lambda x: slow_cross_entropy(x[::2], np.array([1, 3])).mean())
add("cross_entropy", lambda x: mg.cross_entropy(np.transpose(x, (0, 2, 1)), integers(3, 2, 4)),
    normal(2, 3, 4), case="transposed logits",
    reference=lambda x: slow_cross_entropy(np.transpose(x, (0, 2, 1)), integers(3, 2, 4)).mean())
add("nll_loss", lambda x: mg.nll_loss(x, integers(4, 3)), normal(3, 4),
    reference=lambda x: -x[np.arange(3), integers(4, 3)].mean())
add("nll_loss", lambda x: mg.nll_loss(x, np.array([[0, 9], [2, 9]]), "sum", ignore_index=9), normal(2, 2, 3),
    reference=lambda x: -(x[0, 0, 0] + x[1, 0, 2]))
add("mse_loss", mg.mse_loss, normal(2, 3), positive(2, 3), reference=lambda a, b: np.mean((a - b) ** 2))
add("mse_loss", lambda a, b: mg.mse_loss(a, b, "none"), normal(3), positive(3),
    reference=lambda a, b: (a - b) ** 2)
add("cross_entropy", lambda x: mg.cross_entropy(np.swapaxes(np.tanh(x), 0, 1), integers(4, 3, 2), reduction="none"),
    normal(2, 3, 4), case="of what was computed time first",
    reference=lambda x: slow_cross_entropy(np.tanh(x).swapaxes(0, 1), integers(4, 3, 2)))
add("binary_cross_entropy_with_logits", mg.binary_cross_entropy_with_logits, normal(3, 2), positive(3, 2) / 2,
    reference=lambda x, t: np.mean(-t * np.log(1 / (1 + np.exp(-x))) - (1 - t) * np.log(1 / (1 + np.exp(x)))))


def slow_layer_norm(x: Array, weight: Any = 1.0, bias: Any = 0.0, axis: Any = -1) -> Array:
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + 1e-5) * weight + bias


add("layer_norm", mg.layer_norm, normal(3, 4), reference=slow_layer_norm, half=False)
add("layer_norm", mg.layer_norm, normal(3, 4), positive(4), normal(4), reference=slow_layer_norm, half=False)
add("layer_norm", lambda x: mg.layer_norm(x, axis=(0, -1)), normal(2, 2, 3), case="axes",
    reference=lambda x: slow_layer_norm(x, axis=(0, -1)))
add("dropout", lambda x: mg.dropout(x, 0.5, np.random.default_rng(0)), normal(5, 4),
    reference=lambda x: x * mg.dropout_mask((5, 4), 0.5, np.random.default_rng(0), x.dtype))
add("cross_entropy_slope", lambda x, s: softmax_rules._cross_entropy_slope(x, s, targets=integers(4, 3)),
    normal(3, 4), normal(3),
    reference=lambda x, s: s[:, None] * (slow_softmax(x) - np.eye(4)[integers(4, 3)]))
add("cross_entropy_slope", lambda x, s: softmax_rules._cross_entropy_slope(x, s, targets=integers(4, 2, 3)),
    normal(2, 3, 4), normal(2, 3),
    reference=lambda x, s: s[..., None] * (slow_softmax(x) - np.eye(4)[integers(4, 2, 3)]))
add("cross_entropy_slope", lambda x, s: softmax_rules._cross_entropy_slope(
        x, s, targets=integers(4, 3),
        losses=mg.cross_entropy(np.asarray(getattr(x, "data", x)), integers(4, 3), "none")),
    normal(3, 4), positive(3), case="known losses",
    reference=lambda x, s: s[:, None] * (slow_softmax(x) - np.eye(4)[integers(4, 3)]))
add("minus_one_hot", lambda p: softmax_rules._minus_one_hot(p, targets=integers(4, 3)), normal(3, 4),
    reference=lambda p: p - np.eye(4)[integers(4, 3)])


GROUPS = {of: Group([s for s in SAMPLES if s.of == of]) for of in dict.fromkeys([s.of for s in SAMPLES])}

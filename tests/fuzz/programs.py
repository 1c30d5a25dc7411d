"""Random programs: values, gradients and Hessian-vector products of random graphs, beside another way to get them.

    python -m tests.fuzz.programs --count 10000 --seed 0          against float64 PyTorch
    python -m tests.fuzz.programs --differences --count 200       against central differences, without PyTorch
    python -m tests.fuzz.programs --seed 7 --only 1234            one program again, printed

A program is built step by step on plain arrays, so that shapes fit, numbers stay of a sensible size and no entry lies
close to a kink, where rounding would decide which side is taken; exact ties are allowed, and share as they should. It
is then run on Tensors, and on torch tensors. A program is found again by its seed and its number.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.accumulate import cast
from minigrad.primitive import PRIMITIVES
from minigrad.recording import watching

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

Array = Any
Rng = np.random.Generator

LARGEST = 40.0  # entries of a value
MOST = 300  # of them
MARGIN = 1e-3  # to the next kink


class Mismatch(AssertionError):
    """Two ways to compute the same number disagree."""


class Undecided(Exception):
    """What is tied for NumPy differs in its last bit for PyTorch, so that the program says nothing about ties."""


# ------------------------------------------------------------------------------------------------------------
# Programs
# ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One operation: `ours` on arrays and Tensors, `theirs` on torch tensors; a list where `several`."""

    text: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    inputs: tuple[int, ...] = ()
    smooth: Callable[..., bool] = lambda *arrays: True
    several: bool = False


@dataclass
class Program:
    """Leaves and steps in order, and what is done with the values that are left over.

    Attributes:
        entries: a leaf's array, or a Step; each adds its values to the list that later steps number.
        values: what NumPy alone computes.
        weights: number of a value → factors of its entries in the loss.
    """

    entries: list[Any] = field(default_factory=list)
    values: list[Array] = field(default_factory=list)
    weights: dict[int, Array] = field(default_factory=dict)

    def leaf(self, array: Array) -> int:
        """Add a leaf; its number."""
        self.entries.append(array)
        self.values.append(array)
        return len(self.values) - 1

    def step(self, step: Step) -> bool:
        """Add a step, if what it gives is fit to go on with."""
        arrays = [self.values[i] for i in step.inputs]
        if not step.smooth(*arrays):
            return False
        with np.errstate(all="ignore"):
            results = step.ours(*arrays)
        results = [np.asarray(r) for r in results] if step.several else [np.asarray(results)]
        if any(r.dtype != np.float64 or r.size > MOST or not np.all(np.abs(r) < LARGEST) for r in results):
            return False
        self.entries.append(step)
        self.values += results
        return True

    def leaves(self) -> list[int]:
        """The numbers of the leaves."""
        found, n = [], 0
        for entry in self.entries:
            if isinstance(entry, Step):
                n += len(entry.ours(*(self.values[i] for i in entry.inputs))) if entry.several else 1
            else:
                found.append(n)
                n += 1
        return found

    def run(self, lift: Callable[[Array], Any], side: str) -> list[Any]:
        """All values, computed from leaves made by `lift`, on our "ours" or on "theirs"."""
        values: list[Any] = []
        for entry in self.entries:
            if not isinstance(entry, Step):
                values.append(lift(entry))
                continue
            result = getattr(entry, side)(*(values[i] for i in entry.inputs))
            values += result if entry.several else [result]
        return values

    def loss(self, values: Sequence[Any], sin: Callable[[Any], Any], constant: Callable[[Array], Any]) -> Any:
        """A curved sum of all that is left over."""
        return sum((sin(values[k]) * constant(w)).sum() for k, w in self.weights.items())

    def __str__(self) -> str:
        lines, n = [], 0
        for entry in self.entries:
            if isinstance(entry, Step):
                made = len(entry.ours(*(self.values[i] for i in entry.inputs))) if entry.several else 1
                left = ", ".join(f"v{n + k}" for k in range(made))
                right = entry.text.format(*(f"v{i}" for i in entry.inputs))
            else:
                made, left, right = 1, f"v{n}", "leaf"
            shapes = ", ".join(str(list(v.shape)) for v in self.values[n:n + made])
            lines.append(f"{left} = {right}    # {shapes}")
            n += made
        left_over = " + ".join(f"(sin(v{k}) * w{k}).sum()" for k in self.weights)
        return "\n".join([*lines, f"loss = {left_over}"])


# ------------------------------------------------------------------------------------------------------------
# What is smooth here
# ------------------------------------------------------------------------------------------------------------


def apart(difference: Array) -> bool:
    """Whether nothing is close to zero without being zero."""
    d = np.abs(difference)
    return bool(np.all((d == 0) | (d > MARGIN)))


def far(difference: Array) -> bool:
    """Whether nothing is close to zero."""
    return bool(np.all(np.abs(difference) > 0.05))


def no_near_ties(axis: Any) -> Callable[[Array], bool]:
    """Whether entries along axes are equal or well apart, and there are some."""

    def check(x: Array) -> bool:
        if not x.size:
            return False
        axes = axes_of(axis, x.ndim)
        rest = [i for i in range(x.ndim) if i not in axes]
        flat = np.transpose(x, rest + list(axes)).reshape(math.prod(x.shape[i] for i in rest), -1)
        return apart(np.diff(np.sort(flat, axis=-1), axis=-1))

    return check


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """An axis argument as a tuple of all its axes."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in ((axis,) if isinstance(axis, int) else axis))


# ------------------------------------------------------------------------------------------------------------
# Choosing
# ------------------------------------------------------------------------------------------------------------


def one_of(rng: Rng, items: Sequence[Any]) -> Any:
    return items[int(rng.integers(len(items)))]


def numbers(rng: Rng, shape: Sequence[int]) -> Array:
    return np.asarray(rng.standard_normal(tuple(shape)))


def any_value(p: Program, rng: Rng, least: int = 0, most: int = 6, where: Any = None) -> int:
    """A value with so many axes; a new leaf where there is none."""
    fit = [k for k, v in enumerate(p.values) if least <= v.ndim <= most and (where is None or where(v))]
    if fit:
        return fit[-1 - int(rng.integers(min(len(fit), 6)))]
    return p.leaf(numbers(rng, rng.integers(1, 4, int(rng.integers(least, max(least, min(most, 3)) + 1)))))


def of_shape(p: Program, rng: Rng, shape: Sequence[int]) -> int:
    """A value of this shape, often a new leaf."""
    fit = [k for k, v in enumerate(p.values) if v.shape == tuple(shape)]
    return one_of(rng, fit) if fit and rng.random() < 0.6 else p.leaf(numbers(rng, shape))


def some_axis(rng: Rng, ndim: int) -> int:
    return int(rng.integers(-ndim, ndim))


def some_axes(rng: Rng, ndim: int) -> Any:
    """None, an axis, or several."""
    kind = rng.integers(3)
    if kind == 0 or ndim == 0:
        return None
    if kind == 1:
        return some_axis(rng, ndim)
    chosen = rng.permutation(ndim)[:rng.integers(1, ndim + 1)]
    return tuple(int(a) - ndim * int(rng.integers(2)) for a in chosen)


Maker = Callable[[Program, Rng], Step | None]
MAKERS: list[Maker] = []


def maker(times: int = 1) -> Callable[[Maker], Maker]:
    """Decorator: a function that thinks up a step, chosen so many times as often as others."""

    def register(make: Maker) -> Maker:
        MAKERS.extend([make] * times)
        return make

    return register


# ------------------------------------------------------------------------------------------------------------
# Entry by entry
# ------------------------------------------------------------------------------------------------------------

anything = lambda x: x
again = lambda x: x * 1.0  # a value of its own
positive = lambda x: x * x + 0.5
above_one = lambda x: x * x + 1.5

#: name, ours, torch's name or function, what makes the argument fit, whether it is smooth there
UNARY: list[tuple[str, Any, Any, Any, Any]] = [
    *[(f"np.{f.__name__}", f, theirs, anything, None) for f, theirs in [
        (np.negative, "neg"), (np.positive, again), (np.square, "square"), (np.sin, "sin"), (np.cos, "cos"),
        (np.tanh, "tanh"), (np.arctan, "atan"), (np.arcsinh, "asinh"), (np.exp, "exp"), (np.expm1, "expm1"),
        (np.exp2, "exp2"), (np.sinh, "sinh"), (np.cosh, "cosh"), (np.deg2rad, "deg2rad"), (np.rad2deg, "rad2deg"),
        (np.nan_to_num, "nan_to_num")]],
    *[(f"np.{f.__name__}", f, theirs, positive, None) for f, theirs in [
        (np.sqrt, "sqrt"), (np.log, "log"), (np.log2, "log2"), (np.log10, "log10"), (np.log1p, "log1p"),
        (np.reciprocal, "reciprocal"), (np.cbrt, lambda x: x ** (1 / 3))]],
    ("np.arccosh", np.arccosh, "acosh", above_one, None),
    *[(f"np.{f.__name__}", f, theirs, "inside", None) for f, theirs in [
        (np.arcsin, "asin"), (np.arccos, "acos"), (np.arctanh, "atanh"), (np.tan, "tan")]],
    ("np.absolute", np.absolute, "abs", anything, apart),
    ("np.fabs", np.fabs, "abs", anything, apart),
    ("mg.relu", mg.relu, "relu", anything, apart),
    ("mg.sigmoid", mg.sigmoid, "sigmoid", anything, None),
    ("mg.softplus", mg.softplus, lambda x: torch.logaddexp(x, torch.zeros_like(x)), anything, None),
    ("mg.gelu", mg.gelu, lambda x: torch.nn.functional.gelu(x, approximate="tanh"), anything, None),
    ("mg.stop_gradient", lambda x: x + mg.stop_gradient(x), lambda x: x + x.detach(), anything, None),
    ("mg.clip_gradient", lambda x: mg.clip_gradient(x, 1e9), again, anything, None),
    ("cast", lambda x: cast(x, dtype=np.float64), again, anything, None),
]


@maker(6)
def unary(p: Program, rng: Rng) -> Step:
    name, f, theirs, domain, smooth = one_of(rng, UNARY)
    g = (lambda x: getattr(torch, theirs)(x)) if isinstance(theirs, str) else theirs
    if domain == "inside":
        ours, other = (lambda x: f(np.tanh(x) * 0.9)), (lambda x: g(torch.tanh(x) * 0.9))
    else:
        ours, other = (lambda x: f(domain(x))), (lambda x: g(domain(x)))
    return Step(name + "({0})", ours, other, (any_value(p, rng),), smooth or (lambda x: True))


def _clear_of_steps(a: Array, b: Array) -> bool:
    q = a / positive(b)
    return far((q - np.round(q)) * 4)


BINARY: list[tuple[str, Any, Any, Any]] = [
    ("{0} + {1}", lambda a, b: a + b, lambda a, b: a + b, None),
    ("{0} - {1}", lambda a, b: a - b, lambda a, b: a - b, None),
    ("{0} * {1}", lambda a, b: a * b, lambda a, b: a * b, None),
    ("{0} / positive({1})", lambda a, b: a / positive(b), lambda a, b: a / positive(b), None),
    ("positive({0}) ** {1}", lambda a, b: positive(a) ** b, lambda a, b: positive(a) ** b, None),
    ("np.maximum({0}, {1})", np.maximum, lambda a, b: torch.maximum(a, b), lambda a, b: apart(a - b)),
    ("np.minimum({0}, {1})", np.minimum, lambda a, b: torch.minimum(a, b), lambda a, b: apart(a - b)),
    ("np.fmax({0}, {1})", np.fmax, lambda a, b: torch.fmax(a, b), lambda a, b: far(a - b)),
    ("np.fmin({0}, {1})", np.fmin, lambda a, b: torch.fmin(a, b), lambda a, b: far(a - b)),
    ("np.logaddexp({0}, {1})", np.logaddexp, lambda a, b: torch.logaddexp(a, b), None),
    ("np.logaddexp2({0}, {1})", np.logaddexp2, lambda a, b: torch.logaddexp2(a, b), None),
    ("np.arctan2({0}, positive({1}))", lambda a, b: np.arctan2(a, positive(b)),
     lambda a, b: torch.atan2(a, positive(b)), None),
    ("np.hypot({0}, positive({1}))", lambda a, b: np.hypot(a, positive(b)), lambda a, b: torch.hypot(a, positive(b)),
     None),
    ("np.remainder({0}, positive({1}))", lambda a, b: np.remainder(a, positive(b)),
     lambda a, b: torch.remainder(a, positive(b)), _clear_of_steps),
    ("np.fmod({0}, positive({1}))", lambda a, b: np.fmod(a, positive(b)), lambda a, b: torch.fmod(a, positive(b)),
     lambda a, b: _clear_of_steps(a, b) and far(a)),
    ("np.where({0} > {1}, {0}, {1} * 0.5)", lambda a, b: np.where(a > b, a, b * 0.5),
     lambda a, b: torch.where(a > b, a, b * 0.5), lambda a, b: far(a - b)),
    ("np.clip({0}, {1}, {1} + 1)", lambda a, b: np.clip(a, b, b + 1.0), lambda a, b: torch.clamp(a, b, b + 1.0),
     lambda a, b: far(a - b) and far(a - b - 1)),
]


@maker(8)
def binary(p: Program, rng: Rng) -> Step:
    text, ours, theirs, smooth = one_of(rng, BINARY)
    i = any_value(p, rng)
    shape = p.values[i].shape
    fit = [k for k, v in enumerate(p.values) if _broadcast(v.shape, shape)]
    if rng.random() < 0.3:  # a leaf that is stretched
        stretched = [1 if rng.random() < 0.4 else n for n in shape][int(rng.integers(len(shape) + 1)):]
        fit = [p.leaf(numbers(rng, stretched))]
    inputs = (i, one_of(rng, fit))
    return Step(text, ours, theirs, inputs[::-1] if rng.random() < 0.5 else inputs, smooth or (lambda a, b: True))


def _broadcast(a: Sequence[int], b: Sequence[int]) -> bool:
    return all(n == m or 1 in (n, m) for n, m in zip(a[::-1], b[::-1]))


@maker(2)
def with_a_number(p: Program, rng: Rng) -> Step:
    c = round(float(rng.uniform(-2, 2)), 2)
    e = one_of(rng, [0, 1, 2, 3, -1, -2, 0.5, 2.5, -1.5])
    base = round(float(rng.uniform(0.3, 2)), 2)
    text, f, smooth = one_of(rng, [
        (f"{{0}} + {c}", lambda x: x + c, None), (f"{c} - {{0}}", lambda x: c - x, None),
        (f"{{0}} * {c}", lambda x: c * x, None), (f"{c} / positive({{0}})", lambda x: c / positive(x), None),
        (f"positive({{0}}) ** {e}", lambda x: positive(x) ** e, None), ("{0} ** 3", lambda x: x**3, None),
        ("{0} ** 2", lambda x: x**2, None), (f"{base} ** {{0}}", lambda x: base**x, None),
        ("abs({0})", abs, apart), ("-{0}", lambda x: -x, None)])
    return Step(text, f, f, (any_value(p, rng),), smooth or (lambda x: True))


@maker(2)
def against_a_number(p: Program, rng: Rng) -> Step:
    c = round(float(rng.uniform(-1, 1)), 2)
    i = any_value(p, rng)
    signs = numbers(rng, p.values[i].shape)
    text, ours, theirs, smooth = one_of(rng, [
        (f"np.clip({{0}}, {c}, {c + 1})", lambda x: np.clip(x, c, c + 1), lambda x: torch.clamp(x, c, c + 1),
         lambda x: apart(x - c) and apart(x - c - 1)),
        (f"np.maximum({{0}}, {c})", lambda x: np.maximum(x, c), lambda x: torch.maximum(x, torch.full_like(x, c)),
         lambda x: apart(x - c)),
        (f"np.where({{0}} > {c}, {{0}}, 0.1)", lambda x: np.where(x > c, x, 0.1),
         lambda x: torch.where(x > c, x, 0.1), lambda x: far(x - c)),
        ("np.copysign({0}, signs)", lambda x: np.copysign(x, signs),
         lambda x: torch.copysign(x, torch.tensor(signs)), far)])
    return Step(text, ours, theirs, (i,), smooth)


# ------------------------------------------------------------------------------------------------------------
# Reductions
# ------------------------------------------------------------------------------------------------------------


def reduced(f: Callable[..., Any], axis: Any, keep: bool) -> Callable[[Any], Any]:
    """torch's `f(x, dim=, keepdim=)` with NumPy's axis."""

    def do(x: Any) -> Any:
        return f(x, dim=axes_of(axis, x.ndim), keepdim=keep) if x.ndim else f(x.reshape(1), dim=(0,), keepdim=False)

    return do


def product(x: Any, dim: tuple[int, ...], keepdim: bool) -> Any:
    """torch.prod over several axes."""
    for d in sorted(dim, reverse=True):
        x = torch.prod(x, dim=d, keepdim=keepdim)
    return x


@maker(5)
def reduction(p: Program, rng: Rng) -> Step:
    i = any_value(p, rng)
    axis, keep = some_axes(rng, p.values[i].ndim), bool(rng.random() < 0.4)
    size = math.prod(p.values[i].shape[a] for a in axes_of(axis, p.values[i].ndim))
    ddof = int(rng.integers(2)) if size > 2 else 0
    some = lambda x: size > 0
    spread = lambda x: size > 1 and x.size > 0 and far(np.std(x, axis=axis))
    name, f, g, smooth = one_of(rng, [
        ("sum", np.sum, lambda *a, **k: torch.sum(*a, **k), None),
        ("mean", np.mean, lambda *a, **k: torch.mean(*a, **k), some), ("prod", np.prod, product, None),
        ("max", np.max, lambda *a, **k: torch.amax(*a, **k), no_near_ties(axis)),
        ("min", np.min, lambda *a, **k: torch.amin(*a, **k), no_near_ties(axis)),
        ("ptp", np.ptp, lambda *a, **k: torch.amax(*a, **k) - torch.amin(*a, **k), no_near_ties(axis)),
        ("var", lambda x, **k: np.var(x, ddof=ddof, **k), lambda *a, **k: torch.var(*a, correction=ddof, **k),
         lambda x: size > 1 and x.size > 0),
        ("std", lambda x, **k: np.std(x, ddof=ddof, **k),
         lambda *a, **k: torch.sqrt(torch.var(*a, correction=ddof, **k)), spread),
        ("logsumexp", mg.logsumexp, lambda *a, **k: torch.logsumexp(*a, **k), some),
        ("norm", np.linalg.norm, lambda x, dim, keepdim: torch.sqrt(torch.sum(x * x, dim=dim, keepdim=keepdim)),
         lambda x: size > 0 and far(np.sum(x * x, axis=axis)) and (axis is not None or x.ndim < 3)),
    ])
    if name == "norm" and isinstance(axis, tuple) and len(axis) > 2:
        axis = axis[0]
    return Step(f"{name}({{0}}, axis={axis}, keepdims={keep})", lambda x: f(x, axis=axis, keepdims=keep),
                reduced(g, axis, keep), (i,), smooth or (lambda x: True))


@maker(3)
def along_an_axis(p: Program, rng: Rng) -> Step:
    i = any_value(p, rng, 1)
    x = p.values[i]
    axis, n = some_axis(rng, x.ndim), int(rng.integers(1, 3))
    middle = lambda s, d: s.narrow(d, (s.shape[d] - 1) // 2, 2 - s.shape[d] % 2).mean(d)
    weights = rng.uniform(0.5, 1.5, x.shape[axis])
    laid = lambda: torch.tensor(weights).reshape([-1 if k == axis % x.ndim else 1 for k in range(x.ndim)])
    name, f, g, smooth = one_of(rng, [
        ("np.cumsum", lambda x: np.cumsum(x, axis), lambda x: torch.cumsum(x, axis), None),
        ("np.cumprod", lambda x: np.cumprod(x, axis), lambda x: torch.cumprod(x, axis), None),
        ("np.sort", lambda x: np.sort(x, axis), lambda x: torch.sort(x, dim=axis, stable=True).values,
         no_near_ties(axis)),
        ("np.median", lambda x: np.median(x, axis), lambda x: middle(torch.sort(x, dim=axis, stable=True).values,
                                                                     axis), no_near_ties(axis)),
        ("np.diff", lambda x: np.diff(x, n, axis), lambda x: torch.diff(x, n, axis), lambda x: x.shape[axis] >= n),
        ("np.average", lambda x: np.average(x, axis % x.ndim, weights),
         lambda x: (x * laid()).sum(axis) / weights.sum(), lambda x: x.shape[axis] > 0),
        ("np.linalg.norm 1", lambda x: np.linalg.norm(x, 1, axis=axis), lambda x: x.abs().sum(axis), far),
        ("np.linalg.norm 3", lambda x: np.linalg.norm(x, 3, axis=axis),
         lambda x: (x.abs() ** 3).sum(axis) ** (1 / 3), lambda x: far(x) and x.shape[axis] > 0),
        ("np.linalg.norm inf", lambda x: np.linalg.norm(x, math.inf, axis=axis), lambda x: x.abs().amax(axis),
         lambda x: far(x) and no_near_ties(axis)(np.abs(x))),
    ])
    return Step(f"{name}({{0}}, axis={axis})", f, g, (i,), smooth or (lambda x: True))


# ------------------------------------------------------------------------------------------------------------
# Shapes
# ------------------------------------------------------------------------------------------------------------


@maker(6)
def shape(p: Program, rng: Rng) -> Step:
    i = any_value(p, rng)
    x = p.values[i]
    n = x.ndim
    order = [int(a) for a in rng.permutation(n)]
    a, b = (some_axis(rng, n), some_axis(rng, n)) if n else (0, 0)
    grouped = _regrouped(rng, x.shape)
    wide = (*[int(rng.integers(1, 3))] * int(rng.integers(2)), *(int(rng.integers(1, 4)) if m == 1 else m
                                                                 for m in x.shape))
    reps = tuple(int(r) for r in rng.integers(1, 3, int(rng.integers(1, n + 2))))
    new = int(rng.integers(-n - 1, n + 1))
    choices: list[tuple[str, Any, Any]] = [
        (f"np.reshape({{0}}, {grouped})", lambda x: np.reshape(x, grouped), lambda x: x.reshape(grouped)),
        ("np.ravel({0})", np.ravel, lambda x: x.reshape(-1)),
        (f"np.transpose({{0}}, {order})", lambda x: np.transpose(x, order), lambda x: x.permute(order)),
        (f"np.expand_dims({{0}}, {new})", lambda x: np.expand_dims(x, new), lambda x: x.unsqueeze(new)),
        ("np.squeeze({0})", np.squeeze, lambda x: x.squeeze()),
        ("np.atleast_1d({0})", np.atleast_1d, lambda x: torch.atleast_1d(x)),
        ("np.atleast_2d({0})", np.atleast_2d, lambda x: torch.atleast_2d(x)),
        ("np.flip({0})", np.flip, lambda x: x.flip(tuple(range(x.ndim)))),
        (f"np.broadcast_to({{0}}, {wide})", lambda x: np.broadcast_to(x, wide), lambda x: x.broadcast_to(wide)),
        (f"np.tile({{0}}, {reps})", lambda x: np.tile(x, reps), lambda x: torch.tile(x, reps)),
    ]
    if n:
        k, times = int(rng.integers(-3, 4)), rng.integers(0, 3, x.shape[a])
        side = (slice(None),) * (a % n)
        widths = [(int(rng.integers(3)), int(rng.integers(3))) for _ in range(n)]
        mode = one_of(rng, ["constant", "edge", "reflect", "symmetric", "wrap"] if 0 not in x.shape else ["constant"])
        where = np.pad(np.arange(x.size).reshape(x.shape) + 1, widths, mode) if 1 not in x.shape else None
        choices += [
            (f"np.swapaxes({{0}}, {a}, {b})", lambda x: np.swapaxes(x, a, b), lambda x: x.swapaxes(a, b)),
            (f"np.moveaxis({{0}}, {a}, {b})", lambda x: np.moveaxis(x, a, b), lambda x: x.moveaxis(a, b)),
            (f"np.flip({{0}}, {a})", lambda x: np.flip(x, a), lambda x: x.flip(a)),
            (f"np.roll({{0}}, {k}, {a})", lambda x: np.roll(x, k, a), lambda x: torch.roll(x, k, a)),
            (f"np.roll({{0}}, {k})", lambda x: np.roll(x, k), lambda x: torch.roll(x, k)),
            (f"np.repeat({{0}}, {times.tolist()}, {a})", lambda x: np.repeat(x, times, a),
             lambda x: torch.repeat_interleave(x, torch.tensor(times), a)),
            (f"np.compress(every second, {{0}}, {a})",
             lambda x: np.compress(np.arange(x.shape[a]) % 2 == 0, x, axis=a), lambda x: x[(*side, slice(0, None, 2))]),
        ]
        if where is not None:
            picks = np.maximum(where - 1, 0)
            choices.append((f"np.pad({{0}}, {widths}, {mode!r})", lambda x: np.pad(x, widths, mode=mode),
                            lambda x: x.reshape(-1)[torch.tensor(picks)] * torch.tensor(where > 0)
                            if x.numel() else torch.zeros(where.shape, dtype=x.dtype) + 0 * x.sum()))
    if n >= 2:
        k, l = int(rng.integers(-2, 3)), a if a % n != b % n else (b % n + 1) % n
        choices += [
            ("np.matrix_transpose({0})", np.matrix_transpose, lambda x: x.mT),
            (f"np.tril({{0}}, {k})", lambda x: np.tril(x, k), lambda x: torch.tril(x, k)),
            (f"np.triu({{0}}, {k})", lambda x: np.triu(x, k), lambda x: torch.triu(x, k)),
            (f"np.diagonal({{0}}, 0, {l}, {b})", lambda x: np.diagonal(x, 0, l, b),
             lambda x: torch.diagonal(x, 0, l, b)),
            (f"np.trace({{0}}, 0, {l}, {b})", lambda x: np.trace(x, 0, l, b),
             lambda x: torch.diagonal(x, 0, l, b).sum(-1)),
        ]
    if n in (1, 2):
        k = int(rng.integers(-1, 2))
        choices.append((f"np.diag({{0}}, {k})", lambda x: np.diag(x, k), lambda x: torch.diag(x, k)))
    text, f, g = one_of(rng, choices)
    return Step(text, f, g, (i,))


def _regrouped(rng: Rng, shape: Sequence[int]) -> tuple[int, ...]:
    """Another shape with as many entries."""
    if 0 in shape:
        return (0, int(rng.integers(1, 4)))
    primes, n = [], math.prod(shape)
    for q in (2, 3, 5, 7, 11, 13):
        while n % q == 0:
            primes.append(q)
            n //= q
    primes.append(n)
    sizes = [1] * int(rng.integers(1, 4))
    for q in primes:
        sizes[int(rng.integers(len(sizes)))] *= q
    return tuple(sizes)


@maker(2)
def parted(p: Program, rng: Rng) -> Step | None:
    i = any_value(p, rng, 1, where=lambda v: max(v.shape) > 0)
    x = p.values[i]
    axis = some_axis(rng, x.ndim)
    n = x.shape[axis]
    cuts = sorted(int(c) for c in rng.integers(0, n + 1, int(rng.integers(1, 3))))
    sections = int(rng.integers(1, 4))
    text, f, g = one_of(rng, [
        (f"np.split({{0}}, {cuts}, {axis})", lambda x: np.split(x, cuts, axis),
         lambda x: list(torch.tensor_split(x, cuts, axis))),
        (f"np.array_split({{0}}, {sections}, {axis})", lambda x: np.array_split(x, sections, axis),
         lambda x: list(torch.tensor_split(x, sections, axis))),
        (f"np.unstack({{0}}, axis={axis})", lambda x: list(np.unstack(x, axis=axis)), lambda x: list(x.unbind(axis)))])
    return Step(text, f, g, (i,), several=True) if n and n < 6 else None


@maker(3)
def joined(p: Program, rng: Rng) -> Step | None:
    i = any_value(p, rng)
    x = p.values[i]
    count = int(rng.integers(1, 4))
    if rng.random() < 0.5 or not x.ndim:
        inputs = (i, *(of_shape(p, rng, x.shape) for _ in range(count)))
        axis = int(rng.integers(-x.ndim - 1, x.ndim + 1))
        return Step(f"np.stack([{', '.join(f'{{{k}}}' for k in range(count + 1))}], {axis})",
                    lambda *xs: np.stack(xs, axis), lambda *xs: torch.stack(xs, axis), inputs)
    axis = some_axis(rng, x.ndim)
    same = lambda v: v.ndim == x.ndim and all(n == m for k, (n, m) in enumerate(zip(v.shape, x.shape))
                                              if k != axis % x.ndim)
    fit = [k for k, v in enumerate(p.values) if same(v)]
    inputs = (i, *(one_of(rng, fit) for _ in range(count)))
    return Step(f"np.concatenate([{', '.join(f'{{{k}}}' for k in range(count + 1))}], {axis})",
                lambda *xs: np.concatenate(xs, axis), lambda *xs: torch.cat(xs, axis), inputs)


# ------------------------------------------------------------------------------------------------------------
# Picking entries
# ------------------------------------------------------------------------------------------------------------


@maker(5)
def picked(p: Program, rng: Rng) -> Step:
    i = any_value(p, rng, 1)
    x = p.values[i]
    index: list[Any] = []
    advanced = bool(rng.random() < 0.5)
    length = int(rng.integers(0, 4))
    for n in x.shape[:int(rng.integers(1, x.ndim + 1))]:
        if rng.random() < 0.1:
            index.append(None)
        if advanced and n and rng.random() < 0.6:
            index.append(rng.integers(-n, n, length))
        elif n and rng.random() < 0.4:
            index.append(int(rng.integers(-n, n)))
        else:
            low, high = sorted(int(c) for c in rng.integers(0, n + 1, 2))
            index.append(one_of(rng, [slice(None), slice(low, high), slice(low, None), slice(None, high, 2)]))
    if rng.random() < 0.2:
        index.append(...)
    if rng.random() < 0.15:
        mask = rng.random(x.shape) < 0.5
        index = [mask]
    key = tuple(index)
    arrays = any(isinstance(k, np.ndarray) and k.dtype != bool for k in key)
    # beside arrays of indices, NumPy (unlike torch) takes an int for one of them
    alike = [np.full(length, k) if arrays and isinstance(k, int) else k for k in key]
    theirs = tuple(torch.tensor(k) if isinstance(k, np.ndarray) else k for k in alike) if torch is not None else ()
    shown = ", ".join(repr(k.tolist()) if isinstance(k, np.ndarray) else str(k) for k in key)
    return Step("{0}[" + shown.replace("{", "").replace("}", "") + "]", lambda x: x[key], lambda x: x[theirs], (i,))


@maker(2)
def taken(p: Program, rng: Rng) -> Step | None:
    i = any_value(p, rng, 1, where=lambda v: v.size > 0)
    x = p.values[i]
    if not x.size:
        return None
    axis = some_axis(rng, x.ndim)
    rows = rng.integers(0, x.shape[axis], tuple(rng.integers(1, 4, int(rng.integers(1, 3)))))
    along = rng.integers(0, x.shape[axis], [int(rng.integers(1, 4)) if k == axis % x.ndim else n
                                            for k, n in enumerate(x.shape)])
    ids = rng.integers(0, x.shape[0], tuple(rng.integers(1, 4, int(rng.integers(0, 3)))))
    flat = rng.integers(0, x.size, 4)
    side = (slice(None),) * (axis % x.ndim)
    text, f, g = one_of(rng, [
        (f"np.take({{0}}, {rows.tolist()}, {axis})", lambda x: np.take(x, rows, axis),
         lambda x: x[(*side, torch.tensor(rows))]),
        (f"np.take({{0}}, {flat.tolist()})", lambda x: np.take(x, flat), lambda x: torch.take(x, torch.tensor(flat))),
        (f"np.take_along_axis({{0}}, {along.tolist()}, {axis})", lambda x: np.take_along_axis(x, along, axis),
         lambda x: torch.take_along_dim(x, torch.tensor(along), axis)),
        (f"mg.embedding({{0}}, {ids.tolist()})", lambda x: mg.embedding(x, ids), lambda x: x[torch.tensor(ids)])])
    return Step(text, f, g, (i,))


# ------------------------------------------------------------------------------------------------------------
# Products
# ------------------------------------------------------------------------------------------------------------


@maker(5)
def matmul(p: Program, rng: Rng) -> Step:
    i = any_value(p, rng, 1, 4)
    shape = p.values[i].shape
    k, n = shape[-1], int(rng.integers(1, 4))
    kind = rng.integers(4)
    other: tuple[int, ...] = [(k,), (k, n), (2, k, n), (*shape[:-2], k, n)][kind]
    if len(shape) > 2 and kind == 2:
        other = (1, k, n)
    j = of_shape(p, rng, other)
    text, f, g = one_of(rng, [("{0} @ {1}", np.matmul, lambda a, b: torch.matmul(a, b)),
                              ("({0} * 0.5) @ {1}", lambda a, b: (a * 0.5) @ b, lambda a, b: (a * 0.5) @ b)])
    return Step(text, f, g, (i, j))


@maker(2)
def linear(p: Program, rng: Rng) -> Step:
    i = any_value(p, rng, 1, 4)
    k, n = p.values[i].shape[-1], int(rng.integers(1, 20))
    biases: list[tuple[int, ...]] = [(n,), (), (1,), (1, n)][:p.values[i].ndim + 2]
    weight, bias = of_shape(p, rng, (k, n)), of_shape(p, rng, one_of(rng, biases))
    return Step("mg.linear({0}, {1}, {2})", mg.linear, lambda x, w, b: x @ w + b, (i, weight, bias))


@maker(2)
def product_of_two(p: Program, rng: Rng) -> Step | None:
    i = any_value(p, rng, 1, 3)
    a = p.values[i].shape
    j = of_shape(p, rng, a)
    last = of_shape(p, rng, (int(rng.integers(1, 4)), a[-1]))
    text, f, g, second = one_of(rng, [
        ("np.outer({0}, {1})", np.outer, lambda a, b: a.reshape(-1, 1) * b.reshape(1, -1), j),
        ("np.vdot({0}, {1})", np.vdot, lambda a, b: (a * b).sum(), j),
        ("np.inner({0}, {1})", np.inner, lambda a, b: torch.inner(a, b), last),
        ("np.tensordot({0}, {1}, ((-1,), (-1,)))", lambda a, b: np.tensordot(a, b, axes=((-1,), (-1,))),
         lambda a, b: torch.tensordot(a, b, dims=([a.ndim - 1], [b.ndim - 1])), last),
        ("np.dot({0}, {1}.T)", lambda a, b: np.dot(a, b.T), lambda a, b: a @ b.T, last),
        (f"np.tensordot({{0}}, {{1}}, {len(a)})", lambda x, y: np.tensordot(x, y, axes=len(a)),
         lambda x, y: torch.tensordot(x, y, dims=len(a)), j)])
    return Step(text, f, g, (i, second))


@maker(3)
def einsum(p: Program, rng: Rng) -> Step | None:
    size: dict[str, int] = {}
    terms, inputs = [], []
    for _ in range(int(rng.integers(1, 4))):
        i = any_value(p, rng, 0, 3)
        term = ""
        for n in p.values[i].shape:
            known = [c for c, m in size.items() if m == n]
            letter = one_of(rng, known) if known and rng.random() < 0.6 else "abcdefghi"[len(size)]
            size[letter] = n
            term += letter
        terms.append(term)
        inputs.append(i)
    letters = "".join(size)
    right = "".join(rng.permutation(list(letters))[:int(rng.integers(len(letters) + 1))]) if letters else ""
    subscripts = f"{','.join(terms)}->{right}"
    if math.prod(size.values()) > 4000 or 0 in size.values():
        return None
    return Step(f"np.einsum('{subscripts}', {', '.join(f'{{{k}}}' for k in range(len(inputs)))})",
                lambda *xs: np.einsum(subscripts, *xs), lambda *xs: torch.einsum(subscripts, *xs), tuple(inputs))


@maker(1)
def image(p: Program, rng: Rng) -> Step:
    i = any_value(p, rng, 4, 4, lambda v: 0 < v.size <= 150 and min(v.shape[2:]) >= 2)
    if p.values[i].ndim != 4 or min(p.values[i].shape[2:]) < 2:
        i = p.leaf(numbers(rng, (int(rng.integers(1, 3)), int(rng.integers(1, 3)), *rng.integers(2, 6, 2))))
    channels, (H, W) = p.values[i].shape[1], p.values[i].shape[2:]
    k, l = int(rng.integers(1, min(3, H) + 1)), int(rng.integers(1, min(3, W) + 1))
    stride, padding = (int(rng.integers(1, 3)), int(rng.integers(1, 3))), int(rng.integers(2))
    kind = rng.integers(3)
    if kind == 0:
        w, b = p.leaf(numbers(rng, (int(rng.integers(1, 3)), channels, k, l))), int(rng.integers(2))
        bias = [p.leaf(numbers(rng, p.values[w].shape[:1]))] if b else []
        return Step(f"mg.conv2d({{0}}, {{1}}{', {2}' * b}, stride={stride}, padding={padding})",
                    lambda *xs: mg.conv2d(*xs, stride=stride, padding=padding),
                    lambda *xs: torch.nn.functional.conv2d(*xs, stride=stride, padding=padding), (i, w, *bias))
    if kind == 1:
        return Step(f"mg.avg_pool2d({{0}}, {(k, l)}, {stride})", lambda x: mg.avg_pool2d(x, (k, l), stride),
                    lambda x: torch.nn.functional.avg_pool2d(x, (k, l), stride), (i,))
    return Step(f"mg.max_pool2d({{0}}, {(k, l)}, {stride})", lambda x: mg.max_pool2d(x, (k, l), stride),
                lambda x: x.unfold(2, k, stride[0]).unfold(3, l, stride[1]).amax((-2, -1)), (i,),
                lambda x: no_near_ties(None)(x))


# ------------------------------------------------------------------------------------------------------------
# Softmax, losses, loops
# ------------------------------------------------------------------------------------------------------------


@maker(2)
def softmax(p: Program, rng: Rng) -> Step:
    i = any_value(p, rng, 1)
    axis = some_axis(rng, p.values[i].ndim)
    n = p.values[i].shape[-1]
    text, f, g, more = one_of(rng, [
        (f"mg.softmax({{0}}, {axis})", lambda x: mg.softmax(x, axis), lambda x: torch.softmax(x, axis), 0),
        (f"mg.log_softmax({{0}}, {axis})", lambda x: mg.log_softmax(x, axis), lambda x: torch.log_softmax(x, axis), 0),
        ("mg.layer_norm({0}, {1}, {2})", mg.layer_norm,
         lambda x, w, b: torch.nn.functional.layer_norm(x, (n,), w, b), 2)])
    return Step(text, f, g, (i, *(of_shape(p, rng, (n,)) for _ in range(more))),
                lambda x, *more: x.shape[axis] > 0 and (not more or (n > 1 and far(np.std(x, axis=-1)))))


@maker(2)
def loss(p: Program, rng: Rng) -> Step | None:
    i = any_value(p, rng, 1, where=lambda v: v.size > 0)
    x = p.values[i]
    if not x.size:
        return None
    targets = rng.integers(0, x.shape[-1], x.shape[:-1])
    reduction = one_of(rng, ["mean", "sum", "none"])
    ignore = int(rng.integers(x.shape[-1])) if rng.random() < 0.3 and np.unique(targets).size > 1 else None
    options = {} if ignore is None else {"ignore_index": ignore}
    probabilities = rng.random(x.shape)
    F = torch.nn.functional if torch is not None else None

    def rows(f: Any, x: Any) -> Any:  # torch has classes along axis 1, and fails for some layouts
        y = f(x.reshape(-1, x.shape[-1]), torch.tensor(targets.reshape(-1)), reduction=reduction, **options)
        return y.reshape(targets.shape) if reduction == "none" else y

    text, f, g, more = one_of(rng, [
        (f"mg.cross_entropy({{0}}, {targets.tolist()}, {reduction!r}, {ignore})",
         lambda x: mg.cross_entropy(x, targets, reduction, ignore),
         lambda x: rows(F.cross_entropy, x), 0),
        (f"mg.nll_loss({{0}}, {targets.tolist()}, {reduction!r}, {ignore})",
         lambda x: mg.nll_loss(x, targets, reduction, ignore),
         lambda x: rows(F.nll_loss, x), 0),
        (f"mg.binary_cross_entropy_with_logits({{0}}, p, {reduction!r})",
         lambda x: mg.binary_cross_entropy_with_logits(x, probabilities, reduction),
         lambda x: F.binary_cross_entropy_with_logits(x, torch.tensor(probabilities), reduction=reduction), 0),
        (f"mg.mse_loss({{0}}, {{1}}, {reduction!r})", lambda a, b: mg.mse_loss(a, b, reduction),
         lambda a, b: F.mse_loss(a, b, reduction=reduction), 1)])
    return Step(text, f, g, (i, *(of_shape(p, rng, x.shape) for _ in range(more))))


@maker(1)
def dropout(p: Program, rng: Rng) -> Step:
    i = any_value(p, rng)
    seed = int(rng.integers(2**31))
    mask = lambda x: mg.dropout_mask(tuple(x.shape), 0.3, np.random.default_rng(seed), np.float64)
    return Step("mg.dropout({0}, 0.3)", lambda x: mg.dropout(x, 0.3, np.random.default_rng(seed)),
                lambda x: x * torch.tensor(np.array(mask(x))), (i,))


@maker(1)
def scan(p: Program, rng: Rng) -> Step | None:
    i = any_value(p, rng, 2, 2, lambda v: 0 < v.shape[0] <= 5)
    T, n = p.values[i].shape
    if not T:
        return None
    h, W = of_shape(p, rng, (n,)), of_shape(p, rng, (n, n))
    reverse = bool(rng.integers(2))

    def ours(x: Any, h: Any, W: Any) -> Any:
        if not isinstance(x, mg.Tensor):  # while the program is built
            x, h, W = (mg.tensor(v) for v in (x, h, W))
        step = lambda h, v: (np.tanh(h @ W + v),) * 2
        last, ys = mg.scan(step, h, x, reverse=reverse)
        return (ys + last) if ys.requires_grad else (ys + last).data

    def theirs(x: Any, h: Any, W: Any) -> Any:
        found = []
        for v in (x.flip(0) if reverse else x).unbind(0):
            h = torch.tanh(h @ W + v)
            found.append(h)
        return torch.stack(found[::-1] if reverse else found) + h

    return Step(f"mg.scan(tanh(h @ W + x), {{1}}, {{0}}, reverse={reverse})", ours, theirs, (i, h, W))


# ------------------------------------------------------------------------------------------------------------
# Building and comparing
# ------------------------------------------------------------------------------------------------------------


def build(seed: int, number: int) -> Program:
    """The program of this seed and number."""
    rng = np.random.default_rng([seed, number])
    p = Program()
    for _ in range(int(rng.integers(1, 4))):
        sizes = rng.choice([0, 1, 2, 3, 4], int(rng.integers(0, 5)), p=[0.03, 0.17, 0.35, 0.35, 0.1])
        p.leaf(numbers(rng, sizes))
    for _ in range(int(rng.integers(3, 25))):
        step = one_of(rng, MAKERS)(p, rng)
        if step is not None:
            p.step(step)
    used = {i for entry in p.entries if isinstance(entry, Step) for i in entry.inputs}
    for k, value in enumerate(p.values):
        if k not in used or rng.random() < 0.1:  # what nothing follows, and some that something does
            p.weights[k] = numbers(rng, value.shape)
    return p


@dataclass
class Run:
    """What one way to compute gave: all values, the gradients of leaves and of one value, their derivative."""

    values: list[Array]
    loss: float
    first: list[Array]
    second: list[Array]


def directions(p: Program) -> list[Array]:
    """For each leaf a direction to take the second derivative along."""
    rng = np.random.default_rng(len(p.values))
    return [numbers(rng, p.values[k].shape) for k in p.leaves()]


def ours(p: Program) -> Run:
    """On Tensors; an ordinary backward must give the bits that differentiable gradients have."""
    leaves = p.leaves()
    values = p.run(lambda a: mg.tensor(a, requires_grad=True), "ours")
    xs, wanted = [values[k] for k in leaves], values[len(values) // 2]
    loss = p.loss(values, np.sin, lambda w: w)
    first = mg.grad(loss, [*xs, *([wanted] if wanted.requires_grad else [])], create_graph=True)
    loss.backward(retain_graph=True)
    for x, g in zip(xs, first):
        if (x.grad is None) != (g is None) or (g is not None and not np.array_equal(x.grad, g.data)):
            raise Mismatch("backward() and grad(create_graph=True) differ")
    slopes = [(g * d).sum() for g, d in zip(first, directions(p)) if g is not None and g.requires_grad]
    second = mg.grad(sum(slopes), xs) if slopes else [None] * len(xs)
    return Run([v.data for v in values], loss.item(), _zeros(first, [x.shape for x in [*xs, wanted]]),
               _zeros(second, [x.shape for x in xs]))


def _zeros(found: Sequence[Any], shapes: Sequence[Any]) -> list[Array]:
    return [np.zeros(s) if g is None else g.data for g, s in zip_longest(found, shapes)]


def torchs(p: Program) -> Run:
    """The same with PyTorch."""
    leaves = p.leaves()
    values = p.run(lambda a: torch.tensor(a, requires_grad=True), "theirs")
    xs, wanted = [values[k] for k in leaves], values[len(values) // 2]
    loss = p.loss(values, torch.sin, torch.tensor)
    asked = [*xs, *([wanted] if wanted.requires_grad else [])]
    first = torch.autograd.grad(loss, asked, create_graph=True, allow_unused=True)
    slopes = [(g * torch.tensor(d)).sum() for g, d in zip(first, directions(p)) if g is not None and g.requires_grad]
    second: Sequence[Any] = [None] * len(xs)
    if slopes:
        second = torch.autograd.grad(sum(slopes), xs, allow_unused=True)
    plain = lambda found, like: [np.zeros(x.shape) if g is None else g.detach().numpy()
                                 for g, x in zip_longest(found, like)]
    return Run([v.detach().numpy() for v in values], loss.item(), plain(first, [*xs, wanted]), plain(second, xs))


def same(what: str, a: Sequence[Array], b: Sequence[Array], tolerance: float, scale: float = 1.0) -> None:
    """Compare lists of arrays; the error may be as large as `tolerance` times the largest entry of all."""
    finite = [float(np.max(np.abs(v))) for v in b if v.size]
    scale = max([scale, *finite])
    for k, (x, y) in enumerate(zip(a, b, strict=True)):
        if x.shape != y.shape:
            raise Mismatch(f"{what} {k}: shapes {x.shape} and {y.shape}")
        error = np.abs(x - y)
        if not np.all(error <= tolerance * scale):
            raise Mismatch(f"{what} {k}: {x.reshape(-1)[np.argmax(error)]:.12g} and "
                           f"{y.reshape(-1)[np.argmax(error)]:.12g} (the largest is {scale:.3g})")


def compare_with_torch(p: Program) -> None:
    """Raise Mismatch where PyTorch gets something else."""
    a, b = ours(p), torchs(p)
    same("value", a.values, p.values, 1e-12)
    same("value", a.values, b.values, 1e-10)
    for entry in p.entries:
        if isinstance(entry, Step) and not entry.smooth(*(b.values[i] for i in entry.inputs)):
            raise Undecided
    same("gradient", a.first, b.first, 1e-9)
    same("Hessian-vector product", a.second, b.second, 1e-8, max(1.0, *(float(np.max(np.abs(g), initial=0.0))
                                                                      for g in b.first)))


def compare_with_differences(p: Program, h: float = 1e-6) -> None:
    """Raise Mismatch where central differences along the program's directions disagree."""
    a, leaves, ds = ours(p), p.leaves(), directions(p)
    same("value", a.values, p.values, 1e-12)

    def at(t: float) -> tuple[float, list[Array]]:
        moved = {id(p.values[k]): p.values[k] + t * d for k, d in zip(leaves, ds)}
        values = p.run(lambda v: mg.tensor(moved[id(v)], requires_grad=True), "ours")
        loss = p.loss(values, np.sin, lambda w: w)
        xs = [values[k] for k in leaves]
        return loss.item(), _zeros(mg.grad(loss, xs), [x.shape for x in xs])

    (up, g_up), (down, g_down) = at(h), at(-h)
    size = max(1.0, abs(a.loss), *(float(np.max(np.abs(g), initial=0.0)) for g in [*a.first, *a.second]))
    along = sum(float((g * d).sum()) for g, d in zip(a.first, ds))
    # a program with mg.stop_gradient has a slope that differences do not know
    if any(isinstance(e, Step) and "stop_gradient" in e.text for e in p.entries):
        return
    same("slope", [np.array(along)], [np.array((up - down) / (2 * h))], 1e-5, size)
    same("Hessian-vector product", a.second, [(x - y) / (2 * h) for x, y in zip(g_up, g_down)], 1e-4, size)


def check(seed: int, number: int, differences: bool, used: Counter[str] | None = None) -> None:
    """Build a program and compare.

    Raises:
        Mismatch: they disagree; the program is in the message.
        Undecided: see there.
    """
    p = build(seed, number)
    count = (lambda phase, primitive, *rest: used.update([primitive.name])) if used is not None else None
    try:
        with warnings.catch_warnings(), watching(count) if count else nullcontext():
            warnings.simplefilter("error")
            (compare_with_differences if differences else compare_with_torch)(p)
    except Undecided:
        raise
    except Exception as error:
        raise Mismatch(f"program {number} of seed {seed}: {type(error).__name__}: {error}\n{p}") from error


def main() -> int:
    """The command; exit status 1 if a program had a mismatch."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--first", type=int, default=0, help="number of the first program")
    options.add_argument("--only", type=int, help="run this program alone, and print it")
    options.add_argument("--differences", action="store_true", help="against central differences, without PyTorch")
    a = options.parse_args()
    if torch is None and not a.differences:
        print("PyTorch is not installed: comparing with central differences")
        a.differences = True
    if torch is not None:
        torch.set_num_threads(1)
    if a.only is not None:
        print(build(a.seed, a.only))
    todo = [a.only] if a.only is not None else range(a.first, a.first + a.count)
    failed, used, undecided, started = [], Counter[str](), 0, time.monotonic()
    for done, number in enumerate(todo):
        try:
            check(a.seed, number, a.differences, used)
        except Undecided:
            undecided += 1
        except Mismatch as error:
            failed.append(number)
            print(error, file=sys.stderr, flush=True)
        if done % 1000 == 999:
            print(f"{done + 1} programs, {len(failed)} with a mismatch, {time.monotonic() - started:.0f} s", flush=True)
    rules = {q.name for q in PRIMITIVES if q.rules}
    print(f"{len(todo)} programs of seed {a.seed}, {sum(used.values())} operations, {len(failed)} with a mismatch"
          + (f": {failed[:20]}" if failed else "")
          + (f"; {undecided} left out, whose ties rounding decides" if undecided else ""))
    print(f"primitives with a rule: {len(rules & set(used))} of {len(rules)} used"
          + (f"; not {', '.join(sorted(rules - set(used)))}" if rules - set(used) else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Checking gradients against finite differences, and derivatives of whole functions: jacobian, hvp, gradcheck.

`gradcheck` compares random projections of the Jacobian with central differences, and then does the same to the
gradient itself, so that one call checks the first and the second derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .primitive import Primitive
from .recording import LOCAL, watching
from .tape import Node, describe
from .tensor import Tensor, grad, tensor

Array = NDArray[Any]


def jacobian(f: Callable[[Tensor], Tensor], x: Any) -> Array:
    """The Jacobian of `f` at `x`: an array of shape (*f(x).shape, *x.shape), a row per backward.

    Raises:
        TypeError: `x` is not floating-point.
    """
    x = tensor(getattr(x, "data", x), requires_grad=True)
    y = f(x)
    rows = np.zeros((y.size, x.size), np.result_type(x.dtype, y.dtype))
    if y.requires_grad:
        for k in range(y.size):
            seed = np.zeros(y.size, y.dtype)
            seed[k] = 1
            (row,) = grad(y, x, seed.reshape(y.shape), retain_graph=True)
            rows[k] = 0 if row is None else row.data.reshape(-1)
    return rows.reshape(y.shape + x.shape)


def hvp(f: Callable[[Tensor], Tensor], x: Any, v: Any) -> Array:
    """The Hessian of the scalar function `f` at `x`, times `v`: an array of x's shape, for the price of two backwards.

    Raises:
        ValueError: `f(x)` is not a single number, or `v` has another shape than `x`.
    """
    x = tensor(getattr(x, "data", x), requires_grad=True)
    v = np.asarray(getattr(v, "data", v))
    if v.shape != x.shape:
        raise ValueError(f"hvp: v has shape {v.shape}, x has {x.shape}; they must be equal.")
    (slope,) = grad(f(x), x, create_graph=True)
    if slope is None or not slope.requires_grad:
        return np.zeros(x.shape, x.dtype)
    (product,) = grad(slope, x, v)
    return np.zeros(x.shape, x.dtype) if product is None else product.data


class GradientError(AssertionError):
    """A gradient does not agree with finite differences."""


def gradcheck(f: Callable[..., Any], inputs: Tensor | Array | Sequence[Any], order: int = 2, eps: float = 1e-6,
              rtol: float = 1e-4, atol: float = 1e-6, seed: int = 0) -> bool:
    """Compare the gradients of `f` with central differences, to `order` (the gradient's own gradient is order 2).

    Args:
        f: a function of Tensors that returns a Tensor or a sequence of them; it must be deterministic.
        inputs: the point: Tensors or arrays, or a single one. Integer inputs are passed on and not varied.
        order: 1, 2 or more.
        eps: the step; float64 inputs are needed for it to make sense.
        rtol, atol: |numerical - computed| must be at most atol + rtol·|numerical|.
        seed: of the random cotangents.

    Returns:
        True.

    Raises:
        GradientError: they differ. It shows the function, the input, the index and both numbers.
        TypeError: a floating input is not float64.
    """
    given = [inputs] if isinstance(inputs, (Tensor, np.ndarray)) else list(inputs)
    points = [np.array(getattr(t, "data", t)) for t in given]
    for k, p in enumerate(points):
        if p.dtype.kind == "f" and p.dtype != np.float64:
            raise TypeError(f"gradcheck needs float64 inputs, input {k} is {p.dtype}; finite differences in less "
                            "precision say nothing.")
    name = getattr(f, "__name__", repr(f))
    _check(f, points, order, eps, rtol, atol, np.random.default_rng(seed), name)
    return True


def _outputs(f: Callable[..., Any], tensors: Sequence[Any]) -> list[Tensor]:
    y = f(*tensors)
    return [y] if isinstance(y, Tensor) else list(y)


def _check(f: Callable[..., Any], points: list[Array], order: int, eps: float, rtol: float, atol: float,
           rng: np.random.Generator, name: str) -> None:
    varied = [k for k, p in enumerate(points) if p.dtype.kind == "f"]
    tensors = [tensor(p, requires_grad=k in varied) for k, p in enumerate(points)]
    ys = _outputs(f, tensors)
    cotangents = [rng.standard_normal(y.shape) for y in ys]

    def projection(values: list[Array]) -> float:
        return float(sum(np.sum(y.data * c) for y, c in zip(_outputs(f, [tensor(v) for v in values]), cotangents,
                                                            strict=True)))

    tracked = [k for k, y in enumerate(ys) if y.requires_grad]
    wanted = [tensors[k] for k in varied]
    found: Sequence[Tensor | None] = [None] * len(wanted)
    if tracked:
        found = grad([ys[k] for k in tracked], wanted, [cotangents[k] for k in tracked])
    for k, g in zip(varied, found, strict=True):
        computed = np.zeros(points[k].shape) if g is None else g.data
        for index in np.ndindex(points[k].shape):
            ends = []
            for sign in (1, -1):
                moved = [p.copy() for p in points]
                moved[k][index] += sign * eps
                ends.append(projection(moved))
            numerical = (ends[0] - ends[1]) / (2 * eps)
            if not abs(numerical - computed[index]) <= atol + rtol * abs(numerical):
                raise GradientError(f"the gradient of {name} with respect to input {k} at index {index} is "
                                    f"{computed[index]:.10g}, central differences give {numerical:.10g} "
                                    f"(inputs: {', '.join(f'{p.dtype}{list(p.shape)}' for p in points)}).")
    if order > 1 and tracked:
        def slope(*tensors: Tensor) -> list[Tensor]:
            free = [tensors[k] if tensors[k].requires_grad else tensor(tensors[k].data, requires_grad=True)
                    for k in varied]
            replaced = list(tensors)
            for k, t in zip(varied, free, strict=True):
                replaced[k] = t
            outputs = _outputs(f, replaced)
            slopes = grad([outputs[k] for k in tracked], free, [cotangents[k] for k in tracked], create_graph=True)
            return [tensor(np.zeros(t.shape)) if g is None else g for g, t in zip(slopes, free, strict=True)]

        _check(slope, points, order - 1, eps, rtol, atol, rng, f"the gradient of {name}")


# ---------------------------------------------------------------------------------------------------------------
# Anomalies
# ---------------------------------------------------------------------------------------------------------------


class AnomalyError(FloatingPointError):
    """An operation made a NaN or an infinity."""


def _range(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(_range(v) for v in value) + ")"
    array = np.asarray(getattr(value, "_data", value))
    what = f"{array.dtype}{list(array.shape)}"
    if array.dtype.kind != "f" or not array.size:
        return what
    finite = array[np.isfinite(array)]
    bad = array.size - finite.size
    span = f" in [{finite.min():.4g}, {finite.max():.4g}]" if finite.size else ""
    return f"{what}{span}" + (f", {bad} not finite" if bad else "")


def _finite(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_finite(v) for v in value)
    array = np.asarray(getattr(value, "_data", value))
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _watch(phase: str, primitive: Primitive, node: Node | None, arguments: Sequence[Any], result: Any) -> None:
    if _finite(result):
        return
    scope = LOCAL.state.scope
    place = f" in scope {scope.path!r}" if scope else ""
    if phase == "forward":
        ranges = ", ".join(_range(a) for a in arguments if not isinstance(a, (str, type(None))))
        raise AnomalyError(f"{primitive.name}{place} made a NaN or infinity: {_range(result)}, from {ranges}.")
    assert node is not None
    which = describe(node) if not primitive.outputs else f"an output of {primitive.name}"
    raise AnomalyError(f"the gradient arriving at {which} is not finite: {_range(result)}. The operation that "
                       "used this value made it.")


class anomaly_mode:
    """Context manager: raise AnomalyError at the first operation that makes a NaN or an infinity, forward or backward.

    The message names the operation, its scope, and the ranges of its inputs. Every value is looked at, so computing
    is slower inside.
    """

    def __init__(self) -> None:
        self._watching = watching(_watch)

    def __enter__(self) -> None:
        self._watching.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._watching.__exit__(kind, error, trace)

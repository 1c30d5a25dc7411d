"""The softmax family, losses, layer normalisation and dropout.

All of them stay finite at logits of ±10 000, also in float32, and with -inf masks. A row that is -inf everywhere has
logsumexp -inf, softmax 0 and gradient 0: there is no distribution to speak of, and no NaN either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..accumulate import lies_swapped
from ..primitive import primitive
from ..tape import shows
from .indexing import values_of
from .reduction import Axis, normalize_axis, spread

Array = NDArray[Any]
Reduction = Literal["mean", "sum", "none"]


def finite_max(x: Array, axis: Axis) -> Array:
    """The maximum with keepdims, 0 where it is infinite: what to subtract before exp."""
    x = np.asarray(x)
    if x.dtype.kind != "f":
        x = np.asarray(x, np.result_type(x, np.float16))  # integers have no -inf
    top = np.maximum.reduce(x, axis=axis, keepdims=True, initial=-math.inf)
    return np.where(np.isfinite(top), top, np.zeros((), x.dtype))


@primitive(lambda g, y, x, *, axis: y * (g - np.sum(g * y, axis=axis, keepdims=True)))
def _softmax(x: Array, *, axis: Axis) -> Any:
    y = np.asarray(np.exp(x - finite_max(x, axis)))
    total = np.sum(y, axis=axis, keepdims=True)
    return np.divide(y, np.where(total == 0, np.ones((), y.dtype), total), out=y)


def softmax(x: Any, axis: Axis = -1) -> Any:
    """exp(x) / sum(exp(x)) along `axis`. Entries of -inf get 0."""
    return _softmax(x, axis=axis)


@primitive(lambda g, y, x, *, axis: g - np.exp(y) * np.sum(g, axis=axis, keepdims=True))
def _log_softmax(x: Array, *, axis: Axis) -> Array:
    shifted = x - finite_max(x, axis)
    total = np.sum(np.exp(shifted), axis=axis, keepdims=True)
    return shifted - np.log(np.where(total == 0, np.ones((), x.dtype), total))


def log_softmax(x: Any, axis: Axis = -1) -> Any:
    """log(softmax(x)) along `axis`, without taking the logarithm of a rounded zero."""
    return _log_softmax(x, axis=axis)


@primitive(lambda g, y, x, *, axis, keepdims: spread(g, x.shape, axis) * _softmax(x, axis=axis))
def _logsumexp(x: Array, *, axis: Axis, keepdims: bool) -> Any:
    top = finite_max(x, axis)
    with np.errstate(divide="ignore"):
        y = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else np.squeeze(y, normalize_axis(axis, x.ndim))


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) along `axis` (all by default); -inf for a row of -inf, with gradient 0."""
    return _logsumexp(x, axis=axis, keepdims=keepdims)


# ---------------------------------------------------------------------------------------------------------------
# Cross-entropy: one buffer for logits' exponentials, probabilities and gradient
# ---------------------------------------------------------------------------------------------------------------


def kernels_for(rows: Array) -> Any:
    """Replaced by `minigrad.compile.rows.kernels_for` when minigrad is imported; before, NumPy does it all."""
    return None


def connect(chosen: Callable[[Array], Any]) -> None:
    """Tell cross-entropy how to find compiled loops over rows. Called once, by the package."""
    global kernels_for
    kernels_for = chosen  # type: ignore[assignment]


@primitive(lambda g, y, logits, scale, *, targets, losses=None:
           softmax_slope(g * np.expand_dims(scale, -1), logits),
           lambda g, y, logits, scale, *, targets, losses=None:
           np.sum(g * _minus_one_hot(_softmax(logits, axis=-1), targets=targets), axis=-1))  # type: ignore[has-type]
def _cross_entropy_slope(logits: Array, scale: Array, *, targets: Array, losses: Array | None = None) -> Any:
    """scale · (softmax(logits) - one_hot(targets)), in one buffer; sooner where the `losses` are known already."""
    if lies_swapped(logits):
        losses = losses if losses is None else losses.swapaxes(0, 1)
        return _cross_entropy_slope.forward(logits.swapaxes(0, 1), np.swapaxes(scale, 0, 1),
                                            targets=targets.swapaxes(0, 1), losses=losses).swapaxes(0, 1)
    rows, t, factors = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), np.reshape(scale, -1)
    out = np.empty(rows.shape, np.result_type(logits, scale))
    kernels = kernels_for(rows)
    if kernels is not None and out.dtype == factors.dtype == np.float32:
        known_losses = np.empty(0, np.float32) if losses is None else np.ascontiguousarray(losses, np.float32)
        kernels.slopes(rows, np.ascontiguousarray(t, np.intp), np.ascontiguousarray(factors), known_losses.reshape(-1),
                       out)
        return out.reshape(logits.shape)
    total, known = log_totals(rows, t, factors, losses)
    for block in row_blocks(rows):
        p = out[block]
        if known[block].all():
            np.exp(np.subtract(rows[block], total[block, None], out=p), out=p)
            continue
        np.exp(np.subtract(rows[block], finite_max(rows[block], -1), out=p), out=p)
        sums = row_sums(p)
        p *= (factors[block] / np.where(sums == 0, np.ones((), sums.dtype), sums))[:, None]
    out[np.arange(len(rows)), t] -= factors
    return out.reshape(logits.shape)


def log_totals(rows: Array, targets: Array, scale: Array, losses: Array | None) -> tuple[Array, Array]:
    """log(Σ exp(row) / scale) for each row, read off its loss, and where that is exact enough to be used.

    exp(row - that) is scale · softmax(row) in two passes over the row, instead of five. It is off by what is lost when
    loss and logit are added, so that both must be small; and a logarithm wants a positive scale.
    """
    if losses is None or rows.dtype.itemsize < 4:
        return np.zeros(len(rows), rows.dtype), np.zeros(len(rows), bool)
    losses, picked = losses.reshape(-1), rows[np.arange(len(rows)), targets]
    log_scale = np.log(np.where(scale > 0, scale, np.ones((), scale.dtype)))
    known = (scale > 0) & (np.abs(losses) + np.abs(picked) + np.abs(log_scale) < 32)
    with np.errstate(invalid="ignore"):  # a target of -inf has an infinite loss, and is not known
        return losses + picked - log_scale, known


def row_blocks(rows: Array) -> list[slice]:
    """Slices of rows that fit into a fast cache: several passes over each cost little more than one."""
    size = max(1, 2**17 // max(rows.shape[-1], 1))
    return [slice(k, k + size) for k in range(0, len(rows), size)]


def row_sums(rows: Array) -> Any:
    """The sum of each row, as a matrix product: several times as fast as NumPy's, whose loop is over rows."""
    return rows @ np.ones(rows.shape[-1], rows.dtype) if rows.dtype.kind == "f" and rows.dtype.itemsize > 2 \
        else rows.sum(axis=-1)


def softmax_slope(g: Any, logits: Any) -> Any:
    """What reaches the logits when `g` arrives at their softmax."""
    y = _softmax(logits, axis=-1)
    return y * (g - np.sum(g * y, axis=-1, keepdims=True))


@primitive(lambda g, y, p, *, targets: g)
def _minus_one_hot(p: Array, *, targets: Array) -> Array:
    out = np.array(p, order="C")
    rows = out.reshape(-1, p.shape[-1])
    rows[np.arange(len(rows)), targets.reshape(-1)] -= 1.0
    return out


@primitive(lambda g, y, logits, *, targets:
           _cross_entropy_slope(logits, g, targets=targets, losses=getattr(y, "_data", y)))
def _cross_entropy(logits: Array, *, targets: Array) -> Any:
    """-log softmax(logits)[target] for each row, shape logits.shape[:-1]."""
    if lies_swapped(logits):
        return _cross_entropy.forward(logits.swapaxes(0, 1), targets=targets.swapaxes(0, 1)).swapaxes(0, 1)
    rows = logits.reshape(-1, logits.shape[-1])
    losses = np.empty(len(rows), np.result_type(logits.dtype, np.float16))
    kernels = kernels_for(rows)
    if kernels is not None:
        kernels.losses(rows, np.ascontiguousarray(targets.reshape(-1), np.intp), losses)
        return losses.reshape(targets.shape)
    picked = rows[np.arange(len(rows)), targets.reshape(-1)]
    blocks = row_blocks(rows)
    buffer = np.empty((blocks[0].stop if blocks else 0, rows.shape[-1]), losses.dtype)
    for block in blocks:
        top = finite_max(rows[block], -1)
        exponentials = np.subtract(rows[block], top, out=buffer[:len(top)])
        total = row_sums(np.exp(exponentials, out=exponentials))
        losses[block] = np.log(total) + (top[:, 0] - picked[block])
    return losses.reshape(targets.shape)


def must_be_array(x: Any, what: str) -> None:
    """A list is told what to become: `what` says what was expected and where."""
    if not hasattr(x, "shape"):
        raise TypeError(f"{what}, not a {type(x).__name__}: write mg.tensor(...), or mg.stack([...]) for a list of "
                        "Tensors.")


def count_classes(logits: Any, what: str) -> int:
    """How many classes logits have, along their last axis."""
    must_be_array(logits, f"{what} are a Tensor or an array of shape (..., classes)")
    if not logits.shape or not logits.shape[-1]:
        raise ValueError(f"{what} have shape (..., classes), with at least one class; these have {logits.shape}.")
    return int(logits.shape[-1])


def class_targets(targets: Any, shape: tuple[int, ...]) -> Any:
    """Integer targets as an array of their own, checked against the shape of the logits."""
    targets = np.array(values_of(targets, "as targets"))
    if targets.shape == shape:
        raise ValueError(f"targets are class numbers, and these have the shape of the logits, {shape}: of one-hot rows "
                         "take np.argmax(targets, -1); for probabilities write -np.sum(targets * "
                         "mg.log_softmax(logits), -1).")
    if targets.dtype.kind not in "iu":
        instead = ": write np.asarray(targets, int)" if targets.dtype.kind in "fb" else ""
        raise TypeError(f"targets are class numbers (integers), got dtype {targets.dtype}{instead}.")
    if targets.shape != shape[:-1]:
        instead = next((f" Classes are the last axis: write np.moveaxis(logits, {k}, -1)." for k in range(len(shape))
                        if shape[:k] + shape[k + 1:] == targets.shape), "")
        raise ValueError(f"targets of shape {targets.shape} do not fit logits of shape {shape}: expected targets of "
                         f"shape {shape[:-1]}.{instead}")
    return targets


def chosen(targets: Array, classes: int, ignore_index: int | None) -> tuple[Array, Array | None]:
    """Targets made safe to index with, and a mask of those that count (None if all do)."""
    counts = None if ignore_index is None else targets != ignore_index
    if counts is not None:
        targets = np.where(counts, targets, 0)
    if targets.size and not (targets.min() >= 0 and targets.max() < classes):
        raise IndexError(f"targets lie between {targets.min()} and {targets.max()}, but there are {classes} classes "
                         f"(0 … {classes - 1}).")
    return targets, counts


def reduced(losses: Any, counts: Array | None, reduction: Reduction) -> Any:
    """The losses of those that count, as they are or added up."""
    if counts is not None:
        losses = np.where(counts, losses, 0.0)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return np.sum(losses)
    if reduction == "mean":
        return np.mean(losses) if counts is None else np.sum(losses) / max(int(counts.sum()), 1)
    raise ValueError(f"reduction is 'mean', 'sum' or 'none', not {reduction!r}.")


def cross_entropy(logits: Any, targets: Any, reduction: Reduction = "mean", ignore_index: int | None = None) -> Any:
    """-log softmax(logits)[target], in nats.

    Args:
        logits: (..., classes), unnormalised log-probabilities.
        targets: (...), integers in 0 … classes-1.
        reduction: "mean" over all targets that count, "sum", or "none" for the losses of shape (...).
        ignore_index: targets with this number do not count.

    Raises:
        TypeError, ValueError, IndexError: logits that are no array or have no classes; targets that are not integers,
            of another shape, or out of range.
    """
    classes = count_classes(logits, "logits")
    targets, counts = chosen(class_targets(targets, logits.shape), classes, ignore_index)
    return reduced(_cross_entropy(logits, targets=targets), counts, reduction)


def nll_loss(log_probabilities: Any, targets: Any, reduction: Reduction = "mean",
             ignore_index: int | None = None) -> Any:
    """-log_probabilities[target]; arguments and errors as in `cross_entropy`."""
    classes = count_classes(log_probabilities, "log-probabilities")
    targets, counts = chosen(class_targets(targets, log_probabilities.shape), classes, ignore_index)
    picked = np.take_along_axis(log_probabilities, targets[..., None], -1)
    return reduced(-np.reshape(picked, targets.shape), counts, reduction)


def mse_loss(prediction: Any, target: Any, reduction: Reduction = "mean") -> Any:
    """(prediction - target)², averaged by default. The shapes must be equal.

    Raises:
        TypeError: `prediction` is no array.
        ValueError: the shapes are not equal; broadcasting here is nearly always a mistake.
    """
    must_be_array(prediction, "mse_loss: the prediction is a Tensor or an array")
    shapes = prediction.shape, np.shape(getattr(target, "_data", target))
    if shapes[0] != shapes[1]:
        raise ValueError(f"mse_loss compares equal shapes, got {shapes[0]} and {shapes[1]}.")
    return reduced(np.square(prediction - target), None, reduction)


def binary_cross_entropy_with_logits(logits: Any, targets: Any, reduction: Reduction = "mean") -> Any:
    """-t log σ(x) - (1 - t) log(1 - σ(x)), computed as log(1 + exp(x)) - x t, so that nothing overflows.

    Args:
        logits: x, of any shape.
        targets: t in [0, 1], of that shape or one that broadcasts with it.
        reduction: "mean", "sum", or "none" for the losses, in the shape of both together.

    Raises:
        TypeError: the logits are no array.
    """
    must_be_array(logits, "binary_cross_entropy_with_logits: logits are a Tensor or an array")
    from .elementwise import softplus

    return reduced(softplus(logits) - logits * targets, None, reduction)


# ---------------------------------------------------------------------------------------------------------------
# Normalisation and noise
# ---------------------------------------------------------------------------------------------------------------


def layer_norm_slope(g: Any, x: Any, axis: Axis, eps: float) -> Any:
    """The cotangent of x: (g - mean g - y mean(g y)) / σ."""
    centred = x - np.mean(x, axis=axis, keepdims=True)
    inverse = 1.0 / np.sqrt(np.mean(np.square(centred), axis=axis, keepdims=True) + eps)
    y = centred * inverse
    return (g - np.mean(g, axis=axis, keepdims=True) - y * np.mean(g * y, axis=axis, keepdims=True)) * inverse


@primitive(lambda g, y, x, *, axis, eps: layer_norm_slope(g, x, axis, eps))
def _standardize(x: Array, *, axis: Axis, eps: float) -> Any:
    y = x - np.mean(x, axis=axis, keepdims=True)
    y *= 1.0 / np.sqrt(np.mean(np.square(y), axis=axis, keepdims=True) + eps)
    return y


def layer_norm(x: Any, weight: Any = None, bias: Any = None, axis: Axis = -1, eps: float = 1e-5) -> Any:
    """(x - mean) / sqrt(var + eps) along `axis`, times `weight`, plus `bias` (Ba, Kiros & Hinton 2016).

    Shapes: x and the result (...); weight and bias, which may be left out, are broadcast with it: (features) for the
    last axis. `eps` keeps a constant row at 0.
    """
    y = _standardize(x, axis=axis, eps=eps)
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def dropout(x: Any, p: float, rng: np.random.Generator) -> Any:
    """Set each entry to 0 with probability `p` and divide the others by 1 - p (inverted dropout).

    Raises:
        ValueError: p is not in [0, 1).
    """
    mask = dropout_mask(x.shape, p, rng, x.dtype)
    product = x * mask
    shows(product, "multiply", x, mask)
    return product


def dropout_mask(shape: tuple[int, ...], p: float, rng: np.random.Generator, dtype: Any = np.float32) -> Array:
    """The factors of dropout: 0 with probability p, else 1/(1 - p).

    Raises:
        ValueError: p is not in [0, 1).
    """
    if not 0 <= p < 1:
        raise ValueError(f"a drop probability lies in [0, 1), got {p}.")
    keep = rng.random(shape, dtype=np.float32) >= p
    mask = np.asarray(np.multiply(keep, 1.0 / (1.0 - p), dtype=dtype))
    mask.flags.writeable = False  # so that the tape may keep it without a copy
    return mask

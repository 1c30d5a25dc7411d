"""Two-dimensional convolution and pooling, as windows and matrix products.

Images are (batch, channels, height, width), as in PyTorch. `windows` cuts out every patch that a kernel sees; its
gradient adds the patches back. Convolution is then an einsum, and pooling a reduction, with no rule of their own.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..primitive import primitive
from ..tape import Variable, shows
from ..tensor import handle

Array = NDArray[Any]
Pair = int | tuple[int, int]
Padding = Literal["same", "valid"] | int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]


def pair(value: Any, what: str, least: int = 1) -> tuple[int, int]:
    """One int for both axes, or one for each."""
    both = (value, value) if isinstance(value, (int, np.integer)) else tuple(value)
    if len(both) != 2 or any(not isinstance(v, (int, np.integer)) or v < least for v in both):
        raise ValueError(f"{what} is an int of at least {least} or a pair of them, not {value!r}.")
    return int(both[0]), int(both[1])


def paddings(padding: Padding, size: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int],
             dilation: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns to add before and after. "same": outputs of ceil(size / stride), the odd one after."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        total = [max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
                 for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)]
        return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
    if isinstance(padding, str):
        raise ValueError(f"padding is 'same', 'valid' or numbers, not {padding!r}.")
    if isinstance(padding, tuple) and any(isinstance(p, tuple) for p in padding):
        return pair(padding[0], "padding", 0), pair(padding[1], "padding", 0)
    rows, columns = pair(padding, "padding", 0)
    return (rows, rows), (columns, columns)


@primitive(lambda g, y, x, *, kernel, stride, dilation:
           add_windows(g, shape=x.shape, kernel=kernel, stride=stride, dilation=dilation))  # type: ignore[has-type]
def windows(x: Array, *, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> Array:
    """Every patch of x (B, C, H, W) that a kernel sees: (B, C, rows, columns, kernel height, kernel width)."""
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    view = sliding_window_view(x, span, axis=(-2, -1))
    return view[..., ::stride[0], ::stride[1], ::dilation[0], ::dilation[1]]


@primitive(lambda g, y, x, *, shape, kernel, stride, dilation:
           windows(g, kernel=kernel, stride=stride, dilation=dilation))
def add_windows(x: Array, *, shape: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int],
                dilation: tuple[int, int]) -> Array:
    """Patches added back where they were cut from; overlaps add up."""
    out = np.zeros(shape, x.dtype)
    rows, columns = x.shape[2:4]
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            out[:, :, top:top + rows * stride[0]:stride[0], left:left + columns * stride[1]:stride[1]] += x[..., i, j]
    return out


def patches(x: Any, kernel: tuple[int, int], stride: Pair, padding: Padding, dilation: Pair, fill: float = 0.0) -> Any:
    """The windows of x after padding, checked."""
    if x.ndim != 4:
        raise ValueError(f"images have the shape (batch, channels, height, width), got {x.shape}.")
    stride, dilation = pair(stride, "stride"), pair(dilation, "dilation")
    rows, columns = paddings(padding, x.shape[2:], kernel, stride, dilation)
    if rows != (0, 0) or columns != (0, 0):
        x = np.pad(x, ((0, 0), (0, 0), rows, columns), constant_values=fill)
    span = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    if x.shape[2] < span[0] or x.shape[3] < span[1]:
        raise ValueError(f"a kernel that spans {span} does not fit into images of {x.shape[2:]} (padding included).")
    return windows(x, kernel=kernel, stride=stride, dilation=dilation)


def conv2d(x: Any, weight: Any, bias: Any = None, stride: Pair = 1, padding: Padding = "valid",
           dilation: Pair = 1) -> Any:
    """Two-dimensional cross-correlation, what networks call convolution.

    Args:
        x: (batch, channels, height, width).
        weight: (filters, channels, kernel height, kernel width).
        bias: (filters,), or None.
        stride, dilation: an int, or (rows, columns).
        padding: "valid", "same" (output of ceil(size / stride)), an int, (rows, columns), or
            ((top, bottom), (left, right)).

    Returns:
        (batch, filters, rows, columns).

    Raises:
        ValueError: shapes or options that do not fit.
    """
    if weight.ndim != 4 or x.ndim != 4 or weight.shape[1] != x.shape[1]:
        raise ValueError(f"conv2d of images {x.shape} with weight {weight.shape}: expected (batch, channels, height, "
                         "width) and (filters, channels, kernel height, kernel width).")
    seen = patches(x, weight.shape[2:], stride, padding, dilation)  # (B, C, R, S, k, l)
    rows: Any = np.reshape(np.transpose(seen, (0, 2, 3, 1, 4, 5)), (-1, weight[0].size))  # one patch a row
    if isinstance(weight, Variable) and not isinstance(rows, Variable):
        # the patches may be the images themselves, which belong to the caller
        rows = handle(rows.copy() if np.may_share_memory(rows, x) else rows, None)
    shows(rows, "windows", x)
    y = rows @ np.transpose(np.reshape(weight, (weight.shape[0], -1)))
    if bias is not None:
        y = y + bias
    y = np.reshape(y, (x.shape[0], *seen.shape[2:4], weight.shape[0]))
    return np.transpose(y, (0, 3, 1, 2))


def max_pool2d(x: Any, kernel: Pair, stride: Pair | None = None, padding: Padding = "valid") -> Any:
    """The maximum of each window; ties share the gradient. `stride` is the kernel size unless given.

    Raises:
        ValueError: shapes or options that do not fit.
    """
    kernel = pair(kernel, "kernel")
    seen = patches(x, kernel, kernel if stride is None else stride, padding, 1, fill=-np.inf)
    return np.max(seen, axis=(-2, -1))


def avg_pool2d(x: Any, kernel: Pair, stride: Pair | None = None, padding: Padding = "valid") -> Any:
    """The mean of each window, padding counted as zeros. `stride` is the kernel size unless given.

    Raises:
        ValueError: shapes or options that do not fit.
    """
    kernel = pair(kernel, "kernel")
    return np.mean(patches(x, kernel, kernel if stride is None else stride, padding, 1), axis=(-2, -1))

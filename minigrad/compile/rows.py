"""Cross-entropy and its slope over rows of logits, compiled: NumPy takes five passes over a row, these two or one.

The exponential is that of Cephes' expf (S. Moshier, 1989): exp(n ln 2 + r) = 2ⁿ exp(r) with |r| at most ln 2 / 2, a
polynomial of degree 7 there, and the power of two written into the exponent's bits. It is right to 2 ulp.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernel_cache import choose_kernels, load_module
from .parts import in_parts

Array = NDArray[Any]

# Fewer logits than this are not worth loading kernels for, and fewer than that not worth waking a thread for.
LEAST_ENTRIES, LEAST_SHARED = 1000, 100_000

SOURCE = '''\
"""Generated."""
from contextlib import suppress

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

OPTIONS = dict(cache=CACHE, nogil=True, error_model="numpy", boundscheck=False)
EXACT, SUM = {"contract", "nsz"}, {"reassoc", "contract", "nsz"}  # a sum may be taken in any order
F = np.float32
LANES, PART = 32, 2048


@intrinsic
def float_of(typing, bits):
    def build(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), build


@intrinsic
def wide_registers(typing):
    """LLVM is to use the widest registers there are in this function: it takes half of them where they are 512 bits."""
    def build(context, builder, signature, arguments):
        with suppress(TypeError):  # llvmlite's own `add` knows no attributes with values
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), build


@njit(fastmath=EXACT, **OPTIONS)
def exp(x):
    low, high = x < F(-87.0), x > F(88.0)
    y = x if x >= F(-87.0) and not high else (F(88.0) if high else F(-87.0))  # nor is a NaN made an integer
    n = np.floor(y * F(1.44269504) + F(0.5))
    r = y - n * F(0.693359375) + n * F(2.12194440e-4)
    p = F(1.9875691500e-4)
    p = p * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    p = p * r * r + r + F(1)
    y = p * float_of(np.int32((np.int32(n) + np.int32(127)) << np.int32(23)))
    return F(0) if low else (F(np.inf) if high else (y if x == x else x))


@njit(fastmath=EXACT, **OPTIONS)
def largest(row, lanes):
    """The largest entry, NaN apart; 0 if that is infinite."""
    wide_registers()
    n = row.shape[0]
    lanes[:] = row[0]
    for start in range(0, n - LANES + 1, LANES):
        part = row[start:start + LANES]
        for k in range(LANES):
            lanes[k] = part[k] if part[k] > lanes[k] else lanes[k]
    for half in (16, 8, 4, 2, 1):
        for k in range(half):
            lanes[k] = lanes[k + half] if lanes[k + half] > lanes[k] else lanes[k]
    top = lanes[0]
    for k in range(n - n % LANES, n):
        top = row[k] if row[k] > top else top
    return top if np.isfinite(top) else F(0)


@njit(fastmath=SUM, **OPTIONS)
def total_of(row, top, buffer):
    """The sum of exp(row - top)."""
    wide_registers()
    total = F(0)
    for start in range(0, row.shape[0], PART):
        part = row[start:start + PART]
        for k in range(part.shape[0]):
            buffer[k] = exp(part[k] - top)
        for k in range(part.shape[0]):
            total += buffer[k]
    return total


FLOATS, READ = types.Array(types.float32, 1, "C"), types.Array(types.float32, 1, "C", readonly=True)
MATRIX, TARGETS = types.Array(types.float32, 2, "C", readonly=True), types.Array(types.intp, 1, "C", readonly=True)


@njit(types.void(MATRIX, TARGETS, FLOATS), fastmath=EXACT, **OPTIONS)
def losses(rows, targets, out):
    wide_registers()
    lanes, buffer = np.empty(LANES, F), np.empty(PART, F)
    for i in range(rows.shape[0]):
        row = rows[i]
        top = largest(row, lanes)
        out[i] = np.log(total_of(row, top, buffer)) + (top - row[targets[i]])


@njit(types.void(MATRIX, TARGETS, READ, READ, types.Array(types.float32, 2, "C")), fastmath=EXACT, **OPTIONS)
def slopes(rows, targets, scale, losses, out):
    wide_registers()
    lanes, buffer = np.empty(LANES, F), np.empty(PART, F)
    for i in range(rows.shape[0]):
        row, slope, s = rows[i], out[i], scale[i]
        picked, known = row[targets[i]], False
        if losses.shape[0] and s > F(0):
            logarithm = np.log(s)
            known = abs(losses[i]) + abs(picked) + abs(logarithm) < F(32)
            total = losses[i] + picked - logarithm
        if known:
            for k in range(row.shape[0]):
                slope[k] = exp(row[k] - total)
        else:
            top = largest(row, lanes)
            total = total_of(row, top, buffer)
            factor = s / total if total != F(0) else s
            for k in range(row.shape[0]):
                slope[k] = exp(row[k] - top) * factor
        slope[targets[i]] -= s
'''


class Kernels:
    """The compiled loops, for contiguous float32 alone. `targets` (intp) are not checked."""

    def __init__(self) -> None:
        self._module: Any = load_module(SOURCE)

    def losses(self, rows: Array, targets: Array, out: Array) -> None:
        """Write the loss of each row to `out`."""
        self._shared(self._module.losses, rows, targets, out)

    def slopes(self, rows: Array, targets: Array, scale: Array, losses: Array, out: Array) -> None:
        """Write the slopes of scale · loss to `out`. Where `losses` are not known, an empty array."""
        self._shared(self._module.slopes, rows, targets, scale, losses, out)

    def _shared(self, kernel: Any, *arrays: Array) -> None:
        if arrays[0].size < LEAST_SHARED:
            kernel(*arrays)
        else:
            in_parts(lambda first, last: kernel(*(a[first:last] for a in arrays)), len(arrays[0]))


_kernels = cache(Kernels)


def kernels_for(rows: Array) -> Kernels | None:
    """The compiled loops for this matrix of logits, or None if they are not for it."""
    if rows.size < LEAST_ENTRIES or rows.dtype != np.float32 or not rows.flags.c_contiguous or not choose_kernels():
        return None
    return _kernels()

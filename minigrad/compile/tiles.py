"""Products with a matrix that stays as it is through a loop: packed once before it, multiplied in tiles within it.

A BLAS packs both of its matrices at every call, which for the small products of a time step costs about a third of the
time. Here the weights are cut once into panels as wide as a few vector registers. A tile of the result, `ROWS` rows by
one panel, stays in registers while k runs: each entry of the left matrix is spread over a register and multiplied with
the panel's row (after Goto & van de Geijn 2008, "Anatomy of high-performance matrix multiplication"). A panel longer
than the first cache is gone through in parts, each for all rows. The last tile along an axis overlaps the one before
it, so that there are no remainders; the products of a row are added up in the same order wherever it lies.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..environment import blas_info, cpu_features
from .program import Instruction

ROWS = 4
#: So much of a panel, in bytes, is read for all rows before the next part: it stays in the first cache.
DEPTH = 2**15
#: With fewer rows than this, packing may cost more than it saves in a loop of one or two steps.
LEAST_ROWS = 16
#: Products of more multiplications than this are left to a BLAS that has several threads for them.
LARGE = 2**22
#: Extensions by one of which a CPU has these registers: their bytes, and how many of them a panel is wide.
REGISTERS = [({"AVX512F", "X86_V4"}, 64, 4), ({"AVX2", "X86_V3"}, 32, 2), ({"ASIMD"}, 16, 4)]

# Source for generated modules; follows that of the BLAS's products, whose imports it uses.
SOURCE = '''\
from numba.core.cgutils import alloca_once_value, for_range


def _tile(real, lanes, vectors):
    @intrinsic
    def tile(typing, count, k, a, ai, b, bi, c, ci, n, goes_on):
        def build(context, builder, signature, arguments):
            count, k, a, ai, b, bi, c, ci, n, goes_on = arguments
            kinds, wide, vector = signature.args, k.type, ir.VectorType(real, lanes)
            nowhere, firsts = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)

            def start(array, offset, kind):
                return builder.gep(create_struct_proxy(kind)(context, builder, value=array).data, [offset])

            def register(base, offset):
                return builder.bitcast(builder.gep(base, [offset]), vector.as_pointer())

            a, b, c = start(a, ai, kinds[2]), start(b, bi, kinds[4]), start(c, ci, kinds[6])
            zero, align = ir.Constant(vector, None), 4
            goes_on = builder.icmp_signed("!=", goes_on, wide(0))
            results = [[register(c, builder.add(builder.mul(n, wide(r)), wide(v * lanes))) for v in range(vectors)]
                       for r in range({rows})]
            sums = [[alloca_once_value(builder, zero) for _ in range(vectors)] for _ in range({rows})]
            with builder.if_then(goes_on):
                for line, row in zip(sums, results):
                    for place, result in zip(line, row):
                        builder.store(builder.load(result, align=align), place)
            with for_range(builder, count) as loop:
                row = builder.mul(loop.index, wide(vectors * lanes))
                panel = [builder.load(register(b, builder.add(row, wide(v * lanes))), align=align)
                         for v in range(vectors)]
                for r, line in enumerate(sums):
                    entry = builder.load(builder.gep(a, [builder.add(builder.mul(k, wide(r)), loop.index)]))
                    entry = builder.insert_element(nowhere, entry, ir.IntType(32)(0))
                    entry = builder.shuffle_vector(entry, nowhere, firsts)
                    for place, part in zip(line, panel):
                        product = builder.fmul(entry, part, flags=("contract",))
                        builder.store(builder.fadd(builder.load(place), product, flags=("contract",)), place)
            for line, row in zip(sums, results):
                for place, result in zip(line, row):
                    builder.store(builder.load(place), result, align=align)
            return context.get_dummy_value()

        return types.void(count, k, a, ai, b, bi, c, ci, n, goes_on), build

    return tile

'''

# For each dtype: cut a matrix into panels, one after the other; and multiply.
FUNCTIONS = '''\
_tile{bits} = _tile(ir.{real}Type(), {lanes}, {vectors})


@njit(types.Array(types.float{bits}, 1, "C")(types.Array(types.float{bits}, 2, "A", readonly=True)), **OPTIONS)
def pack{bits}(b):
    k, n = b.shape
    count = (n + {panel} - 1) // {panel}
    size = count * k * {panel}
    packed = np.empty(size + 64 // {bytes}, b.dtype)
    start = -packed.ctypes.data % 64 // {bytes}  # a register that straddles two lines of the cache is loaded twice
    packed = packed[start:start + size]
    for j in range(count):
        column = min(j * {panel}, n - {panel})
        for r in range(k):
            for q in range({panel}):
                packed[(j * k + r) * {panel} + q] = b[r, column + q]
    return packed


@njit(**OPTIONS)
def product{bits}(first, last, k, n, a, ai, b, c, ci):
    first, last, n, k = types.intp(first), types.intp(last), types.intp(n), types.intp(k)
    whole = last - (last - first) % {rows}
    for j in range(0, n, {panel}):
        column = min(j, n - {panel})
        for r in range(0, k, {depth}):
            count = min({depth}, k - r)
            for row in range(first, whole, {rows}):
                _tile{bits}(count, k, a, ai + row * k + r, b, j * k + r * {panel}, c, ci + row * n + column, n, r)
        row = last - {rows}
        for r in range(0, k if whole < last else 0, {depth}):  # again from the start: it overlaps what is done
            count = min({depth}, k - r)
            _tile{bits}(count, k, a, ai + row * k + r, b, j * k + r * {panel}, c, ci + row * n + column, n, r)

'''


class Tiles:
    """How products are cut on this machine.

    Attributes:
        size: bytes of a vector register; 0 where tiles are of no use.
        vectors: how many registers a panel is wide.
        threads: those that BLAS has. Tiles are computed by one, unless rows are shared out.
    """

    def __init__(self, features: set[str], threads: int | None = 1) -> None:
        self.threads = threads or 1
        self.size, self.vectors = next(((size, v) for names, size, v in REGISTERS if names & features), (0, 0))

    def panel(self, dtype: np.dtype[Any]) -> int:
        """The columns of a panel."""
        return self.size // dtype.itemsize * self.vectors

    def fit(self, product: Instruction, shared: bool = False) -> bool:
        """Whether a product of two matrices, the right one to be packed, is worth it and large enough to be cut.

        `shared`: its rows are shared out among as many threads as a BLAS has.
        """
        (rows, inner), (_, columns) = (v.shape for v in product.values)
        return bool(self.size) and rows >= LEAST_ROWS and columns >= self.panel(product.result.dtype) \
            and (shared or self.threads == 1 or rows * inner * columns <= LARGE)

    def source(self, kinds: Iterable[int]) -> str:
        """The functions `pack32(b)` and `product32(first, last, k, n, a, ai, b, c, ci)`, for each number of bits."""
        width = self.size * self.vectors
        functions = [FUNCTIONS.format(bits=bits, real={32: "Float", 64: "Double"}[bits], lanes=8 * self.size // bits,
                                      vectors=self.vectors, panel=8 * width // bits, rows=ROWS, bytes=bits // 8,
                                      depth=DEPTH // width)
                     for bits in sorted(kinds)]
        return "\n\n".join([SOURCE.format(rows=ROWS), *functions])


def tiles() -> Tiles:
    """Those of this machine."""
    return Tiles(cpu_features(), blas_info()["threads"])

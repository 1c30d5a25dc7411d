"""The BLAS that NumPy has loaded, callable from compiled code by its addresses."""

from __future__ import annotations

import ctypes
import os
from functools import cache

from ..environment import blas_info

# Source for generated modules: c = a @ b for contiguous matrices that lie at an offset in their arrays, through the
# address of cblas's gemm.
PRODUCTS = '''\
from llvmlite import ir
from numba.core.cgutils import create_struct_proxy
from numba.extending import intrinsic


def _gemm(real, size):
    @intrinsic
    def call(typing, address, m, k, n, a, ai, b, bi, c, ci):
        def build(context, builder, signature, arguments):
            address, m, k, n, a, ai, b, bi, c, ci = arguments
            small, wide = ir.IntType(32), address.type

            def pointer(array, offset, kind):
                data = create_struct_proxy(kind)(context, builder, value=array).data
                return builder.add(builder.ptrtoint(data, wide), builder.mul(offset, wide(size)))

            kinds = signature.args
            a, b, c = pointer(a, ai, kinds[4]), pointer(b, bi, kinds[6]), pointer(c, ci, kinds[8])
            kind = ir.FunctionType(ir.VoidType(), [small, small, small, wide, wide, wide, real, wide, wide, wide, wide,
                                                   real, wide, wide])
            function = builder.inttoptr(address, kind.as_pointer())
            row_major, plain = small(101), small(111)
            builder.call(function, [row_major, plain, plain, m, n, k, real(1.0), a, k, b, n, real(0.0), c, n])
            return context.get_dummy_value()

        i, u = types.intp, types.uintp
        return types.void(i, u, u, u, a, i, b, i, c, i), build

    return call


sgemm = _gemm(ir.FloatType(), 4)
dgemm = _gemm(ir.DoubleType(), 8)

'''


@cache
def gemm_addresses() -> dict[str, int]:
    """{"SGEMM": address, "DGEMM": address} of NumPy's own OpenBLAS with 64-bit sizes; empty for another BLAS."""
    path = blas_info()["path"]
    if path is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return {}
    try:
        library = ctypes.CDLL(path, mode=getattr(os, "RTLD_NOW", 0) | getattr(os, "RTLD_NOLOAD", 0))
        names = {"SGEMM": "scipy_cblas_sgemm64_", "DGEMM": "scipy_cblas_dgemm64_"}
        return {k: ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for k, name in names.items()}
    except (OSError, AttributeError):
        return {}

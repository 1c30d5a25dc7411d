"""Products with packed matrices, beside NumPy's."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_scan import assert_same, normal, results

import minigrad as mg
from minigrad.compile import parts
from minigrad.compile.tiles import DEPTH, LEAST_ROWS, ROWS, Tiles, tiles
from minigrad.compile.trace import trace

CPUS = {"AVX512F": {"SSE", "AVX2", "AVX512F"}, "AVX2": {"SSE", "AVX2"}, "ASIMD": {"NEON", "ASIMD"}}


def functions(cut, bits):
    """The generated functions for one width of registers."""
    pytest.importorskip("numba")
    from minigrad.compile.blas import PRODUCTS
    from minigrad.compile.kernel_cache import load_module
    from minigrad.compile.numba_backend import HEADER

    module = load_module(HEADER.format(imports=PRODUCTS + cut.source([bits])))
    return getattr(module, f"pack{bits}"), getattr(module, f"product{bits}")


@pytest.mark.parametrize("cpu, bits", [("AVX512F", 32), ("AVX2", 64), ("ASIMD", 32)])
def test_tiles_cover_every_size(cpu, bits):
    dtype = np.dtype(f"float{bits}")
    cut = Tiles(CPUS[cpu])
    panel = cut.panel(dtype)
    pack, product = functions(cut, bits)
    rng = np.random.default_rng(0)
    depth = DEPTH // (panel * dtype.itemsize)
    for m, k, n in [(ROWS, 1, panel), (ROWS + 1, 7, panel + 1), (2 * ROWS + 3, 33, 3 * panel - 1), (16, 20, 2 * panel),
                    (ROWS, depth + 1, panel), (ROWS + 1, 2 * depth + 5, panel + 1), (2 * ROWS, 2 * depth, panel)]:
        a, b = rng.standard_normal((3, m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
        for matrix in (b, b.T.copy().T):  # as it is, and the transpose of one
            packed = pack(matrix)
            assert packed.dtype == dtype and packed.size == -(-n // panel) * k * panel and packed.ctypes.data % 64 == 0
            c = np.full((2, m + 1, n), np.nan, dtype)  # at an offset, with a row that is not to be touched
            product(0, m, k, n, a, 2 * m * k, packed, c, (m + 1) * n)
            assert_allclose(c[1, :m], a[2] @ b, rtol=200 * np.finfo(dtype).eps, atol=50 * np.finfo(dtype).eps)
            assert np.isnan(c[0]).all() and np.isnan(c[1, m]).all()


def test_which_registers_are_used():
    assert [Tiles(f).size for f in CPUS.values()] == [64, 32, 16]
    assert [Tiles(f).panel(np.dtype(np.float32)) for f in CPUS.values()] == [64, 16, 16]
    assert Tiles({"SSE2"}).size == 0  # and then BLAS does it
    assert tiles().size in (0, 16, 32, 64)


@pytest.mark.parametrize("dtype, reverse", [(np.float32, False), (np.float64, True)])
def test_a_loop_with_packed_weights_is_the_eager_loop(dtype, reverse, monkeypatch):
    pytest.importorskip("numba")
    batch, hidden = LEAST_ROWS + 1, 70
    W, U, h, x = (mg.tensor(normal(*shape, seed=k, dtype=dtype) / 8, requires_grad=True) for k, shape in enumerate(
        [(hidden, hidden), (hidden, hidden), (batch, hidden), (6, batch, hidden)]))

    def step(h, x):
        h = np.tanh(x + h @ W) @ U
        return h, h

    eager = results(step, h, x, [W, U, h, x], reverse=reverse)
    fast = results(step, h, x, [W, U, h, x], reverse=reverse, compiled="numba")
    assert_same(eager, fast, 1e-12 if dtype == np.float64 else 1e-4)
    monkeypatch.setattr(parts, "thread_count", lambda: 3)  # rows shared out: the same bits
    for a, b in zip(fast, results(step, h, x, [W, U, h, x], reverse=reverse, compiled="numba"), strict=True):
        assert_array_equal(a, b)
    said = str(mg.explain(step, h, x, reverse=reverse, backend="numba"))
    assert said.count("_panels = pack") == (4 if tiles().size else 0)  # W and U, forward and backward


def test_what_is_packed():
    cut = Tiles(CPUS["AVX512F"])

    def product(rows, columns, dtype=np.float32, inner=8):
        h, W = mg.tensor(np.zeros((rows, inner), dtype)), mg.tensor(np.zeros((inner, columns), dtype))
        return trace(lambda h, x: (h, h @ W), h, np.zeros((1, 1)), 0).program().forward[0]

    assert cut.fit(product(LEAST_ROWS, 64)) and cut.fit(product(LEAST_ROWS, 32, np.float64))
    assert not cut.fit(product(LEAST_ROWS - 1, 64)) and not cut.fit(product(LEAST_ROWS, 63))
    assert not Tiles(set()).fit(product(LEAST_ROWS, 64))
    large = product(64, 1024, inner=256)
    assert cut.fit(large) and not Tiles(CPUS["AVX512F"], threads=2).fit(large)
    assert Tiles(CPUS["AVX512F"], threads=2).fit(product(32, 512, inner=128))

"""Cross-entropy by compiled loops: the same losses and slopes as NumPy's, at every edge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.compile import parts
from minigrad.compile import rows as compiled
from minigrad.rules import softmax

pytest.importorskip("numba")

SHAPES = [(1, 1000), (16, 65), (3, 2048), (2, 5000), (400, 3), (1000, 1), (33, 64), (40, 31), (40, 32), (21, 127)]


def logits(shape: tuple[int, int], scale: float = 3.0) -> Any:
    return (scale * np.random.default_rng(7).standard_normal(shape)).astype(np.float32)


def targets(shape: tuple[int, int]) -> Any:
    return np.random.default_rng(8).integers(0, shape[1], shape[0])


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Call it to say whether kernels are used from now on."""

    def choose(on: bool) -> None:
        monkeypatch.setenv("MINIGRAD_BACKEND", "numba" if on else "numpy")

    choose(True)
    return choose


def both(kernels: Callable[[bool], None], x: Any, t: Any, g: Any, known: bool = True) -> list[tuple[Any, Any]]:
    """Losses and slopes by the kernels, and by NumPy."""
    found = []
    for on in (True, False):
        kernels(on)
        assert (softmax.kernels_for(x) is not None) == on
        losses = softmax._cross_entropy.forward(x, targets=t)
        found.append((losses, softmax._cross_entropy_slope.forward(x, g, targets=t, losses=losses if known else None)))
    return found


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_same_as_numpy(kernels: Callable[[bool], None], shape: tuple[int, int], known: bool) -> None:
    x, t = logits(shape), targets(shape)
    g = np.random.default_rng(9).standard_normal(shape[0]).astype(np.float32)  # of both signs
    (losses, slopes), (losses_numpy, slopes_numpy) = both(kernels, x, t, g, known)
    assert losses.dtype == slopes.dtype == np.float32
    np.testing.assert_allclose(losses, losses_numpy, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(slopes, slopes_numpy, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_as_exact_as_float32_can_be(kernels: Callable[[bool], None], shape: tuple[int, int]) -> None:
    x, t = logits(shape), targets(shape)
    exact = softmax._cross_entropy.forward(x.astype(np.float64), targets=t)
    np.testing.assert_allclose(softmax._cross_entropy.forward(x, targets=t), exact, rtol=1e-6, atol=2e-6)


INF = np.inf
EDGES = {
    "large": [1e4, -1e4, 0.0, 9999.0], "all the same": [5e3] * 4, "masked": [-INF, 1.0, -INF, 2.0],
    "all but one masked": [-INF, -INF, 3.0, -INF], "far below": [0.0, -87.5, -88.0, -200.0],
    "the largest last": [0.0, 1.0, 2.0, 300.0], "tiny": [1e-38, -1e-38, 0.0, -0.0],
    "far above": [80.0, 87.9, 88.5, 3e38],
}


@pytest.mark.parametrize("target", range(4))
@pytest.mark.parametrize("edge", EDGES)
def test_edges(kernels: Callable[[bool], None], edge: str, target: int) -> None:
    x = np.tile(np.array(EDGES[edge], np.float32), (250, 1))
    t, g = np.full(250, target), np.full(250, 0.01, np.float32)
    (losses, slopes), (losses_numpy, slopes_numpy) = both(kernels, x, t, g)
    np.testing.assert_allclose(losses, losses_numpy, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(slopes, slopes_numpy, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("place", [0, 1, 31, 32, 1000])
@pytest.mark.parametrize("value", [np.nan, INF])
def test_what_is_not_finite_stays_so(kernels: Callable[[bool], None], value: float, place: int) -> None:
    x = logits((3, 1001))
    x[1, place] = value
    t, g = targets(x.shape), np.ones(3, np.float32)
    with np.errstate(all="ignore"):
        (losses, slopes), (losses_numpy, slopes_numpy) = both(kernels, x, t, g)
    np.testing.assert_array_equal(np.isfinite(losses), np.isfinite(losses_numpy))
    assert np.isnan(losses[1]) == np.isnan(losses_numpy[1])
    np.testing.assert_array_equal(np.isnan(slopes), np.isnan(slopes_numpy))
    assert np.isnan(slopes[1]).any()


def test_a_row_without_a_class_left(kernels: Callable[[bool], None]) -> None:
    x = np.full((2, 1000), -INF, np.float32)
    with np.errstate(all="ignore"):
        (losses, slopes), (losses_numpy, slopes_numpy) = both(kernels, x, np.zeros(2, int), np.ones(2, np.float32))
    np.testing.assert_array_equal(losses, losses_numpy)
    np.testing.assert_array_equal(slopes, slopes_numpy)


def test_what_the_kernels_are_for(kernels: Callable[[bool], None]) -> None:
    assert compiled.kernels_for(logits((10, 99))) is None  # too few
    assert compiled.kernels_for(logits((10, 100)).astype(np.float64)) is None
    assert compiled.kernels_for(np.asfortranarray(logits((10, 100)))) is None
    assert compiled.kernels_for(logits((10, 100))) is not None
    kernels(False)
    assert compiled.kernels_for(logits((10, 100))) is None


@pytest.mark.parametrize("known", [True, False])
def test_the_same_bits_in_several_threads(kernels: Callable[[bool], None], known: bool,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    x, t = logits((2500, 65)), targets((2500, 65))
    g = np.random.default_rng(9).standard_normal(2500).astype(np.float32)

    def run(threads: int) -> tuple[Any, Any]:
        monkeypatch.setattr(parts, "thread_count", lambda: threads)
        losses = softmax._cross_entropy.forward(x, targets=t)
        return losses, softmax._cross_entropy_slope.forward(x, g, targets=t, losses=losses if known else None)

    for a, b in zip(run(1), run(3), strict=True):
        np.testing.assert_array_equal(a, b)


def test_inputs_may_be_read_only_and_of_any_integer(kernels: Callable[[bool], None]) -> None:
    x, t = logits((20, 65)), targets((20, 65))
    expected = softmax._cross_entropy.forward(x, targets=t)
    x.flags.writeable = False
    before = x.copy()
    for dtype in (np.int8, np.int32, np.uint64):
        np.testing.assert_array_equal(softmax._cross_entropy.forward(x, targets=t.astype(dtype)), expected)
    np.testing.assert_array_equal(x, before)


def test_gradients_to_second_order(kernels: Callable[[bool], None]) -> None:
    t = targets((16, 65))

    def twice(on: bool) -> tuple[Any, Any, Any]:
        kernels(on)
        x = mg.tensor(logits((4, 4, 65), 1.0), requires_grad=True)
        loss = mg.cross_entropy(x, t.reshape(4, 4), ignore_index=3)
        (slope,) = mg.grad(loss, [x], create_graph=True)
        (curvature,) = mg.grad((slope * slope).sum(), [x])
        return loss.item(), slope.numpy(), curvature.numpy()

    for a, b in zip(twice(True), twice(False), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-8)

"""Optimisers against independent loops and PyTorch, clipping, schedules."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.nn import Parameter

# ------------------------------------------------------------------------------------------------------------
# Optimisers
# ------------------------------------------------------------------------------------------------------------


def sgd(x, grads, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    buf = None
    for g in grads:
        g = g + weight_decay * x
        buf = g if buf is None else momentum * buf + g
        x = x - lr * (g + momentum * buf if nesterov else buf if momentum else g)
    return x


def adagrad(x, grads, lr=1e-2, eps=1e-10, weight_decay=0.0):
    total = np.zeros_like(x)
    for g in grads:
        g = g + weight_decay * x
        total = total + g * g
        x = x - lr * g / (np.sqrt(total) + eps)
    return x


def rmsprop(x, grads, lr=1e-2, alpha=0.99, eps=1e-8, momentum=0.0, centred=False, weight_decay=0.0):
    square, mean, buf = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for g in grads:
        g = g + weight_decay * x
        square = alpha * square + (1 - alpha) * g * g
        mean = alpha * mean + (1 - alpha) * g
        u = g / (np.sqrt(square - mean * mean if centred else square) + eps)
        buf = momentum * buf + u
        x = x - lr * (buf if momentum else u)
    return x


def adam(x, grads, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t, g in enumerate(grads, 1):
        if decoupled:
            x = x * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * x
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        x = x - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return x


def adamw(x, grads, weight_decay=1e-2, **settings):
    return adam(x, grads, weight_decay=weight_decay, decoupled=True, **settings)


CASES = [
    ("SGD", sgd, {"lr": 0.1}), ("SGD", sgd, {"lr": 0.1, "weight_decay": 0.3}),
    ("SGD", sgd, {"lr": 0.1, "momentum": 0.9}),
    ("SGD", sgd, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    ("SGD", sgd, {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    ("Adagrad", adagrad, {}), ("Adagrad", adagrad, {"lr": 0.5, "eps": 1e-3, "weight_decay": 0.1}),
    ("RMSprop", rmsprop, {}), ("RMSprop", rmsprop, {"lr": 0.02, "alpha": 0.95, "weight_decay": 0.1}),
    ("RMSprop", rmsprop, {"momentum": 0.9, "centred": True}),
    ("RMSprop", rmsprop, {"centred": True, "eps": 1e-2}),
    ("Adam", adam, {}), ("Adam", adam, {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.2}),
    ("AdamW", adamw, {}), ("AdamW", adamw, {"lr": 0.1, "weight_decay": 0.5}),
    ("AdamW", adamw, {"weight_decay": 0.0}),
]
IDS = [f"{name}-{k}" for k, (name, _, _) in enumerate(CASES)]


def problem(dtype=np.float64, steps: int = 20):
    """Values and gradients of three parameters, one a single number."""
    rng = np.random.default_rng(3)
    values = [rng.standard_normal(s).astype(dtype) for s in ((3, 4), (5,), ())]
    return values, [[rng.standard_normal(v.shape).astype(dtype) for v in values] for _ in range(steps)]


def run(optimiser, grads) -> None:
    for gs in grads:
        for p, g in zip(optimiser.parameters, gs, strict=True):
            p.grad = g
        optimiser.step()


@pytest.mark.parametrize(("name", "loop", "settings"), CASES, ids=IDS)
def test_against_a_loop(name, loop, settings) -> None:
    values, grads = problem()
    parameters = [Parameter(v, dtype=np.float64) for v in values]
    run(getattr(optim, name)(parameters, **settings), grads)
    for k, p in enumerate(parameters):
        np.testing.assert_allclose(p.data, loop(values[k], [g[k] for g in grads], **settings), rtol=1e-12,
                                   atol=1e-12)
        assert type(p._data) is np.ndarray and p.shape == values[k].shape


@pytest.mark.parametrize(("name", "loop", "settings"), CASES, ids=IDS)
def test_against_torch(name, loop, settings) -> None:
    torch = pytest.importorskip("torch")
    values, grads = problem()
    ours = [Parameter(v, dtype=np.float64) for v in values]
    theirs = [torch.tensor(v, requires_grad=True) for v in values]
    run(getattr(optim, name)(ours, **settings), grads)
    optimiser = getattr(torch.optim, name)(theirs, **{"centered" if k == "centred" else k: v
                                                      for k, v in settings.items()})
    for gs in grads:
        for p, g in zip(theirs, gs, strict=True):
            p.grad = torch.tensor(g)
        optimiser.step()
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "loop", "settings"), CASES, ids=IDS)
def test_float32_stays_float32(name, loop, settings) -> None:
    values, grads = problem(np.float32)
    parameters = [Parameter(v) for v in values]
    optimiser = getattr(optim, name)(parameters, **settings)
    optimiser.lr = np.float64(optimiser.lr)  # a NumPy number must not upcast
    run(optimiser, grads)
    for k, p in enumerate(parameters):
        assert p.dtype == np.float32
        exact = loop(values[k].astype(float), [g[k].astype(float) for g in grads], **settings)
        np.testing.assert_allclose(p.data, exact, rtol=2e-5, atol=2e-5)
    for moments in optimiser.moments:
        assert all(m.dtype == np.float32 for m in moments.values() if isinstance(m, np.ndarray))


@pytest.mark.parametrize(("name", "loop", "settings"), CASES, ids=IDS)
def test_resumes_bit_for_bit(name, loop, settings, tmp_path) -> None:
    values, grads = problem(np.float32)
    whole = [Parameter(v) for v in values]
    run(getattr(optim, name)(whole, **settings), grads)
    first = [Parameter(v) for v in values]
    optimiser = getattr(optim, name)(first, **settings)
    run(optimiser, grads[:7])
    mg.save(tmp_path / "o.npz", optimiser.state_dict())
    state = mg.load(tmp_path / "o.npz")
    second = [Parameter(p.data) for p in first]
    resumed = getattr(optim, name)(second, **{**settings, "lr": 123.0})
    resumed.load_state_dict(state)
    assert repr(resumed) == repr(optimiser)
    run(resumed, grads[7:])
    for p, q in zip(whole, second, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.parametrize(("name", "saved", "made"), [
    ("SGD", {"lr": 0.1, "momentum": 0.9}, {"lr": 0.1}), ("SGD", {"lr": 0.1}, {"lr": 0.1, "momentum": 0.9}),
    ("RMSprop", {"momentum": 0.5, "centred": True}, {}), ("RMSprop", {}, {"momentum": 0.5, "centred": True})])
def test_saved_settings_take_the_place_of_others(name: str, saved, made) -> None:
    p, q = Parameter([1.0, 2.0]), Parameter([1.0, 2.0])
    first, second = getattr(optim, name)(p, **saved), getattr(optim, name)(q, **made)
    run(first, [[np.ones(2, np.float32)]])
    q.assign(p.data)
    second.load_state_dict(first.state_dict())
    assert repr(second) == repr(first)
    for optimiser in (first, second):
        run(optimiser, [[np.ones(2, np.float32)]])
    np.testing.assert_array_equal(p.data, q.data)


def test_state_is_a_copy_both_ways() -> None:
    p = Parameter([1.0, 2.0])
    optimiser = optim.Adam(p)
    run(optimiser, [[np.ones(2)]])
    state = optimiser.state_dict()
    kept = state["moments"]["0"]["m"].copy()
    run(optimiser, [[np.ones(2)]])
    np.testing.assert_array_equal(state["moments"]["0"]["m"], kept)
    optimiser.load_state_dict(state)
    run(optimiser, [[np.ones(2)]])
    np.testing.assert_array_equal(state["moments"]["0"]["m"], kept)


def broken(**changes):
    p = Parameter([1.0, 2.0])
    optimiser = optim.Adam(p)
    run(optimiser, [[np.ones(2)]])
    state = optimiser.state_dict()
    moments = {**state["moments"]["0"], **changes.pop("moments", {})}
    return {**state, "moments": {"0": moments}, **changes}


@pytest.mark.parametrize(("state", "text"), [
    (3, "not the state of an optimiser"), ({}, "not the state of an optimiser"),
    (broken(kind="SGD"), "the state of SGD, not of Adam"), (broken(options={"lr": 1}), "the settings"),
    (broken(options=dict.fromkeys(optim.Adam.options, "x")), "are numbers"),
    ({**broken(), "moments": {}}, "for 0 parameters"),
    ({**broken(), "moments": {"0": {"m": 1}}}, "expected the moments"),
    (broken(moments={"m": np.ones(3)}), "floating array of shape"),
    (broken(moments={"v": [1.0, 2.0]}), "floating array"),
    (broken(moments={"v": np.array(["a", "b"])}), "floating array"),
    (broken(moments={"t": 1.5}), "whole number"),
    (broken(moments={"t": -1}), "whole number"),
])
def test_a_state_that_does_not_fit_changes_nothing(state, text: str) -> None:
    optimiser = optim.Adam(Parameter([1.0, 2.0]), lr=0.5)
    with pytest.raises(ValueError, match=text):
        optimiser.load_state_dict(state)
    assert optimiser.lr == 0.5 and optimiser.moments == [{}]


def test_values_are_replaced_never_written_to() -> None:
    for make in (lambda p: optim.SGD(p, 0.1), optim.Adagrad, optim.RMSprop, optim.Adam, optim.AdamW):
        p = Parameter([1.0, 2.0])
        old, view, version = p._data, p.data, p.version
        optimiser = make(p)
        g = np.ones(2, np.float32)
        g.flags.writeable = False
        run(optimiser, [[g]])
        np.testing.assert_array_equal(view, [1, 2])
        assert p._data is not old and p.version == version + 1 and not np.shares_memory(p._data, old)
        moments = [m for m in optimiser.moments[0].values() if isinstance(m, np.ndarray)]
        assert not any(np.shares_memory(p._data, m) for m in moments)


def test_a_step_between_forward_and_backward_is_noticed() -> None:
    p = Parameter([1.0, 2.0])
    optimiser = optim.SGD(p, lr=0.1)
    (p * p).sum().backward()
    loss = (p * p).sum()
    optimiser.step()
    with pytest.raises(mg.GraphError, match="before the optimiser's step"):
        loss.backward()


def test_parameters_without_a_gradient_are_left_alone() -> None:
    a, b = Parameter([1.0]), Parameter([1.0])
    optimiser = optim.AdamW([a, b], weight_decay=0.5)
    a.grad = np.ones(1, np.float32)
    before = b._data
    optimiser.step()
    assert b._data is before and optimiser.moments[1] == {} and a.data[0] != 1
    optimiser.zero_grad()
    assert a.grad is None
    held = a._data
    optimiser.step()
    assert a._data is held


def test_a_gradient_of_another_precision_is_cast() -> None:
    p = Parameter([1.0])
    p.grad = np.ones(1)
    optim.SGD(p, lr=0.5).step()
    assert p.dtype == np.float32 and p.data[0] == 0.5


def test_parameters_are_taken_once() -> None:
    p = Parameter([1.0])
    optimiser = optim.SGD((q for q in (p, p)), lr=1)
    assert len(optimiser.parameters) == 1


def test_lr_can_be_set_and_is_read_at_each_step() -> None:
    p = Parameter([0.0])
    optimiser = optim.SGD(p, lr=1)
    run(optimiser, [[np.ones(1)]])
    optimiser.lr = 10
    run(optimiser, [[np.ones(1)]])
    assert p.data[0] == -11


@pytest.mark.parametrize("make", [
    lambda p: optim.SGD(p, lr=-1), lambda p: optim.SGD(p, lr=math.nan), lambda p: optim.SGD(p, lr=math.inf),
    lambda p: optim.SGD(p, lr=1, momentum=1), lambda p: optim.SGD(p, lr=1, nesterov=True),
    lambda p: optim.SGD(p, lr=1, weight_decay=-1), lambda p: optim.Adam(p, betas=(0.9, 1.0)),
    lambda p: optim.RMSprop(p, alpha=1.0), lambda p: optim.Adagrad(p, eps=-1), lambda p: optim.SGD([], lr=1),
    lambda p: optim.SGD([mg.tensor([1.0])], lr=1), lambda p: optim.SGD([p * 2], lr=1)])
def test_settings_out_of_range(make) -> None:
    with pytest.raises(ValueError):
        make(Parameter([1.0]))


def test_parameters_must_be_tensors() -> None:
    with pytest.raises(TypeError, match=r"module\.parameters"):
        optim.SGD([np.ones(3)], lr=1)


@pytest.mark.parametrize("make, words", [
    (lambda p: optim.SGD(p, lr="0.1"), "lr is a number, got '0.1'"),
    (lambda p: optim.Adam(p, betas=0.9), "betas is a pair of numbers, got 0.9"),
    (lambda p: optim.Adam(p, betas=(0.9,)), "betas is a pair of numbers"),
    (lambda p: optim.Adam(p, betas=(0.9, None)), "beta2 is a number, got None"),
    (lambda p: optim.SGD(mg.nn.Linear(2, 2), lr=1), r"got Linear\. Write module\.parameters\(\)")])
def test_mistakes_are_told_what_is_wanted(make, words) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        make(Parameter([1.0]))


def test_the_base_class_has_no_formula() -> None:
    p = Parameter([1.0])
    p.grad = np.ones(1)
    with pytest.raises(NotImplementedError):
        optim.Optimiser(p, 1.0).step()


def test_centred_rmsprop_survives_rounding() -> None:
    p = Parameter([1.0])
    run(optim.RMSprop(p, centred=True, alpha=0.5), [[np.full(1, 1e3, np.float32)]] * 200)
    assert np.isfinite(p.data).all()


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW"])
def test_a_line_is_fitted(name: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 3)).astype(np.float32)
    y = x @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 0.25
    model = mg.nn.Linear(3, 1, rng=0)
    optimiser = getattr(optim, name)(model.parameters(), lr=0.3 if name == "Adagrad" else 0.05)
    for _ in range(300):
        loss = mg.mse_loss(model(mg.tensor(x)), y)
        optimiser.zero_grad()
        loss.backward()
        optim.clip_grad_norm(model.parameters(), 1.0)
        optimiser.step()
    assert loss.item() < 1e-2


# ------------------------------------------------------------------------------------------------------------
# Clipping
# ------------------------------------------------------------------------------------------------------------


def with_gradients(*gradients, dtype=np.float32):
    found = []
    for g in gradients:
        p = Parameter(np.zeros(np.shape(g)), dtype=dtype)
        p.grad = None if g is None else np.array(g, dtype)
        found.append(p)
    return found


def test_norm_over_all_gradients() -> None:
    ps = with_gradients([[3.0, 0.0]], 4.0, np.zeros((0, 2)), None, [12.0])
    assert optim.global_norm(ps) == 13
    assert optim.global_norm([Parameter([1.0])]) == 0
    assert optim.global_norm(with_gradients([0.0])) == 0
    assert optim.global_norm([]) == 0
    assert optim.global_norm(ps[0]) == 3


def test_clip_grad_norm_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    gradients = [rng.standard_normal(s) for s in ((3, 4), (5,), ())]
    ps = with_gradients(*gradients, dtype=np.float64)
    norm = math.sqrt(sum(float((g * g).sum()) for g in gradients))
    assert optim.clip_grad_norm(ps, 0.5) == pytest.approx(norm, rel=1e-14)
    for p, g in zip(ps, gradients, strict=True):
        np.testing.assert_allclose(p.grad, g * (0.5 / (norm + 1e-6)), rtol=1e-14)
        assert type(p.grad) is np.ndarray


def test_clip_grad_norm_leaves_small_gradients_as_they_are() -> None:
    ps = with_gradients([0.3, 0.4])
    before = ps[0].grad
    assert optim.clip_grad_norm(ps, 1.0) == pytest.approx(0.5)
    assert ps[0].grad is before
    assert optim.clip_grad_norm(ps, math.inf) == pytest.approx(0.5) and ps[0].grad is before
    assert optim.clip_grad_norm(with_gradients([0.0]), 1.0) == 0


def test_clip_grad_norm_against_torch() -> None:
    torch = pytest.importorskip("torch")
    gradients = [np.random.default_rng(k).standard_normal((4, k + 1)) for k in range(3)]
    ps = with_gradients(*gradients, dtype=np.float64)
    ts = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in gradients]
    for t, g in zip(ts, gradients, strict=True):
        t.grad = torch.tensor(g)
    assert optim.clip_grad_norm(ps, 0.7) == pytest.approx(float(torch.nn.utils.clip_grad_norm_(ts, 0.7)),
                                                          rel=1e-14)
    for p, t in zip(ps, ts, strict=True):
        np.testing.assert_allclose(p.grad, t.grad.numpy(), rtol=1e-13)


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e20), (np.float32, 3e38), (np.float64, 1e20),
                                             (np.float64, 1e300), (np.float64, 1.7e308), (np.float16, 6e4)])
def test_huge_finite_gradients_are_scaled(dtype, size: float) -> None:
    ps = with_gradients([size, -size, 0.0], [size] * 2, dtype=dtype)
    size = float(ps[0].grad[0])
    norm = optim.clip_grad_norm(ps, 1.0)
    assert norm == pytest.approx(2 * size, rel=1e-6) or norm == math.inf
    np.testing.assert_allclose(ps[0].grad.astype(float), [0.5, -0.5, 0],
                               rtol=1e-3 if dtype == np.float16 else 1e-6)
    assert ps[0].grad.dtype == dtype
    assert optim.global_norm(ps) == pytest.approx(1, rel=1e-3)


def test_tiny_gradients_have_a_norm() -> None:
    assert optim.global_norm(with_gradients([3e-200, 4e-200], dtype=np.float64)) == pytest.approx(5e-200)
    assert optim.global_norm(with_gradients([5e-324], dtype=np.float64)) == 5e-324
    ps = with_gradients([3e-200, 4e-200], dtype=np.float64)
    optim.clip_grad_norm(ps, 1.0)
    assert ps[0].grad[0] == 3e-200


def test_the_norm_of_many_float32_is_exact() -> None:
    g = np.full(3_000_000, 0.1, np.float32)
    expected = math.sqrt(3_000_000) * float(np.float32(0.1))
    assert optim.global_norm(with_gradients(g)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("clip", [optim.clip_grad_norm, optim.clip_grad_value, lambda ps,
                                  _: optim.global_norm(ps)])
def test_not_finite_names_the_parameter_and_changes_nothing(clip, bad: float) -> None:
    ps = with_gradients([10.0, 20.0], [[1.0, bad], [bad, 2.0]], [5.0])
    ps[1].name = "weight_hh"
    before = [p.grad for p in ps]
    copies = [g.copy() for g in before]
    with pytest.raises(FloatingPointError, match=r"parameter 1 'weight_hh' of shape \(2, 2\) has") as error:
        clip(ps, 1.0)
    assert ("2 NaN and 0 infinite" if math.isnan(bad) else "0 NaN and 2 infinite") in str(error.value)
    for p, g, copy in zip(ps, before, copies, strict=True):
        assert p.grad is g
        np.testing.assert_array_equal(g, copy)


def test_clip_grad_value() -> None:
    ps = with_gradients([-9.0, 0.5, 7.0], 3.0)
    optim.clip_grad_value(ps, 1.5)
    np.testing.assert_array_equal(ps[0].grad, [-1.5, 0.5, 1.5])
    assert ps[1].grad.shape == () and ps[1].grad == 1.5 and ps[0].grad.dtype == np.float32


@pytest.mark.parametrize("limit", [0, -1, math.nan])
def test_limits_are_above_0(limit: float) -> None:
    ps = with_gradients([2.0])
    with pytest.raises(ValueError, match="above 0"):
        optim.clip_grad_norm(ps, limit)
    with pytest.raises(ValueError, match="above 0"):
        optim.clip_grad_value(ps, limit)
    assert ps[0].grad[0] == 2


def test_gradients_that_share_memory_are_scaled_once() -> None:
    ps = with_gradients([3.0], [4.0])
    ps[1].grad = ps[0].grad
    optim.clip_grad_norm(ps, 1.0)
    np.testing.assert_allclose([ps[0].grad[0], ps[1].grad[0]], math.sqrt(0.5), rtol=1e-6)


# ------------------------------------------------------------------------------------------------------------
# Schedules
# ------------------------------------------------------------------------------------------------------------


def rates(schedule, steps: int) -> list[float]:
    found = [schedule.optimiser.lr]
    for _ in range(steps):
        assert schedule.step() == schedule.optimiser.lr
        found.append(schedule.optimiser.lr)
    return found


def optimiser(lr: float = 1.0) -> optim.SGD:
    return optim.SGD(Parameter([1.0]), lr=lr)


def test_step_lr() -> None:
    np.testing.assert_allclose(rates(optim.StepLR(optimiser(8.0), 2, 0.5), 5), [8, 8, 4, 4, 2, 2])


def test_exponential_lr() -> None:
    np.testing.assert_allclose(rates(optim.ExponentialLR(optimiser(), 0.5), 3), [1, 0.5, 0.25, 0.125])


def test_decay_from_epoch_10() -> None:
    found = rates(optim.ExponentialLR(optimiser(2e-3), 0.97, start=10), 12)
    np.testing.assert_allclose(found[:10], 2e-3)  # the rates of epochs 1 … 10
    np.testing.assert_allclose(found[10:], [2e-3 * 0.97, 2e-3 * 0.97**2, 2e-3 * 0.97**3])


def test_cosine_lr() -> None:
    found = rates(optim.CosineLR(optimiser(2.0), 10, warmup=4, minimum=0.5), 12)
    np.testing.assert_allclose(found[:5], [0.5, 1.0, 1.5, 2.0, 2.0])
    assert found[7] == pytest.approx(1.25) and found[10:] == pytest.approx([0.5] * 3)
    assert all(a > b for a, b in pairwise(found[4:11]))


def test_cosine_lr_against_torch() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, 7, 0.01)
    found = rates(optim.CosineLR(optimiser(0.3), 7, minimum=0.01), 7)
    for lr in found:
        assert theirs.param_groups[0]["lr"] == pytest.approx(lr)
        theirs.step()
        schedule.step()


def test_plateau_lr_against_torch() -> None:
    torch = pytest.importorskip("torch")
    for patience in (0, 2):
        theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=20.0)
        reference = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, factor=0.25, patience=patience,
                                                               threshold=0.05,
                                                               threshold_mode="abs", min_lr=0.1)
        schedule = optim.PlateauLR(optimiser(20.0), 0.25, patience, threshold=0.05, minimum=0.1)
        for metric in np.random.default_rng(0).random(60):
            reference.step(metric)
            assert schedule.step(metric) == pytest.approx(theirs.param_groups[0]["lr"])
        assert schedule.optimiser.lr == 0.1


def test_a_quarter_when_validation_stops_improving() -> None:
    schedule = optim.PlateauLR(optimiser(20.0))
    assert [schedule.step(m) for m in (5.0, 4.0, 4.5, 3.9, math.nan, 3.9)] == [20, 20, 5, 5, 1.25, 0.3125]
    low = optim.PlateauLR(optimiser(0.01), minimum=0.1)  # the minimum is not a way up
    assert [low.step(1.0), low.step(2.0)] == [0.01, 0.01]


@pytest.mark.parametrize("make", [lambda o: optim.StepLR(o, 3), lambda o: optim.ExponentialLR(o, 0.9,
                                                                                              start=4),
                                  lambda o: optim.CosineLR(o, 20, warmup=5),
                                  lambda o: optim.PlateauLR(o, 0.5, 1)])
def test_schedules_resume(make, tmp_path) -> None:
    metrics = np.random.default_rng(0).random(15)
    whole = make(optimiser(3.0))
    expected = [whole.step(m) for m in metrics]
    first = make(optimiser(3.0))
    found = [first.step(m) for m in metrics[:6]]
    mg.save(tmp_path / "s.npz", {"optimiser": first.optimiser.state_dict(), "schedule": first.state_dict()})
    state = mg.load(tmp_path / "s.npz")
    second = make(optimiser(77.0))
    second.optimiser.load_state_dict(state["optimiser"])
    second.load_state_dict(state["schedule"])
    assert found + [second.step(m) for m in metrics[6:]] == expected


def test_a_schedule_refuses_another_state() -> None:
    schedule = optim.StepLR(optimiser(), 2)
    good = schedule.state_dict()
    for bad in (None, {}, optim.PlateauLR(optimiser()).state_dict(), {**good, "kind": "CosineLR"},
                {**good, "steps": "1"}, {**good, "base": True}):
        with pytest.raises(ValueError, match="state"):
            schedule.load_state_dict(bad)
    assert schedule.state_dict() == good


@pytest.mark.parametrize("make", [
    lambda o: optim.StepLR(o, 0), lambda o: optim.StepLR(o, 1, -1.0),
    lambda o: optim.ExponentialLR(o, 0.9, start=0),
    lambda o: optim.CosineLR(o, 0), lambda o: optim.CosineLR(o, 3, warmup=3),
    lambda o: optim.PlateauLR(o, 1.0),
    lambda o: optim.PlateauLR(o, patience=-1), lambda o: optim.PlateauLR(o).step()])
def test_schedule_settings(make) -> None:
    with pytest.raises(ValueError):
        make(optimiser())


def test_the_base_schedule_has_no_formula() -> None:
    with pytest.raises(NotImplementedError):
        optim.Schedule(optimiser()).step()

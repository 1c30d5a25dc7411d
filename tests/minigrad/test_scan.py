"""The loop over time: eager, compiled, and what falls back from one to the other."""

from __future__ import annotations

import logging
import threading
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad.compile import run
from minigrad.compile.run import NotCompiled
from minigrad.tree import tree_leaves, tree_map

T, B, H = 9, 3, 4
HOW = [False, "numpy", "auto", True]


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.fixture(autouse=True)
def told(monkeypatch):
    monkeypatch.setattr(run, "_TOLD", set())


def rnn_step(W):
    def step(h, x):
        h = np.tanh(x + h @ W)
        return h, h * 2.0

    return step


def problem():
    W = mg.tensor(normal(H, H, seed=1) * 0.5, requires_grad=True, name="W")
    h0 = mg.tensor(normal(B, H, seed=2), requires_grad=True)
    xs = mg.tensor(normal(T, B, H, seed=3), requires_grad=True)
    return W, h0, xs


def results(step, state, xs, leaves, **options):
    """Outputs and gradients of a scan as arrays."""
    for leaf in leaves:
        leaf.grad = None
    final, ys = mg.scan(step, state, xs, **options)
    outputs = tree_leaves(final) + tree_leaves(ys)
    loss = sum((o * np.cos(np.arange(o.size, dtype=float)).astype(o.dtype).reshape(o.shape)).sum()
               for o in outputs if o.dtype.kind == "f")
    loss.backward()
    return [o.data for o in outputs] + [leaf.grad for leaf in leaves]


def assert_same(some, others, tolerance=1e-12):
    for a, b in zip(some, others, strict=True):
        if a is None or b is None:
            assert a is None and b is None
        else:
            assert a.dtype == b.dtype and a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("how", HOW[1:])
def test_compiled_is_eager(how, reverse):
    W, h0, xs = problem()
    step = rnn_step(W)
    assert_same(results(step, h0, xs, [W, h0, xs], reverse=reverse),
                results(step, h0, xs, [W, h0, xs], reverse=reverse, compiled=how))
    _, ys = mg.scan(step, h0, xs, compiled=how)
    assert ys.node.primitive.name == "scan"


def test_one_node_and_no_more():
    W, h0, xs = problem()
    _, ys = mg.scan(rnn_step(W), h0, xs, compiled=True)
    assert len(mg.tape(ys)) == 1
    assert "scan" in str(mg.tape(ys))


def test_context_manager():
    W, h0, xs = problem()
    with mg.compiled():
        _, ys = mg.scan(rnn_step(W), h0, xs)
        assert ys.node.primitive.name == "scan"
        with mg.compiled(False):
            _, ys = mg.scan(rnn_step(W), h0, xs)
            assert ys.node.primitive.name == "stack"
    _, ys = mg.scan(rnn_step(W), h0, xs)
    assert ys.node.primitive.name == "stack"
    with pytest.raises(ValueError, match="auto"):
        mg.compiled("fast")
    with pytest.raises(ValueError, match="auto"):
        mg.scan(rnn_step(W), h0, xs, compiled="fast")


def test_auto_leaves_short_loops_eager():
    W, h0, xs = problem()
    _, ys = mg.scan(rnn_step(W), h0, xs[:3], compiled="auto")
    assert ys.node.primitive.name == "stack"


@pytest.mark.parametrize("inputs", [(), np.zeros((0, 2)), (np.zeros((2, 1)), np.zeros((3, 1)))])
@pytest.mark.parametrize("how", [False, True])
def test_bad_inputs(inputs, how):
    inputs = tree_map(mg.tensor, inputs)
    with pytest.raises(ValueError, match="same number of time steps"):
        mg.scan(lambda s, x: (s, x), mg.tensor(0.0), inputs, compiled=how)


def test_errors_of_the_step_come_through():
    with pytest.raises(ValueError, match="matmul"):
        mg.scan(lambda h, x: (h @ x, h), mg.tensor(np.ones((2, 3))), mg.tensor(np.ones((8, 2, 3))), compiled=True)


class Halves(NamedTuple):
    left: Any
    right: Any


@pytest.mark.parametrize("how", [False, True])
@pytest.mark.parametrize("step, words", [
    (lambda s, x: None, "returned None. End it with `return state, output`"),
    (lambda s, x: s.left, "a Tensor alone"),  # of two rows
    (lambda s, x: s, "the Halves alone"),
    (lambda s, x: (s, x, x), "3 values"),
    (lambda s, x: {"state": s, "output": x}, "a dict alone"),
    (lambda s, x: (s, None), "None as its output.*`return state, \\(\\)`"),
], ids=["None", "Tensor", "state", "three", "dict", "no output"])
def test_a_step_that_returns_no_pair(step, words, how):
    two = mg.tensor(np.ones((2, 3)))
    with pytest.raises(TypeError, match=words):
        mg.scan(step, Halves(two, two), mg.tensor(np.ones((8, 2, 3))), compiled=how)


@pytest.mark.parametrize("how", [False, True])
def test_a_step_may_have_no_output(how):
    state, ys = mg.scan(lambda s, x: [s + x, ()], mg.tensor(1.0), mg.tensor(np.ones(8)), compiled=how)
    assert state.item() == 9.0 and ys == ()


def test_trees():
    W, h0, xs = problem()
    mask = mg.tensor(np.random.default_rng(5).random((T, B, 1)) < 0.6)
    names = [mg.tensor(normal(B, H, seed=6), requires_grad=True)]

    def step(state, inputs):
        h, (n,) = state["h"], state["n"]
        h = np.where(inputs["mask"], np.tanh(inputs["x"] @ W + h), h)
        return {"h": h, "n": [n + h]}, (h, {"twice": 2.0 * n, "state": n})

    leaves = [W, h0, xs, *names]
    state, inputs = {"h": h0, "n": names}, {"x": xs, "mask": mask}
    eager = results(step, state, inputs, leaves)
    assert_same(eager, results(step, state, inputs, leaves, compiled=True))
    final, ys = mg.scan(step, state, inputs, compiled=True)
    assert list(final) == ["h", "n"] and isinstance(final["n"], list) and list(ys[1]) == ["twice", "state"]


@pytest.mark.parametrize("step", [
    lambda s, x: (s, x),
    lambda s, x: (x, s),
    lambda s, x: (s, s),
    lambda s, x: (x, x),
    lambda s, x: (s * x, mg.tensor(np.ones(3))),
    lambda s, x: (x[::-1], s[..., None] * np.ones((1, 2))),
    lambda s, x: ((s * x).T.reshape(3), x.sum()),
    lambda s, x: (s - 1.0, np.stack([s, x]).T),
    lambda s, x: (np.flip(np.concatenate([x[:1], s[1:]])), s[1] * x),
    lambda s, x: (np.maximum(s, x), np.max(s * x, axis=0)),
    lambda s, x: (s.detach() * x, np.exp(s) > x),
    lambda s, x: (mg.softmax(s) * x, mg.logsumexp(s)),
    lambda s, x: (mg.clip_gradient(s * x, 0.1), np.var(s)),
    lambda s, x: (np.clip(s + x, -0.5, None), np.clip(x, -0.1, 0.1)),
    lambda s, x: (s * np.float64(0.5) + x, s.mean(keepdims=True)),
    lambda s, x: (x, s ** 2 + x ** 3),
    lambda s, x: (np.einsum("i,i->i", s, x), np.outer(s, x)),
    lambda s, x: (np.cumsum(s) * 0.1, np.split(x, [1])[1]),
    lambda s, x: (mg.layer_norm(s) + x, np.linalg.norm(x.sum()[None], 1)),
    lambda s, x: (np.where(x > 0, s, 0.5), np.abs(s) + mg.relu(x) + mg.softplus(x)),
])
@pytest.mark.parametrize("reverse", [False, True])
def test_small_steps(step, reverse):
    s = mg.tensor(normal(3, seed=1), requires_grad=True)
    x = mg.tensor(normal(8, 3, seed=2), requires_grad=True)
    eager = results(step, s, x, [s, x], reverse=reverse)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotCompiled)
        assert_same(eager, results(step, s, x, [s, x], reverse=reverse, compiled=True))


def test_numbers_as_state():
    s, x = mg.tensor(1.0, requires_grad=True), mg.tensor(normal(8), requires_grad=True)
    step = lambda s, x: (s * np.cos(x), s + x)
    assert_same(results(step, s, x, [s, x]), results(step, s, x, [s, x], compiled=True))


def test_arrays_as_inputs():
    W, _, _ = problem()
    final, ys = mg.scan(rnn_step(W), np.zeros((B, H)), normal(T, B, H), compiled=True)
    again, _ = mg.scan(rnn_step(W), mg.tensor(np.zeros((B, H))), mg.tensor(normal(T, B, H)))
    np.testing.assert_allclose(final.data, again.data, rtol=1e-12)
    assert ys.requires_grad


def test_inputs_that_are_not_contiguous():
    W, h0, _ = problem()
    x = mg.tensor(normal(B, T, H), requires_grad=True)
    step = rnn_step(W)
    assert_same(results(step, h0, np.swapaxes(x, 0, 1), [W, h0, x]),
                results(step, h0, np.swapaxes(x, 0, 1), [W, h0, x], compiled=True))
    flipped = mg.tensor(np.zeros((T, H, B)), requires_grad=True)
    flipped._replace(np.asfortranarray(normal(T, B, H)).view())
    results(step, h0, flipped, [W], compiled=True)


def test_closures_are_honoured_at_each_call():
    W, h0, xs = problem()
    scale = 1.0

    def step(h, x):
        h = np.tanh(x + h @ W) * scale
        return h, h

    for scale in (1.0, 0.5, 0.0):  # noqa: B007, the step reads it
        assert_same(results(step, h0, xs, [W]), results(step, h0, xs, [W], compiled=True))
    W.assign(W.data * 2)
    assert_same(results(step, h0, xs, [W]), results(step, h0, xs, [W], compiled=True))


def test_weights_made_outside():
    W, h0, xs = problem()
    mask = np.random.default_rng(0).random((H, H)) < 0.5

    def loss(how):
        U = W * mask
        final, ys = mg.scan(lambda h, x: (np.tanh(x + h @ U), h @ U.T), h0, xs, compiled=how)
        return (final * final).sum() + ys.sum()

    assert_same([g.data for g in mg.grad(loss(False), [W, h0])], [g.data for g in mg.grad(loss(True), [W, h0])])


def test_only_the_needed_gradients():
    W, h0, xs = problem()
    xs = xs.detach()
    _, ys = mg.scan(rnn_step(W), h0.detach(), xs, compiled=True)
    ys.sum().backward()
    assert W.grad is not None and xs.grad is None
    (call,) = ys.node.metadata.values()
    assert call.mask == (False, False, True)
    with mg.no_grad():
        _, ys = mg.scan(rnn_step(W), h0, xs, compiled=True)
    assert not ys.requires_grad


def test_freed():
    W, h0, xs = problem()
    _, ys = mg.scan(rnn_step(W), h0, xs, compiled=True)
    ys.sum().backward()
    assert ys.node.freed and ys.node.output is None
    with pytest.raises(mg.GraphError, match="detach"):
        ys.sum().backward()


def test_retained():
    W, h0, xs = problem()
    _, ys = mg.scan(rnn_step(W), h0, xs, compiled=True)
    loss = ys.sum()
    loss.backward(retain_graph=True)
    once = W.grad.copy()
    loss.backward()
    np.testing.assert_allclose(W.grad, 2 * once)


def test_a_changed_weight_is_noticed():
    W, h0, xs = problem()
    _, ys = mg.scan(rnn_step(W), h0, xs, compiled=True)
    W.assign(W.data + 1)
    with pytest.raises(mg.GraphError, match="changed by assign"):
        ys.sum().backward()


@pytest.mark.parametrize("every", [None, 4])
@pytest.mark.parametrize("changed", range(4))
def test_arrays_that_are_written_to_later_change_no_gradient(changed, every):
    """Those of a state, of inputs, and two that the step uses: first and second order."""
    def gradients(write):
        arrays = [normal(B, H, seed=2), normal(T, B, H, seed=3), normal(H, seed=4), normal(H, seed=5)]
        W = mg.tensor(normal(H, H, seed=1) * 0.5, requires_grad=True)

        def step(h, x):
            h = np.tanh(x * W[0] + h @ W + arrays[2]) * arrays[3]
            return h, h

        h, ys = mg.scan(step, arrays[0], arrays[1], compiled="numpy", checkpoint_every=every)
        loss = np.sum(ys * ys)
        if write:
            arrays[changed] *= -3.0
        (first,) = mg.grad(loss, W, retain_graph=True)
        (g,) = mg.grad(loss, W, create_graph=True)
        (second,) = mg.grad(np.sum(g * g), W)
        return first.data, g.data, second.data

    for a, b in zip(gradients(False), gradients(True), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("how", ["numpy", True])
def test_second_order(how):
    W, h0, xs = problem()

    def f(W, h0, how):
        final, ys = mg.scan(lambda h, x: (np.tanh(x + h @ W), h * h), h0, xs, compiled=how)
        return (final ** 3).sum() + ys.sum()

    for k in range(2):
        eager = mg.hvp(lambda v: f(*((v, h0) if k == 0 else (W, v)), False), [W, h0][k], np.ones_like([W, h0][k].data))  # noqa: B023
        fast = mg.hvp(lambda v: f(*((v, h0) if k == 0 else (W, v)), how), [W, h0][k], np.ones_like([W, h0][k].data))  # noqa: B023
        np.testing.assert_allclose(np.asarray(getattr(eager, "data", eager)), np.asarray(getattr(fast, "data", fast)),
                                   rtol=1e-10, atol=1e-12)


def test_gradcheck_through_a_compiled_scan():
    W, h0, xs = problem()
    assert mg.gradcheck(lambda W, h: mg.scan(rnn_step(W), h, xs[:8, :1], compiled=True)[1].sum(),
                        [W, h0[:1].detach()], order=2)


@pytest.mark.parametrize("every", [1, 2, 3, 4, 8, 9, 100])
@pytest.mark.parametrize("reverse", [False, True])
def test_checkpoints(every, reverse):
    W, h0, xs = problem()
    step = rnn_step(W)
    assert_same(results(step, h0, xs, [W, h0, xs], reverse=reverse),
                results(step, h0, xs, [W, h0, xs], reverse=reverse, compiled=True, checkpoint_every=every))


def test_checkpoints_keep_little():
    W, h0, xs = problem()
    _, ys = mg.scan(rnn_step(W), h0, xs, compiled=True, checkpoint_every=3)
    assert len(ys.node.output.states) == 3
    for every in (0, 1.5):
        with pytest.raises(ValueError, match="checkpoint_every"):
            mg.scan(rnn_step(W), h0, xs, compiled=True, checkpoint_every=every)


# ---------------------------------------------------------------------------------------------------------------
# Falling back
# ---------------------------------------------------------------------------------------------------------------

counter = [0]


def branches(h, x):
    return (h + x, x) if h.sum() > 0 else (h * x, x)


def reads(h, x):
    return h * float(x.data.sum()), h


def items(h, x):
    return h * h.max().item(), h


def counts(h, x):
    counter[0] += 1
    return h * float(counter[0]), h


def draws(h, x):
    return h + np.random.standard_normal(h.shape), h


def sorts(h, x):
    return np.sort(h + x), h


def peeks(h, x):
    return h / np.abs(x._data).max(axis=-1, keepdims=True), h


def indexes(h, x):
    return h + x, x[np.argmax(h)]


def restructures(h, x):
    return h + x if isinstance(h, mg.Tensor) else h, 1.0


def to_ints(h, x):
    return h + x * (x.astype(int) * 1.0), h


def grows(h, x):
    return h[None] + x if h.ndim < 3 else h, x


@pytest.mark.parametrize("step, reason", [
    (branches, "reads values"), (reads, "reads values"), (items, "reads values"), (counts, "computes something else"),
    (draws, "differs from call to call"), (sorts, "reads values"), (peeks, "differs from call to call"),
    (indexes, "reads values"), (to_ints, "reads values"), (grows, "state changes")])
def test_fallback(step, reason):
    h = mg.tensor(normal(4, seed=3), requires_grad=True)
    x = mg.tensor(normal(8, 4, seed=4))
    counter[0] = 0
    np.random.seed(0)
    with pytest.warns(NotCompiled, match=reason):
        final, ys = mg.scan(step, h, x, compiled=True)
    assert ys.node is None or ys.node.primitive.name != "scan"
    if step not in (counts, draws):
        again, _ = mg.scan(step, h, x)
        np.testing.assert_array_equal(final.data, again.data)


def test_fallback_is_told_once_and_quietly_for_auto(caplog):
    h, x = mg.tensor(normal(4)), mg.tensor(normal(8, 4))
    with caplog.at_level(logging.INFO, "minigrad"):
        mg.scan(branches, h, x, compiled="auto")
        mg.scan(branches, h, x, compiled="auto")
    assert len(caplog.records) == 1 and "step by step" in caplog.text


def test_a_mask_made_in_the_step_is_not_the_one_outside():
    # two steps of the same structure: one draws its mask at each step, the other before the loop
    h, x = mg.tensor(normal(4)), mg.tensor(normal(8, 4))
    rng = np.random.default_rng(0)
    mask = rng.random(4)
    outside = lambda h, x: (h * mask + x, h)
    inside = lambda h, x: (h * rng.random(4) + x, h)
    mg.scan(outside, h, x, compiled=True)
    with pytest.warns(NotCompiled):
        mg.scan(inside, h, x, compiled=True)
    mg.scan(outside, h, x, compiled=True)


def test_an_index_that_looks_constant():
    table = mg.tensor(normal(5, 4))
    step = lambda h, i: (h + table[i], h)
    same, other = np.full(8, 2), np.arange(8) % 5
    h = mg.tensor(np.zeros(4))
    for ids in (same, other):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotCompiled)
            final, _ = mg.scan(step, h, mg.tensor(ids), compiled=True)
        np.testing.assert_allclose(final.data, table.data[ids].sum(0))


@pytest.mark.parametrize("use", [
    lambda h, i: mg.embedding(h[None] + np.eye(4)[:2], i), lambda h, i: mg.one_hot(i, 4, float),
    lambda h, i: np.take(h, i), lambda h, i: np.take(h[None] * np.ones((2, 1)), i, axis=0),
    lambda h, i: np.take_along_axis(h, i[None], 0), lambda h, i: mg.nll_loss(h, i),
    lambda h, i: np.compress(np.stack([i, 1 - i]) > 0, h[:2])],
    ids=["embedding", "one_hot", "take", "take rows", "take_along_axis", "nll_loss", "compress"])
def test_ids_that_look_constant(use):
    h = mg.tensor(np.arange(4.0))
    for seed in range(4):  # with two symbols, what is tried is the first one every other time
        ids = mg.tensor(np.random.default_rng(seed).integers(0, 2, 8))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotCompiled)
            fast, _ = mg.scan(lambda h, i: (h * 0.5 + use(h, i), h), h, ids, compiled="numpy")
        eager, _ = mg.scan(lambda h, i: (h * 0.5 + use(h, i), h), h, ids)
        np.testing.assert_array_equal(fast.data, eager.data)


def test_watchers_see_every_step():
    W, h0, xs = problem()
    with mg.anomaly_mode():
        _, ys = mg.scan(rnn_step(W), h0, xs, compiled="auto")
    assert ys.node.primitive.name == "stack"


def test_the_context_decides_where_auto_is_asked_for():
    W, h0, xs = problem()
    node = lambda: mg.scan(rnn_step(W), h0, xs, compiled="auto")[1].node.primitive.name
    with mg.compiled(False):
        assert node() == "stack"
    with mg.compiled():
        assert node() != "stack"
        assert mg.scan(rnn_step(W), h0, xs, compiled=False)[1].node.primitive.name == "stack"


def test_nothing_is_left_behind():
    from minigrad.recording import LOCAL

    with pytest.warns(NotCompiled):
        mg.scan(branches, mg.tensor(normal(4)), mg.tensor(normal(8, 4)), compiled=True)
    assert not LOCAL.state.tracing and not LOCAL.state.watchers and LOCAL.state.scope is None


def test_scan_in_a_scan():
    W, h0, xs = problem()

    def step(h, x):
        inner, ys = mg.scan(lambda s, v: (s * 0.5 + v, s), h, np.stack([x, h, x]), compiled=True)
        return np.tanh(inner @ W), ys.sum(axis=0)

    assert_same(results(step, h0, xs, [W, h0, xs]), results(step, h0, xs, [W, h0, xs], compiled=True))


def test_threads():
    W, h0, xs = problem()
    expected = results(rnn_step(W), h0, xs, [W, h0, xs])
    run.CACHE.clear()
    wrong: list[object] = []

    def work():
        V, g0, ys = problem()
        try:
            for _ in range(5):
                assert_same(expected, results(rnn_step(V), g0, ys, [V, g0, ys], compiled=True))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_infinite_and_missing_numbers_are_passed_on():
    W, h0, xs = problem()
    data = xs.numpy()
    data[2, 0, 0], data[4, 1, 1], data[5, 2, 2] = np.nan, np.inf, -np.inf
    _, eager = mg.scan(rnn_step(W), h0, mg.tensor(data))
    _, fast = mg.scan(rnn_step(W), h0, mg.tensor(data), compiled=True)
    np.testing.assert_allclose(fast.data, eager.data, rtol=1e-12, atol=1e-12)


def test_explain():
    W, h0, xs = problem()
    text = str(mg.explain(rnn_step(W), h0, xs))
    for words in ("# traced", "# rewritten", "def forward(", "def backward(", "tanh", "W: float64[4, 4]"):
        assert words in text

"""The stages of compilation, each on a small program, and generated steps through all of them."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from test_scan import assert_same, normal, results

import minigrad as mg
from minigrad.compile import kernel_cache, passes
from minigrad.compile.differentiate import differentiate
from minigrad.compile.fuse import Group, mode, units
from minigrad.compile.gather import rows_first, table_of
from minigrad.compile.inside import values_inside
from minigrad.compile.lower import lower
from minigrad.compile.program import Program, frozen, replay, signature
from minigrad.compile.run import NotCompiled, explain
from minigrad.compile.trace import trace

T, B, H = 8, 3, 4
needs_numba = pytest.mark.skipif(find_spec("numba") is None, reason="numba is not installed")


def program(step, state=None, x=None, gradient=False) -> Program:
    """The program of a step on (B, H) arrays."""
    state = mg.tensor(normal(B, H), name="h", requires_grad=True) if state is None else state
    x = mg.tensor(normal(T, B, H), requires_grad=True) if x is None else x
    found = trace(step, state, x, 0)
    made = found.program()
    return differentiate(made, [True] * len(made.xs), found.differentiable) if gradient else made


def names(instructions) -> list[str]:
    return [i.primitive.name for i in instructions]


# ---------------------------------------------------------------------------------------------------------------
# Programs
# ---------------------------------------------------------------------------------------------------------------


def test_a_program_prints_like_a_tape():
    W = mg.tensor(normal(H, H), requires_grad=True, name="W")

    def step(h, x):
        with mg.scope("inner"):
            z = h @ W
        z = np.tanh(z + x)
        mg.name(z=z)
        return z, z

    text = str(program(step, gradient=True))
    for words in ("state    h: float64[3, 4]", "outside  W: float64[4, 4]", "# inner", "z: float64[3, 4]", "= tanh(",
                  "gradient, given"):
        assert words in text


def test_signatures():
    step = lambda h, x: (h * 2.0 + x, h)
    assert signature(program(step)) == signature(program(step))
    for other in (lambda h, x: (h * 3.0 + x, h), lambda h, x: (h * 2.0 - x, h), lambda h, x: (h * 2.0 + x, x),
                  lambda h, x: (x + h * 2.0, h), lambda h, x: (h * 2 + x, h)):
        assert signature(program(other)) != signature(program(step))
    assert frozen(0.0) != frozen(-0.0) and frozen(1) != frozen(1.0) and frozen(True) != frozen(1)
    assert frozen(float("nan")) == frozen(float("nan"))
    assert frozen(np.arange(3)) != frozen(np.arange(3.0)) and frozen([1]) != frozen((1,))


def test_replay_gives_what_the_step_gave():
    made = program(lambda h, x: (np.tanh(h) * x, np.split(h, 2, axis=1)[1]))
    h, x = mg.tensor(normal(B, H, seed=1), requires_grad=True), mg.tensor(normal(B, H, seed=2))
    known = replay(made.forward, {made.state[0]: h, made.xs[0]: x}, mg.apply)
    np.testing.assert_array_equal(known[made.new_state[0]].data, np.tanh(h.data) * x.data)
    np.testing.assert_array_equal(known[made.ys[0]].data, h.data[:, 2:])


# ---------------------------------------------------------------------------------------------------------------
# Passes
# ---------------------------------------------------------------------------------------------------------------


def test_dead_code():
    made = program(lambda h, x: (h + x, [np.tanh(h), h * x][1]))
    assert names(made.forward) == ["add", "tanh", "multiply"]
    assert names(passes.dead_code(made).forward) == ["add", "multiply"]


def test_common_subexpressions():
    made = program(lambda h, x: (np.tanh(h) + np.tanh(h), np.tanh(h) * x))
    assert names(passes.common_subexpressions(made).forward) == ["tanh", "add", "multiply"]
    kept = program(lambda h, x: (h * 1.5, h * 2.5))
    assert names(passes.common_subexpressions(kept).forward) == ["multiply", "multiply"]


def test_identities():
    def step(h, x):
        return 1.0 * (h * 1 / 1.0).reshape(B, H).astype(np.float64), np.positive(x).detach() * 2.0

    assert names(passes.dead_code(passes.identities(program(step))).forward) == ["multiply"]
    other = program(lambda h, x: (h * 2, h.reshape(H, B).reshape(B, H)))
    assert names(passes.identities(other).forward) == ["multiply", "reshape", "reshape"]


def test_slices_joined():
    def step(h, x):
        a, b = h[:, :1], h[:, 1:]
        return np.concatenate([b * 2.0, a], axis=1), x

    made = program(step, gradient=True)
    assert "scatter" in names(made.backward)
    joined = passes.slices_joined(made)
    assert "scatter" not in names(joined.backward) and "concatenate" in names(joined.backward)
    partial = passes.slices_joined(program(lambda h, x: (h + 0.0, h[:, 1:3]), gradient=True))
    assert "scatter" in names(partial.backward)


def test_own_outputs():
    made = passes.own_outputs(program(lambda h, x: (x, h)))
    assert names(made.forward) == ["copy", "copy"]
    shared = passes.own_outputs(program(lambda h, x: (h + x, h * x)))
    assert names(shared.forward) == ["add", "multiply"]


def test_contiguous_reshapes():
    made = passes.contiguous_reshapes(program(lambda h, x: (h, h.T.reshape(B, H))))
    assert names(made.forward) == ["transpose", "copy", "reshape"]


# ---------------------------------------------------------------------------------------------------------------
# Lowering
# ---------------------------------------------------------------------------------------------------------------


def lowered(step):
    return lower(passes.rewritten(program(step, gradient=True)))


def test_weight_gradients_become_one_product():
    W = mg.tensor(normal(H, H), requires_grad=True)
    b = mg.tensor(normal(H), requires_grad=True)

    def step(h, x):
        h = np.tanh(h @ W + b + x)
        return h, h

    low = lowered(step)
    assert sorted(leaf.kind for leaf in low.leaves) == ["product", "sum"]
    assert names(low.backward).count("matmul") == 1  # dz Wᵀ alone
    assert names(low.before_backward) == ["transpose"]


def test_what_does_not_change_is_computed_before_the_loop():
    W = mg.tensor(normal(H, H), requires_grad=True)
    mask = mg.tensor((normal(H, H, seed=3) > 0) * 2.0)
    low = lowered(lambda h, x: (np.tanh(h @ (W * mask) + x), h))
    assert names(low.before)[:1] == ["multiply"]
    assert "multiply" not in names(low.forward)
    assert names(low.after) == ["multiply"]  # Σ (aᵀ g · mask) = (Σ aᵀ g) · mask


def test_other_gradients_are_added_up():
    w = mg.tensor(normal(B, H), requires_grad=True)
    low = lowered(lambda h, x: (h * w + x, h))
    assert [leaf.kind for leaf in low.leaves] == ["add"]


def test_only_what_the_backward_reads_is_kept():
    W = mg.tensor(normal(H, H), requires_grad=True)
    low = lowered(lambda h, x: (np.tanh(np.sin(x) + h @ W), x + 1.0))
    made = {v: i.primitive.name for i in low.forward for v in i.results}
    assert sorted(made.get(v, "state") for v in low.kept) == ["state", "tanh"]


def test_no_array_is_made_in_the_numpy_loop():
    W = mg.tensor(normal(H, 4 * H), requires_grad=True)

    def step(state, x):
        h, c = state
        i, f, g, o = np.split(h @ W + np.concatenate([x] * 4, axis=1), 4, axis=1)
        c = mg.sigmoid(f) * c + mg.sigmoid(i) * np.tanh(g)
        h = mg.sigmoid(o) * np.tanh(c)
        return (h, c), h

    h = mg.tensor(normal(B, H), requires_grad=True)
    source = explain(step, (h, h), mg.tensor(normal(T, B, H), requires_grad=True), backend="numpy").loops.source
    for part in source.split("for t in")[1:]:
        for line in part.split("    return")[0].splitlines()[1:]:
            assert "empty(" not in line and (not line.startswith("        ") or "(" not in line or "out=" in line
                                             or "copyto" in line), line


# ---------------------------------------------------------------------------------------------------------------
# Fusion
# ---------------------------------------------------------------------------------------------------------------


def test_one_kernel_between_products():
    W = mg.tensor(normal(H, H), requires_grad=True)
    low = lowered(lambda h, x: ((z := np.tanh(h @ W + x)) * mg.sigmoid(x) + z, z))
    body = units(low.forward, low, [*low.program.new_state, *low.program.ys, *low.kept])
    assert [type(u).__name__ for u in body] == ["Instruction", "Group"]
    assert isinstance(body[1], Group) and len(body[1].instructions) >= 4


@pytest.mark.parametrize("shape, whole, expected", [
    ((3, 4), (3, 4), "full"), ((4,), (3, 4), "row"), ((1, 4), (3, 4), "row"), ((3, 1), (3, 4), "column"),
    ((), (3, 4), "scalar"), ((1, 1), (3, 4), "scalar"), ((3, 4), (2, 3, 4), None), ((2, 1, 4), (2, 3, 4), None),
    ((2, 3, 1), (2, 3, 4), "column"), ((1,), (1,), "full")])
def test_how_operands_are_read(shape, whole, expected):
    assert mode(shape, whole) == expected


# ---------------------------------------------------------------------------------------------------------------
# Generated steps
# ---------------------------------------------------------------------------------------------------------------

UNARY = [np.tanh, mg.sigmoid, mg.relu, np.sin, lambda a: a * a, lambda a: -a, lambda a: 1.0 - a, np.abs, mg.softplus,
         lambda a: a / (1.0 + a * a), lambda a: np.clip(a, -0.7, 0.9), lambda a: mg.clip_gradient(a, 0.5),
         lambda a: np.where(a > 0.1, a, 0.3), lambda a: mg.layer_norm(a), lambda a: a.detach() * 0.5,
         lambda a: np.flip(a, 1), lambda a: np.reshape(np.reshape(a, (H, B)), (B, H)), mg.softmax,
         lambda a: a - a.mean(axis=-1, keepdims=True), lambda a: a * a.sum(axis=0)]
BINARY = [np.add, np.subtract, np.multiply, np.maximum, np.minimum, lambda a, b: np.where(a > b, a, 0.5 * b),
          lambda a, b: np.concatenate([a[:, :1], b[:, 1:]], axis=1), lambda a, b: np.split(a, 2, axis=1)[0].sum() + b,
          lambda a, b: a * b[:, :1], lambda a, b: np.concatenate([a, b], axis=1)[:, 2:2 + H] * 0.5]


def generated(seed, dtype, unary=UNARY, binary=BINARY):
    """A random step with two states, its closures, and whether it is reversed."""
    rng = np.random.default_rng(seed)
    W, V = (mg.tensor(normal(H, H, seed=k, dtype=dtype) * 0.5, requires_grad=True) for k in (1, 2))
    b = mg.tensor(normal(H, seed=3, dtype=dtype), requires_grad=True)
    plan = [(rng.random(), rng.integers(100), rng.integers(100), rng.integers(100)) for _ in range(rng.integers(4, 12))]
    ends = rng.integers(100, size=4)

    def step(state, x):
        values = [*state, x, b + x, state[0] @ W]
        for kind, which, i, j in plan:
            u, v = values[i % len(values)], values[j % len(values)]
            if kind < 0.45:
                values.append(unary[which % len(unary)](u))
            elif kind < 0.85:
                values.append(binary[which % len(binary)](u, v))
            else:
                values.append(np.tanh(u @ (W if which % 2 else V)))
        picked = [values[-1 - k % min(len(values), 5)] for k in ends]
        return (np.tanh(picked[0]), 0.5 * picked[1] + 0.1 * state[1]), (picked[2], picked[3])

    return step, [W, V, b], bool(rng.random() < 0.3)


def leaves(dtype):
    return (mg.tensor(normal(B, H, seed=5, dtype=dtype), requires_grad=True),
            mg.tensor(normal(B, H, seed=6, dtype=dtype), requires_grad=True),
            mg.tensor(normal(T, B, H, seed=7, dtype=dtype), requires_grad=True))


@pytest.mark.parametrize("seed", range(60))
def test_generated_steps(seed):
    step, closures, reverse = generated(seed, np.float64)
    h, c, x = leaves(np.float64)
    eager = results(step, (h, c), x, [h, c, x, *closures], reverse=reverse)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotCompiled)
        fast = results(step, (h, c), x, [h, c, x, *closures], reverse=reverse, compiled="numpy")
    assert_same(eager, fast, 1e-8)


@needs_numba
@pytest.mark.parametrize("seed", [3, *(pytest.param(k, marks=pytest.mark.slow) for k in range(100, 112))])
def test_generated_kernels(seed):
    dtype = np.float32 if seed % 2 else np.float64
    step, closures, reverse = generated(seed, dtype)
    h, c, x = leaves(dtype)
    eager = results(step, (h, c), x, [h, c, x, *closures], reverse=reverse)
    fast = results(step, (h, c), x, [h, c, x, *closures], reverse=reverse, compiled="numba")
    assert_same(eager, fast, 1e-8 if dtype == np.float64 else 2e-3)


@needs_numba
@pytest.mark.parametrize("axis", [0, 1])
def test_rows_or_columns_put_together_in_a_compiled_loop(axis):
    W, U = mg.tensor(normal(H, H, seed=1) / 2, requires_grad=True), mg.tensor(normal(H, H, seed=2), requires_grad=True)
    h, _, x = leaves(np.float64)

    def step(h, x):
        z = h @ W
        halves = np.split(z + x, 2, axis=1) if axis else (z[:1], x[1:])
        h = np.tanh(np.concatenate([halves[1] * 0.5, halves[0]], axis=axis) @ U + z)
        return h, np.concatenate([h, z], axis=axis)

    eager = results(step, h, x, [h, x, W, U])
    assert_same(eager, results(step, h, x, [h, x, W, U], compiled="numba"), 1e-10)


@needs_numba
@pytest.mark.parametrize("columns", [slice(0, 1), slice(2, 3)])
def test_a_column_is_not_overwritten_by_the_product_that_it_scales(columns):
    W, U = mg.tensor(normal(H, H, seed=1)), mg.tensor(normal(H, H, seed=2) / 2)

    def step(h, x):
        h = ((x @ W)[:, columns] * h) @ U
        return h, h

    h, x = mg.tensor(normal(B, H, seed=3)), mg.tensor(normal(T, B, H, seed=4))
    eager, fast = mg.scan(step, h, x), mg.scan(step, h, x, compiled="numba")
    for a, b in zip(eager, fast, strict=True):
        np.testing.assert_allclose(b.data, a.data, rtol=1e-10)


@needs_numba
def test_kernels_compare_as_numpy_does():
    limit = np.float64(0.1)  # below the float32 of that name, and not a Python number: it is not rounded first

    def step(h, x):
        h = np.where(x > limit, x + h, np.tanh(h))
        return h, h

    h, x = mg.tensor(normal(B, H, dtype=np.float32)), mg.tensor(np.full((T, B, H), 0.1, np.float32))
    eager, fast = mg.scan(step, h, x), mg.scan(step, h, x, compiled="numba")
    for a, b in zip(eager, fast, strict=True):
        np.testing.assert_allclose(b.data, a.data, rtol=1e-6)


@needs_numba
def test_kernels_pass_on_what_is_not_a_number():
    def step(h, x):
        h = np.tanh(x) + 0.5 * h * mg.sigmoid(x) + mg.relu(x) + np.maximum(x, 0.1)
        return h, h

    x = normal(T, B, H, dtype=np.float32)
    x[1, 0, 0], x[2, 1, 1], x[3, 2, 2] = np.nan, np.inf, -np.inf
    h = mg.tensor(np.zeros((B, H), np.float32))
    with np.errstate(all="ignore"):
        _, eager = mg.scan(step, h, mg.tensor(x))
    _, fast = mg.scan(step, h, mg.tensor(x), compiled="numba")
    np.testing.assert_allclose(fast.data, eager.data, rtol=1e-5, atol=1e-6)
    wide = np.linspace(-20, 20, T * B * H, dtype=np.float32).reshape(T, B, H)
    _, eager = mg.scan(step, h, mg.tensor(wide))
    _, fast = mg.scan(step, h, mg.tensor(wide), compiled="numba")
    np.testing.assert_allclose(fast.data, eager.data, rtol=3e-6, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------
# The cache of kernels
# ---------------------------------------------------------------------------------------------------------------


def test_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "kernels"))
    assert kernel_cache.cache_folder() == tmp_path / "kernels"
    monkeypatch.setenv("MINIGRAD_CACHE", "")
    assert kernel_cache.cache_folder() is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners and modes are POSIX's")
def test_a_folder_that_others_may_write_to_is_not_used(tmp_path, monkeypatch):
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("MINIGRAD_CACHE", str(folder))
    assert kernel_cache.cache_folder() is None
    link = tmp_path / "link"
    folder.chmod(0o700)
    link.symlink_to(folder)
    monkeypatch.setenv("MINIGRAD_CACHE", str(link))
    assert kernel_cache.cache_folder() is None


def test_modules_come_from_the_cache_as_they_were_written(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "kernels"))
    monkeypatch.setattr(kernel_cache, "_LOADED", {})
    source = "answer = 42\n"
    assert kernel_cache.load_module(source).answer == 42
    (path,) = (tmp_path / "kernels").glob("kernels_*.py")
    path.write_text("CACHE = True\nanswer = 43\n")  # half a file, or somebody else's
    monkeypatch.setattr(kernel_cache, "_LOADED", {})
    assert kernel_cache.load_module(source).answer == 42


def test_without_numba(tmp_path):
    code = ("import sys; sys.modules['numba'] = None\n"
            "import numpy as np, minigrad as mg\n"
            "h, y = mg.scan(lambda h, x: (np.tanh(h + x), h), mg.tensor(np.zeros((8, 99))), "
            "mg.tensor(np.ones((9, 8, 99))), compiled='numba')\n"
            "print(float(h.data.sum()) > 0)")
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


# ---------------------------------------------------------------------------------------------------------------
# Embedding, then projection
# ---------------------------------------------------------------------------------------------------------------


def test_a_gathered_input_is_projected_by_rows():
    E = mg.tensor(normal(5, 3), requires_grad=True, name="E")
    W, b = mg.tensor(normal(3, 2, seed=1), requires_grad=True), mg.tensor(normal(2, seed=2), requires_grad=True)
    ids = np.random.default_rng(0).integers(0, 5, (4, 6))
    f = lambda x: x @ W + b
    plain, by_rows = f(np.swapaxes(E[ids], 0, 1)), rows_first(f, np.swapaxes(E[ids], 0, 1))
    np.testing.assert_allclose(by_rows.data, plain.data, rtol=1e-12)
    assert by_rows.node.primitive.name == "getitem"
    weights = mg.tensor(normal(6, 4, 2, seed=3))
    for a, g in zip(mg.grad((plain * weights).sum(), [E, W, b]), mg.grad((by_rows * weights).sum(), [E, W, b]),
                    strict=True):
        np.testing.assert_allclose(a.data, g.data, rtol=1e-10)


def test_a_gradient_that_goes_past_what_was_gathered_is_refused():
    E, W = mg.tensor(normal(5, 3), requires_grad=True), mg.tensor(normal(3, 2, seed=1), requires_grad=True)
    x = E[np.random.default_rng(0).integers(0, 5, (4, 6))]
    y = rows_first(lambda v: v @ W, np.swapaxes(x, 0, 1))
    with pytest.raises(mg.GraphError, match=r"Write x = x \* 1.0"):
        mg.grad(y.sum() + x.sum(), x, retain_graph=True)
    assert mg.grad(y.sum(), [E, W], retain_graph=True)[0] is not None
    assert mg.grad(x.sum(), x)[0] is not None  # where it is not on the way
    x = x * 1.0
    (g,) = mg.grad(rows_first(lambda v: v @ W, x).sum(), x)
    np.testing.assert_allclose(g.data, np.broadcast_to(W.data.sum(1), x.shape))


def test_a_table_that_was_changed_is_not_read_again():
    E = mg.tensor(normal(5, 3), requires_grad=True)
    ids = np.random.default_rng(0).integers(0, 5, (4, 6))
    x = E[ids]
    assert table_of(x) is not None
    before = x.numpy()
    changed = E.numpy()
    changed[ids[-1, -1]] += 1.0
    E.assign(changed)
    assert table_of(x) is None
    np.testing.assert_array_equal(rows_first(lambda v: v * 2.0, x).data, before * 2.0)


def test_when_it_is_not():
    E = mg.tensor(normal(5, 3), requires_grad=True)
    ids = np.arange(5)
    many = np.zeros((4, 6), int)
    for x in (E[ids], E[1:3], E, (E * 2)[many], mg.tensor(normal(5, 3)), normal(5, 3), np.swapaxes(E[many], 1, 2),
              E[many] * 2):
        assert table_of(x) is None
    assert table_of(E[many]) is not None


@pytest.mark.parametrize("reverse", [False, True])
def test_what_is_computed_again_for_onlookers_is_what_was_computed(reverse):
    h, _, x = leaves(np.float64)
    _, y = mg.scan(lambda h, x: ((new := np.tanh(h + x)), new * x), h, x, reverse=reverse, compiled="numpy")
    seen = {}
    values_inside(y.node, lambda key, value: seen.update({key: value}))
    assert np.array_equal(seen["output", 0, 0, 0], y.data)
    assert all(np.array_equal(seen["input", 0, 0, t], x.data[t]) for t in range(T))

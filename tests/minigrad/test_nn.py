"""Modules, layers and initial values."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import minigrad as mg
from minigrad import nn
from minigrad.nn import initialisers
from minigrad.rules.linear_algebra import matmul
from minigrad.tree import tree_leaves, tree_map


class Branch(nn.Module):
    def __init__(self) -> None:
        self.scale = nn.Parameter([1.0, 2.0])
        self.linear = nn.Linear(3, 2, rng=1)

    def forward(self, x):
        return self.linear(x) * self.scale


class Net(nn.Module):
    """Parameters everywhere: in modules, lists, tuples, dicts, tied."""

    def __init__(self) -> None:
        self.embedding = nn.Embedding(5, 3, rng=0)
        self.branches = [Branch(), Branch()]
        pair = nn.Parameter([1.0]), nn.Linear(2, 2, rng=3)
        self.extra = {"shift": nn.Parameter([0.5, 0.5]), "pair": pair}
        self.dropout = nn.Dropout(0.5, rng=4)
        self.tied = self.embedding.weight

    def forward(self, ids):
        x = self.embedding(ids)
        y = self.branches[0](x) + self.branches[1](x) + self.extra["shift"]
        return self.dropout(y) @ self.extra["pair"][1].weight


NAMES = ["embedding.weight",
         "branches.0.scale", "branches.0.linear.weight", "branches.0.linear.bias",
         "branches.1.scale", "branches.1.linear.weight", "branches.1.linear.bias",
         "extra.shift", "extra.pair.0", "extra.pair.1.weight", "extra.pair.1.bias"]


# -- parameters ----------------------------------------------------------------------------------------------


def test_parameter_is_a_float32_leaf() -> None:
    p = nn.Parameter(np.arange(3))
    assert p.dtype == np.float32 and p.requires_grad
    assert p.origin is None and p.grad is None and p.name is None
    assert nn.Parameter([1.0], dtype=np.float64).dtype == np.float64
    assert nn.Parameter([1.0], name="w").name == "w"
    assert isinstance(p * 2, mg.Tensor) and not isinstance(p * 2, nn.Parameter)
    assert repr(nn.Parameter([1.0], name="w")) == "Parameter(w, (1,), float32)"


def test_parameter_copies_its_data() -> None:
    a = np.ones(3, np.float32)
    p = nn.Parameter(a)
    a[0] = 5
    assert p.data[0] == 1


def test_parameter_cannot_be_an_integer_or_on_the_tape() -> None:
    with pytest.raises(TypeError, match="require a gradient"):
        nn.Parameter([1], dtype=int)
    with pytest.raises(TypeError, match="cut the graph"):
        nn.Parameter(mg.tensor([1.0], requires_grad=True))


def test_parameter_takes_the_name_of_its_attribute_once() -> None:
    net = Net()
    assert net.embedding.weight.name == "weight"  # not "tied", assigned later
    assert net.extra["pair"][0].name == "extra.pair.0"
    assert net.branches[1].name == "branches.1"


# -- the walk ------------------------------------------------------------------------------------------------


def test_names_in_the_order_of_definition_each_once() -> None:
    net = Net()
    assert [n for n, _ in net.named_parameters()] == NAMES
    assert [id(p) for p in net.parameters()] == [id(p) for _, p in net.named_parameters()]
    assert [n for n, _ in net.named_modules()] == ["", "embedding", "branches.0", "branches.0.linear",
                                                   "branches.1", "branches.1.linear", "extra.pair.1",
                                                   "dropout"]
    assert net.modules()[0] is net


def test_a_module_that_knows_its_parent_is_walked_once() -> None:
    net = Net()
    net.dropout.parent = net
    assert [n for n, _ in net.named_parameters()] == NAMES


def test_parameters_added_later_are_found() -> None:
    net = Net()
    net.branches.append(nn.Linear(1, 1))
    assert "branches.2.weight" in dict(net.named_parameters())
    del net.extra
    assert not any(n.startswith("extra") for n, _ in net.named_parameters())


def test_a_module_without_anything() -> None:
    class Empty(nn.Module):
        pass

    assert Empty().parameters() == [] and Empty().state_dict() == {}
    with pytest.raises(NotImplementedError, match="Empty has no forward"):
        Empty()(1)


# -- gradients and the tape ----------------------------------------------------------------------------------


def test_tied_weights_have_one_gradient() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            self.embedding = nn.Embedding(4, 3, dtype=np.float64, rng=0)
            self.output = self.embedding.weight

        def forward(self, ids):
            return self.embedding(ids) @ self.output.T

    net = Tied()
    assert len(net.parameters()) == 1
    net(np.array([1, 2])).sum().backward()
    w = net.output.data
    expected = np.zeros_like(w) + w[1] + w[2]
    expected[[1, 2]] += w.sum(0)
    np.testing.assert_allclose(net.embedding.weight.grad, expected)
    net.zero_grad()
    assert net.output.grad is None


def test_scopes_and_names_reach_the_tape() -> None:
    net = Net().eval()
    y = net(np.array([1, 2]))
    tape = str(mg.tape(y))
    for text in ("# net/embedding", "# net/branches.1/linear", "extra.shift", "weight", "scale"):
        assert text in tape
    scopes = {node.scope.label for node in mg.tape(y).nodes if node.scope}
    assert {"Embedding", "Linear", "Branch", "Net"} <= scopes


def test_a_wide_linear_layer_computes_no_gradient_that_nobody_wants(monkeypatch) -> None:
    """The bias's gradient comes with the weight's product, and with the same bits if the weight's is not wanted."""
    products, forward = [], matmul.forward

    def counting(a: Any, b: Any) -> Any:
        products.append(np.shape(a) + np.shape(b))
        return forward(a, b)

    monkeypatch.setattr(matmul, "forward", counting)
    x, weight, bias = (np.random.default_rng(0).normal(size=shape) for shape in ((5, 2), (2, 16), (16,)))

    def made_by(*wanted: bool) -> list[tuple[int, ...]]:
        leaves = [mg.tensor(v, requires_grad=w) for v, w in zip((x, weight, bias), wanted, strict=True)]
        total = mg.linear(*leaves).sum()
        products.pop()
        if any(wanted):
            total.backward()
        expected = [np.ones((5, 16)) @ weight.T, x.T @ np.ones((5, 16)), np.full(16, 5.0)]
        for leaf, w, value in zip(leaves, wanted, expected, strict=True):
            assert (leaf.grad is not None) is w
            if w:
                assert_allclose(leaf.grad, value)
        made, products[:] = products[:], []
        return made

    to_x, to_weight = (5, 16, 16, 2), (3, 5, 5, 16)
    assert made_by(False, True, True) == [to_weight]
    assert made_by(False, False, True) == [to_weight]
    assert made_by(False, False, False) == []
    assert made_by(True, False, False) == [to_x]
    assert sorted(made_by(True, True, True)) == sorted([to_x, to_weight])


def test_the_scope_is_left_after_an_error() -> None:
    linear = nn.Linear(2, 3)
    with pytest.raises(ValueError):
        linear(mg.tensor(np.zeros((1, 5))))
    assert (mg.tensor([1.0], requires_grad=True) * 2).node.scope is None


def test_a_name_of_its_own_is_kept() -> None:
    linear = nn.Linear(2, 2)
    linear.name = "projection"
    holder = nn.Sequential(linear)
    assert "sequential/projection" in str(mg.tape(holder(mg.tensor(np.zeros((1, 2), np.float32)))))


# -- state ---------------------------------------------------------------------------------------------------


def test_state_dict_copies() -> None:
    net = Net()
    state = net.state_dict()
    assert list(state) == NAMES
    state["extra.shift"][0] = 9
    assert net.extra["shift"].data[0] == 0.5


def test_load_state_dict_round_trip_and_cast() -> None:
    a, b = Net(), Net()
    for p in a.parameters():
        p.assign(p.data + 1)
    b.load_state_dict({n: v.astype(np.float64) for n, v in a.state_dict().items()})
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)
        assert q.dtype == np.float32
    assert b.tied is b.embedding.weight
    b.load_state_dict({n: mg.tensor(v) for n, v in a.state_dict().items()})


def test_load_state_dict_lists_every_problem_and_changes_nothing() -> None:
    net = Net()
    before = net.state_dict()
    bad = {n: v + 1 for n, v in before.items()}
    del bad["extra.shift"]
    bad["other"] = np.zeros(3)
    bad["embedding.weight"] = np.zeros((5, 4))
    bad["branches.0.scale"] = np.array(["a", "b"])
    with pytest.raises(ValueError) as error:
        net.load_state_dict(bad)
    for text in ("missing 'extra.shift' (2,)", "unexpected 'other' (3,)",
                 "'embedding.weight' has shape (5, 4)",
                 "the parameter (5, 3)", "'branches.0.scale' has dtype"):
        assert text in str(error.value)
    for n, v in net.state_dict().items():
        np.testing.assert_array_equal(v, before[n])


def test_load_state_dict_not_strict_still_checks_shapes() -> None:
    net = nn.Linear(2, 2, rng=0)
    net.load_state_dict({"bias": [3.0, 4.0], "other": [1.0]}, strict=False)
    np.testing.assert_array_equal(net.bias.data, [3, 4])
    with pytest.raises(ValueError, match="has shape"):
        net.load_state_dict({"bias": [1.0]}, strict=False)


def test_two_parameters_of_one_dotted_name_are_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            self.a = {"b.c": nn.Parameter([1.0]), "b": {"c": nn.Parameter([2.0])}}

    with pytest.raises(ValueError, match=r"'a\.b\.c'"):
        Odd().state_dict()


def test_loading_between_forward_and_backward_is_noticed() -> None:
    linear = nn.Linear(2, 2)
    loss = linear(mg.tensor(np.ones((1, 2), np.float32), requires_grad=True)).sum()
    linear.load_state_dict(linear.state_dict())
    with pytest.raises(mg.GraphError, match="changed"):
        loss.backward()


def test_generator_state_resumes_bit_for_bit() -> None:
    net, x = Net(), np.array([1, 2, 3])
    saved = net.generator_state()
    assert list(saved) == ["dropout.rng"]
    first = net(x).data
    assert not np.array_equal(net(x).data, first)
    net.load_generator_state(saved)
    np.testing.assert_array_equal(net(x).data, first)
    with pytest.raises(ValueError, match="generators here"):
        net.load_generator_state({})
    before = net.generator_state()
    with pytest.raises(ValueError, match=r"dropout\.rng"):
        net.load_generator_state({"dropout.rng": {"bit_generator": "MT19937"}})
    assert net.generator_state() == before


def test_a_deep_copy_is_independent_and_keeps_ties() -> None:
    net = Net()
    twin = copy.deepcopy(net)
    assert twin.tied is twin.embedding.weight is not net.tied
    twin.tied.assign(np.zeros((5, 3)))
    assert net.tied.data.any()
    twin.eval()(np.array([1])).sum().backward()
    assert net.tied.grad is None and twin.tied.grad is not None


# -- modes ---------------------------------------------------------------------------------------------------


def test_train_and_eval_reach_everything_and_leave_recording_alone() -> None:
    net = Net()
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    y = net(np.array([0, 1]))
    assert y.requires_grad
    np.testing.assert_array_equal(y.data, net(np.array([0, 1])).data)
    net.train()
    assert all(m.training for m in net.modules())
    with mg.no_grad():
        assert not net(np.array([0])).requires_grad and net.training
    assert nn.Dropout().training  # the mode belongs to the instance


def test_repr_is_a_tree() -> None:
    text = repr(Net())
    assert text.splitlines()[0].startswith("Net()") and "[44 parameters]" in text
    assert "\n  branches.1: Branch()  scale (2,)" in text
    assert "\n    linear: Linear()  weight (3, 2), bias (2,)" in text
    assert "\n  dropout: Dropout(p=0.5)" in text
    assert "[1 parameter]" in repr(nn.Linear(1, 1, bias=False))
    assert sum(p.size for p in Net().parameters()) == 44


# -- layers --------------------------------------------------------------------------------------------------


def test_linear() -> None:
    linear = nn.Linear(3, 2, rng=0)
    x = np.random.default_rng(0).standard_normal((4, 5, 3)).astype(np.float32)
    y = linear(mg.tensor(x))
    np.testing.assert_allclose(y.data, x @ linear.weight.data + linear.bias.data, rtol=1e-6)
    assert y.dtype == np.float32 and linear.weight.shape == (3, 2)
    no_bias = nn.Linear(3, 2, bias=False, dtype=np.float64)
    assert no_bias.bias is None and no_bias.weight.dtype == np.float64 and len(no_bias.parameters()) == 1
    assert no_bias(x).shape == (4, 5, 2)


def test_linear_and_conv_start_uniform_in_one_over_root_fan_in() -> None:
    w = nn.Linear(400, 300, rng=0).weight.data
    assert np.abs(w).max() <= 1 / 20 and np.abs(w).max() > 0.049
    assert abs(w.std() - 1 / 20 / math.sqrt(3)) < 1e-3
    c = nn.Conv2d(3, 50, (2, 4), rng=0)
    bound = 1 / math.sqrt(24)
    assert bound * 0.99 < np.abs(c.weight.data).max() <= bound and np.abs(c.bias.data).max() <= bound


def test_embedding() -> None:
    table = nn.Embedding(1000, 64, rng=0)
    assert abs(table.weight.data.std() - 1 / 8) < 1e-3
    ids = np.array([[1, 2], [2, 999]])
    y = table(ids)
    np.testing.assert_array_equal(y.data, table.weight.data[ids])
    y.sum().backward()
    assert table.weight.grad[2, 0] == 2 and table.weight.grad[0, 0] == 0
    with pytest.raises(IndexError):
        table(np.array([1000]))


def test_dropout() -> None:
    drop = nn.Dropout(0.25, rng=0)
    x = mg.tensor(np.ones((100, 100), np.float32), requires_grad=True)
    y = drop(x)
    assert set(np.unique(y.data)) == {0, np.float32(1 / 0.75)} and y.dtype == np.float32
    assert abs(y.data.mean() - 1) < 0.02
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.data)
    assert "mask" in str(mg.tape(y))
    assert drop.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x
    a, b = nn.Dropout(0.5, rng=7), nn.Dropout(0.5, rng=np.random.default_rng(7))
    np.testing.assert_array_equal(a(x).data, b(x).data)
    for p in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="drop probability"):
            nn.Dropout(p)


def test_nothing_touches_the_global_generator() -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))(mg.tensor(np.ones((2, 3), np.float32)))
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_says_which_shape_it_got(bias) -> None:
    with pytest.raises(ValueError, match=r"Linear\(3, 4\) got \(2, 5\); the last axis is that of the 3 features"):
        nn.Linear(3, 4, bias=bias)(mg.tensor(np.ones((2, 5), np.float32)))


def test_layer_norm() -> None:
    norm = nn.LayerNorm(6)
    x = np.random.default_rng(0).normal(3, 2, (4, 6)).astype(np.float32)
    y = norm(mg.tensor(x))
    expected = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y.data, expected, rtol=1e-4, atol=1e-5)
    assert y.dtype == np.float32 and len(norm.parameters()) == 2
    with pytest.raises(ValueError, match="last axis"):
        norm(mg.tensor(np.ones((6, 1))))


def test_images() -> None:
    x = mg.tensor(np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32))
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding="same", rng=0), nn.ReLU(), nn.MaxPool2d(2),
                        nn.Conv2d(4, 5, 2, stride=2, bias=False, rng=1), nn.AvgPool2d(2), nn.Flatten(),
                        nn.Linear(5, 7, rng=2))
    y = net(x)
    assert y.shape == (2, 7) and y.dtype == np.float32
    assert len(net) == 7 and isinstance(net[-1], nn.Linear) and net[3].bias is None
    y.sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    expected = mg.conv2d(x, net[0].weight, net[0].bias, padding="same")
    np.testing.assert_array_equal(net[0](x).data, expected.data)


def test_activations() -> None:
    x = mg.tensor([-1.0, 0.0, 2.0])
    for layer, f in ((nn.ReLU(), mg.relu), (nn.Tanh(), np.tanh), (nn.Sigmoid(), mg.sigmoid),
                     (nn.GELU(), mg.gelu)):
        np.testing.assert_array_equal(layer(x).data, f(x).data)
        assert layer.parameters() == []


@pytest.mark.parametrize("make", [lambda: nn.Linear(0, 3), lambda: nn.Linear(3, 2.5),
                                  lambda: nn.Embedding(3, -1), lambda: nn.LayerNorm(0),
                                  lambda: nn.Conv2d(0, 1, 2), lambda: nn.Conv2d(1, 1, 0),
                                  lambda: nn.Conv2d(1, 1, 2, stride=0)])
def test_sizes_are_positive(make) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        make()


def test_sequential_takes_modules() -> None:
    with pytest.raises(TypeError, match="modules"):
        nn.Sequential(nn.Linear(1, 1), np.tanh)
    x = mg.tensor([1.0])
    assert nn.Sequential()(x) is x


def test_the_same_seed_gives_the_same_model_in_both_precisions() -> None:
    a, b = nn.Linear(3, 4, rng=5), nn.Linear(3, 4, rng=5, dtype=np.float64)
    np.testing.assert_array_equal(a.weight.data, b.weight.data.astype(np.float32))
    rng = np.random.default_rng(5)
    assert not np.array_equal(nn.Linear(3, 4, rng=rng).weight.data, nn.Linear(3, 4, rng=rng).weight.data)
    assert not np.array_equal(nn.Linear(3, 4).weight.data, nn.Linear(3, 4).weight.data)


def test_agrees_with_torch_layers() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 6, 6))
    ours = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1, dtype=np.float64, rng=1), nn.Tanh(),
                         nn.Flatten(), nn.Linear(36, 5, dtype=np.float64, rng=2),
                         nn.LayerNorm(5, dtype=np.float64))
    theirs = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=2, padding=1), torch.nn.Tanh(),
                                 torch.nn.Flatten(), torch.nn.Linear(36, 5), torch.nn.LayerNorm(5)).double()
    for k in (0, 3, 4):
        weight = ours[k].weight.numpy()
        with torch.no_grad():
            theirs[k].weight[:] = torch.tensor(weight.T if k == 3 else weight)
            theirs[k].bias[:] = torch.tensor(ours[k].bias.numpy())
    ours_x, theirs_x = mg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    g = rng.standard_normal((2, 5))
    a, b = ours(ours_x), theirs(theirs_x)
    np.testing.assert_allclose(a.data, b.detach().numpy(), atol=1e-12)
    a.backward(g)
    b.backward(torch.tensor(g))
    np.testing.assert_allclose(ours_x.grad, theirs_x.grad.numpy(), atol=1e-11)
    np.testing.assert_allclose(ours[0].weight.grad, theirs[0].weight.grad.numpy(), atol=1e-11)


# -- initial values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [initialisers.uniform, initialisers.normal, initialisers.xavier_uniform,
                               initialisers.xavier_normal, initialisers.he_uniform, initialisers.he_normal,
                               initialisers.orthogonal, initialisers.zeros, initialisers.constant])
def test_initialisers_shape_dtype_seed(f) -> None:
    for dtype in (np.float32, np.float64):
        a = f((6, 4), 3, dtype=dtype)
        assert a.shape == (6, 4) and a.dtype == dtype and a.flags.c_contiguous and a.flags.writeable
        np.testing.assert_array_equal(a, f((6, 4), np.random.default_rng(3), dtype=dtype))
    assert f((3, 3)).dtype == np.float32


@pytest.mark.parametrize(("f", "std"), [
    (initialisers.uniform, 0.08 / math.sqrt(3)), (initialisers.normal, 0.01),
    (initialisers.xavier_uniform, math.sqrt(2 / 900)), (initialisers.xavier_normal, math.sqrt(2 / 900)),
    (initialisers.he_uniform, math.sqrt(2 / 400)), (initialisers.he_normal, math.sqrt(2 / 400))])
def test_initialisers_spread(f, std: float) -> None:
    a = f((400, 500), 0)
    assert abs(a.std() / std - 1) < 0.01 and abs(a.mean()) < std / 100


def test_fans_of_a_kernel() -> None:
    assert initialisers.fans((8, 3, 2, 5)) == (30, 80)
    assert initialisers.fans((3, 7)) == (3, 7)
    with pytest.raises(ValueError, match="fans"):
        initialisers.xavier_uniform((3,))


@pytest.mark.parametrize("shape", [(5, 15), (5, 5), (4, 12), (6, 9)])
def test_orthogonal_blocks(shape: tuple[int, int]) -> None:
    blocks = 3 if shape[1] % 3 == 0 else 1
    w = initialisers.orthogonal(shape, 0, blocks=blocks, gain=2.0, dtype=np.float64)
    for block in np.split(w, blocks, axis=1):
        small = block.T @ block if block.shape[0] >= block.shape[1] else block @ block.T
        np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)
    if blocks > 1:
        a, b, _ = np.split(w, blocks, axis=1)
        assert not np.allclose(a, b)


def test_orthogonal_is_uniform_not_biased_by_the_signs_of_qr() -> None:
    rng = np.random.default_rng(0)
    corner = [initialisers.orthogonal((2, 2), rng)[0, 0] for _ in range(400)]
    assert abs(np.mean(corner)) < 0.12 and min(corner) < -0.9 and max(corner) > 0.9


def test_orthogonal_refuses() -> None:
    for shape, blocks in (((4,), 1), ((4, 5), 2), ((4, 4), 0)):
        with pytest.raises(ValueError, match="orthogonal"):
            initialisers.orthogonal(shape, 0, blocks=blocks)


def test_constants() -> None:
    assert not initialisers.zeros((2, 3)).any()
    assert (initialisers.constant((2, 3), value=1.5) == 1.5).all()


def test_trees_of_another_shape() -> None:
    for tree, other, words in (({"a": 1}, {"b": 1}, "keys"), ({"a": 1}, [1], "got list"), ([1], {"a": 1}, "got dict"),
                               ((1, 2), (1,), "2 parts as in tuple, got 1")):
        with pytest.raises(ValueError, match=words):
            tree_map(lambda a, b: a, tree, other)
    assert tree_map(lambda a, b: a + b, {"a": (1, [2])}, {"a": [10, (20,)]}) == {"a": (11, [22])}
    assert tree_leaves({"a": (1, [2]), "b": 3}) == [1, 2, 3]

"""Lives of graphs: a random sequence of what users do, beside an engine that is too simple to be wrong about it.

The simple engine keeps everything for ever and never changes a value. Whatever happened before, the gradients of the
real one are its gradients, or a GraphError where something was freed or assigned that they need.
"""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from itertools import count
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import minigrad as mg
from minigrad.recording import LOCAL

Array = Any
numbers = count()


class Simple:
    """A value, how it was made from others, and what has happened to it since."""

    def __init__(self, value: Array, op: str = "leaf", parents: tuple[Simple, ...] = (), matrix: Array = None,
                 requires_grad: bool = False) -> None:
        self.value, self.op, self.parents, self.matrix = value, op, parents, matrix
        self.requires_grad = requires_grad
        self.number = next(numbers)
        self.grad: Array | None = None
        self.version = 0
        self.seen = [p.version for p in parents]
        self.perhaps_freed = self.surely_freed = False

    def reached(self) -> list[Simple]:
        """What a gradient flows to from here, this included; the latest first."""
        found, todo = {self}, [self]
        while todo:
            for p in todo.pop().parents:
                if p.requires_grad and p not in found:
                    found.add(p)
                    todo.append(p)
        return sorted(found, key=lambda s: -s.number)

    def changed(self) -> bool:
        """Whether what this was made from has been assigned to since."""
        return [p.version for p in self.parents] != self.seen


def made(op: str, *parents: Simple, matrix: Array = None, recording: bool = True) -> Simple:
    a, b = parents[0].value, parents[-1].value
    value = {"add": lambda: a + b, "multiply": lambda: a * b, "tanh": lambda: np.tanh(a),
             "linear": lambda: matrix @ a}[op]()
    on = recording and any(p.requires_grad for p in parents)
    return Simple(value, op, parents if on else (), matrix, on)


def cotangents(s: Simple, g: Simple, recording: bool) -> list[Simple]:
    """Those of the parents."""
    def do(op: str, *parents: Simple, matrix: Array = None) -> Simple:
        return made(op, *parents, matrix=matrix, recording=recording)

    if s.op == "add":
        return [g, g]
    if s.op == "multiply":
        return [do("multiply", g, s.parents[1]), do("multiply", g, s.parents[0])]
    if s.op == "linear":
        return [do("linear", g, matrix=s.matrix.T)]
    square = do("linear", do("multiply", s, s), matrix=-np.eye(3))
    return [do("multiply", g, do("add", square, Simple(np.ones(3))))]


def gradients(y: Simple, create_graph: bool) -> dict[Simple, Simple]:
    """The gradient of the sum of y with respect to all it was made from."""
    total = {y: Simple(np.ones(3))}
    for s in y.reached():
        if s in total:
            for p, g in zip(s.parents, cotangents(s, total[s], create_graph) if s.parents else ()):
                if p.requires_grad:
                    total[p] = made("add", total[p], g, recording=create_graph) if p in total else g
    return total


CENTRE = np.eye(3) - np.ones((3, 3))
PICK = np.eye(3)[[2, 0, 2]]
LINEAR = [(lambda t: t[::-1], np.eye(3)[::-1]), (lambda t: t[[2, 0, 2]], PICK), (lambda t: -0.5 * t, -0.5 * np.eye(3)),
          (lambda t: np.stack([list(t)[k] for k in (2, 0, 2)]), PICK), (lambda t: t - np.sum(t), CENTRE),
          (lambda t: np.concatenate(np.split(t, [1])[::-1]), np.eye(3)[[1, 2, 0]])]
PAIRS = {"add": lambda a, b: a + b, "multiply": lambda a, b: a * b}


class Life:
    """What a user may do, in any order; `acts` counts what was done."""

    def __init__(self, seed: int, acts: Counter[str]) -> None:
        self.rng = np.random.default_rng(seed)
        self.both: list[tuple[mg.Tensor, Simple]] = []
        self.acts = acts

    def value(self) -> Array:
        return self.rng.integers(-8, 9, 3) / 8

    def often(self) -> bool:
        return bool(self.rng.random() < 0.8)

    def pick(self) -> tuple[mg.Tensor, Simple]:
        return self.both[-1 - int(self.rng.integers(min(len(self.both), 8)))]

    def keep(self, real: mg.Tensor, simple: Simple) -> None:
        assert real.requires_grad == simple.requires_grad
        assert_allclose(real.data, simple.value, rtol=1e-9, atol=1e-9)
        if np.abs(simple.value).max() < 100.0:
            self.both.append((real, simple))

    def leaf(self) -> None:
        value, on = self.value(), self.often()
        self.keep(mg.tensor(value, requires_grad=on), Simple(value, requires_grad=on))

    def combine(self) -> None:
        (a, x), (b, z), recording = self.pick(), self.pick(), self.often()
        op = str(self.rng.choice(sorted(PAIRS)))
        with nullcontext() if recording else mg.no_grad():
            real = PAIRS[op](a, b)
        self.keep(real, made(op, x, z, recording=recording))

    def transform(self) -> None:
        a, x = self.pick()
        k = int(self.rng.integers(-1, len(LINEAR)))
        if k < 0:
            self.keep(np.tanh(a), made("tanh", x))
        else:
            self.keep(LINEAR[k][0](a), made("linear", x, matrix=LINEAR[k][1]))

    def tangle(self) -> None:
        """Cotangents that go on to two places, and are added to in one of them."""
        (a, x), (b, z) = self.pick(), self.pick()
        self.keep((a + b) + (a + np.tanh(b)), made("add", made("add", x, z), made("add", x, made("tanh", z))))

    def detach(self) -> None:
        a, x = self.pick()
        self.keep(a.detach(), Simple(x.value))

    def assign(self) -> None:
        (a, x), value = self.pick(), self.value()
        if x.op != "leaf" and x.requires_grad:
            with pytest.raises(mg.GraphError, match="leaves only"):
                a.assign(value)
        else:
            a.assign(value)
            x.value, x.version = value, x.version + 1

    def clear(self) -> None:
        a, x = self.pick()
        a.grad = x.grad = None

    def clip(self) -> None:
        """In place, as users do: nobody else's gradient may be in the same memory."""
        some = [(a, x) for a, x in self.both if x.grad is not None]
        if some:
            a, x = some[int(self.rng.integers(len(some)))]
            a.grad *= 0.5
            x.grad = x.grad * 0.5

    def forget(self) -> None:
        if len(self.both) > 3:
            del self.both[int(self.rng.integers(len(self.both)))]

    def may_fail(self, x: Simple) -> bool:
        return any(s.perhaps_freed or s.changed() for s in x.reached())

    def backward(self) -> None:
        (a, x), retain = self.pick(), self.often()
        try:
            a.backward(np.ones(3), retain_graph=retain)
        except mg.GraphError:
            assert not x.requires_grad or self.may_fail(x)
            self.acts["backward refused"] += 1
        else:
            assert x.requires_grad and not x.surely_freed and not (x.op == "multiply" and x.changed())
            self.acts[f"backward of {x.op}"] += 1
            for s, g in gradients(x, False).items():
                if s.op == "leaf":
                    s.grad = g.value if s.grad is None else s.grad + g.value
            if x.parents and not retain:
                x.surely_freed = True
                with pytest.raises(mg.GraphError, match=r"already freed|changed by assign\(\)"):
                    a.backward(np.ones(3))
        self.free(x, retain)

    def gradient(self) -> None:
        (a, x), (b, z), create_graph = self.pick(), self.pick(), self.often()
        try:
            (found,) = mg.grad(a, b, np.ones(3), create_graph=create_graph)
        except mg.GraphError:
            assert not x.requires_grad or not z.requires_grad or self.may_fail(x)
        else:
            expected = gradients(x, create_graph).get(z)
            assert (found is None) == (expected is None)
            if found is not None and expected is not None:
                self.acts["gradient"] += 1
                self.keep(found, expected)
        self.free(x, create_graph)

    def free(self, x: Simple, retain: bool) -> None:
        for s in x.reached():
            s.perhaps_freed |= not retain and bool(s.parents)

    def check(self) -> None:
        """All gradients are those of the simple engine, and nothing is left behind."""
        for a, x in self.both:
            assert_allclose(a.data, x.value, rtol=1e-9, atol=1e-9)
            assert (a.grad is None) == (x.grad is None)
            if x.grad is not None:
                assert_allclose(a.grad, x.grad, rtol=1e-9, atol=1e-9)
        grads = [a.grad for a, _ in self.both if a.grad is not None]
        assert not any(np.may_share_memory(g, h) for k, g in enumerate(grads) for h in grads[:k])
        assert (LOCAL.state.recording, LOCAL.state.scope, LOCAL.state.watchers) == (True, None, ())


ACTS = [Life.leaf, Life.combine, Life.combine, Life.transform, Life.transform, Life.tangle, Life.detach, Life.assign,
        Life.clear, Life.clip, Life.forget, Life.backward, Life.backward, Life.gradient]


def live(seeds: range, acts: int) -> Counter[str]:
    """So many lives of so many acts; what was done in them."""
    done = Counter[str]()
    for seed in seeds:
        life = Life(seed, done)
        life.leaf()
        life.leaf()
        for _ in range(acts):
            ACTS[int(life.rng.integers(len(ACTS)))](life)
            life.check()
    return done


@pytest.mark.no_cover
def test_whatever_is_done_gradients_are_right_or_refused() -> None:
    done = live(range(80), 40)
    assert min(done[f"backward of {op}"] for op in ("add", "multiply", "tanh", "linear")) > 3
    assert done["gradient"] > 20 and done["backward refused"] > 10


@pytest.mark.slow
def test_whatever_is_done_in_many_lives() -> None:
    live(range(1000, 2000), 50)

"""Mutation testing of the derivative table: every small change to a rule is noticed by a test.

    python -m tests.mutate                     all mutants
    python -m tests.mutate --only softmax      those whose name has this in it
    python -m tests.mutate --count 200         so many, chosen by --seed
    python -m tests.mutate --jobs 2 --resume mutants.jsonl      two at a time; what is in the file is not done again

A mutant is a rule, or a function that rules call, with one change: a sign, a term left out, operands swapped, another
constant, comparison or argument, a call left out. It lives in a process forked from one in which everything is loaded,
and meets the tests that run the changed code (which those are has been seen in a run without mutants), until one fails:
its own samples of the table, one directional derivative first, then all that is said of samples; the tests of corner
cases, the quickest first; one directional derivative of all other samples. A test that fails, or does not end, has
caught it. Mutants that no test can notice stand in SAME, each with its reason.

A file given with --resume keeps one line for each mutant. One that was caught is not tried again while its module is as
it was; one that survived is, once a test has changed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import importlib
import inspect
import json
import os
import selectors
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

os.environ.setdefault("MINIGRAD_BACKEND", "numpy")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent / "minigrad"))

import numpy as np
import pytest
import test_rules
from _pytest.runner import runtestprotocol
from _pytest.warnings import catch_warnings_for_item
from samples import SAMPLES, Sample

from minigrad.primitive import PRIMITIVES, Primitive

MODULES = ["elementwise", "reduction", "shape", "indexing", "linear_algebra", "convolution", "softmax"]
SECONDS = 20  # of its own work for one test, which is many times what any takes
NEAREST = 8  # samples that are asked first, where a rule has not so many of its own
CORNERS = ["test_edges.py", "test_tape.py", "test_properties.py", "test_nn.py", "test_scan.py"]
HERE = Path(__file__).parent / "minigrad"

#: Changes that compute the same, by the reason why: the rule or function → the changes.
SAME: dict[str, dict[str, list[str]]] = {
    "y is a or b: comparing with the one is comparing with the other, or an earlier case decides": {
        "elementwise.maximum[0]": ["a → y (part 5)", "b → y (part 8)"],
        "elementwise.maximum[1]": ["b → y (part 5)", "a → y (part 7)"],
        "elementwise.minimum[0]": ["a → y (part 5)", "b → y (part 8)"],
        "elementwise.minimum[1]": ["b → y (part 5)", "a → y (part 7)"],
        **{f"elementwise.{f}[0]": ["a → y (part 9)", "b → y (part 8)", "b → y (part 11)", "b → y (part 12)"]
           for f in ("fmax", "fmin")},
        **{f"elementwise.{f}[1]": ["b → y (part 9)", "a → y (part 7)", "a → y (part 11)", "a → y (part 12)"]
           for f in ("fmax", "fmin")},
        "elementwise.relu[0]": ["x → y (part 6)"]},
    "y is x, or the bound on whose other side x is": {
        "elementwise._clip[0]": ["high → y (part 11)"],
        "elementwise._clip[1]": ["low → y (part 9)", "high → y (part 11)"],
        "elementwise._clip[2]": ["high → y (part 9)", "high → y (part 11)"]},
    "what stands in for a zero in a divisor, a logarithm or a power is multiplied by 0, or not chosen": {
        "elementwise.hypot[0]": ["1.0 → 2.0 (part 7)", "y → a (part 10)"],
        "elementwise.hypot[1]": ["1.0 → 2.0 (part 7)", "y → b (part 10)"],
        "elementwise._power[1]": ["0.0 → 1.0 (part 10)"],
        "elementwise.power_slope": ["1.0 → 2.0 (part 16)"],
        "elementwise.safe_log": ["1.0 → 2.0 (part 8)"],
        "elementwise._constant_power[0]": ["g → y (part 6)", "g → x (part 6)"]},
    "the two have the same shape, dtype or number of axes, and no more of them is read": {
        "reduction.cumprod_slope": ["x → g (part 29)", "x → y (part 29)", "x → g (part 61)", "x → y (part 61)"],
        "reduction._cumprod[0]": ["y → g (part 3)", "y → x (part 3)"],
        "shape._transpose[0]": ["x → g (part 8)"],
        "linear_algebra.matmul_left": ["a → g (part 32)", "a → b (part 32)"],
        "linear_algebra.matmul_right": ["a → g (part 35)", "-1 → 1 (part 44)"]},
    "another way to the same numbers, not as quick": {
        "linear_algebra.matmul_left": ["a.ndim >= 2 → a.ndim > 2 (part 5)", "a.ndim >= 2 → a.ndim < 2 (part 5)",
                                       "2 → 3 (part 18)"],
        "linear_algebra.rows_of": ["a.ndim > 2 → a.ndim >= 2 (part 2)"],
        "linear_algebra.settle_products": ["len(rows) → rows (part 19)"],
        "reduction.shared": ["n < 2 ** 15 → n <= 2 ** 15 (part 5)"],
        "softmax._cross_entropy[0]": [
            "_cross_entropy_slope(logits, g, targets=targets, losses=getattr(y, '_data', y)) → "
            "_cross_entropy_slope(logits, g, targets=targets) (part 0)"]},
    "whoever takes the cotangent sums it, or spreads it, to the shape of the argument": {
        "linear_algebra.matmul_right": [
            "np.sum(np.expand_dims(g, -1) * a, axis=-2) → np.expand_dims(g, -1) * a (part 27)"],
        "reduction._sum[0]": ["np.broadcast_to(spread(g, x.shape, axis), x.shape) → spread(g, x.shape, axis) (part 0)"],
        "reduction._mean[0]": ["np.broadcast_to(spread(shared(g, count(x.shape, axis)), x.shape, axis), x.shape) → "
                               "spread(shared(g, count(x.shape, axis)), x.shape, axis) (part 0)"],
        "shape._broadcast_to[0]": ["x → g (part 4)", "unbroadcast(g, shape=x.shape) → g (part 0)"]},
    "the order does not matter": {
        "reduction.shared": ["max(n, 1) → max(1, n) (part 8)"],
        "shape._swapaxes[0]": ["np.swapaxes(g, axis1, axis2) → np.swapaxes(g, axis2, axis1) (part 0)"],
        "linear_algebra.transposed": ["np.swapaxes(a, -1, -2) → np.swapaxes(a, -2, -1) (part 4)"],
        "linear_algebra.in_memory_order": ["np.swapaxes(a, 0, 1) → np.swapaxes(a, 1, 0) (part 11)",
                                           "np.swapaxes(g, 0, 1) → np.swapaxes(g, 1, 0) (part 12)"]},
    "there are no entries": {
        "reduction.shared": ["max(n, 1) → n (part 8)"],
        "reduction.product_of_others": ["np.ones(x.shape, x.dtype) → np.zeros(x.shape, x.dtype) (part 18)"]},
    "NumPy has refused such axes before, in the forward": {
        "reduction.normalize_axis": [
            "set(normal) → normal (part 34)",
            "np.exceptions.AxisError(a, ndim) → np.exceptions.AxisError(ndim, a) (part 31)",
            "np.exceptions.AxisError(a, ndim) → a (part 31)", "ndim → axis (part 48)", "axis → ndim (part 63)",
            "ValueError(f'axis {axis} names an axis twice.') → f'axis {axis} names an axis twice.' (part 21)"]},
    "a list or a number of NumPy is as good as a tuple or a number of Python": {
        "reduction.normalize_axis": ["tuple(axis) → axis (part 15)", "int(a) → a (part 49)"],
        "reduction.cumprod_slope": ["np.eye(n, dtype=bool) → np.eye(n) (part 18)"]},
    "any number below 0 stands for the rest of a shape": {"reduction.product_of_others": ["1 → 2 (part 85)"]},
    "it is squared, or multiplied by itself": {
        "softmax.layer_norm_slope": ["x - np.mean(x, axis=axis, keepdims=True) → "
                                     "np.mean(x, axis=axis, keepdims=True) - x (part 2)"]},
    "the lengths are the same": {
        "shape._pad[0]": ["zip(pad_width, x.shape, strict=True) → zip(pad_width, x.shape) (part 10)",
                          "True → False (part 21)"]},
}
#: Mutants that no test can notice: name → why.
EQUIVALENT = {f"{place}: {change}": why for why, places in SAME.items()
              for place, found in places.items() for change in found}


@dataclass(frozen=True)
class Mutant:
    """One change: where, what, and the tree that has it."""

    module: str
    owner: str  # the primitive or function
    rule: int | None  # which of the primitive's rules, None for a function
    change: str
    tree: Any

    @property
    def name(self) -> str:
        place = self.owner if self.rule is None else f"{self.owner}[{self.rule}]"
        return f"{self.module}.{place}: {self.change}"


# ------------------------------------------------------------------------------------------------------------
# Changes
# ------------------------------------------------------------------------------------------------------------

OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr, ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult, ast.Mod: ast.Mult}
COMPARISONS: dict[type[ast.cmpop], list[type[ast.cmpop]]] = {
    ast.Gt: [ast.GtE, ast.Lt], ast.Lt: [ast.LtE, ast.Gt], ast.GtE: [ast.Gt, ast.Lt], ast.LtE: [ast.Lt, ast.Gt],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq]}
FUNCTIONS = {"cos": "sin", "sin": "cos", "cosh": "sinh", "sinh": "cosh", "floor_divide": "divide", "trunc": "floor",
             "cumsum": "cumprod", "mean": "sum", "sum": "mean", "max": "min", "ones": "zeros", "zeros": "ones"}


def changes(node: ast.AST, names: list[str]) -> Iterator[ast.AST]:
    """What may stand in the place of an expression."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node.operand
    if isinstance(node, ast.BinOp):
        if type(node.op) in OPERATORS:
            yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
        if not isinstance(node.op, (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr)):
            yield ast.BinOp(node.right, node.op, node.left)
        yield node.left
        yield node.right
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in COMPARISONS.get(type(node.ops[0]), []):
            yield ast.Compare(node.left, [other()], node.comparators)
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)
    if isinstance(node, ast.Call):
        if len(node.args) > 1 and ast.unparse(node.args[-1]) != ast.unparse(node.args[-2]):
            yield ast.Call(node.func, [*node.args[:-2], node.args[-1], node.args[-2]], node.keywords)
        if node.args and not isinstance(node.args[0], ast.Starred):
            yield node.args[0]
        for k in range(len(node.keywords)):
            yield ast.Call(node.func, node.args, node.keywords[:k] + node.keywords[k + 1:])
        if isinstance(node.func, ast.Attribute) and node.func.attr in FUNCTIONS:
            yield ast.Call(ast.Attribute(node.func.value, FUNCTIONS[node.func.attr], ast.Load()), node.args,
                           node.keywords)
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
        for other_name in names:
            if other_name != node.id:
                yield ast.Name(other_name, ast.Load())


def variants(tree: Any, names: list[str]) -> Iterator[tuple[str, Any]]:
    """All trees with one change, and what it is."""
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.expr)]
    for position, node in enumerate(nodes):
        for changed in changes(node, names):
            whole = copy.deepcopy(tree)
            target = [n for n in ast.walk(whole) if isinstance(n, ast.expr)][position]
            replaced = _Replace(target, copy.deepcopy(changed)).visit(whole)
            yield f"{ast.unparse(node)} → {ast.unparse(changed)} (part {position})", ast.fix_missing_locations(replaced)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else self.generic_visit(node)


def rules_in(tree: ast.Module, module: ModuleType) -> Iterator[tuple[str, int, ast.Lambda]]:
    """The lambdas of the table: the name their primitive has in the module, which rule, and the lambda."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name) \
                and getattr(node.value.func, "id", "") == "rule":
            for k, argument in enumerate(node.value.args[1:]):
                if isinstance(argument, ast.Lambda):
                    yield node.targets[0].id, k, argument
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "primitive":
                    for k, argument in enumerate(decorator.args):
                        if isinstance(argument, ast.Lambda):
                            yield node.name, k, argument


def all_mutants() -> list[Mutant]:
    """Every change to every rule and to the functions that rules call."""
    found: list[Mutant] = []
    for name in MODULES:
        module = importlib.import_module(f"minigrad.rules.{name}")
        tree = ast.parse(inspect.getsource(module))
        functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
        called: set[str] = set()
        waiting: list[ast.AST] = []
        for owner, k, rule in rules_in(tree, module):
            waiting.append(rule)
            names = [a.arg for a in rule.args.args]
            found += [Mutant(name, owner, k, change, changed) for change, changed in variants(rule.body, names)]
            negative = ast.fix_missing_locations(ast.UnaryOp(ast.USub(), copy.deepcopy(rule.body)))
            found.append(Mutant(name, owner, k, "the other sign", negative))
        while waiting:
            for node in ast.walk(waiting.pop()):
                if isinstance(node, ast.Name) and node.id in functions and node.id not in called \
                        and type(getattr(module, node.id)) is FunctionType:
                    called.add(node.id)
                    waiting.append(functions[node.id])
        for owner in sorted(called):
            if any(getattr(d, "func", d).id == "implements" for d in functions[owner].decorator_list):
                continue  # what users call: values and derivatives of all of its samples are compared
            names = [a.arg for a in functions[owner].args.args]
            body = copy.deepcopy(functions[owner])
            body.decorator_list = []
            body.returns = None
            for argument in [*body.args.args, *body.args.kwonlyargs]:
                argument.annotation = None
            found += [Mutant(name, owner, None, change, changed) for change, changed in variants(body, names)]
    seen: set[str] = set()
    return [m for m in found if not (m.name in seen or seen.add(m.name))]  # type: ignore[func-returns-value]


def install(mutant: Mutant) -> None:
    """Put a mutant in the place of what it was made from."""
    module = importlib.import_module(f"minigrad.rules.{mutant.module}")
    old = getattr(module, mutant.owner)
    if mutant.rule is not None:
        before = old.rules[mutant.rule]
        parameters = inspect.signature(before).parameters.values()
        plain = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        head = ", ".join(plain + (["*", *keywords] if keywords else []))
        new = eval(f"lambda {head}: ({ast.unparse(mutant.tree)})", module.__dict__)
        rules = [new if k == mutant.rule else r for k, r in enumerate(old.rules)]
        Primitive.__init__(old, old.name, old.forward, rules, variadic=old.variadic, outputs=old.outputs,
                           joint=old.joint, doc=old.__doc__)
        return
    space: dict[str, Any] = {}
    exec(compile(ast.Module([mutant.tree], []), f"<mutant of {mutant.owner}>", "exec"), module.__dict__, space)
    old.__code__ = space[mutant.owner].__code__  # whoever imported it has the mutant too
    for made in PRIMITIVES:  # what their rules read may have changed
        Primitive.__init__(made, made.name, made.forward, made.rules, variadic=made.variadic, outputs=made.outputs,
                           joint=made.joint, doc=made.__doc__)


# ------------------------------------------------------------------------------------------------------------
# Tests
# ------------------------------------------------------------------------------------------------------------


def first_derivative(sample: Sample) -> None:
    """The quickest look: one directional derivative."""
    directions = [test_rules.cotangent(a, sample.id, "direction", i) for i, a in enumerate(sample.args)]
    number = test_rules.projection(sample.f, 0, sample.id)
    xs = test_rules.leaves(sample.args)
    exact = sum(float((g.data * d).sum()) for g, d in zip(test_rules.gradients(number(xs), xs), directions))
    numeric = test_rules.slope(lambda *arrays: number(test_rules.leaves(arrays)).item(), sample.args, directions)
    np.testing.assert_allclose(exact, numeric, rtol=1e-6, atol=1e-7)


CHECKS: list[Callable[[Sample], None]] = [
    first_derivative, test_rules.test_value_is_numpys, test_rules.test_gradients_share_no_memory,
    test_rules.test_float16_stays_float16, test_rules.test_P4_raw_and_graph_gradients_are_the_same_bits,
    test_rules.test_gradient_twice_gives_the_same_bits_and_a_zero_cotangent_gives_zero,
    test_rules.test_layout_of_arguments_does_not_matter, test_rules.test_P6_float32_stays_float32,
    test_rules.test_P4_three_derivatives_agree_with_central_differences]
#: Those that between them run all code that a sample can run.
WIDEST = [test_rules.test_P4_raw_and_graph_gradients_are_the_same_bits, test_rules.test_P6_float32_stays_float32,
          test_rules.test_layout_of_arguments_does_not_matter]


@dataclass
class Reach:
    """What code of the rules a test runs, as numbers given by `changeable`, and how long the test takes."""

    code: set[int]
    seconds: float


def changeable() -> dict[int, int]:
    """The id of every piece of code that may change → a number that is the same in forked processes."""
    codes = [r.__code__ for p in PRIMITIVES for r in p.rules if isinstance(r, FunctionType)]
    for name in MODULES:
        codes += [f.__code__ for f in vars(importlib.import_module(f"minigrad.rules.{name}")).values()
                  if type(f) is FunctionType]
    return {id(c): k for k, c in enumerate(codes)}


def reached(test: Callable[[], bool], codes: dict[int, int]) -> tuple[Reach, bool]:
    """Run a test and see what code it runs, and whether it passes."""
    found: set[int] = set()

    def look(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and id(frame.f_code) in codes:
            found.add(codes[id(frame.f_code)])

    started = time.process_time()
    threading.setprofile(look)
    sys.setprofile(look)
    try:
        passed = test()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return Reach(found, time.process_time() - started), passed


def passes(item: pytest.Item) -> bool:
    """Whether a collected test does not fail."""
    # the protocol alone would not look at a test's marks about warnings
    with catch_warnings_for_item(config=item.config, ihook=item.ihook, when="runtest", item=item):
        return not any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))


class Run:
    """A plugin of pytest: once the tests of corner cases are collected, mutants run in their place."""

    def __init__(self, mutants: list[Mutant], options: argparse.Namespace) -> None:
        self.mutants, self.options = mutants, options
        self.survivors: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings

        # no time is spent on the simplest failing example
        settings.register_profile("mutants", deadline=None, derandomize=True, database=None, report_multiple_bugs=False,
                                  phases=[Phase.explicit, Phase.generate])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        self.items = session.items
        self.codes = changeable()
        self.samples, self.corners = self.reach()
        self.all_mutants()
        return True

    def reach(self) -> tuple[list[Reach], list[Reach]]:
        """What the samples and the collected tests run: from the file of results, or else by running them."""
        of = digest(*sorted(HERE.parents[1].glob("minigrad/**/*.py")), *sorted(HERE.glob("*.py")))
        said = next((found["reach"] for found in lines(self.options.resume) if found.get("of") == of), "")
        if not said:
            print(f"watching what {len(SAMPLES)} samples and {len(self.items)} tests run", flush=True)
            # in a process of its own: whoever remembers what it computed would not notice that a rule has changed
            said = forked(self.look).result()
            if not said.startswith("["):
                raise RuntimeError(said)
            append(self.options.resume, {"of": of, "reach": said})
        seen = json.loads(said)
        for item, (_, _, passed) in zip(self.items, seen[len(SAMPLES):]):
            if not passed:
                print(f"left out, it fails without mutants: {item.nodeid}", flush=True)
        found = [Reach(set(code), seconds) if passed else Reach(set(), 0.0) for code, seconds, passed in seen]
        return found[:len(SAMPLES)], found[len(SAMPLES):]

    def look(self) -> str:
        """What every test runs, how long, and whether it passes while it is watched."""
        def wide(sample: Sample) -> bool:
            return all(holds(check, sample) for check in WIDEST)

        seen = [reached(lambda s=s: wide(s), self.codes) for s in SAMPLES]
        seen += [reached(lambda item=item: passes(item), self.codes) for item in self.items]
        return json.dumps([[sorted(r.code), round(r.seconds, 3), passed] for r, passed in seen])

    def tests(self, mutant: Mutant) -> Iterator[tuple[str, Callable[[], bool]]]:
        """What may notice the mutant, the likeliest and quickest first."""
        old = getattr(importlib.import_module(f"minigrad.rules.{mutant.module}"), mutant.owner)
        code = self.codes[id((old if mutant.rule is None else old.rules[mutant.rule]).__code__)]
        own = getattr(old, "name", mutant.owner)
        chosen = [k for k, r in enumerate(self.samples) if code in r.code]
        chosen.sort(key=lambda k: (SAMPLES[k].of != own, 0 in [a.size for a in SAMPLES[k].args],
                                   len(self.samples[k].code), self.samples[k].seconds))
        corners = sorted((r.seconds, k) for k, r in enumerate(self.corners) if code in r.code)

        def of_samples(checks: Any, numbers: list[int]) -> Iterator[tuple[str, Callable[[], bool]]]:
            for check in checks:
                for k in numbers:
                    yield f"{check.__name__}[{SAMPLES[k].id}]", lambda check=check, k=k: holds(check, SAMPLES[k])

        near = max(NEAREST, sum(SAMPLES[k].of == own for k in chosen))
        yield from of_samples(CHECKS, chosen[:near])
        for _, k in corners:
            yield self.items[k].nodeid.rpartition("/")[2], lambda k=k: passes(self.items[k])
        yield from of_samples(CHECKS[:1], chosen[near:])

    def survives(self, mutant: Mutant) -> str:
        """"" if no test notices the mutant, else what did. Run in a process of its own."""
        tests = self.tests(mutant)
        first = next(tests, None)
        try:
            install(mutant)
        except Exception as error:
            return f"cannot be built: {type(error).__name__}"
        while first is not None:
            name, test = first
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            if not test():
                return name
            first = next(tests, None)
        return ""

    def all_mutants(self) -> None:
        """Every mutant that is not in the file; then the summary."""
        o = self.options
        started = time.monotonic()
        known, caught, outcome = remembered(o.resume), Counter[str](), Counter[str]()
        waiting: list[Mutant] = []
        for mutant in self.mutants:
            if mutant.name in EQUIVALENT:
                outcome["equivalent"] += 1
            elif known.get(mutant.name):
                caught[known[mutant.name].partition("[")[0]] += 1
                outcome["caught"] += 1
            elif mutant.name in known:
                self.survivors.append(mutant.name)
            else:
                waiting.append(mutant)
        waiting.reverse()
        todo, done, busy = len(waiting), 0, selectors.DefaultSelector()
        while waiting or busy.get_map():
            late = o.minutes is not None and time.monotonic() - started > 60 * o.minutes
            if late:
                waiting.clear()
            while waiting and len(busy.get_map()) < o.jobs:
                mutant = waiting.pop()
                child = forked(lambda mutant=mutant: self.survives(mutant))
                busy.register(child.pipe, selectors.EVENT_READ, (mutant, child, time.monotonic()))
            for key, _ in busy.select():
                mutant, child, since = key.data
                busy.unregister(child.pipe)
                by = child.result()
                done += 1
                if by:
                    caught[by.partition("[")[0]] += 1
                    outcome["caught"] += 1
                else:
                    self.survivors.append(mutant.name)
                rules, tests = versions(mutant.module)
                append(o.resume, {"mutant": mutant.name, "by": by, "seconds": round(time.monotonic() - since, 2),
                                  "rules": rules, "tests": tests})
                if o.verbose or not by:
                    print(f"{mutant.name}    {by or 'SURVIVED'}", flush=True)
                if done % 100 == 0:
                    print(f"... {done} of {todo}, {time.monotonic() - started:.0f} s", flush=True)
        tried = sum(outcome.values()) + len(self.survivors)
        print(f"{tried} of {len(self.mutants)} mutants: {outcome['caught']} caught, {outcome['equivalent']} "
              f"equivalent, {len(self.survivors)} survived; {time.monotonic() - started:.0f} s")
        for name, times in caught.most_common():
            print(f"  {times:5}  {name}")
        if self.survivors:
            print("survivors:")
        for name in sorted(self.survivors):
            print(f"  {name}")


def holds(check: Callable[[Sample], None], sample: Sample) -> bool:
    """Whether what is said of all samples is true of this one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check(sample)
    except Exception:
        return False
    return True


@dataclass
class Child:
    """A process at work."""

    pid: int
    pipe: Any

    def result(self) -> str:
        """What the work returned, or what the process died of: a test that does not end dies of the timer."""
        with self.pipe:
            said = self.pipe.read().decode()
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if said.startswith("="):
            return str(said[1:])
        return "a test that does not end" if status == -signal.SIGPROF else f"died ({status}) {said}"


def forked(work: Callable[[], str]) -> Child:
    """Start `work` in a process of its own, silent but for what it returns."""
    out, into = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        os.close(out)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        with suppress(BaseException), os.fdopen(into, "wb") as pipe:
            try:
                pipe.write(b"=" + work().encode("utf-8", "replace"))
            except BaseException as error:
                pipe.write(f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
        os._exit(0)
    os.close(into)
    return Child(pid, os.fdopen(out, "rb"))


# ------------------------------------------------------------------------------------------------------------
# The file of results
# ------------------------------------------------------------------------------------------------------------


def digest(*files: Path) -> str:
    """A few letters that change when a file does."""
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12]


def versions(module: str) -> tuple[str, str]:
    """Of a module of rules, and of all tests."""
    rules = importlib.import_module(f"minigrad.rules.{module}")
    return digest(Path(str(rules.__file__))), digest(*sorted(HERE.glob("*.py")))


def lines(file: str | None) -> Iterator[dict[str, Any]]:
    """What the file of results has; the last line of an interrupted run may be half a line."""
    if file is not None and Path(file).exists():
        for line in Path(file).read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                yield json.loads(line)


def append(file: str | None, line: dict[str, Any]) -> None:
    """Put a line into the file of results."""
    if file is not None:
        with Path(file).open("a", encoding="utf-8") as f:
            f.write(json.dumps(line, ensure_ascii=False) + "\n")


def remembered(file: str | None) -> dict[str, str]:
    """The mutants in the file of results that need not be tried again → what caught each, "" where nothing did."""
    found: dict[str, str] = {}
    now = {m: versions(m) for m in MODULES}
    for line in lines(file):
        if "mutant" in line:
            rules, tests = now[line["mutant"].partition(".")[0]]
            if line["rules"] == rules and (line["by"] or line["tests"] == tests):
                found[line["mutant"]] = line["by"]
    return found


def main() -> int:
    """The command; exit status 1 if a mutant survived that is not known to be equivalent."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", default="", metavar="TEXT")
    options.add_argument("--count", type=int)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    options.add_argument("--resume", metavar="FILE", help="append results to this file, and skip what it has")
    options.add_argument("--minutes", type=float, help="stop after so long")
    options.add_argument("--verbose", action="store_true", help="say what caught each")
    a = options.parse_args()
    mutants = [m for m in all_mutants() if a.only in m.name]
    for gone in EQUIVALENT.keys() - {m.name for m in mutants}:
        if a.only in gone:
            print(f"in SAME, but no mutant any more: {gone}", flush=True)
    order = np.random.default_rng(a.seed).permutation(len(mutants))[:a.count]
    run = Run([mutants[k] for k in order], a)
    status = pytest.main(["-qq", "-s", "-x", "--no-header", "--no-summary", "--tb=line", "-p", "no:cacheprovider",
                          "--hypothesis-profile=mutants", "-k", "not test_P1_ and not test_P2_",
                          *(str(HERE / name) for name in CORNERS)], plugins=[run])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return 2
    return 1 if run.survivors else 0


if __name__ == "__main__":
    sys.exit(main())

"""Mutation testing of the derivative table: every small change to a rule is noticed by a test.

    python -m tests.mutate                     all mutants
    python -m tests.mutate --only softmax      those whose name has this in it
    python -m tests.mutate --count 200         so many, chosen by --seed

A mutant is a rule, or a function that rules call, with one change: a sign, a term left out, operands swapped, another
constant, comparison or argument, a call left out. It lives in a forked process, in which the tests of
the table (values, three orders of derivatives, bits, dtypes, layouts) run for the samples that use it, then the tests
of corner cases. Those that no test can notice stand in EQUIVALENT, each with its reason.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import inspect
import io
import os
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

os.environ.setdefault("MINIGRAD_BACKEND", "numpy")
sys.path.insert(0, str(Path(__file__).parent / "minigrad"))

import numpy as np
import pytest
import test_rules
from samples import SAMPLES, Sample

import minigrad as mg
from minigrad.primitive import PRIMITIVES, Primitive

MODULES = ["elementwise", "reduction", "shape", "indexing", "linear_algebra", "convolution", "softmax"]
SECONDS = 120  # for one mutant
CORNERS = ["test_edges.py", "test_tape.py", "test_properties.py"]

#: Mutants that compute the same: name → why.
EQUIVALENT: dict[str, str] = {
    **{f"elementwise.{f}[1]: a → y (part {k})": "where neither is NaN and b is not taken, the output is a"
       for f in ("fmin", "fmax") for k in (7, 11, 12)},
}


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
    first_derivative, test_rules.test_P4_three_derivatives_agree_with_central_differences,
    test_rules.test_gradient_twice_gives_the_same_bits_and_a_zero_cotangent_gives_zero,
    test_rules.test_P4_raw_and_graph_gradients_are_the_same_bits, test_rules.test_P6_float32_stays_float32,
    test_rules.test_float16_stays_float16, test_rules.test_value_is_numpys,
    test_rules.test_gradients_share_no_memory, test_rules.test_layout_of_arguments_does_not_matter]


def users() -> dict[str, list[Sample]]:
    """For each primitive the samples whose value or gradient has it."""
    found: dict[str, list[Sample]] = {}
    for sample in SAMPLES:
        xs = test_rules.leaves(sample.args)
        y = sample.f(*xs)
        slopes = [g for g in test_rules.gradients(y, xs, create_graph=True, g=test_rules.cotangent(y, sample.id))
                  if g.requires_grad]
        for name in {node.primitive.name for node in mg.tape([y, *slopes])}:
            found.setdefault(name, []).append(sample)
    return found


def survives(mutant: Mutant, by_primitive: dict[str, list[Sample]]) -> str:
    """"" if no test notices the mutant, else what did. Run in a process of its own."""
    module = importlib.import_module(f"minigrad.rules.{mutant.module}")
    if mutant.rule is not None:
        chosen = by_primitive.get(getattr(module, mutant.owner).name, [])
    else:
        chosen = [s for p in PRIMITIVES for s in by_primitive.get(p.name, ()) if _reaches(p, module, mutant.owner)]
        chosen = list({s.id: s for s in chosen}.values())
    try:
        install(mutant)
    except Exception as error:
        return f"it is none: {type(error).__name__}"
    for check in CHECKS:
        for sample in chosen:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    check(sample)
            except Exception as error:
                return f"{check.__name__}[{sample.id}]: {type(error).__name__}"
    corners = [str(Path(__file__).parent / "minigrad" / name) for name in CORNERS]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-k", "not P1 and not P2", *corners])
    return "" if status == 0 else "corner cases"


def _reaches(made: Primitive, module: ModuleType, function: str) -> bool:
    """Whether some rule calls the function, itself or by another one."""
    waiting, seen = [r for r in made.rules if isinstance(r, FunctionType)], set()
    while waiting:
        code = waiting.pop()
        names = set(code.__code__.co_names)
        if function in names:
            return True
        for name in names - seen:
            seen.add(name)
            other = code.__globals__.get(name)
            if type(other) is FunctionType and other.__module__.startswith("minigrad.rules"):
                waiting.append(other)
    return False


def forked(work: Callable[[], str]) -> str:
    """The result of `work`, done in a process of its own; what the process died of, if it did."""
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(out)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of its own work, however busy the machine is
        with suppress(BaseException):
            os.write(into, b"=" + work().encode("utf-8", "replace")[:500])
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        said = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return said[1:] if said.startswith("=") else f"died ({status})"


def main() -> int:
    """The command; exit status 1 if a mutant survived that is not known to be equivalent."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", default="", metavar="TEXT")
    options.add_argument("--count", type=int)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--minutes", type=float, help="stop after so long")
    options.add_argument("--verbose", action="store_true", help="say what caught each")
    a = options.parse_args()
    mutants = [m for m in all_mutants() if a.only in m.name]
    order = np.random.default_rng(a.seed).permutation(len(mutants))
    if a.count is not None:
        order = order[:a.count]
    started, by_primitive = time.monotonic(), users()
    survivors, caught, equivalent, tried = [], Counter[str](), 0, 0
    for k in order:
        if a.minutes is not None and time.monotonic() - started > 60 * a.minutes:
            break
        mutant = mutants[k]
        tried += 1
        if mutant.name in EQUIVALENT:
            equivalent += 1
            continue
        by = forked(lambda mutant=mutant: survives(mutant, by_primitive))
        caught[by.partition("[")[0]] += 1
        undecided = by == f"died ({-signal.SIGPROF})"
        if a.verbose or undecided or not by:
            print(f"{mutant.name}    {by or 'SURVIVED'}", flush=True)
        if undecided or not by:  # out of time is not caught
            survivors.append(mutant)
    print(f"{tried} of {len(mutants)} mutants: {tried - len(survivors) - equivalent} caught, {equivalent} equivalent, "
          f"{len(survivors)} survived; {time.monotonic() - started:.0f} s")
    for name, times in caught.most_common():
        if name:
            print(f"  {times:5}  {name}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

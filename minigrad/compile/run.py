"""The compiled scan: traced (or recalled) at each call, compiled once, one node on the tape of whoever called it."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..primitive import Primitive
from ..recording import LOCAL, Untraceable, scope
from ..tape import Node, Output, next_number
from ..tensor import Tensor, apply, grad, handle, own
from ..tree import tree_leaves, tree_map
from .differentiate import differentiate
from .kernel_cache import numba_is_there
from .lower import lower
from .numpy_backend import Loops, compile_numpy
from .passes import dead_code, rewritten
from .program import Program, replay
from .recall import Recalled, recall, remember
from .trace import Step, Trace, check_again, structure, trace

Array = NDArray[Any]
LOG = logging.getLogger("minigrad")


class NotCompiled(UserWarning):
    """A scan that was asked to be compiled runs step by step; the message says why."""


class CompiledScan:
    """One compiled program: printing it shows the program as traced, as rewritten, and the generated source.

    Attributes:
        traced, rewritten: the program of one step before and after the passes.
        loops: the generated functions.
        needs: which of state, xs and closures want a gradient, in that order; all False without any.
    """

    def __init__(self, traced: Program, reverse: bool, needs: tuple[bool, ...], backend: str) -> None:
        self.traced = traced
        self.reverse = reverse
        self.needs = needs
        self.backend = backend
        self.differentiable = any(needs)
        program = dead_code(traced)
        if self.differentiable:
            a, b = len(traced.state), len(traced.state) + len(traced.xs)
            program = differentiate(program, needs[a:b], needs[b:])
        self.rewritten = rewritten(program)
        self.loops = generate(self.rewritten, reverse, self.differentiable, backend)

    def __str__(self) -> str:
        return "\n\n".join([f"# traced\n{self.traced}", f"# rewritten\n{self.rewritten}",
                            f"# generated, {self.loops.kind}\n{self.loops.source}"])

    __repr__ = __str__


def generate(program: Program, reverse: bool, differentiable: bool, backend: str) -> Loops:
    """The loops of a program for a back end: "numpy", or "numba" where that is possible."""
    if backend == "numba":
        from .numba_backend import Unsupported, compile_numba

        try:
            return compile_numba(lower(program), reverse, differentiable)
        except (Unsupported, ImportError) as reason:
            LOG.info("a scan is compiled for NumPy: %s", reason)
    return compile_numpy(lower(program), reverse, differentiable)


# ---------------------------------------------------------------------------------------------------------------
# The node
# ---------------------------------------------------------------------------------------------------------------


class Call:
    """One call of a compiled scan: what its node's metadata holds.

    Attributes:
        scan: the compiled program.
        length: T, the number of time steps.
        counts: how many arguments are state, xs and closures.
        mask: for each argument, whether a gradient is wanted.
        checkpoint_every: None, or how often the state is saved.
    """

    __slots__ = ("checkpoint_every", "counts", "length", "mask", "scan")

    def __init__(self, scan: CompiledScan, length: int, counts: tuple[int, int, int],
                 mask: tuple[bool, ...], checkpoint_every: int | None) -> None:
        self.scan = scan
        self.length = length
        self.counts = counts
        self.mask = mask
        self.checkpoint_every = checkpoint_every

    def __repr__(self) -> str:
        return f"{self.length} steps"


def _gradients(g: list[Any], saved: Any, *arguments: Any, call: Call) -> list[Any]:
    """The rule of the scan: cotangents of the state, the inputs and the closures."""
    if any(isinstance(part, Tensor) for part in g):
        return _differentiable_gradients(g, arguments, call)
    a, b, _ = call.counts
    values = [v._data if isinstance(v, Tensor) else v for v in arguments]
    xs = [np.ascontiguousarray(v) for v in values[a:a + b]]
    closures = values[a + b:]
    dstate, dys = g[:a], [np.ascontiguousarray(v) for v in g[a:]]
    if isinstance(saved, Segments):
        dstate, dxs, dclosures = saved.backward(call, xs, closures, dstate, dys)
    else:
        backward = call.scan.loops.backward
        assert backward is not None
        dstate, dxs, dclosures = backward(call.length, saved, xs, closures, dstate, dys)
    return [v if wanted else None for v, wanted in zip((*dstate, *dxs, *dclosures), call.mask, strict=True)]


_IDENTITY = Primitive("identity", np.asarray, [lambda g, y, x: g])


def _differentiable_gradients(g: list[Any], arguments: Sequence[Any], call: Call) -> list[Any]:
    """The same as operations on the tape, for higher derivatives: the loop is unrolled with Tensors."""
    # identities keep the arguments apart, should one be computed from another
    proxies = [apply(_IDENTITY, (v,)) if isinstance(v, Tensor) and v._requires_grad else v for v in arguments]
    outputs = unrolled(proxies, call)
    wanted = [isinstance(p, Tensor) and p._requires_grad and m for p, m in zip(proxies, call.mask, strict=True)]
    pairs = [(o, part) for o, part in zip(outputs, g, strict=True) if isinstance(o, Tensor) and o._requires_grad]
    found = iter(grad([o for o, _ in pairs], [p for p, w in zip(proxies, wanted, strict=True) if w],
                      [part for _, part in pairs], create_graph=True))
    return [next(found) if w else None for w in wanted]


def unrolled(arguments: Sequence[Any], call: Call) -> list[Any]:
    """The scan as a loop over time on Tensors: final state, then outputs, every step on the tape."""
    a, b, _ = call.counts
    program = call.scan.traced
    state, xs, closures = list(arguments[:a]), arguments[a:a + b], arguments[a + b:]
    slices = [np.unstack(x) for x in xs]
    ys: list[Any] = [None] * call.length
    steps = range(call.length)
    for t in reversed(steps) if call.scan.reverse else steps:
        known: dict[Any, Any] = dict(zip(program.state, state, strict=True))
        known.update(zip(program.xs, (s[t] for s in slices), strict=True))
        known.update(zip(program.closures, closures, strict=True))
        with scope(f"t = {t + 1}", step=t + 1):
            replay(program.forward, known, apply)
        state = [known[v] for v in program.new_state]
        ys[t] = [known[v] for v in program.ys]
    return state + [np.stack(column) for column in zip(*ys, strict=True)]


def _forward(*arguments: Array, call: Call) -> list[Array]:
    """The scan on arrays alone: final state, then outputs."""
    a, b, _ = call.counts
    final, ys, _ = call.scan.loops.forward(call.length, arguments[:a], arguments[a:a + b], arguments[a + b:])
    return [*final, *ys]


SCAN = Primitive("scan", _forward, [_gradients], variadic=True, outputs=True, joint=True)


class Segments:
    """What a checkpointed scan keeps: the state before every k-th step. The rest is computed again in backward.

    Attributes:
        states: the state before each segment, in the order of computation.
        bounds: (start, end) of each, in time.
    """

    def __init__(self, call: Call, state: Sequence[Array], xs: Sequence[Array], closures: Sequence[Array],
                 plain: CompiledScan) -> None:
        every, length = call.checkpoint_every or call.length, call.length
        bounds = [(k, min(k + every, length)) for k in range(0, length, every)]
        self.bounds = bounds[::-1] if call.scan.reverse else bounds
        self.states: list[Sequence[Array]] = []
        ys: list[list[Array]] = []
        for start, end in self.bounds:
            self.states.append(state)
            state, part, _ = plain.loops.forward(end - start, state, [x[start:end] for x in xs], closures)
            ys.append(part)
        self.final = state
        order = ys[::-1] if call.scan.reverse else ys
        self.ys = [np.concatenate(parts) for parts in zip(*order, strict=True)]

    def backward(self, call: Call, xs: list[Array], closures: Sequence[Array], dstate: Sequence[Any],
                 dys: Sequence[Array]) -> tuple[Any, Any, Any]:
        """Gradients, one segment after the other from the last."""
        loops = call.scan.loops
        assert loops.backward is not None
        dxs: list[Any] = [None] * len(xs)
        total: list[Any] = []
        for (start, end), state in zip(reversed(self.bounds), reversed(self.states), strict=True):
            part = [x[start:end] for x in xs]
            _, _, saved = loops.forward(end - start, state, part, closures)
            dstate, dpart, dclosures = loops.backward(end - start, saved, part, closures, dstate,
                                                      [g[start:end] for g in dys])
            dstate = [np.zeros(s.shape, s.dtype) if g is None else g for g, s in zip(dstate, state, strict=True)]
            for k, g in enumerate(dpart):
                if g is not None:
                    if dxs[k] is None:
                        dxs[k] = np.empty(xs[k].shape, g.dtype)
                    dxs[k][start:end] = g
            total = [b if a is None else a if b is None else a + b
                     for a, b in zip(total or [None] * len(dclosures), dclosures, strict=True)]
        return dstate, dxs, total


# ---------------------------------------------------------------------------------------------------------------
# Calling it
# ---------------------------------------------------------------------------------------------------------------

CACHE: OrderedDict[Any, CompiledScan | Untraceable] = OrderedDict()
CACHE_SIZE = 256
_LOCK = threading.RLock()


def compiled_scan(step: Step, state: Any, inputs: Any, length: int, reverse: bool, backend: str,
                  checkpoint_every: int | None = None) -> tuple[Any, Any]:
    """Run a scan compiled.

    Raises:
        Untraceable: it cannot be compiled; nothing has been computed.
    """
    found, scan, arguments, arrays = prepare(step, state, inputs, length, reverse, backend)
    a, b = len(scan.traced.state), len(scan.traced.xs)
    call = Call(scan, length, (a, b, len(arrays) - a - b), scan.needs, checkpoint_every)
    xs = [np.ascontiguousarray(x) for x in arrays[a:a + b]]
    with np.errstate(over="ignore"):
        if checkpoint_every is not None and scan.differentiable:
            plain = _lookup(found, step, state, inputs, 0, reverse, (False,) * len(scan.needs), scan.backend)
            saved: Any = Segments(call, arrays[:a], xs, arrays[a + b:], plain)
            final, ys = saved.final, saved.ys
            saved.final = saved.ys = None
        else:
            final, ys, saved = scan.loops.forward(length, arrays[:a], xs, arrays[a + b:])
    results = [*final, *ys]
    node = None
    if scan.differentiable:
        node = Node(next_number(), SCAN, tuple(arguments), tuple(arrays), {"call": call}, saved,
                    [v.shape for v in results], [v.dtype for v in results], LOCAL.state.scope)
    values = scan.traced.new_state + scan.traced.ys
    tensors = []
    for k, (v, data) in enumerate(zip(values, results, strict=True)):
        # an output that no gradient reaches is a constant
        t = handle(data, Output(node, k) if node is not None and v.dtype.kind == "f" else None)
        if v.name is not None:
            t.name = v.name
        tensors.append(t)
    leaves = iter(tensors)
    return (tree_map(lambda _: next(leaves), found.new_state), tree_map(lambda _: next(leaves), found.y))


def prepare(step: Step, state: Any, inputs: Any, length: int, reverse: bool, backend: str,
            ) -> tuple[Trace | Recalled, CompiledScan, list[Any], list[Array]]:
    """Trace, look the program up or compile it, and collect its arguments as the tape knows them and as arrays."""
    first = length - 1 if reverse else 0
    found: Trace | Recalled | None = recall(step, state, inputs)
    if found is None:
        found = traced = trace(step, state, inputs, first)
        remember(step, state, inputs, traced)
    if backend not in ("numpy", "numba"):
        backend = choose(length, state)
    leaves, sources, values = [*tree_leaves(state), *tree_leaves(inputs)], found.sources, found.values
    if LOCAL.state.recording:  # backward reads them, and whoever gave an array may write to it before
        leaves = [own(t) for t in leaves]
        values = [own(v) if v is s else v for v, s in zip(values, sources, strict=True)]
        sources = [v if isinstance(s, np.ndarray) else s for v, s in zip(values, sources, strict=True)]
    arguments = [t.origin or t if isinstance(t, Tensor) else t for t in leaves] + sources
    needs = tuple([isinstance(t, Tensor) and t._requires_grad for t in leaves]) + found.differentiable
    if not LOCAL.state.recording:
        needs = (False,) * len(needs)
    scan = _lookup(found, step, state, inputs, first, reverse, needs, backend)
    arrays = [t._data if isinstance(t, Tensor) else t for t in leaves] + values
    return found, scan, arguments, arrays


# Scans with fewer state entries than this, over all steps, are not worth the seconds that compiling kernels takes.
LEAST_WORK = 2000


def choose(length: int, state: Any) -> str:
    """The back end for a scan: by its size alone, so that the same program always gives the same numbers.

    $MINIGRAD_BACKEND, "numpy" or "numba", decides otherwise for the whole process.
    """
    asked = os.environ.get("MINIGRAD_BACKEND", "")
    if asked in ("numpy", "numba"):
        return asked
    work = length * sum(getattr(t, "_data", t).size for t in tree_leaves(state))
    return "numba" if work >= LEAST_WORK and numba_is_there() else "numpy"


def _lookup(found: Trace | Recalled, step: Step, state: Any, inputs: Any, first: int, reverse: bool,
            needs: tuple[bool, ...], backend: str) -> CompiledScan:
    """The compiled program of a trace; compiled now if it is new."""
    key = (found.key, reverse, needs, backend)
    known = CACHE.get(key)
    if known is None:
        with _LOCK:
            known = CACHE.get(key)
            if known is None:
                try:
                    new = trace(step, state, inputs, first) if isinstance(found, Recalled) else found
                    check_again(step, state, inputs, first, new)
                    known = CompiledScan(new.program(), reverse, needs, backend)
                except Untraceable as reason:
                    known = reason
                CACHE[key] = known
                while len(CACHE) > CACHE_SIZE:
                    CACHE.popitem(last=False)
    if isinstance(known, Untraceable):
        raise Untraceable(str(known))
    return known


_TOLD: set[str] = set()


def fall_back(reason: str, asked: bool) -> None:
    """Say once that a scan runs step by step, and why: a warning if it was asked to be compiled, else the log."""
    if reason in _TOLD:
        return
    _TOLD.add(reason)
    if asked:
        warnings.warn(f"this scan runs step by step: {reason}.", NotCompiled, stacklevel=4)
    else:
        LOG.info("a scan runs step by step: %s.", reason)


def explain(step: Step, state: Any, inputs: Any, reverse: bool = False, backend: str | None = None) -> CompiledScan:
    """The compiled form of `mg.scan(step, state, inputs)`, to be printed: programs, rewrites, generated source.

    Raises:
        Untraceable: it cannot be compiled; the message says why.
    """
    length = len(tree_leaves(inputs)[0])
    return prepare(step, state, inputs, length, reverse, backend or "auto")[1]


__all__ = ["CACHE", "SCAN", "CompiledScan", "NotCompiled", "compiled_scan", "explain", "fall_back", "structure",
           "unrolled"]

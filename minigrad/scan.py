"""scan: the loop over time."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np

from .recording import LOCAL, Untraceable, scope
from .tree import tree_leaves, tree_map

Step = Callable[[Any, Any], tuple[Any, Any]]
Compiled = bool | str | None

# "auto" leaves loops this short to the eager form.
LEAST_STEPS = 8


def scan(step: Step, state: Any, inputs: Any, reverse: bool = False, compiled: Compiled = None,
         checkpoint_every: int | None = None) -> tuple[Any, Any]:
    """Apply `step` to each time step in turn, carrying a state along.

        state, outputs[t] = step(state, inputs[t])        for t = 0 … T-1

    Eagerly this is a Python loop, and every step is on the tape. Compiled, it is one node: `step` is run once to
    see what it does, and the loops forward and backward are derived from that. The numbers are the same, to
    rounding. What cannot be compiled (a step whose course depends on values) runs eagerly, and says so once.

    Args:
        step: `step(state, x) -> (state, y)`, a pure function; `state`, `x` and `y` are Tensors or trees of them.
        state: the initial state.
        inputs: a Tensor or a tree of Tensors, each with time as its first axis: (T, ...).
        reverse: go from the last step to the first; `outputs[t]` still belongs to `inputs[t]`.
        compiled: True; False; "auto" for what `mg.compiled` says, and without it to compile where it pays; None for
            what `mg.compiled` says, and without it eagerly.
        checkpoint_every: of a compiled scan, keep the state of every so many steps only, and compute the
            rest again in backward: the same gradients, in memory of the order √T for about √T.

    Returns:
        (final state, outputs): the outputs stacked along a first axis of length T.

    Raises:
        TypeError: the step returns no pair.
        ValueError: no inputs, no time steps, or inputs of different lengths; another `compiled` or
            `checkpoint_every`.
    """
    leaves = tree_leaves(inputs)
    lengths = {len(x) for x in leaves}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError("scan needs inputs with the same number of time steps, at least one; got "
                         f"{sorted(lengths)}.")
    (length,) = lengths
    if checkpoint_every is not None and not (isinstance(checkpoint_every, (int, np.integer)) and checkpoint_every > 0):
        raise ValueError(f"checkpoint_every is a positive int, not {checkpoint_every!r}.")
    here = LOCAL.state
    if here.compiled is not None and (compiled is None or compiled == "auto"):
        compiled = here.compiled
    if compiled not in (None, True, False, "auto", "numpy", "numba"):
        raise ValueError(f"compiled is True, False or 'auto', not {compiled!r}.")
    if compiled and not here.tracing and not (compiled == "auto" and length < LEAST_STEPS):
        from .compile import run  # not needed by those who never compile

        if here.watchers:
            run.fall_back("something watches every operation (anomaly mode, or a recorder)", compiled != "auto")
        else:
            try:
                return run.compiled_scan(step, state, inputs, length, reverse, str(compiled), checkpoint_every)
            except Untraceable as reason:
                run.fall_back(str(reason), compiled != "auto")
    slices = [np.unstack(x) for x in leaves]
    outputs: list[Any] = [None] * length
    for t in reversed(range(length)) if reverse else range(length):
        parts = iter([s[t] for s in slices])
        x = tree_map(lambda _, parts=parts: next(parts), inputs)
        with scope(f"t = {t + 1}", step=t + 1):
            state, outputs[t] = pair(step(state, x), state)
    return state, tree_map(lambda *ys: np.stack(ys), *outputs)


def pair(returned: Any, state: Any) -> tuple[Any, Any]:
    """What a step returned when it was given `state`.

    Only a pair is one: a Tensor of two rows, or a state of two parts, could be taken apart as if it were.
    """
    if not isinstance(returned, (tuple, list)):
        what = "None" if returned is None else f"a {type(returned).__name__} alone"
    elif hasattr(returned, "_fields") and type(returned) is type(state):
        what = f"the {type(returned).__name__} alone"
    elif len(returned) != 2:
        what = f"{len(returned)} values"
    elif returned[1] is None:
        what = "None as its output"
    else:
        return returned[0], returned[1]
    raise TypeError(f"a step of scan returns a pair (state, output), and this one returned {what}. End it with "
                    "`return state, output`; where there is no output, with `return state, ()`.")


class compiled:
    """Context manager: scans, and layers left at "auto", are compiled inside, or not with `mg.compiled(False)`.

        with mg.compiled():
            h, ys = mg.scan(step, h0, xs)
    """

    __slots__ = ("_before", "_how")

    def __init__(self, on: bool | str = True) -> None:
        if on not in (True, False, "auto", "numpy", "numba"):
            raise ValueError(f"compiled is True, False or 'auto', not {on!r}.")
        self._how = on
        self._before: list[bool | str | None] = []

    def __enter__(self) -> None:
        self._before.append(LOCAL.state.compiled)
        LOCAL.state.compiled = self._how

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        LOCAL.state.compiled = self._before.pop()

"""Recording: what each thread remembers while it computes.

Whether to record, the scope that operations are marked with, and who is watching. Every thread has its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar

from .primitive import Primitive

F = TypeVar("F", bound=Callable[..., Any])


class Untraceable(Exception):
    """What was computed depends on values, so that one traced step does not stand for all. The message says why."""


class Scope:
    """A named region of the computation: a module's call, a time step. Scopes nest; each entry makes a new one.

    Attributes:
        name: as it is shown, e.g. `layer 0` or `t = 3`.
        parent: the scope around it, or None.
        label: what kind of thing it is (`LSTMCell`), or "".
        step: the number of the time step, for the steps of a scan.
    """

    __slots__ = ("__weakref__", "label", "name", "parent", "step")

    def __init__(self, name: str, parent: Scope | None = None, label: str = "", step: int | None = None) -> None:
        self.name = name
        self.parent = parent
        self.label = label
        self.step = step

    @property
    def path(self) -> str:
        """All names from the outside in, joined by slashes: `lstm/layer 0/t = 3`."""
        names = []
        scope: Scope | None = self
        while scope is not None:
            names.append(scope.name)
            scope = scope.parent
        return "/".join(reversed(names))

    def __repr__(self) -> str:
        return f"<scope {self.path}>"


# (phase, primitive, node or None, arguments, result); see `watching`
Watcher = Callable[[str, Primitive, Any, Sequence[Any], Any], None]


class State:
    """What one thread remembers while recording: whether to record, the scope, and who is watching.

    While `tracing`, operations without derivatives are recorded too, and values must not be read. `compiled` is how
    scans run that do not say it themselves; None if `mg.compiled` has not said anything.
    """

    __slots__ = ("compiled", "recording", "scope", "tracing", "watchers")

    def __init__(self) -> None:
        self.recording = True
        self.tracing = False
        self.compiled: bool | str | None = None
        self.scope: Scope | None = None
        self.watchers: tuple[Watcher, ...] = ()


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.state = State()


LOCAL = _PerThread()


class scope:
    """Context manager: everything computed inside is marked with this name on the tape and in pictures.

        with mg.scope("encoder"):
            h = np.tanh(x @ W)
    """

    __slots__ = ("_entered", "_label", "_name", "_step")

    def __init__(self, name: str, *, label: str = "", step: int | None = None) -> None:
        self._name = name
        self._label = label
        self._step = step
        self._entered: list[Scope] = []

    def __enter__(self) -> Scope:
        state = LOCAL.state
        entered = state.scope = Scope(self._name, state.scope, self._label, self._step)
        self._entered.append(entered)
        return entered

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        LOCAL.state.scope = self._entered.pop().parent


class recording:
    """Context manager that turns recording on or off for this thread and puts it back afterwards; also a decorator."""

    __slots__ = ("_before", "_on")

    def __init__(self, on: bool) -> None:
        self._on = on
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(LOCAL.state.recording)
        LOCAL.state.recording = self._on

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        LOCAL.state.recording = self._before.pop()

    def __call__(self, function: F) -> F:
        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with recording(self._on):  # one of its own for each call: threads may overlap
                return function(*args, **kwargs)

        return inside  # type: ignore[return-value]


def no_grad() -> recording:
    """Context manager, or decorator as `@mg.no_grad()`: what is computed inside carries no gradient.

    Nests, and concerns this thread only.
    """
    return recording(False)


class watching:
    """Context manager: call `watcher(phase, primitive, node, arguments, result)` after every operation inside.

    `phase` is "forward" (result: the output array) or "backward" (result: the cotangent of the node's output,
    about to be propagated). Anomaly detection and gradient probes are watchers.
    """

    __slots__ = ("_before", "_watcher")

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._before: list[tuple[Watcher, ...]] = []

    def __enter__(self) -> None:
        watchers = LOCAL.state.watchers
        self._before.append(watchers)
        LOCAL.state.watchers = (*watchers, self._watcher)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        LOCAL.state.watchers = self._before.pop()

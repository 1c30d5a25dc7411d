"""Gradients along time: ‖∂L/∂h_t‖ and ‖∂L/∂c_t‖ for every step, from one backward.

    with rnn.gradient_probe() as probe:
        y, _ = lstm(x)
        loss_of(y).backward()
    probe["lstm/layer 0"]["h"]        # (time,)
    probe.plot()

Where the curve falls towards the first steps, gradients vanish; where it grows, they explode (Bengio, Simard
& Frasconi 1994; Pascanu, Mikolov & Bengio 2013).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigrad.primitive import Primitive
from minigrad.recording import Scope, watching
from minigrad.tape import Node

Array = NDArray[Any]


class GradientProbe(Mapping[str, dict[str, Array]]):
    """Norms of the gradients of states: by layer, then by the state's letter, one number per step.

    The norm is over batch and units. A layer that runs twice has two entries, the second with ` (2)` behind
    its name. A step that no gradient reaches has 0. After several backwards the values are the last one's.

    Attributes:
        letters: of the states that are looked for.
    """

    def __init__(self, letters: Sequence[str] = ("h", "c", "y")) -> None:
        self.letters = tuple(letters)
        self._steps: dict[Scope, int] = {}  # a layer's run -> its number of steps
        self._norms: dict[Scope, dict[str, dict[int, float]]] = {}

    def watch(self, phase: str, primitive: Primitive, node: Node | None, arguments: Sequence[Any],
              g: Any) -> None:
        """See an operation or a cotangent; for `minigrad.recording.watching`."""
        if node is None or node.scope is None or node.scope.step is None or node.scope.parent is None:
            return
        run, step, name = node.scope.parent, node.scope.step, node.name
        self._steps[run] = max(step, self._steps.get(run, 0))
        if phase == "backward" and name is not None and name in self.letters and not primitive.outputs:
            array = getattr(g, "_data", g)
            norm = float(np.sqrt(np.vdot(array, array)))
            self._norms.setdefault(run, {}).setdefault(name, {})[step] = norm

    def _runs(self) -> dict[str, Scope]:
        """The runs that have gradients, by name."""
        named: dict[str, Scope] = {}
        for run in self._steps:
            if run in self._norms:
                name, k = run.path, 2
                while name in named:
                    name, k = f"{run.path} ({k})", k + 1
                named[name] = run
        return named

    def __getitem__(self, name: str) -> dict[str, Array]:
        runs = self._runs()
        if name not in runs:
            raise KeyError(f"no gradients of {name!r}: there are those of "
                           + (", ".join(map(repr, runs)) or "nothing yet (run the layer and backward inside)"))
        run = runs[name]
        found = {}
        for letter in self.letters:
            norms = self._norms[run].get(letter)
            if norms is not None:
                found[letter] = np.array([norms.get(t + 1, 0.0) for t in range(self._steps[run])])
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs())

    def __len__(self) -> int:
        return len(self._runs())

    def __repr__(self) -> str:
        found = "; ".join(f"{name}: {', '.join(self[name])}" for name in self)
        return "gradients of " + (found or "nothing yet")

    def plot(self, ax: Any = None, log: bool = True) -> Any:
        """Draw the norms over the steps.

        Args:
            ax: Matplotlib axes to draw into; new ones when left out.
            log: whether the norms are on a logarithmic axis; steps without a gradient are then left out.

        Returns:
            The axes.

        Raises:
            ImportError: Matplotlib is not installed.
            ValueError: nothing has been recorded.
        """
        if not self:
            raise ValueError("no gradient has been recorded: run the layer and loss.backward() inside "
                             "`with rnn.gradient_probe() as probe:`.")
        if ax is None:
            try:
                from matplotlib.figure import Figure
            except ImportError:
                raise ImportError("plots need Matplotlib: pip install 'minigrad-rnn[plot]'. The numbers are "
                                  "in the probe itself: probe[name]['h'].") from None
            ax = Figure(layout="constrained").add_subplot()
        styles = dict(zip(self.letters, ("-", "--", ":", "-.") * len(self.letters), strict=False))
        for k, name in enumerate(self):
            for value, norms in self[name].items():
                steps = np.arange(1, len(norms) + 1)
                shown = norms > 0 if log else np.ones(len(norms), bool)
                label = f"{value}" if len(self) == 1 else f"{name}, {value}"
                ax.plot(steps[shown], norms[shown], styles[value], color=f"C{k}", label=label)
        if log:
            ax.set_yscale("log")
        ax.set_xlabel("time step")
        ax.set_ylabel("norm of the gradient")
        ax.legend(loc="best")  # said, so that a busy machine is not warned of
        return ax


class gradient_probe:
    """Context manager: record the norm of the gradient of each state that a backward inside passes.

    Run the layers inside too. There all loops run step by step, since a compiled one shows no steps; a layer
    made with `compiled=True` says so in a warning, unless it is given here.

    Args:
        *layers: whose loops are not to be compiled meanwhile.
        letters: of the states.
    """

    def __init__(self, *layers: Any, letters: Sequence[str] = ("h", "c", "y")) -> None:
        self._layers = layers
        self._letters = letters

    def __enter__(self) -> GradientProbe:
        self._before = [layer.compiled for layer in self._layers]
        for layer in self._layers:
            layer.compiled = False
        probe = GradientProbe(self._letters)
        self._watching = watching(probe.watch)
        self._watching.__enter__()
        return probe

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._watching.__exit__(kind, error, trace)
        for layer, compiled in zip(self._layers, self._before, strict=True):
            layer.compiled = compiled

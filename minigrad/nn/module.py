"""Module: a forward function and its parameters.

The one trick: parameters are found by walking `vars(module)` in the order in which the attributes were set.
Nothing is registered, so `super().__init__()` is not needed, and what you see in `vars` is what is trained.

    class Perceptron(nn.Module):
        def __init__(self):
            self.hidden = nn.Linear(784, 100)
            self.output = nn.Linear(100, 10)

        def forward(self, x):
            return self.output(np.tanh(self.hidden(x)))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..recording import scope
from ..tensor import Tensor, make

Array = NDArray[Any]


class Parameter(Tensor):
    """A leaf Tensor that is trained: it requires a gradient, and modules find it.

    Args:
        data: the first value; it is copied.
        name: what the tape and pictures call it; by default the attribute of the module that it is assigned
            to.
        dtype: float32 unless asked for another floating dtype.

    Raises:
        TypeError: the dtype is not a floating one, or `data` is on the tape.
    """

    __slots__ = ()

    def __init__(self, data: ArrayLike, name: str | None = None, dtype: DTypeLike | None = None) -> None:
        leaf = make(Tensor, data, True, name, np.float32 if dtype is None else dtype)
        self._data, self._grad, self.origin = leaf._data, None, None
        self._name, self._requires_grad = name, True

    def __repr__(self) -> str:
        return f"Parameter({self._name + ', ' if self._name else ''}{self.shape}, {self.dtype})"


class Module:
    """A part of a network. Subclasses set parameters and modules as attributes and define `forward`.

    Attributes:
        name: what scopes on the tape call it; the attribute it is assigned to unless set, else the class in
            lower case.
        training: whether layers that behave differently in training (dropout) do so. See `train` and `eval`;
            it has nothing to do with recording gradients, for which there is `mg.no_grad()`.
    """

    name: str | None = None
    training: bool = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes. Call the module, not this: the call puts its name on the tape."""
        raise NotImplementedError(f"{type(self).__name__} has no forward().")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        kind = type(self).__name__
        with scope(self.name or kind.lower(), label=kind):
            return self.forward(*args, **kwargs)

    def __setattr__(self, attribute: str, value: Any) -> None:
        for name, part in _within(attribute, value):
            if not isinstance(part, Generator) and part.name is None:
                part.name = name
        object.__setattr__(self, attribute, value)

    # -- what is inside --------------------------------------------------------------------------------------

    def walk(self) -> Iterator[tuple[str, Parameter | Module | Generator]]:
        """Every parameter, module and generator below this one with its dotted name, each once, in order."""
        return _below(self, "", {id(self)})

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Pairs of a dotted name (`layers.0.weight`) and a parameter, in the order of definition.

        A parameter that is used in several places (tied weights) appears once, under its first name.
        """
        return ((name, part) for name, part in self.walk() if isinstance(part, Parameter))

    def parameters(self) -> list[Parameter]:
        """All parameters, each once, in the order of definition."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module, under the name "", and every one below it with its dotted name."""
        yield "", self
        for name, part in self.walk():
            if isinstance(part, Module):
                yield name, part

    def modules(self) -> list[Module]:
        """This module and every one below it, each once."""
        return [module for _, module in self.named_modules()]

    # -- state -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """A copy of every parameter's value by dotted name.

        Raises:
            ValueError: two parameters have the same dotted name (a dict key with a dot in it).
        """
        state: dict[str, Array] = {}
        for name, parameter in self.named_parameters():
            if name in state:
                raise ValueError(f"two parameters are called {name!r}; rename one of the dict keys.")
            state[name] = parameter.numpy()
        return state

    def load_state_dict(self, state: Mapping[str, ArrayLike | Tensor], strict: bool = True) -> None:
        """Give every parameter the value of its name in `state`, cast to its dtype.

        Everything is checked first: either all values change or none.

        Args:
            state: dotted name → value, as from `state_dict`.
            strict: whether names that are missing, or that no parameter has, are an error. Shapes always are.

        Raises:
            ValueError: the names or shapes do not fit; the message lists all of them.
        """
        parameters = dict(self.named_parameters())
        values = {name: np.asarray(v.data if isinstance(v, Tensor) else v) for name, v in state.items()}
        problems = []
        if strict:
            problems += [f"missing {n!r} {p.shape}" for n, p in parameters.items() if n not in values]
            problems += [f"unexpected {n!r} {v.shape}" for n, v in values.items() if n not in parameters]
        for name, p in parameters.items():
            if name in values and values[name].shape != p.shape:
                problems.append(f"{name!r} has shape {values[name].shape}, the parameter {p.shape}")
            elif name in values and values[name].dtype.kind not in "biuf":
                problems.append(f"{name!r} has dtype {values[name].dtype}, which is not a real number")
        if problems:
            raise ValueError(f"the state does not fit this {type(self).__name__}: {'; '.join(problems)}.")
        for name, p in parameters.items():
            if name in values:
                p.assign(values[name])

    def generator_state(self) -> dict[str, Any]:
        """The state of every random generator below by dotted name, to go on from bit for bit."""
        return {name: part.bit_generator.state for name, part in self.walk() if isinstance(part, Generator)}

    def load_generator_state(self, state: Mapping[str, Any]) -> None:
        """Set every generator's state, as from `generator_state`.

        Raises:
            ValueError: the names or the kinds of generators differ; nothing is changed then.
        """
        generators = {name: part for name, part in self.walk() if isinstance(part, Generator)}
        if generators.keys() != state.keys():
            raise ValueError(f"the generators here are {list(generators)}, the state is for {list(state)}.")
        before = self.generator_state()
        try:
            for name, generator in generators.items():
                generator.bit_generator.state = state[name]
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            for name, generator in generators.items():
                generator.bit_generator.state = before[name]
            raise ValueError(f"the state of generator {name!r} does not fit: {error}.") from None

    # -- modes -----------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set `training` here and below; returns the module. Recording gradients is another matter."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """`train(False)`."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget all gradients: `.grad` of every parameter becomes None."""
        for parameter in self.parameters():
            parameter._grad = None

    # -- printing --------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        total = sum(parameter.size for parameter in self.parameters())
        lines = [f"{_summary(self)}  [{total:,} parameter{'' if total == 1 else 's'}]"]
        for name, module in self.named_modules():
            if module is not self:
                parent, _, own = name.rpartition(".")
                if own.isdecimal():  # a member of a list: keep the list's name beside the number
                    parent, _, head = parent.rpartition(".")
                    own = f"{head}.{own}"
                depth = 1 + sum(1 for n, _ in self.named_modules() if n and name.startswith(n + "."))
                lines.append("  " * depth + f"{own}: {_summary(module)}")
        return "\n".join(lines)


# Attributes that have no parts: passed over at once, for a walk may be part of a training step.
_PLAIN = frozenset({bool, int, float, str, type(None)})


def _below(module: Module, prefix: str, seen: set[int]) -> Iterator[tuple[str, Parameter | Module | Generator]]:
    for attribute, value in vars(module).items():
        if type(value) in _PLAIN:
            continue
        for name, part in _within(prefix + attribute, value):
            if id(part) not in seen:
                seen.add(id(part))
                yield name, part
                if isinstance(part, Module):
                    yield from _below(part, name + ".", seen)


def _within(name: str, value: Any) -> Iterator[tuple[str, Parameter | Module | Generator]]:
    """The parts in an attribute: itself, or the members of lists, tuples and dicts."""
    if isinstance(value, (Parameter, Module, Generator)):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, member in enumerate(value):
            yield from _within(f"{name}.{i}", member)
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from _within(f"{name}.{key}", member)


def _summary(module: Module) -> str:
    """One line: the class, its plain options, and its own parameters' shapes."""
    options = [f"{key}={value!r}" for key, value in vars(module).items()
               if key not in ("name", "training") and not key.startswith("_")
               and isinstance(value, (bool, int, float, str))]
    shapes = [f"{name} {part.shape}" for key, value in vars(module).items()
              for name, part in _within(key, value) if isinstance(part, Parameter)]
    return f"{type(module).__name__}({', '.join(options)})" + ("  " + ", ".join(shapes) if shapes else "")

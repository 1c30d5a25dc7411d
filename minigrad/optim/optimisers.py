"""Optimisers: how a parameter moves, given its gradient.

Each `update` is the formula of its paper in the paper's letters: θ the value, g the gradient, η the learning
rate. Moments are updated in place. The value never is: an optimiser puts a new array in its place, so that a
graph which still needs the old one notices. Numbers agree with PyTorch's formulas.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..tensor import Tensor

Array = NDArray[Any]
Parameters = Tensor | Iterable[Tensor]
Moments = dict[str, Any]


def trainable(parameters: Parameters) -> list[Tensor]:
    """The parameters as a list, each once.

    Raises:
        TypeError: something is not a Tensor.
        ValueError: something is not a leaf that requires a gradient.
    """
    found: dict[int, Tensor] = {}
    each: Any = [parameters] if isinstance(parameters, Tensor) or not isinstance(parameters, Iterable) else parameters
    for p in each:
        if not isinstance(p, Tensor):
            raise TypeError(f"expected parameters, got {type(p).__name__}. Write module.parameters().")
        if p.origin is not None or not p.requires_grad:
            raise ValueError(f"{p.name or 'a tensor'} of shape {p.shape} is not a leaf that requires a "
                             "gradient. Make it with nn.Parameter(...).")
        found[id(p)] = p
    return list(found.values())


class Optimiser:
    """What all optimisers share.

    Attributes:
        parameters: what is trained. Those whose `.grad` is None are left alone by a step.
        lr: the learning rate; may be set at any time.
    """

    options: ClassVar[tuple[str, ...]] = ("lr", "weight_decay")
    """The settings that are saved."""

    def __init__(self, parameters: Parameters, lr: float, weight_decay: float = 0.0) -> None:
        self.parameters = trainable(parameters)
        if not self.parameters:
            raise ValueError("there are no parameters to train.")
        self.moments: list[Moments] = [{} for _ in self.parameters]
        self.lr = not_negative("lr", lr)
        self.weight_decay = not_negative("weight_decay", weight_decay)

    def begin(self, value: Array) -> Moments:
        """The moments of a parameter before its first step: arrays of its shape and dtype, or ints."""
        return {}

    def update(self, value: Array, gradient: Array, moments: Moments) -> Array:
        """The new value, as a new array; `moments` is changed in place."""
        raise NotImplementedError

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for p, moments in zip(self.parameters, self.moments, strict=True):
            gradient = p._grad
            if gradient is None:
                continue
            if not moments:
                moments.update(self.begin(p._data))
            p._replace(self.update(p._data, gradient.astype(p._data.dtype, copy=False), moments))

    def zero_grad(self) -> None:
        """Forget all gradients: `.grad` of every parameter becomes None."""
        for p in self.parameters:
            p._grad = None

    def state_dict(self) -> dict[str, Any]:
        """Settings and moments: arrays (copies), numbers and strings only. Moments are keyed by parameter
        index."""
        return {"kind": type(self).__name__,
                "options": {name: getattr(self, name) for name in self.options},
                "moments": {str(k): {n: m.copy() if isinstance(m, np.ndarray) else m for n, m in own.items()}
                            for k, own in enumerate(self.moments)}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()` of an optimiser of the same class for the same parameters, the settings
        included.

        Raises:
            ValueError: it is of another class or for other parameters; nothing is changed then.
        """
        kind = type(self).__name__
        if not isinstance(state, Mapping) or not {"kind", "options", "moments"} <= state.keys():
            raise ValueError("this is not the state of an optimiser.")
        if state["kind"] != kind:
            raise ValueError(f"this is the state of {state['kind']}, not of {kind}.")
        options, saved = state["options"], state["moments"]
        if options.keys() != set(self.options):
            raise ValueError(f"{kind} has the settings {list(self.options)}, the state has {list(options)}.")
        if not all(isinstance(option, (int, float)) for option in options.values()):
            raise ValueError(f"the settings of {kind} are numbers, the state has {options}.")
        if saved.keys() != {str(k) for k in range(len(self.parameters))}:
            raise ValueError(f"the state is for {len(saved)} parameters, this is for {len(self.parameters)}.")
        before = {name: getattr(self, name) for name in self.options}
        vars(self).update(options)  # which decide what moments there are
        try:
            self.moments = [_matching(p, f"{kind}, parameter {k}", self.begin(p._data), saved[str(k)])
                            for k, p in enumerate(self.parameters)]
        except ValueError:
            vars(self).update(before)
            raise

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options)
        return f"{type(self).__name__}({len(self.parameters)} parameters, {settings})"

    def _decayed(self, value: Array, gradient: Array) -> Array:
        """g + λθ: weight decay as the gradient of a penalty λ/2 θ²."""
        return gradient + self.weight_decay * value if self.weight_decay else gradient


def not_negative(name: str, value: float, below: float = math.inf) -> float:
    """The value, checked to lie in [0, below)."""
    try:
        fits = bool(0 <= value < below)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is a number, got {value!r}.") from None
    if not fits:
        raise ValueError(f"{name} lies in [0, {below}), got {value!r}.")
    return float(value)


def _matching(p: Tensor, where: str, begin: Moments, saved: Mapping[str, Any]) -> Moments:
    """Copies of the saved moments, if they are what the optimiser itself would hold for `p`."""
    if not saved:
        return {}
    if saved.keys() != begin.keys():
        raise ValueError(f"{where}: expected the moments {list(begin)}, got {list(saved)}.")
    moments: Moments = {}
    for name, first in begin.items():
        value = saved[name]
        if isinstance(first, np.ndarray):
            if not isinstance(value, np.ndarray) or value.shape != first.shape or value.dtype.kind != "f":
                raise ValueError(f"{where}: {name!r} is not a floating array of shape {first.shape}.")
            moments[name] = np.array(value, dtype=first.dtype, order="C")
        elif not isinstance(value, int) or value < first:
            raise ValueError(f"{where}: {name!r} is not a whole number from {first} on.")
        else:
            moments[name] = value
    return moments


def _move_average(average: Array, x: Array, rate: float, work: Array) -> None:
    """average ← rate · average + (1 - rate) · x, in place; `work` is overwritten and may be x."""
    average *= rate
    average += np.multiply(x, 1.0 - rate, out=work)


class SGD(Optimiser):
    """Stochastic gradient descent.

        g ← g + λθ
        v ← μ v + g                          (momentum; Polyak 1964)
        θ ← θ - η v,  or  θ - η (g + μ v)    (Nesterov, as in Sutskever et al. 2013)

    Args:
        parameters: Tensors to train.
        lr: η.
        momentum: μ, in [0, 1).
        nesterov: look ahead; needs momentum.
        weight_decay: λ.

    Raises:
        ValueError: a setting is out of its range.
    """

    options = ("lr", "momentum", "nesterov", "weight_decay")

    def __init__(self, parameters: Parameters, lr: float, momentum: float = 0.0,
                 nesterov: bool = False, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.momentum = not_negative("momentum", momentum, 1)
        if nesterov and not momentum:
            raise ValueError("nesterov=True needs a momentum above 0.")
        self.nesterov = nesterov

    def begin(self, value: Array) -> Moments:
        return {"v": np.zeros_like(value)} if self.momentum else {}

    def update(self, value: Array, gradient: Array, moments: Moments) -> Array:
        g, new = self._decayed(value, gradient), np.empty_like(value)
        if self.momentum:
            v = moments["v"]
            v *= self.momentum
            v += g
            if self.nesterov:
                np.multiply(v, self.momentum, out=new)
                new += g
            else:
                new[...] = v
        else:
            new[...] = g
        new *= -self.lr
        new += value
        return new


class Adagrad(Optimiser):
    """Adagrad (Duchi, Hazan & Singer 2011).

        g ← g + λθ
        s ← s + g²
        θ ← θ - η g / (√s + ε)

    Args:
        parameters: Tensors to train.
        lr: η.
        eps: ε.
        weight_decay: λ.

    Raises:
        ValueError: a setting is out of its range.
    """

    options = ("lr", "eps", "weight_decay")

    def __init__(self, parameters: Parameters, lr: float = 1e-2, eps: float = 1e-10,
                 weight_decay: float = 0.0) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.eps = not_negative("eps", eps)

    def begin(self, value: Array) -> Moments:
        return {"s": np.zeros_like(value)}

    def update(self, value: Array, gradient: Array, moments: Moments) -> Array:
        g, s = self._decayed(value, gradient), moments["s"]
        new = np.square(g, out=np.empty_like(value))
        s += new
        np.sqrt(s, out=new)
        new += self.eps
        np.divide(g, new, out=new)
        new *= -self.lr
        new += value
        return new


class RMSprop(Optimiser):
    """RMSprop (Tieleman & Hinton 2012; centred as in Graves 2013).

        g ← g + λθ
        s ← α s + (1 - α) g²
        m ← α m + (1 - α) g                  (centred; else m = 0)
        u = g / (√(s - m²) + ε)
        v ← μ v + u;  θ ← θ - η v            (with momentum; else θ ← θ - η u)

    Args:
        parameters: Tensors to train.
        lr: η.
        alpha: α, in [0, 1).
        eps: ε.
        momentum: μ, in [0, 1).
        centred: whether the variance takes the place of the second moment.
        weight_decay: λ.

    Raises:
        ValueError: a setting is out of its range.
    """

    options = ("lr", "alpha", "eps", "momentum", "centred", "weight_decay")

    def __init__(self, parameters: Parameters, lr: float = 1e-2, alpha: float = 0.99,
                 eps: float = 1e-8, momentum: float = 0.0, centred: bool = False,
                 weight_decay: float = 0.0) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.alpha = not_negative("alpha", alpha, 1)
        self.eps = not_negative("eps", eps)
        self.momentum = not_negative("momentum", momentum, 1)
        self.centred = centred

    def begin(self, value: Array) -> Moments:
        names = ["s"] + ["m"] * bool(self.centred) + ["v"] * bool(self.momentum)
        return {name: np.zeros_like(value) for name in names}

    def update(self, value: Array, gradient: Array, moments: Moments) -> Array:
        g, s = self._decayed(value, gradient), moments["s"]
        new = np.square(g, out=np.empty_like(value))
        _move_average(s, new, self.alpha, new)
        if self.centred:
            m = moments["m"]
            _move_average(m, g, self.alpha, new)
            np.square(m, out=new)
            np.subtract(s, new, out=new)
            np.maximum(new, 0, out=new)  # rounding may leave it just below 0
            np.sqrt(new, out=new)
        else:
            np.sqrt(s, out=new)
        new += self.eps
        np.divide(g, new, out=new)
        if self.momentum:
            v = moments["v"]
            v *= self.momentum
            v += new
            np.multiply(v, -self.lr, out=new)
        else:
            new *= -self.lr
        new += value
        return new


class Adam(Optimiser):
    """Adam (Kingma & Ba 2015).

        g ← g + λθ
        m ← β₁ m + (1 - β₁) g
        v ← β₂ v + (1 - β₂) g²
        θ ← θ - η m̂ / (√v̂ + ε)      m̂ = m / (1 - β₁ᵗ),  v̂ = v / (1 - β₂ᵗ)

    Args:
        parameters: Tensors to train.
        lr: η.
        betas: β₁ and β₂, each in [0, 1).
        eps: ε.
        weight_decay: λ; see `AdamW` for the decoupled form.

    Raises:
        ValueError: a setting is out of its range.
    """

    options = ("lr", "beta1", "beta2", "eps", "weight_decay")

    def __init__(self, parameters: Parameters, lr: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0) -> None:
        super().__init__(parameters, lr, weight_decay)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(f"betas is a pair of numbers, got {betas!r}.")
        self.beta1, self.beta2 = (not_negative(f"beta{k}", b, 1) for k, b in enumerate(betas, 1))
        self.eps = not_negative("eps", eps)

    def begin(self, value: Array) -> Moments:
        return {"m": np.zeros_like(value), "v": np.zeros_like(value), "t": 0}

    def update(self, value: Array, gradient: Array, moments: Moments) -> Array:
        new = self._move(self._decayed(value, gradient), moments)
        new += value
        return new

    def _move(self, g: Array, moments: Moments) -> Array:
        """-η m̂ / (√v̂ + ε), as a new array."""
        m, v = moments["m"], moments["v"]
        t = moments["t"] = moments["t"] + 1
        new = np.square(g, out=np.empty_like(v))
        _move_average(v, new, self.beta2, new)
        _move_average(m, g, self.beta1, new)
        np.sqrt(v, out=new)
        new *= 1.0 / math.sqrt(1.0 - self.beta2 ** t)
        new += self.eps
        np.divide(m, new, out=new)
        new *= -self.lr / (1.0 - self.beta1 ** t)
        return new


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): θ ← (1 - η λ) θ, then Adam's step with λ =
    0.

    Args:
        parameters: Tensors to train.
        lr: η.
        betas: β₁ and β₂, each in [0, 1).
        eps: ε.
        weight_decay: λ.

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(self, parameters: Parameters, lr: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def update(self, value: Array, gradient: Array, moments: Moments) -> Array:
        new = self._move(gradient, moments)
        new += value * (1.0 - self.lr * self.weight_decay) if self.weight_decay else value
        return new

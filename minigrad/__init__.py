"""minigrad: a small tape-based autodiff engine on NumPy.

>>> import numpy as np, minigrad as mg
>>> x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> (np.tanh(x) ** 2).sum().backward()
>>> x.grad

NumPy's functions work on Tensors (`np.tanh(x)`), and stand here too (`mg.tanh(x)`), beside what NumPy lacks.
"""

from . import before_numpy as _before_numpy

# isort: split
from typing import Any

import numpy as np

from . import nn, optim
from . import rules as _rules  # fills the derivative table
from .check import AnomalyError, GradientError, anomaly_mode, gradcheck, hvp, jacobian
from .checkpoint import load, save
from .compile.rows import kernels_for as _kernels_for
from .draw import draw
from .operators import connect_operators
from .primitive import TABLE, Primitive, constant, implements, primitive, rule
from .probe import record_gradients
from .recording import no_grad, scope
from .rules.convolution import avg_pool2d, conv2d, max_pool2d
from .rules.elementwise import clip_gradient, gelu, relu, sigmoid, softplus, stop_gradient
from .rules.indexing import embedding, getitem, one_hot
from .rules.linear_algebra import linear
from .rules.softmax import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    dropout,
    dropout_mask,
    layer_norm,
    log_softmax,
    logsumexp,
    mse_loss,
    nll_loss,
    softmax,
)
from .rules.softmax import connect as _connect
from .scan import compiled, scan
from .tape import GraphError, Node, Tape
from .tensor import Tensor, apply, grad, name, tape, tensor

_ = _rules
connect_operators(apply, getitem)
_connect(_kernels_for)


def explain(step: Any, state: Any, inputs: Any, reverse: bool = False, backend: str | None = None) -> Any:
    """The compiled form of `mg.scan(step, state, inputs)`, to be printed: programs, rewrites, generated source."""
    from .compile.run import explain

    return explain(step, state, inputs, reverse, backend)


def __getattr__(attribute: str) -> Any:
    """NumPy's functions under this name: `mg.tanh` is what `np.tanh` does on a Tensor, without the detour."""
    function = getattr(np, attribute, None) or getattr(np.linalg, attribute, None)
    if function is not None and function in TABLE:
        found = globals()[attribute] = TABLE[function]
        return found
    raise AttributeError(f"module 'minigrad' has no attribute {attribute!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *(f.__name__ for f in TABLE)})


__all__ = [
    "AnomalyError", "GradientError", "GraphError", "Node", "Primitive", "Tape", "Tensor", "anomaly_mode",
    "apply", "avg_pool2d", "binary_cross_entropy_with_logits", "clip_gradient", "compiled", "constant",
    "conv2d", "cross_entropy", "draw", "dropout", "dropout_mask", "embedding", "explain", "gelu", "grad",
    "gradcheck", "hvp", "implements", "jacobian", "layer_norm", "linear", "load", "log_softmax", "logsumexp",
    "max_pool2d", "mse_loss", "name", "nll_loss", "nn", "no_grad", "one_hot", "optim", "primitive",
    "record_gradients", "relu", "rule", "save", "scan", "scope", "sigmoid", "softmax", "softplus",
    "stop_gradient", "tape", "tensor",
]

"""Layers that are not recurrent. Those that draw random numbers take `rng`: a Generator, a seed, or None."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..rules.convolution import Padding, Pair, avg_pool2d, conv2d, max_pool2d, pair
from ..rules.elementwise import gelu, relu, sigmoid
from ..rules.indexing import embedding
from ..rules.linear_algebra import linear
from ..rules.softmax import dropout_mask, layer_norm
from ..tape import shows
from ..tensor import handle
from .initialisers import Rng, normal, uniform
from .module import Module, Parameter


def _positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, (int, np.integer)) or size < 1:
            raise ValueError(f"{name} is an int of at least 1, got {size!r}.")


class Linear(Module):
    """y = x W + b

    Shapes: x (..., in), W (in, out), b (out), y (..., out). W and b start uniform in ±1/√in.

    Args:
        in_features, out_features: the sizes.
        bias: whether there is a b.
        dtype: of the parameters.
        rng: for the initial values.

    Raises:
        ValueError: a size is not a positive int.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: DTypeLike = np.float32,
                 rng: Rng = None) -> None:
        _positive(in_features=in_features, out_features=out_features)
        rng, bound = np.random.default_rng(rng), 1 / math.sqrt(in_features)
        self.weight = Parameter(uniform((in_features, out_features), rng, bound, dtype), dtype=dtype)
        self.bias = Parameter(uniform((out_features,), rng, bound, dtype), dtype=dtype) if bias else None

    def forward(self, x: Any) -> Any:
        shape = getattr(x, "shape", None)
        if shape is not None and shape[-1:] != self.weight.shape[:1]:
            raise ValueError(f"Linear{self.weight.shape} got {shape}; the last axis is that of the "
                             f"{self.weight.shape[0]} features.")
        return x @ self.weight if self.bias is None else linear(x, self.weight, self.bias)


class Embedding(Module):
    """y = W[ids]: a learned vector for each of `num` symbols.

    Shapes: ids (...) integers in 0 … num-1, W (num, dim), y (..., dim). W starts normal with standard
    deviation 1/√dim, so that each row has a length of about 1 and a tied output layer starts with logits of
    about the size of its input.

    Args:
        num, dim: how many symbols, and the size of their vectors.
        dtype: of the parameter.
        rng: for the initial values.

    Raises:
        ValueError: a size is not a positive int.
    """

    def __init__(self, num: int, dim: int, dtype: DTypeLike = np.float32, rng: Rng = None) -> None:
        _positive(num=num, dim=dim)
        self.weight = Parameter(normal((num, dim), rng, 1 / math.sqrt(dim), dtype=dtype), dtype=dtype)

    def forward(self, ids: Any) -> Any:
        return embedding(self.weight, ids)


class Dropout(Module):
    """In training, 0 with probability p and x / (1 - p) otherwise, entry by entry; else the identity.

    Srivastava et al. (2014), in the inverted form. The mask is on the tape under the name `mask`.

    Args:
        p: the probability of dropping, in [0, 1).
        rng: the module's own generator; see `Module.generator_state`.

    Raises:
        ValueError: p is not in [0, 1).
    """

    def __init__(self, p: float = 0.5, rng: Rng = None) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"a drop probability lies in [0, 1), got {p}.")
        self.p = p
        self.rng = np.random.default_rng(rng)

    def forward(self, x: Any) -> Any:
        if not self.training or self.p == 0:
            return x
        mask = handle(dropout_mask(x.shape, self.p, self.rng, x.dtype), None)
        mask.name = "mask"
        product = x * mask
        shows(product, "multiply", x, mask)
        return product


class LayerNorm(Module):
    """y = (x - mean) / √(var + ε) · weight + bias over the last axis (Ba, Kiros & Hinton 2016).

    Shapes: x, y (..., features); weight, which starts at 1, and bias, at 0: (features).

    Args:
        features: the size of the last axis.
        eps: ε.
        dtype: of the parameters.

    Raises:
        ValueError: the size is not a positive int, or another than that of x.
    """

    def __init__(self, features: int, eps: float = 1e-5, dtype: DTypeLike = np.float32) -> None:
        _positive(features=features)
        self.eps = eps
        self.weight = Parameter(np.ones(features), dtype=dtype)
        self.bias = Parameter(np.zeros(features), dtype=dtype)

    def forward(self, x: Any) -> Any:
        if x.shape[-1:] != self.weight.shape:
            raise ValueError(f"LayerNorm({self.weight.size}) got {x.shape}, whose last axis differs.")
        return layer_norm(x, self.weight, self.bias, eps=self.eps)


class Conv2d(Module):
    """Two-dimensional convolution (cross-correlation); see `mg.conv2d`.

    Shapes: x (batch, channels, height, width), weight (filters, channels, kernel height, kernel width), bias
    (filters), y (batch, filters, rows, columns). Both start uniform in ±1/√(channels · kernel height · kernel
    width).

    Args:
        channels, filters: of the images that go in and come out.
        kernel, stride, dilation: an int, or (rows, columns).
        padding: "valid", "same", or numbers.
        bias: whether there is one.
        dtype: of the parameters.
        rng: for the initial values.

    Raises:
        ValueError: a size or an option is not one of these.
    """

    def __init__(self, channels: int, filters: int, kernel: Pair, stride: Pair = 1,
                 padding: Padding = "valid", dilation: Pair = 1, bias: bool = True,
                 dtype: DTypeLike = np.float32, rng: Rng = None) -> None:
        _positive(channels=channels, filters=filters)
        self.stride, self.padding, self.dilation = pair(stride, "stride"), padding, pair(dilation, "dilation")
        shape = (filters, channels, *pair(kernel, "kernel"))
        rng, bound = np.random.default_rng(rng), 1 / math.sqrt(math.prod(shape[1:]))
        self.weight = Parameter(uniform(shape, rng, bound, dtype), dtype=dtype)
        self.bias = Parameter(uniform((filters,), rng, bound, dtype), dtype=dtype) if bias else None

    def forward(self, x: Any) -> Any:
        return conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)


class MaxPool2d(Module):
    """The maximum of each window of (batch, channels, height, width); see `mg.max_pool2d`."""

    def __init__(self, kernel: Pair, stride: Pair | None = None, padding: Padding = "valid") -> None:
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Any) -> Any:
        return max_pool2d(x, self.kernel, self.stride, self.padding)


class AvgPool2d(Module):
    """The mean of each window of (batch, channels, height, width); see `mg.avg_pool2d`."""

    def __init__(self, kernel: Pair, stride: Pair | None = None, padding: Padding = "valid") -> None:
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Any) -> Any:
        return avg_pool2d(x, self.kernel, self.stride, self.padding)


class Flatten(Module):
    """(batch, ...) → (batch, product of the rest)."""

    def forward(self, x: Any) -> Any:
        return np.reshape(x, (x.shape[0], math.prod(x.shape[1:])))


class ReLU(Module):
    """max(x, 0)"""

    def forward(self, x: Any) -> Any:
        return relu(x)


class Tanh(Module):
    """tanh x"""

    def forward(self, x: Any) -> Any:
        return np.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))"""

    def forward(self, x: Any) -> Any:
        return sigmoid(x)


class GELU(Module):
    """Gaussian error linear unit, in the tanh form; see `mg.gelu`."""

    def forward(self, x: Any) -> Any:
        return gelu(x)


class Sequential(Module):
    """Each module applied to the result of the one before.

    Raises:
        TypeError: something in it is not a Module.
    """

    def __init__(self, *layers: Module) -> None:
        for layer in layers:
            if not isinstance(layer, Module):
                raise TypeError(f"Sequential takes modules, got {type(layer).__name__}.")
        self.layers = layers

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Module:
        return self.layers[index]

"""Operators, and the methods that NumPy's arrays have: each is an entry of the rule table, called on a Tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .primitive import TABLE, Primitive

if TYPE_CHECKING:
    from .tensor import Tensor

# What the operators that must be quick are bound to, once Tensor and the rule table are there.
_apply: Callable[[Primitive, tuple[Any, ...]], Tensor]
_getitem: Callable[[Any, Any], Tensor]
_ADD: Primitive
_SUBTRACT: Primitive
_MULTIPLY: Primitive
_DIVIDE: Primitive
_MATMUL: Primitive


def connect_operators(apply: Callable[[Primitive, tuple[Any, ...]], Any], getitem: Callable[[Any, Any], Any]) -> None:
    """Bind the operators to `apply` and their primitives. Called once, when all rules are declared."""
    global _apply, _getitem, _ADD, _SUBTRACT, _MULTIPLY, _DIVIDE, _MATMUL
    _apply, _getitem = apply, getitem
    _ADD, _SUBTRACT, _MULTIPLY, _DIVIDE, _MATMUL = (
        cast(Primitive, TABLE[f]) for f in (np.add, np.subtract, np.multiply, np.divide, np.matmul))


def _numpy(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """What runs when `function` is called on a Tensor."""
    return TABLE[function]


class Operators:
    """What a Tensor has from here; see `minigrad.tensor`."""

    __slots__ = ()

    # -- operators ------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Tensor:
        return _getitem(self, index)

    def __add__(self, other: Any) -> Tensor:
        return _apply(_ADD, (self, other))

    def __radd__(self, other: Any) -> Tensor:
        return _apply(_ADD, (other, self))

    def __sub__(self, other: Any) -> Tensor:
        return _apply(_SUBTRACT, (self, other))

    def __rsub__(self, other: Any) -> Tensor:
        return _apply(_SUBTRACT, (other, self))

    def __mul__(self, other: Any) -> Tensor:
        return _apply(_MULTIPLY, (self, other))

    def __rmul__(self, other: Any) -> Tensor:
        return _apply(_MULTIPLY, (other, self))

    def __truediv__(self, other: Any) -> Tensor:
        return _apply(_DIVIDE, (self, other))

    def __rtruediv__(self, other: Any) -> Tensor:
        return _apply(_DIVIDE, (other, self))

    def __matmul__(self, other: Any) -> Tensor:
        return _apply(_MATMUL, (self, other))

    def __rmatmul__(self, other: Any) -> Tensor:
        return _apply(_MATMUL, (other, self))

    def __pow__(self, other: Any) -> Tensor:
        return _numpy(np.power)(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return _numpy(np.power)(other, self)

    def __mod__(self, other: Any) -> Tensor:
        return _numpy(np.remainder)(self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return _numpy(np.remainder)(other, self)

    def __floordiv__(self, other: Any) -> Tensor:
        return _numpy(np.floor_divide)(self, other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return _numpy(np.floor_divide)(other, self)

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return other // self, other % self

    def __neg__(self) -> Tensor:
        return _numpy(np.negative)(self)

    def __pos__(self) -> Tensor:
        return _numpy(np.positive)(self)

    def __abs__(self) -> Tensor:
        return _numpy(np.absolute)(self)

    def __invert__(self) -> Tensor:
        return _numpy(np.invert)(self)

    def __and__(self, other: Any) -> Tensor:
        return _numpy(np.bitwise_and)(self, other)

    def __or__(self, other: Any) -> Tensor:
        return _numpy(np.bitwise_or)(self, other)

    def __xor__(self, other: Any) -> Tensor:
        return _numpy(np.bitwise_xor)(self, other)

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]
        return _numpy(np.equal)(self, other)

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        return _numpy(np.not_equal)(self, other)

    def __lt__(self, other: Any) -> Tensor:
        return _numpy(np.less)(self, other)

    def __le__(self, other: Any) -> Tensor:
        return _numpy(np.less_equal)(self, other)

    def __gt__(self, other: Any) -> Tensor:
        return _numpy(np.greater)(self, other)

    def __ge__(self, other: Any) -> Tensor:
        return _numpy(np.greater_equal)(self, other)

    # -- methods that NumPy's arrays have -------------------------------------------------------------------------

    @property
    def T(self) -> Tensor:
        """The transpose (all axes reversed)."""
        return _numpy(np.transpose)(self)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """np.sum."""
        return _numpy(np.sum)(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """np.mean."""
        return _numpy(np.mean)(self, axis=axis, keepdims=keepdims)

    def var(self, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        """np.var."""
        return _numpy(np.var)(self, axis=axis, ddof=ddof, keepdims=keepdims)

    def std(self, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        """np.std."""
        return _numpy(np.std)(self, axis=axis, ddof=ddof, keepdims=keepdims)

    def prod(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """np.prod."""
        return _numpy(np.prod)(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """np.max; ties share the gradient evenly."""
        return _numpy(np.max)(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """np.min; ties share the gradient evenly."""
        return _numpy(np.min)(self, axis=axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """np.argmax, a constant."""
        return _numpy(np.argmax)(self, axis=axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """np.argmin, a constant."""
        return _numpy(np.argmin)(self, axis=axis, keepdims=keepdims)

    def any(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """np.any, a constant."""
        return _numpy(np.any)(self, axis=axis, keepdims=keepdims)

    def all(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """np.all, a constant."""
        return _numpy(np.all)(self, axis=axis, keepdims=keepdims)

    def cumsum(self, axis: int | None = None) -> Tensor:
        """np.cumsum."""
        return _numpy(np.cumsum)(self, axis=axis)

    def clip(self, a_min: Any = None, a_max: Any = None) -> Tensor:
        """np.clip; the gradient passes at the bounds."""
        return _numpy(np.clip)(self, a_min, a_max)

    def dot(self, other: Any) -> Tensor:
        """np.dot."""
        return _numpy(np.dot)(self, other)

    def reshape(self, *shape: Any) -> Tensor:
        """np.reshape; the new shape as a tuple or as separate numbers."""
        return _numpy(np.reshape)(self, shape[0] if len(shape) == 1 else shape)

    def ravel(self) -> Tensor:
        """np.ravel."""
        return _numpy(np.reshape)(self, -1)

    flatten = ravel

    def transpose(self, *axes: Any) -> Tensor:
        """np.transpose; the axes as a tuple or as separate numbers, reversed when left out."""
        return _numpy(np.transpose)(self, (axes[0] if len(axes) == 1 else axes) or None)

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """np.swapaxes."""
        return _numpy(np.swapaxes)(self, axis1, axis2)

    def squeeze(self, axis: Any = None) -> Tensor:
        """np.squeeze."""
        return _numpy(np.squeeze)(self, axis)

    def take(self, indices: Any, axis: int | None = None) -> Tensor:
        """np.take."""
        return _numpy(np.take)(self, indices, axis=axis)

    def repeat(self, repeats: Any, axis: int | None = None) -> Tensor:
        """np.repeat."""
        return _numpy(np.repeat)(self, repeats, axis=axis)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """np.diagonal."""
        return _numpy(np.diagonal)(self, offset, axis1, axis2)

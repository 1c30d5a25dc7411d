"""Values that leave the tape: what Python and NumPy ask of a Tensor when they want a number or an array.

Each way out is refused, with the line to write instead, where it would cut the graph silently.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .recording import LOCAL, Untraceable
from .tape import Variable, describe

Array = NDArray[Any]


def me(t: Variable) -> str:
    """A Tensor, in words."""
    return f"a {describe(t)}" if t.origin is None else describe(t.origin)


class Conversions(Variable):
    """What a Tensor has from here; see `minigrad.tensor`."""

    __slots__ = ()

    @property
    def data(self) -> Array:
        """The value: a read-only view. To change it, use `assign`."""
        self._reading("data")
        view = self._data.view()
        view.flags.writeable = False
        return view

    def item(self) -> float | int | bool:
        """The value of a one-element Tensor as a Python number."""
        self._reading("item()")
        return self._data.item()  # type: ignore[no-any-return]

    def numpy(self) -> Array:
        """The value as a new, writeable array."""
        self._reading("numpy()")
        return self._data.copy()

    def _reading(self, how: str) -> None:
        """Called wherever a value leaves the tape: a trace that is to stand for all time steps cannot go on."""
        if self._requires_grad and LOCAL.state.tracing:
            raise Untraceable(f"the step reads values of {me(self)} ({how}), so its course may depend on them")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        self._reading("NumPy")
        if self._requires_grad:
            raise TypeError(f"NumPy asked for the plain array of {me(self)}, which would cut the graph silently. If "
                            "the value alone is wanted write t.data; to join Tensors write mg.stack([...]).")
        if copy is False or (copy is None and dtype in (None, self.dtype)):
            return self.data
        return self._data.astype(dtype or self.dtype)

    @property
    def _mask(self) -> Any:
        """Asked for by NumPy's masked arrays, which have read `_data` past the tape by then."""
        if self._requires_grad:
            raise TypeError(f"a masked array would cut the graph silently: it met {me(self)}. Write "
                            "np.where(mask, 0.0, t) with plain arrays instead.")
        return np.ma.nomask

    def _no_number(self, kind: str) -> None:
        self._reading(f"{kind}()")
        if self._requires_grad:
            raise TypeError(f"{kind}(t) would cut the graph silently: this is {me(self)}. "
                            + ("For its value as a Python number write t.item()." if self.size == 1 else
                               "For its values write t.data."))

    def __float__(self) -> float:
        self._no_number("float")
        return float(self._data)

    def __int__(self) -> int:
        self._no_number("int")
        return int(self._data)

    def __index__(self) -> int:
        self._no_number("index")
        return self._data.__index__()

    def __trunc__(self) -> int:
        self._no_number("trunc")
        return int(self._data.item())

    def __round__(self, digits: int | None = None) -> float | int:
        self._no_number("round")
        return round(self._data.item(), digits)  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        self._reading("bool()")
        return bool(self._data)

    def __contains__(self, item: Any) -> bool:
        self._reading("in")
        return bool((self._data == getattr(item, "_data", item)).any())

    def __format__(self, spec: str) -> str:
        """As its number where there is a format, `f"{loss:.3f}"`; else as `str` shows it."""
        if not spec:
            return str(self)
        self._reading("format()")
        if self.size != 1:
            raise TypeError(f"the format {spec!r} is for a single number, and this is {me(self)}. Write "
                            "np.array2string(t.data, precision=3), or format one entry.")
        return format(self._data.item(), spec)

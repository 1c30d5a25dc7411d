"""Tensor: an array, its gradient, and the node that made it.

A Tensor is a thin handle. Arithmetic on it, and NumPy's own functions, go through `apply`, which computes with NumPy
and records a Node when some input requires a gradient. `np.tanh(t)` works because NumPy hands its functions over
(`__array_ufunc__`, NEP 13; `__array_function__`, NEP 18); what is not in the table raises and says so.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .backward import backpropagate
from .conversions import Conversions, me
from .operators import Operators
from .primitive import TABLE, Primitive, connect
from .recording import LOCAL, no_grad, recording, scope
from .tape import GraphError, Node, Origin, Output, Tape, Variable, describe, next_number

Array = NDArray[Any]
NO_METADATA: dict[str, Any] = {}

# Slopes may be infinite (sqrt at 0): that is an answer, not a mistake to warn of.
QUIET = partial(np.errstate, divide="ignore", invalid="ignore")

# Python's own numbers are passed to NumPy as they are: lifted to 0-d arrays they would upcast float32.
_SCALARS = frozenset({int, float, bool})

# Arrays that look like others and compute something else.
_NOT_PLAIN = (np.ma.MaskedArray, np.matrix)


def apply(primitive: Primitive, args: tuple[Any, ...], metadata: dict[str, Any] = NO_METADATA) -> Any:
    """Compute `primitive` on Tensors, arrays and numbers, and record it if some Tensor requires a gradient.

    Arrays alone give an array; with a Tensor among the arguments the result is a Tensor (a list of them for a
    primitive with several outputs).
    """
    values: list[Any] = []
    inputs: list[Any] = []
    any_tensor = traced = raw_array = False
    for a in args:
        if isinstance(a, Tensor):
            any_tensor = True
            if a._requires_grad:
                traced = True
            values.append(a._data)
            inputs.append(a.origin or a)
        else:
            if type(a) not in _SCALARS:
                a = _operand(a, primitive)
                raw_array = True
            values.append(a)
            inputs.append(a)
    y = primitive.forward(*values, **metadata) if metadata else primitive.forward(*values)
    if not any_tensor:
        return y
    state = LOCAL.state
    node = None
    if primitive.outputs:
        y = [v if type(v) is np.ndarray else np.asarray(v) for v in y]
    elif type(y) is not np.ndarray:
        y = np.asarray(y)
    if traced and state.recording and (primitive.rules or state.tracing):
        sources = arguments = tuple(inputs)
        if not primitive.keeps_nothing:
            if raw_array:
                values = [own(v) if v is i else v for v, i in zip(values, inputs, strict=True)]
            arguments = tuple(values) if primitive.keeps_everything else tuple(
                [v if kept else i for v, i, kept in zip(values, inputs, primitive.keeps, strict=True)])
        shape: Any
        dtype: Any
        if primitive.outputs:
            shape, dtype = [v.shape for v in y], [v.dtype for v in y]
        else:
            shape, dtype = y.shape, y.dtype
        node = Node(next_number(), primitive, sources, arguments, metadata, y if primitive.keeps_output else None,
                    shape, dtype, state.scope)
    for watcher in state.watchers:
        watcher("forward", primitive, node, values, y)
    if primitive.outputs:
        return [handle(v, None if node is None else Output(node, k)) for k, v in enumerate(y)]
    out = _new(Tensor)
    out._data = y
    out._grad = out._name = None
    out.origin = node
    out._requires_grad = node is not None
    return out


def _operand(a: Any, primitive: Primitive) -> Any:
    """A non-Tensor argument as something NumPy computes with: an array or a NumPy scalar."""
    if isinstance(a, (np.ndarray, np.generic)):
        if type(a) is not np.ndarray and isinstance(a, _NOT_PLAIN):
            raise _not_plain(primitive.name, a)
        if a.dtype.kind in "biuf":
            return a
    elif isinstance(a, (list, tuple)) and any(isinstance(v, Tensor) for v in a):
        raise TypeError(f"{primitive.name} got a Python list or tuple that holds Tensors; NumPy would cut the graph "
                        "there. Join them first: mg.stack([...]).")
    elif isinstance(a, (list, tuple, int, float)):
        return np.asarray(a)
    raise TypeError(f"{primitive.name} cannot compute with {type(a).__name__}"
                    f"{f' of dtype {a.dtype}' if hasattr(a, 'dtype') else ''}: expected a Tensor, a real or integer "
                    "array, or a number.")


def _not_plain(what: str, a: Any) -> TypeError:
    """Of arrays whose mask would be lost, or whose `*` is another product."""
    if isinstance(a, np.ma.MaskedArray):
        return TypeError(f"{what} cannot use a masked array: its mask would be lost, with no word about it. Write "
                         "np.where(mask, 0.0, t), or give a.filled(value).")
    return TypeError(f"{what} cannot use an np.matrix, which multiplies differently: give np.asarray(a).")


def own(a: Any) -> Any:
    """A user's array that the tape keeps is copied, so that writing to it later cannot change a gradient."""
    if not isinstance(a, np.ndarray) or (a.base is None and not a.flags.writeable):
        return a
    return a.copy()


def handle(data: Array, origin: Origin | None) -> Tensor:
    """A Tensor for a value that is already on the tape (a constant when `origin` is None)."""
    out = _new(Tensor)
    out._data = data
    out._grad = out._name = None
    out.origin = origin
    out._requires_grad = origin is not None
    return out


class Tensor(Operators, Conversions):
    """An n-dimensional array whose history is recorded.

    Make one with `mg.tensor`. It has NumPy's operators and methods, and NumPy's functions accept it. Comparisons give
    constant Tensors of bools.

    Attributes:
        origin: what made it on the tape; see also `node` and `slot`.
    """

    __slots__ = ()

    __hash__ = object.__hash__

    # -- the value ------------------------------------------------------------------------------------------------

    def assign(self, value: ArrayLike) -> None:
        """Give this leaf a new value, of the same shape; it is cast to the Tensor's dtype.

        The change is noticed by a later backward through operations that used the old value.

        Raises:
            GraphError: this Tensor is the result of an operation.
            ValueError: the shape differs.
            TypeError: the value is not real (complex, or not a number).
        """
        if self.origin is not None:
            raise GraphError(f"assign() changes leaves only, and this is {describe(self.origin)}. Make a leaf of it "
                             "first: t = t.detach(), then t.assign(...).")
        if isinstance(value, np.ma.MaskedArray):
            raise _not_plain("assign()", value)
        new = np.asarray(value.data if isinstance(value, Tensor) else value)
        if new.shape != self._data.shape:
            raise ValueError(f"assign() got shape {new.shape} for the {describe(self)}; the shape cannot change.")
        if new.dtype.kind not in "biuf":
            raise TypeError(f"assign() got dtype {new.dtype}; a {self.dtype} tensor takes real numbers.")
        self._replace(new.astype(self._data.dtype, order="C", copy=True))

    def _replace(self, array: Array) -> None:
        """`assign` without the checks or the copy: `array`, of the same shape and dtype, is handed over.

        For optimisers. It must be a new array: the tape notices a change by the array being another one.
        """
        self._data = array
        self._version = self.version + 1

    @property
    def version(self) -> int:
        """How often `assign` has changed the value."""
        return getattr(self, "_version", 0)

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient flows to this Tensor. May be set on leaves of a floating dtype."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, on: bool) -> None:
        if self.origin is not None and not on:
            raise GraphError(f"{describe(self.origin)} is on the tape; to cut it off there write t.detach().")
        if on:
            _check_differentiable(self._data)
        self._requires_grad = bool(on)

    @property
    def grad(self) -> Array | None:
        """The gradient that `backward` added up here (leaves only), or None. An ndarray of the same shape and dtype."""
        return self._grad

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
        if value is not None:
            value = np.asarray(value, self.dtype)
            if value.shape != self.shape:
                raise ValueError(f"a gradient of shape {value.shape} does not fit the {describe(self)}.")
        self._grad = value

    @property
    def name(self) -> str | None:
        """What the tape, pictures and messages call this value."""
        return self._name if self.origin is None else self.origin.name

    @name.setter
    def name(self, name: str | None) -> None:
        if self.origin is None:
            self._name = name
        else:
            self.origin.name = name

    @property
    def node(self) -> Node | None:
        """The operation that made this Tensor; None for leaves and constants."""
        return self.origin.node if isinstance(self.origin, Output) else self.origin

    @property
    def slot(self) -> int:
        """Which output of `node` this is; 0 for an operation with one output."""
        return self.origin.slot if isinstance(self.origin, Output) else 0

    def detach(self) -> Tensor:
        """A constant with the same value: the gradient stops here."""
        if self._requires_grad and LOCAL.state.tracing:
            return apply(_DETACH, (self,))  # type: ignore[no-any-return]
        out = handle(self._data, None)
        out._name = self.name
        if self.node is not None:
            out._shows = self.node.number, self.slot
        return out

    def astype(self, dtype: Any) -> Tensor:
        """This value with another dtype. Between floating dtypes the gradient flows, cast back."""
        from .accumulate import cast as cast_  # a primitive, not a type

        if np.dtype(dtype).kind != "f":
            self._reading(f"astype({np.dtype(dtype)})")
            return handle(self._data.astype(dtype), None)
        return apply(cast_, (self,), {"dtype": np.dtype(dtype)})  # type: ignore[no-any-return]

    # -- gradients ------------------------------------------------------------------------------------------------

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add the gradient of this Tensor to `.grad` of every leaf it was computed from.

        Args:
            gradient: the cotangent to start from, of this Tensor's shape; may be left out for a single number.
            retain_graph: keep the values that the tape saved, so that backward can run again.

        Raises:
            GraphError: nothing to differentiate, the graph was freed, or a needed value has been changed.
            ValueError: no `gradient` for a Tensor with several entries, or one of the wrong shape.
        """
        seed = _seed(self, gradient)
        with recording(False), QUIET():
            found = backpropagate([(self.origin or self, seed._data.copy())], None, create_graph=False,
                                  retain_graph=retain_graph, handle=handle)
        for leaf, g in found.items():
            assert isinstance(leaf, Variable)
            leaf._grad = g if leaf._grad is None else np.asarray(leaf._grad + g)

    # -- what NumPy asks ------------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Any:
        name = ufunc.__name__
        if kwargs.pop("out", None) is not None:
            raise TypeError(f"np.{name}(..., out=...) would overwrite a value that the tape may need: it met "
                            f"{me(self)}. Write t = np.{name}(...) instead.")
        if method == "at":
            raise TypeError(f"np.{name}.at writes into its argument, which the tape may need: it met {me(self)}. To "
                            "add into rows, index with repeated indices instead (the gradient of t[rows] adds repeated "
                            "rows up).")
        implementation = TABLE.get(ufunc)
        if method == "reduce" and ufunc in _REDUCTIONS:
            return TABLE[_REDUCTIONS[ufunc]](*args, **{"axis": 0, **kwargs})
        if method != "__call__" or implementation is None:
            raise _unknown(f"np.{name}" + ("" if method == "__call__" else f".{method}"), self)
        if kwargs:
            raise TypeError(f"np.{name} on a Tensor takes no {', '.join(f'{k}=' for k in kwargs)}; "
                            "choose entries with np.where(condition, a, b), and a dtype with t.astype(...).")
        if isinstance(implementation, Primitive):
            return apply(implementation, args)
        return implementation(*args)

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        implementation = TABLE.get(function)
        name = f"{getattr(function, '__module__', 'np') or 'np'}.{function.__name__}".replace("numpy", "np")
        if implementation is None:
            raise _unknown(name, self)
        if kwargs.get("out") is not None:
            raise TypeError(f"{name}(..., out=...) would overwrite a value that the tape may need: it met {me(self)}. "
                            f"Write t = {name}(...) instead.")
        if isinstance(implementation, Primitive):
            args, kwargs = _by_position(name, function, args, kwargs)
            return apply(implementation, args, kwargs)
        try:
            return implementation(*args, **kwargs)
        except TypeError:
            _explain_arguments(name, implementation, args, kwargs)
            raise

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d Tensor")
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d Tensor")
        return iter(TABLE[np.unstack](self)) if len(self) else iter(())

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError(f"Tensors are not changed in place, since the tape may need the old value of {me(self)}. "
                        "Write t = np.where(condition, new, t); or, for a leaf, t.assign(array).")

    def __copy__(self) -> Tensor:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self.origin is not None:
            raise GraphError(f"a copy of {describe(self.origin)} would leave the graph; write t.detach() for its "
                             "value.")
        copy = _new(type(self))
        copy._data = self._data.copy()
        copy._grad = None if self._grad is None else self._grad.copy()
        copy._name, copy.origin, copy._requires_grad = self._name, None, self._requires_grad
        memo[id(self)] = copy
        return copy

    def __reduce__(self) -> NoReturn:
        raise TypeError("Tensors are not pickled: loading a pickle runs code. Save arrays with mg.save(path, tree).")

    def __repr__(self) -> str:
        body = np.array2string(self._data, separator=", ", prefix="tensor(", threshold=100)
        extra = "" if self.dtype == np.float64 else f", dtype={self.dtype}"
        if self.name:
            extra += f", name={self.name!r}"
        node = self.node
        if node is not None:
            extra += f", made by {node.primitive.name}"
        elif self._requires_grad:
            extra += ", requires_grad=True"
        return f"tensor({body}{extra})"


_new = Tensor.__new__
connect(apply)

# What detach() records in a trace, where a plain constant would hold one time step's values.
_DETACH = Primitive("detach", np.asarray)


_REDUCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.add: np.sum, np.multiply: np.prod, np.maximum: np.max, np.minimum: np.min}


def _unknown(name: str, t: Tensor) -> TypeError:
    return TypeError(f"{name} has no derivative rule for Tensors: it met {me(t)}. If it should be a constant, call it "
                     "on t.data; if it should have a gradient, write it with functions that have one or add a rule: "
                     "minigrad.primitive.rule(function, lambda g, y, x: ...).")


def _by_position(name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> tuple[tuple[Any, ...], Any]:
    """The arguments with arrays that were given by their names, `np.round(a=t)`, where a primitive takes them."""
    if not any(isinstance(v, Tensor) for v in kwargs.values()):
        return args, kwargs
    for key in list(inspect.signature(function).parameters)[len(args):]:
        if key not in kwargs:
            break
        args, kwargs = (*args, kwargs[key]), {k: v for k, v in kwargs.items() if k != key}
    for key, value in kwargs.items():
        if isinstance(value, Tensor):
            raise TypeError(f"{name} takes Tensors by position only: {key}= is {me(value)}. For its value write "
                            f"{key}=t.data.")
    return args, kwargs


def _explain_arguments(name: str, implementation: Callable[..., Any], args: Any, kwargs: Any) -> None:
    """If the call failed because of its arguments, say which ones exist."""
    try:
        inspect.signature(implementation).bind(*args, **kwargs)
    except TypeError as error:
        known = ", ".join(inspect.signature(implementation).parameters)
        raise TypeError(f"{name} on Tensors: {error}. It knows the arguments {known}.") from None


# ---------------------------------------------------------------------------------------------------------------
# Making tensors, taking gradients
# ---------------------------------------------------------------------------------------------------------------


def _check_differentiable(data: Array) -> None:
    if data.dtype.kind != "f":
        raise TypeError(f"a tensor of dtype {data.dtype} cannot require a gradient; only floating-point tensors can. "
                        "Write dtype=float, or data.astype(np.float32).")


T = TypeVar("T", bound=Tensor)


def make(kind: type[T], data: Any, requires_grad: bool, name: str | None, dtype: Any) -> T:
    """A leaf of class `kind` holding a copy of `data`; see `tensor`."""
    if isinstance(data, Tensor):
        if data._requires_grad:
            raise TypeError(f"mg.tensor() of a Tensor would cut the graph silently: this is {me(data)}. Write "
                            "t.detach() for its value.")
        data = data._data
    elif isinstance(data, (list, tuple)) and any(isinstance(v, Tensor) for v in data):
        raise TypeError("mg.tensor() of a list of Tensors would cut the graph silently; write mg.stack([...]).")
    elif isinstance(data, np.ma.MaskedArray):
        raise _not_plain("mg.tensor()", data)
    array = np.array(data, dtype=dtype, order="C", copy=True)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"a tensor holds real numbers, integers or bools, not dtype {array.dtype}"
                        + (" (are the rows of different lengths?)." if array.dtype.kind == "O" else "."))
    if requires_grad:
        _check_differentiable(array)
    out = _new(kind)
    out._data = array
    out._grad = out.origin = None
    out._name = name
    out._requires_grad = bool(requires_grad)
    return out


def tensor(data: Any, requires_grad: bool = False, name: str | None = None, dtype: Any = None) -> Tensor:
    """A Tensor holding a copy of `data`.

    Args:
        data: an array, a number, or nested lists. The dtype is NumPy's: lists of floats are float64.
        requires_grad: whether `backward` should collect a gradient here; floating dtypes only.
        name: what the tape, pictures and messages call it.
        dtype: convert to this dtype.

    Raises:
        TypeError: `requires_grad` for an integer or bool tensor; complex or ragged data; data on the tape.
    """
    return make(Tensor, data, requires_grad, name, dtype)


def _seed(output: Tensor, g: Any) -> Tensor:
    """The cotangent to start from at `output`, checked."""
    if not isinstance(output, Tensor):
        raise TypeError(f"expected a Tensor to differentiate, got {type(output).__name__}.")
    if not output._requires_grad:
        raise GraphError(f"nothing to differentiate: {me(output)} does not depend on any tensor with "
                         "requires_grad=True (or was computed under mg.no_grad()). Make the input with "
                         "mg.tensor(..., requires_grad=True).")
    if g is None:
        if output.size != 1:
            raise ValueError(f"the output has shape {output.shape}; a gradient starts from a single number. Write "
                             "loss = y.sum() or y.mean(), or give a cotangent of that shape.")
        return handle(np.ones(output.shape, output.dtype), None)
    if not isinstance(g, Tensor):
        if isinstance(g, np.ma.MaskedArray):
            raise _not_plain("a cotangent", g)
        g = handle(np.asarray(g), None)
    if g.shape != output.shape:
        raise ValueError(f"the cotangent has shape {g.shape}, the output {output.shape}; they must be equal.")
    return g if g.dtype == output.dtype else g.astype(output.dtype)  # type: ignore[no-any-return]


def grad(outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor], grad_outputs: Any = None,
         create_graph: bool = False, retain_graph: bool | None = None) -> tuple[Tensor | None, ...]:
    """Gradients of the sum of `outputs` (weighted by `grad_outputs`) with respect to `inputs`.

    Args:
        outputs: one Tensor or several.
        inputs: one Tensor or several, leaves or values computed on the way.
        grad_outputs: the cotangent of each output; may be left out for single numbers.
        create_graph: put the gradients on the tape, so that they can be differentiated again.
        retain_graph: keep the saved values for another backward; by default the same as `create_graph`.

    Returns:
        One gradient per input, None where the outputs do not depend on it. Nothing is added to `.grad`.
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if grad_outputs is None:
        grad_outputs = [None] * len(outputs)
    elif not isinstance(grad_outputs, (list, tuple)):
        grad_outputs = [grad_outputs]
    if len(grad_outputs) != len(outputs):
        raise ValueError(f"{len(outputs)} outputs but {len(grad_outputs)} grad_outputs.")
    for t in inputs:
        if not isinstance(t, Tensor):
            raise TypeError(f"gradients are taken with respect to Tensors, got {type(t).__name__}.")
        if not t._requires_grad:
            raise GraphError(f"the {describe(t)} does not require a gradient. Make it with "
                             "mg.tensor(..., requires_grad=True).")
    seeds = [_seed(o, g) for o, g in zip(outputs, grad_outputs, strict=True)]
    wanted = [t.origin or t for t in inputs]
    # what the rules record is marked, on the tape and in pictures
    place = scope("gradient", label="gradient") if create_graph else nullcontext()
    with recording(create_graph), QUIET(), place:
        found = backpropagate(
            [(o.origin or o, s if create_graph else s._data.copy()) for o, s in zip(outputs, seeds, strict=True)],
            wanted, create_graph=create_graph, retain_graph=create_graph if retain_graph is None else retain_graph,
            handle=handle)
    results: list[Tensor | None] = []
    for k, w in enumerate(wanted):
        g = found.get(w)
        if g is not None and not create_graph:
            g = handle(g.copy() if any(w is v for v in wanted[:k]) else g, None)  # gradients handed out share no memory
        results.append(g)
    return tuple(results)


def tape(outputs: Tensor | Sequence[Tensor]) -> Tape:
    """The tape that leads to `outputs`: prints as a program, one instruction a line.

    Raises:
        TypeError: something in `outputs` is not a Tensor.
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    for t in outputs:
        if not isinstance(t, Tensor):
            raise TypeError(f"mg.tape() takes Tensors, got {type(t).__name__}.")
    return Tape([t.origin or t for t in outputs])


def name(**values: Tensor) -> None:
    """Name several values at once: `mg.name(i=i, f=f, c=c)`."""
    for key, value in values.items():
        value.name = key


__all__ = ["Tensor", "apply", "grad", "handle", "make", "name", "no_grad", "tape", "tensor"]

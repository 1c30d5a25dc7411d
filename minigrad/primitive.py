"""Primitives: the functions whose derivatives are known, and the table that holds them.

A primitive is a forward function on NumPy arrays plus one derivative rule per argument. Both are ordinary
NumPy code. A rule is written in the textbook's letters,

    rule(np.multiply, lambda g, y, a, b: g * b,
                      lambda g, y, a, b: g * a)

where `g` is the cotangent that arrives at the output, `y` the output and then the arguments; metadata (axis,
keepdims, ...) is keyword-only. A rule returns the cotangent of its argument, of any shape that broadcasting
could have produced: the engine sums it back to the argument's shape, casts it to the argument's dtype and adds
it up. Because rules are NumPy code, the same line runs on arrays (an ordinary backward) and on Tensors (when the
gradient itself is to be differentiated).

The one trick here: what a rule does not name, the tape does not keep. `lambda g, y, a, b: g` needs no array at
all, `g * (1 - y * y)` needs only the output, and `np.broadcast_to(g, x.shape)` needs only a shape. `Primitive`
reads that off the rule's own bytecode once, when the rule is declared.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any, TypeVar

Rule = Callable[..., Any]
F = TypeVar("F", bound=Callable[..., Any])

# Attributes that describe an array without reading its values.
DESCRIPTION = frozenset({"shape", "dtype", "ndim", "size"})


class Primitive:
    """A function with derivative rules.

    Call it with Tensors and it records itself on the tape; call it with arrays alone and it is the plain NumPy
    function, array in, array out.

    Attributes:
        name: what the tape and the pictures call it.
        forward: the NumPy function, `forward(*arrays, **metadata)`.
        rules: one rule per argument (None where an argument has no derivative); () for a function that is
            constant almost everywhere, such as `np.sign` or a comparison. For a variadic primitive a single rule
            `rule(g, y, k, arrays, **metadata)` gives the cotangent of argument k; `arrays` is the tuple of all.
        variadic: the number of arguments is not fixed (`stack`, `concatenate`).
        outputs: the forward returns a list of arrays (`split`, `unstack`); `g` and `y` are then lists too.
        joint: a single rule `rule(g, y, *arrays, **metadata)` gives the list of all arguments' cotangents at once, None
            where there is none, or a function that computes one, called if it is wanted. Of a compiled scan `y` is
            whatever its node keeps.
        keeps: per argument, whether some rule reads its value; a bool for all where variadic.
        keeps_output: whether some rule reads the value of the output.
    """

    # __dict__ holds __doc__, which cannot be a slot
    __slots__ = ("__dict__", "forward", "keeps", "keeps_everything", "keeps_nothing", "keeps_output",
                 "name", "outputs", "rules", "variadic")

    def __init__(self, name: str, forward: Callable[..., Any], rules: Iterable[Rule | None] = (), *,
                 variadic: bool = False, outputs: bool = False, joint: bool = False, doc: str | None = None) -> None:
        self.name = name
        self.forward = forward
        self.rules = tuple(rules)
        self.variadic = variadic
        self.outputs = outputs
        self.joint = joint
        self.__doc__ = doc or getattr(forward, "__doc__", None)
        read = [values_read(r) for r in self.rules if r is not None]
        self.keeps_output = any(positions[0] for positions in read)
        self.keeps: tuple[bool, ...]
        if variadic:
            # positions are (y, k, arrays): what follows k stands for every argument alike
            self.keeps = (any(any(positions[2:]) for positions in read),)
        else:
            count = len(read[0]) - 1 if joint else len(self.rules)
            self.keeps = tuple(any(p[i + 1] for p in read if i + 1 < len(p)) for i in range(count))
        self.keeps_nothing = not any(self.keeps)
        self.keeps_everything = all(self.keeps)

    def __call__(self, *args: Any, **metadata: Any) -> Any:
        return _apply(self, args, metadata)

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


def _apply(primitive: Primitive, args: tuple[Any, ...], metadata: dict[str, Any]) -> Any:
    """Replaced by `minigrad.tensor.apply` when that module is imported; before, there are only arrays."""
    return primitive.forward(*args, **metadata)


def connect(apply: Callable[[Primitive, tuple[Any, ...], dict[str, Any]], Any]) -> None:
    """Tell primitives how to record themselves. Called once, by the module that defines Tensor."""
    global _apply
    _apply = apply  # type: ignore[assignment]


# ---------------------------------------------------------------------------------------------------------------
# What a rule reads
# ---------------------------------------------------------------------------------------------------------------


def values_read(rule: Rule) -> tuple[bool, ...]:
    """For each positional parameter of `rule` after `g`: does the rule read its value?

    `x.shape`, `x.dtype`, `x.ndim` and `x.size` do not count: the tape knows them without keeping the array.
    A rule that is not a plain Python function is taken to read everything.
    """
    parameters = [p for p in inspect.signature(rule).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    names = [p.name for p in parameters][1:]
    if not isinstance(rule, FunctionType):
        return (True,) * len(names)
    instructions = list(dis.get_instructions(rule))
    read: set[str] = set()
    for i, instruction in enumerate(instructions):
        if not instruction.opname.startswith(("LOAD_FAST", "LOAD_DEREF", "LOAD_CLOSURE", "STORE_FAST_LOAD")):
            continue
        # newer interpreters fuse two loads into one instruction, with a pair of names
        loaded = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
        following = instructions[i + 1]
        if following.opname == "LOAD_ATTR" and following.argval in DESCRIPTION:
            loaded = loaded[:-1]
        read.update(loaded)
    return tuple(name in read for name in names)


# ---------------------------------------------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------------------------------------------

# NumPy function -> what runs when it is called on a Tensor: a Primitive, or a Python function written with them.
TABLE: dict[Callable[..., Any], Callable[..., Any]] = {}

# Every primitive that was declared, in the order of the table; the tests walk it and demand a sample for each.
PRIMITIVES: list[Primitive] = []


def rule(function: Callable[..., Any], *rules: Rule | None, name: str | None = None,
         doc: str | None = None) -> Primitive:
    """Declare the derivatives of a NumPy function whose arguments are all arrays: one rule per argument."""
    made = Primitive(name or function.__name__, function, rules, doc=doc)
    PRIMITIVES.append(made)
    TABLE[function] = made
    return made


def primitive(*rules: Rule | None, variadic: bool = False, outputs: bool = False, joint: bool = False,
              name: str | None = None) -> Callable[[Callable[..., Any]], Primitive]:
    """Decorator: make a primitive of a function of our own, with one rule per array argument, or a joint one for all.

        @primitive(lambda g, y, x: g * y * (1 - y))
        def sigmoid(x): ...
    """

    def declare(forward: Callable[..., Any]) -> Primitive:
        made = Primitive(name or forward.__name__.strip("_"), forward, rules, variadic=variadic, outputs=outputs,
                         joint=joint)
        PRIMITIVES.append(made)
        return made

    return declare


def constant(*functions: Callable[..., Any]) -> None:
    """Declare NumPy functions that carry no gradient: comparisons, `sign`, `argmax`, ... The result is a constant."""
    for function in functions:
        made = Primitive(function.__name__, function)
        PRIMITIVES.append(made)
        TABLE[function] = made


def implements(*functions: Callable[..., Any]) -> Callable[[F], F]:
    """Decorator: this Python function, with NumPy's parameter names, is what NumPy's does on Tensors."""

    def register(implementation: F) -> F:
        for function in functions:
            TABLE[function] = implementation
        return implementation

    return register

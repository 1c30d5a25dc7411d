"""Writing the Python source of a loop: what the back ends share.

A `Writer` collects three groups of lines (before the loop, in it, after it) and knows the Python expression of every
value: views are bound where their base is known to be there, once before the loop if it does not move, at the top of
each step if it does.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..rules.indexing import _gather
from ..rules.shape import _broadcast_to, _moveaxis, _reshape, _split, _swapaxes, _transpose, _unstack
from .layout import Layout, Place, Root
from .lower import Lowered
from .passes import is_view
from .program import Instruction, Value


class Writer:
    """The source of one generated function.

    Attributes:
        before, loop, after: its lines.
        namespace: what the source refers to by name.
        text: value -> its variable.
    """

    def __init__(self, lowered: Lowered, layout: Layout, reverse: bool) -> None:
        self.lowered = lowered
        self.layout = layout
        self.reverse = reverse
        self.before: list[str] = []
        self.top: list[str] = []
        self.loop: list[str] = []
        self.after: list[str] = []
        self.native = ""  # a call that does the whole loop
        self.namespace: dict[str, Any] = {"np": np, "empty": np.empty, "copyto": np.copyto}
        self.text: dict[Value, str] = {}
        self._moving: dict[Value, bool] = {}
        self._taken: set[str] = set()

    # -- names ------------------------------------------------------------------------------------------------------

    def name(self, v: Value) -> str:
        """A variable name for a value, the user's name in it."""
        stem = re.sub(r"\W", "_", v.name or "v")
        if not stem.isidentifier() or keyword.iskeyword(stem) or stem in self.namespace:
            stem = "v"
        return self.unique(stem)

    def unique(self, stem: str) -> str:
        """An unused name that begins with `stem`."""
        k = len(self._taken)
        self._taken.add(stem + str(k))
        return f"{stem}_{k}"

    def constant(self, x: Any) -> str:
        """A number or object that the source refers to."""
        if type(x) in (int, bool) or x is None:
            return repr(x)
        if type(x) is float and np.isfinite(x):
            return repr(x)
        for name, known in self.namespace.items():
            if known is x:
                return name
        name = f"c{len(self.namespace)}"
        self.namespace[name] = x
        return name

    # -- values -----------------------------------------------------------------------------------------------------

    def operand(self, o: Any) -> str:
        """The expression for an operand, binding it first if need be."""
        return self.value(o) if type(o) is Value else self.constant(o)

    def value(self, v: Value) -> str:
        """The variable of a value, bound to its place or view."""
        known = self.text.get(v)
        if known is not None:
            return known
        place = self.layout.place.get(v)
        if place is None:
            i = self.lowered.made_by[v]
            assert is_view(i), i.primitive.name
            return self._view(v, i)
        if not place.time and not place.part:
            self.text[v] = place.root.name
            self._moving[v] = False
            return place.root.name
        name = self.text[v] = self.name(v)
        moving = self._moving[v] = bool(place.time)
        (self.top if moving else self.before).append(f"{name} = {self.place(place)}")
        return name

    def moving(self, v: Value) -> bool:
        """Whether the variable of `v` is bound anew at each step."""
        self.value(v)
        return self._moving.get(v, False)

    def place(self, place: Place) -> str:
        """The expression for a place."""
        index = [self.time(place)] if place.time else []
        index += [_slice_text(s) for s in place.part]
        if place.time and not place.root.shape:
            index.append("...")  # a 0-d array, not a number
        return f"{place.root.name}[{', '.join(index)}]" if index else place.root.name

    def time(self, place: Place) -> str:
        """The index along the time axis of a root."""
        return {"p": "q", "n": "m"}[place.time] if place.root.kind == "ring" else place.time

    def _view(self, v: Value, i: Instruction) -> str:
        """Bind a view of another value."""
        base_value = i.values[0]
        base = self.value(base_value)
        moving = self._moving.get(base_value, False)
        target = self.top if moving else self.before
        m, primitive = i.metadata, i.primitive
        for result in i.results:
            self.text[result] = self.name(result)
            self._moving[result] = moving
        names = [self.text[r] for r in i.results]
        if primitive is _split:
            axis, end = m["axis"] % len(base_value.shape), 0
            for name, r in zip(names, i.results, strict=True):
                cut = [":"] * axis + [f"{end}:{end + r.shape[axis]}"]
                end += r.shape[axis]
                target.append(f"{name} = {base}[{', '.join(cut)}]")
            return self.text[v]
        if primitive is _unstack:
            axis = m["axis"] % len(base_value.shape)
            for k, name in enumerate(names):
                target.append(f"{name} = {base}[{', '.join([':'] * axis + [str(k), '...'])}]")
            return self.text[v]
        if primitive is _reshape:
            expression = f"{base}.reshape({i.result.shape!r})"
        elif primitive is _broadcast_to:
            expression = f"np.broadcast_to({base}, {i.result.shape!r})"
        elif primitive is _transpose:
            expression = f"{base}.T" if m["axes"] is None else f"{base}.transpose({tuple(m['axes'])!r})"
        elif primitive is _swapaxes:
            expression = f"{base}.swapaxes({m['axis1']!r}, {m['axis2']!r})"
        elif primitive is _moveaxis:
            expression = f"np.moveaxis({base}, {m['source']!r}, {m['destination']!r})"
        else:
            assert primitive is _gather, primitive.name
            index = m["index"] if isinstance(m["index"], tuple) else (m["index"],)
            if not any(p is ... for p in index):
                index = (*index, ...)  # a 0-d array, not a number
            expression = f"{base}[{', '.join(map(_slice_text, index))}]"
        target.append(f"{names[0]} = {expression}")
        return names[0]

    def over_time(self, v: Value) -> str:
        """The expression for the values of all steps, in the order of time."""
        place = self.layout.place[v]
        late = (place.time == "n") != self.reverse
        along = ":" if place.time == "t" else ("1:" if late else ":T")
        index = [along, *(_slice_text(s) for s in place.part)]
        return place.root.name if index == [":"] else f"{place.root.name}[{', '.join(index)}]"

    # -- arrays -----------------------------------------------------------------------------------------------------

    def allocate(self, roots: Sequence[Root]) -> None:
        """Lines that make the function's own arrays."""
        for root in roots:
            lead = {"stack": "T", "history": "T + 1", "ring": "2"}.get(root.kind)
            shape = ", ".join(([lead] if lead else []) + [str(n) for n in root.shape])
            comma = "," if shape and "," not in shape else ""
            self.before.append(f"{root.name} = empty(({shape}{comma}), {self.constant(root.dtype)})")

    def render(self, name: str, arguments: Sequence[str], returned: str, backward: bool) -> str:
        """The whole function."""
        steps = "range(T)" if self.reverse == backward else "range(T - 1, -1, -1)"
        ring = any(r.kind == "ring" for r in self.layout.roots)
        head = ["p, n = t + 1, t" if self.reverse else "p, n = t, t + 1"]
        if ring:
            head = ["p, n = t + 1, t" if self.reverse else "p, n = t, t + 1", "q, m = p & 1, n & 1"]
        uses_time = any(re.search(r"\b[pnqm]\b", line) for line in (*self.top, *self.loop))
        body = [*(head if uses_time else []), *self.top, *self.loop]
        loop = [self.native] if self.native else []
        loop += [f"for t in {steps}:", *(f"    {line}" for line in body)] if self.loop else []
        lines = [f"def {name}({', '.join(arguments)}):", *(f"    {line}" for line in self.before),
                 *(f"    {line}" for line in loop),
                 *(f"    {line}" for line in self.after), f"    return {returned}"]
        return "\n".join(lines) + "\n"


def _slice_text(s: Any) -> str:
    if s is ...:
        return "..."
    if s is None:
        return "None"
    if isinstance(s, slice):
        parts = ["" if v is None else str(v) for v in (s.start, s.stop, s.step)]
        return ":".join(parts if s.step is not None else parts[:2])
    return str(int(s))

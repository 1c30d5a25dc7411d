"""The loops with their elementwise work fused into kernels by numba.

What is generated is one Python module: a kernel for each group of elementwise instructions, and, where nothing else but
matrix products is left, the loop over time itself. Products inside compiled loops go to the BLAS that NumPy has loaded.
The module is kept in a cache folder that belongs to the user, and numba keeps the machine code beside it.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from ..rules.linear_algebra import matmul
from .blas import gemm_addresses
from .fuse import Access, Group, Loop, accesses, rows_and_columns, safe_in_place, units
from .kernel_cache import load_module
from .layout import Layout, Place, Root, backward_layout, forward_layout
from .loop_body import Body
from .lower import Lowered, contiguous_part
from .numpy_backend import Loops, statements, write_backward, write_forward
from .parts import in_parts
from .passes import is_view
from .program import Instruction, Value
from .source import Writer
from .tiles import tiles


class Unsupported(Exception):
    """This program is for the NumPy back end."""


HEADER = '''\
"""Generated."""
import numpy as np
from numba import njit, types

FAST = {{"reassoc", "contract", "arcp", "nsz"}}
OPTIONS = dict(cache=CACHE, nogil=True, error_model="numpy", fastmath=FAST, boundscheck=False)

{imports}
'''


def compile_numba(lowered: Lowered, reverse: bool, differentiate: bool) -> Loops:
    """Generate the loops and compile their kernels.

    Raises:
        Unsupported: nothing would be gained, or some value lies where a kernel cannot reach it.
        ImportError: numba is not installed.
    """
    import numba  # noqa: F401  an early error

    program = lowered.program
    ends = [*program.new_state, *program.ys, *lowered.kept]
    body = units(lowered.forward, lowered, ends)
    if not any(isinstance(u, Group) for u in body):
        raise Unsupported("nothing to fuse")
    layout = forward_layout(lowered, _lists(body), _hidden(body))
    module = Module()
    w = Writer(lowered, layout, reverse)
    forward_text = write_forward(w, Emitter(module, "forward", body, reverse, False))
    parts = [(forward_text, w.namespace, "forward")]
    if differentiate:
        ends = [v for v in (*program.dstate, *program.dxs) if v is not None]
        ends += [v for leaf in lowered.leaves for v in leaf.operands]
        body = units(lowered.backward, lowered, ends)

        def safe(k: int, new: Value, old: Value) -> bool:
            unit = body[k]
            return isinstance(unit, Group) and safe_in_place(unit, new, old)

        b = Writer(lowered, backward_layout(lowered, layout, _lists(body), _hidden(body), safe), reverse)
        text = write_backward(b, layout, Emitter(module, "backward", body, reverse, True))
        parts.append((text, b.namespace, "backward"))
    text = module.text()
    compiled = load_module(text)
    functions = []
    for source, namespace, name in parts:
        space = namespace | {k: getattr(compiled, k) for k in module.entries} | gemm_addresses()
        exec(compile(source, f"<compiled scan, {name}>", "exec"), space)  # our own text, made above
        functions.append(space[name])
    source = "\n\n".join([text, *(part for part, _, _ in parts)])
    return Loops(functions[0], functions[1] if differentiate else None, source, "numba")


def _lists(body: list[Group | Instruction]) -> list[list[Instruction]]:
    return [u.instructions if isinstance(u, Group) else [u] for u in body]


def _hidden(body: list[Group | Instruction]) -> set[Value]:
    return {v for u in body if isinstance(u, Group) for v in u.hidden}


class Module:
    """The generated module.

    Attributes:
        functions: source of each function.
        entries: names of those that are called from Python.
        products: whether BLAS is called from compiled code.
        tiles: how products with packed matrices are cut; `packed`, of how many bits their entries are.
    """

    def __init__(self) -> None:
        self.functions: list[str] = []
        self.entries: list[str] = []
        self.products = False
        self.tiles = tiles()
        self.packed: set[int] = set()

    def text(self) -> str:
        """The whole module."""
        from .blas import PRODUCTS

        imports = PRODUCTS if self.products else ""
        if self.packed:
            imports += self.tiles.source(self.packed)
        return HEADER.format(imports=imports) + "\n\n".join(self.functions) + "\n"


class Emitter:
    """Writes the body of one loop: kernels, and the loop around them."""

    def __init__(self, module: Module, name: str, body: list[Group | Instruction], reverse: bool,
                 backward: bool) -> None:
        self.module, self.name, self.body, self.reverse, self.backward = module, name, body, reverse, backward

    def __call__(self, w: Writer, _: list[Instruction]) -> None:
        """Add the loop's lines to the writer."""
        self.w = w
        self.arguments: dict[str, str] = {}  # canonical array or size -> its numba type
        self.sizes: dict[int, str] = {}
        self.scratch_rows, self.scratch_columns = 0, 1
        self.scratch_type = np.dtype(np.float32)
        lines: list[str] = []
        native = all(isinstance(u, Group) or self._native(u) for u in self.body) and not any(
            leaf.kind == "add" for leaf in w.lowered.leaves if self.backward)
        # what is copied at the end of a step must have two axes to be copied by compiled code
        native = native and all(len(v.shape) == 2 for v, _ in w.layout.copies) and not (
            self.backward and any(g is not None and d is None for g, d in zip(
                w.lowered.program.cotangents, w.lowered.program.dstate, strict=False)))
        native = native and bool(gemm_addresses())
        self.apart = self._rows_apart() if native else 0
        for k, unit in enumerate(self.body):
            if isinstance(unit, Group):
                lines.append(self._kernel(f"{self.name}_{k}", unit, not native))
            elif native:
                lines += self._products(unit)
            else:
                lines += statements(w, unit)
        if not native:
            self._scratch()
            w.loop += ["q, m = p & 1, n & 1", *lines]
            return
        for v, place in w.layout.copies:
            lines.append(f"{self._whole(place)} = {self._whole(w.layout.place[v])}")
        w.layout.copies = []
        if not lines:
            return
        self.module.products = True
        scratch = []
        if self.arguments.pop("Z_", None):
            width = self.size(self.scratch_columns)
            scratch.append(f"    Z_ = np.empty(({self.scratch_rows}, {width}), np.{self.scratch_type})")
        self.arguments = dict(sorted(self.arguments.items()))
        names = list(self.arguments)
        steps = "range(T)" if self.reverse == self.backward else "range(T - 1, -1, -1)"
        pair = "p, n = t + 1, t" if self.reverse else "p, n = t, t + 1"
        kinds = ", ".join(["types.intp"] * 5 + list(self.arguments.values()))
        self.module.functions.append("\n".join([
            f"@njit(types.void({kinds}), **OPTIONS)",
            f"def {self.name}_loop(first, last, T, SGEMM, DGEMM, {', '.join(names)}):", *scratch,
            f"    for t in {steps}:", f"        {pair}", "        q, m = p & 1, n & 1",
            *(f"        {line}" for line in lines)]))
        self.module.entries.append(f"{self.name}_loop")
        arguments = f"T, SGEMM, DGEMM, {', '.join(names)}"
        w.native = f"{self.name}_loop(0, 0, {arguments})"
        if self.apart:
            w.namespace["in_parts"] = in_parts
            w.native = f"in_parts(lambda first, last: {self.name}_loop(first, last, {arguments}), {self.apart})"

    def size(self, n: int) -> str:
        """A size as an argument, so that one module serves all sizes. Unsigned: no index is checked for its sign."""
        name = self.sizes.get(n)
        if name is None:
            name = self.sizes[n] = f"d{len(self.sizes)}"
            self.w.before.append(f"{name} = {n}")
        self.arguments[name] = "types.uintp"
        return name

    def _rows_apart(self) -> int:
        """The rows of the loop's values, if none of them needs another row and the loop may run in parts; else 0."""
        layout = self.w.layout
        counts = {v.shape[0] for v, _ in layout.copies}

        def changes(v: Value) -> bool:
            return v in layout.place and layout.place[v].root in layout.roots

        for unit in self.body:
            if isinstance(unit, Group):
                counts.add(unit.rows)
                reads = [a for i in unit.instructions for a in accesses(i, self.w.lowered) or () if a is not None]
                if any(a.mode in ("row", "scalar") and (changes(a.value) or a.value in unit.hidden) for a in reads):
                    return 0
            elif unit.primitive is matmul:
                counts.add(unit.result.shape[0])
                if not (unit.values[1] in self.w.lowered.invariant and self.module.tiles.fit(unit, shared=True)):
                    return 0
            else:
                counts.add(unit.result.shape[0])
        return counts.pop() if len(counts) == 1 else 0

    # -- instructions that are not elementwise ----------------------------------------------------------------------

    def _native(self, i: Instruction) -> bool:
        """Whether compiled code can do it."""
        if i.primitive.name == "concatenate":
            return len(i.result.shape) == 2 and i.metadata["axis"] % 2 == 1 and self._columns(i.result) and all(
                (id(i), k) in self.w.layout.in_place or (type(v) is Value and self._columns(v))
                for k, v in enumerate(i.operands))
        return i.primitive is matmul and i.values == list(i.operands) and all(
            len(v.shape) == 2 and v.dtype == i.result.dtype and self._reachable(v) for v in (*i.values, i.result)) \
            and i.result.dtype in (np.float32, np.float64) and all(math.prod(v.shape) for v in i.values)

    def _reachable(self, v: Value) -> bool:
        """Whether it lies in one piece."""
        place = self.w.layout.place.get(v)
        return self._columns(v) and (place is None or not place.part or place.part[-1] == slice(None))

    def _columns(self, v: Value) -> bool:
        """Whether it is some columns of an array."""
        place = self.w.layout.place.get(v)
        if place is None:
            return v in self.w.lowered.invariant
        return all(s == slice(None) for s in place.part[:-1])

    def _products(self, i: Instruction) -> list[str]:
        if i.primitive is matmul:
            left, right = i.values
            sizes = ", ".join(map(self.size, (*left.shape, right.shape[1])))
            bits = 8 * i.result.dtype.itemsize
            if right in self.w.lowered.invariant and self.module.tiles.fit(i, shared=bool(self.apart)):
                rows = "first, last" if self.apart else f"0, {self.size(left.shape[0])}"
                sizes = ", ".join(map(self.size, right.shape))
                return [f"product{bits}({rows}, {sizes}, {self._at(left)}, {self._panels(right)}, "
                        f"{self._at(i.result)})"]
            kind = {32: "sgemm", 64: "dgemm"}[bits]
            a, b, c = (self._at(v) for v in (left, right, i.result))
            return [f"{kind}({kind.upper()}, {sizes}, {a}, {b}, {c})"]
        found = []
        for k, v in enumerate(i.operands):
            if (id(i), k) not in self.w.layout.in_place:
                assert type(v) is Value
                start = contiguous_part(i, k)[-1].start or 0
                rows = self._range(v.shape[0])
                found += [f"for r in {rows}:", f"    for k in range({self.size(v.shape[1])}):",
                          f"        {self._cell(i.result, start)} = {self._cell(v, 0)}"]
        return found

    def _range(self, rows: int) -> str:
        """The rows that a compiled loop walks over."""
        return "range(types.uintp(first), types.uintp(last))" if self.apart else f"range({self.size(rows)})"

    def _panels(self, v: Value) -> str:
        """A matrix that does not change in the loop, packed before it."""
        bits = 8 * v.dtype.itemsize
        if bits not in self.module.packed:
            self.module.packed.add(bits)
            self.module.entries.append(f"pack{bits}")
        known = self.w.value(v)
        self._bind(f"{known}_panels = pack{bits}({known})")
        self.arguments[f"{known}_panels"] = _array_type(v.dtype, 1, False)
        return f"{known}_panels"

    def _cell(self, v: Value, start: int) -> str:
        """The entry of a matrix in row r and column start + k."""
        place = self.w.layout.place.get(v)
        if place is not None and place.part:
            start += place.part[-1].start or 0
        index = [*([self.w.time(place)] if place is not None and place.time else []), "r",
                 f"k + {self.size(start)}" if start else "k"]
        return f"{self._computed(v) if place is None else self._array(place.root)}[{', '.join(index)}]"

    def _at(self, v: Value) -> str:
        """The same as an array and an offset into it."""
        place = self.w.layout.place.get(v)
        if place is None:
            return f"{self._computed(v)}, 0"
        offset = f"{self.w.time(place)} * types.intp({self.size(math.prod(v.shape))})" if place.time else "0"
        return f"{self._array(place.root)}, {offset}"

    def _whole(self, place: Place) -> str:
        """The array at a place, as canonical arrays have it."""
        index = [*([self.w.time(place)] if place.time else []), "first:last" if self.apart else ":",
                 *([f"{place.part[-1].start}:{place.part[-1].stop}"] if place.part else [])]
        return f"{self._array(place.root)}[{', '.join(index)}]"

    # -- arrays -----------------------------------------------------------------------------------------------------

    def _array(self, root: Root) -> str:
        """The canonical form of a root: (time, rows, columns) or (rows, columns), contiguous."""
        name = f"{root.name}_"
        if name not in self.arguments:
            rows, columns = rows_and_columns(root.shape)
            timed = root.kind in ("input", "stack", "history", "ring")
            fixed = root.kind in ("input", "closure") or (self.backward and root not in self.w.layout.roots)
            shape = f"(-1, {rows}, {columns})" if timed else f"({rows}, {columns})"
            whole = f"np.ascontiguousarray({root.name})" if root.kind == "closure" else root.name
            self._bind(f"{name} = {whole}.reshape{shape}")
            self.arguments[name] = _array_type(root.dtype, 3 if timed else 2, fixed)
        return name

    def _computed(self, v: Value) -> str:
        """The canonical form of something computed before the loop."""
        known = self.w.value(v)
        name = f"{known}_"
        if name not in self.arguments:
            rows, columns = rows_and_columns(v.shape)
            self._bind(f"{name} = np.ascontiguousarray({known}).reshape({rows}, {columns})")
            self.arguments[name] = _array_type(v.dtype, 2, True)
        return name

    def _bind(self, line: str) -> None:
        if line not in self.w.before:
            self.w.before.append(line)

    def _scratch(self) -> None:
        if self.scratch_rows:
            self.w.before.append(f"Z_ = np.empty(({self.scratch_rows}, {self.scratch_columns}), "
                                 f"{self.w.constant(self.scratch_type)})")

    # -- kernels ----------------------------------------------------------------------------------------------------

    def _kernel(self, name: str, group: Group, entry: bool) -> str:
        """Write one kernel; the line that calls it."""
        before = dict(self.arguments)
        self.arguments = {}
        slots: dict[Value, str] = {}
        lines: list[str] = []
        rows = self._range(group.rows)
        for loop in group.loops:
            lines += self._loop(loop, group, slots)
        used = self.arguments
        self.arguments = before | used
        if any(s.startswith("Z_") for s in slots.values()):
            used["Z_"] = self.arguments["Z_"] = _array_type(self.scratch_type, 2, False)
        used = dict(sorted(used.items()))
        names = ", ".join([*(["first", "last"] if self.apart else []), "t", "p", "n", "q", "m", *used])
        signature = ""
        if entry:
            signature = f"types.void({', '.join(['types.intp'] * 5 + list(used.values()))}), "
            self.module.entries.append(name)
        self.module.functions.append("\n".join([
            f"@njit({signature}**OPTIONS)", f"def {name}({names}):", f"    for r in {rows}:",
            *(f"        {line}" for line in lines)]))
        return f"{name}({names})"

    def _loop(self, loop: Loop, group: Group, slots: dict[Value, str]) -> list[str]:
        """The lines of one loop over columns."""
        v = loop.value
        columns = rows_and_columns(v.shape)[1]
        mine = {i.result: i for i in group.instructions}
        body = Body(self, mine, slots)
        result = body.expression(mine[v], 0)
        if v in group.hidden:
            if columns == 1:
                slots[v] = f"z{len(slots)}"
                return [re.sub(r"\bk\b", "0", line) for line in (*body.lines, f"{slots[v]} = {result}")]
            if self.scratch_rows and self.scratch_type != v.dtype:
                raise Unsupported("scratch rows of two dtypes")
            self.scratch_type = v.dtype
            slots[v] = f"Z_[{self.scratch_rows}, "
            self.scratch_rows += 1
            self.scratch_columns = max(self.scratch_columns, columns)
            target = f"{slots[v]}k]"
        else:
            target = self.entry(v, Access(v, 0, "full"), 0)
        return [f"for k in range({self.size(columns)}):", *(f"    {line}" for line in body.lines),
                f"    {target} = {result}"]

    def entry(self, v: Value, access: Access, shift: int) -> str:
        """One entry of a stored value."""
        place = self.w.layout.place.get(v)
        start = access.start
        if place is None:
            if v not in self.w.lowered.invariant:
                raise Unsupported(f"{v!r} has no place")
            name, index = self._computed(v), []
        else:
            if any(s != slice(None) for s in place.part[:-1]):
                raise Unsupported("a part along another axis than the last")
            if place.part:
                if len(place.part) != len(place.root.shape):
                    raise Unsupported("a part along another axis than the last")
                start += place.part[-1].start
            name = self._array(place.root)
            index = [self.w.time(place)] if place.time else []
        row = "0" if access.mode in ("row", "scalar") else "r"
        if access.mode in ("column", "scalar"):
            column = str(start)
        else:
            column = f"k + {self.size(start + shift)}" if start + shift else "k"
        return f"{name}[{', '.join([*index, row, column])}]"


def _array_type(dtype: np.dtype[Any], ndim: int, fixed: bool) -> str:
    name = "boolean" if dtype.kind == "b" else str(dtype)
    return f"types.Array(types.{name}, {ndim}, 'C', readonly={fixed})"


__all__ = ["Layout", "Unsupported", "compile_numba", "is_view"]

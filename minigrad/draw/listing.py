"""The graph as text: a program with its loops rolled up. What a screen reader reads, and what tests
compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from .graph import Item
from .labels import CIRCLES, clean, norm, shape_text, subscript
from .runs import Analysis, Key, Run

MOST = 2000


def listing(found: Analysis, title: str = "") -> str:
    """One value a line: name, operation, operands, shape, gradient. A run is shown once, as a loop."""
    return "\n".join([*([clean(title, 200)] if title else []), *_Listing(found).lines()])


class _Listing:
    def __init__(self, found: Analysis) -> None:
        self.found = found
        self.rolled = [] if found.failed else found.runs
        self.names: dict[tuple[Item, str], str] = {}
        self.taken: set[str] = set()
        self.again: dict[tuple[str, str], int] = {}
        self.numbers = count(1)
        self.inside = {item for run in self.rolled for column in run.columns for item in column.values()}

    def name(self, item: Item, suffix: str = "") -> str:
        """A name for a value: unique, or with `suffix` the name that stands for it in every turn of a
        loop."""
        found = self.names.get((item, suffix))
        if found is None:
            plain = item.name or ("x" if item.kind in ("slice", "input") else "") if suffix else self.found.name(item)
            base = clean(plain, 50) if plain else "" if item.kind == "op" else item.kind
            found = (base or f"%{next(self.numbers)}") + suffix
            while found in self.taken and not (suffix and base):
                k = self.again[base, suffix] = self.again.get((base, suffix), 1) + 1
                found = f"{base}.{k}{suffix}"
            self.taken.add(found)
            self.names[item, suffix] = found
        return found

    def outside(self, item: Item) -> str:
        """A name for a value of one step, as seen from outside the loop."""
        home = self.found.place[item]
        return f"{clean(item.name, 50)}{subscript(home[0].times[home[1]])}" if item.name else self.name(item)

    def lines(self) -> Iterator[str]:
        graph = self.found.graph
        for kind, word in (
            ("input", "input"),
            ("constant", "constant"),
            ("mask", "mask"),
            ("parameter", "parameter"),
        ):
            for item in graph.items:
                if item.kind == kind and item not in self.inside and (item.cut or not self._initial(item)):
                    yield self._row(f"{'detached' if item.cut else word} {self.name(item)}", item, "")
        printed: set[Run] = set()
        rows = 0
        for item in graph.items:
            home = self.found.place.get(item) if item in self.inside else None
            if home is not None:
                if home[0] not in printed:
                    printed.add(home[0])
                    yield from self._loop(home[0])
                continue
            if item.kind not in ("op", "slice"):
                continue
            rows += 1
            if rows > MOST:
                yield f"… {sum(i.kind == 'op' for i in graph.items) - MOST + graph.unlisted} more operations"
                return
            yield self._row(self.name(item), item, self._operation(item, None, 0))
        if graph.unlisted:
            yield f"… {graph.unlisted} more operations"
        yield "return " + ", ".join(self.name(item) for item in graph.outputs)

    def _initial(self, item: Item) -> bool:
        return any(
            run.bodies[0][p] is not None and k < len(user.inputs) and user.inputs[k] is item
            for run in self.rolled
            for state in run.states
            for p, k in state.uses
            if (user := run.bodies[0][p]) is not None
        )

    def _row(self, left: str, item: Item, operation: str, indent: str = "", grad: str = "") -> str:
        text = f"{indent}{left} = {operation}" if operation else f"{indent}{left}"
        shape = shape_text(item.shape, item.dtype if self.found.graph.mixed_dtypes else "")
        grad = grad or (norm(item.grad) if item.grad is not None else "")
        return f"{text:<52}  {shape:<14}  {grad}".rstrip()

    def _operation(self, item: Item, run: Run | None, step: int) -> str:
        words = []
        for k, source in enumerate(item.inputs):
            home = self.found.place.get(source) if source in self.inside else None
            state = None
            if run is not None and item in self.found.position:
                p = self.found.position[item]
                state = next((s for s in run.states if (p, k) in s.uses), None)
            if state is not None and run is not None:
                words.append(f"{clean(state.name, 50) or 'state'}{'ₜ₊₁' if run.reverse else 'ₜ₋₁'}")
            elif run is not None and home is not None and home[0] is run:
                words.append(self._of(source, home))
            elif run is not None and home is not None and home[0].times[home[1]] == run.times[step]:
                # the same step of another loop
                title = clean(home[0].title, 50)
                words.append(self._of(source, home) + (f" of {title}" if title and title != run.title else ""))
            else:
                words.append(self.outside(source) if home is not None else self.name(source))
        symbol = item.op if item.symbol == item.op or item.op in ("getitem", "sigmoid", "standardize") else item.symbol
        symbol = {"getitem": "slice" if item.kind == "slice" else "gather"}.get(symbol, symbol)
        if item.kind == "slice":
            symbol = "slice"
        if len(words) == 2 and symbol in ("+", "−", "×", "÷"):
            left, right = (f"({word})" if " " in word else word for word in words)
            return f"{left} {symbol} {right}"
        if len(words) == 1 and symbol[:1] in CIRCLES and symbol[1:2] == " ":
            return f"{words[0]} {symbol}"
        if len(words) == 1 and symbol[-1:] in CIRCLES and symbol[-2:-1] == " ":
            return f"{symbol} {words[0]}"
        if len(words) > 6:
            words = [*words[:2], "…", words[-1]]
        return f"{symbol}({', '.join(words)})"

    def _of(self, item: Item, home: tuple[Run, int]) -> str:
        """What a value of a loop is called in it."""
        at = self.found.position.get(item)
        return self.name(item if at is None else home[0].usual[at], "ₜ")

    def _loop(self, run: Run) -> Iterator[str]:
        times = f"{run.times[0]} … {run.times[-1]}"
        carried = ", ".join(
            f"{clean(s.name, 50) or 'state'} {shape_text(run.usual[s.source].shape)}" for s in run.states
        )
        words = "; ".join(filter(None, (run.title, f"carried: {carried}" if carried else "")))
        yield f"for t = {times}:  # {words}"
        # what the pattern lacks stands where other steps have it
        column: dict[Key, Item] = run.columns[run.pattern] | {("at", p): item for p, item in enumerate(run.usual)}
        order: dict[Key, tuple[int, int]] = {key: (item.index, 0) for key, item in column.items()}
        last = 0
        for p, item in enumerate(run.usual):
            last = item.index if self.found.place[item][1] == run.pattern else last
            order["at", p] = (last, p)
        for key, item in sorted(column.items(), key=lambda pair: order[pair[0]]):
            grads = [c[key].grad for c in run.columns if key in c]
            known = [g for g in grads if g is not None]
            grad = ""
            if known:
                grad = norm(known[0]) if len(known) == 1 else f"{norm(known[0])} … {norm(known[-1])[7:]}"
            operation = self._operation(item, run, run.pattern) if item.kind in ("op", "slice") else ""
            left = self.name(item, "ₜ") if operation else f"{item.kind} {self.name(item, 'ₜ')}"
            yield self._row(left, item, operation, "    ", grad)

"""The program of a compiled loop, before and after rewriting, side by side.

    mg.draw(mg.explain(step, state, inputs)).save("program.svg")

One step forward, and its gradient in a second colour. Nothing is folded here: casts, reshapes and products by one
are what the rewriting takes away.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .graph import Graph, Item, symbol_of
from .labels import clean, number
from .model import Cluster, Picture
from .ops import draw_ops
from .runs import Analysis

if TYPE_CHECKING:
    from ..compile.program import Instruction, Program
    from ..compile.run import CompiledScan

GAP = 50.0


def before_and_after(scan: CompiledScan) -> list[tuple[str, Program]]:
    """The programs of a compiled scan: as traced and differentiated, and as rewritten."""
    from ..compile.differentiate import differentiate
    from ..compile.passes import dead_code

    program = dead_code(scan.traced)
    if scan.differentiable:
        a, b = len(program.state), len(program.state) + len(program.xs)
        program = differentiate(program, scan.needs[a:b], scan.needs[b:])
    return [("as traced", program), ("rewritten", scan.rewritten)]


def draw_programs(parts: list[tuple[str, Program]], title: str) -> tuple[Picture, Analysis]:
    """One program beside the other; and the last of them as a graph."""
    picture = Picture(title)
    sizes = []
    left = 0.0
    graph = Graph([], [], 0)
    for name, program in parts:
        graph = graph_of_program(program)
        drawn = draw_ops(graph, name, lambda item: item.name, clusters=False)
        lows = min(box.left for box in drawn.boxes), min(box.top for box in drawn.boxes)
        for edge in drawn.edges:
            lows = min(lows[0], *(x for x, _ in edge.path)), lows[1]
        dx, dy = left + 14 - lows[0], 26 - lows[1]
        for box in drawn.boxes:
            box.x, box.y = box.x + dx, box.y + dy
        for edge in drawn.edges:
            edge.path = [(x + dx, y + dy) for x, y in edge.path]
            edge.drawn = [(x + dx, y + dy) for x, y in edge.drawn] if edge.drawn is not None else None
        right = max(*(box.right for box in drawn.boxes), *(x for e in drawn.edges for x, _ in e.path)) + 14
        bottom = max(box.bottom for box in drawn.boxes) + 14
        count = f"{name}: {graph.operations} operations"
        picture.clusters.append(Cluster(count, left, 0.0, right, bottom, drawn.boxes))
        picture.boxes += drawn.boxes
        picture.edges += drawn.edges
        sizes.append(f"{name} {graph.operations} operations")
        left = right + GAP
    picture.description = f"one step of a compiled loop: {', '.join(sizes)}"
    return picture, Analysis(graph, [])


def graph_of_program(program: Program) -> Graph:
    """The items of a program: its placeholders, its instructions, and what it gives marked as outputs."""
    made: dict[Any, Item] = {}
    items: list[Item] = []
    names = {value: value.name or "" for value in program.placeholders}
    for before, after in zip(program.state, program.new_state, strict=True):
        names[before] = f"{after.name or before.name or 'state'}ₜ₋₁"
    for k, (value, of) in enumerate(zip(program.cotangents, [*program.new_state, *program.ys], strict=False)):
        if value is not None:
            names[value] = f"∂L/∂{of.name or f'output {k}'}"

    def source(values: Iterable[Any], kind: str, gradient: bool = False) -> None:
        for value in values:
            if value is not None and value not in made:
                item = Item(len(items), kind, "", "", clean(names[value]), value.shape, str(value.dtype), None)
                item.gradient = gradient
                made[value] = item
                items.append(item)

    source(program.state, "state")
    source(program.xs, "input")
    source(program.closures, "parameter")
    source(program.constants, "constant")

    def read(instructions: list[Instruction], gradient: bool) -> None:
        for i in instructions:
            inputs = [made[o] for o in i.operands if o in made] if i.values else []
            texts = [(k, number(o)) for k, o in enumerate(i.operands) if isinstance(o, (int, float))]
            for value in i.results:
                item = Item(
                    len(items), "op", i.primitive.name, symbol_of(i.primitive.name, i.metadata, texts),
                    clean(value.name or ""), value.shape, str(value.dtype), None, list(inputs),
                    metadata=i.metadata, gradient=gradient,
                )  # fmt: skip
                made[value] = item
                items.append(item)

    read(program.forward, False)
    source(program.cotangents, "input", gradient=True)
    read(program.backward, True)
    outputs = [made[v] for v in (*program.new_state, *program.ys)]
    for item in outputs:
        item.output = True
    for value, of in zip(program.gradients, [*program.state, *program.xs, *program.closures], strict=False):
        if value is not None:
            made[value].name = made[value].name or f"∂L/∂{names[of] or 'input'}"
            outputs.append(made[value])
    used = {source for item in items for source in item.inputs} | set(outputs)
    kept = [item for item in items if item in used]
    return Graph(kept, outputs, len(program.forward) + len(program.backward))

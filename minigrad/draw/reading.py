"""What the drawing reads: a tape on which some nodes are left out, and others stand in their place.

A tape is never changed. `expand` puts the steps of a compiled loop in place of its one node, `shorten` leaves out the
middle of a long loop; both give a Reading, which says for each node what its inputs are now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..recording import Scope
from ..tape import Node, Output, Tape


@dataclass(slots=True, eq=False)
class Cut:
    """Steps left out of a loop. For each of them there is a step before the gap that does the same: its model.

    Attributes:
        after: the scope of the last step before the gap; one for each module that is called in every step.
        back: how far before that step the model of each missing step is, in steps.
        starts, models: where each missing step, and its model, begins in the whole list of nodes.
        next: where the next step is.
        loop: where the whole loop is, but for its last step.
        shift: how far the last missing step is from the one before the gap.
    """

    after: list[Scope]
    back: list[int]
    starts: list[int]
    models: list[int]
    next: range
    loop: range
    shift: int

    @property
    def count(self) -> int:
        """How many steps are missing."""
        return len(self.starts)


@dataclass(slots=True, eq=False)
class Reading:
    """The nodes to draw.

    Attributes:
        nodes: the operations, each after its inputs.
        roots: what was asked for.
        every: the operations before any were left out.
        cuts: what was left out of loops, by the scopes of the last step before the gap.
        other_inputs: inputs of nodes where they are not those on the tape.
        used: of nodes with several outputs, those that are used, by slot.
        scopes: what stands for scopes that are shown under another name.
        turns: what stands for scopes, as they are shown, that belong to the turns of a loop.
        loose: the turns of operations between the calls of such a loop.
    """

    nodes: Sequence[Node]
    roots: Sequence[Any]
    every: Sequence[Node]
    cuts: dict[Scope, Cut] = field(default_factory=dict)
    other_inputs: dict[Node, tuple[Any, ...]] = field(default_factory=dict)
    used: dict[Node, dict[int, Output]] = field(default_factory=dict)
    scopes: dict[Scope, Scope] = field(default_factory=dict)
    turns: dict[Scope, Scope] = field(default_factory=dict)
    loose: dict[Node, Scope] = field(default_factory=dict)

    def inputs(self, node: Node) -> tuple[Any, ...]:
        """The inputs of a node."""
        return self.other_inputs.get(node, node.inputs)

    def named(self, scope: Scope | None) -> Scope | None:
        """A scope under the name that is shown, where the user made it."""
        return _instead(self.scopes, scope) if self.scopes else scope

    def scope(self, scope: Scope | None) -> Scope | None:
        """A scope as it is shown: another one, if it or one around it has another name or is in a turn of a loop."""
        shown = self.named(scope)
        return _instead(self.turns, shown) if self.turns else shown

    def scope_of(self, node: Node) -> Scope | None:
        """The scope of an operation, as it is shown."""
        return self.loose.get(node) or self.scope(node.scope)

    def outputs(self, node: Node) -> dict[int, Output]:
        """Of a node with several outputs, those that are used, by slot."""
        return self.used.get(node, {})

    def find_used(self) -> None:
        """Fill in `used`."""
        self.used = {}
        inputs = self.other_inputs
        sources = (s for node in self.nodes for s in inputs.get(node, node.inputs) if type(s) is Output)
        for source in (*sources, *(r for r in self.roots if type(r) is Output)):
            self.used.setdefault(source.node, {})[source.slot] = source


def _instead(scopes: dict[Scope, Scope], scope: Scope | None) -> Scope | None:
    """What stands for a scope, or for one that is in another for which something stands."""
    way = []
    outer = scope
    while outer is not None and outer not in scopes:
        way.append(outer)
        outer = outer.parent
    found = scopes[outer] if outer is not None else None
    for s in reversed(way):
        found = scopes[s] = s if found is s.parent else Scope(s.name, found, s.label, s.step)
    return found


def whole(tape: Tape) -> Reading:
    """A tape as it is."""
    reading = Reading(tape.nodes, tape.roots, tape.nodes)
    reading.used = {node: found for node in tape.nodes if node.primitive.outputs and (found := tape.outputs(node))}
    return reading

"""Nodes of a task that cannot be sent what it asks any more: gone, or another cache by now.

Such a node takes part in the task as one that is unreachable does: its subtasks are rows of its delay queue,
with the reason, and what is below it is purged at once and again after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.tasks.plan import GONE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from engine.tasks.plan import Plan
    from engine.tasks.task import NodeRef, Share
    from engine.tasks.words import Operation


class Park(Protocol):
    """Moves subtasks to their node's delay queue; see `Dispatch.park`."""

    def __call__(self, share: Share, indexes: Sequence[int], reason: str) -> None:
        """Park them."""


class AbsentNode:
    """Stands in for a node; see `NodeRef`.

    Args:
        name: of the node.
        layer: that it was in, or is in.
        why: tells why it cannot be sent anything.
    """

    def __init__(self, name: str, layer: str, *, park: Park, why: Callable[[], str]) -> None:
        self.name = name
        self.layer = layer
        self._park = park
        self._why = why

    def __repr__(self) -> str:
        return f"<AbsentNode {self.name}>"

    def add(self, share: Share, indexes: Sequence[int]) -> None:
        """Put subtasks into the delay queue."""
        self._park(share, indexes, self._why())

    def add_backlog(self, share: Share, indexes: Sequence[int]) -> None:
        """Leave what the engine sends on its own account: the row that it is for stays."""
        self._park(share, indexes, self._why())

    def forget(self, share: Share, indexes: Sequence[int]) -> None:
        """Nothing waits here."""

    def postpone(self, _operation: Operation, _target: str) -> bool:
        """Nothing goes wrong here."""
        return True


class PlanNodes:
    """Finds the nodes of stored plans.

    Args:
        nodes: the configured ones, by name.
        why_gone: tells why the subtasks of a node that is not configured wait.
    """

    def __init__(self, nodes: Mapping[str, NodeRef], why_gone: Callable[[str], str]) -> None:
        self._nodes = nodes
        self._why_gone = why_gone

    def of(self, plan: Plan, park: Park) -> Mapping[str, NodeRef]:
        """Return name → node of all steps of a plan; one that lacks something parks what it is given."""
        if not any(step.lacks for step in plan.steps):
            return self._nodes
        nodes: dict[str, NodeRef] = {}
        for step in plan.steps:
            if not step.lacks:
                nodes[step.node] = self._nodes[step.node]
            else:
                nodes[step.node] = AbsentNode(
                    step.node, step.layer, park=park, why=self._why(step.node, step.lacks)
                )
        return nodes

    def _why(self, name: str, lacks: str) -> Callable[[], str]:
        if lacks == GONE:
            return lambda: self._why_gone(name)
        return lambda: lacks

"""Rows that tasks at work keep in memory, with a shared store: see `Parking`.

They are in no delay queue yet, so a delivery does not find them; the node is not ready before they have gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.tasks.words import Operation

if TYPE_CHECKING:
    from engine.nodes.node import Node
    from engine.tasks.records import Parked
    from engine.tasks.task import Task


class KeptRows:
    """Knows the tasks that keep rows, by node."""

    def __init__(self) -> None:
        self._tasks: dict[str, set[Task]] = {}

    def keep(self, name: str, task: Task) -> None:
        """A task keeps rows of a node."""
        self._tasks.setdefault(name, set()).add(task)

    def let_go(self, task: Task) -> None:
        """A task's rows are in the store by now, or are another engine's, or it was cancelled."""
        for name in dict.fromkeys(row.node for row in task.parked or ()):
            tasks = self._tasks.get(name, set())
            tasks.discard(task)
            if not tasks:
                self._tasks.pop(name, None)

    def has_for(self, node: Node) -> bool:
        """Tell whether tasks keep purges for a node that it could be sent by now."""
        return any(
            row.node == node.name and _may_be_sent(node, row)
            for task in self._tasks.get(node.name, ())
            for row in task.parked or ()
        )


def _may_be_sent(node: Node, row: Parked) -> bool:
    if row.after or row.operation == Operation.PREFETCH:
        return False
    postponed = node.postponed
    return not (
        postponed.is_waiting(row.operation, row.target) or postponed.holds.is_held(row.operation, row.target)
    )

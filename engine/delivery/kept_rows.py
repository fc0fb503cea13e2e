"""Rows that tasks at work keep in memory, with a shared store: see `Parking`.

They are in no delay queue yet, so a delivery does not find them; the node is not ready before they have gone,
on no engine of that store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.nodes.health import NodeState
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from engine.nodes.node import Node
    from engine.tasks.records import Parked
    from engine.tasks.task import Task


def _nothing() -> None:
    pass


@dataclass(slots=True)
class _Kept:
    """What one task keeps for one node."""

    count: int  # when it began to
    rows: list[Parked]


class KeptRows:
    """Knows the purges that wait for their node alone, by node and task, in the order in which tasks began.

    Other engines are told of the oldest with each beat, so rows that wait for parents are not looked through:
    those of 20,000 tasks for ten nodes took 0.15 s of the loop.
    """

    def __init__(self) -> None:
        self.elsewhere: Callable[[Node], Awaitable[bool]] | None = None  #: asks other engines for theirs
        self.on_first: Callable[[], None] = _nothing  #: told when a node has some for the first time
        self.count = 0  #: so often did a task begin to keep rows of a node
        self._tasks: dict[str, dict[Task, _Kept]] = {}

    def keep(self, name: str, task: Task, rows: list[Parked]) -> None:
        """A task keeps rows of a node, all of one operation, which wait for the same parents."""
        if not rows or rows[0].after or rows[0].operation == Operation.PREFETCH:
            return
        tasks = self._tasks.get(name)
        if tasks is None:
            tasks = self._tasks[name] = {}
            self.on_first()
        kept = tasks.get(task)
        if kept is None:
            self.count += 1
            tasks[task] = _Kept(self.count, rows)
        else:
            kept.rows += rows

    def let_go(self, task: Task) -> None:
        """A task's rows are in the store by now, or are another engine's, or it was cancelled."""
        for name in dict.fromkeys(row.node for row in task.parked or ()):
            tasks = self._tasks.get(name, {})
            tasks.pop(task, None)
            if not tasks:
                self._tasks.pop(name, None)

    async def has_for(self, node: Node) -> bool:
        """Tell whether tasks, here or elsewhere, keep purges for a node that it could be sent by now.

        Raises:
            StoreError: the other engines cannot be asked.
        """
        if self._oldest(node.name, node):
            return True
        return self.elsewhere is not None and await self.elsewhere(node)

    def told(self, nodes: Mapping[str, Node]) -> dict[str, int]:
        """Return what other engines are told: nodes that are not ready here → the count of their oldest.

        What is kept for a node that is ready here waits for something else than the node.
        """
        found: dict[str, int] = {}
        for name in self._tasks:
            node = nodes.get(name)
            if node is not None and node.state is NodeState.READY:
                continue
            oldest = self._oldest(name, node)
            if oldest:
                found[name] = oldest
        return found

    def _oldest(self, name: str, node: Node | None) -> int:
        """Return the count of the first task with a row that the node could be sent; 0: there is none."""
        for kept in self._tasks.get(name, {}).values():
            if node is None or any(_may_be_sent(node, row) for row in kept.rows):
                return kept.count
        return 0


def _may_be_sent(node: Node, row: Parked) -> bool:
    postponed = node.postponed
    return not (
        postponed.is_waiting(row.operation, row.target) or postponed.holds.is_held(row.operation, row.target)
    )

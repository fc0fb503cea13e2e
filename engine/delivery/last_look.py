"""Rows of a node that is an engine, and that waited too long: it is asked once whether it has done them."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

from engine.tasks.lower import Lower
from engine.tasks.task import Share, Task
from engine.tasks.words import LAST, Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.tasks.records import ParkedRow
    from engine.tasks.task import NodeRef


class LastLook:
    """Owns the subtasks that are asked for; nothing of them is handed down.

    What the engine cannot be asked for now stays a row.

    Args:
        node: whose rows these are.
        known: task → what it was handed of it.
    """

    def __init__(self, node: NodeRef, known: Mapping[str, Lower]) -> None:
        self.done_rows: list[ParkedRow] = []
        self.failed_rows: list[ParkedRow] = []  #: it has not done them, or does not tell
        self._node = node
        self._known = known
        self._rows: dict[tuple[Share, int], list[ParkedRow]] = {}
        self._unanswered = 0
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ask(self, rows: Sequence[ParkedRow]) -> None:
        """Ask for *rows*, those of a task together."""
        by_task: dict[tuple[int, str], dict[str, list[ParkedRow]]] = {}
        for row in rows:
            by_task.setdefault((row.operation, row.task_id), {}).setdefault(row.target, []).append(row)
        self._unanswered = sum(map(len, by_task.values()))
        if not self._unanswered:
            return
        for (operation, task_id), targets in by_task.items():
            task = Task.internal(list(targets), owner=self, task_id=f"{LAST}{task_id}")
            task.lower = {self._node.name: self._known.get(task_id, Lower())}
            share = Share(task, self._node, Operation(operation), len(targets))
            for index, of_target in enumerate(targets.values()):
                self._rows[share, index] = of_target
            self._node.add_backlog(share, range(len(targets)))
        await self._over

    # Owner of the subtasks

    def acked(self, share: Share, indexes: Sequence[int], *, is_absent: bool = False) -> None:
        """Note rows that were done."""
        for index in indexes:
            self.done_rows += self._rows[share, index]
        self._count_answered(len(indexes))

    def failed(self, share: Share, indexes: Sequence[int], reason: str) -> None:
        """Note rows that were not done, whatever the engine says of them."""
        for index in indexes:
            self.failed_rows += self._rows[share, index]
        self._count_answered(len(indexes))

    def parked(self, share: Share, indexes: Sequence[int]) -> None:
        """The node went down: the rows stay."""
        self._count_answered(len(indexes))

    def postponed(self, share: Share, indexes: Sequence[int]) -> None:
        """It refuses to be asked, or proves nothing: the rows stay."""
        self._count_answered(len(indexes))

    def acked_beside(self, _share: Share, _index: int, _began_at: float, _now: float) -> float:
        """It counts."""
        return -inf

    def _count_answered(self, count: int) -> None:
        self._unanswered -= count
        if self._unanswered <= 0 and not self._over.done():
            self._over.set_result(None)

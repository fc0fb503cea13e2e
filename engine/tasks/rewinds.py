"""Rewinds that are under way, as the tasks in memory tell them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.tasks.words import FINAL_STATES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.tasks.task import Task


class Rewind(msgspec.Struct):
    """The rewind of one node."""

    name: str
    since: float  #: when it began, UNIX time
    targets: int = 0  #: of its tasks that are not over
    tasks: list[str] = []  #: their ids

    @property
    def reason(self) -> str:
        """Why the node is not ready, for people."""
        return f"{self.name}: {self.targets} targets are to be sent once more"


def rewinds_of(tasks: Iterable[Task]) -> dict[str, Rewind]:
    """Return node → its rewind, of those that have tasks which are not over."""
    rewinds: dict[str, Rewind] = {}
    for task in tasks:
        if task.plan is None or task.state in FINAL_STATES or task.is_lost or not task.is_committed:
            continue
        for step in task.plan.steps:
            rewind = rewinds.setdefault(step.node, Rewind(task.rewind, task.created_at))
            rewind.since = min(rewind.since, task.created_at)
            rewind.targets += len(task.targets)
            rewind.tasks.append(task.id)
    return rewinds

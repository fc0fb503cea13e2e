"""Subtasks that cannot be sent now: the rows they leave in delay queues.

With a shared store the rows of a task are kept in the task until nothing of it is on its way any more, and
are then written with its document; from there on it is every engine's. So the count of a task is changed by
one engine as long as it works on it, and by the store afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.tasks import documents
from engine.tasks.records import Parked
from engine.tasks.words import DELAYED, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.delivery.kept_rows import KeptRows
    from engine.observe.counters import Stats
    from engine.tasks.task import Share, Task


class DelayRows(Protocol):
    """The delay queues, as far as tasks in memory need them."""

    def park(self, node: str, task_id: str, rows: list[Parked]) -> None:
        """Add a task's rows to a node's queue."""

    def unpark(self, task_id: str, counts: dict[str, int]) -> None:
        """Drop all rows of a task that is cancelled: node → how many there are."""

    def written(self, rows: list[Parked]) -> None:
        """Count rows that went into a shared store with their task."""


class Park(Protocol):
    """Makes rows of subtasks; see `Parking.park`."""

    def __call__(self, share: Share, indexes: Sequence[int], reason: str, *, after: str = "") -> None:
        """Park *indexes* of a share."""


class Parking:
    """Parks subtasks of tasks in memory.

    Args:
        rows: the delay queues.
        kept: told which tasks keep rows.
        now: UNIX time that rows come at; a shared store has a clock of its own.
        is_shared: other engines work with the same store.
    """

    def __init__(
        self, rows: DelayRows, stats: Stats, kept: KeptRows, *, now: Callable[[], float], is_shared: bool
    ) -> None:
        self._rows = rows
        self._stats = stats
        self._kept = kept
        self._now = now
        self._is_shared = is_shared

    def park(
        self,
        share: Share,
        indexes: Sequence[int],
        reason: str,
        *,
        after: str = "",
        tells_each: bool = False,
    ) -> None:
        """Turn subtasks into rows of their node's delay queue; they are `DELAYED` from here on.

        Args:
            share: of a client's task.
            indexes: its targets.
            reason: why they wait, as the task says it.
            after: shares whose own delivery must come first, as rows call them (`token_of`); empty: none.
            tells_each: the reason is that of each target; otherwise the task says it once a node.
        """
        task = share.task
        now = 0.0 if self._is_shared else self._now()
        for index in indexes:
            share.states[index] = DELAYED
        if tells_each:
            for index in indexes:
                documents.add_error(task, share.node.name, task.targets[index], reason)
        elif not share.delayed_count and not after:
            documents.add_error(task, share.node.name, task.targets[indexes[0]], reason)
        share.delayed_count += len(indexes)
        self._stats.subtasks_delayed += len(indexes)
        name = share.node.name
        operation = int(share.operation)
        rows = [Parked(name, operation, task.targets[index], task.id, after, now) for index in indexes]
        if not self._is_shared:
            self._rows.park(name, task.id, rows)
            return
        if task.parked is None:
            task.parked = []
        task.parked += rows
        self._kept.keep(name, task, rows)

    def take_back(self, task: Task, counts: dict[str, int]) -> None:
        """Drop the rows of a task that is cancelled: node → how many there are."""
        if task.parked:
            self.let_go(task)
        task.parked = None
        if counts and not self._is_shared:
            self._rows.unpark(task.id, counts)

    def let_go(self, task: Task) -> None:
        """Keep nothing of a task here any more."""
        self._kept.let_go(task)

    def written(self, task: Task) -> None:
        """A task's rows are in a shared store, with its document."""
        if task.parked:
            self._rows.written(task.parked)


def behind_parents(ready: list[int], parents: Sequence[Share]) -> tuple[list[int], dict[str, list[int]]]:
    """Tell apart targets by which of *parents* are `DELAYED` for them.

    Returns:
        The targets of which no parent is, and: names of the parents, as rows call them → targets.
    """
    rest: list[int] = []
    behind: dict[str, list[int]] = {}
    for index in ready:
        names = [token_of(parent) for parent in parents if parent.states[index] == DELAYED]
        if names:
            behind.setdefault(",".join(names), []).append(index)
        else:
            rest.append(index)
    return rest, behind


def token_of(share: Share) -> str:
    """Return what a delay-queue row calls a share it waits for."""
    return f"{share.node.name}:f" if share.operation is Operation.PREFETCH else share.node.name

"""Purges sent early: now, below a parent whose purge cannot be sent or does not count yet, and again later.

One dead parent must not keep every edge stale. Nobody waits for the answers: until the parent has been purged
the edge may fetch the old object from it again, so only the purge after that counts.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from engine.tasks.task import Share, Task
from engine.tasks.words import BLOCKED, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from engine.tasks.records import ParkedRow
    from engine.tasks.task import NodeRef


class _Early:
    """Owner of purges sent early."""

    def acked(self, share: Share, indexes: Sequence[int], *, is_absent: bool = False) -> None:
        """Nothing to do: the one after the parent's counts."""

    def failed(self, share: Share, indexes: Sequence[int], reason: str) -> None:
        """Nothing to do: the next one will be seen to fail too."""

    def parked(self, share: Share, indexes: Sequence[int]) -> None:
        """Nothing to do: its row is in the delay queue, and is sent early when the node returns."""

    def postponed(self, share: Share, indexes: Sequence[int]) -> None:
        """Nothing to do: as above."""

    def acked_beside(self, _share: Share, _index: int, _began_at: float, _now: float) -> float:
        """Nothing to do: the one after the parent's waits for the prefetches."""
        return -inf


_EARLY: Final = _Early()


def send_early(node: NodeRef, operation: Operation, targets: list[str], task_id: str) -> None:
    """Purge *targets* of a task on *node* now."""
    early = Task.internal(targets, owner=_EARLY, task_id=task_id)
    # With what else has an owner: a share's lane may stand in one queue only.
    node.add_backlog(Share(early, node, operation, len(targets)), range(len(targets)))


def send_below(share: Share, indexes: Sequence[int]) -> None:
    """Purge now what waits for purges of *share* that do not count yet, and what waits for that."""
    task = share.task
    for child in share.children or ():
        waiting = [index for index in indexes if child.states[index] == BLOCKED]
        if waiting and child.operation is not Operation.PREFETCH:
            send_early(child.node, child.operation, [task.targets[index] for index in waiting], task.id)
            send_below(child, waiting)


def send_rows_early(node: NodeRef, rows: Iterable[ParkedRow], *, cannot: Callable[[int, str], bool]) -> None:
    """Purge what *rows* of *node* ask for now; each once, and no prefetch.

    Args:
        node: whose rows these are.
        rows: that wait for parents.
        cannot: tells of operation and target that the node, which may be another cache by now, cannot do it.
    """
    wanted: dict[int, dict[str, None]] = {}
    for row in rows:
        if row.operation != Operation.PREFETCH and not cannot(row.operation, row.target):
            wanted.setdefault(row.operation, {})[row.target] = None
    for operation, targets in wanted.items():
        send_early(node, Operation(operation), list(targets), "early")

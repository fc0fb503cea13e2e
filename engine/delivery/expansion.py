"""From the plan of a task to its shares, which of them wait for which, and what an engine before had done.

A share without parents is sent at once; the others wait target by target for all of their parents. A purge
that fetches again has a second share for each node, behind the node's purge and the parents' prefetches. With
a rebound the second purges lie in between: at the top behind the first purges of all nodes, below that behind
the second purges of their parents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.tasks.lower import narrow_of
from engine.tasks.task import Share, Task
from engine.tasks.words import ACKED, BLOCKED, Operation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.delivery.rebound import Rebound
    from engine.tasks.records import Progress
    from engine.tasks.task import NodeRef, Rebounds

_BYTE_MAX: Final = 255
_PREFETCH: Final = Operation.PREFETCH  # looked up once: see `health`


def shares_of(
    task: Task,
    nodes: Mapping[str, NodeRef],
    rebound: Rebound | None = None,
    visits: Rebounds | None = None,
) -> list[Share]:
    """Return the shares of a task by its plan, linked to their parents; every subtask is `BLOCKED`.

    Args:
        task: of a client, or of the journal.
        nodes: by name.
        rebound: takes the shares of its second purges; None: there are none.
        visits: told what was acked on each node; None: nobody is.
    """
    plan = task.plan
    assert plan is not None
    count = len(task.targets)
    purges: list[Share] = []
    for step in plan.steps:
        share = Share(task, nodes[step.node], step.operation, count)
        if step.parents:
            _link(share, [purges[index] for index in step.parents])
        purges.append(share)
    before = purges if rebound is None else _again(task, purges, rebound)
    fetches: list[Share] = []
    if task.prefetch:
        for own, step in zip(before, plan.steps, strict=True):
            share = Share(task, own.node, _PREFETCH, count)
            _link(share, [own, *(fetches[index] for index in step.parents)])
            fetches.append(share)
    if visits is not None:
        _visit(task, fetches or before, visits)
    return purges + fetches


def _visit(task: Task, last: list[Share], visits: Rebounds) -> None:
    """Put a share behind each node's last one, of which nothing is sent: it is told what was acked there."""
    internal = Task.internal(task.targets, owner=visits, task_id=task.id)
    internal.rebound = visits
    for share in last:
        _link(Share(internal, share.node, _PREFETCH, len(task.targets)), [share])


def _again(task: Task, purges: list[Share], rebound: Rebound) -> list[Share]:
    """Return the shares of second purges; they are of an internal task."""
    assert task.plan is not None
    internal = Task.internal(task.targets, owner=rebound, task_id=task.id)
    internal.rebound = rebound
    internal.lower = narrow_of(task.plan) if task.plan.is_narrow else None
    again: list[Share] = []
    for purge, step in zip(purges, task.plan.steps, strict=True):
        share = Share(internal, purge.node, purge.operation, len(task.targets))
        _link(share, [again[index] for index in step.parents] or purges)
        rebound.take(share, purge)
        again.append(share)
    return again


def _link(share: Share, parents: list[Share]) -> None:
    share.parents = parents
    for parent in parents:
        if parent.children is None:
            parent.children = []
        parent.children.append(share)
    count = len(share.states)
    share.blockers = (
        bytearray([len(parents)]) * count if len(parents) <= _BYTE_MAX else [len(parents)] * count
    )


def unlink(task: Task) -> None:
    """Take the references of a finished task apart, so that it is freed at once.

    Left to the garbage collector, its cycles are what a busy engine pays for, as in the talk.
    """
    for share in task.shares:
        share.children = None
        share.parents = ()
    task.shares = ()


def mark_acked(task: Task, progress: Progress) -> dict[Share, list[int]]:
    """Mark what an engine before this one had acked; return the indexes of each share that has any.

    Args:
        task: expanded a moment ago.
        progress: marks of another length are ignored.
    """
    acked: dict[Share, list[int]] = {}
    of_node = dict(progress.nodes)
    for share in task.shares:
        marks = progress.marks.get((share.node.name, int(share.operation)), b"")
        if len(marks) == len(share.states):
            indexes = [index for index, mark in enumerate(marks) if mark]
            share.acked_count = len(indexes)
            share.absent_count, share.acked_at = of_node.pop(share.node.name, (0, 0.0))
            for index in indexes:
                share.states[index] = ACKED
            acked[share] = indexes
    return acked


def blocked_of(share: Share) -> list[int]:
    """Return the targets of a share that have not begun."""
    states = share.states
    return [index for index in range(len(states)) if states[index] == BLOCKED]

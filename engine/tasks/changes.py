"""What late delivery, or a cancel, made of stored tasks, for the history. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.tasks.settled import Change, Failure, state_number
from engine.tasks.words import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.tasks.records import Delivered


def changes_of(settled: Sequence[dict[str, Any]], counted: Iterable[Delivered]) -> list[Change]:
    """Return the changes of one commit.

    Args:
        settled: documents that are final by it.
        counted: what was delivered in it, and was in its queue until then.
    """
    failures: dict[str, list[Failure]] = {}
    failed_at: dict[str, float] = {}
    for one in counted:
        if one.reason and not one.is_told:
            row = one.row
            failed_at[row.task_id] = one.at
            failures.setdefault(row.task_id, []).append(
                Failure(row.node, row.operation, row.target, one.reason)
            )
    changes = [
        Change(
            doc["task_id"], doc["updated_at"], state_number(doc["state"]), failures.pop(doc["task_id"], [])
        )
        for doc in settled
    ]
    waiting = state_number(State.PARTIAL)
    return changes + [
        Change(task_id, failed_at[task_id], waiting, failed) for task_id, failed in failures.items()
    ]

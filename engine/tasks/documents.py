"""Answers to counts, counts to states, tasks to documents. Pure.

How a task ends: `State.DONE` when every subtask was acked; `State.FAILED` when nothing is left to do
and at least one failed for good; `State.CANCELLED` from the moment a client takes the rest back, whatever
is answered after that. A task of which all that is left waits in delay queues is `State.PARTIAL`, and goes
on; so is one with anything left at its due time.

The numbers of a task and of each of its layers add up:
``counter + failed + delayed + cancelled + what is on its way = total``. Those of its nodes, see `by_node`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from engine.tasks import by_node, by_region, by_target
from engine.tasks.document_types import TARGETS_SHOWN, NodeDocument, StoredDocument, StoredNode, TaskDocument
from engine.tasks.task import ERRORS_MAX
from engine.tasks.words import FINAL_STATES, State

if TYPE_CHECKING:
    from engine.tasks.document_types import LayerDocument
    from engine.tasks.task import Task

_DONE: Final = State.DONE  # looked up once: see `nodes.health`
_CANCELLED: Final = State.CANCELLED


_D = TypeVar("_D", bound=TaskDocument)


def document(task: Task) -> TaskDocument:
    """Return the document of a task in memory, as clients see it."""
    return _filled(TaskDocument, task)


def stored_document(task: Task) -> StoredDocument:
    """Return the document of a task in memory, as the store keeps it."""
    stored = _filled(StoredDocument, task)
    if task.digest:
        stored.digest = task.digest.hex()
    if task.callback:
        stored.callback = task.callback
        if task.told is not None:
            stored.told = task.told
    if task.token:
        stored.token = task.token
    if task.by.door == by_target.DOOR and not task.live and task.shares:
        stored.by_target = by_target.of(task)
    if task.lower is not None or (task.plan is not None and task.plan.is_narrow):
        stored.lower = by_region.stored_of(task)
    return stored


def _filled(make: type[_D], task: Task) -> _D:
    layers, nodes = by_node.parts_of(task, StoredNode if make is StoredDocument else NodeDocument)
    counter = failed = delayed = cancelled = 0
    for layer in layers:
        counter += layer.counter
        failed += layer.failed
        delayed += layer.delayed
        cancelled += layer.cancelled
    is_final = task.state in FINAL_STATES
    if task.plan is None:
        failed = task.total if is_final else 0  # of a task of the journal that cannot be planned any more
    targets = task.targets
    filled = make(  # in their order: by keyword msgspec takes four times as long
        task.id,
        task.action,
        task.kind,
        str(task.state),
        not is_final,
        None if is_final else working_layer(layers),
        task.total,
        counter,
        failed,
        delayed,
        cancelled,
        layers,
        task.created_at,
        task.updated_at,
        task.due_at,
        task.errors,
        (),
        (),
        min(task.absent_count, counter) if task.absent_count else 0,  # sent again it may be absent twice
        task.by,
        targets if len(targets) <= TARGETS_SHOWN else targets[:TARGETS_SHOWN],
        len(targets),
        task.settled_at,
        nodes,
    )
    plan = task.plan
    if task.lower is not None or (plan is not None and (plan.skipped or plan.notes)):
        filled.skipped, filled.notes = by_region.skipped_of(task), by_region.notes_of(task)
    if task.start_at:
        filled.start_at = task.start_at
    if task.verify is not None:
        filled.verify = task.verify.document
    if task.retries:
        filled.retries = task.retries
    if task.rewind:
        filled.rewind = task.rewind
    if task.traceparent:
        filled.traceparent = task.traceparent
    return filled


def working_layer(layers: list[LayerDocument]) -> str | None:
    """Return the first layer with something left to do."""
    for layer in layers:
        if layer.counter + layer.failed + layer.cancelled < layer.total:
            return layer.name
    return None


def settle_state(*, total: int, acked: int, failed: int, delayed: int, cancelled: int, is_due: bool) -> State:
    """Return the state of a task with nothing on its way to a node."""
    if cancelled:
        return _CANCELLED
    if delayed:
        return State.PARTIAL
    if failed:
        return State.FAILED
    if acked == total:
        return _DONE
    return State.PARTIAL if is_due else State.RUNNING


def state_of(task: Task, *, is_due: bool) -> State:
    """Return `settle_state` of a task in memory; one that was cancelled stays so.

    One of which visitors still get what it purged has failed, though every node acked it.
    """
    if task.state is _CANCELLED:
        return _CANCELLED
    acked = failed = delayed = cancelled = 0
    for share in task.shares:
        acked += share.acked_count
        failed += share.failed_count
        delayed += share.delayed_count
        cancelled += share.cancelled_count
    state = settle_state(
        total=task.total, acked=acked, failed=failed, delayed=delayed, cancelled=cancelled, is_due=is_due
    )
    is_stale = state is _DONE and task.verify is not None and task.verify.document.stale
    return State.FAILED if is_stale else state


def add_error(task: Task, node: str, target: str, reason: str) -> None:
    """Add to the task's errors, up to the number it shows."""
    if len(task.errors) < ERRORS_MAX:
        task.errors = [*task.errors, {"node": node, "target": target, "reason": reason}]

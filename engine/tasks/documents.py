"""Answers to counts, counts to states, tasks to documents. Pure.

How a task ends: `State.DONE` when every subtask was acked; `State.FAILED` when nothing is left to do
and at least one failed for good; `State.CANCELLED` when a client took the rest back. At the due time
a task with something left is `State.PARTIAL`, and goes on.
"""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec resolves the annotations
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.tasks.plan import Note, Skipped  # noqa: TC001 - msgspec resolves the annotations
from engine.tasks.records import Callback
from engine.tasks.task import ERRORS_MAX, Task
from engine.tasks.words import FINAL_STATES, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.tasks.records import Late

_DONE: Final = State.DONE  # looked up once: see `nodes.health`
_ADDED: Final = ("skipped", "notes")  # lists that stored documents of versions before have not


class LayerDocument(msgspec.Struct):
    """Progress of one layer, in subtasks."""

    name: str
    total: int
    counter: int
    failed: int
    delayed: int


class TaskDocument(msgspec.Struct):
    """What ``GET /v1/engine/task/{id}`` answers; times in UNIX seconds.

    ``digest``, ``callback``, ``token`` and ``progress`` are for the store and never shown.
    """

    task_id: str
    action: str
    kind: str
    state: str
    active: bool
    working_layer: str | None
    total: int
    counter: int
    failed: int
    delayed: int
    layers: list[LayerDocument]
    created_at: float
    updated_at: float
    due_at: float
    errors: Sequence[dict[str, str]]
    skipped: Sequence[Skipped] = ()
    notes: Sequence[Note] = ()
    digest: str | msgspec.UnsetType = msgspec.UNSET
    callback: str | msgspec.UnsetType = msgspec.UNSET
    token: str | msgspec.UnsetType = msgspec.UNSET
    progress: list[tuple[str, int, bytes]] | msgspec.UnsetType = msgspec.UNSET


def document(task: Task, *, private: bool = False) -> TaskDocument:
    """Return the document of a task in memory; *private* adds what the store keeps besides."""
    layers = layer_documents(task)
    counter = failed = delayed = 0
    for layer in layers:
        counter += layer.counter
        failed += layer.failed
        delayed += layer.delayed
    is_final = task.state in FINAL_STATES
    shown = TaskDocument(
        task_id=task.id,
        action=task.action,
        kind=task.kind,
        state=str(task.state),
        active=not is_final,
        working_layer=None if is_final else working_layer(layers),
        total=task.total,
        counter=counter,
        failed=failed,
        delayed=delayed,
        layers=layers,
        created_at=task.created_at,
        updated_at=task.updated_at,
        due_at=task.due_at,
        errors=task.errors,
    )
    plan = task.plan
    if plan is not None and plan.has_remarks:
        shown.skipped, shown.notes = plan.skipped, plan.notes
    if private:
        if task.digest:
            shown.digest = task.digest.hex()
        if task.callback:
            shown.callback = task.callback
        if task.token:
            shown.token = task.token
    return shown


def layer_documents(task: Task) -> list[LayerDocument]:
    """Return the layers of a task in their order; before it is expanded only the totals are known."""
    layers: dict[str, LayerDocument] = {}
    if task.plan is None:
        return []  # a task of the journal that cannot be planned any more
    if not task.shares:
        steps = task.plan.steps
        each = task.total // len(steps)
        for step in steps:
            layer = layers.get(step.layer)
            if layer is None:
                layers[step.layer] = LayerDocument(step.layer, each, 0, 0, 0)
            else:
                layer.total += each
        return list(layers.values())
    for share in task.shares:
        name = share.node.layer
        layer = layers.get(name)
        if layer is None:
            layers[name] = LayerDocument(
                name, len(share.states), share.acked_count, share.failed_count, share.delayed_count
            )
        else:
            layer.total += len(share.states)
            layer.counter += share.acked_count
            layer.failed += share.failed_count
            layer.delayed += share.delayed_count
    return list(layers.values())


def working_layer(layers: list[LayerDocument]) -> str | None:
    """Return the first layer with something left to do."""
    for layer in layers:
        if layer.counter + layer.failed < layer.total:
            return layer.name
    return None


def settle_state(*, total: int, acked: int, failed: int, delayed: int, cancelled: int, is_due: bool) -> State:
    """Return the state of a task with nothing on its way to a node."""
    if delayed:
        return State.PARTIAL if is_due else State.RUNNING
    if cancelled:
        return State.CANCELLED
    if failed:
        return State.FAILED
    if acked == total:
        return _DONE
    return State.PARTIAL if is_due else State.RUNNING


def state_of(task: Task, *, is_due: bool) -> State:
    """Return `settle_state` of a task in memory."""
    acked = failed = delayed = cancelled = 0
    for share in task.shares:
        acked += share.acked_count
        failed += share.failed_count
        delayed += share.delayed_count
        cancelled += share.cancelled_count
    return settle_state(
        total=task.total, acked=acked, failed=failed, delayed=delayed, cancelled=cancelled, is_due=is_due
    )


def add_error(task: Task, node: str, target: str, reason: str) -> None:
    """Add to the task's errors, up to the number it shows."""
    if len(task.errors) < ERRORS_MAX:
        task.errors = [*task.errors, {"node": node, "target": target, "reason": reason}]


# Stored documents: plain dicts, so that a field another version added survives a change here.


def apply_late(stored: dict[str, Any], late: Late) -> None:
    """Fold what late delivery did into a stored document, in place."""
    count = late.acked + late.failed
    layers = stored["layers"]
    waiting = [layer for layer in layers if layer["delayed"]]
    for layer in [layer for layer in layers if layer["name"] == late.layer] or waiting[:1]:
        over = count - layer["delayed"]
        layer["counter"] += late.acked
        layer["failed"] += late.failed
        # A task that was cancelled meanwhile waits for nothing any more.
        layer["delayed"] = max(0, -over)
        for other in waiting:
            # Rows of a node that is not configured any more name no layer, and were counted here.
            moved = min(max(0, over), other["delayed"]) if other is not layer else 0
            over -= moved
            other["delayed"] -= moved
            failed = min(moved, layer["failed"])
            layer["failed"] -= failed
            other["failed"] += failed
    for key in ("counter", "failed", "delayed"):
        stored[key] = sum(layer[key] for layer in stored["layers"])
    stored["updated_at"] = late.at
    if late.error is not None and len(stored["errors"]) < ERRORS_MAX:
        stored["errors"].append(late.error)
    if stored["state"] not in FINAL_STATES and not stored["delayed"]:
        stored["state"] = (State.FAILED if stored["failed"] else State.DONE).value
        if not stored["failed"]:
            stored["errors"] = []  # they told why it was late
        stored["active"] = False
        stored["working_layer"] = None


def cancel_stored(stored: dict[str, Any], at: float) -> None:
    """Cancel what a stored document still has in delay queues, in place; *at* is the time of it."""
    stored["updated_at"] = at
    for layer in stored["layers"]:
        layer["delayed"] = 0
    stored["delayed"] = 0
    stored["state"] = State.CANCELLED.value
    stored["active"] = False
    stored["working_layer"] = None


def callbacks_of(settled: Iterable[dict[str, Any]]) -> list[Callback]:
    """Return the callbacks that report stored documents which have just settled."""
    return [
        Callback(0, doc["task_id"], doc["callback"], msgspec.json.encode(public(doc)).decode())
        for doc in settled
        if "callback" in doc
    ]


def is_final(stored: dict[str, Any]) -> bool:
    """Return whether a stored document will not change any more."""
    return stored["state"] in FINAL_STATES


def public(stored: dict[str, Any]) -> dict[str, Any]:
    """Return a stored document as clients see it, with the fields that the versions before did not store."""
    shown = {
        key: value for key, value in stored.items() if key not in {"digest", "callback", "token", "progress"}
    }
    for key in _ADDED:
        shown.setdefault(key, [])
    return shown

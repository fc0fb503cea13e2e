"""Answers to counts, counts to states, tasks to documents. Pure.

How a task ends: `State.DONE` when every subtask was acked; `State.FAILED` when nothing is left to do
and at least one failed for good; `State.CANCELLED` from the moment a client takes the rest back, whatever
is answered after that. A task of which all that is left waits in delay queues is `State.PARTIAL`, and goes
on; so is one with anything left at its due time.

The numbers of a task and of each of its layers add up:
``counter + failed + delayed + cancelled + what is on its way = total``.
"""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec resolves the annotations
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from engine.tasks.plan import Note, Skipped  # noqa: TC001 - msgspec resolves the annotations
from engine.tasks.records import Callback
from engine.tasks.task import ERRORS_MAX, Task
from engine.tasks.words import FINAL_STATES, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.tasks.records import Late, Noted

_DONE: Final = State.DONE  # looked up once: see `nodes.health`
_CANCELLED: Final = State.CANCELLED
_WHY_WAITING: Final = ("unreachable:", "sick:", "unproven:", "gone:", "incapable:")
"""How the reasons begin for which a whole node waits."""
_ADDED: Final = ("skipped", "notes")  # lists that stored documents of versions before have not


class LayerDocument(msgspec.Struct):
    """Progress of one layer, in subtasks."""

    name: str
    total: int
    counter: int
    failed: int
    delayed: int
    cancelled: int = 0


class TaskDocument(msgspec.Struct):
    """What ``GET /v1/engine/task/{id}`` answers; times in UNIX seconds."""

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
    cancelled: int
    layers: list[LayerDocument]
    created_at: float
    updated_at: float
    due_at: float
    errors: Sequence[dict[str, str]]
    skipped: Sequence[Skipped] = ()
    notes: Sequence[Note] = ()
    absent: int = 0  #: of the acked ones those of which a cache said that it had nothing


class StoredDocument(TaskDocument, omit_defaults=True):
    """What the store keeps of a task: nothing that is as `public` would fill it in, and what is never shown.

    ``digest``, ``callback``, ``token`` and ``progress`` are for the store alone.
    """

    digest: str | msgspec.UnsetType = msgspec.UNSET
    callback: str | msgspec.UnsetType = msgspec.UNSET
    token: str | msgspec.UnsetType = msgspec.UNSET
    progress: list[tuple[str, int, bytes]] | msgspec.UnsetType = msgspec.UNSET


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
    if task.token:
        stored.token = task.token
    return stored


def _filled(make: type[_D], task: Task) -> _D:
    layers = layer_documents(task)
    counter = failed = delayed = cancelled = 0
    for layer in layers:
        counter += layer.counter
        failed += layer.failed
        delayed += layer.delayed
        cancelled += layer.cancelled
    is_final = task.state in FINAL_STATES
    if task.plan is None:
        failed = task.total if is_final else 0  # of a task of the journal that cannot be planned any more
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
    )
    plan = task.plan
    if plan is not None and plan.has_remarks:
        filled.skipped, filled.notes = plan.skipped, plan.notes
    if task.absent_count:
        filled.absent = min(task.absent_count, counter)  # one that is sent again may be absent twice
    return filled


def layer_documents(task: Task) -> list[LayerDocument]:
    """Return the layers of a task in their order; before it is expanded only the totals are known.

    Of a cancelled task all that has no answer counts as cancelled, what is still on the wire too.
    """
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
    is_cancelled = task.state is _CANCELLED
    for share in task.shares:
        name = share.node.layer
        layer = layers.get(name)
        total, acked, failed, delayed = (
            len(share.states),
            share.acked_count,
            share.failed_count,
            share.delayed_count,
        )
        cancelled = total - acked - failed - delayed if is_cancelled else share.cancelled_count
        if layer is None:
            layers[name] = LayerDocument(name, total, acked, failed, delayed, cancelled)
        else:
            layer.total += total
            layer.counter += acked
            layer.failed += failed
            layer.delayed += delayed
            layer.cancelled += cancelled
    return list(layers.values())


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
    """Return `settle_state` of a task in memory; one that was cancelled stays so."""
    if task.state is _CANCELLED:
        return _CANCELLED
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
    """Fold what late delivery did into a stored document, in place.

    A document of which something was cancelled ends as cancelled, also one whose version did not count that:
    a stored task has nothing on its way, so what no count names was cancelled.
    """
    count = late.acked + late.failed
    layers = stored["layers"]
    waiting = [layer for layer in layers if layer["delayed"]]
    for layer in [layer for layer in layers if layer["name"] == late.layer] or waiting[:1]:
        over = count - layer["delayed"]
        layer["counter"] += late.acked
        layer["failed"] += late.failed
        layer["delayed"] = max(0, -over)
        for other in waiting:
            # Rows of a node that is not configured any more name no layer, and were counted here.
            moved = min(max(0, over), other["delayed"]) if other is not layer else 0
            over -= moved
            other["delayed"] -= moved
            failed = min(moved, layer["failed"])
            layer["failed"] -= failed
            other["failed"] += failed
            layer["counter"] -= moved - failed
            other["counter"] += moved - failed
        if over > 0 and layer.get("cancelled"):
            layer["cancelled"] -= min(over, layer["cancelled"])  # answered all the same
    _sum_up(stored)
    if late.absent:
        stored["absent"] = min(stored.get("absent", 0) + late.absent, stored["counter"])
    stored["updated_at"] = late.at
    if late.error is not None:
        if late.error["reason"].startswith(_WHY_WAITING):
            stored["errors"] = _without_waiting(stored, late.error["node"], late.error["reason"])
        if len(stored["errors"]) < ERRORS_MAX:
            stored["errors"].append(late.error)
    if stored["state"] not in FINAL_STATES and not stored["delayed"]:
        if stored["counter"] + stored["failed"] < sum(layer["total"] for layer in layers):
            cancel_stored(stored, late.at)
            return
        stored["state"] = (State.FAILED if stored["failed"] else _DONE).value
        if not stored["failed"]:
            stored["errors"] = []  # they told why it was late
        stored["active"] = False
        stored["working_layer"] = None


def note_waiting(stored: dict[str, Any], noted: Noted) -> None:
    """Say in a stored document why its subtasks on a node wait, in place of why they waited before."""
    kept = _without_waiting(stored, noted.node)
    error = {"node": noted.node, "target": noted.target, "reason": noted.reason}
    stored["errors"] = [*kept[: ERRORS_MAX - 1], error]


def _without_waiting(stored: dict[str, Any], node: str, reason: str = "") -> list[dict[str, str]]:
    """Return the errors of a stored document without those that say why *node* waited, but for *reason*."""
    return [
        error
        for error in stored["errors"]
        if error["node"] != node or error["reason"] == reason or not error["reason"].startswith(_WHY_WAITING)
    ]


def cancel_stored(stored: dict[str, Any], at: float) -> None:
    """Cancel what a stored document has no answer for, in place; *at* is the time of it."""
    stored["updated_at"] = at
    for layer in stored["layers"]:
        layer["cancelled"] = _unanswered(layer)
        layer["delayed"] = 0
    _sum_up(stored)
    stored["state"] = _CANCELLED.value
    stored["active"] = False
    stored["working_layer"] = None


def _unanswered(layer: dict[str, Any]) -> int:
    """Return how many subtasks of a stored layer were neither acked nor failed."""
    return max(0, layer["total"] - layer["counter"] - layer["failed"])  # type: ignore[no-any-return]


def _sum_up(stored: dict[str, Any]) -> None:
    """Make the numbers of a stored task those of its layers."""
    for key in ("counter", "failed", "delayed", "cancelled"):
        stored[key] = sum(layer.get(key, 0) for layer in stored["layers"])


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
    """Return a stored document as clients see it, with the fields that the versions before did not store.

    The numbers of a cancelled task add up, whichever version cancelled it.
    """
    shown = {
        key: value for key, value in stored.items() if key not in {"digest", "callback", "token", "progress"}
    }
    for key in _ADDED:
        shown.setdefault(key, [])
    for key in ("cancelled", "absent"):
        shown.setdefault(key, 0)
    if shown["state"] == _CANCELLED:
        counted = sum(shown.get(key, 0) for key in ("counter", "failed", "delayed"))
        shown["cancelled"] = max(shown["cancelled"], shown.get("total", 0) - counted)
    return shown

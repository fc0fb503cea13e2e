"""Triggers (RFC 8007): what another CDN asked for, the tasks that do it, what they come to together. Pure.

A trigger is kept for itself, see `engine.store.triggers`; what becomes of it, its tasks tell.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.tasks.words import FINAL_STATES, State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Documents = Mapping[str, Mapping[str, Any] | None]
    """Id of a task → its stored document; None: it is kept no longer, or is lost."""


class Status(enum.StrEnum):
    """Where a trigger is, in the RFC's words (its section 4.3 and appendix A spell them so)."""

    PENDING = "pending"
    ACTIVE = "active"
    COMPLETE = "complete"
    PROCESSED = "processed"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


SETTLED: Final = frozenset({Status.COMPLETE, Status.PROCESSED, Status.FAILED, Status.CANCELLED})
"""A trigger with one of these changes no more."""

ErrorCode = str
"""``emeta econtent eperm ereject ecdn ecanceled eunsupported``."""


class TriggerRecord(msgspec.Struct, omit_defaults=True):
    """A trigger as it is stored. Versions N and N-1 read each other's, so fields are only added."""

    id: str
    token: str  #: name of the token of its client, which alone sees it
    ctime: float  #: UNIX time, as are all times here
    mtime: float  #: when its status or its errors changed last
    etime: float  #: when it should be complete
    status: Status
    spec: msgspec.Raw  #: the Trigger Specification as it came, JSON
    tasks: dict[str, str] = {}  #: kind of targets → the id of the task that has those
    refused: list[dict[str, Any]] = []  #: Error Descriptions of what became no task
    errors: list[dict[str, Any]] = []  #: all of them, as they were seen last
    settled_at: float = 0  #: 0: it has not settled
    is_cancelled: bool = False  #: its client wants it to end


encode = msgspec.json.encode
decode = msgspec.json.Decoder(TriggerRecord).decode


def lost_of(record: TriggerRecord, documents: Documents, forgotten_before: float) -> frozenset[str]:
    """Return the ids of tasks that nobody has, and that cannot have been forgotten yet; see `status_of`."""
    if record.ctime < forgotten_before:
        return frozenset()
    return frozenset(task_id for task_id, one in documents.items() if one is None)


def status_of(record: TriggerRecord, documents: Documents, *, forgotten_before: float) -> Status:
    """Return where a trigger is, by the documents of its tasks.

    Args:
        record: the trigger.
        documents: of all of its tasks.
        forgotten_before: UNIX time; tasks of triggers that came before may have settled and been forgotten.
    """
    lost = State.FAILED if lost_of(record, documents, forgotten_before) else State.DONE
    states = [lost if one is None else one["state"] for one in documents.values()]
    if any(state not in FINAL_STATES for state in states):
        if record.is_cancelled:
            return Status.CANCELLING
        return Status.PENDING if all(state == State.ACCEPTED for state in states) else Status.ACTIVE
    if State.CANCELLED in states:
        return Status.CANCELLED
    if record.refused or State.FAILED in states:
        return Status.FAILED
    return Status.PROCESSED if None in documents.values() else Status.COMPLETE


def changed_at(record: TriggerRecord, documents: Documents, *, is_settled: bool) -> float:
    """Return when a trigger became what it is now: never before it came, nor before it was last changed."""
    key = "settled_at" if is_settled else "updated_at"
    times = [float(one.get(key) or one.get("updated_at") or 0) for one in documents.values() if one]
    return max([record.ctime, record.mtime, *times])


def as_seen(
    record: TriggerRecord,
    documents: Documents,
    errors: Sequence[dict[str, Any]],
    *,
    forgotten_before: float,
) -> TriggerRecord | None:
    """Return a trigger as its tasks have it now; None: nothing is new.

    Args:
        record: as it was seen last.
        documents: of all of its tasks.
        errors: of these, Error Descriptions.
        forgotten_before: see `status_of`.
    """
    status = status_of(record, documents, forgotten_before=forgotten_before)
    found = [] if status is Status.COMPLETE else [*record.refused, *errors]
    if status == record.status and found == record.errors:
        return None
    is_settled = status in SETTLED
    at = changed_at(record, documents, is_settled=is_settled)
    return msgspec.structs.replace(
        record, status=status, errors=found, mtime=at, settled_at=at if is_settled else 0
    )

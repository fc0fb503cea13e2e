"""Documents of an engine, as programs get them. What a newer engine says besides is left out."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from engine.client.errors import UnreachableError

T = TypeVar("T")


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a task that was handed in."""

    task_id: str
    state: str  #: ``accepted``, or further on when the task was there already; ``spooled``: in the outbox
    total: int = 0  #: subtasks

    @property
    def is_spooled(self) -> bool:
        """Whether no engine has the task yet: it is in the outbox, on disk."""
        return self.state == SPOOLED


class TaskError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a subtask is not acked."""

    node: str
    target: str = ""
    reason: str = ""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One node's part of a task: counts of subtasks, and UNIX seconds."""

    name: str
    layer: str = ""
    total: int = 0
    acked: int = 0
    absent: int = 0  #: of those acked, what the cache had nothing of
    failed: int = 0
    delayed: int = 0
    cancelled: int = 0
    stale: int = 0
    acked_at: float | None = None
    verified_at: float | None = None


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task: counts of subtasks, and UNIX seconds."""

    task_id: str
    state: str
    action: str = ""
    kind: str = ""
    active: bool = False
    total: int = 0
    counter: int = 0  #: acked
    absent: int = 0
    failed: int = 0
    delayed: int = 0
    cancelled: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0
    due_at: float = 0.0
    settled_at: float | None = None
    targets: tuple[Any, ...] = ()  #: the first 100
    target_count: int = 0
    errors: tuple[TaskError, ...] = ()
    nodes: tuple[Share, ...] = ()
    by: dict[str, Any] = {}
    verify: dict[str, Any] | None = None

    @property
    def is_settled(self) -> bool:
        """Whether its state is final."""
        return self.state in FINAL


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks, newest first."""

    tasks: tuple[Task, ...]
    complete_since: float | None = None  #: UNIX seconds; the history knows all tasks from then on
    incomplete: str = ""  #: what is missing, in words
    cursor: str | None = None


class NodeWhy(msgspec.Struct, frozen=True, kw_only=True):
    """What one node serves of a URL, and why."""

    name: str
    conclusion: str
    sentence: str = ""
    layer: str = ""
    state: str = ""
    answers: tuple[dict[str, Any], ...] = ()  #: status, age_s, etag … as the node gave them
    error: str = ""  #: why there is no answer


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """What every node serves of a URL, and why."""

    url: str
    conclusion: str
    sentence: str
    nodes: tuple[NodeWhy, ...] = ()
    origin: dict[str, Any] | None = None
    purges: tuple[dict[str, Any], ...] = ()


FINAL = frozenset({"done", "failed", "cancelled"})
SPOOLED = "spooled"


def read(document: object, kind: type[T], *, url: str) -> T:
    """Return *document* as *kind*.

    Raises:
        UnreachableError: an engine's document of that kind has other fields, or other types in them.
    """
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as exc:
        raise UnreachableError(url, f"the answer is no {kind.__name__}: {exc}", sent=True) from exc

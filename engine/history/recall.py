"""What is sent once more, as the history has it: what failed of a task, what was purged between two times.

A page of purges has no more than so many targets, whatever its tasks have: it goes from worker to worker, and
is worked on a thread.

What is asked for goes by when a purge may have reached a cache, as a cache that was restored from a snapshot
lacks all of those since: from when its task was created until that settled, and what waited in a delay queue
when it was delivered (see `engine.tasks.late`). That is more than need be of a task that began at its
``start_at``, or that one of its nodes held up: a purge too many does no harm.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from engine.errors import StoreError
from engine.history.covering import hosts_covering
from engine.history.entries import final_state
from engine.history.question import Question, read_cursor, write_cursor
from engine.history.search import parts_by_now
from engine.tasks.plan import read_plan
from engine.tasks.settled import state_of_number
from engine.tasks.words import FAILED, SOFT, Action, State, host_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.history.search import Search
    from engine.history.sieve import Hit
    from engine.tasks.settled import Change

_TASKS: Final = 256  #: of a page
_PURGES: Final = 2048  #: of a page of a window: each page reads anew what engines are at work on
_TARGETS: Final = 50_000  #: of a page, and those of one task


class FailedShare(msgspec.Struct):
    """What failed of one node's share."""

    node: str
    operation: int
    targets: list[str]


class FailedTask(msgspec.Struct):
    """What failed of a task."""

    state: str
    soft: bool
    shares: list[FailedShare]
    targets: list[str] = []  #: all that it has; none: a worker of the version before does not tell


class Purge(msgspec.Struct, array_like=True):
    """Targets that one task purged."""

    at: float  #: when it was created, or delivered late, UNIX time
    kind: str
    soft: bool
    targets: list[str]


class PurgesPage(msgspec.Struct):
    """Purges, the newest first."""

    purges: list[Purge]
    cursor: str  #: of the next page; empty: this is the last one
    missing: str  #: why some of the history is missing; empty: nothing is


class Window(msgspec.Struct, frozen=True):
    """Which purges are asked for."""

    node: str
    layer: str  #: of that node: what went to any node of it was meant for this one, too
    since: float
    until: float
    host: str = ""  #: empty: of all


class Recall:
    """Reads it. Blocking: called on threads that read.

    Args:
        search: of the same stores.
    """

    def __init__(self, search: Search) -> None:
        self._search = search

    def failed(self, task_id: str, created_at: float) -> FailedTask | None:
        """Return what failed of a task that has settled; None: the history does not have it.

        Of a task that the history has let go only what failed since it was partial.

        Raises:
            StoreError: the store of the tasks cannot be read.
        """
        question = Question(since=created_at, until=created_at, limit=_TASKS)
        while True:
            found = self._search.find(question, is_settled=True)
            for hit in found.hits:
                if hit.order[1] == task_id:
                    return _failed(hit)
            if not found.cursor:
                return _failed_late(self._search.changes_of(task_id))
            question = msgspec.structs.replace(question, before=read_cursor(found.cursor))

    def purges(self, window: Window, before: tuple[float, str]) -> PurgesPage:
        """Return a page of what was purged in a window.

        Args:
            window: which.
            before: the newest is older than this: when it was created, and its id.

        Raises:
            StoreError: the store of the tasks cannot be read.
        """
        question = Question(
            action=Action.PURGE.value,
            host=window.host,
            since=window.since,
            until=window.until,
            reaches=True,
            limit=_PURGES,
            before=before,
        )
        found = self._search.find(question)
        hosts = frozenset(hosts_covering(window.host)) if window.host else None
        purges: list[Purge] = []
        left = _TARGETS
        for hit in found.hits:
            if not _was_for(hit, window):
                continue
            task = hit.task
            targets = task.targets
            if hosts is not None:
                targets = [target for target in targets if host_of(target) in hosts]
            purges.append(Purge(task.created_at, task.shape.kind, task.shape.soft, targets))
            left -= len(targets)
            if left <= 0:
                return PurgesPage(purges, write_cursor(*hit.order), found.missing or self._search.error)
        missing = found.missing or self._search.error
        if not found.cursor:  # last: blocks may have been dropped meanwhile
            missing = missing or self._gone(window.since)
        return PurgesPage(purges, found.cursor, missing)

    def _gone(self, since: float) -> str:
        at = self._search.complete_since()
        if since > at:
            return ""
        begins = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
        return (
            f"it has all purges since {begins} only: it began then, "
            "or history_days or history_max_bytes ended it"
        )


def _failed(hit: Hit) -> FailedTask:
    task = hit.task
    shares = []
    for part in parts_by_now(hit, task):
        targets = [
            target for state, target in zip(part.states, task.targets, strict=False) if state == FAILED
        ]
        if targets:
            shares.append(FailedShare(part.node, part.operation, targets))
    state = final_state(task.state, hit.changes).value
    return FailedTask(state, task.shape.soft, shares, task.targets)


def _failed_late(changes: Iterable[Change]) -> FailedTask | None:
    targets: dict[tuple[str, int], dict[str, None]] = {}
    state = State.PARTIAL.value
    for change in changes:
        state = state_of_number(change.state).value
        for one in change.failures:
            targets.setdefault((one.node, one.operation), {})[one.target] = None
    if not targets:
        return None
    shares = [FailedShare(node, operation, list(failed)) for (node, operation), failed in targets.items()]
    return FailedTask(state, any(operation in SOFT for _, operation in targets), shares)


def _was_for(hit: Hit, window: Window) -> bool:
    """Tell whether a purge went to the node, or to another of its layer: it may have been out at that time.

    Of one whose nodes nobody knows any more it is taken for granted.
    """
    key, odd = hit.columns.shape(hit.place).plan, hit.columns.record.odd.get(hit.place)
    if key and odd is not None and not odd.parts and hit.columns.state(hit.place) is State.CANCELLED:
        return False  # it was cancelled before it began
    went: list[tuple[str, str]] = []
    try:
        went = [(step.node, step.layer) for step in read_plan(key, hit.plans.get(key, b"")).steps]
    except StoreError:
        went = [] if odd is None else [(part.node, part.layer) for part in odd.parts]
    return not went or any(node == window.node or layer == window.layer for node, layer in went)

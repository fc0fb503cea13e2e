"""What became of tasks that were handed down to this engine, as it tells the one above it."""

from __future__ import annotations

import asyncio
import math
import time
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.tasks import by_region, by_target
from engine.tasks.plan import Note, Skipped
from engine.tasks.words import State
from engine.tree.words import REMARKS_MAX, Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from engine.api.find import FindTask
    from engine.delivery.watchers import Watchers
    from engine.intake.auth import Token
    from engine.tasks.task import Task

_AGAIN_S: Final = 0.1  #: between two looks at what nobody tells of
_STORED_FIRST_S: Final = 0.02  #: the same of tasks that are not in this worker's memory, twice that each time
_STORED_LAST_S: Final = 1.0
_YOUNG_S: Final = 0.1  #: a task that is at work, and nothing of it is over, is no news for so long
_GATHER_S: Final = 1e-5  #: for each task asked for, news is waited for that may come right behind the first
_GATHER_MAX_S: Final = 0.01
_REST_SHARE: Final = 5  #: of the time that such a look takes there is none, and of a long one in memory
_LONG_S: Final = 0.005

_encode = msgspec.json.encode


class Reports:
    """Reports of tasks, and waits until there is something new to report.

    Args:
        find: finds tasks.
        watchers: tell when nothing of a task is on its way any more.
    """

    def __init__(self, find: FindTask, watchers: Watchers) -> None:
        self._find = find
        self._watchers = watchers
        self._watched: set[str] = set()
        self._asked: dict[str, set[_Waiter]] = {}

    def __repr__(self) -> str:
        return f"<Reports [{len(self._asked)} tasks asked for]>"

    async def new(
        self, asked: Mapping[str, str], token: Token, wait_s: float
    ) -> tuple[list[Report], list[str]]:
        """Return the reports that are new, as soon as one is, and the ids of which there is no task.

        Args:
            asked: id → `Report.seen` of the last one.
            token: of the client; it is told of tasks that it may see.
            wait_s: at the most.

        Raises:
            StoreError: a store cannot be read.
        """
        until = time.monotonic() + wait_s
        waiter = _Waiter()
        self._watch(asked, waiter)
        stored_at, pause_s = 0.0, _STORED_FIRST_S
        look = _Look(asked, token, is_patient=wait_s > 0)
        names: Iterable[str] = asked
        try:
            while True:
                began = time.monotonic()
                looks_at_stored = began >= stored_at
                names = asked if looks_at_stored else names
                found, unknown = await self._look(look, names, with_stored=looks_at_stored)
                if looks_at_stored:
                    now = time.monotonic()
                    stored_at = now + max(pause_s, _REST_SHARE * (now - began))
                    pause_s = min(2 * pause_s, _STORED_LAST_S)
                left_s = until - time.monotonic()
                if found or unknown or left_s <= 0:
                    return found, unknown
                took_s = time.monotonic() - began
                if took_s > _LONG_S and not looks_at_stored:
                    await asyncio.sleep(min(left_s, _REST_SHARE * took_s))
                rest_s = min(left_s, _AGAIN_S, max(0.005, stored_at - time.monotonic()))
                names = await waiter.wait(rest_s, min(_GATHER_MAX_S, _GATHER_S * len(asked))) or asked
        finally:
            self._unwatch(asked, waiter)

    async def _look(
        self, look: _Look, names: Iterable[str], *, with_stored: bool
    ) -> tuple[list[Report], list[str]]:
        """Return what is new of some of the tasks that are asked for."""
        found: list[Report] = []
        unknown: list[str] = []
        token = look.token
        for task_id in names:
            task = self._find.in_memory(task_id)
            if task is not None:
                if look.knows(task):
                    continue
                report = report_of(task) if _is_ours(task.by.door, task.token, token) else None
            elif with_stored:
                document = await self._find.private(task_id)
                is_ours = document is not None and _is_ours(
                    document.get("by", {}).get("door", ""), document.get("token", ""), token
                )
                report = stored_report(document) if document is not None and is_ours else None
            else:
                continue
            if report is None:
                unknown.append(task_id)
            elif look.is_news(report):
                found.append(report)
        return found, unknown

    def _watch(self, asked: Mapping[str, str], waiter: _Waiter) -> None:
        for task_id in asked:
            self._asked.setdefault(task_id, set()).add(waiter)
            if task_id not in self._watched and self._find.in_memory(task_id) is not None:
                self._watched.add(task_id)
                self._watchers.add(task_id, partial(self._over, task_id))

    def _unwatch(self, asked: Mapping[str, str], waiter: _Waiter) -> None:
        for task_id in asked:
            waiters = self._asked.get(task_id)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._asked[task_id]

    def _over(self, task_id: str) -> None:
        self._watched.discard(task_id)
        for waiter in self._asked.get(task_id, ()):
            waiter.tell(task_id)


class _Waiter:
    """A question that waits."""

    def __init__(self) -> None:
        self._told: list[str] = []
        self._event = asyncio.Event()

    def tell(self, task_id: str) -> None:
        """There is news of a task."""
        self._told.append(task_id)
        self._event.set()

    async def wait(self, most_s: float, gather_s: float) -> list[str]:
        """Return the tasks that there is news of; none: the time is over.

        Args:
            most_s: to wait.
            gather_s: to wait for news of others, when there is some.
        """
        try:
            async with asyncio.timeout(most_s):
                await self._event.wait()
        except TimeoutError:
            return []
        await asyncio.sleep(gather_s)
        self._event.clear()
        told, self._told = self._told, []
        return told


class _Look:
    """What one question asks for, and what it has seen of it.

    Args:
        asked: id → `Report.seen` of the last report.
        token: of the client.
        is_patient: it waits for news.
    """

    def __init__(self, asked: Mapping[str, str], token: Token, *, is_patient: bool) -> None:
        self.token = token
        self._asked = asked
        self._is_patient = is_patient
        self._marks: dict[str, tuple[tuple[object, ...], float]] = {}

    def knows(self, task: Task) -> bool:
        """Tell whether a task in memory is as it was at the last look, and no news as it is."""
        mark = (task.updated_at, task.live, task.state)
        known = self._marks.get(task.id)
        if known is not None and known[0] == mark and time.time() < known[1]:
            return True
        is_young = time.time() < task.created_at + _YOUNG_S
        self._marks[task.id] = (mark, task.created_at + _YOUNG_S if is_young else math.inf)
        return False

    def is_news(self, report: Report) -> bool:
        """Tell whether a report is to be told: a task that has begun just now will soon have more to tell."""
        seen = self._asked[report.id]
        if report.seen == seen:
            return False
        is_dull = not seen and report.at_work == report.total and 0 <= report.age_s < _YOUNG_S
        return not (is_dull and self._is_patient)


def _is_ours(door: str, submitter: str, token: Token) -> bool:
    """Tell whether a task was handed down, to a client that may see it."""
    return door == by_target.DOOR and token.may_see(submitter)


def report_of(task: Task) -> Report:
    """Return the report of a task in memory."""
    total, targets = task.total, len(task.targets)
    if not task.shares:
        waiting = Report(task.id, "", str(task.state), total, targets, at_work=total)
        waiting.digest = task.digest.hex()
        return _sealed(waiting, task.created_at)
    acked = absent = failed = delayed = cancelled = 0
    acked_at = 0.0
    for share in task.shares:
        acked += share.acked_count
        absent += min(share.absent_count, share.acked_count)
        failed += share.failed_count
        delayed += share.delayed_count
        cancelled += share.cancelled_count
        acked_at = max(acked_at, share.acked_at)
    report = Report(
        task.id,
        "",
        str(task.state),
        total,
        targets,
        acked,
        absent,
        failed,
        delayed,
        cancelled,
        total - acked - failed - delayed - cancelled,
        acked_at,
        task.settled_at or 0.0,
    )
    report.digest = task.digest.hex()
    if not report.at_work:
        report.name = by_target.name_of_task(task)
        report.skipped, report.notes = _remarks_of(task)
    if acked and acked != total:
        report.done = by_target.done_of(task)
    if failed or cancelled:
        report.lost = by_target.lost_of(task)
    report.errors = list(task.errors)
    if task.verify is not None:
        report.verify = msgspec.to_builtins(task.verify.document)
    return _sealed(report, task.created_at)


def _remarks_of(task: Task) -> tuple[list[Skipped], list[Note]]:
    """Return the nodes that cannot do a task, and what others do otherwise; those below them, too."""
    return by_region.skipped_of(task)[:REMARKS_MAX], _few(by_region.notes_of(task))


def _few(notes: Sequence[Note]) -> list[Note]:
    """Return notes as far as they are told."""
    return [Note(one.nodes[:REMARKS_MAX], one.note) for one in notes[:REMARKS_MAX]]


def stored_report(document: Mapping[str, Any]) -> Report:
    """Return the report of a private document: of a task that the store or another worker has."""
    total = document.get("total", 0)
    acked, failed = document.get("counter", 0), document.get("failed", 0)
    delayed, cancelled = document.get("delayed", 0), document.get("cancelled", 0)
    if document["state"] == State.CANCELLED:
        cancelled = total - acked - failed - delayed
    nodes = document.get("nodes", ())
    told = document.get("by_target", {})  # versions before stored none
    return _sealed(
        Report(
            document["task_id"],
            "",
            document["state"],
            total,
            document.get("target_count", 0),
            acked,
            document.get("absent", 0),
            failed,
            delayed,
            cancelled,
            max(0, total - acked - failed - delayed - cancelled),
            max((node.get("acked_at") or 0.0 for node in nodes), default=0.0),
            document.get("settled_at") or 0.0,
            done=told.get("done", ""),
            lost=told.get("lost", ""),
            errors=list(document.get("errors", ())),
            verify=document.get("verify"),
            digest=document.get("digest", ""),
            name=told.get("name", ""),
            skipped=msgspec.convert(document.get("skipped", []), list[Skipped])[:REMARKS_MAX],
            notes=_few(msgspec.convert(document.get("notes", []), list[Note])),
        ),
        document["created_at"],
    )


def _sealed(report: Report, created_at: float) -> Report:
    """Name a report by what it says, and say how old its task is."""
    report.seen = f"{zlib.crc32(_encode(report)):08x}"
    report.age_s = max(0.0, time.time() - created_at)
    report.acked_ago_s = max(0.0, time.time() - report.acked_at) if report.acked_at else 0.0
    return report

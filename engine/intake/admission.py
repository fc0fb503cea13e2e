"""Taking tasks in: what both lanes do with a body, from its bytes to its 202.

``submit`` validates, puts the task into its region and hands it to its saver; the answer comes when
the saver has committed, not before. The same id again is answered with the task when the body is the
same, otherwise 409, whether the first one is being saved, at work, or settled and only in the store.
A task for which there is no room waits a moment, see `room`. What is refused (`delivery.full_queues`) are new
tasks: whether an id is known comes first.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.base.background import Background
from engine.errors import BacklogFullError, EngineError, StoreError
from engine.intake import task_replies
from engine.intake.drafting import Drafting
from engine.intake.forwarding import Forwarding
from engine.intake.problems import reply_of
from engine.intake.replies import Reply
from engine.intake.room import Room
from engine.recordings.tap import Tap
from engine.tasks.task import NOBODY

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.delivery.dispatch import Dispatch
    from engine.delivery.full_queues import FullQueues
    from engine.delivery.load import Load
    from engine.intake.client import Client
    from engine.intake.validate import Validator
    from engine.observe.audit import Audit
    from engine.observe.counters import Stats
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.tasks.records import By, JournalKey
    from engine.tasks.region import RegionMap
    from engine.tasks.task import Task
    from engine.workers.peers import Peers

_LOOKED_UP_MAX: Final = 1000  #: ids at a time, of tasks that are to be refused


class Admission:
    """The entrance of the engine.

    Args:
        validator: makes tasks of bodies.
        regions: every task in memory.
        dispatch: works on what is committed.
        savers: write what is accepted; *reader* reads what they wrote.
        load: counts live subtasks; see `Room`.
        full: knows the nodes that nothing more may wait for.
        stats: counts tasks and refusals.
        peers: the other workers of an engine whose tasks have one owner each; None: there are none.
        replayed: set while nothing of an earlier process is left in the store.
        live_max: see `Room`.
        wait_s: see `Room`.
        waiting_max: see `Room`.
        audit: told of tasks that are accepted, and of requests that are refused.
        on_alert: told what an operator should know: key, level, message.

    Attributes:
        tap: shows requests to those who record; what brings a request here hands it on.
    """

    def __init__(
        self,
        validator: Validator,
        regions: RegionMap,
        dispatch: Dispatch,
        savers: SaverPool,
        stats: Stats,
        *,
        reader: StoreReader,
        load: Load,
        full: FullQueues,
        peers: Peers | None = None,
        replayed: asyncio.Event,
        live_max: int,
        wait_s: float,
        waiting_max: int,
        audit: Audit,
        on_alert: Callable[[str, str, str], None],
    ) -> None:
        self.stats = stats
        self.tap = Tap()
        self._savers, self._reader = savers, reader
        self._replay_over = replayed
        self._looking_up = Background()
        self._regions = regions
        self._dispatch = dispatch
        self._load, self._full = load, full
        self._on_alert, self._audit = on_alert, audit
        self._room = Room(
            asyncio.get_running_loop(),
            load,
            regions,
            live_max=live_max,
            wait_s=wait_s,
            waiting_max=waiting_max,
            on_taken=self._save,
            on_refused=self._dismiss,
        )
        loop = asyncio.get_running_loop()
        self._drafting = Drafting(loop, validator, on_drafted=self._add, refuse=self.refuse)
        self.waits_for: StoreError | None = None  #: why no task can be taken yet; `Lifecycle` tells it
        self._forwarding: Forwarding | None = None
        if peers is not None:
            self._forwarding = Forwarding(
                peers,
                replayed,
                refuse=self.refuse,
                on_new=self._admit,
                on_known=self._known_elsewhere,
                on_unsure=self._dismiss,
            )

    @property
    def is_crowded(self) -> bool:
        """See `Room.is_crowded`."""
        return self._room.is_crowded

    def submit(
        self, body: bytes, client: Client, answer: Callable[[Reply], None], *, is_forwarded: bool = False
    ) -> None:
        """Take one task in. Never raises `EngineError`.

        Args:
            body: the client's JSON.
            client: who asks.
            answer: called once, now or after the commit.
            is_forwarded: another worker has it from its client, and knows that it belongs here.
        """
        self._drafting.submit(body, client, answer, is_forwarded=is_forwarded)

    def submit_lines(self, body: bytes, client: Client, answer: Callable[[Reply], None]) -> None:
        """Take NDJSON in, a task per line; *answer* gets one NDJSON reply when every line has its own."""
        self._drafting.submit_lines(body, client, answer)

    def _add(
        self, task: Task, body: bytes, client: Client, answer: Callable[[Reply], None], *, is_forwarded: bool
    ) -> None:
        """Take a valid task in, or refuse it."""
        task.by = client.by
        task.token = client.by.token if client.token.is_limited else ""
        if client.again is not None:
            task.retries, task.rewind = client.again
        if client.traceparent:
            task.traceparent = client.traceparent
        try:
            self._place(task, body, answer, is_forwarded=is_forwarded)
        except EngineError as exc:
            answer(self.refuse(exc, task.by, task=task))

    def _place(self, task: Task, body: bytes, answer: Callable[[Reply], None], *, is_forwarded: bool) -> None:
        """Put a task where it belongs: into its region and to its saver, or to another worker.

        Raises:
            EngineError: it is refused.
        """
        if self.waits_for is not None:
            raise self.waits_for
        forwarding = self._forwarding
        if not is_forwarded and forwarding is not None and forwarding.is_elsewhere(task):
            forwarding.forward(task, body, answer)
            return
        first = self._regions.add(task)
        if first is not task:
            self._again(first, task, answer)
            return
        task.waiters = [answer]
        if forwarding is not None and forwarding.may_be_known(task):
            forwarding.ask(task)
        else:
            self._admit(task)

    def refuse(
        self,
        exc: EngineError,
        by: By = NOBODY,
        *,
        task: Task | None = None,
        request: str = "",
        with_hint: bool = True,
    ) -> Reply:
        """Count an error and return its reply.

        Args:
            exc: the error.
            by: who is refused; `NOBODY`: another worker, which tells the client.
            task: of a client, where there is one.
            request: its method and path, where that is all that is known.
            with_hint: whether the nearest known word is named.
        """
        if isinstance(exc, BacklogFullError):
            self._on_alert(f"full:{exc.backlog}", "warning", f"clients are answered 503: {exc}")
        reply = reply_of(exc, with_hint=with_hint, request=request)
        if by is not NOBODY:
            self._audit.refused(reply.status, str(exc), by, task, request=request)
        if reply.status == 429:  # noqa: PLR2004 - HTTP
            self.stats.requests_limited += 1
        elif reply.status >= 500:  # noqa: PLR2004 - HTTP
            self.stats.requests_unavailable += 1
            self.stats.requests_failed += not isinstance(exc, BacklogFullError)
        else:
            self.stats.requests_refused += 1
        return reply

    def _admit(self, task: Task) -> None:
        """Take a task that is in no memory yet, unless it would only add rows to full queues."""
        if self._full.names or task.is_scheduled:
            try:
                if task.is_scheduled:
                    self._dispatch.schedule.check(task)
                self._full.check(task)
            except BacklogFullError as exc:
                self._turn_away(task, exc)
                return
        self._room.admit(task)

    def _turn_away(self, task: Task, error: BacklogFullError) -> None:
        """Refuse a task, unless it is stored: the store is asked for ids that clients chose."""
        may_be_stored = bool(task.digest) and self._replay_over.is_set()
        if may_be_stored and len(self._looking_up) < _LOOKED_UP_MAX:
            self._looking_up.start(self._answer_if_stored(task, error))
        else:
            self._dismiss(task, error)

    async def _answer_if_stored(self, task: Task, error: EngineError) -> None:
        document: bytes | None = None
        try:
            document = await self._reader.read(self._savers.of(task.id).store.document, task.id)
        except StoreError as exc:
            error = exc
        if document is None:
            self._dismiss(task, error)
        else:
            self._known_elsewhere(task, msgspec.json.decode(document))

    def _save(self, task: Task, until: float | None) -> None:
        self._savers.of(task.id).push(task, until)

    def _again(self, first: Task, task: Task, answer: Callable[[Reply], None]) -> None:
        """Answer a client whose task has the id of *first*, which is in memory: 409 when that is another."""
        if error := task_replies.conflict(task, first.digest, first.token):
            answer(self.refuse(error, task.by, task=task))
        elif first.waiters is not None:
            first.waiters.append(answer)  # the first is being saved: both clients are told the same
        else:
            answer(self._replayed(first))

    def _replayed(self, task: Task) -> Reply:
        """Count a repeat of *task*, which is in memory, and return its reply."""
        self.stats.tasks_replayed += 1
        return task_replies.known(task)

    # Tasks that end here

    def _dismiss(self, task: Task, error: EngineError) -> None:
        """Drop a task that is not saved, and tell its clients why."""
        self._regions.remove(task.id)
        _answer_all(task, lambda: self.refuse(error, task.by, task=task))

    def _answer_stored(self, task: Task, digest: str, document: dict[str, Any]) -> None:
        """Drop a task that was not saved: the store or another worker has its id already.

        Args:
            task: the client's.
            digest: of the stored body, hex.
            document: the stored one, private.
        """
        self._regions.remove(task.id)
        error = task_replies.conflict(task, bytes.fromhex(digest), document.get("token", ""))
        if error is not None:
            _answer_all(task, lambda: self.refuse(error, task.by, task=task))
            return
        self.stats.tasks_replayed += 1
        reply = task_replies.stored(document)
        _answer_all(task, lambda: reply)

    def _known_elsewhere(self, task: Task, document: dict[str, Any]) -> None:
        self._answer_stored(task, document.get("digest", ""), document)

    # Told by recovery: an older task is coming into memory

    def is_asking(self, task_id: str) -> bool:
        """Tell whether a client's task waits for the recovery, see `release_asking`."""
        return self._forwarding is not None and self._forwarding.is_asking(task_id)

    def release_asking(self, task_id: str) -> Task | None:
        """Return a client's task that was still being asked for, taken out of the way of an older one."""
        task = self._forwarding.release(task_id) if self._forwarding is not None else None
        if task is not None:
            self._regions.remove(task_id)
        return task

    def answer_asking(self, task: Task) -> None:
        """Answer a task from `release_asking`: the older one with its id is in memory now."""
        older = self._regions.get(task.id)
        digest, token = (older.digest, older.token) if older is not None else (b"", "")
        error = task_replies.conflict(task, digest, token)
        if error is not None or older is None:
            refusal = error or StoreError("its older task has just gone")
            _answer_all(task, lambda: self.refuse(refusal, task.by, task=task))
        else:
            _answer_all(task, lambda: self._replayed(older))

    # Told by the savers

    def accepted(self, task: Task, journal_key: JournalKey, error: Exception | None) -> None:
        """The task is saved, or cannot be."""
        if error is not None:
            self._load.give_back(task.total)
            if isinstance(error, StoreError):
                self.stats.store_errors += 1
            self._dismiss(task, error if isinstance(error, EngineError) else StoreError(str(error)))
            return
        waiters, task.waiters = task.waiters or [], None
        stats = self.stats
        stats.tasks_accepted += 1
        stats.qps_boss.mark(len(task.targets))
        stats.accept_s.observe(max(0.0, time.time() - task.created_at))
        body = b'{"task_id":"%b","state":"accepted","total":%d}' % (task.id.encode(), task.total)
        waiters[0](Reply(202, body, task_id=task.id, total=task.total))
        self._audit.accepted(task)
        self._dispatch.submit(task, journal_key)
        for answer in waiters[1:]:
            answer(self._replayed(task))

    def known(self, task: Task, digest: str, document: bytes) -> None:
        """The id is in the store already; the new task was not saved."""
        self._load.release(task.total)
        self._answer_stored(task, digest, msgspec.json.decode(document))


def _answer_all(task: Task, make: Callable[[], Reply]) -> None:
    """Give every client that waits for *task* a reply."""
    waiters, task.waiters = task.waiters or [], None
    for answer in waiters:
        answer(make())

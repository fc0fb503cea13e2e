"""Taking tasks in: what both lanes do with a body, from its bytes to its 202.

``submit`` validates, puts the task into its region and hands it to its saver; the answer comes when
the saver has committed, not before. The same id again is answered with the task when the body is the
same, otherwise 409, whether the first one is being saved, at work, or settled and only in the store.

When there is no room (``live_subtasks_max``), a task waits a moment for it: clients that send without
pause are slowed down to what the nodes can take, and only what finds no room in that time gets a 503.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from engine.errors import BacklogFullError, EngineError, RequestError, StoreError
from engine.intake.problems import reply_of
from engine.intake.replies import Reply
from engine.tasks import documents

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from engine.delivery.dispatch import Dispatch
    from engine.intake.auth import Token
    from engine.intake.validate import Validator
    from engine.observe.counters import Stats
    from engine.saver.pool import SaverPool
    from engine.tasks.records import JournalKey
    from engine.tasks.region import RegionMap
    from engine.tasks.task import Task
    from engine.workers.peers import Peers

LINES_MAX: Final = 10_000  #: tasks in one NDJSON request
_TAKE_UP_LIMIT_S: Final = 10.0
_PASSED_ON: Final = ("Retry-After", "WWW-Authenticate")
_encode = msgspec.json.encode


class Admission:
    """The entrance of the engine.

    Args:
        live_max: live subtasks (``live_subtasks_max``); beyond that tasks wait for room.
        wait_s: how long a task waits before it is refused (``saver_push_timeout_s``).
        waiting_max: tasks that may wait (``saver_backlog_count``).
        on_alert: told what an operator should know: key, level, message.
    """

    def __init__(
        self,
        validator: Validator,
        regions: RegionMap,
        dispatch: Dispatch,
        stats: Stats,
        *,
        live_max: int,
        wait_s: float,
        waiting_max: int,
        on_alert: Callable[[str, str, str], None],
    ) -> None:
        self.savers: SaverPool
        self.peers: Peers | None = None
        self.taken_up: asyncio.Event  #: nothing is left that a worker before this one accepted
        self._asking: dict[str, Task] = {}  # of the other worker of our slot, whether it has the id
        self._background: set[asyncio.Task[None]] = set()
        self._validator = validator
        self._regions = regions
        self._dispatch = dispatch
        self.stats = stats
        self._live_max = live_max
        self._wait_s = wait_s
        self._waiting_max = waiting_max
        self._on_alert = on_alert
        self._waiting: deque[tuple[float, Task]] = deque()  # for room, with the time they give up
        self._wait_timer: asyncio.TimerHandle | None = None

    def submit(
        self, body: bytes, token: Token, answer: Callable[[Reply], None], *, is_forwarded: bool = False
    ) -> None:
        """Take one task in. Never raises `EngineError`.

        Args:
            body: the client's JSON.
            token: the client's.
            answer: called once, now or after the commit.
            is_forwarded: another worker has it from its client, and found that it belongs here.
        """
        try:
            if not is_forwarded:
                token.take()
            task = self._validator.task(body, token.hosts.allows)
            if self.peers is not None and task.digest and not self.peers.is_mine(task.id):
                self._start(self._forward(task.id, body, token, answer))
                return
            task.token = token.name if token.is_limited else ""
            there = self._regions.add(task)
            if there is not task:
                self._again(there, task, answer)
                return
        except EngineError as exc:
            answer(self.refuse(exc))
            return
        task.waiters = [answer]
        if (
            self.peers is not None
            and task.digest
            and (self.peers.others_of(task.id) or not self.taken_up.is_set())
        ):
            self._asking[task.id] = task
            self._start(self._ask(task))
        else:
            self._admit(task)

    def _admit(self, task: Task) -> None:
        """Take a task, or let it wait for room."""
        full = self._full(task, in_memory=len(self._regions) - 1 - len(self._waiting))
        if not full and not self._waiting:
            self._take(task)
        elif len(self._waiting) < self._waiting_max:
            self._wait(task)
        else:
            self._give_up(task, full)

    def submit_lines(self, body: bytes, token: Token, answer: Callable[[Reply], None]) -> None:
        """Take NDJSON in, a task per line; *answer* gets one NDJSON reply when every line has its own."""
        lines = [line for line in body.split(b"\n") if line.strip()]
        if not 1 <= len(lines) <= LINES_MAX:
            detail = f"body: takes 1-{LINES_MAX} lines, a task each, got {len(lines)}"
            answer(self.refuse(RequestError(422, detail)))
            return
        batch = _Lines(len(lines), answer)
        for number, line in enumerate(lines):
            self.submit(line, token, batch.line(number))

    def refuse(self, exc: EngineError) -> Reply:
        """Count an error and return its reply."""
        if isinstance(exc, BacklogFullError):
            self._on_alert(f"full:{exc.backlog}", "warning", f"clients are answered 503: {exc}")
        reply = reply_of(exc)
        if reply.status == 429:  # noqa: PLR2004 - HTTP
            self.stats.requests_limited += 1
        elif reply.status >= 500:  # noqa: PLR2004 - HTTP
            self.stats.requests_unavailable += 1
            self.stats.requests_failed += not isinstance(exc, BacklogFullError)
        else:
            self.stats.requests_refused += 1
        return reply

    def _full(self, task: Task, *, in_memory: int) -> str:
        """Return what is full, or nothing when there is room for *task* beside the tasks *in_memory*."""
        live = self._dispatch.live
        if live and live + task.total > self._live_max:
            return "pushing_queue"
        if in_memory >= self._live_max:  # their rest waits for a node that is down
            return "tasks_in_cache"
        return ""

    def _full_for_waiting(self, task: Task) -> str:
        return self._full(task, in_memory=len(self._regions) - len(self._waiting))

    def _take(self, task: Task) -> None:
        self._dispatch.live += task.total
        self.savers.of(task.id).push(task)

    def _wait(self, task: Task) -> None:
        loop = asyncio.get_running_loop()
        self._waiting.append((loop.time() + self._wait_s, task))
        self._dispatch.on_room = self._take_waiting
        if self._wait_timer is None:
            self._wait_timer = loop.call_later(self._wait_s, self._expire)

    def _take_waiting(self) -> None:
        """There may be room: take the tasks that waited longest."""
        waiting = self._waiting
        while waiting and not self._full_for_waiting(waiting[0][1]):
            self._take(waiting.popleft()[1])
        if waiting:
            self._dispatch.on_room = self._take_waiting

    def _expire(self) -> None:
        """Refuse what found no room in time."""
        self._wait_timer = None
        self._take_waiting()
        loop = asyncio.get_running_loop()
        waiting = self._waiting
        while waiting and waiting[0][0] <= loop.time():
            task = waiting.popleft()[1]
            self._give_up(task, self._full_for_waiting(task))
        if waiting:
            self._wait_timer = loop.call_at(waiting[0][0], self._expire)

    def _give_up(self, task: Task, full: str) -> None:
        waiters, task.waiters = task.waiters or [], None
        self._regions.remove(task.id)
        error = BacklogFullError(full or "pushing_queue", retry_after_s=1)
        for answer in waiters:
            answer(self.refuse(error))

    def _again(self, there: Task, task: Task, answer: Callable[[Reply], None]) -> None:
        """The id is in memory already."""
        if there.digest != task.digest:
            raise _conflict(task.id)
        if there.waiters is not None:
            there.waiters.append(answer)  # it is being saved; its fate is ours
        else:
            self.stats.tasks_replayed += 1
            answer(Reply(200, _encode(documents.document(there))))

    # Other workers

    def _start(self, work: Coroutine[None, None, None]) -> None:
        running = asyncio.get_running_loop().create_task(work)
        self._background.add(running)
        running.add_done_callback(self._background.discard)

    async def _forward(
        self, task_id: str, body: bytes, token: Token, answer: Callable[[Reply], None]
    ) -> None:
        """Hand a task to the worker that its id belongs to."""
        assert self.peers is not None
        try:
            found = await self.peers.ask_owner("POST", f"/worker/task?token={token.name}", task_id, body)
        except StoreError as exc:
            answer(self.refuse(exc))
            return
        if found is None:
            answer(self.refuse(StoreError("the worker that this id belongs to is being replaced")))
            return
        extra = {name: found.headers[name] for name in _PASSED_ON if name in found.headers}
        answer(Reply(found.status, found.body, found.headers["Content-Type"].partition(";")[0], extra))

    async def _ask(self, task: Task) -> None:
        """See whether the other worker of our slot has this id, before the task is saved here.

        When that one has just gone, what it had is here soon: the task waits for it.
        """
        assert self.peers is not None
        error: EngineError | None = None
        found = None
        try:
            found = await self.peers.find(task.id)
            if found is None and not self.peers.has_predecessor():
                await asyncio.wait_for(self.taken_up.wait(), _TAKE_UP_LIMIT_S)
        except StoreError as exc:
            error = exc
        except TimeoutError:
            error = StoreError("what the worker before this one left is not taken up yet")
        if self._asking.pop(task.id, None) is None:
            return  # it has been answered meanwhile, see `release_asking`
        if error is not None:
            waiters, task.waiters = task.waiters or [], None
            self._regions.remove(task.id)
            for answer in waiters:
                answer(self.refuse(error))
        elif found is not None:
            self._dispatch.live += task.total
            self.known(task, found.get("digest", ""), _encode(found))
        else:
            self._admit(task)

    def release_asking(self, task_id: str) -> Task | None:
        """Return a client's task that was still being asked for, taken out of the way of an older one."""
        task = self._asking.pop(task_id, None)
        if task is not None:
            self._regions.remove(task_id)
        return task

    def answer_asking(self, task: Task) -> None:
        """Answer a task from `release_asking`: the older one with its id is in memory now."""
        waiters, task.waiters = task.waiters or [], None
        there = self._regions.get(task.id)
        for answer in waiters:
            if there is None or there.digest != task.digest:
                answer(self.refuse(_conflict(task.id)))
            else:
                self.stats.tasks_replayed += 1
                answer(Reply(200, _encode(documents.document(there))))

    # Told by the savers

    def accepted(self, task: Task, journal_key: JournalKey, error: Exception | None) -> None:
        """The task is saved, or cannot be."""
        waiters, task.waiters = task.waiters or [], None
        if error is not None:
            self._regions.remove(task.id)
            self._dispatch.live -= task.total
            if isinstance(error, StoreError):
                self.stats.store_errors += 1
            for answer in waiters:
                answer(self.refuse(error if isinstance(error, EngineError) else StoreError(str(error))))
            return
        stats = self.stats
        stats.tasks_accepted += 1
        stats.qps_boss.mark(len(task.targets))
        stats.accept_s.observe(max(0.0, time.time() - task.created_at))
        waiters[0](
            Reply(202, b'{"task_id":"%b","state":"accepted","total":%d}' % (task.id.encode(), task.total))
        )
        self._dispatch.submit(task, journal_key)
        for answer in waiters[1:]:
            stats.tasks_replayed += 1
            answer(Reply(200, _encode(documents.document(task))))

    def known(self, task: Task, digest: str, document: bytes) -> None:
        """The id is in the store already; the new task was not saved."""
        waiters, task.waiters = task.waiters or [], None
        self._regions.remove(task.id)
        self._dispatch.live -= task.total
        if digest == task.digest.hex():
            self.stats.tasks_replayed += 1
            reply = Reply(200, _encode(documents.public(msgspec.json.decode(document))))
        else:
            reply = self.refuse(_conflict(task.id))
        for answer in waiters:
            answer(reply)


def _conflict(task_id: str) -> RequestError:
    return RequestError(
        409, f"id: {task_id!r} is taken by a task with another body; use a new id", field="id"
    )


class _Lines:
    """Collects the replies of one NDJSON request, in the order of its lines."""

    def __init__(self, count: int, answer: Callable[[Reply], None]) -> None:
        self._replies: list[bytes] = [b""] * count
        self._left = count
        self._answer = answer

    def line(self, number: int) -> Callable[[Reply], None]:
        """Return what takes the reply of one line."""

        def put(reply: Reply) -> None:
            self._replies[number] = reply.body
            self._left -= 1
            if not self._left:
                self._answer(Reply(200, b"\n".join(self._replies) + b"\n", "application/x-ndjson"))

        return put

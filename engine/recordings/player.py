"""Sends a recording to an engine: each request at its time, or as fast as the connections take them.

The file is read ahead by a thread, some hundred entries at a time. A request about a task that the engine
itself had named waits until the new task has its id; the answer in the recording tells which request made it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
import msgspec
import yarl

from engine.errors import RecordingError
from engine.recordings.answers import answer_of, pairs
from engine.recordings.gor import REQUEST, RESPONSE
from engine.recordings.messages import request_of, response_of
from engine.recordings.rewriting import with_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from engine.recordings.answers import Answer
    from engine.recordings.gor import Entry
    from engine.recordings.report import Report
    from engine.recordings.rewriting import Ready, Rewriting

_BATCH: Final = 256  #: entries that are read at once
_QUEUED_MAX: Final = 2000  #: requests that wait for a connection
_REMEMBERED_MAX: Final = 200_000  #: requests whose answer, or recorded answer, is not there yet
_BEYOND_MAX: Final = 2000  #: requests that are read, and not sent, for the answers between them
_NAMED_WAIT_S: Final = 5.0
_DETAIL_CHARS: Final = 200
_OWN_FIELDS: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")  #: aiohttp adds none of them
_UNREACHABLE: Final = (aiohttp.ClientConnectorError,)


class UnreachableError(RecordingError):
    """No engine has answered the first request."""


class _Sent(msgspec.Struct):
    """A request of which the answer, or the recorded one, is not there yet."""

    request: str
    tasks: asyncio.Future[list[str]]  #: ids of the tasks that it makes, one for each line
    answer: Answer | None = None
    recorded: Answer | None = None


class _Made(NamedTuple):
    """A task that a request makes."""

    tasks: asyncio.Future[list[str]]  #: ids of all that the request makes
    line: int  #: of the task, from 0


class _Waiting(msgspec.Struct, frozen=True):
    """A request that waits for a connection."""

    due: float  #: the monotonic clock's; 0: whenever there is one
    key: str
    ready: Ready
    about: _Made | None  #: the task that it asks for, where a request before it makes that
    new_id: str  #: of that task, where its client chose the id


class Player:
    """One run of a recording.

    Args:
        url: of the engine.
        rewriting: makes requests that may be sent.
        report: counts what becomes of them.
        speed: 1: at the times of the recording, 2: twice as fast; 0: as fast as can be.
        workers: connections.
        timeout_s: for one answer.
    """

    def __init__(
        self, url: str, rewriting: Rewriting, report: Report, *, speed: float, workers: int, timeout_s: float
    ) -> None:
        self._url = url.rstrip("/")
        self._rewriting = rewriting
        self._report = report
        self._speed = speed
        self._workers = workers
        self._timeout_s = timeout_s
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(_QUEUED_MAX)
        self._sent: OrderedDict[str, _Sent] = OrderedDict()
        self._tasks: OrderedDict[str, _Made] = OrderedDict()  # by the recorded id
        self._failure: RecordingError | None = None
        self._is_over = False  # there is no engine

    async def run(self, passes: Iterator[Iterator[Entry]], limit: int = 0) -> None:
        """Send every request of some passes over a recording.

        Args:
            passes: the entries, once for each pass.
            limit: send so many requests at most; 0: all.

        Raises:
            RecordingError: the recording cannot be read any further.
            UnreachableError: nothing has answered at all.
        """
        began = time.monotonic()
        try:
            async with self.connected():
                await self._read(passes, limit)
                await self._queue.join()
        finally:
            self._report.elapsed_s = time.monotonic() - began
        if self._failure is not None:
            raise self._failure

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Have the connections, and what sends on them, until the context ends."""
        connector = aiohttp.TCPConnector(limit=self._workers)
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False, skip_auto_headers=_OWN_FIELDS
        ) as session:
            workers = [asyncio.create_task(self._work(session)) for _ in range(self._workers)]
            try:
                yield
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def play(self, entries: Iterator[Entry], number: int) -> None:
        """Send the requests of a part of pass *number*, within `connected`; return when all are answered.

        Raises:
            RecordingError: the recording cannot be read any further.
            UnreachableError: nothing has answered at all.
        """
        self._rewriting.begin_pass(number)
        failure = await self._pass(entries, str(number), 0)
        await self._queue.join()
        if (failure := self._failure or failure) is not None:
            raise failure

    async def _read(self, passes: Iterator[Iterator[Entry]], limit: int) -> None:
        for number, entries in enumerate(passes):
            self._rewriting.begin_pass(number)
            failure = await self._pass(entries, str(number), limit)
            if failure is not None:
                self._failure = self._failure or failure
            if failure or self._is_over or (limit and self._report.sent >= limit):
                return

    async def _pass(self, entries: Iterator[Entry], number: str, limit: int) -> RecordingError | None:
        """Send the requests of one pass; return why it ends early, if it does."""
        began, first_ns, beyond = time.monotonic(), -1, 0
        failure: RecordingError | None = None
        while failure is None:
            batch, failure = await asyncio.to_thread(_next_of, entries)
            if not batch:
                break
            for entry in batch:
                if self._is_over or beyond > _BEYOND_MAX:
                    return None
                key = f"{number} {entry.id}"
                if entry.kind == RESPONSE:
                    self._take_recorded(key, entry)
                elif entry.kind == REQUEST and limit and self._report.sent >= limit:
                    beyond += 1  # answers to what was sent may stand behind it
                elif entry.kind == REQUEST:
                    first_ns = entry.at_ns if first_ns < 0 else first_ns
                    await self._take(key, entry, began, entry.at_ns - first_ns)
        return failure

    async def _take(self, key: str, entry: Entry, began: float, after_ns: int) -> None:
        try:
            ready = self._rewriting.ready(request_of(entry.message))
        except RecordingError as exc:
            self._report.skipped[str(exc)[:_DETAIL_CHARS]] += 1
            return
        due = began
        if self._speed:
            due += max(0, after_ns) / 1e9 / self._speed
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        else:
            due = 0.0
        self._report.sent += 1
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._sent[key] = _Sent(f"{ready.method} {ready.path[:_DETAIL_CHARS]}", future)
        if len(self._sent) > _REMEMBERED_MAX:
            self._sent.popitem(last=False)
        new_id = self._rewriting.new_id(ready.names) if ready.names else ""
        await self._queue.put(_Waiting(due, key, ready, self._tasks.get(ready.names), new_id))

    def _take_recorded(self, key: str, entry: Entry) -> None:
        """Remember how a request was answered when it was recorded."""
        sent = self._sent.get(key)
        if sent is None:
            return
        try:
            response = response_of(entry.message)
        except RecordingError as exc:
            self._report.skipped[str(exc)[:_DETAIL_CHARS]] += 1
            return
        if entry.latency_ns > 0:
            self._report.recorded_latencies.add(entry.latency_ns / 1e9)
        sent.recorded = answer_of(sent.request, response.status, response.body)
        self._name(sent, sent.recorded)
        self._report.recorded(key, sent.recorded)
        self._compare(key, sent)

    def _name(self, sent: _Sent, recorded: Answer) -> None:
        """Have requests about the recorded tasks ask for the new ones."""
        for line, task_id in enumerate(recorded.task_ids):
            if task_id:
                self._tasks[task_id] = _Made(sent.tasks, line)
        while len(self._tasks) > _REMEMBERED_MAX:
            self._tasks.popitem(last=False)

    def _compare(self, key: str, sent: _Sent) -> None:
        if sent.answer is not None and sent.recorded is not None:
            self._sent.pop(key, None)
            for request, answered, recorded in pairs(sent.request, sent.answer, sent.recorded):
                self._report.compare(request, recorded.status, answered.status, answered.detail)

    # Workers

    async def _work(self, session: aiohttp.ClientSession) -> None:
        while True:
            waiting = await self._queue.get()
            try:
                if not self._is_over:
                    await self._send(session, waiting)
            finally:
                self._queue.task_done()

    async def _send(self, session: aiohttp.ClientSession, waiting: _Waiting) -> None:
        ready, path = waiting.ready, waiting.ready.path
        if ready.names:
            path = with_task(path, await self._new_id(waiting))
        began = time.monotonic()
        if waiting.due:
            self._report.late_s = max(self._report.late_s, began - waiting.due)
        status, body, detail = 0, b"", ""
        try:
            async with session.request(
                ready.method,
                yarl.URL(self._url + path, encoded=True),
                headers=ready.fields,
                data=ready.body or None,
                allow_redirects=False,
            ) as response:
                status, body = response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            detail = str(exc) or type(exc).__name__
            if isinstance(exc, _UNREACHABLE) and not self._report.latencies.document():
                self._failure = UnreachableError(f"{self._url}: {detail}")
                self._is_over = True
        self._report.answered(status, time.monotonic() - began)
        self._answered(waiting.key, status, body, detail)

    async def _new_id(self, waiting: _Waiting) -> str:
        """Return the id of the task that stands for the one that a recorded request is about."""
        recorded_id, about = waiting.ready.names, waiting.about
        if about is None:
            return waiting.new_id
        try:
            new_ids = await asyncio.wait_for(asyncio.shield(about.tasks), _NAMED_WAIT_S)
        except TimeoutError:
            return recorded_id
        return (new_ids[about.line] if about.line < len(new_ids) else "") or recorded_id

    def _answered(self, key: str, status: int, body: bytes, detail: str) -> None:
        sent = self._sent.get(key)
        if sent is None:
            return
        sent.answer = answer_of(sent.request, status, body, detail)
        if not sent.tasks.done():
            sent.tasks.set_result(sent.answer.task_ids)
        self._report.saw(key, sent.request, sent.answer)
        self._compare(key, sent)


def _next_of(entries: Iterator[Entry]) -> tuple[list[Entry], RecordingError | None]:
    """Return the next entries, and why there are no more of them when that is a fault."""
    batch: list[Entry] = []
    try:
        batch.extend(islice(entries, _BATCH))
    except RecordingError as exc:
        return batch, exc
    return batch, None


def passes_of(make: Callable[[], Iterator[Entry]], *, loops: bool) -> Iterator[Iterator[Entry]]:
    """Yield the entries of a recording once, or again and again."""
    yield make()
    while loops:
        yield make()

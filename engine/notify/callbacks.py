"""Callbacks: what clients are told when their task has settled.

Callbacks wait per host, and a free place goes to the hosts in turn. A host that fails gets one place until
it answers again, so a dead host cannot hold up the others. A callback that waits is kept in memory only:
whoever adds it has saved it first, and `on_settled` says when the store may forget it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec
from loguru import logger

from engine.tasks.told import Told

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.base.timer import Timer
    from engine.notify.post import Poster
    from engine.notify.rules import CallbackRules
    from engine.observe.counters import Stats

RUNNING_MAX = 32  #: callbacks in flight
RUNNING_PER_HOST_MAX = 4


class CallbackJob(msgspec.Struct):
    """One callback on its way."""

    key: tuple[int, int | str]  #: the saver's number and the store's key
    task_id: str
    url: str
    body: bytes  #: JSON
    attempt: int = 0  #: attempts made
    last: str = ""  #: what came of the last one
    next_at: float | None = None  #: when it is tried again, UNIX time
    outcome: str = "pending"
    over_at: float | None = None

    @property
    def told(self) -> Told:
        """What has become of it so far."""
        reports = _decode(self.body).state
        return Told(reports, self.outcome, self.attempt, self.last, self.next_at, self.over_at)


class _Reported(msgspec.Struct):
    """What is read of a callback's document."""

    traceparent: str | None = None
    state: str = ""


_decode: Final = msgspec.json.Decoder(_Reported).decode


class _Host:
    """Callbacks to one host."""

    __slots__ = ("is_failing", "jobs", "running", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[CallbackJob] = deque()
        self.jobs = 0  # not settled; some wait in the timer
        self.running = 0
        self.is_failing = False

    @property
    def has_place(self) -> bool:
        return bool(self.waiting) and self.running < (1 if self.is_failing else RUNNING_PER_HOST_MAX)


class Callbacks:
    """Delivers callbacks. Belongs to the loop's thread.

    Args:
        rules: where callbacks may go.
        timer: for the retries.
        poster: sends them.
        on_settled: told each job once, with whether it was delivered; not for what is unsettled at the stop.
            Until `forget` is called for the job, `told_of` tells of it.
        stats: counts ``callbacks_sent`` and ``callbacks_failed``.
        attempts_max: attempts before a callback is given up.
    """

    def __init__(
        self,
        rules: CallbackRules,
        timer: Timer,
        poster: Poster,
        *,
        on_settled: Callable[[CallbackJob, bool], None],
        stats: Stats,
        attempts_max: int = 8,
    ) -> None:
        self._rules = rules
        self._timer = timer
        self._poster = poster
        self._on_settled = on_settled
        self._stats = stats
        self._attempts_max = attempts_max
        self._hosts: dict[str, _Host] = {}
        self._jobs: dict[tuple[int, int | str], CallbackJob] = {}
        self._newest: dict[str, CallbackJob] = {}  # of each task
        self._running: set[asyncio.Task[None]] = set()
        self._is_open = False

    def __len__(self) -> int:
        """Return how many callbacks are not over."""
        return len(self._jobs)

    def __repr__(self) -> str:
        return f"<Callbacks [{len(self)} waiting or in flight]>"

    def waiting(self) -> list[tuple[int, int | str]]:
        """Return the keys of the callbacks that are not over."""
        return list(self._jobs)

    def of_task(self, task_id: str) -> list[tuple[str, int]]:
        """Return the hosts of a task's callbacks that are not over, and the attempts made."""
        jobs = [job for job in self._jobs.values() if job.task_id == task_id]
        return [(urlsplit(job.url).hostname or "", job.attempt) for job in jobs]  # the rest may hold a secret

    def told_of(self, task_id: str) -> Told | None:
        """Return what has become of a task's last report; None: it is with nobody here."""
        job = self._newest.get(task_id)
        return None if job is None else job.told

    def forget(self, job: CallbackJob) -> None:
        """Tell of a settled job no more: what became of it is stored."""
        if self._newest.get(job.task_id) is job:
            del self._newest[job.task_id]

    def add(self, job: CallbackJob) -> None:
        """Deliver *job*. A job that no rule allows any more is settled as failed, soon after."""
        if job.key in self._jobs:
            return
        self._jobs[job.key] = self._newest[job.task_id] = job
        if reason := self._rules.allows(job.url):
            self._timer.add(("callback", job.key), 0, partial(self._settle, job, False, reason))
            return
        host = self._hosts.setdefault(urlsplit(job.url).hostname or "", _Host())
        host.jobs += 1
        self._enqueue(host, job)

    def start(self) -> None:
        """Begin to send; jobs may have been added before."""
        self._is_open = True
        self._pump()

    def stop(self) -> set[asyncio.Task[None]]:
        """Send nothing more; return what is in flight."""
        self._is_open = False
        for key in self._jobs:
            self._timer.cancel(("callback", key))
        return set(self._running)

    def _enqueue(self, host: _Host, job: CallbackJob) -> None:
        host.waiting.append(job)
        self._pump()

    def _pump(self) -> None:
        """Start what there is a place for, one host after the other."""
        while self._is_open and len(self._running) < RUNNING_MAX:
            name = next((name for name, host in self._hosts.items() if host.has_place), None)
            if name is None:
                return
            host = self._hosts.pop(name)
            self._hosts[name] = host  # to the end: the others come first next time
            host.running += 1
            task = asyncio.get_running_loop().create_task(self._send(name, host, host.waiting.popleft()))
            self._running.add(task)
            task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (exc := task.exception()):
            logger.opt(exception=exc).error("a callback could not be settled")
        self._pump()

    async def _send(self, name: str, host: _Host, job: CallbackJob) -> None:
        job.attempt += 1
        job.next_at = None
        headers = {"Purgeline-Task": job.task_id, "Purgeline-Attempt": str(job.attempt)}
        if traceparent := _decode(job.body).traceparent:
            headers["traceparent"] = traceparent
        try:
            answer = await self._poster.post(job.url, job.body, self._rules.secret_for(name), headers)
        finally:
            host.running -= 1
        job.last = answer.reason
        host.is_failing = not answer.is_final
        if answer.is_final or job.attempt >= self._attempts_max:
            host.jobs -= 1
            if not host.jobs:
                del self._hosts[name]
            self._settle(job, answer.is_delivered, answer.reason)
        elif self._is_open:
            again = partial(self._enqueue, host, job)
            pause_s = answer.pause_s(job.attempt)
            job.next_at = round(time.time() + pause_s, 3)
            self._timer.add(("callback", job.key), pause_s, again)

    def _settle(self, job: CallbackJob, is_delivered: bool, reason: str) -> None:
        self._jobs.pop(job.key, None)
        job.outcome, job.last = "delivered" if is_delivered else "failed", reason
        job.over_at = round(time.time(), 3)
        if is_delivered:
            self._stats.callbacks_sent += 1
        else:
            self._stats.callbacks_failed += 1
            host = urlsplit(job.url).hostname  # the rest of the URL may hold a secret
            logger.bind(task_id=job.task_id, host=host, attempts=job.attempt, reason=reason).warning(
                "callback given up"
            )
        self._on_settled(job, is_delivered)

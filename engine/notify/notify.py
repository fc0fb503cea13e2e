"""What the engine says on its own: callbacks of settled tasks, and alerts for the operator.

Callbacks wait per host, and a free place goes to the hosts in turn. A host that fails gets one place
until it answers again, so a dead one cannot hold up the others. Waiting jobs are not kept here beyond
the process: whoever adds a job saves it first, and `on_settled` says when it may be forgotten.

A callback reaches only hosts with a ``[[callback]]`` rule, and redirects are not followed. The name is
resolved when it is sent: a name that an outsider controls can point inside (DNS rebinding), and keeping
such names out of the rules is the operator's part.
"""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import hmac
import random
import re
import socket
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import aiohttp
import msgspec
from loguru import logger
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.base.timer import Timer
    from engine.config.tables import AlertConfig, CallbackConfig
    from engine.observe.counters import Stats

Level = Literal["warning", "error", "resolved"]

REQUEST_TIMEOUT_S = 10.0
RUNNING_MAX = 32  #: callbacks in flight
RUNNING_PER_HOST_MAX = 4
BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 300.0  #: also the longest Retry-After that is honoured
ALERTS_WAITING_MAX = 100
ALERTS_KNOWN_MAX = 10_000  #: keys remembered to tell a repeated alert
ALERT_RATE_PER_S = 1.0
ALERT_BURST = 10.0
ALERT_ATTEMPTS_MAX = 8
_ALERT_TIMER = ("alert",)  # a tuple, as the timer's other users have strings
_WORTH_RETRYING = frozenset({408, 425, 429})
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]*:[0-9a-f:.]*")


class CallbackJob(msgspec.Struct):
    """One callback on its way."""

    key: tuple[int, int | str]  #: the saver's number and the store's key
    task_id: str
    url: str
    body: bytes  #: JSON
    attempt: int = 0  #: attempts made


class _Answer(msgspec.Struct):
    """What came of one POST."""

    status: int = 0  #: 0: no answer
    retry_after_s: float = 0.0
    reason: str = ""

    @property
    def is_delivered(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004 - HTTP

    @property
    def is_final(self) -> bool:
        return self.is_delivered or (400 <= self.status < 500 and self.status not in _WORTH_RETRYING)  # noqa: PLR2004


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


class _Client:
    """Posts JSON, signed when there is a secret. `session` is there between start and close."""

    session: aiohttp.ClientSession | None = None

    def start(self) -> None:
        self.session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
            connector=aiohttp.TCPConnector(limit=0),  # the limits are ours; alerts have a place of their own
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def post(self, url: str, body: bytes, secret: str, headers: dict[str, str]) -> _Answer:
        """POST once; never raises for what the other side does."""
        assert self.session is not None
        stamp = str(int(time.time()))
        headers = {"Content-Type": "application/json", "Purgeline-Timestamp": stamp, **headers}
        if secret:
            mac = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256)
            headers["Purgeline-Signature"] = f"v1={mac.hexdigest()}"
        target = URL(url, encoded=True)
        try:
            async with self.session.post(
                target, data=body, headers=headers, allow_redirects=False
            ) as response:
                wait_s = _retry_after(response.headers.get("Retry-After", ""))
                return _Answer(response.status, wait_s, f"answered {response.status}")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
            return _Answer(reason=f"{type(exc).__name__}: {exc}".rstrip(": "))


class Notifier:
    """Delivers callbacks and alerts. Belongs to the loop's thread.

    Args:
        rules: hosts that callbacks may go to, and their secrets.
        alert: where alerts go.
        timer: for the retries.
        on_settled: told each job once, with whether it was delivered; not for what `drain` leaves.
        stats: counts ``callbacks_sent``, ``callbacks_failed`` and ``alerts_sent``.
        attempts_max: attempts before a callback is given up.
    """

    def __init__(
        self,
        rules: list[CallbackConfig],
        alert: AlertConfig,
        timer: Timer,
        *,
        on_settled: Callable[[CallbackJob, bool], None],
        stats: Stats,
        attempts_max: int = 8,
    ) -> None:
        self._rules = rules
        self._timer = timer
        self._on_settled = on_settled
        self._stats = stats
        self._attempts_max = attempts_max
        self._client = _Client()
        self._alerts = Alerts(alert, timer, self._client, stats)
        self.alert = self._alerts.alert
        self._hosts: dict[str, _Host] = {}
        self._jobs: set[tuple[int, int | str]] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._is_open = False

    def waiting(self) -> list[tuple[int, int | str]]:
        """Return the keys of the callbacks that are not over."""
        return list(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def alerts_waiting(self) -> int:
        """Alerts that wait for their POST."""
        return len(self._alerts)

    def allows(self, url: str) -> str | None:
        """Return None when tasks may name *url* as callback, otherwise what would be right."""
        if not re.fullmatch(r"[!-\[\]-~]+", url) or "#" in url:
            return "takes printable ASCII without spaces, backslashes or a #fragment"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return "takes http(s)://HOST[:PORT]/PATH"
        if parts.scheme not in {"http", "https"} or not _HOST.fullmatch(host) or port == 0:
            return "takes http(s)://HOST[:PORT]/PATH"
        if "@" in parts.netloc:
            return "takes no user name or password"
        if self._rule(host) is None:
            hosts = ", ".join(rule.host for rule in self._rules) or "none"
            return f"host {host!r} has no [[callback]] rule; allowed: {hosts}"
        return None

    def add(self, job: CallbackJob) -> None:
        """Deliver *job*. One that no rule allows any more is settled as failed, soon after."""
        if job.key in self._jobs:
            return
        self._jobs.add(job.key)
        if reason := self.allows(job.url):
            self._timer.add(("callback", job.key), 0, partial(self._settle, job, False, reason))
            return
        host = self._hosts.setdefault(urlsplit(job.url).hostname or "", _Host())
        host.jobs += 1
        self._enqueue(host, job)

    async def start(self) -> None:
        """Begin to send; jobs and alerts may have been added before."""
        self._client.start()
        self._is_open = True
        self._alerts.start()
        self._pump()

    async def drain(self, timeout_s: float) -> None:
        """Let what is in flight finish, for at most that many seconds; the rest stays unsettled."""
        self._is_open = False
        for key in self._jobs:
            self._timer.cancel(("callback", key))
        running = self._running | self._alerts.stop()
        if running:
            _, late = await asyncio.wait(running, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._client.session is not None:
            await self._client.session.close()

    def _rule(self, host: str) -> CallbackConfig | None:
        """Return the closest rule: the name itself, then the longest ``*.``, then ``*``."""
        name = f"[{host}]" if ":" in host else host
        fitting = [
            rule
            for rule in self._rules
            if rule.host in {name, "*"} or (rule.host.startswith("*.") and name.endswith(rule.host[1:]))
        ]
        return max(fitting, key=lambda rule: (rule.host == name, len(rule.host)), default=None)

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
        rule = self._rule(name)
        headers = {"Purgeline-Task": job.task_id, "Purgeline-Attempt": str(job.attempt)}
        try:
            answer = await self._client.post(job.url, job.body, rule.secret if rule else "", headers)
        finally:
            host.running -= 1
        host.is_failing = not answer.is_final
        if answer.is_final or job.attempt >= self._attempts_max:
            host.jobs -= 1
            if not host.jobs:
                del self._hosts[name]
            self._settle(job, answer.is_delivered, answer.reason)
        elif self._is_open:
            delay_s = max(answer.retry_after_s, _backoff(job.attempt))
            self._timer.add(("callback", job.key), delay_s, partial(self._enqueue, host, job))

    def _settle(self, job: CallbackJob, is_delivered: bool, reason: str) -> None:
        self._jobs.discard(job.key)
        if is_delivered:
            self._stats.callbacks_sent += 1
        else:
            self._stats.callbacks_failed += 1
            host = urlsplit(job.url).hostname  # the rest of the URL may hold a secret
            logger.bind(task_id=job.task_id, host=host, attempts=job.attempt, reason=reason).warning(
                "callback given up"
            )
        self._on_settled(job, is_delivered)


class _Alert(msgspec.Struct):
    """The body of an alert."""

    key: str
    level: Level
    message: str
    facts: dict[str, str | int | float]
    time: float  #: UNIX seconds
    host: str
    repeated: int = 0  #: the same alert, not posted, since the last one
    suppressed: int = 0  #: other alerts that did not fit since the last one


class Alerts:
    """Posts alerts one at a time, at most `ALERT_RATE_PER_S`, each key's newest only.

    Args:
        config: where to; without a URL, alerts are log lines only.
        timer: for rate and retries.
        client: shared with the callbacks.
        stats: counts ``alerts_sent``.
    """

    def __init__(self, config: AlertConfig, timer: Timer, client: _Client, stats: Stats) -> None:
        self._config = config
        self._timer = timer
        self._client = client
        self._stats = stats
        self._host = socket.gethostname()
        self._waiting: dict[str, _Alert] = {}
        self._known: dict[str, tuple[str, float, int]] = {}  # key: level, when queued, times held back
        self._suppressed = 0
        self._attempt = 0
        self._left = ALERT_BURST
        self._filled_at = time.monotonic()
        self._sending: asyncio.Task[None] | None = None
        self._is_open = False

    def __len__(self) -> int:
        return len(self._waiting)

    def alert(self, key: str, level: Level, message: str, /, **facts: str | float) -> None:
        """Log *message*, and post it unless the same key and level was posted within ``repeat_s``.

        Args:
            key: what the alert is about, such as ``node/edge-1``; ``resolved`` ends it by the same key.
            level: ``warning``, ``error`` or ``resolved``.
            message: one sentence.
            facts: values to go with it.
        """
        logger.bind(**{**facts, "alert": key}).log(
            "INFO" if level == "resolved" else level.upper(), "{}", message
        )
        if not self._config.url:
            return
        now = time.monotonic()
        known_level, queued_at, repeated = self._known.get(key, ("", 0.0, 0))
        if known_level == level and now - queued_at < self._config.repeat_s:
            self._known[key] = (level, queued_at, repeated + 1)
            return
        if key not in self._waiting and len(self._waiting) >= ALERTS_WAITING_MAX:
            self._suppressed += 1
            return
        self._known.pop(key, None)
        self._known[key] = (level, now, 0)
        if len(self._known) > ALERTS_KNOWN_MAX:
            del self._known[next(iter(self._known))]
        repeated = repeated if known_level == level else 0
        self._waiting[key] = _Alert(key, level, message, facts, time.time(), self._host, repeated)
        self._pump()

    def start(self) -> None:
        """Begin to post."""
        self._is_open = True
        self._pump()

    def stop(self) -> set[asyncio.Task[None]]:
        """Post nothing more; return what is in flight."""
        self._is_open = False
        self._timer.cancel(_ALERT_TIMER)
        return {self._sending} if self._sending else set()

    def _pump(self) -> None:
        if not self._is_open or self._sending or not self._waiting or self._attempt:
            return
        now = time.monotonic()
        self._left = min(ALERT_BURST, self._left + (now - self._filled_at) * ALERT_RATE_PER_S)
        self._filled_at = now
        if self._left < 1:
            self._timer.add(_ALERT_TIMER, (1 - self._left) / ALERT_RATE_PER_S, self._pump)
            return
        self._left -= 1
        self._post()

    def _post(self) -> None:
        self._sending = asyncio.get_running_loop().create_task(self._send())
        self._sending.add_done_callback(self._finish)

    def _finish(self, _: asyncio.Task[None]) -> None:
        self._sending = None
        self._pump()

    async def _send(self) -> None:
        alert = next(iter(self._waiting.values()))
        alert.suppressed = self._suppressed
        answer = await self._client.post(
            self._config.url, msgspec.json.encode(alert), self._config.secret, {}
        )
        self._attempt += 1
        if not answer.is_final and self._attempt < ALERT_ATTEMPTS_MAX:
            if self._is_open:
                self._timer.add(_ALERT_TIMER, max(answer.retry_after_s, _backoff(self._attempt)), self._post)
            return
        self._attempt = 0
        if self._waiting.get(alert.key) is alert:
            del self._waiting[alert.key]
        if answer.is_delivered:
            self._suppressed -= alert.suppressed
            self._stats.alerts_sent += 1
        else:
            logger.bind(alert=alert.key, reason=answer.reason).warning("alert not delivered")


def _backoff(attempt: int) -> float:
    """Return seconds to wait, with full jitter."""
    return random.uniform(0, min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2**attempt))  # noqa: S311 - not for secrets


def _retry_after(value: str) -> float:
    """Return the seconds of a Retry-After header, a number or a date; 0 without a usable one."""
    try:
        delay_s = float(value) if value.isdecimal() else _until(value)
    except (ValueError, OverflowError):
        return 0.0
    return min(max(delay_s, 0.0), BACKOFF_MAX_S)


def _until(date: str) -> float:
    return email.utils.parsedate_to_datetime(date).timestamp() - time.time()

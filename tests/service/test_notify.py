"""Callbacks and alerts, against real HTTP servers."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from loguru import logger

from engine.base.timer import Timer
from engine.config.tables import AlertConfig, CallbackConfig
from engine.notify import post
from engine.notify import receiver as receiving
from engine.notify.callbacks import CallbackJob
from engine.notify.outbox import Outbox
from engine.observe.counters import Stats
from tests.fakes.certificate import make_certificate
from tests.waiting import until

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


class Receiver:
    """Answers each POST with the next scripted status (the last one for ever) and keeps what came."""

    def __init__(self, *statuses: int, headers: dict[str, str] | None = None) -> None:
        self.statuses = list(statuses) or [200]
        self.headers = headers or {}
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.running = self.running_max = 0
        self.hold: asyncio.Event | None = None
        self.came = asyncio.Condition()
        self.url = ""
        self.port = 0

    async def _answer(self, request: web.Request) -> web.Response:
        self.running += 1
        self.running_max = max(self.running, self.running_max)
        try:
            self.requests.append((dict(request.headers), await request.read()))
            async with self.came:
                self.came.notify_all()
            if self.hold is not None:
                await self.hold.wait()
            status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            return web.Response(status=status, headers=self.headers, text="x" * 10_000)
        finally:
            self.running -= 1

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(20), self.came:
            await self.came.wait_for(lambda: len(self.requests) >= count)

    @asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._answer)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.port = runner.addresses[0][1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/done"
        try:
            yield self
        finally:
            await runner.cleanup()


class Bench:
    """An outbox and what it settled."""

    def __init__(
        self, rules: list[CallbackConfig] | None = None, alert: AlertConfig | None = None, **options: Any
    ) -> None:
        self.stats = Stats()
        self.timer = Timer(asyncio.get_running_loop(), granularity_s=0.001)
        self.settled: dict[Any, bool] = {}
        self.changed = asyncio.Event()
        rules = (
            [CallbackConfig(host="127.0.0.1"), CallbackConfig(host="localhost")] if rules is None else rules
        )
        self.outbox = Outbox(
            rules, alert or AlertConfig(), self.timer, on_settled=self._note, stats=self.stats, **options
        )

    def _note(self, job: CallbackJob, delivered: bool) -> None:
        assert job.key[1] not in self.settled
        self.settled[job.key[1]] = delivered
        self.changed.set()

    def add(self, key: int, url: str, **options: Any) -> None:
        self.outbox.add(CallbackJob((0, key), f"task-{key}", url, b'{"n":%d}' % key, **options))

    async def until(self, is_met: Callable[[], bool]) -> None:
        await until(is_met, news=self.changed, timeout_s=20)


@asynccontextmanager
async def bench(*args: Any, **options: Any) -> AsyncIterator[Bench]:
    made = Bench(*args, **options)
    await made.outbox.start()
    try:
        yield made
    finally:
        await made.outbox.drain(0)
        made.timer.close()


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back off for milliseconds, so that tests take no longer."""
    monkeypatch.setattr(post, "BACKOFF_FIRST_S", 0.002)


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(
        lambda message: lines.append(f"{message.strip()} {message.record['extra']}"), format="{message}"
    )
    yield lines
    logger.remove(sink)


async def test_delivers_signed() -> None:
    """The closest rule's secret signs timestamp and body; headers name task and attempt."""
    rules = [CallbackConfig(host="*", secret="wrong"), CallbackConfig(host="127.0.0.1", secret="s3cret")]
    async with Receiver().serving() as receiver, bench(rules) as b:
        b.add(7, receiver.url)
        await b.until(lambda: b.settled == {7: True})
        ((headers, body),) = receiver.requests
        assert body == b'{"n":7}'
        assert headers["Content-Type"] == "application/json"
        assert headers["Purgeline-Task"] == "task-7"
        assert headers["Purgeline-Attempt"] == "1"
        stamp = headers["Purgeline-Timestamp"]
        assert abs(int(stamp) - time.time()) < 10
        mac = hmac.new(b"s3cret", stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        assert headers["Purgeline-Signature"] == f"v1={mac}"
        assert (b.stats.callbacks_sent, b.stats.callbacks_failed, len(b.outbox)) == (1, 0, 0)
        assert not b.outbox._callbacks._hosts, "no host is kept without jobs"


async def test_without_secret_there_is_no_signature() -> None:
    """Better none than one made with an empty key."""
    async with Receiver().serving() as receiver, bench() as b:
        b.add(1, receiver.url)
        await b.until(lambda: b.settled == {1: True})
        assert "Purgeline-Signature" not in receiver.requests[0][0]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_retries_until_delivered(status: int) -> None:
    """The attempt's number goes up with each."""
    receiver = Receiver(status, status, 204)
    async with receiver.serving(), bench() as b:
        b.add(1, receiver.url)
        await b.until(lambda: b.settled == {1: True})
        assert [headers["Purgeline-Attempt"] for headers, _ in receiver.requests] == ["1", "2", "3"]


async def test_an_unknown_certificate_gets_nothing(tmp_path: Path, log: list[str]) -> None:
    """Whoever holds a key that the machine does not trust is told of no task."""
    _, tls = make_certificate(tmp_path, "unknown")
    async with Receiver().serving(tls) as receiver, bench(attempts_max=2) as b:
        b.add(1, receiver.url)
        await b.until(lambda: b.settled == {1: False})
        assert receiver.requests == []
    assert any("given up" in line and "certificate verify failed" in line for line in log)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 410, 422])
async def test_gives_up_at_once_when_told_no(status: int, log: list[str]) -> None:
    """A 4xx will not change, a redirect is not followed; the log says which task and why."""
    receiver = Receiver(status, headers={"Location": "/elsewhere"})
    async with receiver.serving(), bench() as b:
        b.add(1, receiver.url)
        await b.until(lambda: b.settled == {1: False})
        assert len(receiver.requests) == 1
        assert b.stats.callbacks_failed == 1
    assert any("given up" in line and "task-1" in line and f"answered {status}" in line for line in log)


async def test_gives_up_after_attempts_max(unused_tcp_port: int) -> None:
    """Also when nobody listens; attempts made before a restart count."""
    async with bench(attempts_max=3) as b:
        b.add(1, f"http://127.0.0.1:{unused_tcp_port}/")
        await b.until(lambda: b.settled == {1: False})
        assert not b.outbox._callbacks._hosts
    async with Receiver(500).serving() as receiver, bench(attempts_max=3) as b:
        b.add(2, receiver.url, attempt=2)
        await b.until(lambda: b.settled == {2: False})
        assert len(receiver.requests) == 1


async def test_job_that_no_rule_allows_any_more_is_settled(log: list[str]) -> None:
    """Rules may have changed since it was saved. It is not settled within `add` itself."""
    async with bench([]) as b:
        b.add(1, "http://127.0.0.1:9/x?token=hunter2")
        assert b.settled == {}
        await b.until(lambda: b.settled == {1: False})
    assert not any("hunter2" in line for line in log)


async def test_same_job_twice_is_sent_once() -> None:
    """Adding again what is on its way changes nothing."""
    async with Receiver().serving() as receiver, bench() as b:
        b.add(1, receiver.url)
        b.add(1, receiver.url)
        await b.until(lambda: b.settled == {1: True})
        assert len(receiver.requests) == 1


async def test_retry_after_is_waited_for() -> None:
    """The second attempt comes no sooner than the receiver asked."""
    async with Receiver(503, 200, headers={"Retry-After": "1"}).serving() as receiver, bench() as b:
        start = time.monotonic()
        b.add(1, receiver.url)
        await b.until(lambda: b.settled == {1: True})
        assert time.monotonic() - start >= 1


async def test_limits_per_host_and_in_all() -> None:
    """At most 4 at once to one host and 32 in all, however many wait."""
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(Receiver().serving())
        receiver.hold = asyncio.Event()
        b = await stack.enter_async_context(bench([CallbackConfig(host="*")]))
        for key in range(100):
            b.add(key, receiver.url)
        await receiver.wait(4)
        assert len(b.outbox._callbacks._running) == 4
        for key in range(100, 200):  # names that differ, one address
            b.add(key, f"http://127.0.0.{key - 98}:{receiver.port}/")
        assert len(b.outbox._callbacks._running) == 32
        assert len(b.outbox) == 200
        receiver.hold.set()
        await b.until(lambda: sum(key < 100 for key in b.settled) == 100)
        assert receiver.running_max == 4


async def test_dead_host_does_not_hold_up_the_others() -> None:
    """With 500 callbacks stuck on a host that never answers, another host gets its own at once."""
    dead = Receiver()
    async with dead.serving(), Receiver().serving() as receiver, bench() as b:
        dead.hold = asyncio.Event()
        for key in range(500):
            b.add(key, dead.url.replace("127.0.0.1", "localhost"))
        await dead.wait(4)
        for key in range(500, 550):
            b.add(key, receiver.url)
        await b.until(lambda: len(b.settled) == 50)
        assert all(key >= 500 for key in b.settled)


async def test_failing_host_gets_one_place() -> None:
    """Once it failed, a host is tried one at a time until it answers; then it has its place for the next."""
    receiver = Receiver(500)
    async with receiver.serving(), bench(attempts_max=50) as b:
        receiver.hold = asyncio.Event()
        for key in range(20):
            b.add(key, receiver.url)
        await receiver.wait(4)
        receiver.hold.set()
        await receiver.wait(5)
        receiver.running_max = 0
        await receiver.wait(15)
        assert receiver.running_max == 1
        receiver.statuses[:] = [200]
        receiver.hold.clear()
        await receiver.wait(len(receiver.requests) + 1)
        receiver.hold.set()
        await b.until(lambda: len(b.settled) == 20)
        assert all(b.settled.values())


async def test_time_out_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that takes the request and never answers costs one attempt."""
    monkeypatch.setattr(post, "REQUEST_TIMEOUT_S", 0.1)
    receiver = Receiver()
    async with receiver.serving(), bench() as b:
        receiver.hold = asyncio.Event()
        b.add(1, receiver.url)
        await receiver.wait(2)
        receiver.hold.set()
        await b.until(lambda: b.settled == {1: True})


async def test_drain_finishes_what_is_in_flight_and_leaves_the_rest() -> None:
    """What was not sent is not settled: it is in the store, for the next process."""
    receiver = Receiver()
    async with receiver.serving(), bench() as b:
        receiver.hold = asyncio.Event()
        for key in range(10):
            b.add(key, receiver.url)
        await receiver.wait(4)
        draining = asyncio.create_task(b.outbox.drain(10))
        await asyncio.sleep(0)
        receiver.hold.set()
        await draining
        assert b.settled == dict.fromkeys(range(4), True)
        assert len(b.outbox) == 6


async def test_drain_does_not_wait_longer_than_told() -> None:
    """A receiver that hangs is cut off, its job left unsettled."""
    receiver = Receiver()
    async with receiver.serving(), bench() as b:
        receiver.hold = asyncio.Event()
        b.add(1, receiver.url)
        await receiver.wait(1)
        await b.outbox.drain(0.05)
        assert b.settled == {}
        assert len(b.outbox) == 1


async def test_on_settled_that_raises_is_logged(log: list[str]) -> None:
    """A store that fails here must not stop the callbacks after it."""
    async with Receiver().serving() as receiver, bench() as b:
        b.settled[1] = True  # makes _note raise
        b.add(1, receiver.url)
        b.add(2, receiver.url)
        await b.until(lambda: 2 in b.settled)
    assert any("could not be settled" in line for line in log)


def bodies(receiver: Receiver) -> list[dict[str, Any]]:
    return [json.loads(body) for _, body in receiver.requests]


async def test_alert_is_logged_and_posted() -> None:
    """The body holds what happened, where and when; signed like a callback."""
    async with Receiver().serving() as receiver, bench([], AlertConfig(url=receiver.url, secret="s")) as b:
        b.outbox.alert("node/edge-1", "error", "edge-1 is {down}", failures=3, alert="mine")
        assert b.outbox.alerts_waiting == 1
        await receiver.wait(1)
        ((headers, _),) = receiver.requests
        (body,) = bodies(receiver)
        assert abs(body.pop("time") - time.time()) < 10
        assert abs(body.pop("since") - time.time()) < 10
        assert body.pop("host")
        assert body == {
            "key": "node/edge-1", "level": "error", "message": "edge-1 is {down}",
            "facts": {"failures": 3, "alert": "mine"}, "repeated": 0, "suppressed": 0,
            "changed": "new",
        }  # fmt: skip
        assert headers["Purgeline-Signature"].startswith("v1=")


async def test_alert_without_url_is_a_log_line(log: list[str]) -> None:
    """Each call is a line, the same one too; nothing waits."""
    async with bench([]) as b:
        b.outbox.alert("k", "warning", "careful", left=5)
        b.outbox.alert("k", "warning", "careful", left=4)
        assert b.outbox.alerts_waiting == 0
    assert [line.partition(" ")[0] for line in log] == ["careful", "careful"]
    assert "'left': 5" in log[0]


async def test_same_alert_is_posted_once_until_repeat_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another level goes at once; after repeat_s it comes again, with how often it was held back."""
    async with Receiver().serving() as receiver, bench([], AlertConfig(url=receiver.url, repeat_s=300)) as b:
        for _ in range(5):
            b.outbox.alert("k", "error", "down")
        await receiver.wait(1)
        b.outbox.alert("k", "resolved", "up")
        await receiver.wait(2)
        b.outbox.alert("k", "error", "down")
        b.outbox.alert("k", "error", "down")
        await receiver.wait(3)
        b.outbox._alerts._known["k"].queued_at -= 301  # the clock, five minutes on
        b.outbox.alert("k", "error", "down")
        await receiver.wait(4)
        assert [(body["level"], body["repeated"]) for body in bodies(receiver)] == [
            ("error", 0), ("resolved", 0), ("error", 0), ("error", 1),
        ]  # fmt: skip


async def test_alert_storm_is_limited_and_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst goes out, some wait, the surplus is a number in the next one."""
    monkeypatch.setattr(receiving, "RATE_PER_S", 1e-6)
    monkeypatch.setattr(receiving, "WAITING_MAX", 20)
    async with Receiver().serving() as receiver, bench([], AlertConfig(url=receiver.url)) as b:
        for number in range(100):
            b.outbox.alert(f"node/{number}", "error", "down")
        assert b.outbox.alerts_waiting == 20
        await receiver.wait(10)
        assert len(receiver.requests) == 10
        assert b.outbox.alerts_waiting <= 11
        assert sum(body["suppressed"] for body in bodies(receiver)) == 80


async def test_alert_is_retried_and_newer_news_of_its_key_replaces_it() -> None:
    """Only the last state of a key matters to who reads it."""
    async with Receiver(500, 500, 200).serving() as receiver, bench([], AlertConfig(url=receiver.url)) as b:
        b.outbox.alert("k", "error", "down")
        await receiver.wait(1)
        b.outbox.alert("k", "resolved", "up")
        await receiver.wait(3)
        assert [body["level"] for body in bodies(receiver)][-1] == "resolved"


async def test_alert_that_is_refused_is_given_up(log: list[str]) -> None:
    """And the next one is sent all the same."""
    async with Receiver(404, 200).serving() as receiver, bench([], AlertConfig(url=receiver.url)) as b:
        b.outbox.alert("a", "error", "first")
        b.outbox.alert("b", "error", "second")
        await receiver.wait(2)
        assert [body["key"] for body in bodies(receiver)] == ["a", "b"]
    assert any("alert not delivered" in line and "answered 404" in line for line in log)


async def test_alerts_before_the_start_wait_for_it() -> None:
    """What goes wrong while starting is posted too."""
    async with Receiver().serving() as receiver:
        b = Bench([], AlertConfig(url=receiver.url))
        b.outbox.alert("k", "warning", "slow start")
        b.add(1, receiver.url)
        assert b.outbox.alerts_waiting == 1
        await b.outbox.start()
        await receiver.wait(1)
        await b.outbox.drain(5)
        b.timer.close()
        assert b.stats.alerts_sent == 1

"""Which alerts are posted and when; the poster is a recorder."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

from engine.base.timer import Timer
from engine.config.tables import AlertConfig
from engine.notify import alerts as module
from engine.notify import receiver
from engine.notify.alerts import Alerts
from engine.notify.post import Answer
from engine.observe.counters import Stats

if TYPE_CHECKING:
    import pytest

    from engine.notify.formats import Level


class Poster:
    """Takes every POST with the status it is told."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.status = 200
        self.news = asyncio.Event()

    async def post(self, _url: str, body: bytes, _secret: str, _headers: dict[str, str]) -> Answer:
        self.bodies.append(json.loads(body))
        self.news.set()
        return Answer(self.status)

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.bodies) < count:
                self.news.clear()
                await self.news.wait()


class Bench:
    """Alerts, started, and their poster."""

    def __init__(self, *, url: str = "http://hook/") -> None:
        self.poster = cast("Any", Poster())
        self.stats = Stats()
        timer = Timer(asyncio.get_running_loop(), granularity_s=0.001)
        self.alerts = Alerts(AlertConfig(url=url), timer, self.poster, self.stats)
        self.alerts.start()


async def test_the_same_alert_is_posted_once_and_another_level_at_once() -> None:
    bench = Bench()
    levels: tuple[Level, ...] = ("error", "error", "resolved", "error")
    for level in levels:
        bench.alerts.alert("k", level, "m")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await bench.poster.wait(3)
    assert [body["level"] for body in bench.poster.bodies] == ["error", "resolved", "error"]


async def test_only_the_newest_of_a_key_waits() -> None:
    """One POST at a time: what waits behind it is replaced by newer news of its key."""
    bench = Bench()
    bench.alerts.alert("other", "error", "first on the wire")
    bench.alerts.alert("k", "error", "down")
    bench.alerts.alert("k", "resolved", "up")
    await bench.poster.wait(2)
    assert [body["message"] for body in bench.poster.bodies] == ["first on the wire", "up"]


async def test_what_does_not_fit_is_a_number_in_the_next_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "WAITING_MAX", 2)
    bench = Bench()
    for number in range(5):
        bench.alerts.alert(f"k{number}", "error", "m")
    assert len(bench.alerts) == 2
    await bench.poster.wait(1)
    assert bench.poster.bodies[0]["suppressed"] == 3


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALERTS_KNOWN_MAX", 3)
    bench = Bench()
    for number in range(10):
        bench.alerts.alert(f"k{number}", "error", "m")
    assert len(bench.alerts._known) == 3


async def test_without_a_url_nothing_waits() -> None:
    bench = Bench(url="")
    bench.alerts.alert("k", "error", "m")
    assert (len(bench.alerts), bench.poster.bodies) == (0, [])


async def test_after_the_stop_nothing_is_posted() -> None:
    bench = Bench()
    assert bench.alerts.stop() == set()
    bench.alerts.alert("k", "error", "m")
    await asyncio.sleep(0)
    assert (len(bench.alerts), bench.poster.bodies) == (1, [])

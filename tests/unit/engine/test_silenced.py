"""Alerts that are silenced: held back, and sent when the silence ends first; the poster is a recorder."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from engine.base.timer import Timer
from engine.config.tables import AlertConfig
from engine.notify import formats
from engine.notify.alerts import Alerts
from engine.notify.formats import Alert
from engine.notify.mail import mail_of
from engine.notify.matchers import all_labels, matchers_of
from engine.notify.post import Answer
from engine.observe.counters import Stats
from engine.tasks.records import Silence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config.tables import AlertFormat

EDGE = {"node": "edge-1", "layer": "edge"}
WHY = "was silenced by ops: new disks"


class Bench:
    """Alerts, started, and what they post."""

    def __init__(self, *, is_started: bool = True) -> None:
        self.posted: list[dict[str, Any]] = []
        self.news = asyncio.Event()
        poster: Any = self
        timer = Timer(asyncio.get_running_loop(), granularity_s=0.001)
        self.alerts = Alerts(AlertConfig(url="http://hook/"), timer, poster, Stats())
        if is_started:
            self.alerts.start()

    async def post(self, _url: str, body: bytes, _secret: str, _headers: dict[str, str]) -> Answer:
        self.posted.append(json.loads(body))
        self.news.set()
        return Answer(200)

    def silence(self, *matchers: str, for_s: float = 60) -> None:
        now = time.time()
        self.alerts.silence([Silence("s1", list(matchers), "new disks", "ops", now, now + for_s)])

    def end(self) -> None:
        self.alerts.silence([Silence("s1", ["kind=node"], "new disks", "ops", 1.0, time.time())])

    async def said(self) -> list[tuple[str, str]]:
        for _ in range(20):
            await asyncio.sleep(0)
        assert not len(self.alerts)
        return [(body["message"], body["changed"]) for body in self.posted]


async def test_what_is_silenced_is_sent_when_its_silence_ends_and_it_is_still_on() -> None:
    bench = Bench()
    bench.silence("kind=node", "layer=edge")
    bench.alerts.alert("node:edge-1", "warning", "slow", **EDGE)
    began = bench.alerts.silenced.shown()[0]["since"]
    bench.alerts.alert("node:edge-1", "error", "down", **EDGE)
    bench.alerts.alert("store", "error", "full")
    assert await bench.said() == [("full", "new")]
    shown = {"key": "node:edge-1", "level": "error", "message": "down", "since": began, "silence": "s1"}
    assert bench.alerts.silenced.shown() == [shown]
    bench.end()
    [(message, changed)] = (await bench.said())[1:]
    assert message == "down"
    assert changed.startswith(f"still on since {formats.moment(began)[:19]}")
    assert changed.endswith(f"; {WHY}")
    assert bench.alerts.silenced.shown() == []
    bench.alerts.alert("node:edge-1", "resolved", "up", **EDGE)
    assert (await bench.said())[2:] == [("up", "over after 0 s")]


async def test_the_end_of_a_silence_comes_by_itself() -> None:
    bench = Bench()
    bench.silence("key=node:edge-1", for_s=0.02)
    bench.alerts.alert("node:edge-1", "error", "down")
    async with asyncio.timeout(10):
        await bench.news.wait()
    assert (await bench.said())[0][1].startswith("still on since")


async def test_of_what_is_over_within_its_silence_nothing_is_sent() -> None:
    """Also when the facts of its end are fewer, so that the matchers alone would not match it."""
    bench = Bench()
    bench.silence("layer=edge")
    bench.alerts.alert("stale:edge-1", "error", "stale", **EDGE)
    bench.alerts.alert("stale:edge-1", "resolved", "fresh", node="edge-1")
    bench.end()
    assert await bench.said() == []


async def test_what_was_sent_before_a_silence_and_is_over_within_it_is_told_at_the_end() -> None:
    """Whoever heard that it is on hears that it is over."""
    bench = Bench()
    bench.alerts.alert("node:edge-1", "error", "down", **EDGE)
    await bench.said()
    bench.silence("kind=node")
    bench.alerts.alert("node:edge-1", "resolved", "up", **EDGE)
    assert len(await bench.said()) == 1
    bench.end()
    assert (await bench.said())[1][1].startswith("over since 2")
    assert bench.posted[1]["level"] == "resolved"


async def test_what_was_sent_before_a_silence_and_goes_on_is_sent_again_at_the_end() -> None:
    """Nobody has to raise it once more."""
    bench = Bench()
    bench.alerts.alert("node:edge-1", "error", "down", **EDGE)
    await bench.said()
    bench.silence("kind=node")
    assert [one["key"] for one in bench.alerts.silenced.shown()] == ["node:edge-1"]
    bench.end()
    first, again = await bench.said()
    assert again == ("down", f"still on since {formats.moment(bench.posted[0]['time'])}; {WHY}")
    assert first[1] == "new"


async def test_what_waits_to_be_sent_when_it_is_silenced_is_not_sent() -> None:
    bench = Bench(is_started=False)
    bench.alerts.alert("node:edge-1", "error", "down", **EDGE)
    bench.silence("kind=node")
    bench.alerts.start()
    assert await bench.said() == []
    bench.end()
    assert (await bench.said())[0][1].startswith("still on since")


async def test_of_a_moment_that_is_silenced_nothing_is_left() -> None:
    bench = Bench()
    bench.silence("kind=full")
    bench.alerts.alert("full:saver", "warning", "clients are answered 503")
    bench.end()
    assert await bench.said() == []


LATE = Alert(
    "node:edge-1", "error", "down", {}, 2.0, "h1", since=1.0, changed="still on since 1; was silenced"
)


@pytest.mark.parametrize("name", ["purgeline", "alertmanager", "slack"])
def test_each_form_says_what_has_changed(name: AlertFormat) -> None:
    assert LATE.changed in formats.body_of(name, LATE, 2.0).decode()


def test_a_mail_says_what_has_changed() -> None:
    assert LATE.changed in mail_of(LATE, "a@example.com", ["b@example.com"]).get_content()


DOWN = all_labels(Alert("node:edge-1", "error", "down", {**EDGE}, 1.0, "host-1"))


@pytest.mark.parametrize(
    ("texts", "is_meant"),
    [
        (["node:edge-1"], True),
        (["node:edge"], False),
        (["kind=node", "subject=edge-1", "alertname=PurgelineNode"], True),
        (["kind=node", "layer=parent"], False),
        (["kind=~node|stale", "node=~edge-.*"], True),
        (["node=~edge"], False),
        (["kind=node", "layer!=edge"], False),
        (["kind!~can.*", "instance=host-1"], True),
        (["key=node:edge.1"], False),
    ],
)
def test_all_matchers_of_a_silence_have_to_match(texts: Sequence[str], *, is_meant: bool) -> None:
    assert all(matcher.matches(DOWN) for matcher in matchers_of(texts)) == is_meant


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([""], "takes LABEL=VALUE"),
        (["nodes=x"], "no label 'nodes'; they have key, kind"),
        (["key=~("], "is no regular expression"),
        (["node=" + "x" * 200], "of at most 200 characters"),
        (["key=~.*", "layer!=parent"], "every alert would match"),
    ],
)
def test_what_is_no_matcher_says_what_would_be_one(texts: Sequence[str], says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("(", r"\(")):
        matchers_of(texts)

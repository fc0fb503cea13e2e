"""Alerts that are silenced: held back, and sent when the silence ends first; the poster is a recorder."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from loguru import logger

import engine
from engine.base.timer import Timer
from engine.config.tables import AlertConfig
from engine.notify import formats, silenced
from engine.notify.alerts import Alerts
from engine.notify.formats import Alert
from engine.notify.mail import mail_of
from engine.notify.matchers import KINDS, all_labels, matchers_of
from engine.notify.post import Answer
from engine.observe.counters import Stats
from engine.tasks.records import Silence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.config.tables import AlertFormat

EDGE = {"node": "edge-1", "layer": "edge"}
HOOK = AlertConfig(url="http://hook/")
WHY = "was silenced by ops: new disks"


class Bench:
    """Alerts, started, and what they post.

    Args:
        config: whom they tell.
    """

    def __init__(self, config: AlertConfig = HOOK, *, is_started: bool = True) -> None:
        self.posted: list[dict[str, Any]] = []
        self.news = asyncio.Event()
        poster: Any = self
        timer = Timer(asyncio.get_running_loop(), granularity_s=0.001)
        self.alerts = Alerts(config, timer, poster, Stats())
        if is_started:
            self.alerts.start()

    async def post(self, _url: str, body: bytes, _secret: str, _headers: dict[str, str]) -> Answer:
        self.posted.append(json.loads(body))
        self.news.set()
        return Answer(200)

    def silence(self, *matchers: str, for_s: float = 60, since_s: float = 0) -> None:
        now = time.time()
        self.alerts.silence([Silence("s1", list(matchers), "new disks", "ops", now - since_s, now + for_s)])

    def end(self) -> None:
        self.alerts.silence([Silence("s1", ["kind=node"], "new disks", "ops", 1.0, time.time())])

    async def said(self) -> list[tuple[str, str]]:
        for _ in range(20):
            await asyncio.sleep(0)
        assert not len(self.alerts)
        return [(body["message"], body["changed"]) for body in self.posted]


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), format="{message}")
    yield lines
    logger.remove(sink)


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


async def test_an_end_within_a_silence_that_an_earlier_process_began_is_told() -> None:
    """That process may have told that it was on: after a reload, nobody here knows."""
    bench = Bench()
    bench.silence("kind=node", since_s=60)
    bench.alerts.alert("node:edge-2", "resolved", "up", node="edge-2")
    bench.alerts.alert("node:edge-1", "error", "down", **EDGE)
    bench.alerts.alert("node:edge-1", "resolved", "up", **EDGE)
    assert await bench.said() == []
    bench.end()
    assert [(one["key"], one["changed"][:10]) for one in await ends_of(bench)] == [
        ("node:edge-1", "over since")
    ]


async def ends_of(bench: Bench) -> list[dict[str, Any]]:
    await bench.said()
    return [body for body in bench.posted if body["level"] == "resolved"]


async def test_of_what_waited_until_it_was_silenced_and_is_over_then_nothing_is_sent() -> None:
    """No receiver has heard that it was on."""
    bench = Bench(is_started=False)
    bench.alerts.alert("node:edge-1", "error", "down", **EDGE)
    bench.silence("kind=node")
    bench.alerts.alert("node:edge-1", "resolved", "up", **EDGE)
    bench.alerts.start()
    assert await bench.said() == []
    bench.end()
    assert await bench.said() == []
    bench.alerts.alert("node:edge-1", "error", "down again", **EDGE)
    assert await bench.said() == [("down again", "new")]


async def test_an_end_goes_to_those_receivers_that_had_heard_before_the_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A mail still waited for its turn as the silence came; it does not bring what is over back, either."""
    mails: list[Alert] = []
    is_free = asyncio.Event()

    async def send(_self: object, alert: Alert) -> Answer:
        mails.append(alert)
        await is_free.wait()
        return Answer(200)

    monkeypatch.setattr("engine.notify.mail.Mailer.send", send)
    config = AlertConfig(
        url="http://hook/",
        smtp_url="smtp://127.0.0.1:1",
        mail_from="a@example.com",
        mail_to=["b@example.com"],
    )
    bench = Bench(config)
    bench.alerts.alert("store", "error", "full")
    bench.alerts.alert("node:edge-1", "error", "down", **EDGE)
    for _ in range(20):
        await asyncio.sleep(0)
    bench.silence("kind=node")
    bench.alerts.alert("node:edge-1", "resolved", "up", **EDGE)
    is_free.set()
    await bench.said()
    assert bench.alerts.silenced.shown() == []
    bench.end()
    assert [body["message"] for body in await ends_of(bench)] == ["up"]
    assert [alert.message for alert in mails] == ["full"]


async def test_a_silence_of_the_store_that_is_not_taken_matches_nothing_and_says_so(
    log_lines: list[str],
) -> None:
    bench = Bench()
    now = time.time()
    old = Silence("s0", ["key=~([a-z0-9]+[:.-]?)*!"], "r", "ops", now, now + 60)
    for _ in range(2):
        bench.alerts.silence([old, Silence("s1", ["kind=stale"], "r", "ops", now, now + 60)])
    bench.alerts.alert("node:edge-1", "error", "down", **EDGE)
    bench.alerts.alert("stale:edge-1", "error", "stale", **EDGE)
    assert await bench.said() == [("down", "new")]
    [line] = [line for line in log_lines if "s0" in line]
    assert "keeps no alert from being sent: 'key=~([a-z0-9]+[:.-]?)*!': is a regular" in line


async def test_an_alert_that_is_held_no_more_is_logged(
    log_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silenced, "HELD_MAX", 1)
    bench = Bench()
    bench.silence("kind=node")
    bench.alerts.alert("node:edge-1", "error", "down")
    bench.alerts.alert("node:edge-2", "error", "down")
    assert len(bench.alerts.silenced) == 1
    assert [line for line in log_lines if "the oldest is not sent" in line]


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
        (["node=~(edge|parent)-[0-9]+"], True),
        (["key=~.*:edge.+", "layer=~(?i)EDGE?"], True),
        (["instance=host-1"], True),
        (["kind=~[a-z]+", "subject=~.+"], True),
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
        (["key=~.+"], "every alert would match"),
        (["kind=~..*", "instance=~.+"], "every alert would match"),
        (["alertname=~Pur.*"], "every alert would match"),
        (["key=~([a-z0-9]+[:.-]?)*!"], "is not taken; it takes text, '.'"),
        (["key=~(a|b)\\1"], "is not taken"),
        (["key=~(?=a).+x"], "is not taken"),
        (["key=~(?-s:.)+x"], "is not taken"),
        (["key=~" + "a?" * 30 + "a" * 30], "may be slow"),
        (["key=~.*.*.*x"], "may be slow"),
        (["key=~.*[a-z]*[0-9a-f]+"], "may be slow"),
    ],
)
def test_what_is_no_matcher_says_what_would_be_one(texts: Sequence[str], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        matchers_of(texts)


def test_whatever_is_taken_is_matched_quickly() -> None:
    """This one is among the dearest."""
    slow = matchers_of(["key=~" + "|".join([".*[a-z]*!"] * 19)])[0]
    began = time.process_time()
    assert not slow.matches({"key": "a" * 100_000})
    assert time.process_time() - began < 1


def test_every_kind_of_alert_is_known() -> None:
    """It is tried whether a silence would match all of them."""
    texts = (path.read_text() for path in Path(engine.__file__).parent.rglob("*.py"))
    found = {kind for text in texts for kind in re.findall(r'on_alert\(\s*f?"([a-z]+)', text)}
    assert len(found) > 10
    assert found <= KINDS

"""What a worker does when its supervisor says something, or nothing any more."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from engine.errors import StoreError
from engine.process.control import Control
from engine.workers.peers import Peers


class Engine:
    """The worker's engine; taking over fails as often as it is told."""

    def __init__(self) -> None:
        self.drain_limit_s = 30.0
        self.log: list[str] = []
        self.failures = 0
        self.is_ending = False
        self.has_taken_over = asyncio.Event()

    async def go(self, listener: object, doors: object) -> bool:
        await asyncio.sleep(0)
        if self.failures:
            raise StoreError("busy")
        self.log.append(f"accept on {listener}, and {doors}")
        return not self.is_ending

    async def take_over(self) -> None:
        self.log.append("take over")
        if self.failures:
            self.failures -= 1
            raise StoreError("busy")
        self.has_taken_over.set()

    def stop(self) -> None:
        self.log.append(f"stop within {self.drain_limit_s:g} s")


class Writer:
    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.is_gone = False

    def is_closing(self) -> bool:
        return self.is_gone

    def write(self, line: bytes) -> None:
        assert line.endswith(b"\n")
        self.reports.append(json.loads(line))


class Worker:
    def __init__(self) -> None:
        self.engine = Engine()
        self.peers = Peers(0, 2, 3)
        self.writer = Writer()
        listener: Any = "the listener"
        doors: Any = "doors"
        writer: Any = self.writer
        self.control = Control(
            self.engine, self.peers, listener, writer, doors=doors, canaries=lambda: "waiting"
        )

    async def told(self, *orders: Any) -> list[str]:
        """Give these orders, and then nothing: the supervisor is gone. Return what the engine did before."""
        reader = asyncio.StreamReader()
        for order in orders:
            reader.feed_data((order if isinstance(order, bytes) else json.dumps(order).encode()) + b"\n")
        reader.feed_eof()
        await self.control.obey(reader)
        assert self.engine.log.pop() == f"stop within {min(2, self.engine.drain_limit_s):g} s"
        return self.engine.log


async def test_it_accepts_when_it_is_told_go_and_says_so() -> None:
    worker = Worker()
    assert await worker.told({"cmd": "go"}) == ["accept on the listener, and doors"]
    assert worker.writer.reports == [{"event": "accepting", "canaries": "waiting"}]


async def test_it_does_one_after_the_other() -> None:
    worker = Worker()
    order = {"cmd": "drain", "limit_s": 5}
    assert await worker.told({"cmd": "go"}, order) == ["accept on the listener, and doors", "stop within 5 s"]


async def test_one_that_is_ending_does_not_say_that_it_accepts() -> None:
    worker = Worker()
    worker.engine.is_ending = True
    await worker.told({"cmd": "go"})
    assert worker.writer.reports == []


async def test_one_that_cannot_read_its_store_ends_instead_of_accepting() -> None:
    worker = Worker()
    worker.engine.failures = 1
    assert await worker.told({"cmd": "go"}) == []
    assert worker.writer.reports == []


async def test_it_drains_within_the_time_that_it_is_given() -> None:
    worker = Worker()
    assert await worker.told({"cmd": "drain", "limit_s": 5}) == ["stop within 5 s"]
    assert worker.writer.reports == [{"event": "draining"}]


async def test_without_a_time_it_drains_as_it_is_configured() -> None:
    assert await Worker().told({"cmd": "drain"}) == ["stop within 30 s"]


async def test_it_knows_the_workers_that_it_is_told() -> None:
    worker = Worker()
    await worker.told({"cmd": "peers", "workers": [{"slot": 1, "generation": 2, "socket": "/s", "new": 1}]})
    assert [(peer.slot, peer.socket) for peer in worker.peers.others()] == [(1, "/s")]


async def test_it_takes_over_and_tries_again_until_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.process.control._TAKE_OVER_AGAIN_S", 0)
    worker = Worker()
    worker.engine.failures = 2
    await worker.told({"cmd": "adopt"})
    await worker.engine.has_taken_over.wait()
    assert worker.engine.log == ["take over"] * 3


async def test_orders_of_a_later_supervisor_are_ignored() -> None:
    assert await Worker().told({"cmd": "sing"}, {"order": "go"}, {"cmd": "drain"}) == ["stop within 30 s"]


@pytest.mark.parametrize("order", [b"no JSON", b'{"cmd":"drain","limit_s":"soon"}', b"[]"])
async def test_an_order_that_fails_ends_it_as_if_the_supervisor_had_gone(order: bytes) -> None:
    assert await Worker().told(order, {"cmd": "go"}) == []


async def test_a_supervisor_that_has_gone_gives_no_more_time_than_there_was() -> None:
    worker = Worker()
    worker.engine.drain_limit_s = 1.0
    assert await worker.told() == []


async def test_nothing_is_reported_to_a_supervisor_that_has_gone() -> None:
    worker = Worker()
    worker.writer.is_gone = True
    worker.control.report("health", ready=True)
    assert worker.writer.reports == []

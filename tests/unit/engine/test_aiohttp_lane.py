"""aiohttp's part of a connection: what is known of its requests, and how those that cannot end are ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from engine.errors import RequestError
from engine.intake.aiohttp_lane import AiohttpLane

if TYPE_CHECKING:
    from engine.intake.replies import Reply


class Bench:
    """A lane with a protocol that does nothing, and what the lane asks of its connection."""

    def __init__(self) -> None:
        self.given_up: list[int] = []
        self.closes = 0
        self.news = asyncio.Event()
        self.lane = AiohttpLane(
            asyncio.Protocol(),
            asyncio.get_running_loop(),
            close_if_idle=self._close_if_idle,
            give_up=self._give_up,
        )

    def _close_if_idle(self) -> None:
        self.closes += 1
        self.news.set()

    def _give_up(self, reply: Reply) -> None:
        self.given_up.append(reply.status)
        self.news.set()

    async def wait(self) -> None:
        await asyncio.wait_for(self.news.wait(), 30)


async def test_bytes_of_a_request_are_under_way_until_its_handler_is_called() -> None:
    bench = Bench()
    assert (bench.lane.is_reading, bench.lane.busy) == (True, 0)
    bench.lane.request_begins()
    assert (bench.lane.is_reading, bench.lane.busy) == (False, 1)
    bench.lane.data_received(b"the next one")
    assert not bench.lane.is_reading, "a pipelined request waits for the one that runs"
    bench.lane.request_ends()
    bench.lane.data_received(b"x")
    assert (bench.lane.is_reading, bench.lane.busy) == (True, 0)


async def test_a_head_that_cannot_become_whole_is_answered() -> None:
    bench = Bench()
    assert bench.lane.eof_received(), "the lane ends the connection itself, a little later"
    await bench.wait()
    assert bench.given_up == [400]


async def test_a_handler_that_was_called_meanwhile_answers_itself() -> None:
    bench = Bench()
    bench.lane.eof_received()
    bench.lane.request_begins()
    bench.lane.request_ends()
    await bench.wait()
    assert (bench.given_up, bench.closes) == ([], 1)


async def test_an_end_between_two_requests_closes_nothing_by_itself() -> None:
    bench = Bench()
    bench.lane.request_begins()
    bench.lane.request_ends()
    assert not bench.lane.eof_received()
    assert bench.closes == 0


async def test_a_body_has_a_limit_of_time() -> None:
    bench = Bench()
    with pytest.raises(RequestError, match="took longer than") as caught:
        async with bench.lane.reading_body(0.01):
            await asyncio.Event().wait()
    assert caught.value.status == 408


async def test_a_body_that_cannot_come_any_more_is_not_waited_for() -> None:
    bench = Bench()
    bench.lane.request_begins()
    reading = asyncio.Event()

    async def read() -> None:
        async with bench.lane.reading_body(60):
            reading.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(read())
    await reading.wait()
    bench.lane.eof_received()
    with pytest.raises(RequestError) as caught:
        await task
    assert caught.value.status == 400

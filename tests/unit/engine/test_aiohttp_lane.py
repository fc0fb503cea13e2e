"""aiohttp's part of a connection: what is known of its requests, and how those that cannot end are ended."""

from __future__ import annotations

import asyncio
import time
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
    bench.lane.eof_received()
    await bench.wait()
    assert bench.given_up == [400]


async def test_a_handler_that_was_called_meanwhile_answers_itself() -> None:
    bench = Bench()
    bench.lane.eof_received()
    bench.lane.request_begins()
    bench.lane.request_ends()
    await bench.wait()
    assert (bench.given_up, bench.closes) == ([], 1)


@pytest.mark.parametrize("requests", [1, 3])
async def test_a_loop_that_was_kept_busy_ends_no_request_that_aiohttp_had_no_turn_for(requests: int) -> None:
    """Timers that are due run before what was to be done next; each request leaves one behind."""
    bench = Bench()
    loop = asyncio.get_running_loop()
    bench.lane.eof_received()
    left = requests
    seen: list[int] = []

    def begin(turns: int) -> None:
        """Take some turns, as aiohttp does before each request."""
        nonlocal left
        if turns:
            loop.call_soon(begin, turns - 1)
            return
        seen.append(bench.closes)
        bench.lane.request_begins()
        bench.lane.request_ends()
        left -= 1
        if left:
            time.sleep(0.1)
            begin(5)

    time.sleep(0.2)  # noqa: ASYNC251 - as above
    begin(5)
    await bench.wait()
    assert (seen, bench.given_up, bench.closes) == ([0] * requests, [], 1)


async def test_an_end_between_two_pipelined_requests_closes_nothing_before_the_second_has_begun() -> None:
    bench = Bench()
    bench.lane.request_begins()
    bench.lane.request_ends()
    bench.lane.eof_received()
    assert bench.closes == 0
    await bench.wait()
    assert bench.closes == 1, "when nothing is left"


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


async def test_a_body_whose_time_is_just_up_is_not_ended_a_second_time() -> None:
    """The client ends its side in the turn in which the time runs out: one refusal, and no error."""
    bench = Bench()
    bench.lane.request_begins()

    async def read() -> None:
        async with bench.lane.reading_body(0.001):
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                bench.lane._end_body()
                raise

    with pytest.raises(RequestError, match="the body took longer"):
        await read()

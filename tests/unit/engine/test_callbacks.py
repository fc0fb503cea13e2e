"""Whose callback goes next, and when one is given up; the poster is a recorder."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from engine.base.timer import Timer
from engine.config.tables import CallbackConfig
from engine.notify.callbacks import RUNNING_PER_HOST_MAX, CallbackJob, Callbacks
from engine.notify.post import Answer
from engine.notify.rules import CallbackRules
from engine.observe.counters import Stats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Poster:
    """Holds every POST until it is told what to answer."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, asyncio.Future[Answer]]] = []

    async def post(self, url: str, _body: bytes, _secret: str, _headers: dict[str, str]) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.posts.append((url, future))
        return await future


class Bench:
    """Callbacks, started, their poster and what they settled."""

    def __init__(self, *, attempts_max: int = 8) -> None:
        self.poster = cast("Any", Poster())
        self.stats = Stats()
        self.settled: list[tuple[object, bool]] = []
        self.callbacks = Callbacks(
            CallbackRules([CallbackConfig(host="*.org")]),
            Timer(asyncio.get_running_loop(), granularity_s=0.001),
            self.poster,
            on_settled=lambda job, is_delivered: self.settled.append((job.key[1], is_delivered)),
            stats=self.stats,
            attempts_max=attempts_max,
        )
        self.callbacks.start()

    def add(self, key: int, host: str) -> None:
        self.callbacks.add(CallbackJob((0, key), f"t{key}", f"http://{host}/", b"{}"))

    @property
    def hosts(self) -> list[str]:
        return [url for url, _ in self.poster.posts]

    async def answer(self, number: int, status: int = 200) -> None:
        self.poster.posts[number][1].set_result(Answer(status))
        await turns()

    async def close(self) -> None:
        running = self.callbacks.stop()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**options: Any) -> Bench:
        made.append(Bench(**options))
        return made[-1]

    yield make
    for bench in made:
        await bench.close()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_host_has_a_few_places_and_the_others_do_not_wait_for_it(make: Callable[..., Bench]) -> None:
    bench = make()
    for key in range(10):
        bench.add(key, "a.org")
    bench.add(10, "b.org")
    await turns()
    assert bench.hosts == ["http://a.org/"] * RUNNING_PER_HOST_MAX + ["http://b.org/"]
    await bench.answer(0)
    assert bench.settled == [(0, True)]
    assert bench.hosts[-1] == "http://a.org/"


async def test_a_host_that_fails_has_one_place_until_it_answers(make: Callable[..., Bench]) -> None:
    bench = make(attempts_max=1)
    for key in range(20):
        bench.add(key, "a.org")
    await turns()
    for number in range(RUNNING_PER_HOST_MAX):
        await bench.answer(number, 500)
    assert len(bench.hosts) == RUNNING_PER_HOST_MAX + 1
    await bench.answer(RUNNING_PER_HOST_MAX)
    assert len(bench.hosts) == 2 * RUNNING_PER_HOST_MAX + 1
    assert bench.stats.callbacks_failed == RUNNING_PER_HOST_MAX


async def test_the_same_job_twice_is_one_job(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.add(1, "a.org")
    bench.add(1, "a.org")
    await turns()
    assert (len(bench.callbacks), bench.hosts) == (1, ["http://a.org/"])
    assert bench.callbacks.waiting() == [(0, 1)]


async def test_what_is_stopped_is_not_settled(make: Callable[..., Bench]) -> None:
    """It is in the store, for the next process."""
    bench = make()
    bench.add(1, "a.org")
    await turns()
    [task] = bench.callbacks.stop()
    bench.add(2, "a.org")
    await bench.answer(0, 500)
    assert task.done()
    assert (bench.settled, len(bench.callbacks), len(bench.hosts)) == ([], 2, 1)

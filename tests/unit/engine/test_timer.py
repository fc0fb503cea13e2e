"""The timer wheel, on real loops, and on a loop whose clock the test sets."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any, cast

import pytest
import uvloop

from engine.base.timer import Timer

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeHandle:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeLoop:
    """The two methods of a loop that the timer uses, with a clock set by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.handles: list[FakeHandle] = []
        self.told: list[dict[str, Any]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> FakeHandle:
        self.handles.append(FakeHandle(when, callback))
        return self.handles[-1]

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.told.append(context)

    @property
    def armed(self) -> list[FakeHandle]:
        return [handle for handle in self.handles if not handle.is_cancelled]

    def advance(self, seconds: float) -> None:
        self.now += seconds
        while due := [handle for handle in self.armed if handle.when <= self.now]:
            for handle in due:
                self.handles.remove(handle)
                handle.callback()


def make(loop: FakeLoop, **options: Any) -> Timer:
    return Timer(cast("asyncio.AbstractEventLoop", loop), **options)


def fail() -> None:
    raise ZeroDivisionError("division by zero")


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_fires_once_and_not_early(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """On both loops a callback comes after its delay, at most a bucket and a hiccup later."""

    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        timer = Timer(loop, granularity_s=0.01)
        fired: asyncio.Future[float] = loop.create_future()
        start = loop.time()
        timer.add("a", 0.05, lambda: fired.set_result(loop.time()))
        took = await fired - start
        assert len(timer) == 0
        timer.close()
        return took

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert 0.049 <= runner.run(scenario()) < 5


def test_late_buckets_fire_all_in_order(loop: FakeLoop) -> None:
    """A loop that was busy for a minute catches up oldest first."""
    timer, fired = make(loop), []
    for delay in (3.0, 1.0, 2.0, 1.0):
        timer.add(len(timer), delay, lambda delay=delay: fired.append(delay))  # type: ignore[misc]
    loop.advance(60)
    assert fired == [1.0, 1.0, 2.0, 3.0]
    assert not loop.armed


def test_only_one_call_is_armed_for_the_earliest(loop: FakeLoop) -> None:
    """Whatever is added, the loop holds one call."""
    timer = make(loop)
    for delay in (30, 10, 20, 5, 40):
        timer.add(delay, delay, lambda: None)
        assert len(loop.armed) == 1
    assert loop.armed[0].when == pytest.approx(105, abs=0.06)
    loop.advance(6)
    assert loop.armed[0].when == pytest.approx(110, abs=0.06)


def test_same_key_replaces(loop: FakeLoop) -> None:
    """Only the later of two timers with one key fires."""
    timer, fired = make(loop), []
    timer.add("a", 1, lambda: fired.append("first"))
    timer.add("a", 2, lambda: fired.append("second"))
    assert len(timer) == 1
    loop.advance(10)
    assert fired == ["second"]


def test_cancel_drops_the_reference_at_once(loop: FakeLoop) -> None:
    """What a cancelled callback held is free before its time comes."""

    class Held:
        def call(self) -> None:
            raise AssertionError("cancelled, yet called")

    timer, held = make(loop), Held()
    gone = weakref.ref(held)
    timer.add("a", 60, held.call)
    del held
    gc.collect()
    assert gone() is not None
    assert timer.cancel("a")
    assert gone() is None
    assert not timer.cancel("a")
    loop.advance(100)


def test_churn_keeps_nothing(loop: FakeLoop) -> None:
    """Adding and cancelling in one bucket for ever leaves one bucket number, not one per add."""
    timer = make(loop)
    for _ in range(10_000):
        timer.add("a", 60, lambda: None)
        timer.cancel("a")
    assert len(timer._ticks) == len(timer._buckets) == 1
    timer.add("sooner", 1, lambda: None)
    loop.advance(2)
    assert not timer._buckets, "the emptied bucket goes without a wake-up of its own"
    assert not loop.armed


def test_error_is_told_and_stops_nobody(loop: FakeLoop) -> None:
    """A callback that raises goes to on_error; its neighbour still fires."""
    told: list[tuple[object, str]] = []
    timer, fired = make(loop, on_error=lambda key, exc: told.append((key, repr(exc)))), []
    timer.add("bad", 1, fail)
    timer.add("good", 1, lambda: fired.append("good"))
    loop.advance(2)
    assert fired == ["good"]
    assert told == [("bad", "ZeroDivisionError('division by zero')")]


def test_error_goes_to_the_loop_by_default(loop: FakeLoop) -> None:
    """Without on_error nothing is swallowed either."""
    make(loop).add("bad", 1, fail)
    loop.advance(2)
    assert loop.told[0]["message"] == "timer 'bad' raised"


def test_callbacks_may_add_and_cancel(loop: FakeLoop) -> None:
    """In one bucket, the first callback cancels the second and adds itself again."""
    timer, fired = make(loop), []

    def first() -> None:
        fired.append("first")
        assert timer.cancel("second")
        timer.add("first", 0, lambda: fired.append("again"))

    timer.add("first", 1, first)
    timer.add("second", 1, lambda: fired.append("second"))
    loop.advance(1.2)
    assert fired == ["first"]
    loop.advance(0.1)
    assert fired == ["first", "again"]


def test_past_due_that_adds_itself_does_not_spin(loop: FakeLoop) -> None:
    """A negative delay fires on the next call of the loop, not within the same one."""
    timer, count = make(loop), 0

    def again() -> None:
        nonlocal count
        count += 1
        if count < 3:
            timer.add("a", -5, again)

    timer.add("a", -5, again)
    timer._fire()
    assert count == 1
    loop.advance(0)
    assert count == 3


def test_close_forgets_everything(loop: FakeLoop) -> None:
    """Also what is due in the very bucket whose callback closes, and what comes after."""
    timer, fired = make(loop), []
    timer.add("closer", 1, timer.close)
    timer.add("neighbour", 1, lambda: fired.append("neighbour"))
    timer.add("later", 9, lambda: fired.append("later"))
    loop.advance(20)
    timer.add("after", 0, lambda: fired.append("after"))
    loop.advance(20)
    assert fired == []
    assert len(timer) == 0
    assert not loop.armed


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_many_timers_mostly_cancelled(loop: FakeLoop, count: int) -> None:
    """Counts stay right, also at the size the engine is meant for."""
    timer, fired = make(loop), []
    for key in range(count):
        timer.add(key, 60 + key % 1000 * 0.05, lambda: fired.append(1))
    for key in range(0, count, 2):
        timer.cancel(key)
    for key in range(1, count, 4):
        timer.cancel(key)
    assert len(timer) == count // 4
    loop.advance(200)
    assert len(fired) == count // 4


def test_buckets_that_are_all_cancelled_go_before_their_time() -> None:
    """They would keep memory from the system until then; what is left fires all the same."""
    loop = FakeLoop()
    timer = make(loop)
    fired: list[int] = []
    for number in range(1000):
        timer.add(number, 60 + number, lambda number=number: fired.append(number))  # type: ignore[misc]
    for number in range(1000):
        if number % 100:
            timer.cancel(number)
    assert len(timer._buckets) == len(timer._ticks) < 50
    loop.advance(2000)
    assert fired == list(range(0, 1000, 100))
    assert (timer._buckets, timer._ticks) == ({}, [])

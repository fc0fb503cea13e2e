"""Who is started, told and ended in the slots, and when."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine.supervisor.errors import StageError
from engine.supervisor.fleet import Fleet
from engine.supervisor.release import Release

if TYPE_CHECKING:
    from collections.abc import Coroutine

ONE, TWO = Release("/r/1", "1.0"), Release("/r/2", "2.0")


class Recorder:
    """A worker that notes what it is told and is ready at once; `die` ends it."""

    uptime_s = 1.0

    def __init__(self, slot: int, release: Release, *, has_predecessor: bool, is_candidate: bool) -> None:
        self.slot, self.release = slot, release
        self.has_predecessor, self.is_candidate = has_predecessor, is_candidate
        self.is_leaving = self.is_announced = self.was_sent_go = False
        self.generation = 0
        self.path = Path("/nonexistent/w.sock")
        self.state = "starting"
        self.told: list[str] = []
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._has_died = False

    def send(self, command: str, **_fields: object) -> None:
        self.told.append(command)

    def go(self) -> None:
        self.was_sent_go = True
        self.send("go")

    def drain(self, _limit_s: float) -> None:
        self.is_leaving = True
        self.send("drain")

    def dismiss(self) -> None:
        self.is_leaving = True
        self.kill()

    def kill(self) -> None:
        self.send("kill")

    def die(self) -> None:
        self._has_died = True

    def reap(self) -> bool:
        if self._has_died and not self.exited.done():
            self.exited.set_result(-9)
            return True
        return False

    def end(self) -> str:
        return "killed by SIGKILL"

    async def close(self) -> None:
        pass

    async def wait_ready(self, _timeout_s: float) -> None:
        self.state = "ready"


class Launcher:
    """Starts recorders; as many as *failures* cannot be started."""

    def __init__(self) -> None:
        self.started: list[Recorder] = []
        self.failures = 0

    def start(self, release: Release, *, slot: int, count: int, **more: Any) -> Recorder:
        if self.failures:
            self.failures -= 1
            raise StageError("start", f"a worker of {release} cannot be started")
        self.started.append(Recorder(slot, release, **more))
        return self.started[-1]


class Lines:
    """Stands in for stderr."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


class Rig:
    """A fleet of one slot, with a worker that serves."""

    def __init__(self) -> None:
        self.launcher, self.output = Launcher(), Lines()
        launcher: Any = self.launcher
        output: Any = self.output
        self.fleet = Fleet(ONE, launcher, count=1, output=output)
        self.slot = self.fleet.slots[0]
        self.first = self.start()
        self.fleet.open([self.any(self.first)])

    def any(self, worker: Recorder) -> Any:
        return worker

    def start(self, release: Release = ONE, *, is_candidate: bool = False) -> Recorder:
        worker: Any = self.fleet.spawn(self.slot, release, is_candidate=is_candidate)
        assert isinstance(worker, Recorder)
        return worker

    def die(self, worker: Recorder) -> None:
        worker.die()
        self.fleet.reap()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


def run(steps: Coroutine[Any, Any, None]) -> None:
    asyncio.run(steps)


def test_a_worker_that_dies_is_replaced_at_once() -> None:
    async def steps() -> None:
        rig = Rig()
        rig.die(rig.first)
        await rig.settle()
        (worker,) = rig.launcher.started[1:]
        assert rig.fleet.workers == [rig.any(worker)]
        assert worker.told == ["peers", "go"]
        assert rig.slot.restarts == 1
        assert "died after 1.0 s (killed by SIGKILL)" in rig.output.lines[0]

    run(steps())


def test_one_that_cannot_be_started_is_tried_again_later() -> None:
    async def steps() -> None:
        rig = Rig()
        rig.launcher.failures = 1
        rig.die(rig.first)
        await rig.settle()
        assert rig.fleet.workers == []
        assert rig.slot.timer is not None
        assert any("is started again in" in line for line in rig.output.lines)
        await rig.fleet.stop()

    run(steps())


@pytest.mark.parametrize("why", ["held", "stopping", "leaving"])
def test_nobody_is_started_for_one_whose_end_is_wanted(why: str) -> None:
    async def steps() -> None:
        rig = Rig()
        newer = rig.start(TWO)
        if why == "held":
            rig.fleet.hold()
        rig.fleet.is_stopping = why == "stopping"
        if why == "leaving":
            rig.first.drain(1)
        rig.die(rig.first)
        await rig.settle()
        assert rig.launcher.started == [rig.first, newer]

    run(steps())


def test_a_slot_that_was_held_is_filled_when_the_reload_lets_go() -> None:
    async def steps() -> None:
        rig = Rig()
        rig.fleet.hold()
        rig.die(rig.first)
        await rig.settle()
        assert rig.fleet.workers == []
        rig.fleet.let_go()
        await rig.settle()
        assert len(rig.fleet.workers) == 1

    run(steps())


def test_after_a_reload_the_new_ones_stay_and_all_others_drain() -> None:
    async def steps() -> None:
        rig = Rig()
        rig.slot.streak = 4
        new = rig.start(TWO, is_candidate=True)
        assert new.has_predecessor
        assert rig.slot.serving is rig.any(rig.first)
        rig.fleet.open([rig.any(new)])
        assert "adopt" not in new.told  # the old one is there
        rig.fleet.serve_with([rig.any(new)], TWO)
        assert (rig.fleet.release, rig.slot.streak, rig.slot.serving) == (TWO, 0, new)
        assert rig.first.told[-1] == "drain"
        rig.die(rig.first)
        await rig.settle()
        assert new.told[-1] == "adopt"
        assert rig.launcher.started == [rig.first, new]

    run(steps())


def test_those_without_clients_need_not_drain() -> None:
    async def steps() -> None:
        rig = Rig()
        new = rig.start(TWO, is_candidate=True)
        rig.fleet.withdraw(rig.fleet.workers)
        assert (rig.first.told[-1], new.told) == ("drain", ["kill"])
        rig.fleet.withdraw(rig.fleet.workers)
        assert rig.first.told.count("drain") == 1

    run(steps())


def test_the_next_supervisor_goes_on_with_each_where_it_was() -> None:
    async def steps() -> None:
        rig = Rig()
        rig.first.is_leaving = True
        unready = rig.start(ONE)
        rig.fleet.resume()
        await rig.settle()
        assert "drain" in rig.first.told
        assert "go" in unready.told
        assert rig.launcher.started == [rig.first, unready]

    run(steps())

"""All workers: their start, their end, and a new one for each that dies."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from . import asking
from .errors import StageError
from .slot import Slot
from .steps import Background

if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence

    from .launch import Launcher
    from .output import Output
    from .release import Release
    from .worker import Worker

_CLOSE_S: Final = asking.TIMEOUT_S + 1  #: for what is under way beside the workers when they have ended


class Fleet:
    """All workers.

    Args:
        release: what a worker that died is replaced by.
        launcher: starts workers.
        count: number of slots.
        output: is told who has left, died and starts again.
        drain_timeout_s: for a worker to finish what it has begun.
        start_timeout_s: for a worker that no reload started to be ready.

    Attributes:
        release: as above; a reload that succeeds changes it, see `serve_with`.
    """

    def __init__(
        self,
        release: Release,
        launcher: Launcher,
        *,
        count: int,
        output: Output,
        drain_timeout_s: float = 30.0,
        start_timeout_s: float = 60.0,
    ) -> None:
        self.release = release
        self.slots = [Slot(number) for number in range(count)]
        self.drain_timeout_s = drain_timeout_s
        self.is_stopping = False
        self.output = output
        self.background = Background()  #: workers that are brought up or closed
        self._launcher = launcher
        self._start_timeout_s = start_timeout_s

    @property
    def workers(self) -> list[Worker]:
        """Every live worker, by slot, oldest first."""
        return [worker for slot in self.slots for worker in slot.workers]

    @property
    def summary(self) -> str:
        """What serves, in a few words."""
        return f"{self.release}, workers: {len(self.slots)}"

    # Start

    def spawn(self, slot: Slot, release: Release, *, is_candidate: bool = False) -> Worker:
        """Start a worker that does not accept yet.

        Raises:
            StageError: the program cannot be started.
        """
        has_predecessor = any(other.was_sent_go or not other.is_candidate for other in slot.workers)
        worker = self._launcher.start(
            release,
            slot=slot.number,
            count=len(self.slots),
            has_predecessor=has_predecessor,
            is_candidate=is_candidate,
        )
        slot.workers.append(worker)
        slot.has_leftovers = slot.has_leftovers and has_predecessor
        return worker

    def open(self, workers: Sequence[Worker]) -> None:
        """Let ready workers accept."""
        self.announce(workers)
        for worker in workers:
            worker.go()
            self._settle(self.slots[worker.slot])

    def serve_with(self, new: Sequence[Worker], release: Release) -> None:
        """Keep the workers that a reload has brought up; all others drain."""
        self.release = release
        for slot in self.slots:
            slot.streak = 0
        for worker in new:
            worker.is_candidate = False
        self.withdraw([worker for worker in self.workers if worker not in new])

    def announce(self, new: Sequence[Worker] = ()) -> None:
        """Tell every worker who the others are."""
        for worker in new:
            worker.is_announced = True
        known = [worker for worker in self.workers if worker.is_announced]
        peers = [
            {"slot": worker.slot, "generation": worker.generation, "socket": str(worker.path)}
            for worker in known
        ]
        for worker in known:
            worker.send("peers", workers=peers)

    def _settle(self, slot: Slot) -> None:
        """Let a worker that is alone in its slot take over what the others left."""
        working = [worker for worker in slot.workers if worker.was_sent_go]
        if slot.has_leftovers and len(working) == 1 and not working[0].is_leaving:
            slot.has_leftovers = False
            working[0].send("adopt")

    # End

    def reap(self) -> None:
        """Notice every worker that has exited (SIGCHLD)."""
        for slot in self.slots:
            for worker in [worker for worker in slot.workers if worker.reap()]:
                slot.workers.remove(worker)
                self._exited(slot, worker)

    def _exited(self, slot: Slot, worker: Worker) -> None:
        self.background.begin(worker.close())
        with contextlib.suppress(OSError):
            worker.path.unlink(missing_ok=True)
        if worker.was_sent_go or not worker.has_predecessor:
            slot.has_leftovers = True
        if worker.is_announced:
            self.announce()
        self._settle(slot)
        if worker.is_leaving:
            self.output.say(f"{worker} has left ({worker.end()})")
        else:
            self.output.say(f"{worker} died after {worker.uptime_s:.1f} s ({worker.end()})")
        is_replaced_here = not (worker.is_leaving or worker.is_candidate or slot.is_held)
        self.ensure(slot, after_s=slot.backoff_s(worker.uptime_s) if is_replaced_here else 0)

    def withdraw(self, workers: Sequence[Worker]) -> None:
        """End workers: those that may have clients drain, the others are killed."""
        for worker in workers:
            if worker.is_leaving:
                continue
            if worker.was_sent_go:
                worker.drain(self.drain_timeout_s)
            else:
                worker.dismiss()

    async def stop(self) -> None:
        """End all workers and wait until they have exited."""
        self.is_stopping = True
        for slot in self.slots:
            if slot.timer is not None:
                slot.timer.cancel()
        self.withdraw(self.workers)
        while self.workers:
            await asyncio.wait([worker.exited for worker in self.workers], timeout=0.1)
            self.reap()
        await self.background.wait(_CLOSE_S)

    def kill(self) -> None:
        """End all workers at once."""
        for worker in self.workers:
            worker.dismiss()

    def pass_on(self, number: signal.Signals) -> None:
        """Send a signal to every worker that has its handlers; any other would die of it."""
        for worker in self.workers:
            if worker.state != "starting":
                worker.send_signal(number)

    # Respawn

    def resume(self) -> None:
        """Go on with workers that the supervisor before this one started."""
        self.reap()
        for worker in self.workers:
            if worker.is_leaving:
                worker.drain(self.drain_timeout_s)
            elif not worker.was_sent_go:
                self.background.begin(self.bring_up(worker))
        for slot in self.slots:
            self.ensure(slot)

    def hold(self) -> None:
        """Leave it to a reload what runs in the slots: no respawn."""
        for slot in self.slots:
            slot.is_held = True

    def let_go(self) -> None:
        """Respawn again what dies."""
        for slot in self.slots:
            slot.is_held = False
            self.ensure(slot)

    def ensure(self, slot: Slot, *, after_s: float = 0) -> None:
        """Have a worker started in a slot that has none, unless a reload takes care of the slot."""
        if self.is_stopping or slot.is_held or slot.serving is not None or slot.timer is not None:
            return
        if after_s:
            self.output.say(f"worker {slot.number} is started again in {after_s:.1f} s")
        slot.timer = asyncio.get_running_loop().call_later(after_s, self._respawn, slot)

    def _respawn(self, slot: Slot) -> None:
        slot.timer = None
        if self.is_stopping or slot.is_held or slot.serving is not None:
            return
        try:
            worker = self.spawn(slot, self.release)
        except StageError as exc:
            self.output.say(str(exc))
            self.ensure(slot, after_s=slot.backoff_s(0))
        else:
            self.background.begin(self.bring_up(worker))

    async def bring_up(self, worker: Worker) -> None:
        """Bring a worker that no reload started to accepting, or kill it, which gets it respawned."""
        try:
            if worker.state == "starting":
                await worker.wait_ready(self._start_timeout_s)
        except StageError as exc:
            if exc.stage != "start":
                self.output.say(f"{exc}; it is killed")
            worker.kill()
        else:
            if not worker.is_leaving and not worker.exited.done():
                self.open([worker])

"""One reload: new workers beside the old ones, then instead of them, or back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from . import bake
from .errors import StageError
from .steps import together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .fleet import Fleet
    from .release import Release
    from .worker import Worker

_GO_TIMEOUT_S: Final = 10.0
_WITHDRAW_S: Final = 5.0  #: drain limit of a new worker whose reload failed after `go`


class Reload:
    """One reload, and the way back if it turns out bad.

    Args:
        fleet: the workers; only a reload changes ``fleet.release``.
        target: the release that is to serve.
        bake_s: how long the new workers are watched.
        timeout_s: for the new workers to be ready.
        tell: is given an event for each step.

    Attributes:
        stage: ``start ready go bake return drain``.
        accepted: is set to the seconds from the request to the last new worker accepting.
    """

    def __init__(
        self, fleet: Fleet, target: Release, *, bake_s: float, timeout_s: float, tell: Callable[..., None]
    ) -> None:
        self.target = target
        self.stage = "start"
        self.accepted: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._fleet = fleet
        self._bake_s = bake_s
        self._timeout_s = timeout_s
        self._tell = tell
        self._began_at = time.monotonic()
        self._unproven: frozenset[str] = frozenset()  # nodes that pass purges on already

    async def run(self) -> None:
        """Let the target serve, and go back if it turns out bad.

        Raises:
            StageError: the reload failed, and the old release serves (or the text says why it does not).
        """
        old = self._fleet.release
        try:
            new = await self.switch()
            self.accepted.set_result(round(time.monotonic() - self._began_at, 3))
            self._tell(
                "accepting", version=self._fleet.release.version, accepting_after_s=self.accepted.result()
            )
            try:
                await self._bake(new)
            except StageError as exc:
                await self._return(old, exc)
                raise
        finally:
            self._fleet.let_go()
        self.stage = "drain"
        await self._drained()

    async def switch(self) -> list[Worker]:
        """Bring the workers of the target up, then drain all others; return the new ones.

        Raises:
            StageError: the switch failed; the workers from before go on, the new ones have left.
        """
        fleet, new = self._fleet, []
        self.stage = "start"
        self._unproven = await bake.unproven_of(fleet.workers) if self._bake_s > 0 else frozenset()
        try:
            for slot in fleet.slots:
                worker = fleet.spawn(slot, self.target, is_candidate=True)
                slot.is_held = slot.is_held or not worker.has_predecessor
                new.append(worker)
                self._tell("spawned", slot=slot.number, pid=worker.pid, generation=worker.generation)
            self.stage = "ready"
            await together(self._ready(worker) for worker in new)
            self.stage = "go"
            fleet.hold()
            fleet.open(new)
            await together(worker.wait_accepting(_GO_TIMEOUT_S) for worker in new)
            await together(worker.wait_accepting(0) for worker in new)  # no other has died meanwhile
        except StageError as exc:
            self.stage = exc.stage
            await self._withdraw(new)
            raise
        fleet.serve_with(new, replace(self.target, version=new[0].version))
        return new

    async def _ready(self, worker: Worker) -> None:
        await worker.wait_ready(self._timeout_s)
        self._tell("ready", slot=worker.slot, pid=worker.pid, version=worker.version)

    async def _withdraw(self, new: Sequence[Worker]) -> None:
        for worker in new:
            if worker.was_sent_go:
                worker.drain(min(_WITHDRAW_S, self._fleet.drain_timeout_s))
        self._fleet.withdraw(new)
        await asyncio.gather(*(worker.exited for worker in new))

    async def _drained(self) -> None:
        for worker in [worker for worker in self._fleet.workers if worker.is_leaving]:
            await asyncio.shield(worker.exited)
            self._tell("drained", slot=worker.slot, pid=worker.pid, generation=worker.generation)

    async def _bake(self, new: Sequence[Worker]) -> None:
        self.stage = "bake"
        if self._bake_s > 0:
            self._tell("baking", bake_s=self._bake_s)
            await bake.watch(new, self._bake_s, self._unproven)

    async def _return(self, old: Release, reason: StageError) -> None:
        """Go back to the old release, and add to the reason how that went."""
        fleet, bad = self._fleet, self._fleet.release
        self.stage = "return"
        fleet.output.say(f"going back to {old}: {reason}")
        self._tell("returning", version=old.version, reason=str(reason))
        back = Reload(fleet, old, bake_s=0, timeout_s=self._timeout_s, tell=self._tell)
        text = f"{reason}; the release before, {old}, serves again"
        try:
            await back.switch()
            await self._drained()
        except StageError as exc:
            is_served = any(worker.was_sent_go and not worker.is_leaving for worker in fleet.workers)
            fleet.release = bad if is_served else old
            text = f"{reason}; the way back to {old} failed too: {exc}"
            reason.log += exc.log
        reason.args = (text,)

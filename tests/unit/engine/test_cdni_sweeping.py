"""The sweeping of triggers: what nobody foresaw ends neither it nor the engine's orderly end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from engine.doors.cdni import sweeping

if TYPE_CHECKING:
    import pytest


class Broken(sweeping.Sweeping):
    """Every round of it fails as no round should."""

    def __init__(self) -> None:
        nothing: Any = None
        super().__init__(nothing, nothing, tokens=[], stale_s=1, is_ours=lambda: True)
        self.rounds = 0
        self.has_gone_on = asyncio.Event()

    async def sweep(self) -> None:
        self.rounds += 1
        if self.rounds > 2:
            self.has_gone_on.set()
        raise ZeroDivisionError


async def test_a_round_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "_EVERY_S", 0)
    broken = Broken()
    broken.start()
    await asyncio.wait_for(broken.has_gone_on.wait(), 5)
    await broken.stop()


async def test_the_end_of_what_has_failed_is_no_failure() -> None:
    class Ended(Broken):
        async def _run(self) -> None:
            raise ZeroDivisionError

    ended = Ended()
    ended.start()
    await asyncio.sleep(0)
    await ended.stop()

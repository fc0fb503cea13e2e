"""What one worker does now and then with the triggers of all: look at those that go on, forget the old."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.errors import StoreError
from engine.tasks.triggers import SETTLED

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.doors.cdni.ending import Ending
    from engine.doors.cdni.records import Records

_EVERY_S: Final = 5.0
_ROUND_MAX: Final = 1000
_ROUND_S: Final = 0.25  #: of every 5 s
_FORGET_MAX: Final = 1000


class Sweeping:
    """Looks after the triggers of all clients.

    Args:
        records: the triggers.
        ending: tries again to end those that were cancelled.
        stale_s: settled ones are kept so long.
        is_ours: tells whether this worker does it.
    """

    def __init__(
        self, records: Records, ending: Ending, *, stale_s: float, is_ours: Callable[[], bool]
    ) -> None:
        self._records = records
        self._ending = ending
        self._stale_s = stale_s
        self._is_ours = is_ours
        self._behind = ""  # of the last round: the id that it came to
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. Safe to call again."""
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End. Safe to call again."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            if self._is_ours():
                try:
                    await self.sweep()
                except StoreError as exc:
                    logger.debug("triggers are looked at later: {}", exc)

    async def sweep(self) -> None:
        """Go one round; of many triggers it is one of several.

        Raises:
            StoreError: the store fails, or a worker that has a task does not answer.
        """
        records = self._records
        names = await records.read(records.store.unsettled, self._behind, _ROUND_MAX)
        found = await records.look_at(names, limit_s=_ROUND_S)
        is_last = len(found) == len(names) < _ROUND_MAX
        self._behind = "" if is_last or not found else names[len(found) - 1][0]
        for record in found:
            if record is not None and record.is_cancelled and record.status not in SETTLED:
                await self._ending.end_tasks(record, None)
        await records.read(records.store.forget, time.time() - self._stale_s, _FORGET_MAX)

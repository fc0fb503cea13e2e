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
    from collections.abc import Callable, Sequence

    from engine.doors.cdni.ending import Ending
    from engine.doors.cdni.records import Records

_EVERY_S: Final = 5.0
_ROUND_MAX: Final = 1000
_ROUND_S: Final = 0.25  #: of every 5 s
_FORGET_MAX: Final = 1000  #: of all clients, and then of each, in one round
KEPT_MAX: Final = 100_000  #: triggers of a client: a collection of them is 7 MB


class Sweeping:
    """Looks after the triggers of all clients.

    Args:
        records: the triggers.
        ending: tries again to end those that were cancelled.
        tokens: names of those of all clients: of each `KEPT_MAX` triggers are kept.
        stale_s: settled ones are kept so long.
        is_ours: tells whether this worker does it.
    """

    def __init__(
        self,
        records: Records,
        ending: Ending,
        *,
        tokens: Sequence[str],
        stale_s: float,
        is_ours: Callable[[], bool],
    ) -> None:
        self._records = records
        self._ending = ending
        self._tokens = tokens
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
            with contextlib.suppress(asyncio.CancelledError, Exception):  # whoever stops has more to end
                await running

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                if self._is_ours():
                    await self.sweep()
            except StoreError as exc:
                logger.debug("triggers are looked at later: {}", exc)
            except Exception as exc:  # noqa: BLE001 - without it no trigger is ever forgotten or retried
                logger.opt(exception=exc).error("triggers cannot be looked at; the next round tries again")

    async def sweep(self) -> None:
        """Go one round; of many triggers it is one of several. What is old goes first, whatever comes then.

        Raises:
            StoreError: the store fails, or a worker that has a task does not answer.
        """
        records = self._records
        await records.read(self._forget)
        names = await records.read(records.store.unsettled, self._behind, _ROUND_MAX)
        found = await records.look_at(names, limit_s=_ROUND_S)
        is_last = len(found) == len(names) < _ROUND_MAX
        self._behind = "" if is_last or not found else names[len(found) - 1][0]
        for record in found:
            if record is not None and record.is_cancelled and record.status not in SETTLED:
                await self._ending.end_tasks(record, None)

    def _forget(self) -> None:
        store = self._records.store
        store.forget(time.time() - self._stale_s, _FORGET_MAX)
        for token in self._tokens:
            store.trim(token, KEPT_MAX, _FORGET_MAX)

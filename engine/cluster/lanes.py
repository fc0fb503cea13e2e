"""Calls of Redis for the parts of something, so that a master that is away holds up its own parts only.

One lane calls for all parts that answered the last time. The parts that did not go by the other lane, with
pauses that grow, until they answer again. Each lane has one call under way at a time, and what comes
meanwhile goes together with the next.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.base.backoff import backoff_s

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_PAUSE_FIRST_S: Final = 0.05
_PAUSE_MAX_S: Final = 1.0


class Lanes:
    """The two lanes.

    Args:
        parts: how many there are.
        work: calls for some parts; told whether these are the ones that answer; returns those that did.
        left: returns the parts that something still waits for which came too late for its call.
        patience_s: returns after how long to call without being asked.
    """

    def __init__(
        self,
        parts: int,
        work: Callable[[set[int], bool], Awaitable[set[int]]],
        left: Callable[[], set[int]],
        patience_s: Callable[[], float | None],
    ) -> None:
        self._parts = set(range(parts))
        self._work = work
        self._left = left
        self._patience_s = patience_s
        self._doubtful: set[int] = set()
        self._is_asked = asyncio.Event()
        self._is_doubtful = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<Lanes [{len(self._doubtful)} of {len(self._parts)} do not answer]>"

    def start(self) -> None:
        """Begin."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._answering()), loop.create_task(self._silent())]

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def ask(self) -> None:
        """Call, with the next call."""
        self._is_asked.set()

    async def _answering(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience_s()):
                    await self._is_asked.wait()
            self._is_asked.clear()
            parts = self._parts - self._doubtful
            self._doubtful |= parts - await self._call(parts, answers=True)
            if self._doubtful or self._left():
                self._is_doubtful.set()

    async def _silent(self) -> None:
        failures = 0
        while True:
            await self._is_doubtful.wait()
            parts = self._doubtful | self._left()
            done = await self._call(parts, answers=False)
            self._doubtful -= done
            if done:
                failures = 0
                self._is_asked.set()
            if parts - done:
                await asyncio.sleep(backoff_s(failures, first_s=_PAUSE_FIRST_S, max_s=_PAUSE_MAX_S))
                failures += 1
            elif not self._left():
                self._is_doubtful.clear()

    async def _call(self, parts: set[int], *, answers: bool) -> set[int]:
        try:
            return await self._work(parts, answers)
        except Exception:  # noqa: BLE001 - without it nothing would be counted or sent any more
            logger.exception("a call for prefetches failed")
            return set()

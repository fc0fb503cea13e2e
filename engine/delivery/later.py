"""One timer a name, of which the earliest counts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Later:
    """Calls *work* with a name when the earliest time that was asked for has come."""

    def __init__(self, work: Callable[[str], None]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def __repr__(self) -> str:
        return f"<Later [{len(self._timers)} timers]>"

    def set(self, name: str, wait_s: float) -> None:
        """Call in *wait_s*, or before if that has been asked for."""
        at = self._loop.time() + wait_s
        timer = self._timers.get(name)
        if timer is not None:
            if timer.when() <= at:
                return
            timer.cancel()
        self._timers[name] = self._loop.call_at(at, self._call, name)

    def _call(self, name: str) -> None:
        del self._timers[name]
        self._work(name)

    def stop(self) -> None:
        """Call nothing any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

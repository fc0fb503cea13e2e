"""Long work on the loop, in slices: whatever else is to be done has its turn in between."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

SLICE_S: float = 0.005  #: of one piece of work, at a time; Final would compile it in, and tests change it


class Turns:
    """Pieces of work that are under way; one slice a turn of the loop, a piece after the other.

    Args:
        loop: the engine's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], bool]] = deque()

    def __repr__(self) -> str:
        return f"<Turns [{len(self._waiting)} under way]>"

    def add(self, work: Callable[[], bool]) -> None:
        """Have *work* called from the next turn on, until it returns whether it is done: True.

        It goes on for about `SLICE_S` when it is called.
        """
        if not self._waiting:
            self._loop.call_soon(self._turn)
        self._waiting.append(work)

    def _turn(self) -> None:
        until = time.monotonic() + SLICE_S
        while self._waiting:
            if not self._waiting[0]():
                self._waiting.rotate(-1)
            else:
                self._waiting.popleft()
            if time.monotonic() > until:
                break
        if self._waiting:
            self._loop.call_soon(self._turn)

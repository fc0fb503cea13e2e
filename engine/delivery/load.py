"""How much is on its way: the count of live subtasks, room for more, and the wait for none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Load:
    """Owns the count of *live* subtasks: accepted, and neither settled nor in a delay queue.

    The intake reserves room for a task before it is saved, and gives it back when it cannot be; the delivery
    gives it back subtask by subtask.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.live = 0
        self._on_room: Callable[[], None] | None = None
        self._idle: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<Load [{self.live} live subtasks]>"

    def reserve(self, count: int) -> None:
        """Count subtasks in."""
        self.live += count

    def release(self, count: int) -> None:
        """Count subtasks out: others may take their room."""
        self.give_back(count)
        if self._on_room is not None:
            self.made_room()

    def give_back(self, count: int) -> None:
        """Count subtasks out that the store did not take: it would not take those of others either."""
        self.live -= count
        if self.live == 0 and self._idle is not None:
            self._idle.set()

    def call_on_room(self, callback: Callable[[], None]) -> None:
        """Have *callback* called once, soon after there is more room; it replaces an earlier one."""
        self._on_room = callback

    def made_room(self) -> None:
        """There is more room: subtasks were counted out, or a task has left the memory."""
        if self._on_room is not None:
            self._loop.call_soon(self._on_room)
            self._on_room = None

    async def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is on its way to a node. Returns False after *timeout_s*."""
        if self.live == 0:
            return True
        self._idle = asyncio.Event()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

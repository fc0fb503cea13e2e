"""A waiting room: what finds no room at the moment waits for it, in order, and for a bounded time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

T = TypeVar("T")


class WaitingRoom(Generic[T]):
    """Who waits, the one that has waited longest first.

    Args:
        loop: the engine's loop.
        wait_s: how long each waits.
        on_late: given each that found no room in time.
        last_chance: called when somebody's time is over, before anybody is late: it may take who fits.

    Attributes:
        queue: with the loop's time at which each gives up; to look at.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wait_s: float,
        on_late: Callable[[T], None],
        *,
        last_chance: Callable[[], None] | None = None,
    ) -> None:
        self.queue: deque[tuple[float, T]] = deque()
        self._loop = loop
        self._wait_s = wait_s
        self._on_late = on_late
        self._last_chance = last_chance
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self.queue)

    def add(self, item: T, until: float | None = None) -> None:
        """Let *item* wait.

        Args:
            item: waits behind all that wait already.
            until: when it gives up, on the loop's clock; not before those that wait already. None: after
                ``wait_s``. Who comes from another room brings the time that it was given there.
        """
        if until is None:
            until = self._loop.time() + self._wait_s
        self.queue.append((until, item))
        if self._timer is None:
            self._timer = self._loop.call_at(until, self._expire)

    def take(self) -> tuple[T, float]:
        """Return who has waited longest, for whom there is room now, and when it would have given up."""
        until, item = self.queue.popleft()
        return item, until

    def close(self) -> None:
        """Let nobody be late any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        self._timer = None
        if self._last_chance is not None:
            self._last_chance()
        now = self._loop.time()
        while self.queue and self.queue[0][0] <= now:
            self._on_late(self.queue.popleft()[1])
        if self.queue:
            self._timer = self._loop.call_at(self.queue[0][0], self._expire)

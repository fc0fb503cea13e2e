"""Work of the loop that nobody awaits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Background:
    """Keeps tasks of the loop until they end; the loop alone holds them weakly, and could lose one."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run *work* on the loop that is running, and keep it until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """Cancel what has not ended."""
        for task in self._tasks:
            task.cancel()


class FewAtOnce:
    """Runs one kind of work, at the most so many at a time; each goes on until it finds nothing to do.

    One that has found nothing counts no more from that moment on, and not only when the loop has ended its
    task: what comes in between would be left lying.

    Args:
        work: makes one.
        most: at a time.
    """

    def __init__(self, work: Callable[[], Coroutine[None, None, None]], most: int) -> None:
        self._work = work
        self._most = most
        self._count = 0
        self._background = Background()

    def __len__(self) -> int:
        return self._count

    def wake(self) -> None:
        """There is something to do: start one more, if there may be more."""
        if self._count < self._most:
            self._count += 1
            self._background.start(self._run())

    async def _run(self) -> None:
        try:
            await self._work()
        finally:
            self._count -= 1

    def cancel(self) -> None:
        """Cancel what has not ended."""
        self._background.cancel()

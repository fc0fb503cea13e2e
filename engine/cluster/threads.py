"""Threads of the cluster's own: slow reads of clients must not make an engine look dead."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

_THREADS: Final = 6
"""One waits for messages, one beats, two look at replicas and rows; of prefetches two write, two read."""


class Threads:
    """Makes blocking calls from the loop; *name* is that of the threads."""

    def __init__(self, name: str = "cluster") -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=name)

    async def call(self, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call a blocking function in a thread."""
        return await self._loop.run_in_executor(self._pool, lambda: function(*args, **named))

    def close(self) -> None:
        """End the threads when the calls under way are over; calls that still wait are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)

"""Reading the store from the loop: blocking calls, made on threads of their own."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_THREADS: Final = 4


class StoreReader:
    """The threads that read. A store's own errors reach the caller as they are."""

    def __init__(self, threads: int = _THREADS, name: str = "reader") -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def read(self, function: Callable[..., T], *args: object) -> T:
        """Call a store's method in a reader thread, and return what it returns.

        Raises:
            StoreError: the store cannot do it.
        """
        return await self._loop.run_in_executor(self._threads, function, *args)

    def close(self) -> None:
        """End the threads when the calls under way are over; calls that still wait are dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)

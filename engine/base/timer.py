"""One timer wheel for every due time, retry and repeat of the engine.

Due times are rounded up to buckets of `granularity_s`; the loop holds one call, for the earliest
bucket. A bucket is a dict, so a cancel drops key and callback at once: of a million due timers
nearly all are cancelled long before they fire, and a heap of handles would keep every one.

Only the loop's monotonic time is read, so a wall clock that is set changes nothing.
Measured (CPython 3.11, uvloop): add 0.5 µs, of which half is reading the clock; cancel 0.2 µs.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Hashable

    Bucket = dict[Hashable, Callable[[], None]]


_EMPTY_MAX: Final = 16


class Timer:
    """Calls back once after a delay. Belongs to the loop's thread.

    Args:
        loop: whose time counts, and which calls back.
        granularity_s: seconds between two buckets; a callback comes up to that much later than asked.
        on_error: told the key and the exception when a callback raises; default the loop's
            exception handler. The other callbacks of the bucket are called all the same.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        granularity_s: float = 0.05,
        on_error: Callable[[Hashable, Exception], None] | None = None,
    ) -> None:
        self._loop = loop
        self._now = loop.time
        self._granularity_s = granularity_s
        self._ticks_per_s = 1 / granularity_s
        self._on_error = on_error or self._tell_loop
        self._buckets: dict[int, Bucket] = {}
        self._bucket_of: dict[Hashable, Bucket] = {}
        self._ticks: list[int] = []  # heap of the buckets' numbers, each once
        self._handle: asyncio.TimerHandle | None = None
        self._armed_tick = 0
        self._is_closed = False
        self._empty_count = 0  # at least so many buckets are empty, or were when they fired

    def __len__(self) -> int:
        return len(self._bucket_of)

    def add(self, key: Hashable, delay_s: float, callback: Callable[[], None]) -> None:
        """Call *callback* once, *delay_s* seconds from now at the earliest.

        Args:
            key: names the timer; one that waits under the same key is replaced.
            delay_s: seconds; zero or less means with the next bucket.
            callback: must not block. After `close` it is dropped.
        """
        bucket = self._bucket_of.get(key)
        if bucket is not None:
            del bucket[key]
        tick = int((self._now() + delay_s) * self._ticks_per_s) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            if self._is_closed:
                return
            bucket = self._open(tick)
        bucket[key] = callback
        self._bucket_of[key] = bucket

    def cancel(self, key: Hashable) -> bool:
        """Forget the timer; False when it has fired, was cancelled or never was."""
        bucket = self._bucket_of.pop(key, None)
        if bucket is None:
            return False
        del bucket[key]
        if not bucket:
            bucket.clear()  # an emptied dict keeps its table; a wheel full of those is 200 MB
            self._empty_count += 1
            if self._empty_count > _EMPTY_MAX and self._empty_count * 2 > len(self._buckets):
                self.sweep()
        return True

    def sweep(self) -> None:
        """Drop the empty buckets: each is small, but its number alone can keep 1 MiB from the system."""
        self._empty_count = 0
        self._buckets = {tick: bucket for tick, bucket in self._buckets.items() if bucket}
        self._ticks = sorted(self._buckets)  # a heap, too

    def close(self) -> None:
        """Forget every timer; none fires any more."""
        self._is_closed = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        for bucket in self._bucket_of.values():
            bucket.clear()  # also those that `_fire` is just going through
        self._bucket_of.clear()
        self._buckets.clear()
        self._ticks.clear()

    def _open(self, tick: int) -> Bucket:
        bucket: Bucket = {}
        self._buckets[tick] = bucket
        heapq.heappush(self._ticks, tick)
        if self._handle is None or tick < self._armed_tick:
            self._arm(tick)
        return bucket

    def _arm(self, tick: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed_tick = tick
        self._handle = self._loop.call_at(tick * self._granularity_s, self._fire)

    def _fire(self) -> None:
        """Call what is due, oldest bucket first, after arming for what is not."""
        self._handle = None
        due = self._take_due(self._now())
        while self._ticks and not self._buckets[self._ticks[0]]:
            del self._buckets[heapq.heappop(self._ticks)]  # all cancelled: not worth a wake-up
        if self._ticks:
            self._arm(self._ticks[0])
        for bucket in due:
            for key in list(bucket):
                callback = bucket.pop(key, None)
                if callback is None:
                    continue  # cancelled by a callback before it
                del self._bucket_of[key]
                try:
                    callback()
                except Exception as exc:  # noqa: BLE001 - one bad callback must not stop the others
                    self._on_error(key, exc)

    def _take_due(self, now: float) -> list[Bucket]:
        due = []
        while self._ticks and self._ticks[0] * self._granularity_s <= now:
            due.append(self._buckets.pop(heapq.heappop(self._ticks)))
        return due

    def _tell_loop(self, key: Hashable, exc: Exception) -> None:
        self._loop.call_exception_handler({"message": f"timer {key!r} raised", "exception": exc})

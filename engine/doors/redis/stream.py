"""The loop around one stream: entries in, tasks to the intake, acknowledgements out.

An entry is acknowledged after its task is saved, or when it never will be one and is set aside. Until then
it is in hand, of which there are few: while the intake is full nothing more is read, and what is not read
stays where it is. What this worker leaves unacknowledged, because it ends or dies, another one claims.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.base.backoff import backoff_s
from engine.base.turns import SLICE_S
from engine.doors.redis.group import GroupLostError
from engine.doors.redis.handing import Handing
from engine.doors.redis.settled import Settled
from engine.doors.submitting import hand_in
from engine.errors import RequestError, StoreError
from engine.intake.problems import too_large

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.doors.redis.entries import Entry
    from engine.doors.redis.group import Group
    from engine.doors.redis.handing import Item
    from engine.doors.redis.poison import Poison
    from engine.doors.redis.reach import Reach
    from engine.intake.admission import Admission
    from engine.intake.client import Client
    from engine.intake.replies import Reply
    from engine.saver.reader import StoreReader

WAIT_S: Final = 0.5  #: for the next entry; a stop has to wait for the end of that
_SETTLE_S: Final = 1.0  #: entries at the intake are waited for, then what is in hand is kept
_READ_MAX_BYTES: Final = 16 * 1024 * 1024  #: aim of one read; the size of the entries before tells how many
_RETRY_FIRST_S: Final = 0.1
_RETRY_MAX_S: Final = 5.0
_ACCEPTED: Final = 202
_KNOWN: Final = 200  #: the entry has been delivered before, and is the same task


class StreamReader:
    """Reads one stream.

    Args:
        group: this worker's part in its group.
        threads: where that is called.
        poison: takes what is refused for good.
        reach: tells the operator.
        admission: takes the tasks.
        client: who hands them in.
        max_age_s: older entries are dropped; 0: none is.
        body_max_bytes: of a task.
        look_s: seconds between two looks at what others left.
    """

    def __init__(
        self,
        group: Group,
        threads: StoreReader,
        *,
        poison: Poison,
        reach: Reach,
        admission: Admission,
        client: Client,
        max_age_s: float,
        body_max_bytes: int,
        look_s: float,
    ) -> None:
        self._group = group
        self._threads = threads
        self._reach = reach
        self._admission = admission
        self._client = client
        self._max_age_s = max_age_s
        self._body_max_bytes = body_max_bytes
        self._look_s = look_s
        self._loop = asyncio.get_running_loop()
        self._handing = Handing(self._loop, self)
        self._settled = Settled(group, poison, threads, reach)
        self._is_open = False
        self._look_at = 0.0
        self._largest = body_max_bytes  # of the entries read last; nobody knows what is in there
        self._stopping = asyncio.Event()

    def __repr__(self) -> str:
        return f"<StreamReader of {self._group.stream}, {self._handing!r}>"

    # Running

    def stop(self) -> None:
        """Read nothing more."""
        self._stopping.set()
        self._handing.stop()

    async def run(self) -> None:
        """Read until `stop`, whatever happens to the Redis; then finish what is in hand."""
        failures = 0
        while not self._stopping.is_set():
            try:
                await self._round()
            except StoreError as exc:
                self._is_open &= not isinstance(exc, GroupLostError)
                self._failed(exc)
                failures += 1
            except Exception as exc:  # noqa: BLE001 - a door that ended in silence would lose all that comes
                logger.exception("an error in the engine, reading stream {}", self._group.stream)
                self._reach.failed(f"an error in the engine: {type(exc).__name__}")
                failures += 1
            else:
                failures = 0
                self._reach.reached()
                continue
            await self._pause(backoff_s(failures, first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S))
        await self._handing.is_settled.wait()
        with contextlib.suppress(StoreError):
            await self._settled.write()
            await self._threads.read(self._group.leave)

    def _failed(self, exc: StoreError) -> None:
        if isinstance(exc, GroupLostError):
            self._reach.warn(f"{exc}; it is made again")
        else:
            self._reach.failed(str(exc))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _round(self) -> None:
        """Read once, hand in, and wait until that is answered.

        Raises:
            StoreError: the Redis is away, or the group is.
        """
        if not self._is_open:
            await self._open()
        if self._loop.time() >= self._look_at:
            await self._look()
        else:
            await self._settled.set_aside()
        count = self._count()
        if not count:
            await self._settled.write()
            await self._wait(self._handing.has_room, _SETTLE_S)
            return
        acked = self._settled.take()
        try:
            entries = await self._threads.read(self._group.read, acked, count, WAIT_S)
        except StoreError:
            self._settled.give_back(acked)
            raise
        await self._take(entries)
        await self._wait(self._handing.is_settled, _SETTLE_S)

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)

    def _count(self) -> int:
        """Return how many entries are read next: none at the end, where what is let go of makes room."""
        if self._stopping.is_set():
            return 0
        fit = max(1, _READ_MAX_BYTES // max(1, self._largest))
        return min(self._handing.room, fit)

    async def _open(self) -> None:
        start = await self._threads.read(self._group.open)
        self._is_open = True
        if start:
            words = {"$": "what is added from now on", "0": "all that is in it", "0-0": "all that is in it"}
            begins = words.get(start, f"what is behind {start}")
            logger.info("a consumer group is made for {!r}: {}", self._group, begins)

    # What is read

    async def _take(self, entries: list[Entry]) -> None:
        """Hand entries in, a slice at a time; what is in hand may have been claimed once more."""
        known = {*self._handing.names, *self._settled.ids}
        entries = [entry for entry in entries if entry.id not in known]
        if not entries:
            return
        self._largest = max(len(entry.text) for entry in entries)
        now_ms = await self._threads.read(self._group.now_ms) if self._max_age_s else 0
        until = time.monotonic() + SLICE_S
        for entry in entries:
            self._take_one(entry, now_ms)
            if time.monotonic() > until:
                await asyncio.sleep(0)
                until = time.monotonic() + SLICE_S

    def _take_one(self, entry: Entry, now_ms: int) -> None:
        left_s = self._max_age_s - (now_ms - entry.at_ms) / 1000 if self._max_age_s else math.inf
        item = _EntryItem(self, entry, self._loop.time() + left_s)
        if entry.is_deleted:
            self._settled.add(entry.id, "deleted")
        elif left_s < 0:
            self.expired(item)
        elif entry.fault:
            self._refuse(item, RequestError(422, entry.fault))
        elif len(entry.text) > self._body_max_bytes:
            self._refuse(item, too_large(self._body_max_bytes))
        else:
            self._handing.add(item)

    def _refuse(self, item: _EntryItem, why: RequestError) -> None:
        """Refuse what is none of the intake's, which counts and tells of it all the same."""
        self._admission.stats.requests += 1
        request = f"entry {item.name} of stream {self._group.stream}"
        self.refused(item, self._admission.refuse(why, self._client.by, request=request))

    def hand_in(self, item: _EntryItem, answer: Callable[[Reply | None], None]) -> None:
        """Have an entry made a task."""

        def answered(reply: Reply) -> None:
            item.is_known = reply.status == _KNOWN
            answer(None if reply.status in {_ACCEPTED, _KNOWN} else reply)

        self._admission.stats.requests += 1
        hand_in(self._admission, item.entry.body, self._client, answered)

    # What becomes of it

    def saved(self, item: Item) -> None:
        """Its task is saved."""
        assert isinstance(item, _EntryItem)
        self._settled.add(item.name, "known" if item.is_known else "saved")

    def expired(self, item: Item) -> None:
        """It is older than ``max_age_s``."""
        self._settled.add(item.name, "too_old")

    def refused(self, item: Item, why: Reply) -> None:
        """It never will be a task; it is acknowledged when it has been set aside."""
        assert isinstance(item, _EntryItem)
        self._settled.refuse(item.entry, why)

    def delayed(self, item: Item, why: Reply) -> None:
        """It waits."""
        del item, why
        self._reach.count("delayed")

    # What others left

    async def _look(self) -> None:
        """Keep what is in hand, claim what nobody works on, and note how far the group is behind.

        Raises:
            StoreError: the Redis is away.
        """
        await self._settled.write()
        self._look_at = self._loop.time() + self._look_s
        if names := self._handing.names:
            await self._threads.read(self._group.keep, names)
        lag = await self._threads.read(self._group.look)
        self._reach.gauge(pending=lag.pending, lag=lag.lag, oldest_pending_seconds=lag.oldest_s)
        if room := self._count():
            claimed = await self._threads.read(self._group.claim, room)
            if claimed:
                self._reach.count("claimed", len(claimed))
                await self._take(claimed)
        try:
            await self._threads.read(self._group.clean)
        except GroupLostError:
            raise
        except StoreError as exc:  # a Redis on which we may run no scripts keeps the names
            logger.debug("consumers of {} are not looked at: {}", self._group.stream, exc)


class _EntryItem:
    """An entry in hand; see `Item`."""

    __slots__ = ("_reader", "entry", "expires_at", "is_known", "name")

    def __init__(self, reader: StreamReader, entry: Entry, expires_at: float) -> None:
        self._reader = reader
        self.entry = entry
        self.name = entry.id
        self.expires_at = expires_at
        self.is_known = False

    def hand_in(self, answer: Callable[[Reply | None], None]) -> None:
        """See `Item`."""
        self._reader.hand_in(self, answer)

"""Looks at the log of prefetches: acked purges count when there was one that began after their ack.

All that wait go with one look. A few look at the parts of their own hosts alone. While a purge waits for the
end of a prefetch the log is looked at again and again, otherwise now and then, so that what is known here is
not old.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from loguru import logger

from engine.cluster.fetch_changes import Change
from engine.cluster.lanes import Lanes
from engine.store.redis.fetch_log import COVERED_S, Position
from engine.tasks.words import host_of

if TYPE_CHECKING:
    from engine.cluster.fetch_mirror import FetchMirror
    from engine.cluster.threads import Threads
    from engine.nodes.queue import Item
    from engine.nodes.register import Acks
    from engine.store.redis.fetch_log import FetchLog, Read

_AWAITED_S: Final = 0.1
_IDLE_S: Final = 2.0
_PER_S: Final = 50  #: looks of a busy engine; one that is not looks at once
_AT_ONCE: Final = 20
_FEW: Final = 256  #: purges; of more, parts are not told apart: a look at all costs each of them little
_TOLD_AT_ONCE: Final = 1000  #: purges between two turns of the loop; many wait when Redis has been away


@dataclass
class _Part:
    """What is known of one part of the log."""

    position: Position = field(default_factory=Position)
    looked_at: float = -inf  #: when the last look that was answered began
    time_s: float = -inf  #: what the server's clock said when it was asked last, then or before
    covered_since: float = -inf  #: whatever was under way from then on is known


@dataclass
class _Waiting:
    """Some of the purges of one read, and the parts that are to be looked at for them."""

    acks: Acks
    items: list[Item]
    needs: set[int]
    is_part: bool = False  #: all of them need the same


class OnRead(Protocol):
    """Told what a part holds of this engine's own."""

    def __call__(self, part: int, own: set[int], began_at: float, *, is_whole: bool) -> None:
        """Take the numbers of prefetches that a look has found.

        Args:
            part: its number.
            own: the numbers.
            began_at: when the look began; `time.monotonic`.
            is_whole: all of the part was read, because what was known of it is not there any more.
        """


class FetchLooks:
    """Looks.

    Args:
        log: of all engines.
        threads: where it is read.
        mirror: given what other engines wrote.
        consumer: name of this engine process.
        on_read: told what of its own the log holds.
    """

    def __init__(
        self, log: FetchLog, threads: Threads, mirror: FetchMirror, consumer: str, on_read: OnRead
    ) -> None:
        self._log = log
        self._threads = threads
        self._mirror = mirror
        self._consumer = consumer
        self._on_read = on_read
        self._parts = [_Part() for _ in range(log.parts)]
        self._all = set(range(log.parts))
        self._new: list[_Waiting] = []
        self._left: list[_Waiting] = []  # of parts that did not answer
        self._credit, self._credit_at = float(_AT_ONCE), 0.0
        self.lanes = Lanes(log.parts, self._look, self._left_parts, self._patience_s)

    def look(self, acks: Acks) -> None:
        """Look, and tell *acks* when that is done."""
        self._new.append(_Waiting(acks, acks.items, self._all))
        self.lanes.ask()

    def _patience_s(self) -> float:
        return _AWAITED_S if self._mirror.is_awaited else _IDLE_S

    def _left_parts(self) -> set[int]:
        return set().union(*(waiting.needs for waiting in self._left))

    async def _look(self, parts: set[int], answers: bool) -> set[int]:
        """Look at some parts, for all that waits by now; return those that answered."""
        if answers:
            await self._slow_down()
            waiting, self._new = self._new, []
            spared = parts - self._wanted(waiting)
        else:
            waiting, self._left = self._left, []
            spared = set()
        done: set[int] = set()
        try:
            done = await self._read(parts - spared)
        finally:
            await self._tell(waiting, done)
        return done | spared

    def _wanted(self, waiting: list[_Waiting]) -> set[int]:
        """Return the parts to look at: those that something waits for, and what has not been for a while."""
        if not waiting or sum(len(one.items) for one in waiting) > _FEW:
            return self._all
        for one in waiting:
            one.needs = set().union(*map(self._needed_by, one.items))
        before = time.monotonic() - self._patience_s()
        old = (part for part, known in enumerate(self._parts) if known.looked_at <= before)
        return set().union(old, *(one.needs for one in waiting))

    async def _read(self, parts: set[int]) -> set[int]:
        if not parts:
            return set()
        began_at = time.monotonic()
        found = await self._threads.call(self._log.read, {part: self._parts[part].position for part in parts})
        for part, read in found.items():
            self._take(part, read, began_at)
        return set(found)

    def _take(self, part: int, read: Read, began_at: float) -> None:
        known = self._parts[part]
        own: set[int] = set()
        for text in read.texts:
            change = msgspec.json.decode(text, type=Change)
            if change.by == self._consumer:
                own.update(begun.number for begun in change.began)
            else:
                self._mirror.take(change, not_before=known.looked_at)
        if not read.goes_on:
            server_s = -inf if read.time_s is None else read.time_s - known.time_s
            gap_s = max(time.monotonic() - known.looked_at, server_s)
            if gap_s > COVERED_S:
                known.covered_since = began_at - COVERED_S
        is_whole = not read.goes_on and known.position.entry != ""
        self._on_read(part, own, began_at, is_whole=is_whole)
        known.position, known.looked_at = read.position, began_at
        if read.time_s is not None:
            known.time_s = read.time_s

    async def _tell(self, waiting: list[_Waiting], done: set[int]) -> None:
        covered_since = max(part.covered_since for part in self._parts)
        ready: list[_Waiting] = []
        for one in waiting:
            for part in [one] if one.needs <= done else self._parts_of(one, done):
                (ready if part.needs <= done else self._left).append(part)
        count = 0
        for part in ready:
            try:
                part.acks.looked(part.items, covered_since)
            except Exception:  # noqa: BLE001 - the others are not to be lost with it
                logger.exception("acked purges could not be counted")
            count += len(part.items)
            if count >= _TOLD_AT_ONCE:
                count = 0
                await asyncio.sleep(0)

    def _parts_of(self, one: _Waiting, done: set[int]) -> list[_Waiting]:
        """Tell purges of one read apart by the parts that they still need."""
        missing = one.needs - done
        if one.is_part:
            one.needs = missing
            return [one]
        groups: dict[frozenset[int], list[Item]] = {}
        for item in one.items:
            groups.setdefault(frozenset(self._needed_by(item) & missing), []).append(item)
        return [_Waiting(one.acks, items, set(needs), is_part=True) for needs, items in groups.items()]

    def _needed_by(self, item: Item) -> set[int]:
        share, index, _ = item
        host = host_of(share.task.targets[index])
        return self._all if host.startswith("*") else {self._log.part_of(host)}

    async def _slow_down(self) -> None:
        """Wait a little when there were many looks of late: each costs the same, for however many purges."""
        now = time.monotonic()
        self._credit = min(_AT_ONCE, self._credit + (now - self._credit_at) * _PER_S) - 1
        self._credit_at = now
        if self._credit < 0:
            await asyncio.sleep(-self._credit / _PER_S)

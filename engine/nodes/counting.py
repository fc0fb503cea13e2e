"""Which purges of one node count, of those that it acked: none that a prefetch may make void.

Own prefetches are known in this process (`beside`). Those of engines on other machines are in the register:
where there is one, acked purges wait here for a look at it that began after their ack. Of those that wait
for longer than a moment `Outcomes` is told, once: what is below need not stay stale for as long.
"""

from __future__ import annotations

import heapq
import itertools
import time
from math import inf
from typing import TYPE_CHECKING, Final

from engine.nodes.beside import Beside, subtasks_of
from engine.nodes.underway import Underway
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.nodes.postponed import Postponed
    from engine.nodes.queue import Item
    from engine.nodes.register import Register
    from engine.nodes.sink import Outcomes
    from engine.nodes.underway import Clockwork

_PREFETCH: Final = Operation.PREFETCH  # looked up once: see `health`
_REMEMBERED_S: Final = 60.0
"""What ended so long ago is not kept for purges that wait for a look: they are sent again when there was one.
The master of a part of the register may be away for hours, and prefetches of other parts go on."""
_LATE_S: Final = 1.0
_SPARE: Final = 64  #: reads that wait no longer and are not worth a sweep


class Counting:
    """Passes on what counts.

    Args:
        oldest_sent_at: tells when the oldest purge without an answer was sent; infinity: there is none.
        timer: of the engine.
        postponed: rows of the delay queue that may not be sent yet.
        outcomes: told what counts.
        send_again: see `Beside`; *on_rows*, too.
    """

    def __init__(
        self,
        oldest_sent_at: Callable[[], float],
        timer: Clockwork,
        postponed: Postponed,
        outcomes: Outcomes,
        *,
        send_again: Callable[[list[Item]], None],
        on_rows: Callable[[], None],
    ) -> None:
        self.underway = Underway(lambda: min(oldest_sent_at(), self._oldest_sent_at()))
        self.beside = Beside(
            self.underway, timer, postponed, now=time.monotonic, send_again=send_again, on_rows=on_rows
        )
        self._timer = timer
        self._is_watching = False
        self._outcomes = outcomes
        self.register: Register | None = None  #: of the engines that share the store
        self.acked_count = 0
        self.absent_count = 0  #: of them those that the node had nothing of
        self._waiting_count = 0  # requests that were acked and wait for a look at the register
        self._reads_count = 0  # that they are of
        self._oldest: list[tuple[float, int, _Acks]] = []  # heap; behind the first some wait no longer
        self._numbers = itertools.count()
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Counting [{self.acked_count} acked, {len(self)} wait]>"

    def __len__(self) -> int:
        """Return how many requests were acked and do not count yet."""
        return self._waiting_count + len(self.beside)

    def acked(self, acked: list[Item], since: float, *, is_absent: bool = False) -> None:
        """Take requests of one read that were acked.

        Args:
            acked: of one read; purges, or prefetches.
            since: when the oldest of them was sent; `time.monotonic`.
            is_absent: the node had nothing of any of them.
        """
        register = self.register
        if register is None or acked[0][0].operation is _PREFETCH:
            self.count(acked, since, is_absent=is_absent)
            return
        acks = _Acks(self, acked, since, is_absent=is_absent)
        self._waiting_count += len(acked)
        self._reads_count += 1
        heapq.heappush(self._oldest, (since, next(self._numbers), acks))
        self._watch()
        register.look(acks)

    def count(
        self, acked: list[Item], since: float, acked_at: float | None = None, *, is_absent: bool = False
    ) -> None:
        """Pass on those of acked requests that count; the others wait in `beside`."""
        underway = self.underway
        others = underway.elsewhere
        if underway.fetches or (others is not None and others.word[0] != others.seen):
            acked = self.beside.counted(acked, since, acked_at)
            if len(self.beside):
                self._watch()
        self.acked_count += len(acked)
        self.absent_count += len(acked) if is_absent else 0
        self._outcomes.acked(acked, is_absent=is_absent)

    def _watch(self) -> None:
        """Look, once in a while, whether purges wait for long."""
        if not self._is_watching:
            self._is_watching = True
            self._timer.add((self, "late"), _LATE_S, self._tell_late)

    def _tell_late(self) -> None:
        self._is_watching = False
        if self._is_closed or not len(self):
            return
        self._watch()
        before = time.monotonic() - _LATE_S
        late = self.beside.late(before)
        for _, _, acks in self._oldest:
            if acks.left and not acks.is_late and acks.acked_at <= before:
                acks.is_late = True
                late += subtasks_of(acks.items)
        if late:
            self._outcomes.count_later(late)

    def looked(self, acks: _Acks, items: list[Item], covered_since: float) -> None:
        """Count requests that waited for a look, or have them sent again if it does not cover their time."""
        self._waiting_count -= len(items)
        if not acks.left:
            self._forget_read()
        if self._is_closed:
            return
        if acks.since < covered_since or acks.acked_at < time.monotonic() - _REMEMBERED_S:
            self.beside.again(items)
        else:
            self.count(items, acks.since, acks.acked_at, is_absent=acks.is_absent)

    def _forget_read(self) -> None:
        """Let go of a read of which no request waits any more; of those behind one that waits, in groups."""
        self._reads_count -= 1
        oldest = self._oldest
        while oldest and not oldest[0][2].left:
            heapq.heappop(oldest)
        if len(oldest) > 2 * self._reads_count + _SPARE:
            oldest[:] = [entry for entry in oldest if entry[2].left]
            heapq.heapify(oldest)

    def _oldest_sent_at(self) -> float:
        """Return when the oldest request was sent that waits for a look; infinity: there is none."""
        oldest = self._oldest
        forgotten_at = time.monotonic() - _REMEMBERED_S
        while oldest and oldest[0][2].acked_at < forgotten_at:
            heapq.heappop(oldest)
        return oldest[0][0] if oldest else inf

    def close(self) -> None:
        """Count nothing more: what waits is in the journal."""
        self._is_closed = True


class _Acks:
    """Requests of one read that wait for a look; see `engine.nodes.register.Acks`."""

    def __init__(self, counting: Counting, items: list[Item], since: float, *, is_absent: bool) -> None:
        self._counting = counting
        self.is_absent = is_absent
        self.items = items
        self.since = since
        self.acked_at = time.monotonic()
        self.left = len(items)
        self.is_late = False  #: that they wait was told

    def looked(self, items: list[Item], covered_since: float) -> None:
        """Take those of the items for which the register was looked at."""
        self.left -= len(items)
        self._counting.looked(self, items, covered_since)

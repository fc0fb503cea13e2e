"""Reads what other engines of a store are at work on, newest first: as much as there is time and memory for.

The journal is in the order in which tasks were written, a page in the order in which they were created. Both
are the same but for the time that a commit takes, and for clocks. So a page begins to read at its cursor, and
what it had no time for is the next one's. A task that was written long after it was created, as after Redis
was away, or by `purgeline migrate`, is above the cursor: that is read last, when there is time for all, or
the task is said to be missing.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.store.store import AtWork, Store
    from engine.tasks.records import Accepted

Order = tuple[float, str]
"""Of a task: when it was created, and its id."""

OLDEST: Final[Order] = (-math.inf, "")
LAST_ID: Final = "~"  #: sorts behind every id
_BYTES_MAX: Final = 64 * 1024**2  #: of what tasks ask for is kept for one page
_LATE_S: Final = 2.0  #: a task is written so long after it was created at the most, or it is late
_AHEAD_S: Final = 1.0  #: an engine's clock is ahead of the store's, beside what was seen
_TOO_MUCH: Final = "other engines have more tasks at work than were looked at: ask again when they have fewer"


class RecordsAtWork(NamedTuple):
    """Records in runs, of which each has the newest first."""

    runs: list[list[Accepted]]
    down_to: Order  #: what is older has not all been read: the next page begins there
    missing: str = ""  #: why some are missing that no page has; empty: none are


def read_at_work(
    store: Store, since: float, before: Order, may_fit: Callable[[Accepted], bool], until: float
) -> RecordsAtWork:
    """Return the records that are older than a cursor. To sort them all at once would hold up other threads.

    Args:
        store: shared with other engines.
        since: what was written before is left out, UNIX time.
        before: the cursor.
        may_fit: tells which records are kept.
        until: so long entries are read, by the monotonic clock: some in any case.
    """
    top = before[0] + _LATE_S
    begun = time.monotonic()
    reading = _Reading(may_fit)
    if reading.read(store.at_work(since, top), until):
        above: Iterable[AtWork] = store.at_work(max(since, top)) if top < math.inf else ()
        is_whole = reading.read(above, until)
        # The next page may just not have the time for what is above its cursor.
        is_close = time.monotonic() > (begun + until) / 2 or reading.size > _BYTES_MAX / 2
        is_missing = not is_whole or (reading.is_late and is_close)
        return RecordsAtWork(reading.runs, OLDEST, _TOO_MUCH if is_missing else "")
    end = (reading.down_to + reading.ahead_s + _AHEAD_S, LAST_ID)
    if end >= before:  # the next page would read the same
        return RecordsAtWork(reading.runs, OLDEST, _TOO_MUCH)
    return RecordsAtWork(reading.runs, end, _TOO_MUCH if reading.is_late else "")


class _Reading:
    """What has been read for one page.

    Args:
        may_fit: tells which records are kept.

    Attributes:
        runs: of records, each the newest first.
        size: bytes of what they ask for.
        ahead_s: so far an engine's clock was ahead of the store's.
        down_to: what was written before has not all been read.
        is_late: one of them was written long after it was created.
    """

    def __init__(self, may_fit: Callable[[Accepted], bool]) -> None:
        self.runs: list[list[Accepted]] = []
        self.size = 0
        self.ahead_s = 0.0
        self.down_to = math.inf
        self.is_late = False
        self._may_fit = may_fit

    def read(self, parts: Iterable[AtWork], until: float) -> bool:
        """Read parts, as many as there is time and memory for; return whether that was all."""
        room = self.size + _BYTES_MAX
        for part in parts:
            if self.runs and (time.monotonic() > until or self.size > room):
                return False
            self._add(part)
        return True

    def _add(self, part: AtWork) -> None:
        self.down_to = min(self.down_to, part.down_to)
        fitting: list[Accepted] = []
        for at, record in part.tasks:
            self.ahead_s = max(self.ahead_s, record.created_at - at)
            if self._may_fit(record):
                fitting.append(record)
                self.is_late = self.is_late or at > record.created_at + _LATE_S
        self.runs.append(sorted(fitting, key=order_of, reverse=True))
        self.size += sum(len(record.body) for record in fitting)


def order_of(record: Accepted) -> Order:
    """Return the order of a record among others."""
    return (record.created_at, record.id)

"""Reads what other engines of a store are at work on, newest first: as much as there is time and memory for.

The journal is in the order in which tasks were written, a page in the order in which they were created. Both
are the same but for the time that a commit takes, and for clocks. So a page begins to read at its cursor, and
what it had no time for is the next one's. A task that was written long after it was created, as after Redis
was away, or by `purgeline migrate`, is above the cursor: that is read last, when there is time for all, or
the task is said to be missing.
"""

from __future__ import annotations

import itertools
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
    runs: list[list[Accepted]] = []
    size, ahead_s, down_to, is_late = 0, 0.0, math.inf, False
    above: Iterable[AtWork] = store.at_work(max(since, top)) if top < math.inf else ()
    for part in itertools.chain(store.at_work(since, top), above):
        is_over = time.monotonic() > until or size > _BYTES_MAX
        if runs and is_over:
            break
        down_to = min(down_to, part.down_to)
        fitting: list[Accepted] = []
        for at, record in part.tasks:
            ahead_s = max(ahead_s, record.created_at - at)
            if may_fit(record):
                fitting.append(record)
                is_late = is_late or at > record.created_at + _LATE_S
        runs.append(sorted(fitting, key=order_of, reverse=True))
        size += sum(len(record.body) for record in fitting)
    if down_to == -math.inf:  # the next page may just not have the time for what is above its cursor
        is_close = time.monotonic() > (begun + until) / 2 or size > _BYTES_MAX / 2
        return RecordsAtWork(runs, OLDEST, _TOO_MUCH if is_late and is_close else "")
    end = (down_to + ahead_s + _AHEAD_S, LAST_ID)
    if end >= before:  # the next page would read the same
        return RecordsAtWork(runs, OLDEST, _TOO_MUCH)
    return RecordsAtWork(runs, end, _TOO_MUCH if is_late else "")


def order_of(record: Accepted) -> Order:
    """Return the order of a record among others."""
    return (record.created_at, record.id)

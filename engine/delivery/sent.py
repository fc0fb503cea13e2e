"""Which rows of a delay queue are settled by what was sent for others.

The row of a prefix or host purge supersedes the older rows of URLs under it. On a shared store a delivery
also remembers what it has sent: an older row for the same, or for a URL under a prefix that was purged, is
settled by that and not sent again. *Older* leaves room for clocks that differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from engine.tasks.words import URLS, WIDE, Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.tasks.records import ParkedRow

_SENT_MAX: Final = 200_000
_CLOCKS_S: Final = 30.0  #: clocks of engines differ by less

Key = tuple[int, str]
"""Operation and target of a request."""


class Sent:
    """What a delivery has sent to a node, to know which older rows that settles."""

    def __init__(self) -> None:
        self._at: dict[Key, float] = {}
        self._wide: dict[Key, ParkedRow] = {}

    def note(self, key: Key, rows: Sequence[ParkedRow], at: float) -> None:
        """A request was acked that was sent at *at*, for *rows*."""
        if len(self._at) >= _SENT_MAX:
            self._at.clear()
        self._at[key] = at
        if rows and rows[0].operation in WIDE:
            self._wide[key] = msgspec.structs.replace(rows[0], seq=at - _CLOCKS_S)

    def covers(self, row: ParkedRow) -> bool:
        """Tell whether what was sent did what *row* asks for, surely after it asked."""
        at = self._at.get((row.operation, row.target))
        if at is not None and row.seq < at - _CLOCKS_S:
            return True
        return any(supersedes(wide, row) for wide in self._wide.values())


def url_start_of(wide: ParkedRow) -> str:
    """Return the start, without scheme, of every URL that a wide purge takes."""
    if wide.operation in {Operation.PURGE_HOST, Operation.SOFT_HOST}:
        return f"{wide.target}/"
    return wide.target.partition("://")[2]


def supersedes(wide: ParkedRow, row: ParkedRow) -> bool:
    """Return whether *wide*, queued later, drops all that *row* would; a soft one only what is soft."""
    if wide.seq <= row.seq or row.operation not in URLS:
        return False
    if (
        wide.operation in {Operation.SOFT_PREFIX, Operation.SOFT_HOST}
        and row.operation == Operation.PURGE_URL
    ):
        return False
    return row.target.partition("://")[2].startswith(url_start_of(wide))

"""Which rows of a delay queue are settled by what was sent for others.

The row of a prefix or host purge supersedes the older rows of URLs under it: both are in the queue when it is
sent. On a shared store a delivery also remembers what it has sent: a row for the same, or for a URL under a
prefix that was purged, is settled by that and not sent again, when it was in its queue before. The store
tells which rows were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.tasks.words import URLS, WIDE, Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.delivery.claims import Claims, WasThere
    from engine.tasks.records import ParkedRow

_SENT_MAX: Final = 200_000

Key = tuple[int, str]
"""Operation and target of a request."""


class Sent:
    """What a delivery has sent to a node, to know which rows that settles."""

    def __init__(self) -> None:
        self._was_there: WasThere = _none
        self._before: dict[Key, WasThere] = {}
        self._wide: dict[Key, tuple[ParkedRow, WasThere]] = {}

    def begin(self, was_there: WasThere) -> None:
        """Requests are about to be sent; *was_there* tells which rows are older than all of them."""
        self._was_there = was_there

    def note(self, key: Key, rows: Sequence[ParkedRow]) -> None:
        """A request was acked that was sent since `begin`, for *rows*."""
        if len(self._before) >= _SENT_MAX:
            self._before.clear()
        self._before[key] = self._was_there
        if rows and rows[0].operation in WIDE:
            self._wide[key] = (rows[0], self._was_there)

    def covers(self, row: ParkedRow) -> bool:
        """Tell whether what was sent did what *row* asks for, surely after it asked."""
        was_there = self._before.get((row.operation, row.target))
        if was_there is not None and was_there(row):
            return True
        return any(_takes(wide, row) and was_there(row) for wide, was_there in self._wide.values())


class SentTo:
    """What deliveries under way have sent, by node."""

    def __init__(self) -> None:
        self._sent: dict[str, Sent] = {}

    async def begin(self, name: str, claims: Claims | None) -> Sent | None:
        """Return what the delivery of a node has sent, before it sends more.

        None, without claims: the store itself finds all rows that ask for the same.
        """
        if claims is None:
            return None
        sent = self._sent.setdefault(name, Sent())
        sent.begin(await claims.moment())
        return sent

    def end(self, name: str) -> None:
        """The delivery of a node is over."""
        self._sent.pop(name, None)


def _none(_: ParkedRow) -> bool:
    return False


def url_start_of(wide: ParkedRow) -> str:
    """Return the start, without scheme, of every URL that a wide purge takes."""
    if wide.operation in {Operation.PURGE_HOST, Operation.SOFT_HOST}:
        return f"{wide.target}/"
    return wide.target.partition("://")[2]


def supersedes(wide: ParkedRow, row: ParkedRow) -> bool:
    """Return whether *wide*, queued later, drops all that *row* would; a soft one only what is soft."""
    return wide.seq > row.seq and _takes(wide, row)


def _takes(wide: ParkedRow, row: ParkedRow) -> bool:
    if row.operation not in URLS:
        return False
    if (
        wide.operation in {Operation.SOFT_PREFIX, Operation.SOFT_HOST}
        and row.operation == Operation.PURGE_URL
    ):
        return False
    return row.target.partition("://")[2].startswith(url_start_of(wide))

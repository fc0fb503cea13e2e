"""Which rows of a node may be sent now, among others that have to wait.

The oldest rows come first. Behind those that wait the rest of the queue is looked through page by page, so
that a million rows of a host that the node refuses keep no other host's rows; a delivery goes on where its
last look ended. A look that found nothing is not repeated before something has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.nodes import drivers
from engine.nodes.ability import incapable_reason
from engine.nodes.holds import TRIED_AGAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.delivery.reasons import Reasons
    from engine.nodes.node import Node
    from engine.saver.reader import StoreReader
    from engine.store.store import Store
    from engine.tasks.records import Parked, ParkedRow

CHUNK_ROWS: Final = 2000
"""Rows of one chunk at the most."""
_PAGE_ROWS: Final = 5000
_TOLD_ROWS: Final = 20_000  #: whose tasks are told in one look
_LONG_S: Final = 0.05
_REST_SHARE: Final = 20
"""Long looking through rows that may not be sent takes one part in so many of the time."""


class DueRows:
    """Reads rows that may be sent.

    Args:
        reader: reads the stores.
        reasons: tells stored tasks why their rows wait.
        now: a clock that never goes back, in seconds.
        row_now: UNIX time that the age of rows is counted to, see `SteadyClock`.
        ttl_s: older rows are due, because they are to fail; 0: none is.
    """

    def __init__(
        self,
        reader: StoreReader,
        reasons: Reasons,
        now: Callable[[], float],
        *,
        row_now: Callable[[], float],
        ttl_s: float,
    ) -> None:
        self._reader = reader
        self._reasons = reasons
        self._now = now
        self._row_now = row_now
        self._ttl_s = ttl_s
        self._from: dict[tuple[Store, str], int] = {}  # where the last look of a delivery ended
        self._waiting: dict[str, int] = {}  # nodes whose rows may all not be sent yet, and how many those are
        self._rest_until: dict[str, float] = {}  # after a long look among those

    def begin(self, name: str) -> None:
        """A delivery of a node begins: look at its oldest rows first."""
        for key in [key for key in self._from if key[1] == name]:
            del self._from[key]

    async def read(self, node: Node, store: Store, *, purges_only: bool) -> list[ParkedRow]:
        """Return the oldest rows of a node that may be sent, whatever others lie before them.

        Args:
            node: whose rows.
            store: that holds them.
            purges_only: leave out what takes long: prefetches, and purges that are rules of a file.

        Raises:
            StoreError: the store cannot be read.
        """
        limit = CHUNK_ROWS
        began_at = self._now()
        rows: list[ParkedRow] = await self._reader.read(store.oldest_parked, node.name, limit, purges_only)
        due = self._sendable(node, rows, purges_only=purges_only)
        count = len(rows)
        if not due and count == limit:
            due, count = await self._look_further(node, store, purges_only=purges_only)
        self._note_look(node.name, began_at, waiting=0 if due else count)
        return due[:limit]

    async def _look_further(
        self, node: Node, store: Store, *, purges_only: bool
    ) -> tuple[list[ParkedRow], int]:
        """Look where the last look ended, then at all; return what may be sent, and how many were seen."""
        key = (store, node.name)
        seen = 0
        for place in dict.fromkeys((self._from.pop(key, 0), 0)):
            seen, at = 0, place
            while True:
                rows, following = await self._reader.read(
                    store.parked_page, node.name, at, _PAGE_ROWS, purges_only
                )
                seen += len(rows)
                due = self._sendable(node, rows, purges_only=purges_only, tells=seen <= _TOLD_ROWS)
                if due:
                    self._from[key] = at
                    return due, seen
                if not following:
                    break
                at = following
        return [], seen

    def _sendable(
        self, node: Node, rows: list[ParkedRow], *, purges_only: bool, tells: bool = True
    ) -> list[ParkedRow]:
        slow = drivers.by_rules(node.config) if purges_only else ()
        if slow:  # a rule takes as long as a prefetch
            rows = [row for row in rows if row.operation not in slow]
        if tells and node.postponed.holds.pairs:
            self._tell_held(node, rows)
        if node.postponed.incapable or node.postponed.misses_patterns:
            unable: dict[int, list[ParkedRow]] = {}
            for row in rows:
                if node.postponed.cannot(row.operation, row.target):
                    unable.setdefault(row.operation, []).append(row)
            for operation, asked in unable.items():
                self._reasons.tell(asked, incapable_reason(node.config, operation))
        return node.postponed.sendable(rows, self._row_now() - self._ttl_s if self._ttl_s else 0.0)

    def _tell_held(self, node: Node, rows: list[ParkedRow]) -> None:
        """Have the tasks of rows that the node refuses say so, whatever they were parked for."""
        by_reason: dict[str, list[ParkedRow]] = {}
        for row in rows:
            reason = node.postponed.holds.reason_for(row.operation, row.target)
            if reason:
                by_reason.setdefault(reason, []).append(row)
        for reason, refused in by_reason.items():
            self._reasons.tell(refused, f"{reason}; {TRIED_AGAIN}")

    def _note_look(self, name: str, began_at: float, *, waiting: int) -> None:
        """Note how many rows may all not be sent yet; 0: one may. A long look is not repeated at once."""
        self._waiting.pop(name, None)
        self._rest_until.pop(name, None)
        took_s = self._now() - began_at
        if waiting:
            self._waiting[name] = waiting
            if took_s > _LONG_S:
                self._rest_until[name] = self._now() + _REST_SHARE * took_s

    def rests_s(self, name: str) -> float:
        """Return for how long a node's rows should not be looked at again; 0 or less: they may be now."""
        return self._rest_until.get(name, 0.0) - self._now()

    # Of a shared store, whose rows others write, too

    def may_have_others(self, name: str, ready: int) -> bool:
        """Tell whether of *ready* rows that wait for no parent some may be new since the last look."""
        return ready != self._waiting.get(name) and self.rests_s(name) <= 0

    def all_wait(self, node: Node, rows: Sequence[Parked]) -> bool:
        """Tell whether each of some new rows has to wait; they count as seen then."""
        if not node.postponed:
            return False
        ready = [row for row in rows if not row.after]
        if not all(node.postponed.is_waiting(row.operation, row.target) for row in ready):
            return False
        if node.name in self._waiting:
            self._waiting[node.name] += len(ready)
        return True

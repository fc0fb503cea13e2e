"""Reading the delay queues of a file.

Host-wide rows have a table of their own (``host_row``), which a version before does not read: it would take
each for one subtask. Their keys begin with ``h``.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Final

import msgspec

from engine.tasks.handed_ids import bounds_of
from engine.tasks.records import Depth, ParkedRow
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.store.sqlite.file import DatabaseFile

_COUNT_ALL: Final = (
    "SELECT (SELECT count(*) FROM parked WHERE node = ?1) + (SELECT count(*) FROM host_row WHERE node = ?1)"
)
_BEHIND_SCHEME: Final = (
    "CASE WHEN target LIKE 'http://%' THEN substr(target, 8)"
    " WHEN target LIKE 'https://%' THEN substr(target, 9) ELSE target END || '/'"
)
_COUNT: Final = (
    f"WITH found AS (SELECT operation, {_BEHIND_SCHEME} AS rest, seq FROM parked"  # noqa: S608 - constants
    " WHERE node = ? AND operation IN (SELECT value FROM json_each(?))),"
    " counted AS (SELECT operation, substr(rest, 1, instr(rest, '/') - 1) AS host, count(*) AS rows,"
    " min(seq) AS oldest FROM found GROUP BY 1, 2)"
    " SELECT counted.operation, host, rows, parked_at FROM counted JOIN parked ON parked.seq = oldest"
    " ORDER BY oldest"
)
_HOST_COLUMNS: Final = "'h' || seq, place, node, operation, target, task_id, '', parked_at, stands_for"
_FIRST_HOST_ROW: Final = -1  #: place of the page of host-wide rows that follows the last of others
_COLUMNS: Final = "seq, seq, node, operation, target, task_id, after, parked_at"

_encode = msgspec.json.encode


class RowReader:
    """The part of the store that reads delay queues."""

    def __init__(self, file: DatabaseFile) -> None:
        self._file = file

    def depths(self) -> dict[str, Depth]:
        """See `Store.depths`."""
        rows = self._file.query(
            "SELECT node, sum(rows), min(oldest_at) FROM ("
            " SELECT node, count(*) AS rows, min(parked_at) AS oldest_at FROM parked GROUP BY node UNION ALL"
            " SELECT node, count(*), min(parked_at) FROM host_row GROUP BY node) GROUP BY node"
        )
        return {node: Depth(count, oldest_at) for node, count, oldest_at in rows}

    def depth(self, node: str) -> Depth:
        """See `Store.depth`."""
        rows = self._file.query(
            "SELECT count(*), min(parked_at) FROM parked WHERE node = ?1 UNION ALL"
            " SELECT count(*), min(parked_at) FROM host_row WHERE node = ?1",
            node,
        )
        return Depth(
            sum(count for count, _ in rows), min((at for _, at in rows if at is not None), default=0)
        )

    def pin(self) -> Callable[[str], int]:
        """See `Store.pin`: a read transaction, begun here and ended by the count."""
        try:
            connection = self._file.connect()
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM parked LIMIT 1").fetchone()
        except sqlite3.Error as exc:
            raise self._file.translate(exc, "read") from exc

        def count(node: str) -> int:
            try:
                with contextlib.closing(connection):
                    row = connection.execute(_COUNT_ALL, (node,)).fetchone()
            except sqlite3.Error as exc:
                raise self._file.translate(exc, "read") from exc
            return int(row[0])

        return count

    def nodes_behind(self) -> list[str]:
        """See `Store.nodes_behind`."""
        return [row[0] for row in self._file.query("SELECT DISTINCT node FROM parked WHERE after <> ''")]

    def parked_of(self, node: str, limit: int) -> list[ParkedRow]:
        """See `Store.parked_of`."""
        rows = self._parked("node = ? ORDER BY seq LIMIT ?", node, limit) + self.host_rows(node, limit)
        return sorted(rows, key=_place_of)[:limit]

    def oldest_parked(self, node: str, limit: int, purges_only: bool = False) -> list[ParkedRow]:
        """See `Store.oldest_parked`."""
        prefetch = -1 if not purges_only else int(Operation.PREFETCH)
        rows = self._parked(
            "node = ? AND after = '' AND operation <> ? ORDER BY seq LIMIT ?", node, prefetch, limit
        )
        hosts = self.host_rows(node, limit)
        return sorted(rows + hosts, key=_place_of)[:limit] if hosts else rows

    def host_rows(self, node: str, limit: int) -> list[ParkedRow]:
        """See `Store.host_rows`."""
        return self._hosts("node = ? ORDER BY place LIMIT ?", node, limit)

    def behind_parked(self, node: str, limit: int) -> list[ParkedRow]:
        """See `Store.behind_parked`."""
        return self._parked("node = ? AND after <> '' ORDER BY seq LIMIT ?", node, limit)

    def parked_page(
        self, node: str, place: int, limit: int, purges_only: bool = False
    ) -> tuple[list[ParkedRow], int]:
        """See `Store.parked_page`: a place is that of the last row before, negative of host-wide rows."""
        if place < 0:
            hosts = self._hosts("node = ? AND seq >= ? ORDER BY seq LIMIT ?", node, -place, limit)
            return hosts, -int(str(hosts[-1].key)[1:]) - 1 if len(hosts) == limit else 0
        prefetch = -1 if not purges_only else int(Operation.PREFETCH)
        rows = self._parked(
            "node = ? AND after = '' AND seq > ? AND operation <> ? ORDER BY seq LIMIT ?",
            node,
            place,
            prefetch,
            limit,
        )
        if len(rows) == limit:
            return rows, int(rows[-1].seq)
        return rows, _FIRST_HOST_ROW if self.host_rows(node, 1) else 0

    def wide_parked(self, node: str) -> list[ParkedRow]:
        """See `Store.wide_parked`."""
        rows = self._parked(
            "node = ? AND operation IN (3, 4, 9, 10) AND after = '' ORDER BY seq DESC LIMIT 1000", node
        )
        hosts = self._hosts("node = ? ORDER BY place DESC LIMIT 1000", node)
        return sorted(rows + hosts, key=_place_of, reverse=True)[:1000] if hosts else rows

    def parked_like(
        self, node: str, targets: Sequence[tuple[int, str]], among: Sequence[ParkedRow]
    ) -> list[ParkedRow]:
        """See `Store.parked_like`."""
        among_those = "(operation, target) IN (SELECT value->>0, value->>1 FROM json_each(?))"
        wanted = _encode(targets).decode()
        rows = self._parked(f"node = ? AND after = '' AND {among_those} ORDER BY seq", node, wanted)
        return rows + self._hosts(f"node = ? AND {among_those} ORDER BY place", node, wanted)

    def parked_below(
        self, node: str, prefix: str, before: float, among: Sequence[ParkedRow]
    ) -> list[ParkedRow]:
        """See `Store.parked_below`."""
        rows: list[ParkedRow] = []
        for scheme in ("http://", "https://"):
            low = scheme + prefix
            rows += self._parked(
                "node = ? AND after = '' AND operation IN (1, 2) AND target >= ? AND target < ? AND seq < ?",
                node,
                low,
                low + "\x7f",  # behind every character a target may hold
                before,
            )
        return rows

    def expired(self, node: str, before_at: float, limit: int) -> list[ParkedRow]:
        """See `Store.expired`: among the oldest rows, which come first in the index, and those parted."""
        oldest = self.oldest_parked(node, limit) + self.behind_parked(node, limit)
        parted = self._parked("node = ? AND is_parted AND parked_at < ? LIMIT ?", node, before_at, limit)
        found = {row.key: row for row in [*oldest, *parted] if row.parked_at < before_at}
        return list(found.values())[:limit]

    def count_parked(self, node: str, operations: Sequence[int]) -> list[tuple[int, str, int, float]]:
        """See `Store.count_parked`: of all rows, from an index."""
        rows = self._file.query(_COUNT, node, _encode(list(operations)).decode())
        return [(operation, host, count, parked_at) for operation, host, count, parked_at in rows]

    def prefetches_behind(self, node: str, purges: Sequence[tuple[str, str]]) -> list[ParkedRow]:
        """See `Store.prefetches_behind`."""
        return self._parked(
            "node = ? AND operation = 11 AND instr(',' || after || ',', ',' || node || ',') AND"
            " (task_id, target) IN (SELECT value->>0, value->>1 FROM json_each(?)) ORDER BY seq",
            node,
            _encode(purges).decode(),
        )

    def parts_parked(self, stems: Sequence[str]) -> list[str]:
        """See `Store.parts_parked`."""
        found: set[str] = set()
        for stem in stems:
            for table in ("parked", "host_row"):
                question = f"SELECT DISTINCT task_id FROM {table} WHERE task_id > ? AND task_id < ?"  # noqa: S608 - constants
                found.update(task_id for (task_id,) in self._file.query(question, *bounds_of(stem)))
        return list(found)

    def _parked(self, where: str, *values: str | float) -> list[ParkedRow]:
        rows = self._file.query(f"SELECT {_COLUMNS} FROM parked WHERE {where}", *values)  # noqa: S608 - constants
        return [ParkedRow(*row) for row in rows]

    def _hosts(self, where: str, *values: str | float) -> list[ParkedRow]:
        rows = self._file.query(f"SELECT {_HOST_COLUMNS} FROM host_row WHERE {where}", *values)  # noqa: S608 - constants
        return [ParkedRow(*row) for row in rows]

    def orphans(self) -> list[str]:
        """See `Store.orphans`."""
        rows = self._file.query(
            "SELECT task_id FROM parked WHERE task_id NOT IN (SELECT id FROM task) UNION"
            " SELECT task_id FROM host_row WHERE task_id NOT IN (SELECT id FROM task)"
        )
        return [row[0] for row in rows]


def _place_of(row: ParkedRow) -> float:
    return row.seq

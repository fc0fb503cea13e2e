"""The history of one file of the embedded store, as it is written: ``history-N.db`` beside it.

It is a database of its own, because it may be damaged, full or lost without harm: the engine serves on, says
so, and begins another. Records lie in ``tasks-N.db`` until there are enough for a block; then the block is
written, and they are dropped. A crash in between leaves some tasks in both, which whoever reads shows once.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING, Final

import msgspec

from engine.errors import StoreError
from engine.store.history import BYTES_MAX, TASKS_MAX, late, packed
from engine.store.sqlite.history_file import LOST, PUT_BLOCK, HistoryFile, drop, is_damage
from engine.store.sqlite.history_reader import HistoryReader
from engine.tasks.blocks import close_block
from engine.tasks.packing import written
from engine.tasks.segments import readable
from engine.tasks.settled import encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from engine.base.clock import SteadyClock
    from engine.store.history import HistoryLimits
    from engine.store.sqlite.file import DatabaseFile
    from engine.tasks.blocks import Block
    from engine.tasks.records import Delivered, JournalKey
    from engine.tasks.settled import Change, SettledTasks
    from engine.tasks.task import Task

_PUT_RECORD: Final = "INSERT INTO settled(is_change, tasks, at, data) VALUES (?, ?, ?, ?)"
# One statement for two tables; views and triggers of `temp` are this connection's alone, and in no file.
_BOTH: Final = """
PRAGMA temp_store = MEMORY;
CREATE TEMP VIEW settling AS SELECT '' AS journal, is_change, tasks, at, data FROM settled;
CREATE TEMP TRIGGER settle INSTEAD OF INSERT ON settling BEGIN
    DELETE FROM journal WHERE seq IN (SELECT value FROM json_each(NEW.journal));
    INSERT INTO settled(is_change, tasks, at, data) VALUES (NEW.is_change, NEW.tasks, NEW.at, NEW.data);
END;
"""
_PUT_BOTH: Final = "INSERT INTO settling(journal, is_change, tasks, at, data) VALUES (?, ?, ?, ?, ?)"
_OLDER_HALF: Final = (
    "SELECT max(n), max(at) FROM settled WHERE n <= (SELECT (min(n) + max(n)) / 2 FROM settled)"
)
_FORGET: Final = "DELETE FROM settled WHERE at < ?"
_RETRY_S: Final = 60.0  #: after a block could not be written
_OPEN_BYTES_MAX: Final = 64 * 1024**2  #: of records in no block; of more the oldest are dropped

_encode = msgspec.json.encode


class SqliteHistory(HistoryReader):
    """See `engine.store.history.History`.

    Args:
        path: the history's file.
        tasks: the file of the tasks, where records are until they are in a block.
        clock: by which blocks grow old.
        limits: how much is kept.
    """

    def __init__(self, path: Path, tasks: DatabaseFile, clock: SteadyClock, limits: HistoryLimits) -> None:
        super().__init__(HistoryFile(path), tasks)
        self._clock = clock
        self._limits = limits
        self._tasks_open = 0
        self._bytes_open = 0
        self._again_at = 0.0

    def open(self) -> None:
        """Open or create the file; what is wrong with it is told, not raised."""
        self._file.open()
        assert self._tasks.writer is not None
        self._tasks.writer.executescript(_BOTH)
        rows = self._tasks.query("SELECT total(tasks), total(length(data)) FROM settled")
        self._tasks_open, self._bytes_open = int(rows[0][0]), int(rows[0][1])

    def close(self) -> None:
        """Close every connection; reads that are under way fail."""
        self._file.close()

    # Writing, by the saver's thread

    def put(
        self,
        tasks: list[Task],
        changes: Sequence[Change],
        delivered: Sequence[Delivered] = (),
        journal: Sequence[JournalKey] = (),
    ) -> list[tuple[int, int, float, bytes]]:
        """Write tasks that settle, what became of others, and what was late; return the rows.

        They count when `noted` is told of them: once the transaction is through. Where there are any, the
        same statement drops rows of the *journal*: a statement takes as much CPU time as to make the records.
        """
        connection, now = self._tasks.writer, self._clock.now()
        assert connection is not None
        records = packed(tasks, self.errors.cannot_write) if tasks else []
        if delivered:
            records += late(delivered, self.errors.cannot_write)
        rows = [(0, count, now, record) for count, record in records]
        if changes:
            rows.append((1, len(changes), now, encode(changes)))
        if rows:
            over = _encode(journal).decode()
            connection.executemany(_PUT_BOTH, [(over if row is rows[0] else "[]", *row) for row in rows])
        return rows

    def noted(self, rows: Sequence[tuple[int, int, float, bytes]]) -> None:
        """Count what was written to the file of the tasks."""
        for _, count, _, data in rows:
            self._tasks_open += count
            self._bytes_open += len(data)

    def tidy(self) -> None:
        """Pack records into blocks when there are enough, and let the oldest blocks go."""
        if self._tasks_open < TASKS_MAX and self._bytes_open < BYTES_MAX:
            return
        now = time.monotonic()
        if now < self._again_at:
            return
        try:
            self._pack()
        except Exception as exc:  # noqa: BLE001 - a saver that dies would hang every client
            self._again_at = now + _RETRY_S
            self.errors.cannot_write(
                str(exc) if isinstance(exc, StoreError) else f"{self._file.path}: cannot write: {exc}"
            )
            if isinstance(exc, sqlite3.DatabaseError) and is_damage(exc):
                self._file.put_aside(str(exc))
            self._drop_unpacked()

    def _pack(self) -> None:
        source = self._tasks.writer
        if self._file.writer is None:
            self._file.open()  # it could not be when the store was opened
        if source is None or self._file.writer is None:
            raise StoreError(self.errors.text or "it is closed")
        self.errors.wrote()
        source.execute("BEGIN IMMEDIATE")  # the worker after this one may pack, too
        try:
            rows = source.execute("SELECT n, is_change, data FROM settled ORDER BY n").fetchall()
            records, changes = readable((row[1:] for row in rows), self.errors.cannot_write)
            plans = dict(source.execute("SELECT key, text FROM plan").fetchall())
            self._write(close_block(records, plans) if records else None, changes)
            if rows:
                source.execute("DELETE FROM settled WHERE n <= ?", (rows[-1][0],))
            source.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                source.execute("ROLLBACK")
            raise
        self._tasks_open = self._bytes_open = 0

    def _write(self, block: Block | None, changes: Iterable[Change]) -> None:
        writer, now = self._file.writer, self._clock.now()
        assert writer is not None
        writer.execute("BEGIN IMMEDIATE")
        try:
            if block is not None:
                self._put_block(writer, block, now)
            writer.executemany(
                "INSERT INTO change(kept_at, task_id, data) VALUES (?, ?, ?)",
                [(now, change.task_id, encode([change])) for change in changes],
            )
            writer.execute(LOST, (self._lost_until,))
            drop(writer, now - self._limits.keep_s, self._limits.max_bytes)
            writer.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                writer.execute("ROLLBACK")
            raise

    def _put_block(self, writer: sqlite3.Connection, block: Block, now: float) -> None:
        size = len(block.body) + len(block.hashes) + len(block.hosts) + len(block.starts)
        row = writer.execute(
            PUT_BLOCK,
            (
                now,
                block.first_at,
                block.last_at,
                block.tasks,
                block.targets,
                size,
                block.actions,
                block.states,
                _encode(block.who).decode(),
                _encode(block.nodes).decode(),
                block.hosts,
                block.starts,
                _encode(block.patterns).decode(),
            ),
        ).lastrowid
        writer.execute("INSERT INTO block_hashes(n, hashes) VALUES (?, ?)", (row, block.hashes))
        writer.execute("INSERT INTO block_body(n, body) VALUES (?, ?)", (row, block.body))

    def _drop_unpacked(self) -> None:
        """Let the oldest records go when no block can be written for long."""
        source = self._tasks.writer
        if source is None or self._bytes_open < _OPEN_BYTES_MAX:
            return
        with contextlib.suppress(sqlite3.Error):
            [[last, at]] = source.execute(_OLDER_HALF).fetchall()
            source.execute("DELETE FROM settled WHERE n <= ?", (last,))
            self._lost_until = max(self._lost_until, at or 0.0)
            self._bytes_open //= 2

    def forget(self) -> None:
        """Let go what is too old, or too much."""
        source, writer = self._tasks.writer, self._file.writer
        before_at = self._clock.now() - self._limits.keep_s
        with contextlib.suppress(sqlite3.Error):
            if source is not None and source.execute(_FORGET, (before_at,)).rowcount:
                self._lost_until = max(self._lost_until, before_at)
            if writer is not None:
                drop(writer, before_at, self._limits.max_bytes)

    def begin_anew(self, since: float) -> None:
        """See `History.begin_anew`."""
        source, writer = self._tasks.writer, self._file.writer
        try:
            if source is None or writer is None:
                raise StoreError(self.errors.text or f"{self._file.path} is closed")
            source.execute("DELETE FROM settled")
            for table in ("block", "block_hashes", "block_body", "change"):
                writer.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours
            writer.execute("UPDATE bound SET complete_since = ?", (since,))
        except sqlite3.Error as exc:
            raise self._tasks.translate(exc, "write") from exc
        self._tasks_open = self._bytes_open = 0

    def take_over(
        self, tasks: SettledTasks | None, changes: Sequence[Change], plans: Mapping[bytes, bytes]
    ) -> None:
        """See `History.take_over`."""
        now, source = self._clock.now(), self._tasks.writer
        assert source is not None
        rows = [] if tasks is None else [(0, len(tasks.ids), now, written(tasks))]
        if changes:
            rows.append((1, len(changes), now, encode(changes)))
        try:
            source.execute("BEGIN IMMEDIATE")
            source.executemany("INSERT OR IGNORE INTO plan(key, text) VALUES (?, ?)", plans.items())
            source.executemany(_PUT_RECORD, rows)
            source.execute("COMMIT")
        except sqlite3.Error as exc:
            with contextlib.suppress(sqlite3.Error):
                source.execute("ROLLBACK")
            raise self._tasks.translate(exc, "write") from exc
        self.noted(rows)
        self.tidy()

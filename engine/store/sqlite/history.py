"""The history of one file of the embedded store: a database of its own beside it, ``history-N.db``.

Of its own, because it may be damaged, full or lost without harm: the engine serves on, says so, and begins
another. Records lie in ``tasks-N.db`` until there are enough for a block; then the block is written, and they
are dropped. A crash in between leaves some tasks in both, which whoever reads shows once.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING, Final

import msgspec

from engine.errors import StoreError
from engine.store.history import BYTES_MAX, TASKS_MAX, BlockHead, OpenHistory, late, packed
from engine.store.sqlite.history_file import HEADS, LOST, PUT_BLOCK, HistoryFile, drop, is_damage
from engine.tasks.blocks import ANYBODY, close_block
from engine.tasks.hashes import CRCS, LINE_HASHES
from engine.tasks.packing import written
from engine.tasks.records import ParkedRow, rows_of
from engine.tasks.segments import may_have, readable, readable_tasks
from engine.tasks.settled import Change, decode_changes, encode, state_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from engine.base.clock import SteadyClock
    from engine.store.history import HistoryErrors, HistoryLimits, Wanted
    from engine.store.sqlite.file import DatabaseFile
    from engine.tasks.blocks import Block
    from engine.tasks.records import Delivered, JournalKey
    from engine.tasks.settled import SettledTasks
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
_JOIN: Final = "JOIN block_hashes AS h ON h.n = b.n"
_WIDE: Final = "(length(b.starts) > 0 OR b.patterns <> '[]')"
_CRCS: Final = f"b.actions & {CRCS | LINE_HASHES} <> {LINE_HASHES}"  #: those of versions before do not say
_LINES: Final = f"b.actions & {LINE_HASHES}"
_OLDER_HALF: Final = (
    "SELECT max(n), max(at) FROM settled WHERE n <= (SELECT (min(n) + max(n)) / 2 FROM settled)"
)
_FORGET: Final = "DELETE FROM settled WHERE at < ?"
_RETRY_S: Final = 60.0  #: after a block could not be written
_OPEN_BYTES_MAX: Final = 64 * 1024**2  #: of records in no block; of more the oldest are dropped

_encode = msgspec.json.encode
_ANYBODY: Final = _encode([ANYBODY]).decode()
_decode_patterns = msgspec.json.Decoder(list[str]).decode


class SqliteHistory:
    """See `engine.store.history.History`.

    Args:
        path: the history's file.
        tasks: the file of the tasks, where records are until they are in a block.
        clock: by which blocks grow old.
        limits: how much is kept.
    """

    def __init__(self, path: Path, tasks: DatabaseFile, clock: SteadyClock, limits: HistoryLimits) -> None:
        self._file = HistoryFile(path)
        self._tasks = tasks
        self._clock = clock
        self._limits = limits
        self._tasks_open = 0
        self._bytes_open = 0
        self._again_at = 0.0
        self._lost_until = 0.0  # records that went into no block were created until then

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

    @property
    def errors(self) -> HistoryErrors:
        """See `History.errors`."""
        return self._file.errors

    # Writing, by the saver's thread

    def put(
        self,
        tasks: list[Task],
        changes: Sequence[Change],
        delivered: Sequence[Delivered] = (),
        journal: Sequence[JournalKey] = (),
    ) -> list[tuple[int, int, float, bytes]]:
        """Write tasks that settle, what became of others, and what was late; return the rows.

        They count when `noted` is told of them: once the transaction is through. Where there are any, rows
        of the *journal* are dropped by the same statement: each one costs as much as the records' making.
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

    # Reading

    def unpacked(self, words: Sequence[bytes] = ()) -> OpenHistory:
        """See `History.unpacked`."""
        found = self._tasks.query("SELECT is_change, data FROM settled ORDER BY n")
        rows = [(is_change, data) for is_change, data in found if is_change or may_have(data, words)]
        records, changes = readable(rows, self.errors.cannot_read)
        plans = dict(self._tasks.query("SELECT key, text FROM plan")) if rows else {}
        return OpenHistory(readable_tasks(records, self.errors.cannot_read), changes, plans)

    def heads(self, wanted: Wanted, after: BlockHead | None, limit: int) -> list[BlockHead]:
        """See `History.heads`."""
        named: dict[str, bytes] = {}
        of_hosts = _has_one("b.hosts", wanted.hosts, named)
        of_targets = ""
        if wanted.crcs or wanted.line_hashes:
            crcs = _has_one("h.hashes", wanted.crcs, named) or "AND 0"
            lines = _has_one("h.hashes", wanted.line_hashes, named) or "AND 0"
            of_targets = f"AND ({_WIDE if wanted.takes_wide else 0} OR {_CRCS} {crcs} OR {_LINES} {lines})"
        rows = self._file.query(
            HEADS.format(join=_JOIN, found=f"{of_hosts} {of_targets}"),
            {
                "since": wanted.since,
                "until": wanted.until,
                "after_at": float("inf") if after is None else after.last_at,
                "after_n": 0 if after is None else after.key,
                "actions": wanted.actions,
                "states": wanted.states,
                "packed": wanted.packed,
                "who": _encode(wanted.who).decode(),
                "anybody": _ANYBODY,
                "node": wanted.node,
                "limit": limit,
                **named,
            },
            # Where the hashes of one block are damaged, all others are looked into.
            spared=HEADS.format(join="", found=of_hosts),
        )
        return [
            BlockHead(key, last_at, starts, _decode_patterns(patterns))
            for key, last_at, starts, patterns in rows
        ]

    def block(self, key: int | str) -> tuple[bytes, bytes]:
        """See `History.block`."""
        rows = self._file.query(
            "SELECT hashes, body FROM block_hashes JOIN block_body USING (n) WHERE n = :n", {"n": key}
        )
        return rows[0] if rows else (b"", b"")

    def changes(self, task_ids: Sequence[str]) -> list[Change]:
        """See `History.changes`."""
        rows = self._file.query(
            "SELECT data FROM change WHERE task_id IN (SELECT value FROM json_each(:ids)) ORDER BY n",
            {"ids": _encode(task_ids).decode()},
        )
        return [one for (data,) in rows for one in decode_changes(data)]

    def states(self, task_ids: Sequence[str]) -> list[Change]:
        """See `History.states`."""
        rows = self._tasks.query(
            "SELECT id, doc->>'updated_at', doc->>'state' FROM task"
            " WHERE id IN (SELECT value FROM json_each(?))",
            _encode(task_ids).decode(),
        )
        return [Change(task_id, at, state_number(state), []) for task_id, at, state in rows]

    def waiting(self, task_id: str, _asked: Sequence[tuple[str, int, str]]) -> set[tuple[str, int, str]]:
        """See `History.waiting`."""
        rows = self._tasks.query("SELECT node, operation, target FROM parked WHERE task_id = ?", task_id)
        wide = self._tasks.query(
            "SELECT seq, 0, node, operation, target, task_id, '', parked_at, stands_for FROM host_row"
            " WHERE task_id = ?",
            task_id,
        )
        return set(rows) | {
            (one.node, one.operation, one.target) for row in wide for one in rows_of(ParkedRow(*row))
        }

    def bytes_kept(self) -> int:
        """See `History.bytes_kept`."""
        rows = self._file.query("SELECT coalesce(sum(bytes), 0) FROM block", {})
        return int(rows[0][0]) if rows else 0

    def complete_since(self) -> float:
        """See `History.complete_since`."""
        rows = self._file.query("SELECT complete_since FROM bound", {})
        return max(self._lost_until, float(rows[0][0]) if rows else 0.0)


def _has_one(column: str, sought: Sequence[bytes], named: dict[str, bytes]) -> str:
    """Return the condition that a column has one of some texts; they are added to *named*."""
    names = [f"p{len(named) + place}" for place in range(len(sought))]
    named.update(zip(names, sought, strict=True))
    return f"AND ({' OR '.join(f'instr({column}, :{name})' for name in names)})" if names else ""

"""The file of an embedded store's history: its connections, and what happens when it is damaged.

It is never in the way of a task: what cannot be opened, read or written is told (`errors`, and a line in the
log), and the engine serves on. A file that is damaged is put aside and another begun.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final

from engine.errors import StoreError
from engine.store.history import HistoryErrors
from engine.store.sqlite.readers import Readers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS block(
    n INTEGER PRIMARY KEY AUTOINCREMENT, kept_at REAL NOT NULL, first_at REAL NOT NULL, last_at REAL NOT NULL,
    tasks INTEGER NOT NULL, targets INTEGER NOT NULL, bytes INTEGER NOT NULL, actions INTEGER NOT NULL,
    states INTEGER NOT NULL, who TEXT NOT NULL, nodes TEXT NOT NULL, hosts BLOB NOT NULL,
    starts BLOB NOT NULL, patterns TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS block_order ON block(last_at, n);
CREATE TABLE IF NOT EXISTS block_hashes(n INTEGER PRIMARY KEY, hashes BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS block_body(n INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS change(n INTEGER PRIMARY KEY AUTOINCREMENT, kept_at REAL NOT NULL,
    task_id TEXT NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS change_task ON change(task_id);
CREATE INDEX IF NOT EXISTS change_age ON change(kept_at);
CREATE TABLE IF NOT EXISTS bound(id INTEGER PRIMARY KEY CHECK(id = 1), complete_since REAL NOT NULL);
"""
PUT_BLOCK: Final = (
    "INSERT INTO block(kept_at, first_at, last_at, tasks, targets, bytes, actions, states, who, nodes,"
    " hosts, starts, patterns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
HEADS: Final = """
SELECT b.n, b.last_at, b.starts, b.patterns FROM block AS b {join}
WHERE b.first_at <= :until AND (b.last_at >= :since OR b.kept_at >= :packed)
  AND (b.last_at < :after_at OR (b.last_at = :after_at AND b.n < :after_n))
  AND (:actions = 0 OR b.actions & :actions) AND (:states = 0 OR b.states & :states)
  AND (:who = '[]' OR b.who = :anybody OR NOT EXISTS (SELECT 1 FROM json_each(:who) AS w
       WHERE w.value NOT IN (SELECT value FROM json_each(b.who))))
  AND (:node = '' OR EXISTS (SELECT 1 FROM json_each(b.nodes) WHERE value = :node))
  {found}
ORDER BY b.last_at DESC, b.n DESC LIMIT :limit
"""
LOST: Final = "UPDATE bound SET complete_since = max(complete_since, ?)"
_BEGIN: Final = "INSERT OR IGNORE INTO bound SELECT 1, coalesce(min(first_at), ?) FROM block"


class HistoryFile:
    """One SQLite file in WAL mode: a connection that writes, and one per thread that reads.

    Attributes:
        errors: what is wrong with it.
        writer: None while it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.errors = HistoryErrors()
        self.writer: sqlite3.Connection | None = None
        self._readers = Readers(self._connect_open)

    def open(self) -> None:
        """Open or create the file. One that is damaged is put aside, and another begun."""
        try:
            self._open()
        except sqlite3.DatabaseError as exc:
            if not is_damage(exc):
                self.errors.cannot_write(f"{self.path}: cannot be opened: {exc}")
                return
            self.put_aside(str(exc))

    def _open(self) -> None:
        self.writer = self._connect()
        self.writer.executescript(_SCHEMA)
        self.writer.execute(_BEGIN, (time.time(),))

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=5, cached_statements=32
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def put_aside(self, why: str) -> None:
        """Begin another file in place of one that is damaged."""
        self.close()
        aside = self.path.with_name(f"{self.path.name}.damaged-{int(time.time())}")
        try:
            self.path.rename(aside)
            for left in ("-wal", "-shm"):
                self.path.with_name(self.path.name + left).unlink(missing_ok=True)
            self._open()
        except (OSError, sqlite3.Error) as exc:
            self.errors.cannot_write(f"{self.path} is damaged ({why}), and no other can be begun: {exc}")
            return
        self.errors.cannot_write(
            f"{self.path} was damaged ({why}); it is {aside.name} now, and the history begins anew"
        )

    def close(self) -> None:
        """Close every connection; reads that are under way fail."""
        writer, self.writer = self.writer, None
        self._readers.close()
        if writer is not None:
            with contextlib.suppress(sqlite3.Error):
                writer.close()

    def query(self, sql: str, values: Mapping[str, Any], *, spared: str = "") -> list[tuple[Any, ...]]:
        """Run a read on this thread's own connection; what cannot be read is as if it were not there.

        Args:
            sql: what is read.
            values: by name.
            spared: reads less, and is run in its place when that is damaged.
        """
        try:
            return self._readers.query(sql, values)
        except sqlite3.Error as exc:
            self.errors.cannot_read(f"{self.path}: cannot be read: {exc}")
            if spared and is_damage(exc):
                return self.query(spared, values)
        except StoreError:
            self.errors.cannot_read(self.errors.text or f"{self.path} is closed")
        return []

    def _connect_open(self) -> sqlite3.Connection:
        if self.writer is None:
            raise StoreError("it is closed")
        return self._connect()


def is_damage(exc: sqlite3.Error) -> bool:
    """Tell whether an error says that the file is damaged."""
    code = getattr(exc, "sqlite_errorcode", None) or 0
    return code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def drop(writer: sqlite3.Connection, before_at: float, max_bytes: int) -> None:
    """Drop what was kept before *before_at*, and the oldest blocks beyond *max_bytes*."""
    old = writer.execute("SELECT coalesce(max(n), 0) FROM block WHERE kept_at < ?", (before_at,)).fetchone()[
        0
    ]
    sizes = writer.execute("SELECT n, bytes FROM block WHERE n > ? ORDER BY n DESC", (old,)).fetchall()
    total = 0
    for number, size in sizes:
        total += size
        if total > max_bytes:
            old = number
            break
    if old:
        [[lost_until]] = writer.execute(
            "SELECT coalesce(max(last_at), 0) FROM block WHERE n <= ?", (old,)
        ).fetchall()
        writer.execute(LOST, (lost_until,))
        for table in ("block", "block_hashes", "block_body"):
            writer.execute(f"DELETE FROM {table} WHERE n <= ?", (old,))  # noqa: S608 - names of ours
    writer.execute("DELETE FROM change WHERE kept_at < ?", (before_at,))

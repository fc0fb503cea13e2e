"""The database file: its lock, what is checked before it is used, its connections, and its errors.

A damaged file stops the start (`StoreDamagedError`): an engine that began empty would have lost what
it answered 202 for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

from engine.base.durable import sync_folder
from engine.errors import StoreDamagedError, StoreError
from engine.store.sqlite.readers import Readers
from engine.tasks.records import FORMAT

if TYPE_CHECKING:
    from pathlib import Path

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS journal(seq INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS task(n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, doc TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS parked(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL, operation INTEGER NOT NULL,
    target TEXT NOT NULL, task_id TEXT NOT NULL, after TEXT NOT NULL, parked_at REAL NOT NULL,
    is_parted INTEGER);
CREATE INDEX IF NOT EXISTS parked_order ON parked(node, after, seq);
CREATE INDEX IF NOT EXISTS parked_target ON parked(node, operation, target);
CREATE INDEX IF NOT EXISTS parked_task ON parked(task_id, target);
CREATE TABLE IF NOT EXISTS host_row(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL, operation INTEGER NOT NULL,
    target TEXT NOT NULL, task_id TEXT NOT NULL, parked_at REAL NOT NULL, place REAL NOT NULL,
    stands_for TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS host_row_order ON host_row(node, place);
CREATE INDEX IF NOT EXISTS host_row_target ON host_row(node, operation, target);
CREATE INDEX IF NOT EXISTS host_row_task ON host_row(task_id);
CREATE TABLE IF NOT EXISTS callback(key INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT NOT NULL,
    url TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS plan(key BLOB PRIMARY KEY, text BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS clock(id INTEGER PRIMARY KEY CHECK(id = 1), steady REAL NOT NULL,
    wall REAL NOT NULL);
CREATE TABLE IF NOT EXISTS seen(node TEXT PRIMARY KEY, layer TEXT NOT NULL, at REAL NOT NULL,
    is_gone INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS pause(node TEXT PRIMARY KEY, by TEXT NOT NULL, at REAL NOT NULL,
    is_paused INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS silence(id TEXT PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS begun(task_id TEXT PRIMARY KEY, accepted_at REAL NOT NULL, plan BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS settled(n INTEGER PRIMARY KEY, is_change INTEGER NOT NULL,
    tasks INTEGER NOT NULL, at REAL NOT NULL, data BLOB NOT NULL);
"""
_SINCE: Final = "ALTER TABLE parked ADD COLUMN is_parted INTEGER"  # files of versions before have none
_HAS_PARTED: Final = "SELECT 1 FROM pragma_table_info('parked') WHERE name = 'is_parted'"
_PARTED: Final = """
CREATE INDEX IF NOT EXISTS parked_parted ON parked(node, parked_at) WHERE is_parted;
"""
# Without one, `sqlite3` asks every value of `bytes`, and its class, for an adapter: 3,300 instructions.
sqlite3.register_adapter(bytes, bytes)
_PAGE_BYTES: Final = 8192
"""Of a file that is made; one of a version before keeps its 4096.

A page of a commit is two writes to the log: of 31 tasks 32 in place of 47, of 165 tasks 92 in place of 166,
and a third, or a twelfth, more bytes. 16 KiB are 25 and 60 writes, and 2.4 times the bytes of 31 tasks.
"""
_LOG_BYTES: Final = 16_000 * 1024  #: of the log; then it is copied into the file
_CHECK_WHOLE_BYTES: Final = 2 * 1024**3
"""A file up to this size is checked whole at start (about 1 s per GB); of a larger one only the
tables that work depends on."""


class DatabaseFile:
    """One SQLite file in WAL mode: a connection that writes, and one per thread that reads.

    Args:
        path: the database file; its folder exists.
        has_peers: another process that knows of this one may have it open too: a supervisor's workers.
    """

    def __init__(self, path: Path, *, has_peers: bool) -> None:
        self.path = path
        self.writer: sqlite3.Connection | None = None  #: None while the file is closed
        self._has_peers = has_peers
        self._readers = Readers(self._connect_open)
        self._lock_file: Any = None

    def open(self, *, is_in_use: bool) -> None:
        """Open or create the file; see `Store.open`."""
        self._take_lock()
        try:
            if not self.path.exists():
                self._create()
            elif not is_in_use:  # the other process has checked it, and may be writing
                self._check()
            self.writer = self.connect()
            self.writer.executescript(_SCHEMA)
            try:
                self.writer.execute(_SINCE)
            except sqlite3.OperationalError:
                if not self.writer.execute(_HAS_PARTED).fetchone():
                    raise
            self.writer.executescript(_PARTED)
            self._check_format(self.writer)
        except sqlite3.DatabaseError as exc:
            self.close()
            raise self.translate(exc, "open") from exc
        except OSError as exc:
            self.close()
            raise StoreError(f"{self.path}: cannot be made: {exc}") from exc
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        """Close every connection and give the lock back; reads that are under way fail."""
        writer, self.writer = self.writer, None
        self._readers.close()
        if writer is not None:
            with contextlib.suppress(sqlite3.Error):
                writer.close()
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def connect(self) -> sqlite3.Connection:
        """Return a new connection."""
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=5, cached_statements=64
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        [[page_bytes]] = connection.execute("PRAGMA page_size").fetchall()
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_BYTES // page_bytes}")
        connection.execute("PRAGMA cache_size = -32768")
        return connection

    def query(self, sql: str, *values: str | float | bytes) -> list[tuple[Any, ...]]:
        """Run a read on this thread's own connection; readers never wait for the writer in WAL.

        Raises:
            StoreError: it cannot be read.
        """
        try:
            return self._readers.query(sql, values)
        except sqlite3.Error as exc:
            raise self.translate(exc, "read") from exc

    def _connect_open(self) -> sqlite3.Connection:
        if self.writer is None:
            raise StoreError(f"{self.path}: the store is closed")
        return self.connect()

    # Errors

    def damaged(self, why: str) -> StoreDamagedError:
        """Return the error that says that the file is damaged, and what to do."""
        return StoreDamagedError(
            f"{self.path} is damaged ({why}). The engine does not start on it, because tasks it accepted "
            f"could be lost. Restore the file from a backup; or save what is readable with "
            f"`sqlite3 {self.path.name} .recover | sqlite3 repaired.db` and put that in its place; or, to "
            f"begin empty, move {self.path.name}, {self.path.name}-wal and {self.path.name}-shm away."
        )

    def translate(self, exc: sqlite3.Error, doing: str) -> StoreError:
        """Return SQLite's error as ours; *doing* is the verb of what failed."""
        code = getattr(exc, "sqlite_errorcode", None) or 0
        if code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return self.damaged(str(exc))
        return StoreError(f"{self.path}: cannot {doing}: {exc}")

    # Opening

    def _take_lock(self) -> None:
        """One engine per file: two would each think the other's work theirs.

        Workers of one supervisor share the lock, which keeps every other engine out.
        """
        kind = fcntl.LOCK_SH if self._has_peers else fcntl.LOCK_EX
        path = self.path.with_suffix(".lock")
        try:
            self._lock_file = path.open("a")
            fcntl.flock(self._lock_file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock_file.close()
            self._lock_file = None
            raise StoreError(
                f"{self.path}: another engine is using it; stop that one or set another engine.data_dir"
            ) from None
        except OSError as exc:
            raise StoreError(f"{path}: cannot be opened: {exc}") from exc

    def _create(self) -> None:
        """Make the file whole before it has its name: one that is empty, or half made, counts as damaged."""
        log = self.path.with_name(self.path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise self.damaged("it is missing, but its log is there")
        draft = self.path.with_name(f".{self.path.name}-new")
        for left in ("", "-wal", "-shm", "-journal"):  # by a start that was cut off
            draft.with_name(draft.name + left).unlink(missing_ok=True)
        try:
            with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as connection:
                connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {FORMAT}")
            with contextlib.suppress(FileExistsError):
                os.link(draft, self.path)
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def _check(self) -> None:
        """Look at what the file holds through a connection that cannot write.

        A connection that can write would, when it is closed, copy the log into the damaged file, and takes
        an empty file for a new one.
        """
        size = self.path.stat().st_size
        if not size:
            raise self.damaged("it is empty")
        url = f"file:{urllib.parse.quote(str(self.path))}?mode=ro"
        with contextlib.closing(sqlite3.connect(url, uri=True, isolation_level=None)) as connection:
            tables = [
                row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            if size <= _CHECK_WHOLE_BYTES:
                scope = [""]
            else:
                scope = [f"({name})" for name in ("journal", "parked", "callback") if name in tables]
            for part in scope:
                verdict = connection.execute(f"PRAGMA quick_check{part}").fetchone()
                if verdict is not None and verdict[0] != "ok":
                    raise self.damaged(verdict[0].splitlines()[-1])

    def _check_format(self, writer: sqlite3.Connection) -> None:
        version = writer.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT + 1:
            raise StoreError(f"{self.path}: written by a newer version of purgeline (format {version})")
        if version == 0:
            writer.execute(f"PRAGMA user_version = {FORMAT}")

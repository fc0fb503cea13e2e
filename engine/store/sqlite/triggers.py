"""Triggers of an engine with an embedded store: one file in the data folder, which all of its workers share.

Workers of two generations have it open at a time, so its table is only added to.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.base.durable import sync_folder
from engine.errors import StoreDamagedError, StoreError
from engine.store.triggers import Kept, Listed
from engine.tasks.triggers import decode, encode

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from engine.tasks.triggers import TriggerRecord

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS trigger_of(id TEXT PRIMARY KEY, token TEXT NOT NULL, status TEXT NOT NULL,
    settled_at REAL NOT NULL, version INTEGER NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS trigger_token ON trigger_of(token, id);
CREATE INDEX IF NOT EXISTS trigger_settled ON trigger_of(settled_at, id);
"""
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY_S: Final = 5
_TRIES: Final = 50  #: of two workers that make the file at once SQLite lets one wait without its time-out


class SqliteTriggers:
    """See `engine.store.triggers.Triggers`.

    Args:
        path: of the file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the file, or make it."""
        with self._lock:
            self._open()

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        for attempt in range(_TRIES):
            connection = None
            try:
                connection = sqlite3.connect(
                    self._path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S
                )
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(_SCHEMA)
                sync_folder(self._path.parent)
            except (sqlite3.Error, OSError) as exc:
                if connection is not None:
                    connection.close()
                is_busy = isinstance(exc, sqlite3.OperationalError) and "locked" in str(exc)
                if isinstance(exc, sqlite3.DatabaseError) and exc.sqlite_errorcode & 0xFF in _DAMAGED:
                    raise self._damaged(exc) from exc
                if not is_busy or attempt == _TRIES - 1:
                    raise StoreError(f"{self._path}: cannot be opened: {exc}") from exc
                time.sleep(0.02)
            else:
                self._connection = connection
                return connection
        raise AssertionError("the last attempt returns or raises")

    def _damaged(self, exc: sqlite3.Error) -> StoreDamagedError:
        name = self._path.name
        return StoreDamagedError(
            f"{self._path} is damaged ({exc}). The engine does not start on it, because clients were told "
            f"that their triggers are kept. Restore the file from a backup; or, to begin without them, move "
            f"{name}, {name}-wal and {name}-shm away: their tasks are in other files, and go on."
        )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def add(self, record: TriggerRecord) -> None:
        """See `Triggers.add`."""
        self._run(
            "INSERT INTO trigger_of(id, token, status, settled_at, version, data) VALUES (?, ?, ?, ?, 1, ?)",
            record.id,
            record.token,
            record.status.value,
            record.settled_at,
            encode(record),
        )

    def get(self, token: str, trigger_id: str) -> Kept | None:
        """See `Triggers.get`."""
        rows, _ = self._run(
            "SELECT version, data FROM trigger_of WHERE id = ? AND token = ?", trigger_id, token
        )
        if not rows:
            return None
        version, data = rows[0]
        try:
            return Kept(version, decode(data))
        except msgspec.MsgspecError as exc:
            raise StoreError(f"{self._path}: the trigger {trigger_id} cannot be read: {exc}") from exc

    def put(self, kept: Kept, record: TriggerRecord) -> bool:
        """See `Triggers.put`."""
        _, changed = self._run(
            "UPDATE trigger_of SET status = ?, settled_at = ?, version = ?, data = ? "
            "WHERE id = ? AND token = ? AND version = ?",
            record.status.value,
            record.settled_at,
            kept.version + 1,
            encode(record),
            record.id,
            record.token,
            kept.version,
        )
        return changed > 0

    def remove(self, token: str, trigger_id: str) -> bool:
        """See `Triggers.remove`."""
        _, changed = self._run("DELETE FROM trigger_of WHERE id = ? AND token = ?", trigger_id, token)
        return changed > 0

    def listed(self, token: str, settled: Collection[str] | None = None) -> list[Listed]:
        """See `Triggers.listed`."""
        words = () if settled is None else tuple(settled)
        which = "" if settled is None else f"AND (settled_at = 0 OR status IN ({','.join('?' * len(words))}))"
        sql = f"SELECT id, status FROM trigger_of WHERE token = ? {which} ORDER BY id"  # noqa: S608 - marks
        rows, _ = self._run(sql, token, *words)
        return [Listed(*row) for row in rows]

    def unsettled(self, behind: str, limit: int) -> list[tuple[str, str]]:
        """See `Triggers.unsettled`."""
        rows, _ = self._run(
            "SELECT id, token FROM trigger_of WHERE settled_at = 0 AND id > ? ORDER BY id LIMIT ?",
            behind,
            limit,
        )
        return [(trigger_id, token) for trigger_id, token in rows]

    def forget(self, before_at: float, limit: int) -> int:
        """See `Triggers.forget`."""
        _, changed = self._run(
            "DELETE FROM trigger_of WHERE id IN (SELECT id FROM trigger_of "
            "WHERE settled_at > 0 AND settled_at < ? ORDER BY settled_at LIMIT ?)",
            before_at,
            limit,
        )
        return changed

    def trim(self, token: str, most: int, limit: int) -> int:
        """See `Triggers.trim`."""
        [[count]], _ = self._run("SELECT COUNT(*) FROM trigger_of WHERE token = ?", token)
        if count <= most:
            return 0
        _, changed = self._run(
            "DELETE FROM trigger_of WHERE id IN (SELECT id FROM trigger_of "
            "WHERE token = ? AND settled_at > 0 ORDER BY id LIMIT ?)",
            token,
            min(limit, count - most),
        )
        return changed

    def _run(self, sql: str, *values: str | float | bytes) -> tuple[list[tuple[Any, ...]], int]:
        """Return the rows of a statement, and how many it changed."""
        with self._lock:
            connection = self._open()
            try:
                cursor = connection.execute(sql, values)
                return cursor.fetchall(), cursor.rowcount
            except sqlite3.Error as exc:
                raise StoreError(f"{self._path}: triggers cannot be read or written: {exc}") from exc

"""The connections of threads that read one file, one each; in WAL mode none waits for the writer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence


class _Reader:
    """The connection of one thread; whoever uses or closes it holds its lock."""

    __slots__ = ("connection", "lock")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.lock = threading.Lock()


class Readers:
    """Opens and closes them.

    Args:
        connect: returns a new connection to the file, or raises when that is closed.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._mine = threading.local()
        self._opened: list[_Reader] = []
        self._opening = threading.Lock()

    def query(self, sql: str, values: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a read on this thread's own connection.

        Raises:
            sqlite3.Error: it cannot be read.
        """
        reader = getattr(self._mine, "reader", None) or self._open()
        with reader.lock:
            return reader.connection.execute(sql, values).fetchall()

    def _open(self) -> _Reader:
        with self._opening:
            reader = _Reader(self._connect())
            reader.connection.execute("PRAGMA query_only = ON")
            self._mine.reader = reader
            self._opened.append(reader)
            return reader

    def close(self) -> None:
        """Close all; reads that are under way fail.

        A connection is closed when the read on it has ended: SQLite crashes where another thread still reads.
        """
        with self._opening:
            opened, self._opened = self._opened, []
            self._mine = threading.local()
        for reader in opened:
            reader.connection.interrupt()
            with reader.lock:
                reader.connection.close()

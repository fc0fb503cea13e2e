"""The embedded store: one SQLite file per saver, WAL, ``synchronous=FULL``.

During a hot reload the old and the new worker have one file open (*has_peers*). SQLite keeps their
transactions apart; what this module adds is that nothing a row is called by comes from a counter in
memory, and that no number is used twice.

The file notes now and then what its clock and the wall clock say (table ``clock``). The next engine goes on
from there: only the time in which none ran is told by the wall clock. A version that does not know the table
goes by the wall clock alone.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Final

import msgspec

from engine.base.clock import SteadyClock
from engine.errors import StoreError
from engine.store.sqlite.file import DatabaseFile
from engine.store.sqlite.history import SqliteHistory
from engine.store.sqlite.rows import RowReader
from engine.store.sqlite.writing import (
    append_accepted,
    append_plans,
    drop_accepted,
    without_known,
    write_own_records,
)
from engine.tasks.records import (
    FORMAT,
    Accepted,
    Batch,
    Callback,
    Committed,
    LastSeen,
    PageStart,
    Pause,
    Silence,
    begun,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from engine.store.history import History, HistoryLimits
    from engine.store.store import AtWork
    from engine.tasks.task import Task

_ROOM_BYTES: Final = 256 * 1024  #: a disk that was full counts as full until this much is free
_FIRST_ROWS: Final = 50  #: when all of these are too young, `forget` looks at no more
_SCAN_ROWS: Final = 20_000  #: rows one page of a filtered listing looks at

_encode = msgspec.json.encode
_decode_journal = msgspec.msgpack.Decoder(tuple[int, list[Accepted]]).decode


class SqliteStore(RowReader):
    """One file of the embedded store.

    Args:
        path: the database file; its folder exists.
        clock: by which rows wait and nodes are gone; it is set back when the wall clock was set forward.
        has_peers: another process that knows of this one may have it open too: a supervisor's workers.
        history: how much of the history is kept; None: nothing.
    """

    is_shared = False

    def __init__(
        self,
        path: Path,
        *,
        clock: SteadyClock | None = None,
        has_peers: bool = False,
        history: HistoryLimits | None = None,
    ) -> None:
        super().__init__(DatabaseFile(path, has_peers=has_peers))
        self._path = path
        self._clock = clock or SteadyClock()
        self.history: SqliteHistory | None = None
        self._histories: tuple[SqliteHistory, ...] = ()
        if history is not None and history.keep_s:
            beside = path.with_name(path.name.replace("tasks", "history"))
            self.history = SqliteHistory(beside, self._file, self._clock, history)
            self._histories = (self.history,)
        self._forget_from = 0
        self._plans: set[bytes] = set()  # keys of plans that the file is known to have

    @property
    def histories(self) -> Sequence[History]:
        """See `Store.histories`."""
        return self._histories

    def __repr__(self) -> str:
        return f"<SqliteStore {self._path}>"

    def open(self, *, is_in_use: bool = False) -> None:
        """See `Store.open`."""
        self._file.open(is_in_use=is_in_use)
        self._plans.clear()
        for steady, wall in self._file.query("SELECT steady, wall FROM clock"):
            self._clock.go_on_at(steady + max(0.0, time.time() - wall))
        if not is_in_use:
            self._drop_plans()
        if self.history is not None:
            self.history.open()

    def _drop_plans(self) -> None:
        """Begin without plans where no task names one."""
        assert self._file.writer is not None
        try:
            self._file.writer.execute(
                "DELETE FROM plan WHERE NOT EXISTS (SELECT 1 FROM journal)"
                " AND NOT EXISTS (SELECT 1 FROM settled)"
            )
        except sqlite3.Error as exc:
            raise self._file.translate(exc, "open") from exc

    def shrink(self) -> None:
        """See `Store.shrink`: the writer's page cache, which a large backlog has filled."""
        if self._file.writer is not None:
            with contextlib.suppress(sqlite3.Error):
                self._file.writer.execute("PRAGMA shrink_memory")

    def tidy(self) -> None:
        """See `Store.tidy`."""
        if self.history is not None:
            self.history.tidy()

    def close(self) -> None:
        """See `Store.close`."""
        if self.history is not None:
            self.history.close()
        self._file.close()

    # Writing

    def commit(self, batch: Batch) -> Committed:
        """See `Store.commit`."""
        connection = self._file.writer
        if connection is None:
            raise StoreError(f"{self._path}: the store is closed")
        done = Committed(journal=[0] if batch.accepted else [])
        try:
            accepted = without_known(connection, batch.accepted, done)
            plans = {key: text for key, text in batch.plans.items() if key not in self._plans}
            if batch.is_accept_only and not plans:
                append_accepted(connection, accepted, done)
                done.journal *= len(batch.accepted)
                return done
            connection.execute("BEGIN IMMEDIATE")
            append_plans(connection, plans)
            append_accepted(connection, accepted, done)
            if batch.is_probe:
                self._probe(connection)
            now = self._clock.now()
            changes = write_own_records(connection, batch, done, now=now)
            rows = (
                self.history.put(batch.settling, changes, batch.delivered, batch.settled_journal)
                if self.history is not None
                else []
            )
            if batch.settled_journal and not rows:
                drop_accepted(connection, batch.settled_journal)
            connection.commit()
            if self.history is not None:
                self.history.noted(rows)
            done.journal *= len(batch.accepted)
            self._plans.update(plans)
        except BaseException as exc:  # whatever it was, half a batch must not be left to the next commit
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            if isinstance(exc, sqlite3.Error):
                raise self._file.translate(exc, "write") from exc
            raise
        return done

    def _probe(self, connection: sqlite3.Connection) -> None:
        """Write one page, on a disk with room for more: the log's file often has some left of its own."""
        disk = os.statvfs(self._path.parent)
        if disk.f_bavail * disk.f_frsize < _ROOM_BYTES:
            raise StoreError(f"{self._path}: cannot write: the disk has less than {_ROOM_BYTES} bytes left")
        connection.execute(f"PRAGMA user_version = {FORMAT}")

    def forget(self, before_at: float, limit: int) -> int:
        """See `Store.forget`.

        Walks the table in the order of settling, from where it stopped last, and begins again when it
        has come to what is too young: a task that was partial in one round may be done in the next.
        """
        if self.history is not None:
            self.history.forget()
        connection = self._file.writer
        if connection is None:
            return 0
        try:
            rows = self._walk(connection, min(limit, _FIRST_ROWS))
            if len(rows) < limit and any(row[1] < before_at for row in rows):
                rows = self._walk(connection, limit)
            old = [row[0] for row in rows if row[1] < before_at and row[2] != "partial"]
            passed = [row[0] for row in rows if row[1] < before_at]
            self._forget_from = passed[-1] if passed else 0
            if old:
                connection.execute(
                    "DELETE FROM task WHERE n IN (SELECT value FROM json_each(?))", (_encode(old).decode(),)
                )
        except sqlite3.Error as exc:
            raise self._file.translate(exc, "delete") from exc
        return len(old)

    def _walk(self, connection: sqlite3.Connection, count: int) -> list[tuple[int, float, str]]:
        """Return so many tasks from where `forget` is: their places, when they changed last, their states."""
        return connection.execute(
            "SELECT n, doc->>'updated_at', doc->>'state' FROM task WHERE n > ? ORDER BY n LIMIT ?",
            (self._forget_from, count),
        ).fetchall()

    # Reading

    def journal(self) -> Iterator[tuple[int, list[Accepted]]]:
        """See `Store.journal`."""
        for seq, data in self._file.query("SELECT seq, data FROM journal ORDER BY seq"):
            try:
                version, records = _decode_journal(data)
            except msgspec.DecodeError as exc:
                raise self._file.damaged(f"journal row {seq} cannot be read: {exc}") from exc
            if version > FORMAT + 1:
                raise StoreError(f"{self._path}: journal format {version} is of a newer version of purgeline")
            ids = _encode([record.id for record in records]).decode()
            settled = {
                row[0]
                for row in self._file.query(
                    "SELECT id FROM task WHERE id IN (SELECT value FROM json_each(?))", ids
                )
            }
            left = [record for record in records if record.id not in settled]
            if any(record.start_at > 0 for record in left):
                rows = self._file.query(
                    "SELECT task_id, accepted_at, plan FROM begun"
                    " WHERE task_id IN (SELECT value FROM json_each(?))",
                    ids,
                )
                left = begun(left, {task_id: (at, plan) for task_id, at, plan in rows})
            yield seq, left

    def at_work(self, _since: float, _until: float = math.inf) -> Iterator[AtWork]:
        """See `Store.at_work`: nobody else works with it."""
        return iter(())

    def tasks_of(self, _accepted: Sequence[Accepted]) -> list[Task]:
        """See `Store.tasks_of`."""
        return []

    def plans(self, accepted: Sequence[Accepted]) -> dict[bytes, bytes]:
        """See `Store.plans`."""
        texts: dict[bytes, bytes] = {}
        for key in {record.plan for record in accepted} - {b""}:
            texts.update(self._file.query("SELECT key, text FROM plan WHERE key = ?", key))
        return texts

    def last_seen(self) -> dict[str, LastSeen]:
        """See `Store.last_seen`."""
        now = self._clock.now()
        rows = self._file.query("SELECT node, layer, at, is_gone FROM seen")
        return {node: LastSeen(max(0.0, now - at), layer, bool(is_gone)) for node, layer, at, is_gone in rows}

    def pauses(self) -> dict[str, Pause]:
        """See `Store.pauses`."""
        rows = self._file.query("SELECT node, by, at, is_paused FROM pause")
        return {node: Pause(node, by, at, bool(is_paused)) for node, by, at, is_paused in rows}

    def silences(self) -> dict[str, Silence]:
        """See `Store.silences`."""
        rows = self._file.query("SELECT id, data FROM silence")
        return {silence_id: msgspec.json.decode(text, type=Silence) for silence_id, text in rows}

    def document(self, task_id: str) -> bytes | None:
        """See `Store.document`."""
        rows = self._file.query("SELECT doc FROM task WHERE id = ?", task_id)
        return rows[0][0].encode() if rows else None

    def documents(
        self,
        state: str | None,
        begin: PageStart,
        limit: int,
        _missing: set[int] | None = None,
        token: str | None = None,
    ) -> tuple[list[bytes], PageStart | None]:
        """See `Store.documents`: each task has a row of its own."""
        before = begin.row
        if state is None and token is None:
            rows = self._file.query(
                "SELECT n, doc FROM task WHERE n < ? ORDER BY n DESC LIMIT ?", before, limit
            )
            return [doc.encode() for _, doc in rows], PageStart(rows[-1][0]) if len(rows) == limit else None
        low = max(0, min(before, self._last_row() + 1) - _SCAN_ROWS)
        rows = self._file.query(
            "SELECT n, doc FROM task WHERE n < ?1 AND n >= ?2 AND (?3 = '' OR doc->>'state' = ?3)"
            " AND (?4 = '' OR doc->>'token' = ?4) ORDER BY n DESC LIMIT ?5",
            before,
            low,
            state or "",
            token or "",
            limit,
        )
        following = rows[-1][0] if len(rows) == limit else low
        return [doc.encode() for _, doc in rows], PageStart(following) if following else None

    def _last_row(self) -> int:
        return int(self._file.query("SELECT coalesce(max(n), 0) FROM task")[0][0])

    def count(self) -> dict[str, int]:
        """See `Store.count`."""
        return {
            "settled": self._file.query("SELECT count(*) FROM task")[0][0],
            "journal_rows": self._file.query("SELECT count(*) FROM journal")[0][0],
        }

    def pending_callbacks(self) -> list[Callback]:
        """See `Store.pending_callbacks`."""
        return [
            Callback(*row)
            for row in self._file.query("SELECT key, task_id, url, body FROM callback ORDER BY key")
        ]

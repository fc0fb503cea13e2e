"""The embedded store: one SQLite file per saver, WAL, ``synchronous=FULL``.

What costs here is not SQLite but the GIL: `sqlite3` gives it up for every statement *step* and has to
win it back from a busy loop. So nothing is written row by row from Python. A batch of accepted tasks
is one row; documents and delay-queue rows go in as one JSON text that ``json_each`` takes apart inside
a single statement (measured: 6.5 µs a document, off the GIL; ``executemany`` 7.1 µs with it).

A damaged file stops the start (`StoreDamagedError`): an engine that began empty would have lost what
it answered 202 for.

During a hot reload the old and the new worker have one file open (*has_peers*). SQLite keeps their
transactions apart; what this module adds is that nothing a row is called by comes from a counter in
memory, and that no number is used twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.errors import StoreDamagedError, StoreError
from engine.tasks import documents
from engine.tasks.records import (
    FORMAT,
    Accepted,
    Batch,
    Callback,
    Committed,
    Delivered,
    Depth,
    ParkedRow,
    late_of,
    token_of_row,
)
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS journal(seq INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS task(n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, doc TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS parked(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL, operation INTEGER NOT NULL,
    target TEXT NOT NULL, task_id TEXT NOT NULL, after TEXT NOT NULL, parked_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS parked_order ON parked(node, after, seq);
CREATE INDEX IF NOT EXISTS parked_target ON parked(node, operation, target);
CREATE INDEX IF NOT EXISTS parked_task ON parked(task_id, target);
CREATE TABLE IF NOT EXISTS callback(key INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT NOT NULL,
    url TEXT NOT NULL, body TEXT NOT NULL);
"""
_CHECK_WHOLE_BYTES: Final = 2 * 1024**3
"""A file up to this size is checked whole at start (about 1 s per GB); of a larger one only the
tables that work depends on."""
_ROOM_BYTES: Final = 256 * 1024  #: a disk that was full counts as full until this much is free
_SCAN_ROWS: Final = 20_000  #: rows one page of a filtered listing looks at
_DROP_ORPHANS: Final = (
    "DELETE FROM parked WHERE task_id IN (SELECT value FROM json_each(?))"
    " AND task_id NOT IN (SELECT id FROM task)"
)
_PARKED_COLUMNS: Final = "seq, seq, node, operation, target, task_id, after, parked_at"

_encode = msgspec.json.encode
_encode_journal = msgspec.msgpack.encode
_decode_journal = msgspec.msgpack.Decoder(tuple[int, list[Accepted]]).decode


class SqliteStore:
    """One file of the embedded store.

    Args:
        path: the database file; its folder exists.
        has_peers: another process that knows of this one may have it open too: a supervisor's workers.
    """

    is_shared = False

    def __init__(self, path: Path, *, has_peers: bool = False) -> None:
        self._path = path
        self._has_peers = has_peers
        self._writer: sqlite3.Connection | None = None
        self._readers = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._lock_file: Any = None
        self._forget_from = 0

    def __repr__(self) -> str:
        return f"<SqliteStore {self._path}>"

    def open(self, *, is_in_use: bool = False) -> None:
        """See `Store.open`."""
        self._take_lock()
        is_new = not self._path.exists()
        try:
            if not is_in_use:  # the other process has checked it, and may be writing
                self._check(is_new=is_new)
            self._writer = self._connect()
            self._writer.executescript(_SCHEMA)
            self._check_format()
        except sqlite3.DatabaseError as exc:
            self.close()
            if is_new:
                self._path.unlink(missing_ok=True)  # half made; the next start would take it for damaged
            raise self._translate(exc, "open") from exc
        except StoreError:
            self.close()
            raise

    def shrink(self) -> None:
        """See `Store.shrink`: the writer's page cache, which a large backlog has filled."""
        if self._writer is not None:
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("PRAGMA shrink_memory")

    def close(self) -> None:
        """See `Store.close`."""
        for connection in (self._writer, *self._opened):
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
        self._writer = None
        self._opened.clear()
        self._readers = threading.local()
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def commit(self, batch: Batch) -> Committed:
        """See `Store.commit`."""
        connection = self._writer
        if connection is None:
            raise StoreError(f"{self._path}: the store is closed")
        done = Committed(journal=[0] if batch.accepted else [])
        try:
            accepted = self._take_known(connection, batch.accepted, done)
            if batch.is_accept_only:
                self._append(connection, accepted, done)
                done.journal *= len(batch.accepted)
                return done
            connection.execute("BEGIN IMMEDIATE")
            self._append(connection, accepted, done)
            self._write(connection, batch, done)
            connection.execute("COMMIT")
            done.journal *= len(batch.accepted)
        except BaseException as exc:  # whatever it was, half a batch must not be left to the next commit
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            if isinstance(exc, sqlite3.Error):
                raise self._translate(exc, "write") from exc
            raise
        return done

    def _append(self, connection: sqlite3.Connection, accepted: list[Accepted], done: Committed) -> None:
        if not accepted:
            return
        row = connection.execute(
            "INSERT INTO journal(data) VALUES (?)", (_encode_journal((FORMAT, accepted)),)
        )
        done.journal = [row.lastrowid or 0]

    def _take_known(
        self, connection: sqlite3.Connection, accepted: list[Accepted], done: Committed
    ) -> list[Accepted]:
        """Leave out ids that a client chose and that are stored already."""
        chosen = [record.id for record in accepted if record.digest]
        if not chosen:
            return accepted
        rows = connection.execute(
            "SELECT id, coalesce(doc->>'digest', ''), doc FROM task"
            " WHERE id IN (SELECT value FROM json_each(?))",
            (_encode(chosen).decode(),),
        )
        done.known = {task_id: (digest, doc.encode()) for task_id, digest, doc in rows}
        return [record for record in accepted if record.id not in done.known] if done.known else accepted

    def _write(self, connection: sqlite3.Connection, batch: Batch, done: Committed) -> None:
        if batch.is_probe:
            self._probe(connection)
        if batch.documents:
            self._put_documents(connection, batch.documents)
        if batch.parked:
            connection.execute(
                "INSERT INTO parked(node, operation, target, task_id, after, parked_at) SELECT"
                " value->>0, value->>1, value->>2, value->>3, value->>4, value->>5 FROM json_each(?)",
                (_encode(batch.parked).decode(),),
            )
        for sql, values in (
            ("DELETE FROM journal WHERE seq IN (SELECT value FROM json_each(?))", batch.settled_journal),
            (
                "DELETE FROM parked WHERE seq IN (SELECT value FROM json_each(?))",
                [one.row.key for one in batch.delivered],
            ),
            (
                "DELETE FROM parked WHERE task_id IN (SELECT value FROM json_each(?))",
                [*batch.unparked_tasks, *batch.cancelled],
            ),
            (_DROP_ORPHANS, batch.orphans),
            ("DELETE FROM callback WHERE key IN (SELECT value FROM json_each(?))", batch.callbacks_over),
        ):
            if values:
                connection.execute(sql, (_encode(values).decode(),))
        if batch.delivered:
            self._release(connection, batch.delivered)
        callbacks = list(batch.callbacks)
        if batch.delivered or batch.cancelled:
            callbacks += self._change_stored(connection, batch, done)
        if callbacks:
            self._put_callbacks(connection, callbacks, done)

    def _probe(self, connection: sqlite3.Connection) -> None:
        """Write one page, on a disk with room for more: the log's file often has some left of its own."""
        disk = os.statvfs(self._path.parent)
        if disk.f_bavail * disk.f_frsize < _ROOM_BYTES:
            raise StoreError(f"{self._path}: cannot write: the disk has less than {_ROOM_BYTES} bytes left")
        connection.execute(f"PRAGMA user_version = {FORMAT}")

    @staticmethod
    def _put_documents(connection: sqlite3.Connection, documents: dict[str, bytes]) -> None:
        text = b",".join(b'"%b":%b' % (task_id.encode(), doc) for task_id, doc in documents.items())
        connection.execute(
            "INSERT INTO task(id, doc) SELECT key, value FROM json_each(?) WHERE true"
            " ON CONFLICT(id) DO UPDATE SET doc = excluded.doc",
            (f"{{{text.decode()}}}",),
        )

    @staticmethod
    def _release(connection: sqlite3.Connection, delivered: list[Delivered]) -> None:
        """Take delivered parents out of what their children's rows wait for.

        One statement a parent: an UPDATE changes a row once, however many of its parents are delivered.
        """
        by_parent: dict[str, list[tuple[str, str]]] = {}
        for row in (one.row for one in delivered):
            by_parent.setdefault(token_of_row(row), []).append((row.task_id, row.target))
        for parent, pairs in by_parent.items():
            connection.execute(
                "UPDATE parked SET after = trim(replace(',' || after || ',', ',' || ? || ',', ','), ',')"
                " FROM (SELECT value->>0 AS task_id, value->>1 AS target FROM json_each(?)) AS r"
                " WHERE parked.task_id = r.task_id AND parked.target = r.target AND parked.after <> ''",
                (parent, _encode(pairs).decode()),
            )

    def _change_stored(self, connection: sqlite3.Connection, batch: Batch, done: Committed) -> list[Callback]:
        """Fold late delivery and cancels into stored documents; return the callbacks of what that settled."""
        late = late_of(batch.delivered)
        wanted = _encode(list({one.task_id for one in late} | batch.cancelled.keys())).decode()
        rows = connection.execute(
            "SELECT id, doc FROM task WHERE id IN (SELECT value FROM json_each(?))", (wanted,)
        )
        stored = {task_id: msgspec.json.decode(doc) for task_id, doc in rows}
        stored = {task_id: doc for task_id, doc in stored.items() if not documents.is_final(doc)}
        for one in late:
            if one.task_id in stored:
                documents.apply_late(stored[one.task_id], one)
        for task_id, at in batch.cancelled.items():
            if task_id in stored and not documents.is_final(stored[task_id]):
                documents.cancel_stored(stored[task_id], at)
        if stored:
            self._put_documents(connection, {task_id: _encode(doc) for task_id, doc in stored.items()})
        settled = [doc for doc in stored.values() if documents.is_final(doc)]
        done.settled_late = [doc["state"] for doc in settled]
        return documents.callbacks_of(settled)

    def _put_callbacks(
        self, connection: sqlite3.Connection, callbacks: list[Callback], done: Committed
    ) -> None:
        rows = connection.execute(
            "INSERT INTO callback(task_id, url, body) SELECT value->>1, value->>2, value->>3"
            " FROM json_each(?) WHERE true RETURNING key, task_id, url, body",
            (_encode(callbacks).decode(),),
        )
        done.callbacks = [Callback(*row) for row in rows.fetchall()]

    # Reading

    def journal(self) -> Iterator[tuple[int, list[Accepted]]]:
        """See `Store.journal`."""
        for seq, data in self._query("SELECT seq, data FROM journal ORDER BY seq"):
            try:
                version, records = _decode_journal(data)
            except msgspec.DecodeError as exc:
                raise self._damaged(f"journal row {seq} cannot be read: {exc}") from exc
            if version > FORMAT + 1:
                raise StoreError(f"{self._path}: journal format {version} is of a newer version of purgeline")
            ids = _encode([record.id for record in records]).decode()
            settled = {
                row[0]
                for row in self._query(
                    "SELECT id FROM task WHERE id IN (SELECT value FROM json_each(?))", ids
                )
            }
            yield seq, [record for record in records if record.id not in settled]

    def document(self, task_id: str) -> bytes | None:
        """See `Store.document`."""
        rows = self._query("SELECT doc FROM task WHERE id = ?", task_id)
        return rows[0][0].encode() if rows else None

    def documents(self, state: str | None, before: int, limit: int) -> tuple[list[bytes], int]:
        """See `Store.documents`. With a state, a page looks at a bounded number of rows."""
        if state is None:
            rows = self._query("SELECT n, doc FROM task WHERE n < ? ORDER BY n DESC LIMIT ?", before, limit)
            return [doc.encode() for _, doc in rows], rows[-1][0] if len(rows) == limit else 0
        low = max(0, min(before, self._last_row() + 1) - _SCAN_ROWS)
        rows = self._query(
            "SELECT n, doc FROM task WHERE n < ? AND n >= ? AND doc->>'state' = ? ORDER BY n DESC LIMIT ?",
            before,
            low,
            state,
            limit,
        )
        return [doc.encode() for _, doc in rows], rows[-1][0] if len(rows) == limit else low

    def _last_row(self) -> int:
        return int(self._query("SELECT coalesce(max(n), 0) FROM task")[0][0])

    def count(self) -> dict[str, int]:
        """See `Store.count`."""
        return {
            "settled": self._query("SELECT count(*) FROM task")[0][0],
            "journal_rows": self._query("SELECT count(*) FROM journal")[0][0],
        }

    def depths(self) -> dict[str, Depth]:
        """See `Store.depths`."""
        rows = self._query("SELECT node, count(*), min(parked_at) FROM parked GROUP BY node")
        return {node: Depth(count, oldest_at) for node, count, oldest_at in rows}

    def depth(self, node: str) -> Depth:
        """See `Store.depth`."""
        rows = self._query("SELECT count(*), coalesce(min(parked_at), 0) FROM parked WHERE node = ?", node)
        return Depth(*rows[0])

    def pin(self) -> Callable[[str], int]:
        """See `Store.pin`: a read transaction, begun here and ended by the count."""
        try:
            connection = self._connect()
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM parked LIMIT 1").fetchone()
        except sqlite3.Error as exc:
            raise self._translate(exc, "read") from exc

        def count(node: str) -> int:
            try:
                with contextlib.closing(connection):
                    row = connection.execute("SELECT count(*) FROM parked WHERE node = ?", (node,)).fetchone()
            except sqlite3.Error as exc:
                raise self._translate(exc, "read") from exc
            return int(row[0])

        return count

    def nodes_behind(self) -> list[str]:
        """See `Store.nodes_behind`."""
        return [row[0] for row in self._query("SELECT DISTINCT node FROM parked WHERE after <> ''")]

    def parked_of(self, node: str, limit: int) -> list[ParkedRow]:
        """See `Store.parked_of`."""
        return self._parked("node = ? ORDER BY seq LIMIT ?", node, limit)

    def oldest_parked(self, node: str, limit: int, purges_only: bool = False) -> list[ParkedRow]:
        """See `Store.oldest_parked`."""
        prefetch = -1 if not purges_only else int(Operation.PREFETCH)
        return self._parked(
            "node = ? AND after = '' AND operation <> ? ORDER BY seq LIMIT ?", node, prefetch, limit
        )

    def wide_parked(self, node: str) -> list[ParkedRow]:
        """See `Store.wide_parked`."""
        return self._parked(
            "node = ? AND operation IN (3, 4, 9, 10) AND after = '' ORDER BY seq DESC LIMIT 1000", node
        )

    def parked_like(
        self, node: str, targets: Sequence[tuple[int, str]], among: Sequence[ParkedRow]
    ) -> list[ParkedRow]:
        """See `Store.parked_like`."""
        return self._parked(
            "node = ? AND after = '' AND (operation, target) IN"
            " (SELECT value->>0, value->>1 FROM json_each(?)) ORDER BY seq",
            node,
            _encode(targets).decode(),
        )

    def parked_below(
        self, node: str, prefix: str, before: float, among: Sequence[ParkedRow]
    ) -> list[ParkedRow]:
        """See `Store.parked_below`."""
        found: list[ParkedRow] = []
        for scheme in ("http://", "https://"):
            low = scheme + prefix
            found += self._parked(
                "node = ? AND after = '' AND operation IN (1, 2) AND target >= ? AND target < ? AND seq < ?",
                node,
                low,
                low + "\x7f",  # behind every character a target may hold
                before,
            )
        return found

    def _parked(self, where: str, *values: str | float) -> list[ParkedRow]:
        rows = self._query(f"SELECT {_PARKED_COLUMNS} FROM parked WHERE {where}", *values)  # noqa: S608 - constants
        return [ParkedRow(*row) for row in rows]

    def pending_callbacks(self) -> list[Callback]:
        """See `Store.pending_callbacks`."""
        return [
            Callback(*row) for row in self._query("SELECT key, task_id, url, body FROM callback ORDER BY key")
        ]

    def forget(self, before_at: float, limit: int) -> int:
        """See `Store.forget`.

        Walks the table in the order of settling, from where it stopped last, and begins again when it
        has come to what is too young: a task that was partial in one round may be done in the next.
        """
        connection = self._writer
        if connection is None:
            return 0
        try:
            rows = connection.execute(
                "SELECT n, doc->>'updated_at', doc->>'state' FROM task WHERE n > ? ORDER BY n LIMIT ?",
                (self._forget_from, limit),
            ).fetchall()
            old = [row[0] for row in rows if row[1] < before_at and row[2] != "partial"]
            passed = [row[0] for row in rows if row[1] < before_at]
            self._forget_from = passed[-1] if passed else 0
            if old:
                connection.execute(
                    "DELETE FROM task WHERE n IN (SELECT value FROM json_each(?))", (_encode(old).decode(),)
                )
        except sqlite3.Error as exc:
            raise self._translate(exc, "delete") from exc
        return len(old)

    def orphans(self) -> list[str]:
        """See `Store.orphans`."""
        rows = self._query("SELECT DISTINCT task_id FROM parked WHERE task_id NOT IN (SELECT id FROM task)")
        return [row[0] for row in rows]

    def _query(self, sql: str, *values: str | float) -> list[tuple[Any, ...]]:
        """Run a read on this thread's own connection; readers never wait for the writer in WAL."""
        connection = getattr(self._readers, "connection", None)
        try:
            if connection is None:
                connection = self._connect()
                connection.execute("PRAGMA query_only = ON")
                self._readers.connection = connection
                self._opened.append(connection)
            return connection.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise self._translate(exc, "read") from exc

    # Opening

    def _take_lock(self) -> None:
        """One engine per file: two would each think the other's work theirs.

        Workers of one supervisor share the lock, which keeps every other engine out.
        """
        kind = fcntl.LOCK_SH if self._has_peers else fcntl.LOCK_EX
        path = self._path.with_suffix(".lock")
        try:
            self._lock_file = path.open("a")
            fcntl.flock(self._lock_file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock_file.close()
            self._lock_file = None
            raise StoreError(
                f"{self._path}: another engine is using it; stop that one or set another engine.data_dir"
            ) from None
        except OSError as exc:
            raise StoreError(f"{path}: cannot be opened: {exc}") from exc

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=5, cached_statements=64
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        connection.execute("PRAGMA cache_size = -32768")
        return connection

    def _check(self, *, is_new: bool) -> None:
        """Look at what is there through a connection that cannot write.

        One that can would, when it is closed, copy the log into the damaged file, and takes an empty file
        for a new one.
        """
        if is_new:
            log = self._path.with_name(self._path.name + "-wal")
            if log.exists() and log.stat().st_size:
                raise self._damaged("it is missing, but its log is there")
            return
        size = self._path.stat().st_size
        if not size:
            raise self._damaged("it is empty")
        url = f"file:{urllib.parse.quote(str(self._path))}?mode=ro"
        with contextlib.closing(sqlite3.connect(url, uri=True, isolation_level=None)) as connection:
            tables = [
                row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            if size <= _CHECK_WHOLE_BYTES:
                scope = [""]
            else:
                scope = [f"({name})" for name in ("journal", "parked", "callback") if name in tables]
            for part in scope:
                found = connection.execute(f"PRAGMA quick_check{part}").fetchone()
                if found is not None and found[0] != "ok":
                    raise self._damaged(found[0].splitlines()[-1])

    def _check_format(self) -> None:
        assert self._writer is not None
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT + 1:
            raise StoreError(f"{self._path}: written by a newer version of purgeline (format {version})")
        if version == 0:
            self._writer.execute(f"PRAGMA user_version = {FORMAT}")

    def _damaged(self, why: str) -> StoreDamagedError:
        return StoreDamagedError(
            f"{self._path} is damaged ({why}). The engine does not start on it, because tasks it accepted "
            f"could be lost. Restore the file from a backup; or save what is readable with "
            f"`sqlite3 {self._path.name} .recover | sqlite3 repaired.db` and put that in its place; or, to "
            f"begin empty, move {self._path.name}, {self._path.name}-wal and {self._path.name}-shm away."
        )

    def _translate(self, exc: sqlite3.Error, doing: str) -> StoreError:
        code = getattr(exc, "sqlite_errorcode", None) or 0
        if code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return self._damaged(str(exc))
        return StoreError(f"{self._path}: cannot {doing}: {exc}")

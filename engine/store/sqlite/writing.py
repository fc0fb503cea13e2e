"""The statements of one commit.

What costs here is not SQLite but the GIL: `sqlite3` gives it up for each step of a statement, for its reset
and, of `execute`, for the last row's number, and has to win it back from a busy loop. So nothing is written
row by row from Python, and what needs no number goes through `executemany`. A batch of accepted tasks
is one row, and up to 512 documents are the values of one statement. Delay-queue rows go in as one JSON text
that ``json_each`` takes apart inside a single statement; so did documents, which are large: SQLite read each
of them, and wrote it anew, sign by sign.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.store.sqlite import host_rows
from engine.tasks import stored_documents, told
from engine.tasks.changes import changes_of
from engine.tasks.records import (
    FORMAT,
    Accepted,
    Batch,
    Callback,
    Committed,
    Delivered,
    RowKey,
    Sighting,
    late_of,
    token_of_row,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.tasks.records import JournalKey
    from engine.tasks.settled import Change
    from engine.tasks.told import Told

_PARK: Final = (
    "INSERT INTO parked(node, operation, target, task_id, after, parked_at) SELECT"
    " value->>0, value->>1, value->>2, value->>3, value->>4, value->>5 FROM json_each(?)"
)
_PARK_PARTED: Final = (
    "INSERT INTO parked(node, operation, target, task_id, after, parked_at, is_parted) SELECT"
    " value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, 1 FROM json_each(?)"
)
_DROP_JOURNAL: Final = "DELETE FROM journal WHERE seq IN (SELECT value FROM json_each(?))"
_DROP_ROWS: Final = "DELETE FROM parked WHERE seq IN (SELECT value FROM json_each(?))"
_PRESENT_ROWS: Final = (
    "SELECT json_group_array(seq) FROM parked WHERE seq IN (SELECT value FROM json_each(?))"
)
_UNSTORED: Final = (
    "SELECT seq FROM parked WHERE seq IN (SELECT value FROM json_each(?))"
    " AND task_id NOT IN (SELECT id FROM task)"
)
_DROP_ROWS_OF: Final = "DELETE FROM parked WHERE task_id IN (SELECT value FROM json_each(?))"
_DROP_ORPHANS: Final = (
    "DELETE FROM parked WHERE task_id IN (SELECT value FROM json_each(?))"
    " AND task_id NOT IN (SELECT id FROM task)"
)
_SEE: Final = (
    "INSERT INTO seen(node, layer, at, is_gone) SELECT value->>0, value->>1, ?, ? FROM json_each(?)"
    " WHERE true ON CONFLICT(node) DO UPDATE SET at = excluded.at, is_gone = excluded.is_gone"
)
_CONFIGURED: Final = f"{_SEE}, layer = excluded.layer"
_GONE: Final = f"{_SEE} WHERE NOT seen.is_gone"
_NOTE_CLOCK: Final = "INSERT OR REPLACE INTO clock(id, steady, wall) VALUES (1, ?, ?)"
_BEGIN: Final = "INSERT OR REPLACE INTO begun(task_id, accepted_at, plan) VALUES (?, ?, ?)"
_FORGET_BEGUN: Final = "DELETE FROM begun WHERE task_id = ?"
_PAUSE: Final = "INSERT OR REPLACE INTO pause(node, by, at, is_paused) VALUES (?, ?, ?, ?)"
_SILENCE: Final = "INSERT OR REPLACE INTO silence(id, data) VALUES (?, ?)"
_FORGET_SILENCE: Final = "DELETE FROM silence WHERE id = ?"
_DROP_CALLBACKS: Final = "DELETE FROM callback WHERE key IN (SELECT value FROM json_each(?))"

_DOCUMENTS_MAX: Final = 512  #: in one statement

_encode = msgspec.json.encode
_encode_journal = msgspec.msgpack.encode


def append_accepted(connection: sqlite3.Connection, accepted: list[Accepted], done: Committed) -> None:
    """Add a journal row for *accepted*, and note its key."""
    if not accepted:
        return
    row = connection.execute("INSERT INTO journal(data) VALUES (?)", (_encode_journal((FORMAT, accepted)),))
    done.journal = [row.lastrowid or 0]


def without_known(
    connection: sqlite3.Connection, accepted: list[Accepted], done: Committed
) -> list[Accepted]:
    """Leave out tasks whose ids a client chose and that are stored already, and note those."""
    chosen = [record.id for record in accepted if record.digest]
    if not chosen:
        return accepted
    rows = connection.execute(
        "SELECT id, coalesce(doc->>'digest', ''), doc FROM task WHERE id IN (SELECT value FROM json_each(?))",
        (_encode(chosen).decode(),),
    )
    done.known = {task_id: (digest, doc.encode()) for task_id, digest, doc in rows}
    return [record for record in accepted if record.id not in done.known] if done.known else accepted


def append_plans(connection: sqlite3.Connection, plans: dict[bytes, bytes]) -> None:
    """Add *plans*: key → text. There are few of them, each written once."""
    connection.executemany("INSERT OR IGNORE INTO plan(key, text) VALUES (?, ?)", plans.items())


def drop_accepted(connection: sqlite3.Connection, keys: Sequence[JournalKey]) -> None:
    """Drop rows of the journal whose tasks have settled."""
    connection.executemany(_DROP_JOURNAL, [(_encode(keys).decode(),)])


def write_own_records(
    connection: sqlite3.Connection, batch: Batch, done: Committed, *, now: float
) -> list[Change]:
    """Write all of *batch* but its accepted tasks, its history, the journal rows it drops, and its probe.

    Returns:
        What became of stored tasks that were partial.
    """
    if batch.documents:
        _put_documents(connection, batch.documents)
    if batch.parked:
        connection.execute(_PARK, (_encode(batch.parked).decode(),))
    if batch.joined:
        host_rows.join(connection, batch.joined)
    if batch.parted:
        connection.execute(_PARK_PARTED, (_encode(host_rows.part(connection, batch.parted)).decode(),))
    delivered = _without_others(connection, batch.delivered)
    done.rows_left = len(batch.delivered) - len(delivered)
    keys = host_rows.keys_of(delivered)
    counted = _present(connection, delivered, keys)
    host_rows.drop_hosts(connection, keys)
    for sql, values in (
        (_DROP_ROWS, [key for key in keys if isinstance(key, int)]),
        (_DROP_ROWS_OF, [*batch.unparked_tasks, *batch.cancelled]),
        (host_rows.DROP_HOSTS_OF, [*batch.unparked_tasks, *batch.cancelled]),
        (_DROP_ORPHANS, batch.orphans),
        (host_rows.DROP_ORPHANED_HOSTS, batch.orphans),
        (_DROP_CALLBACKS, batch.callbacks_over),
    ):
        if values:
            connection.executemany(sql, [(_encode(values).decode(),)])
    if batch.sightings:
        _see(connection, batch.sightings, now)
    if batch.begun or batch.pauses or batch.silences:
        _mark(connection, batch)
    if delivered:
        _release(connection, delivered)
    callbacks = list(batch.callbacks)
    changes: list[Change] = []
    if delivered or batch.cancelled or batch.noted:
        settled = _change_stored(connection, batch, counted)
        done.settled_late = settled
        callbacks += stored_documents.callbacks_of(settled)
        changes = changes_of(settled, counted)
    if callbacks:
        _put_callbacks(connection, callbacks, done)
    if batch.told:
        _tell(connection, batch.told)
    return changes


def _without_others(connection: sqlite3.Connection, delivered: list[Delivered]) -> list[Delivered]:
    """Leave out rows whose task nobody could tell: it has no document, and is in another worker's memory."""
    untold = [settled.row.key for settled in delivered if not settled.is_told]
    if not untold:
        return delivered
    numbers = _encode([key for key in untold if isinstance(key, int)]).decode()
    others = {seq for [seq] in connection.execute(_UNSTORED, (numbers,))}
    if not others:
        return delivered
    return [settled for settled in delivered if settled.is_told or settled.row.key not in others]


def _mark(connection: sqlite3.Connection, batch: Batch) -> None:
    """Note which tasks that were accepted for later have begun, and what operators paused or silenced."""
    for begun in batch.begun:
        if begun.text:
            append_plans(connection, {begun.plan: begun.text})
            connection.execute(_BEGIN, (begun.task_id, begun.accepted_at, begun.plan))
        else:
            connection.execute(_FORGET_BEGUN, (begun.task_id,))
    connection.executemany(_PAUSE, map(msgspec.structs.astuple, batch.pauses))
    for silence in batch.silences:
        if silence.matchers:
            connection.execute(_SILENCE, (silence.id, _encode(silence).decode()))
        else:
            connection.execute(_FORGET_SILENCE, (silence.id,))


def _present(
    connection: sqlite3.Connection, delivered: list[Delivered], keys: list[RowKey]
) -> list[Delivered]:
    """Return what is still in its queue: another worker may have settled the rest, and counted it."""
    if not delivered:
        return []
    numbers = _encode([key for key in keys if isinstance(key, int)]).decode()
    [[text]] = connection.execute(_PRESENT_ROWS, (numbers,)).fetchall()
    present = set(msgspec.json.decode(text)) | host_rows.present_hosts(connection, keys)
    return [settled for settled in delivered if settled.row.key in present]


def _see(connection: sqlite3.Connection, sightings: list[Sighting], now: float) -> None:
    """Note when nodes were configured last; a forgotten one has not been for longer than anybody waits."""
    for sql, at, is_gone, part in (
        (_CONFIGURED, now, 0, [one for one in sightings if not (one.is_gone or one.is_forgotten)]),
        (_GONE, now, 1, [one for one in sightings if one.is_gone]),
        (_SEE, 0.0, 1, [one for one in sightings if one.is_forgotten]),
    ):
        if part:
            connection.execute(sql, (at, is_gone, _encode(part).decode()))
    connection.execute(_NOTE_CLOCK, (now, time.time()))


def _put_documents(connection: sqlite3.Connection, texts: dict[str, bytes]) -> None:
    ids, documents = list(texts), list(texts.values())
    for start in range(0, len(ids), _DOCUMENTS_MAX):
        count = min(len(ids) - start, _DOCUMENTS_MAX)
        rows = 1 << (count - 1).bit_length()
        values: list[str | None] = [None] * (2 * rows)
        values[0 : 2 * count : 2] = ids[start : start + count]
        values[1 : 2 * count : 2] = [text.decode() for text in documents[start : start + count]]
        connection.executemany(_put(rows), [values])


@functools.cache
def _put(rows: int) -> str:
    """Return what puts so many documents, a power of two: few texts, so each is compiled once."""
    values = ", ".join(["(?, ?)"] * rows)
    return (
        f"INSERT INTO task(id, doc) SELECT column1, column2 FROM (VALUES {values})"  # noqa: S608 - marks only
        " WHERE column1 IS NOT NULL ON CONFLICT(id) DO UPDATE SET doc = excluded.doc"
    )


def _release(connection: sqlite3.Connection, delivered: list[Delivered]) -> None:
    """Take delivered parents out of what their children's rows wait for.

    One statement a parent: an UPDATE changes a row once, however many of its parents are delivered.
    """
    by_parent: dict[str, list[tuple[str, str]]] = {}
    for row in (settled.row for settled in delivered):
        by_parent.setdefault(token_of_row(row), []).append((row.task_id, row.target))
    for parent, pairs in by_parent.items():
        connection.execute(
            "UPDATE parked SET after = trim(replace(',' || after || ',', ',' || ? || ',', ','), ',')"
            " FROM (SELECT value->>0 AS task_id, value->>1 AS target FROM json_each(?)) AS r"
            " WHERE parked.task_id = r.task_id AND parked.target = r.target AND parked.after <> ''",
            (parent, _encode(pairs).decode()),
        )


def _change_stored(
    connection: sqlite3.Connection, batch: Batch, counted: list[Delivered]
) -> list[dict[str, Any]]:
    """Fold late delivery, cancels and reasons into stored documents; return those that are settled by it."""
    late_ones = late_of(counted)
    ids = {late.task_id for late in late_ones} | {one.task_id for one in batch.noted} | batch.cancelled.keys()
    wanted = _encode(list(ids)).decode()
    rows = connection.execute(
        "SELECT id, doc FROM task WHERE id IN (SELECT value FROM json_each(?))", (wanted,)
    )
    stored = {task_id: msgspec.json.decode(doc) for task_id, doc in rows}
    stored = {task_id: doc for task_id, doc in stored.items() if not stored_documents.is_final(doc)}
    for late in late_ones:
        if late.task_id in stored:
            stored_documents.apply_late(stored[late.task_id], late)
    for noted in batch.noted:
        if noted.task_id in stored:
            stored_documents.note_waiting(stored[noted.task_id], noted)
    for task_id, at in batch.cancelled.items():
        if task_id in stored and not stored_documents.is_final(stored[task_id]):
            stored_documents.cancel_stored(stored[task_id], at)
    if stored:
        _put_documents(connection, {task_id: _encode(doc) for task_id, doc in stored.items()})
    return [doc for doc in stored.values() if stored_documents.is_final(doc)]


def _tell(connection: sqlite3.Connection, reports: list[tuple[str, Told]]) -> None:
    """Keep with stored tasks what became of their reports; a task that is not stored keeps it in memory."""
    wanted = _encode([task_id for task_id, _ in reports]).decode()
    rows = connection.execute(
        "SELECT id, doc FROM task WHERE id IN (SELECT value FROM json_each(?))", (wanted,)
    )
    stored = {task_id: msgspec.json.decode(doc) for task_id, doc in rows}
    for task_id, one in reports:
        if task_id in stored:
            told.tell(stored[task_id], one)
    if stored:
        _put_documents(connection, {task_id: _encode(doc) for task_id, doc in stored.items()})


def _put_callbacks(connection: sqlite3.Connection, callbacks: list[Callback], done: Committed) -> None:
    rows = connection.execute(
        "INSERT INTO callback(task_id, url, body) SELECT value->>1, value->>2, value->>3"
        " FROM json_each(?) WHERE true RETURNING key, task_id, url, body",
        (_encode(callbacks).decode(),),
    )
    done.callbacks = [Callback(*row) for row in rows.fetchall()]

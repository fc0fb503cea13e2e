"""How records look in Redis: entries of the journal, and what stands in a task's key while it is at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.errors import StoreError
from engine.tasks.records import FORMAT, Accepted, Callback
from engine.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Sequence

_encode = msgspec.msgpack.encode
_decode_task = msgspec.msgpack.Decoder(tuple[int, Accepted]).decode
_decode_callback = msgspec.msgpack.Decoder(tuple[int, str, str, str]).decode


class Live(msgspec.Struct, frozen=True):
    """What a task's key holds while an engine works on it."""

    consumer: str
    entry: str
    progress: bytes  #: JSON, a document; empty before the first one


class Entry(msgspec.Struct, frozen=True):
    """An entry of the journal, read."""

    id: str
    accepted: list[Accepted]
    callback: Callback | None


class Taken(msgspec.Struct):
    """An entry of the journal that is ours now."""

    region: int
    entry: Entry
    records: list[Accepted]  #: of tasks that have not settled
    progress: dict[str, bytes]
    plans: dict[bytes, bytes] = {}  #: key → text, of the plans that *records* name


def encode_task(record: Accepted) -> bytes:
    """Return a task as its journal entry holds it."""
    return _encode((FORMAT, record))


def encode_callback(callback: Callback) -> bytes:
    """Return a callback as its journal entry holds it."""
    return _encode((FORMAT, callback.task_id, callback.url, callback.body))


def journal_key(region: int, entry: str) -> str:
    """Return what the engine calls an entry."""
    return f"{region}:{entry}"


def written_at(entry: str) -> float:
    """Return when an entry was written, UNIX seconds by the server's clock."""
    return int(entry.partition("-")[0]) / 1000


def split_key(key: object) -> tuple[int, str]:
    """Return region and entry of a `journal_key`."""
    region, _, entry = str(key).partition(":")
    return int(region), entry


def read_entry(region: int, entry: bytes, fields: Sequence[bytes] | None) -> Entry:
    """Return what an entry holds; *fields* as Redis answers them.

    Raises:
        StoreError: it is of a later version, or is none of ours.
    """
    name = entry.decode()
    accepted: list[Accepted] = []
    callback = None
    for kind, data in zip(*[iter(fields or ())] * 2, strict=True):
        try:
            if kind == b"t":
                version, record = _decode_task(data)
                accepted.append(record)
            else:
                version, *rest = _decode_callback(data)
                callback = Callback(journal_key(region, name), *rest)
        except msgspec.DecodeError as exc:
            raise StoreError(f"journal entry {name} of region {region} cannot be read: {exc}") from exc
        if version > FORMAT + 1:
            raise StoreError(f"journal entry {name} is of a newer version of purgeline (format {version})")
    return Entry(name, accepted, callback)


def read_live(value: bytes) -> Live | None:
    """Return what stands in a task's key, or None when that is a document."""
    if not value.startswith(b"@"):
        return None
    consumer, _, rest = value[1:].partition(b" ")
    entry, _, progress = rest.partition(b" ")
    return Live(consumer.decode(), entry.decode(), progress)


class _Settled(msgspec.Struct):
    state: str = ""
    created_at: float = 0.0
    due_at: float = 0.0
    digest: str = ""
    token: str = ""
    updated_at: float = 0.0


_decode_settled: Final = msgspec.json.Decoder(_Settled).decode


def facts_of(document: bytes) -> _Settled:
    """Return what the store has to know of a document.

    Raises:
        StoreError: it is not one.
    """
    try:
        return _decode_settled(document)
    except msgspec.DecodeError as exc:
        raise StoreError(f"a document is not valid: {exc}") from exc


def bare_task(record: Accepted, _plan: bytes = b"") -> Task:
    """Return a task without what only the configuration tells: its targets, and its nodes."""
    task = Task.internal([], owner=None, task_id=record.id)
    task.created_at = task.updated_at = record.created_at
    task.token, task.by, task.rewind = record.token, record.by, record.rewind
    task.traceparent = record.traceparent
    return task


def bare_document(record: Accepted, _plan: bytes = b"") -> bytes:
    """Return a document without what only the configuration tells: layers and totals."""
    document: dict[str, Any] = {
        "task_id": record.id,
        "state": "accepted",
        "active": True,
        "working_layer": None,
        "total": 0,
        "counter": 0,
        "failed": 0,
        "delayed": 0,
        "layers": [],
        "created_at": record.created_at,
        "updated_at": record.created_at,
        "due_at": record.created_at + record.due_s,
        "errors": [],
        "by": msgspec.to_builtins(record.by),
    }
    if record.digest:
        document["digest"] = record.digest.hex()
    if record.token:
        document["token"] = record.token
    if record.retries:
        document["retries"] = record.retries
    if record.rewind:
        document["rewind"] = record.rewind
    if record.traceparent:
        document["traceparent"] = record.traceparent
    return msgspec.json.encode(document)

"""Records of settled tasks: what is written when tasks settle, and what blocks are made of. Pure.

Here they are read; `engine.tasks.packing` makes them.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import msgspec

from engine.errors import StoreError
from engine.tasks.settled import WIDE, SettledTasks, decode_changes, encode
from engine.tasks.words import Action, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from engine.tasks.settled import Change

_ACTIONS: Final = (Action.PURGE, Action.PREFETCH)


class Head(msgspec.Struct, array_like=True, frozen=True):
    """What tells whether a segment has what is wanted. Fields are only added."""

    first_at: float  #: when the first of its tasks was created, UNIX time
    last_at: float
    tasks: int
    actions: int  #: bits, by `action_bit`; and of the kind of its hashes, see `engine.tasks.hashes`
    states: int  #: bits, by `engine.tasks.settled.state_number`
    who: list[str]  #: tokens and addresses
    plans: list[bytes]  #: keys
    nodes: list[str]  #: those that no plan tells
    hosts: list[str]
    starts: list[str]  #: see `start_of`
    patterns: list[str]


class Segment(msgspec.Struct, array_like=True, frozen=True, tag="segment"):
    """Settled tasks, packed."""

    head: Head
    hashes: bytes
    body: bytes  #: `SettledTasks`, compressed


Record = SettledTasks | Segment
"""What is written when tasks settle."""

_SEGMENT: Final = encode("segment")  #: behind the first byte of one
_decode_record: Final = msgspec.msgpack.Decoder(Record).decode
_decode_tasks: Final = msgspec.msgpack.Decoder(SettledTasks).decode


def action_bit(action: str) -> int:
    """Return the bit of an action."""
    return 1 << _ACTIONS.index(Action(action))


def read_record(data: bytes) -> Record:
    """Return a record.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        return _decode_record(data)  # type: ignore[no-any-return]
    except msgspec.DecodeError as exc:
        raise StoreError(f"a record of the history cannot be read: {exc}") from exc


def readable(
    rows: Iterable[tuple[bool, bytes]], fail: Callable[[str], None]
) -> tuple[list[Record], list[Change]]:
    """Return the records, and the changes, of rows; *fail* is told of those that cannot be read.

    Args:
        rows: whether it holds changes, and what it holds.
        fail: takes a sentence.
    """
    records: list[Record] = []
    changes: list[Change] = []
    for is_change, data in rows:
        try:
            if is_change:
                changes += decode_changes(data)
            else:
                records.append(read_record(data))
        except (StoreError, msgspec.DecodeError) as exc:
            fail(f"a record of the history cannot be read: {exc}")
    return records, changes


def may_have(data: bytes, words: Sequence[bytes]) -> bool:
    """Tell whether a record that is not decoded yet may have one of *words*; without words it may.

    A question that looks for a URL decodes some of the thousands of small records.
    """
    return not words or data.startswith(_SEGMENT, 1) or any(word in data for word in words)


def wide_words() -> list[bytes]:
    """Return what a record has that has wide purges, see `may_have`."""
    return [encode(kind.value) for kind in WIDE]


def tasks_of(record: Record) -> SettledTasks:
    """Return the tasks of a record.

    Raises:
        StoreError: it cannot be read.
    """
    return unpacked(record.body) if isinstance(record, Segment) else record


def plans_of(record: Record) -> list[bytes]:
    """Return the keys of the plans that tasks of a record were accepted for."""
    if isinstance(record, Segment):
        return record.head.plans
    return [key for key in dict.fromkeys(shape.plan for shape in record.shapes) if key]


def readable_tasks(records: Iterable[Record], fail: Callable[[str], None]) -> list[SettledTasks]:
    """Return the tasks of records; *fail* is told of those that are damaged."""
    found: list[SettledTasks] = []
    for record in records:
        try:
            found.append(tasks_of(record))
        except StoreError as exc:
            fail(str(exc))
    return found


def start_of(kind: str, target: str) -> str:
    """Return what every URL begins with, without its scheme, that a prefix or host purge covers.

    Of a host pattern, ``*.example.com``, the pattern itself.
    """
    return target.partition("://")[2] if kind == Kind.PREFIX else target


def unpacked(body: bytes) -> SettledTasks:
    """Return the tasks of a segment's body.

    Raises:
        StoreError: it is damaged.
    """
    try:
        return _decode_tasks(zlib.decompress(body))
    except (zlib.error, msgspec.DecodeError) as exc:
        raise StoreError(f"a block of the history cannot be read: {exc}") from exc

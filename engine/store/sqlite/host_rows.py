"""Writing host-wide rows: in the place of others, and others in their place again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from engine.tasks.records import Parked, packed, rows_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.tasks.records import Delivered, Joined, ParkedRow, RowKey

_JOINABLE: Final = (
    "SELECT seq, operation, target, parked_at FROM parked WHERE seq IN (SELECT value FROM json_each(?))"
    " AND after = '' AND task_id IN (SELECT id FROM task) ORDER BY seq"
)
_ADD: Final = (
    "INSERT INTO host_row(node, operation, target, task_id, parked_at, place, stands_for)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_DROP: Final = "DELETE FROM parked WHERE seq IN (SELECT value FROM json_each(?))"
_DROP_HOSTS: Final = "DELETE FROM host_row WHERE seq IN (SELECT value FROM json_each(?))"
_PRESENT: Final = "SELECT 'h' || seq FROM host_row WHERE seq IN (SELECT value FROM json_each(?))"
DROP_HOSTS_OF: Final = "DELETE FROM host_row WHERE task_id IN (SELECT value FROM json_each(?))"
DROP_ORPHANED_HOSTS: Final = (
    "DELETE FROM host_row WHERE task_id IN (SELECT value FROM json_each(?))"
    " AND task_id NOT IN (SELECT id FROM task)"
)

_encode = msgspec.json.encode


def join(connection: sqlite3.Connection, joined: Sequence[Joined]) -> None:
    """Put a host-wide row in the place of the rows of each of *joined* that are still there.

    Tasks without a document may begin again from the journal, also in a version that knows no host-wide rows:
    theirs stay.
    """
    for one in joined:
        keys = _encode([row.key for row in one.rows]).decode()
        found = connection.execute(_JOINABLE, (keys,)).fetchall()
        if len(found) > 1:
            node, task_id = one.rows[0].node, one.rows[0].task_id
            parked_at = max(at for *_, at in found)
            stands_for = packed([(operation, target) for _, operation, target, _ in found])
            values = (node, one.operation, one.host, task_id, parked_at, found[-1][0], stands_for)
            connection.execute(_ADD, values)
            connection.execute(_DROP, (_encode([seq for seq, *_ in found]).decode(),))


def part(connection: sqlite3.Connection, rows: Sequence[ParkedRow]) -> list[Parked]:
    """Drop host-wide rows that are still there, and return what they stand for."""
    parted: list[Parked] = []
    present = present_hosts(connection, [row.key for row in rows])
    for row in rows:
        if row.key in present:
            parted += [
                Parked(one.node, one.operation, one.target, one.task_id, "", one.parked_at)
                for one in rows_of(row)
            ]
    drop_hosts(connection, list(present))
    return parted


def drop_hosts(connection: sqlite3.Connection, keys: Sequence[RowKey]) -> None:
    """Drop the host-wide rows among *keys*."""
    numbers = _numbers(keys)
    if numbers:
        connection.execute(_DROP_HOSTS, (_encode(numbers).decode(),))


def present_hosts(connection: sqlite3.Connection, keys: Sequence[RowKey]) -> set[RowKey]:
    """Return the keys of host-wide rows among *keys* that are still there."""
    numbers = _numbers(keys)
    if not numbers:
        return set()
    return {key for [key] in connection.execute(_PRESENT, (_encode(numbers).decode(),))}


def keys_of(delivered: Sequence[Delivered]) -> list[RowKey]:
    """Return the keys of delivered rows, each once."""
    return list(dict.fromkeys(settled.row.key for settled in delivered))


def _numbers(keys: Sequence[RowKey]) -> list[int]:
    return [int(key[1:]) for key in keys if isinstance(key, str)]

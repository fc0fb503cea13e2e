"""Host-wide rows in Redis: in the place of others, and others in their place again; each in one step.

A host-wide row is a member of ``host:NODE``, ``@OPERATION ID HOST STANDS_FOR``, with the place of the newest
row that it stands for. Versions before do not read that queue: they would take the row for one subtask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.errors import StoreError
from engine.store.redis.keys import member_of, queue_of
from engine.store.redis.script import Script
from engine.tasks.records import ParkedRow, packed, rows_of
from engine.tasks.words import WIDE

if TYPE_CHECKING:
    from engine.store.redis.keys import Keys
    from engine.store.redis.link import Link
    from engine.store.redis.script import Command
    from engine.tasks.records import Batch, Joined

MARK: Final = "@"
"""What the names of host-wide rows begin with."""

_JOIN: Final = Script(
    """
-- KEYS document, delay, wide, host, hosted; ARGV node, place, host-wide row, rows
-- Does nothing when one of the rows has gone, or their task has no document. Answers whether it was done.
-- A key that is emptied in a slot on the move is not found again, which breaks a script off: so all rows
-- leave a key at once, and their queue last. Rows that were joined and there too would count twice.
if redis.call('GETRANGE', KEYS[1], 0, 0) ~= '{' then return 0 end
for at = 4, #ARGV do
  if not redis.call('ZSCORE', KEYS[2], ARGV[at]) then return 0 end
end
redis.call('ZREM', KEYS[3], unpack(ARGV, 4))
redis.call('ZADD', KEYS[4], ARGV[2], ARGV[3])
redis.call('SADD', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[2], unpack(ARGV, 4))
return 1
"""
)
_PART: Final = Script(
    """
-- KEYS host, delay, wide, delayed; ARGV node, host-wide row, place, then per row: is wide, row
-- The rows come first: broken off, it has lost none.
if not redis.call('ZSCORE', KEYS[1], ARGV[2]) then return 0 end
for at = 4, #ARGV, 2 do
  redis.call('ZADD', KEYS[2], ARGV[3], ARGV[at + 1])
  if ARGV[at] == '1' then redis.call('ZADD', KEYS[3], ARGV[3], ARGV[at + 1]) end
end
redis.call('SADD', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[2])
return 1
"""
)


def write(link: Link, keys: Keys, batch: Batch, left: Batch) -> StoreError | None:
    """Join and part rows; return why some of it may not have been done, which goes into *left*.

    Doing it again is safe.
    """
    error: StoreError | None = None
    commands = [_join(keys, joined) for joined in batch.joined]
    commands += [_part(keys, row) for row in batch.parted]
    replies = link.run(commands, is_write=True, waits=False)  # nothing else of a commit waits for a slot
    for joined, reply in zip(batch.joined, replies, strict=False):
        if isinstance(reply, StoreError):
            error = reply
            left.joined.append(joined)
    for row, reply in zip(batch.parted, replies[len(batch.joined) :], strict=True):
        if isinstance(reply, StoreError):
            error = reply
            left.parted.append(row)
    return error


def read(node: str, member: str, at: float) -> ParkedRow:
    """Return the host-wide row of a member."""
    operation, task_id, host, stands_for = member[len(MARK) :].split(" ")
    return ParkedRow(member, at, node, int(operation), host, task_id, "", at, stands_for)


def is_host_row(row: ParkedRow) -> bool:
    """Tell whether a row is a host-wide one, or one of those that it stands for."""
    return isinstance(row.key, str) and row.key.startswith(MARK)


def _join(keys: Keys, joined: Joined) -> Command:
    first, newest = joined.rows[0], joined.rows[-1]
    node, task_id = first.node, first.task_id
    tag = keys.tags[keys.region(task_id)]
    stands_for = packed([(row.operation, row.target) for row in joined.rows])
    member = f"{MARK}{int(joined.operation)} {task_id} {joined.host} {stands_for}"
    names = (f"{queue}:{node}" for queue in ("delay", "wide", "host"))
    rows = [member_of(row.operation, task_id, row.target) for row in joined.rows]
    return _JOIN.call(
        [keys.task(task_id), *(tag + name for name in names), f"{tag}hosted"],
        [
            node,
            repr(newest.seq),
            member,
            *rows,
        ],
    )


def _part(keys: Keys, row: ParkedRow) -> Command:
    tag = keys.tags[keys.region(row.task_id)]
    words = []
    for one in rows_of(row):
        assert queue_of(one.operation, "") == "delay:"
        words += ["1" if one.operation in WIDE else "0", member_of(one.operation, one.task_id, one.target)]
    return _PART.call(
        [f"{tag}{queue}:{row.node}" for queue in ("host", "delay", "wide")] + [f"{tag}delayed"],
        [row.node, str(row.key), repr(row.seq), *words],
    )

"""Which shard an id belongs to. Stored data is laid out by these formulas, so they never change.

CRC-32, because ``hash(str)`` is salted per process.
"""

from __future__ import annotations

from zlib import crc32


def shard_of(task_id: str, count: int) -> int:
    """Return the number of a task's region, saver or Redis region, of *count*."""
    return crc32(task_id.encode()) % count


def slot_of(task_id: str, count: int) -> int:
    """Return the worker's slot of a task: other bits of the CRC than those that choose its region."""
    return (crc32(task_id.encode()) >> 16) % count

"""Shards: stored data is laid out by these numbers, so they never change."""

from __future__ import annotations

from zlib import crc32

from engine.tasks.shards import shard_of, slot_of

NAMES = [f"task-{number}" for number in range(1000)]


def test_the_shard_is_the_crc_of_the_id() -> None:
    assert [shard_of(name, 64) for name in NAMES] == [crc32(name.encode()) % 64 for name in NAMES]
    assert shard_of("a", 64) == 3
    assert shard_of("ä", 7) == crc32("ä".encode()) % 7


def test_one_shard_takes_everything() -> None:
    assert {shard_of(name, 1) for name in NAMES} == {slot_of(name, 1) for name in NAMES} == {0}


def test_slot_and_shard_are_told_by_different_bits() -> None:
    """So the tasks of one slot spread over all of its savers."""
    assert slot_of("a", 4) == (crc32(b"a") >> 16) % 4
    of_slot_0 = [name for name in NAMES if slot_of(name, 4) == 0]
    assert {shard_of(name, 4) for name in of_slot_0} == {0, 1, 2, 3}

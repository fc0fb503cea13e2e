"""Blocks of the history: some thousand settled tasks, packed, and what tells whether one is asked for. Pure.

Of each target a block has a hash, in their order: a question looks for four bytes among those of all
blocks, which a store does without unpacking any (``instr`` of SQLite, ``string.find`` of Redis' Lua), and
where they are tells which task it is. A hash that another target has too costs a look at that task, no more.
Purges that cover others by more than their name have lists of their own: the starts of URLs (prefixes and
hosts) by their CRC, regular expressions as they are.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

import msgspec

from engine.base.deflate import crc32
from engine.errors import StoreError
from engine.tasks.packing import segment_of
from engine.tasks.plan import read_plan
from engine.tasks.segments import Segment, unpacked
from engine.tasks.settled import SettledTasks, encode, joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from engine.tasks.segments import Record

FORMAT: Final = 1
ANYBODY: Final = "*"  #: no token and no address is called so
_WHO_MAX: Final = 256
_JOINED_MAX: Final = 65_535  #: tasks, which may all differ in their shape


class Block(msgspec.Struct, frozen=True):
    """A block as it is written."""

    first_at: float
    last_at: float
    tasks: int
    targets: int
    actions: int  #: bits, as in `Head`
    states: int
    who: list[str]  #: `ANYBODY` alone: too many
    nodes: list[str]  #: all that its tasks went to
    hosts: bytes  #: CRC-32 of each, see `crc_of`
    hashes: bytes  #: of each target, see `engine.tasks.hashes`
    starts: bytes  #: CRC-32 of each
    patterns: list[str]
    body: bytes


class Body(msgspec.Struct, array_like=True):
    """What a block holds. Fields are only added."""

    format: int
    segments: list[bytes]  #: bodies, in the order of the hashes
    plans: dict[bytes, bytes]  #: key → text


_decode_body: Final = msgspec.msgpack.Decoder(Body).decode


def close_block(records: Iterable[Record], plans: Mapping[bytes, bytes]) -> Block:
    """Return the block of some records, of which there is at least one.

    Args:
        records: in the order in which they were written.
        plans: key → text, of the plans that they name; those that are lost are left out.
    """
    segments: list[Segment] = []
    small: list[SettledTasks] = []
    for record in records:
        if isinstance(record, Segment):
            segments.append(record)
        else:
            small.append(record)
    segments += [segment_of(joined(part)) for part in _parts(small)]
    heads = [segment.head for segment in segments]
    hashes = b"".join([segment.hashes for segment in segments])
    kept = {key: plans[key] for head in heads for key in head.plans if key in plans}
    who = sorted({name for head in heads for name in head.who})
    return Block(
        first_at=min(head.first_at for head in heads),
        last_at=max(head.last_at for head in heads),
        tasks=sum(head.tasks for head in heads),
        targets=len(hashes) // 4,
        actions=_bits_of(head.actions for head in heads),
        states=_bits_of(head.states for head in heads),
        who=who if len(who) <= _WHO_MAX else [ANYBODY],
        nodes=sorted({name for head in heads for name in head.nodes} | _nodes(kept)),
        hosts=_crcs({host for head in heads for host in head.hosts}),
        hashes=hashes,
        starts=_crcs({start for head in heads for start in head.starts}),
        patterns=sorted({pattern for head in heads for pattern in head.patterns}),
        body=encode(Body(FORMAT, [segment.body for segment in segments], kept)),
    )


def _parts(records: Iterable[SettledTasks]) -> Iterator[list[SettledTasks]]:
    """Yield records, some at a time: a column of 16 bits says which shape each of their tasks has."""
    part: list[SettledTasks] = []
    tasks = 0
    for record in records:
        if part and tasks + len(record.ids) > _JOINED_MAX:
            yield part
            part, tasks = [], 0
        part.append(record)
        tasks += len(record.ids)
    if part:
        yield part


def open_body(body: bytes) -> tuple[Iterator[SettledTasks], dict[bytes, bytes]]:
    """Return what a block holds: tasks, part by part in the order of its hashes, and plans.

    Raises:
        StoreError: it is damaged, also while it is read; or of a version that this one cannot read.
    """
    try:
        found = _decode_body(body)
    except msgspec.DecodeError as exc:
        raise StoreError(f"a block of the history cannot be read: {exc}") from exc
    if found.format > FORMAT + 1:
        raise StoreError(f"a block of the history is of a newer version of purgeline ({found.format})")
    return map(unpacked, found.segments), found.plans


def _bits_of(each: Iterable[int]) -> int:
    bits = 0
    for one in each:
        bits |= one
    return bits


def _crcs(texts: Iterable[str]) -> bytes:
    return array("I", [crc32(text.encode()) for text in texts]).tobytes()


def _nodes(plans: Mapping[bytes, bytes]) -> set[str]:
    nodes: set[str] = set()
    for key, text in plans.items():
        try:
            nodes.update(step.node for step in read_plan(key, text).steps)
        except StoreError:  # its tasks are found by all but their nodes
            continue
    return nodes

"""Records of settled tasks: what is written when tasks settle, and what blocks are made of. Pure.

Tasks that settle together under load are packed when they are written (`Segment`): half of what is written
then, and a block is made of them without a look at what they hold. The few of a quiet moment are kept as they
are, and packed with others.
"""

from __future__ import annotations

import zlib
from array import array
from typing import TYPE_CHECKING, Final

import msgspec

from engine.base.deflate import compress
from engine.errors import StoreError
from engine.tasks.columns import columns_of, parts_of, sites_of, span_of
from engine.tasks.hashes import hashes_of_lines, sites_of_lines
from engine.tasks.settled import WIDE, Columns, SettledTasks, decode_changes, encode
from engine.tasks.words import Action, Kind, host_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from engine.tasks.settled import Change
    from engine.tasks.task import Task

_LEVEL: Final = 1  #: of zlib: 6 takes four times the time for an eighth less
_TARGETS_MAX: Final = 65_536  #: in one record; then another begins
PACKED_FROM: Final = 64  #: targets; fewer are packed later
_ACTIONS: Final = (Action.PURGE, Action.PREFETCH)
_STARTS: Final = frozenset({Kind.PREFIX, Kind.HOST})
_REGEX: Final = Kind.REGEX
_URL: Final = Kind.URL


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


def pack(tasks: list[Task]) -> list[tuple[int, bytes]]:
    """Return the records of tasks that are being stored, and of how many each is."""
    records = []
    for part, lines in parts_of(tasks, _TARGETS_MAX):
        columns = columns_of(part, lines)
        record: Record = columns
        if len(lines) >= PACKED_FROM:
            record = segment_of(columns, lines, sites_of(part), span_of(part))
        records.append((len(part), encode(record)))
    return records


def written(tasks: SettledTasks) -> bytes:
    """Return the record of tasks that have settled before."""
    return encode(segment_of(tasks) if tasks.targets.count("\n") + 1 >= PACKED_FROM else tasks)


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


def segment_of(
    tasks: SettledTasks,
    lines: list[str] | None = None,
    sites: Sequence[str] = (),
    span: tuple[float, float] | None = None,
) -> Segment:
    """Return tasks, packed.

    Args:
        tasks: that have settled.
        lines: their targets, where the caller has them one by one.
        sites: of those, where the caller knows them.
        span: when the first and the last of them was created, where the caller knows that.
    """
    created = array("d", tasks.created)
    first_at, last_at = (min(created), max(created)) if span is None else span
    states = tasks.states
    is_one = states.count(states[0]) == len(states)
    hashes, kind = hashes_of_lines(tasks.targets, lines, sites[0] if len(sites) == 1 else "")
    sites = sites or sites_of_lines(tasks.targets, lines)
    hosts, starts, patterns = _hosts_and_wide(tasks, sites)
    head = Head(
        first_at,
        last_at,
        len(created),
        bits_of(action_bit(shape.action) for shape in tasks.shapes) | kind,
        1 << states[0] if is_one else bits_of(1 << number for number in set(states)),
        list({name for shape in tasks.shapes for name in (shape.token, *shape.by[:2])} - {""}),
        plans_of(tasks),
        list({part.node for odd in tasks.odd.values() for part in odd.parts}),
        hosts,
        starts,
        patterns,
    )
    return Segment(head, hashes, compress(encode(tasks), _LEVEL))


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


def bits_of(each: Iterable[int]) -> int:
    """Return the bits of all."""
    bits = 0
    for one in each:
        bits |= one
    return bits


def _hosts_and_wide(tasks: SettledTasks, sites: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the hosts of all targets, the starts of wide purges, and the patterns, each once.

    Args:
        tasks: of the segment.
        sites: of their targets, as far as those are URLs.
    """
    if all(shape.kind == _URL for shape in tasks.shapes):
        return [*{site.partition("://")[2].rstrip("/") for site in sites}], [], []
    columns = Columns(tasks)
    hosts: set[str] = set()
    starts: set[str] = set()
    patterns: set[str] = set()
    for place in range(len(columns)):
        kind, targets = columns.shape(place).kind, columns.targets(place)
        hosts.update(map(host_of, targets))
        if kind in _STARTS:
            starts.update([start_of(kind, target) for target in targets])
        elif kind == _REGEX:
            patterns.update(targets)
    return [*hosts], [*starts], [*patterns]

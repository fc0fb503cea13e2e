"""Records of tasks that settle, and segments: what `engine.tasks.segments` reads. Compiled where it can be.

Tasks that settle together under load are packed when they are written (`Segment`): half of what is written
then, and a block is made of them without a look at what they hold. The few of a quiet moment are kept as they
are, and packed with others.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from engine.base.deflate import compress
from engine.tasks.columns import columns_of, parts_of, sites_of, span_of
from engine.tasks.hashes import hashes_of_lines, sites_of_lines
from engine.tasks.segments import Head, Record, Segment, action_bit, plans_of, start_of
from engine.tasks.settled import Columns, SettledTasks, encode
from engine.tasks.words import Kind, host_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.tasks.task import Task

_TARGETS_MAX: Final = 65_536  #: in one record; then another begins
PACKED_FROM: Final = 64  #: targets; fewer are packed later
_URL: Final = Kind.URL
_REGEX: Final = Kind.REGEX
_STARTS: Final = frozenset({Kind.PREFIX, Kind.HOST})


def pack(tasks: list[Task]) -> list[tuple[int, bytes]]:
    """Return the records of tasks that are being stored, and of how many each is."""
    records: list[tuple[int, bytes]] = []
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


def segment_of(
    tasks: SettledTasks,
    lines: list[str] | None = None,
    sites: list[str] | None = None,
    span: tuple[float, float] | None = None,
) -> Segment:
    """Return tasks, packed.

    Args:
        tasks: that have settled.
        lines: their targets, where the caller has them one by one.
        sites: of those, where the caller knows them.
        span: when the first and the last of them was created, where the caller knows that.
    """
    if span is None:
        created = array("d", tasks.created)
        span = min(created), max(created)
    hashes, kind = hashes_of_lines(tasks.targets, lines, sites[0] if sites and len(sites) == 1 else "")
    hosts, starts, patterns = _hosts_and_wide(tasks, sites or sites_of_lines(tasks.targets, lines))
    actions, who, nodes = kind, set[str](), set[str]()
    for shape in tasks.shapes:
        actions |= action_bit(shape.action)
        who.update((shape.token, *shape.by[:2]))
    for odd in tasks.odd.values():
        for part in odd.parts:
            nodes.add(part.node)
    who.discard("")
    head = Head(
        span[0],
        span[1],
        len(tasks.ids),
        actions,
        _bits_of_states(tasks.states),
        list(who),
        plans_of(tasks),
        list(nodes),
        hosts,
        starts,
        patterns,
    )
    return Segment(head, hashes, compress(encode(tasks)))


def _bits_of_states(states: bytes) -> int:
    first = states[0]
    if states.count(first) == len(states):
        return 1 << first
    bits = 0
    for number in set(states):
        bits |= 1 << number
    return bits


def _hosts_and_wide(tasks: SettledTasks, sites: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the hosts of all targets, the starts of wide purges, and the patterns, each once.

    Args:
        tasks: of the segment.
        sites: of their targets, as far as those are URLs.
    """
    for shape in tasks.shapes:
        if shape.kind != _URL:
            break
    else:
        return list({site.partition("://")[2].rstrip("/") for site in sites}), [], []
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
    return list(hosts), list(starts), list(patterns)

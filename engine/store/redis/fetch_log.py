"""The log of prefetches that all engines of one Redis write: what each begins, and what has ended.

A prefetch is written down before its request is sent, and the log is read after a purge was acked: whatever
can bring an old object back is in there by then. It is a stream in each of the first regions, told by the
host of the URL, so that with a master away only a part of the hosts waits.

A reader asks for what follows the last entry that it knows: one command. Is that entry not there any more
(it was cut off with age, or lost in a failover), it is given all there is, by a script. An empty stream is
given an entry that says nothing, so that there is one to know. The stream is cut by the server's clock, to
a length in time that every writer asks for and the longest of which counts.

Where replicas are waited for, each look writes something: a master that was cut off, and has a successor,
does not know what others have written there, and its word must not count.

Blocking, like the store; called by threads of the cluster's own.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zlib import crc32

from engine.errors import StoreError
from engine.store.redis.script import Script

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.store.redis.keys import Keys
    from engine.store.redis.link import Link
    from engine.store.redis.script import Command

COVERED_S: Final = 30.0
"""What was written so long ago, or less, is surely there: what is read covers that time."""
_KEPT_S: Final = 2 * COVERED_S  #: so long at least
_PARTS_MAX: Final = 4
_ENTRIES: Final = 500  #: of one answer
_NOTHING: Final = b'{"by":""}'  #: a change of nobody: any version reads it

_APPEND: Final = Script(
    """
-- KEYS stream, its length in time; ARGV that length in ms, mark, text
local keep, known = tonumber(ARGV[1]), tonumber(redis.call('GET', KEYS[2]) or '0')
if known > keep then keep = known else redis.call('SET', KEYS[2], ARGV[1], 'PX', 2 * keep) end
local time = redis.call('TIME')
local now, ahead = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), 0
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local last_ms = last and tonumber(string.match(last[1], '^%d+')) or 0
if last_ms > now then -- the clock was set back: the stream's own goes on, or nothing would be cut
  ahead = math.max(tonumber(last[2][6] or '0'), last_ms - now)
end
local function ms(number) return string.format('%.0f', number) end
local fields = {'m', ARGV[2], 't', ARGV[3]}
if ahead > 0 then fields[5], fields[6] = 'a', ms(ahead) end
local id = ahead > 0 and ms(now + ahead) .. '-*' or '*'
redis.call('XADD', KEYS[1], 'MINID', '=', ms(now + ahead - keep), id, unpack(fields))
redis.call('PEXPIRE', KEYS[1], keep)
"""
)
_READ: Final = Script(
    """
-- KEYS stream, one to write to; ARGV last known entry, its mark, count, whether to write; and mark, text and
-- time in ms of what is written where there is nothing. Answers the time, whether it goes on there, entries.
if ARGV[4] == '1' then redis.call('SET', KEYS[2], '', 'PX', 60000) end
local start = '-'
if ARGV[1] ~= '' then
  local last = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
  if last and last[2][2] == ARGV[2] then start = '(' .. ARGV[1] end
end
local goes_on = start == '-' and 0 or 1
local entries = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', ARGV[3])
if goes_on == 0 and #entries == 0 then -- a server that takes nothing more is read all the same
  local id = redis.pcall('XADD', KEYS[1], '*', 'm', ARGV[5], 't', ARGV[6])
  if type(id) == 'string' then
    redis.call('PEXPIRE', KEYS[1], ARGV[7])
    entries = {{id, {'m', ARGV[5], 't', ARGV[6]}}}
  end
end
return {redis.call('TIME'), goes_on, entries}
"""
)


class Position(NamedTuple):
    """The last entry that a reader knows; empty: none."""

    entry: str = ""
    mark: bytes = b""  #: differs from that of an entry with the same number after a failover


class Read(NamedTuple):
    """What follows a position."""

    goes_on: bool  #: that entry is still there, so nothing between is missing
    time_s: float | None  #: of the server's clock; None: it was not asked, since the log goes on
    position: Position  #: the last entry of these
    texts: list[bytes]


class FetchLog:
    """The log as one engine process reads and writes it.

    Args:
        link: to the servers.
        keys: names.
        consumer: name of this process, never used by another.
        longest_s: for which a prefetch of its own may count as under way.
    """

    def __init__(self, link: Link, keys: Keys, consumer: str, *, longest_s: float) -> None:
        self._link = link
        self._keys = keys
        self._consumer = consumer
        self._is_replicated = bool(link.replicas.wait)
        self._keep_ms = int((longest_s + _KEPT_S) * 1000)
        self._numbers = itertools.count(1)
        self.parts = min(_PARTS_MAX, keys.count)  #: streams

    def __repr__(self) -> str:
        return f"<FetchLog of {self._consumer} [{self.parts} parts]>"

    def part_of(self, host: str) -> int:
        """Return the number of the stream for a host."""
        return crc32(host.encode()) % self.parts

    def append(self, texts: Mapping[int, bytes]) -> set[int]:
        """Write a text into each of some parts; return the parts where that was done (and replicated)."""
        commands: list[Command] = []
        for part, text in texts.items():
            keys = [self._keys.underway(part), f"{self._keys.underway(part)}:kept"]
            commands.append(_APPEND.call(keys, [self._keep_ms, self._mark(), text]))
        replies = self._link.run(commands, is_write=True)
        return {part for part, reply in zip(texts, replies, strict=True) if not isinstance(reply, StoreError)}

    def read(self, positions: Mapping[int, Position]) -> dict[int, Read]:
        """Return what follows the positions in some parts; those that cannot be read are left out."""
        found: dict[int, Read] = {}
        asked = dict(positions)
        whole = {part for part, last in asked.items() if self._is_replicated or not last.entry}
        while asked:
            commands = [self._reading(part, last, part in whole) for part, last in asked.items()]
            replies = self._link.run(commands, is_write=self._is_replicated)
            again: dict[int, Position] = {}
            for (part, last), reply in zip(asked.items(), replies, strict=True):
                if isinstance(reply, StoreError):
                    found.pop(part, None)
                    continue
                page = _page(reply, last) if part in whole else _next_page(reply, last)
                if page is None:
                    again[part] = last
                    whole.add(part)
                    continue
                read, is_last = page
                found[part] = read if part not in found else _joined(found[part], read)
                if not is_last:
                    again[part] = read.position
            asked = again
        return found

    def _reading(self, part: int, last: Position, is_whole: bool) -> Command:
        key = self._keys.underway(part)
        if not is_whole:
            return ("XRANGE", key, last.entry, "+", "COUNT", _ENTRIES + 1)
        there = [last.entry, last.mark, _ENTRIES, int(self._is_replicated)]
        return _READ.call([key, f"{key}:looked"], [*there, self._mark(), _NOTHING, self._keep_ms])

    def _mark(self) -> str:
        """Return the mark of another entry of this process."""
        return f"{self._consumer} {next(self._numbers)}"


def _page(reply: Any, last: Position) -> tuple[Read, bool]:
    """Return what the script found, and whether that was all."""
    (seconds, micros), goes_on, entries = reply
    time_s = int(seconds) + int(micros) / 1e6
    return _read(entries, last if goes_on else Position(), bool(goes_on), time_s), len(entries) < _ENTRIES


def _next_page(entries: Any, last: Position) -> tuple[Read, bool] | None:
    """Return the same of the entries from the last known one on; None: that is not there any more."""
    if not entries or Position(entries[0][0].decode(), entries[0][1][1]) != last:
        return None
    return _read(entries[1:], last, True, None), len(entries) <= _ENTRIES


def _read(entries: Any, position: Position, goes_on: bool, time_s: float | None) -> Read:
    if entries:
        entry, fields = entries[-1]
        position = Position(entry.decode(), fields[1])
    return Read(goes_on, time_s, position, [fields[3] for _, fields in entries if fields[3] != _NOTHING])


def _joined(before: Read, then: Read) -> Read:
    """Return two pages as one. Was the first cut or lost meanwhile, the second is all there is."""
    texts = before.texts + then.texts if then.goes_on else then.texts
    time_s = before.time_s if then.time_s is None else then.time_s
    return then._replace(goes_on=before.goes_on and then.goes_on, texts=texts, time_s=time_s)

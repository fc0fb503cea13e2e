"""The journal in Redis: a stream per region, and a consumer of its group per engine process.

An entry is pending for the engine that accepted its tasks from the step that stored it, so that other engines
find it when that one dies.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.store.redis.keys import GROUP
from engine.store.redis.part import RedisPart
from engine.store.redis.records import written_at
from engine.store.redis.scripts import SEEN
from engine.store.store import AtWork
from engine.tasks.records import LastSeen, Pause, Silence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.store.redis.records import Entry
    from engine.tasks.records import Accepted
    from engine.tasks.task import Task

_ENTRIES: Final = 500  #: read at a time
_ENTRIES_AT_WORK: Final = 512  #: of all regions at a time
_BYTES_AT_WORK: Final = 1024**2  #: about, of what their tasks ask for: an answer is read in one turn


class RedisJournal(RedisPart):
    """The part of the store that reads the journal.

    Attributes:
        consumer: name of this engine process.
        task_of: makes a task of its record and the text of its plan.
    """

    consumer: str
    task_of: Callable[[Accepted, bytes], Task]

    def at_work(self, since: float, until: float = math.inf) -> Iterator[AtWork]:
        """See `Store.at_work`. Entries are read in a row, whoever has them: asking for each costs more."""
        low = _ms(since)
        highs = dict.fromkeys(
            range(self.keys.count), str(_ms(until))
        )  # region → what is read next ends there
        lasts: dict[int, float] = {}  # region → when the last one was written that was read
        count = 1  # of each region
        largest = 1  # bytes of an entry, of those that were read lately
        while highs:
            commands = [
                ("XREVRANGE", self.keys.streams[region], high, low, "COUNT", count)
                for region, high in highs.items()
            ]
            found: list[tuple[float, Accepted]] = []
            largest = max(1, largest // 2)
            for region, reply in zip(list(highs), self.readable(commands), strict=True):
                entries: list[Any] = reply or []
                for entry in self.read_entries(region, [[one] for one in entries]):
                    at = written_at(entry.id)
                    found += [(at, record) for record in entry.accepted]
                    largest = max(largest, sum(len(record.body) for record in entry.accepted))
                if len(entries) < count:
                    del highs[region]
                else:
                    last = entries[-1][0].decode()
                    highs[region], lasts[region] = f"({last}", written_at(last)
            yield AtWork(found, max((lasts[region] for region in highs), default=-math.inf))
            regions = len(highs) or 1
            count = max(1, min(2 * count, _BYTES_AT_WORK // (largest * regions), _ENTRIES_AT_WORK // regions))

    def tasks_of(self, accepted: Sequence[Accepted]) -> list[Task]:
        """See `Store.tasks_of`."""
        plans = self.plans(accepted)
        return [self.task_of(record, plans.get(record.plan, b"")) for record in accepted]

    def pending(self, region: int, consumer: str, *, idle_ms: int = 0) -> Iterator[list[str]]:
        """Yield ids of the entries that a consumer has in a region, oldest first, some at a time.

        Args:
            region: its number.
            consumer: its name.
            idle_ms: only those that were last claimed so long ago.
        """
        low = "-"
        idle = ("IDLE", idle_ms) if idle_ms else ()
        while True:
            reply = self.link.one(
                "XPENDING", self.keys.streams[region], GROUP, *idle, low, "+", _ENTRIES, consumer
            )
            if not reply:
                return
            yield [one[0].decode() for one in reply]
            if len(reply) < _ENTRIES:
                return
            low = f"({reply[-1][0].decode()}"

    def plans(self, accepted: Sequence[Accepted]) -> dict[bytes, bytes]:
        """See `Store.plans`. A plan is the same in every region."""
        regions = {record.plan: self.keys.region(record.id) for record in accepted if record.plan}
        texts = self.link.all([("GET", self.keys.plan(region, key)) for key, region in regions.items()])
        return {key: text for key, text in zip(regions, texts, strict=True) if text is not None}

    def last_seen(self) -> dict[str, LastSeen]:
        """See `Store.last_seen`: by the server's clock, but for what that is set forward by."""
        at_server, *found = self.link.one(*SEEN.call([self.keys.cluster("seen")], []))
        now = int(at_server) if self.now is None else min(int(at_server), int(self.now()))
        seen: dict[str, LastSeen] = {}
        for node, value in zip(*[iter(found)] * 2, strict=True):
            at, state, layer = value.decode().split(" ", 2)
            seen[node.decode()] = LastSeen(max(0.0, now - int(at)), layer, state == "g")
        return seen

    def pauses(self) -> dict[str, Pause]:
        """See `Store.pauses`."""
        found = (msgspec.json.decode(text, type=Pause) for text in self._values_of("paused"))
        return {pause.node: pause for pause in found}

    def silences(self) -> dict[str, Silence]:
        """See `Store.silences`."""
        found = (msgspec.json.decode(text, type=Silence) for text in self._values_of("silences"))
        return {silence.id: silence for silence in found}

    def _values_of(self, name: str) -> list[bytes]:
        """Return the values of one of the hashes of the cluster."""
        reply = self.link.one("HGETALL", self.keys.cluster(name))
        return list(reply.values() if isinstance(reply, dict) else reply[1::2])

    def entries(self, consumer: str) -> Iterator[tuple[int, Entry]]:
        """Yield region and entry of everything that a consumer has."""
        for region in range(self.keys.count):
            for ids in self.pending(region, consumer):
                stream = self.keys.streams[region]
                replies = self.link.all([("XRANGE", stream, entry, entry) for entry in ids])
                for entry in self.read_entries(region, replies):
                    yield region, entry


def _ms(at: float) -> int:
    """Return a time as ids of entries have it."""
    return int(min(max(0.0, at * 1000), 2.0**63))

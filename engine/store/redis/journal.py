"""The journal in Redis: a stream per region, and a consumer of its group per engine process.

An entry is pending for the engine that accepted its tasks from the step that stored it, so that other engines
find it when that one dies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.store.redis.keys import GROUP
from engine.store.redis.part import RedisPart
from engine.store.redis.scripts import SEEN
from engine.tasks.records import LastSeen, Pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.store.redis.records import Entry
    from engine.tasks.records import Accepted
    from engine.tasks.task import Task

_ENTRIES: Final = 500  #: read at a time


class RedisJournal(RedisPart):
    """The part of the store that reads the journal.

    Attributes:
        consumer: name of this engine process.
        task_of: makes a task of its record and the text of its plan.
    """

    consumer: str
    task_of: Callable[[Accepted, bytes], Task]

    def at_work(self, wants: Callable[[Accepted], bool]) -> list[Task]:
        """See `Store.at_work`: those of entries that other consumers have; some of them may have settled."""
        found: list[Task] = []
        replies = self.readable([("XPENDING", stream, GROUP) for stream in self.keys.streams])
        for region, reply in enumerate(replies):
            others = [name.decode() for name, _ in (reply and reply[3]) or ()]
            for consumer in others:
                if consumer != self.consumer:
                    found += self._at_work_of(region, consumer, wants)
        return found

    def _at_work_of(self, region: int, consumer: str, wants: Callable[[Accepted], bool]) -> list[Task]:
        stream = self.keys.streams[region]
        records: list[Accepted] = []
        for ids in self.pending(region, consumer):
            replies: list[Any] = self.link.all([("XRANGE", stream, entry, entry) for entry in ids])
            for entry in self.read_entries(region, replies):
                records += [record for record in entry.accepted if wants(record)]
        plans = self.plans(records)
        return [self.task_of(record, plans.get(record.plan, b"")) for record in records]

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
        reply = self.link.one("HGETALL", self.keys.cluster("paused"))
        texts = list(reply.values()) if isinstance(reply, dict) else reply[1::2]
        found = (msgspec.json.decode(text, type=Pause) for text in texts)
        return {pause.node: pause for pause in found}

    def entries(self, consumer: str) -> Iterator[tuple[int, Entry]]:
        """Yield region and entry of everything that a consumer has."""
        for region in range(self.keys.count):
            for ids in self.pending(region, consumer):
                stream = self.keys.streams[region]
                replies = self.link.all([("XRANGE", stream, entry, entry) for entry in ids])
                for entry in self.read_entries(region, replies):
                    yield region, entry

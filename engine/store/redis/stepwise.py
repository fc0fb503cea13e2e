"""Accepting tasks whose slot of a cluster is on its way from one server to another.

While it is, some keys are here and some are there, and a new one can only be made there: no script that
needs several of them runs anywhere (TRYAGAIN), however long one waits. Commands with one key do. So what
`ACCEPT` does in one step is done in several here, in an order in which each may be the last: what has its
journal entry is found and worked, also when nothing else of it was written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import TryAgainError

from engine.errors import StoreError
from engine.store.redis.keys import GROUP
from engine.store.redis.records import encode_task, journal_key
from engine.store.redis.script import Script
from engine.store.redis.scripts import ACK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.store.redis.keys import Keys
    from engine.store.redis.link import Link
    from engine.store.redis.script import Command
    from engine.tasks.records import Batch, Committed

_APPEND: Final = Script(
    """
-- KEYS stream; ARGV group, consumer, record. Answers the entry.
local id = redis.call('XADD', KEYS[1], '*', 't', ARGV[3])
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'FORCE', 'JUSTID')
return id
"""
)


def is_between_servers(error: StoreError) -> bool:
    """Tell whether a command failed because its keys are on two servers."""
    return isinstance(error.__cause__, TryAgainError)


class Stepwise:
    """Accepts some tasks of a batch, a key at a time.

    Args:
        link: to the servers.
        keys: names.
        consumer: name of this engine process.
        batch: what is written.
        done: told what came of it.
        plan_ms: a plan is kept so long.
    """

    def __init__(
        self, link: Link, keys: Keys, consumer: str, batch: Batch, done: Committed, *, plan_ms: int
    ) -> None:
        self._link = link
        self._keys = keys
        self._consumer = consumer
        self._batch = batch
        self._done = done
        self._plan_ms = plan_ms
        self._places: list[int] = []
        self._entries: dict[int, bytes] = {}

    def accept(self, places: Sequence[int]) -> None:
        """Accept the tasks at *places* of the batch, or note why not."""
        self._places = list(places)
        self._note_known(self._step([("GET", self._name(place)) for place in places]))
        self._step([self._plan(place) for place in self._places])
        entries = self._step([self._append(place) for place in self._places])
        self._entries = dict(zip(self._places, entries, strict=True))
        self._step([self._index(place) for place in self._places])
        stubs = [("SET", self._name(place), self._stub(place), "NX", "GET") for place in self._places]
        self._note_known(self._step(stubs))
        for place in self._places:
            self._done.journal[place] = journal_key(self._region(place), self._entries[place].decode())

    def _region(self, place: int) -> int:
        return self._keys.region(self._batch.accepted[place].id)

    def _name(self, place: int) -> str:
        return self._keys.task(self._batch.accepted[place].id)

    def _plan(self, place: int) -> Command:
        key = self._batch.accepted[place].plan
        if key not in self._batch.plans:
            return ("GET", self._name(place))
        name = self._keys.plan(self._region(place), key)
        return ("SET", name, self._batch.plans[key], "PX", self._plan_ms)

    def _append(self, place: int) -> Command:
        stream = self._keys.streams[self._region(place)]
        return _APPEND.call([stream], [GROUP, self._consumer, encode_task(self._batch.accepted[place])])

    def _index(self, place: int) -> Command:
        record = self._batch.accepted[place]
        name = f"{self._keys.tags[self._region(place)]}index"
        return ("ZADD", name, int(record.created_at * 1e6), record.id)

    def _stub(self, place: int) -> str:
        return f"@{self._consumer} {self._entries[place].decode()}"

    def _step(self, commands: list[Command]) -> list[Any]:
        """Send a command for each task; return the answers of those that go on.

        What is found is answered to clients, too: like what is written it counts when the replicas have it.
        """
        replies = self._link.run(commands, is_write=True) if commands else []
        failed = {
            place: reply
            for place, reply in zip(self._places, replies, strict=True)
            if isinstance(reply, StoreError)
        }
        for place, error in failed.items():
            self._done.refused[self._batch.accepted[place].id] = error
        self._places = [place for place in self._places if place not in failed]
        return [reply for reply in replies if not isinstance(reply, StoreError)]

    def _note_known(self, values: list[bytes | None]) -> None:
        """Leave out the tasks that another engine, or an earlier request, has stored: *values* are theirs."""
        known = {
            place: value
            for place, value in zip(self._places, values, strict=True)
            if value is not None and self._batch.accepted[place].digest
        }
        for place, value in known.items():
            self._done.known[self._batch.accepted[place].id] = ("", value)
        over: list[Command] = [
            ACK.call([self._keys.streams[self._region(place)]], [GROUP, self._consumer, self._entries[place]])
            for place in known
            if place in self._entries
        ]
        self._places = [place for place in self._places if place not in known]
        if over:
            self._link.run(over, is_write=True)

"""The side of a shared store: the journal of all its engines, whichever has an entry."""

from __future__ import annotations

import contextlib
import heapq
import itertools
from typing import TYPE_CHECKING, Any

import msgspec

from engine.cli.migration.side import PAGE, parked
from engine.errors import StoreError
from engine.tasks.records import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.store.history import History
    from engine.store.redis.store import RedisStore
    from engine.tasks.records import Accepted, Batch, Callback, Parked, Pause, Silence


class SharedSide:
    """A Redis as a side.

    Args:
        url: as it was given.
        store: made for this purpose; its consumer is dead when this is over, so any engine takes its entries.
    """

    is_shared = True

    def __init__(self, url: str, store: RedisStore) -> None:
        self.url = str(store.link.url)
        self.store = store

    def __repr__(self) -> str:
        return f"<SharedSide {self.url}>"

    @property
    def histories(self) -> Sequence[History]:
        """See `Side.histories`."""
        return self.store.histories

    def of(self, task_id: str) -> int:
        """See `Side.of`: the region."""
        return self.store.keys.region(task_id)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """See `Side.opened`."""
        self.store.open()
        try:
            self._check_unused()
            yield
        finally:
            self.store.close()

    def _check_unused(self) -> None:
        name, link = self.store.keys.cluster, self.store.link
        engines = [engine.decode() for engine in link.one("HKEYS", name("engines"))]
        beats = link.all([("EXISTS", name(f"beat:{engine}")) for engine in engines])
        alive = [engine for engine, beats in zip(engines, beats, strict=True) if beats]
        if alive:
            raise StoreError(f"{self.url}: engines are using it: {', '.join(alive)}; stop them first")

    def documents(self) -> Iterator[list[bytes]]:
        """See `Side.documents`; a task at work has none yet."""
        in_order = heapq.merge(*map(self._index, range(self.store.keys.count)))
        while ids := [task_id for _, task_id in itertools.islice(in_order, PAGE)]:
            values = self.store.values(ids).values()
            yield [value for value in values if value is not None and value.startswith(b"{")]

    def _index(self, region: int) -> Iterator[tuple[float, str]]:
        """Yield time and id of a region's tasks, the oldest first."""
        name = f"{self.store.keys.tags[region]}index"
        for start in itertools.count(0, PAGE):
            reply = self.store.link.one("ZRANGE", name, start, start + PAGE - 1, "WITHSCORES")
            for task_id, score in zip(*[iter(reply)] * 2, strict=True):
                yield float(score), task_id.decode()
            if len(reply) < 2 * PAGE:
                return

    def _entries(self, region: int) -> Iterator[Any]:
        stream, low = self.store.keys.streams[region], "-"
        while reply := self.store.link.one("XRANGE", stream, low, "+", "COUNT", PAGE):
            yield from self.store.read_entries(region, [[entry] for entry in reply])
            low = f"({reply[-1][0].decode()}"

    def unfinished(self) -> Iterator[list[Accepted]]:
        """See `Side.unfinished`. Of every engine."""
        for region in range(self.store.keys.count):
            for entry in self._entries(region):
                values = self.store.values([record.id for record in entry.accepted])
                yield [record for record in entry.accepted if not (values[record.id] or b"").startswith(b"{")]

    def plans(self, accepted: Sequence[Accepted]) -> dict[bytes, bytes]:
        """See `Side.plans`."""
        return self.store.plans(accepted)

    def nodes(self) -> list[str]:
        """See `Side.nodes`."""
        return sorted(self.store.depths())

    def rows(self, node: str) -> list[Parked]:
        """See `Side.rows`. What waits for which parents is told by its task."""
        rows = self.store.parked_of(node, self.store.depth(node).count)
        after: dict[str, str] = {}
        for task_id in dict.fromkeys(row.task_id for row in rows if row.after):
            tag = self.store.keys.tags[self.store.keys.region(task_id)]
            behind = self.store.link.one("HGETALL", f"{tag}behind:{task_id}")
            for text in list(behind.values() if isinstance(behind, dict) else behind[1::2]):
                for waiting, _, parents, member in msgspec.json.decode(text):
                    after[f"{waiting} {member}"] = parents
        return [parked(one, after=after.get(f"{node} {row.key}", "")) for row in rows for one in rows_of(row)]

    def callbacks(self) -> list[Callback]:
        """See `Side.callbacks`. Of every engine."""
        regions = range(self.store.keys.count)
        callbacks = (entry.callback for region in regions for entry in self._entries(region))
        return [callback for callback in callbacks if callback is not None]

    def pauses(self) -> list[Pause]:
        """See `Side.pauses`."""
        return list(self.store.pauses().values())

    def silences(self) -> list[Silence]:
        """See `Side.silences`."""
        return list(self.store.silences().values())

    def write(self, batch: Batch) -> None:
        """See `Side.write`."""
        done = self.store.commit(batch)
        if done.own_error is not None:
            raise done.own_error
        for error in done.refused.values():
            raise error

    def drop_rows(self) -> None:
        """See `Side.drop_rows`: a row written twice is one row, so there is nothing to drop."""

"""A whole store, read and written from outside of any engine, for `engine.migrate`.

The embedded one may be several files; a shared one is read over the heads of its engines: the journal of all
of them, whoever has an entry.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import re
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from engine.config.redis_url import SCHEMES
from engine.errors import ConfigError, StoreError
from engine.store.layout import LAYOUT, check_layout
from engine.store.redis.open import redis_store
from engine.store.redis.records import read_entry
from engine.store.sqlite.store import SqliteStore
from engine.tasks.records import Batch, Callback, Parked, ParkedRow
from engine.tasks.shards import shard_of, slot_of
from engine.tasks.words import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from engine.config.tables import Config
    from engine.store.redis.store import RedisStore
    from engine.store.store import Store
    from engine.tasks.records import Accepted

PAGE: Final = 500
_FIRST_PAGE: Final = 2**62
_LAYOUT = re.compile(r"workers=(\d+) saver_count=(\d+)\s*")


class _Facts(msgspec.Struct):
    task_id: str
    state: str


facts_of = msgspec.json.Decoder(_Facts).decode


class Side(Protocol):
    """One store as a whole. Every method raises `StoreError` when the store cannot do it."""

    url: str
    is_shared: bool

    def opened(self) -> contextlib.AbstractContextManager[None]:
        """Open all of it, and close it at the end; no engine may use it."""

    def documents(self) -> Iterator[list[bytes]]:
        """Yield pages of stored documents, the oldest first."""

    def unfinished(self) -> Iterator[list[Accepted]]:
        """Yield accepted tasks that have not settled."""

    def nodes(self) -> list[str]:
        """Return the nodes that have rows in delay queues."""

    def rows(self, node: str) -> list[Parked]:
        """Return a node's rows, oldest first, without those of tasks that begin again from the journal."""

    def callbacks(self) -> list[Callback]:
        """Return callbacks that were not delivered."""

    def write(self, batch: Batch) -> None:
        """Write *batch*, each record where it belongs."""

    def drop_rows(self) -> None:
        """Empty the delay queues."""


class EmbeddedSide:
    """The files of an embedded store.

    Args:
        url: as it was given.
        stores: the files.
        of: which of them a task is in.
    """

    is_shared = False

    def __init__(self, url: str, stores: Sequence[Store], of: Callable[[str], int]) -> None:
        self.url = url
        self.stores = stores
        self.of = of

    def __repr__(self) -> str:
        return f"<EmbeddedSide {self.url} [{len(self.stores)} files]>"

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """See `Side.opened`."""
        with contextlib.ExitStack() as stack:
            for store in self.stores:
                store.open()
                stack.callback(store.close)
            yield

    def documents(self) -> Iterator[list[bytes]]:
        """See `Side.documents`. By file."""
        for store in self.stores:
            starts = []
            before = _FIRST_PAGE
            while before:
                starts.append(before)
                _, before = store.documents(None, before, PAGE)
            for start in reversed(starts):
                found, _ = store.documents(None, start, PAGE)
                yield found[::-1]

    def unfinished(self) -> Iterator[list[Accepted]]:
        """See `Side.unfinished`."""
        for store in self.stores:
            yield from (records for _, records in store.journal())

    def nodes(self) -> list[str]:
        """See `Side.nodes`."""
        return sorted({node for store in self.stores for node in store.depths()})

    def rows(self, node: str) -> list[Parked]:
        """See `Side.rows`. By file."""
        found = []
        for store in self.stores:
            without = set(store.orphans())
            rows = store.parked_of(node, store.depth(node).count)
            found += [parked(row) for row in rows if row.task_id not in without]
        return found

    def callbacks(self) -> list[Callback]:
        """See `Side.callbacks`."""
        return [one for store in self.stores for one in store.pending_callbacks()]

    def write(self, batch: Batch) -> None:
        """See `Side.write`."""
        parts = [Batch() for _ in self.stores]
        for record in batch.accepted:
            parts[self.of(record.id)].accepted.append(record)
        for task_id, document in batch.documents.items():
            parts[self.of(task_id)].documents[task_id] = document
        for row in batch.parked:
            parts[self.of(row.task_id)].parked.append(row)
        for one in batch.callbacks:
            parts[self.of(one.task_id)].callbacks.append(one)
        for store, part in zip(self.stores, parts, strict=True):
            store.commit(part)

    def drop_rows(self) -> None:
        """See `Side.drop_rows`."""
        for store in self.stores:
            for node, depth in store.depths().items():
                ids = list({row.task_id for row in store.parked_of(node, depth.count)})
                for place in range(0, len(ids), PAGE):
                    store.commit(Batch(unparked_tasks=ids[place : place + PAGE]))


class SharedSide:
    """A Redis.

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
        engines = [one.decode() for one in link.one("HKEYS", name("engines"))]
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
            for entry in reply:
                yield read_entry(region, *entry)
            low = f"({reply[-1][0].decode()}"

    def unfinished(self) -> Iterator[list[Accepted]]:
        """See `Side.unfinished`. Of every engine."""
        for region in range(self.store.keys.count):
            for entry in self._entries(region):
                values = self.store.values([record.id for record in entry.accepted])
                yield [one for one in entry.accepted if not (values[one.id] or b"").startswith(b"{")]

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
        return [parked(row, after=after.get(f"{node} {row.key}", "")) for row in rows]

    def callbacks(self) -> list[Callback]:
        """See `Side.callbacks`. Of every engine."""
        found = (entry.callback for region in range(self.store.keys.count) for entry in self._entries(region))
        return [callback for callback in found if callback is not None]

    def write(self, batch: Batch) -> None:
        """See `Side.write`."""
        done = self.store.commit(batch)
        if done.own_error is not None:
            raise done.own_error
        for error in done.refused.values():
            raise error

    def drop_rows(self) -> None:
        """See `Side.drop_rows`: a row written twice is one row, so there is nothing to drop."""


def parked(row: ParkedRow, *, after: str | None = None) -> Parked:
    """Return a row as it was parked."""
    waits_for = row.after if after is None else after
    return Parked(row.node, row.operation, row.target, row.task_id, waits_for, row.parked_at)


def settled_state(document: bytes) -> bytes:
    """Return a document of a task that waits for nothing but unreachable nodes, before its time is up.

    A shared store has such ones, and says when their time is up; an embedded one calls them partial.
    """
    if facts_of(document).state != State.RUNNING:
        return document
    return msgspec.json.encode({**msgspec.json.decode(document), "state": State.PARTIAL.value})


def open_side(url: str, config: Config, folder: Path, *, is_target: bool, workers: int | None = None) -> Side:
    """Return the side that *url* names, not open yet.

    Args:
        url: ``sqlite:`` for the files in *folder*, ``sqlite:DIR`` for those of another folder, or a Redis.
        config: of the engine; the target gets its number of savers or regions, and ``[store]`` holds for it.
        folder: the engine's ``data_dir``.
        is_target: it may be made.
        workers: of the engine that a target of files is for; None: 1, unless there are files already.

    Raises:
        ConfigError: the URL is not known.
        StoreError: there is no store, or the target is of another number of files.
    """
    scheme, _, rest = url.partition(":")
    if scheme in SCHEMES:
        try:
            store = redis_store(
                url,
                "migrate",
                region_count=config.store.region_count,
                prefix=config.store.prefix,
                timeout_s=config.store.timeout_s,
                connections_max=config.store.connections_max,
                wait_replicas=config.store.wait_replicas,
                retention_s=config.engine.retention_days * 86400,
            )
        except ValueError as exc:
            raise ConfigError(f"{url!r}: {exc}") from exc
        return SharedSide(url, store)
    if scheme != "sqlite":
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ConfigError(f"{url!r} is no store; known: sqlite:, sqlite:DIR, {known}")
    place = folder / rest if rest else folder
    if is_target and (workers is not None or not (place / LAYOUT).exists()):
        check_layout(place, workers or 1, config.engine.saver_count)
    slots, savers = _layout(place)
    stores = [SqliteStore(place / f"tasks-{number}.db") for number in range(slots * savers)]

    def of(task_id: str) -> int:
        slot = slot_of(task_id, slots) if slots > 1 else 0
        return slot * savers + (shard_of(task_id, savers) if savers > 1 else 0)

    return EmbeddedSide(url, stores, of)


def _layout(place: Path) -> tuple[int, int]:
    """Return how many workers and savers the files are of."""
    path = place / LAYOUT
    if not path.exists():
        raise StoreError(f"{place}: there is no embedded store (no {path.name} file)")
    try:
        found = _LAYOUT.fullmatch(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise StoreError(f"{path}: cannot be read: {exc}") from exc
    if found is None:
        raise StoreError(f"{path}: is not what an engine writes there")
    return int(found[1]), int(found[2])

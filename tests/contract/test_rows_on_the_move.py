"""Rows that move while a task is changed: into another row, or with their slot; or whose server fails then.

A key of a cluster that a script empties is not found again while its slot is on the move.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from engine.errors import StoreError
from engine.saver.saver import Saver
from engine.saver.sinks import Sinks
from engine.store.redis.open import redis_store
from engine.store.redis.queues import RedisQueues
from engine.tasks.records import Accepted, Batch, Delivered, Joined, Parked, rows_of
from engine.tasks.words import Operation
from tests.rigs.redis_servers import RedisCluster
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from engine.store.redis.rows import Row
    from engine.store.redis.store import RedisStore

pytestmark = pytest.mark.redis
URLS = [f"http://a.com/{number}" for number in range(4)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


def opened(cluster: RedisCluster, tmp_path: Path, *, last_other: Parked) -> RedisStore:
    """Return a store with a task of four URLs and a prefix, in a slot in which every key is there."""
    store = redis_store(cluster.url, "engine", region_count=1, prefix=tmp_path.name)
    store.open()
    rows = [Parked("n", int(Operation.PURGE_PREFIX), "http://a.com/i/", "t", "", 1.0)]
    rows += [Parked("n", int(Operation.PURGE_URL), url, "t", "", 2.0 + at) for at, url in enumerate(URLS)]
    behind = Parked("below", int(Operation.PURGE_URL), "http://a.com/else", "t", "n", 9.0)
    layer = {"name": "edge", "total": 6, "counter": 0, "failed": 0, "delayed": 6}
    made = {"task_id": "t", "state": "partial", "counter": 0, "failed": 0, "delayed": 6, "layers": [layer]}
    document = json.dumps({**made, "created_at": 1.0, "updated_at": 1.0, "errors": []}).encode()
    store.commit(Batch(documents={"t": document}, parked=[*rows, behind]))
    store.commit(Batch(parked=[last_other]))
    tag = store.keys.tags[0]
    store.link.one("SET", f"{tag}fence", "1", is_write=True)
    store.link.one("ZADD", f"{tag}due", 1.0, "other", is_write=True)
    return store


@contextlib.contextmanager
def moving(cluster: RedisCluster, store: RedisStore) -> Iterator[None]:
    slot = cluster.slot_of(store.keys.task("t"))
    to = next(server for server in cluster.masters() if server is not cluster.owner(slot))
    cluster.begin_move(slot, to)
    yield
    cluster.move_keys(slot, to)
    cluster.finish_move(slot, to)


def joined(store: RedisStore) -> Joined:
    rows = [row for row in store.oldest_parked("n", 10) if row.task_id == "t"]
    return Joined(rows, int(Operation.PURGE_HOST), "a.com")


def test_a_task_that_was_stored_before_is_known_when_the_replicas_have_it(
    cluster: RedisCluster, tmp_path: Path
) -> None:
    store = redis_store(
        cluster.url, "engine", region_count=1, prefix=tmp_path.name, wait_replicas=1, timeout_s=1
    )
    store.open()
    known, new = (Accepted(name, 1.0, 60.0, b"d" * 16, b"{}") for name in ("t", "u"))
    store.commit(Batch(accepted=[known]))
    server = cluster.owner(cluster.slot_of(store.keys.task("t")))
    [replica] = [one for one in cluster.servers if one.info("replication").get("master_port") == server.port]
    names = (f"other-{number}" for number in range(100))
    beside = next(name for name in names if cluster.owner(cluster.slot_of(name)) is server)
    with moving(cluster, store):
        replica.pause()
        server.ask("SET", beside, "what the replica has not got")
        try:
            done = store.commit(Batch(accepted=[known, new]))
        finally:
            replica.resume()
        assert (set(done.refused), done.known) == ({"t", "u"}, {})
        wait_until(lambda: "t" in store.commit(Batch(accepted=[known, new])).known, what="the replica")


def test_rows_are_not_both_joined_and_there(cluster: RedisCluster, tmp_path: Path) -> None:
    store = opened(cluster, tmp_path, last_other=Parked("n", 1, "http://b.com/", "u", "", 5.0))
    tag = store.keys.tags[0]
    store.link.one("ZADD", f"{tag}host:n", 0.5, "@4 u b.com x", is_write=True)
    store.link.one("SADD", f"{tag}hosted", "n", is_write=True)
    batch = Batch(joined=[joined(store)])
    with moving(cluster, store), contextlib.suppress(StoreError):
        store.commit(batch)
    hosts = store.link.one("ZRANGE", f"{tag}host:n", 0, -1)
    rows = store.link.one("ZRANGE", f"{tag}delay:n", 0, -1)
    asked = [row for row in rows if b" t " in row]
    assert (len(hosts), len(asked)) in {(1, 5), (2, 0)}, "each is asked for once"


def test_what_a_host_wide_row_stands_for_is_counted_when_the_row_goes(
    cluster: RedisCluster, tmp_path: Path
) -> None:
    store = opened(cluster, tmp_path, last_other=Parked("n", 1, "http://b.com/", "u", "", 5.0))
    store.commit(Batch(joined=[joined(store)]))
    [host] = store.host_rows("n", 10)
    batch = Batch(delivered=[Delivered(one, "edge", 2.0) for one in rows_of(host)])
    with moving(cluster, store), contextlib.suppress(StoreError):
        store.commit(batch)
    found = json.loads(store.document("t") or b"")
    left = len(store.host_rows("n", 10))
    assert (found["counter"], found["delayed"], left) in {(0, 6, 1), (5, 1, 0)}


def test_a_row_that_counts_is_lost_in_no_slot_on_the_move(cluster: RedisCluster, tmp_path: Path) -> None:
    """The first delivery lets go the last row that waits for a parent; of the second nothing waited."""
    store = redis_store(cluster.url, "engine", region_count=1, prefix=tmp_path.name)
    store.open()
    tag = store.keys.tags[0]
    purge = int(Operation.PURGE_URL)
    rows = [Parked("n", purge, url, "t", "", 1.0 + at) for at, url in enumerate(URLS[:3])]
    behind = Parked("below", purge, URLS[0], "t", "n", 9.0)
    layer = {"name": "edge", "total": 4, "counter": 0, "failed": 0, "delayed": 4}
    made = {"task_id": "t", "state": "partial", "counter": 0, "failed": 0, "delayed": 4, "layers": [layer]}
    document = json.dumps({**made, "created_at": 1.0, "updated_at": 1.0, "errors": []}).encode()
    store.commit(Batch(documents={"t": document}, parked=[*rows, behind]))
    store.link.one("SET", f"{tag}fence", "1", is_write=True)
    for name in ("due", *(f"{queue}:below" for queue in ("delay", "fetch", "wait", "host", "wide"))):
        store.link.one("ZADD", f"{tag}{name}", 1.0, "1 other http://b.com/", is_write=True)
    batch = Batch(delivered=[Delivered(row, "edge", 2.0) for row in store.oldest_parked("n", 10)])
    with moving(cluster, store), contextlib.suppress(StoreError):
        store.commit(batch)
    found = json.loads(store.document("t") or b"")
    left = len(store.oldest_parked("n", 10))
    assert (found["counter"], found["delayed"], left) in {(0, 4, 3), (3, 1, 0)}
    store.commit(batch)
    assert json.loads(store.document("t") or b"")["counter"] == 3
    assert [row.target for row in store.oldest_parked("below", 10) if row.task_id == "t"] == [URLS[0]]


@pytest.mark.parametrize("parts", [False, True])
def test_a_cancel_takes_rows_along_that_are_joined_or_parted_meanwhile(
    cluster: RedisCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, parts: bool
) -> None:
    """Another engine does that when the rows of the task have been read, and before they are dropped."""
    store = opened(cluster, tmp_path, last_other=Parked("n", 1, "http://b.com/", "u", "", 5.0))
    other = redis_store(cluster.url, "other", region_count=1, prefix=tmp_path.name)
    other.open()
    if parts:
        other.commit(Batch(joined=[joined(other)]))
    read = RedisQueues.rows_of_tasks
    changes = [Batch(parted=other.host_rows("n", 1)) if parts else Batch(joined=[joined(other)])]

    def read_and_changed(queues: RedisQueues, task_ids: Iterable[str]) -> dict[str, list[Row]]:
        found = read(queues, task_ids)
        if changes:
            other.commit(changes.pop())
        return found

    monkeypatch.setattr(RedisQueues, "rows_of_tasks", read_and_changed)
    store.commit(Batch(cancelled={"t": 2.0}))
    assert json.loads(store.document("t") or b"")["state"] == "cancelled"
    assert [row.target for row in store.parked_of("n", 10)] == ["http://b.com/"]


def test_a_row_goes_with_no_document_but_the_one_that_was_read(
    cluster: RedisCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was read from a server that had counted the row, and was the master no more; what is, has not."""
    store = redis_store(cluster.url, "engine", region_count=1, prefix=tmp_path.name)
    store.open()
    layer = {"name": "edge", "total": 1, "counter": 0, "failed": 0, "delayed": 1}
    made = {"task_id": "t", "state": "partial", "counter": 0, "failed": 0, "delayed": 1, "layers": [layer]}
    document = json.dumps({**made, "created_at": 1.0, "updated_at": 1.0, "errors": []}).encode()
    store.commit(
        Batch(
            documents={"t": document}, parked=[Parked("n", int(Operation.PURGE_URL), URLS[0], "t", "", 1.0)]
        )
    )
    [row] = store.oldest_parked("n", 10)
    told = Batch(delivered=[Delivered(row, "edge", 2.0)])
    store.commit(told)
    read = RedisQueues.queues_behind
    masters = iter([0])

    def read_before_a_failover(queues: RedisQueues, by_task: Any) -> Any:
        found = read(queues, by_task)
        for _ in masters:
            store.link.one("SET", store.keys.task("t"), document, is_write=True)
            store.link.one("ZADD", f"{store.keys.tags[0]}delay:n", 1.0, row.key, is_write=True)
        return found

    monkeypatch.setattr(RedisQueues, "queues_behind", read_before_a_failover)
    store.commit(told)  # nobody has answered that it counts
    assert json.loads(store.document("t") or b"")["state"] == "done"
    assert store.oldest_parked("n", 10) == []


async def test_a_row_told_while_its_server_is_away_and_then_again_is_counted_once(
    cluster: RedisCluster, tmp_path: Path
) -> None:
    """The server is there again before the saver tries again; a prefetch waits for the purge."""
    store = redis_store(cluster.url, "engine", region_count=16, prefix=tmp_path.name, timeout_s=0.2)
    store.open()
    purge = Parked("n", int(Operation.PURGE_URL), URLS[0], "t", "", 1.0)
    prefetch = Parked("n", int(Operation.PREFETCH), URLS[0], "t", "n", 1.0)
    layer = {"name": "edge", "total": 2, "counter": 0, "failed": 0, "delayed": 2}
    made = {"task_id": "t", "state": "partial", "counter": 0, "failed": 0, "delayed": 2, "layers": [layer]}
    document = json.dumps({**made, "created_at": 1.0, "updated_at": 1.0, "errors": []}).encode()
    store.commit(Batch(documents={"t": document}, parked=[purge, prefetch]))
    told = [Delivered(row, "edge", 2.0) for row in store.oldest_parked("n", 10)]
    sinks = Sinks(_nothing, _nothing, _nothing)
    saver = Saver(store, asyncio.get_running_loop(), sinks, backlog_count=1, push_timeout_s=1)
    saver.start()
    goes_on = asyncio.Event()
    server = cluster.owner(cluster.slot_of(store.keys.task("t")))
    server.pause()
    saver.deliver(told, goes_on.set)
    await asyncio.wait_for(goes_on.wait(), 10)
    server.resume()
    # The loop stands meanwhile: the saver's next attempt comes after this.
    again = wait_until(lambda: store.oldest_parked("n", 10), what="the row")
    saver.deliver([Delivered(row, "edge", 3.0) for row in again], _nothing)
    await saver.flushed(10)
    found = json.loads(store.document("t") or b"")
    assert (found["counter"], found["delayed"], found["state"]) == (1, 1, "partial")
    assert [row.operation for row in store.oldest_parked("n", 10)] == [Operation.PREFETCH]
    saver.stop()
    store.close()


def _nothing(*_: object) -> None:
    """Tell nobody."""

"""Rows that Redis has evicted: what stored tasks counted them for fails, and nothing else does."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from engine.errors import StoreError
from engine.store.redis.missing_rows import MissingRows
from engine.store.redis.open import redis_store
from engine.store.redis.store import RedisStore
from engine.tasks.records import Batch, Joined, Parked, Sighting
from engine.tasks.words import Operation
from tests.rigs.redis_servers import RedisServer
from tests.waiting import wait_until

pytestmark = pytest.mark.redis
TAG = "purgeline:{region-00}:"
URL = Operation.PURGE_URL


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as made:
        yield made


@pytest.fixture
def store(server: RedisServer) -> Iterator[RedisStore]:
    server.flush()
    with contextlib.closing(redis_store(server.url, "e", region_count=1)) as made:
        made.open()
        made.commit(
            Batch(sightings=[Sighting("p1", "parent"), Sighting("e1", "edge"), Sighting("e2", "edge")])
        )
        yield made


def put(store: RedisStore, name: str, **layers: list[Parked]) -> None:
    """Store a task that waits for rows, by layer."""
    counts = {layer: len(rows) for layer, rows in layers.items()}
    document = {
        "task_id": name,
        "state": "partial",
        "active": True,
        "working_layer": next(iter(layers)),
        "total": sum(counts.values()) + 1,
        "counter": 1,
        "failed": 0,
        "delayed": sum(counts.values()),
        "layers": [
            {
                "name": layer,
                "total": count + (layer == "edge"),
                "counter": layer == "edge",
                "failed": 0,
                "delayed": count,
            }
            for layer, count in counts.items()
        ],
        "created_at": 10.0,
        "updated_at": 10.0,
        "due_at": 70.0,
        "errors": [],
        "callback": "http://127.0.0.1:1/",
    }
    rows = [row for of_layer in layers.values() for row in of_layer]
    store.commit(Batch(documents={name: json.dumps(document).encode()}, parked=rows))


def row(node: str, target: str, task: str, after: str = "") -> Parked:
    return Parked(node, int(URL), f"http://a/{target}", task, after, 0.0)


def look(store: RedisStore, *configured: str) -> Any:
    return MissingRows(store).look(0, configured, now=50.0, fence=0)


def shown(store: RedisStore, name: str) -> dict[str, Any]:
    return dict(json.loads(store.document(name) or b""))


def test_as_long_as_all_rows_are_there_nothing_changes(store: RedisStore) -> None:
    put(store, "t", parent=[row("p1", "x", "t")], edge=[row("e1", "x", "t", "p1"), row("e2", "y", "t")])
    put(store, "h", edge=[row("e1", str(number), "h") for number in range(3)])
    rows = [one for one in store.parked_of("e1", 10) if one.task_id == "h"]
    store.commit(Batch(joined=[Joined(rows[:2], int(Operation.PURGE_HOST), "a")]))
    assert len(store.host_rows("e1", 10)) == 1
    before = [store.document("t"), store.document("h")]
    assert look(store).subtasks == 0
    assert [store.document("t"), store.document("h")] == before


def test_what_one_server_lacks_fails_on_no_other(
    store: RedisStore, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failover in the midst of a look, to a server that has not heard yet that the row was delivered."""
    put(store, "t", edge=[row("e1", "x", "t")])
    [there] = store.parked_of("e1", 10)
    server.ask("DEL", f"{TAG}delay:e1")
    read = MissingRows._rows

    def read_before_a_failover(*args: Any) -> Any:
        found = read(*args)
        server.ask("ZADD", f"{TAG}delay:e1", 1, there.key)
        server.restart()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(MissingRows, "_rows", read_before_a_failover)
        with pytest.raises(StoreError):
            look(store)
    assert wait_until(lambda: look(store), errors=(StoreError,)).subtasks == 0
    assert shown(store, "t")["delayed"] == 1


def test_what_an_evicted_queue_held_fails_and_the_rest_goes_on(
    store: RedisStore, server: RedisServer
) -> None:
    put(store, "one", edge=[row("e1", "x", "one"), row("e1", "y", "one")])
    put(store, "two", edge=[row("e1", "x", "two"), row("e2", "x", "two")])
    put(store, "other", edge=[row("e2", "z", "other")])
    server.ask("DEL", f"{TAG}delay:e1")
    found = look(store)
    assert (found.subtasks, [document["state"] for document in found.settled]) == (3, ["failed"])
    assert [callback.task_id for callback in found.callbacks] == ["one"]
    one, two = shown(store, "one"), shown(store, "two")
    assert (one["state"], one["failed"], one["delayed"], one["active"]) == ("failed", 2, 0, False)
    assert "2 subtasks: lost: their rows are not in Redis any more" in one["errors"][0]["reason"]
    assert (two["state"], two["failed"], two["delayed"]) == ("partial", 1, 1)
    assert shown(store, "other")["delayed"] == 1
    assert look(store).subtasks == 0


def test_what_waits_for_an_evicted_row_goes_on(store: RedisStore, server: RedisServer) -> None:
    put(store, "t", parent=[row("p1", "x", "t")], edge=[row("e1", "x", "t", "p1"), row("e2", "x", "t", "p1")])
    server.ask("DEL", f"{TAG}delay:p1")
    assert look(store).subtasks == 1
    assert [layer["failed"] for layer in shown(store, "t")["layers"]] == [1, 0]
    assert [len(store.oldest_parked(node, 10)) for node in ("e1", "e2")] == [1, 1]
    assert store.nodes_behind() == []


def test_rows_of_which_nobody_knows_any_more_for_what_they_wait_fail(
    store: RedisStore, server: RedisServer
) -> None:
    put(store, "t", parent=[row("p1", "x", "t")], edge=[row("e1", "x", "t", "p1")])
    server.ask("DEL", f"{TAG}behind:t")
    assert look(store).subtasks == 1
    assert [layer["failed"] for layer in shown(store, "t")["layers"]] == [0, 1]
    assert store.parked_of("e1", 10) == []
    assert len(store.oldest_parked("p1", 10)) == 1


def test_a_queue_is_found_again_when_the_set_that_names_it_was_evicted(
    store: RedisStore, server: RedisServer
) -> None:
    put(store, "t", edge=[row("e1", "x", "t")])
    server.ask("DEL", f"{TAG}delayed", "purgeline:{cluster}:seen")
    assert store.depths() == {}
    assert look(store, "e1").subtasks == 0
    assert list(store.depths()) == ["e1"]

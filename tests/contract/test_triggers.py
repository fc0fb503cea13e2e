"""What keeps triggers: the same on both stores."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from engine.config.redis_url import parse_redis_url
from engine.errors import StoreDamagedError
from engine.store.redis.keys import Keys
from engine.store.redis.link import Link
from engine.store.redis.triggers import SharedTriggers
from engine.store.sqlite.triggers import SqliteTriggers
from engine.store.triggers import Listed
from engine.tasks.triggers import Status, TriggerRecord
from tests.rigs.redis_servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.store.triggers import Triggers


@pytest.fixture(params=["sqlite", "redis"])
def triggers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Triggers]:
    if request.param == "sqlite":
        made = SqliteTriggers(tmp_path / "triggers.db")
        made.open()
        yield made
        made.close()
        return
    with RedisServer(tmp_path) as server:
        link = Link(parse_redis_url(server.url), timeout_s=5, connections_max=8)
        yield SharedTriggers(link, Keys("purgeline", 4))
        link.close()


def record(number: int, token: str = "a", **fields: object) -> TriggerRecord:
    known = {"ctime": 1.0, "mtime": 1.0, "etime": 2.0, "status": Status.PENDING, "spec": msgspec.Raw(b"{}")}
    return TriggerRecord(id=f"{number:03x}", token=token, **{**known, **fields})  # type: ignore[arg-type]


def test_a_trigger_is_its_tokens_alone(triggers: Triggers) -> None:
    triggers.add(record(1))
    kept = triggers.get("a", "001")
    assert kept is not None
    assert kept.record == record(1)
    assert triggers.get("b", "001") is None
    assert triggers.get("a", "002") is None
    assert not triggers.remove("b", "001")
    assert triggers.listed("b") == []
    assert triggers.remove("a", "001")
    assert not triggers.remove("a", "001")
    assert triggers.listed("a") == []
    assert triggers.unsettled("", 10) == []


def test_who_has_read_an_older_one_writes_nothing(triggers: Triggers) -> None:
    triggers.add(record(1))
    first, second = triggers.get("a", "001"), triggers.get("a", "001")
    assert first is not None
    assert second is not None
    done = record(1, status=Status.COMPLETE, settled_at=9.5)
    assert triggers.put(first, done)
    assert not triggers.put(second, record(1, status=Status.ACTIVE))
    kept = triggers.get("a", "001")
    assert kept is not None
    assert kept.record == done
    triggers.remove("a", "001")
    assert not triggers.put(kept, done)
    assert triggers.listed("a") == []


def test_lists_are_in_order_and_say_what_was_seen_last(triggers: Triggers) -> None:
    for number in (3, 1, 2):
        triggers.add(record(number, token="b" if number == 2 else "a"))
    kept = triggers.get("a", "001")
    assert kept is not None
    triggers.put(kept, record(1, status=Status.FAILED, settled_at=5))
    assert triggers.listed("a") == [Listed("001", "failed"), Listed("003", "pending")]
    assert triggers.listed("a", {"failed"}) == triggers.listed("a")
    assert triggers.listed("a", {"complete"}) == [Listed("003", "pending")] == triggers.listed("a", set())
    assert triggers.unsettled("", 1) == [("002", "b")]
    assert triggers.unsettled("002", 10) == [("003", "a")]


def test_what_settled_long_ago_is_forgotten(triggers: Triggers) -> None:
    triggers.add(record(1, status=Status.FAILED, settled_at=100))
    triggers.add(record(2, status=Status.FAILED, settled_at=200))
    triggers.add(record(3))
    assert triggers.forget(150, 10) == 1
    assert [one.id for one in triggers.listed("a")] == ["002", "003"]
    assert triggers.forget(150, 10) == 0


def test_of_many_the_oldest_that_have_settled_go(triggers: Triggers) -> None:
    triggers.add(record(1))
    for number in (2, 3, 4):
        triggers.add(record(number, status=Status.FAILED, settled_at=number))
    triggers.add(record(5, token="b", status=Status.FAILED, settled_at=1))
    assert triggers.trim("a", 4, 10) == 0
    assert triggers.trim("a", 2, 1) == 1
    assert [one.id for one in triggers.listed("a")] == ["001", "003", "004"]
    assert triggers.trim("a", 0, 10) == 2
    assert [one.id for one in triggers.listed("a")] == ["001"]
    assert triggers.get("b", "005") is not None


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "triggers.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreDamagedError, match=r"move triggers\.db"):
        SqliteTriggers(tmp_path / "triggers.db").open()


def test_several_workers_open_one_file_at_once(tmp_path: Path) -> None:
    """Each adds one, and all see all."""
    opened = [SqliteTriggers(tmp_path / "triggers.db") for _ in range(8)]
    ready = threading.Barrier(len(opened))

    def add(number: int) -> None:
        ready.wait()
        opened[number].add(record(number))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(len(opened))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(one.listed("a")) for one in opened] == [8] * 8
    for one in opened:
        one.close()

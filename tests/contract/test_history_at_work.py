"""The history shows what other engines of one Redis are at work on: as much of it as a page needs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engine.api.history import HistoryQuery, question_of
from engine.history import sieve
from engine.history.search import Search
from engine.store.history import HistoryLimits
from engine.store.redis import journal
from engine.store.redis.open import redis_store
from engine.tasks.records import Accepted, Batch
from engine.tasks.region import RegionMap
from tests.fakes.settling import documents_of, settling
from tests.rigs.redis_servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.history.search import Page
    from engine.store.redis.store import RedisStore
    from engine.tasks.task import Task

pytestmark = pytest.mark.redis

AT_WORK = 300
SETTLED = 20


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="module")
def wanted(url: str) -> list[str]:
    """Have an engine work on tasks, among which others settled; return the ids of all, the newest first."""
    with contextlib.closing(opened(url, "one")) as one:
        accepted = [
            Accepted(f"w-{number:04d}", 1000.0 + number, 60.0, b"", b'{"targets":["http://a/"]}')
            for number in range(AT_WORK)
        ]
        for place in range(0, AT_WORK, 3):
            one.commit(Batch(accepted=accepted[place : place + 3]))
        settled = [
            settling(f"s-{number:04d}", "http://a/", at=1000.5 + 15 * number) for number in range(SETTLED)
        ]
        one.commit(Batch(documents=documents_of(settled), settling=settled))
    at = {record.id: record.created_at for record in accepted} | {
        task.id: task.created_at for task in settled
    }
    return sorted(at, key=lambda name: -at[name])


def opened(url: str, name: str) -> RedisStore:
    store = redis_store(url, name, region_count=2, history=HistoryLimits(1e10, 2**40))
    store.open()
    return store


@pytest.fixture
def other(url: str) -> Iterator[RedisStore]:
    with contextlib.closing(opened(url, "other")) as store:
        yield store


def page(store: RedisStore, *, look_s: float = 10.0, **asked: Any) -> Page:
    search = Search(RegionMap(1), lambda: store.histories, keep_s=1e10, look_s=look_s, shared=store)
    return search.page(question_of(msgspec.convert(asked, HistoryQuery), ""))


def pages(store: RedisStore, **asked: Any) -> list[str]:
    found: list[str] = []
    while True:
        one = page(store, **asked)
        found += [task.task_id for task in one.tasks]
        if not one.cursor:
            return found
        asked["cursor"] = one.cursor


def test_pages_neither_skip_nor_repeat_a_task_at_work(other: RedisStore, wanted: list[str]) -> None:
    assert pages(other, limit=7) == pages(other, limit=1000) == wanted
    assert pages(other, limit=50, until=1099) == [
        name for name in wanted if not ("s-0006" < name < "t" or name >= "w-0100")
    ]
    assert pages(other, limit=50, state="done") == [name for name in wanted if name.startswith("s")]


def test_no_more_tasks_are_made_of_records_than_a_page_shows(
    other: RedisStore, wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    task_of = other.task_of

    def counted(record: Accepted, plan: bytes) -> Task:
        made.append(record.id)
        return task_of(record, plan)

    monkeypatch.setattr(other, "task_of", counted)
    found = page(other, limit=10)
    assert [task.task_id for task in found.tasks] == wanted[:10]
    assert len(made) < AT_WORK / 2
    assert not found.missing


def test_what_takes_too_long_ends_and_the_next_page_goes_on(
    other: RedisStore, wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what was read no task is left out; of what was not read the answer says so."""
    read = other.at_work
    monkeypatch.setattr(other, "at_work", lambda since: [[one for some in read(since) for one in some]])
    assert pages(other, limit=1000, look_s=-1.0) == wanted
    monkeypatch.undo()
    found = page(other, limit=1000, look_s=-1.0)
    assert "more tasks at work than were looked at" in found.missing
    assert found.tasks[0].task_id == wanted[0]


def test_large_records_are_read_a_few_at_a_time_and_no_more_are_kept_than_so_many_bytes(
    other: RedisStore, wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_BYTES_AT_WORK", 500)
    rounds = [sum(len(record.body) for record in some) for some in other.at_work(0.0)]
    assert max(rounds) < 1000
    assert len(rounds) > 10
    monkeypatch.setattr(sieve, "_BYTES_MAX", 2000)
    found = page(other, limit=1000)
    assert "more tasks at work than were looked at" in found.missing
    assert found.tasks[0].task_id == wanted[0]

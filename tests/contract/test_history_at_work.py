"""The history shows what other engines of one Redis are at work on: as much of it as a page needs."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engine.api.history import HistoryQuery, question_of
from engine.history import at_work
from engine.history.question import read_cursor, write_cursor
from engine.history.recall import Recall, Window
from engine.history.search import Search
from engine.intake.validate import unplanned
from engine.store.history import HistoryLimits
from engine.store.redis import history, journal
from engine.store.redis.open import redis_store
from engine.store.redis.records import bare_task, encode_task
from engine.store.store import AtWork
from engine.tasks.records import Accepted, Batch
from engine.tasks.region import RegionMap
from tests.fakes.settling import documents_of, settling
from tests.rigs.redis_servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.history.search import Page
    from engine.store.redis.store import RedisStore
    from engine.tasks.task import Task

pytestmark = pytest.mark.redis

AT_WORK = 300
SETTLED = 20
TARGETS = ["http://a/"]
_numbers = itertools.count()


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


def planned(record: Accepted, _plan: bytes) -> Task:
    """Return a task as an engine does that its configuration allows."""
    task = bare_task(record)
    task.targets = TARGETS
    return task


def opened(url: str, name: str, prefix: str = "purgeline") -> RedisStore:
    limits = HistoryLimits(1e10, 2**40)
    store = redis_store(url, name, region_count=2, prefix=prefix, history=limits, task_of=planned)
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


def test_who_asks_for_what_runs_is_told_that_of_other_engines_nobody_knows(
    other: RedisStore, wanted: list[str]
) -> None:
    assert len(wanted) == AT_WORK + SETTLED
    running = page(other, state="running")
    assert (running.tasks, running.cursor) == ([], "")
    assert "listed as accepted" in running.missing
    assert {task.state for task in page(other, state="accepted", limit=1000).tasks} == {"accepted"}
    assert not page(other, state="running", host="nobody.example.com").missing
    assert not page(other, state="done").missing


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


def test_large_records_are_read_a_few_at_a_time_and_no_more_are_kept_than_so_many_bytes(
    other: RedisStore, wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_BYTES_AT_WORK", 500)
    rounds = [sum(len(record.body) for _, record in some.tasks) for some in other.at_work(0.0)]
    assert max(rounds) < 1000
    assert len(rounds) > 10
    monkeypatch.setattr(at_work, "_BYTES_MAX", 2000)
    found = page(other, limit=1000)
    assert "more tasks at work than were looked at" in found.missing
    assert found.cursor


@pytest.fixture
def backlog(url: str) -> Iterator[RedisStore]:
    """An engine that sees what `written` another one works on, in a Redis of its own."""
    with contextlib.closing(opened(url, "other", f"backlog-{next(_numbers)}")) as store:
        yield store


def written(store: RedisStore, name: str, at: float, *, created_at: float = 0.0, size: int = 0) -> str:
    """Write an entry of one task to the journal, by the time at which it is written."""
    record = Accepted(name, created_at or at - 0.01, 60.0, b"", b'{"targets":["http://a/"]}'.ljust(size))
    stream = store.keys.streams[store.keys.region(name)]
    store.link.one("XADD", stream, f"{int(at * 1000)}-0", "t", encode_task(record), is_write=True)
    return name


def at_once(store: RedisStore) -> Callable[..., list[AtWork]]:
    """Return what reads what is at work as one part."""
    read = store.at_work
    return lambda *asked: [AtWork([one for some in read(*asked) for one in some.tasks], -math.inf)]


def test_the_next_page_goes_on_where_the_one_before_did_not_read(
    backlog: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = time.time() - 1000
    names = [written(backlog, f"b-{number:03d}", begin + 3 * number) for number in range(100)][::-1]
    monkeypatch.setattr(at_work, "_BYTES_MAX", 600, raising=False)
    for limit in (5, 1000):
        found: list[str] = []
        cursor = ""
        while True:
            one = page(backlog, limit=limit, cursor=cursor)
            assert not one.missing
            found += [task.task_id for task in one.tasks]
            cursor = one.cursor
            if not cursor:
                break
        assert found == names
    recall = Recall(Search(RegionMap(1), lambda: backlog.histories, keep_s=1e10, shared=backlog))
    count, cursor = 0, ""
    while True:
        purges = recall.purges(Window("edge-1", "edge", begin - 1, math.inf), read_cursor(cursor))
        count += len(purges.purges)
        cursor = purges.cursor
        if not cursor:
            break
        assert not purges.missing
    assert count == len(names)


def test_what_takes_too_long_ends_and_the_next_page_goes_on(
    backlog: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what was read no task is left out; of what cannot be passed the answer says so."""
    begin = time.time() - 1000
    names = [written(backlog, f"b-{number:03d}", begin + 3 * number) for number in range(100)][::-1]
    with monkeypatch.context() as patched:
        patched.setattr(backlog, "at_work", at_once(backlog))
        assert pages(backlog, limit=1000, look_s=-1.0) == names
    found = page(backlog, limit=1000, look_s=-1.0)
    assert not found.missing
    found = page(backlog, limit=1000, look_s=-1.0, cursor=found.cursor)
    assert "more tasks at work than were looked at" in found.missing
    assert found.tasks[0].task_id == names[0]


def test_what_was_written_long_after_it_was_created_is_shown_or_said_to_be_missing(
    backlog: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = time.time() - 1000
    names = [written(backlog, f"b-{number:03d}", begin + 3 * number) for number in range(100)]
    late = written(backlog, "late", begin + 600, created_at=begin + 30)
    wanted = [*names[:11], late, *names[11:]][::-1]
    assert pages(backlog, limit=7) == wanted
    monkeypatch.setattr(at_work, "_BYTES_MAX", 600)
    assert "more tasks at work than were looked at" in page(backlog, limit=7).missing


def test_a_page_that_had_no_time_for_what_is_above_its_cursor_says_so(
    backlog: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether one of those was created before it, and written late, nobody has looked."""
    begin = time.time() - 1000
    older = written(backlog, "older", begin)
    late = written(backlog, "late", begin + 600, created_at=begin + 10)
    for number in range(3):
        written(backlog, f"newer-{number}", begin + 500 + number)
    cursor = write_cursor(begin + 100, "")
    whole = page(backlog, cursor=cursor)
    assert ([task.task_id for task in whole.tasks], whole.missing) == ([late, older], "")
    monkeypatch.setattr(backlog, "at_work", at_once(backlog))
    cut = page(backlog, cursor=cursor, look_s=-1.0)
    assert [task.task_id for task in cut.tasks] == [older]
    assert "more tasks at work than were looked at" in cut.missing


def test_of_tasks_that_are_accepted_those_are_left_out_that_have_settled(
    backlog: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal has them until all that were accepted with them have; their block is not looked into."""
    monkeypatch.setattr(history, "_TASKS_MAX", 1)
    at = time.time()
    accepted = [
        Accepted(name, at, 60.0, b"", b'{"targets":["http://a/"]}') for name in ("done", "one", "two")
    ]
    backlog.commit(Batch(accepted=accepted))
    settled = settling("done", "http://a/", at=at)
    backlog.commit(Batch(documents=documents_of([settled]), settling=[settled]))
    backlog.tidy()
    assert any(part.bytes_kept() for part in backlog.histories)
    assert sorted(pages(backlog, state="accepted")) == ["one", "two"]
    assert sorted(pages(backlog)) == ["done", "one", "two"]


def test_a_rewind_says_that_it_leaves_out_a_task_which_cannot_be_planned(
    backlog: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(backlog, "refused", time.time())
    monkeypatch.setattr(backlog, "task_of", lambda record, _: unplanned(record))
    recall = Recall(Search(RegionMap(1), lambda: backlog.histories, keep_s=1e10, shared=backlog))
    found = recall.purges(Window("edge-1", "edge", 0.0, math.inf), (math.inf, ""))
    assert "cannot be planned" in found.missing
    assert not found.purges


def test_a_few_small_entries_do_not_have_many_large_ones_read_next(backlog: RedisStore) -> None:
    at = time.time() - 100
    for number in range(40):
        written(backlog, f"b-{number}", at + number, size=300_000 if number < 30 else 0)
    counts = [len(some.tasks) for some in backlog.at_work(0.0)]
    assert all(later <= 2 * before for before, later in itertools.pairwise(counts))

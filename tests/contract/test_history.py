"""The history of every store there is: what is written comes back, packed or not."""

from __future__ import annotations

import contextlib
import itertools
import math
import sqlite3
import time
from array import array
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engine.api.history import HistoryQuery, question_of
from engine.history.recall import Recall, Window
from engine.history.search import Search
from engine.store.history import HistoryLimits, Wanted
from engine.store.redis import history as redis_history
from engine.store.redis.open import redis_store
from engine.store.sqlite import history as sqlite_history
from engine.store.sqlite.store import SqliteStore
from engine.tasks import hashes
from engine.tasks.blocks import close_block
from engine.tasks.records import Accepted, Batch, Delivered, Parked
from engine.tasks.region import RegionMap
from engine.tasks.settled import SettledTasks, Shape, state_number
from engine.tasks.words import ACKED, DELAYED, FAILED, Operation, State
from tests.fakes.settling import documents_of, plan_of, settling
from tests.rigs.redis_servers import RedisCluster, RedisServer, SentinelGroup
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engine.store.store import Store
    from engine.tasks.plan import Plan
    from engine.tasks.task import Task

_numbers = itertools.count()
PACKED_FROM = 20  #: tasks


SERVERS: dict[str, Any] = {"redis": RedisServer, "sentinel": SentinelGroup, "cluster": RedisCluster}
KINDS = [
    "sqlite",
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("sentinel", marks=[pytest.mark.redis, pytest.mark.slow]),
    pytest.param("cluster", marks=[pytest.mark.redis, pytest.mark.slow]),
]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Return a function that starts a kind of Redis when it is first asked for, and says its URL."""
    with contextlib.ExitStack() as stack:
        urls: dict[str, str] = {}

        def url_of(kind: str) -> str:
            if kind not in urls:
                urls[kind] = stack.enter_context(SERVERS[kind](tmp_path_factory.mktemp(kind))).url
            return urls[kind]

        yield url_of


@pytest.fixture(params=KINDS)
def make(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    servers: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Store]]:
    """Return a function that opens the same store again, as a restart does; its blocks are small."""
    monkeypatch.setattr(sqlite_history, "TASKS_MAX", PACKED_FROM)
    monkeypatch.setattr(redis_history, "_TASKS_MAX", PACKED_FROM)
    opened: list[Store] = []
    prefix = f"history-{next(_numbers)}"

    def again(keep_s: float = 1e10, max_bytes: int = 2**40) -> Store:
        if opened:
            opened[-1].close()
        limits = HistoryLimits(keep_s, max_bytes)
        store: Store
        if request.param == "sqlite":
            store = SqliteStore(tmp_path / "tasks-0.db", history=limits)
        else:
            store = redis_store(
                servers(request.param), "engine", region_count=1, prefix=prefix, history=limits
            )
        store.open()
        opened.append(store)
        return store

    yield again
    for store in opened:
        store.close()


@pytest.fixture
def store(make: Callable[..., Store]) -> Store:
    return make()


def write(store: Store, *tasks: Task) -> None:
    """Store tasks as a saver does."""
    plans = {task.plan.key: task.plan.text for task in tasks if task.plan}
    store.commit(Batch(documents=documents_of([*tasks]), settling=[*tasks], plans=plans))
    keep_plans(store, plans)
    store.tidy()


def keep_plans(store: Store, plans: dict[bytes, bytes]) -> None:
    """Redis writes plans with the tasks that were accepted for them."""
    for key, text in plans.items():
        if store.is_shared:
            store.link.one("SET", store.keys.plan(0, key), text, is_write=True)  # type: ignore[attr-defined]


def ask(
    store: Store,
    keep_s: float = 1e10,
    regions: RegionMap | None = None,
    look_s: float = 10.0,
    **asked: Any,
) -> list[dict[str, Any]]:
    """Return all that is answered, page by page."""
    search = Search(regions or RegionMap(1), lambda: store.histories, keep_s=keep_s, look_s=look_s)
    found: list[dict[str, Any]] = []
    while True:
        page = search.page(question_of(msgspec.convert(asked, HistoryQuery), ""))
        found += msgspec.to_builtins(page.tasks)
        if not page.cursor:
            return found
        assert page.cursor != asked.get("cursor"), "a page that does not go on"
        asked["cursor"] = page.cursor


def names(found: list[dict[str, Any]]) -> list[str]:
    return [task["task_id"] for task in found]


def urls(count: int, *, host: str = "a", first: int = 0, **attributes: Any) -> list[Task]:
    """Return tasks of a URL each, a second apart."""
    return [
        settling(f"t-{number:04d}", f"http://{host}/{number}", at=1000.0 + number, **attributes)
        for number in range(first, first + count)
    ]


def test_what_is_packed_and_what_is_not_is_found(store: Store, make: Callable[..., Store]) -> None:
    """Newest first, in pages that neither skip nor repeat, also after a restart."""
    tasks = urls(3 * PACKED_FROM + 5)
    for first in range(0, len(tasks), 7):
        write(store, *tasks[first : first + 7])
    assert store.histories[0].bytes_kept()
    wanted = [task.id for task in reversed(tasks)]
    for is_again in (False, True):
        opened = make() if is_again else store
        assert names(ask(opened, limit=9)) == wanted
        assert names(ask(opened, target="http://a/3")) == ["t-0003"]
        assert names(ask(opened, target="http://a/64")) == ["t-0064"]
        assert names(ask(opened, target="http://a/65")) == []


def test_the_journal_drops_rows_of_tasks_with_their_records_and_without(store: Store) -> None:
    first, second, third = [
        store.commit(Batch(accepted=[Accepted(name, 1000.0, 30.0, b"", b"{}")])).journal[0] for name in "abc"
    ]
    tasks = urls(2)
    store.commit(Batch(documents=documents_of(tasks), settling=tasks, settled_journal=[first]))
    assert [key for key, _ in store.journal()] == [second, third]
    assert names(ask(store)) == ["t-0001", "t-0000"]
    store.commit(Batch(settled_journal=[second]))
    assert [key for key, _ in store.journal()] == [third]


def test_a_url_finds_all_that_covers_it(store: Store) -> None:
    wide = [
        settling("prefix", "http://img.example.com/al", kind="prefix", at=2000),
        settling("host", "img.example.com", kind="host", at=2001),
        settling("pattern", "*.example.com", kind="host", at=2002),
        settling("regex", r"http://img.example.com/.*\.jpg", kind="regex", at=2003),
        settling("key", "img.example.com/album", kind="key", at=2004),
        settling("url", "http://img.example.com/b.jpg", "https://img.example.com/album/a.jpg", at=2005),
        settling("other", "http://img.example.com/bl", kind="prefix", at=2006),
    ]
    write(store, *wide)
    for others in ([], urls(PACKED_FROM)):  # in no block, then in one
        write(store, *others)
        found = ask(store, target="http://img.example.com/album/a.jpg")
        assert [(one["task_id"], one["match"], one["matched"]) for one in found] == [
            ("url", "url", "https://img.example.com/album/a.jpg"),
            ("regex", "regex", r"http://img.example.com/.*\.jpg"),
            ("pattern", "host", "*.example.com"),
            ("host", "host", "img.example.com"),
            ("prefix", "prefix", "http://img.example.com/al"),
        ]
        assert names(ask(store, target="img.example.com/album")) == ["key", "pattern", "host", "prefix"]


def test_what_either_form_wrote_is_found_by_any(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is compiled and one that is not work with one store: during a reload, for instance."""

    def by_machine(_: bytes, lines: list[str], _start: int) -> bytes:
        return b"".join(map(hashes.line_hash_of, lines))

    tasks = urls(3 * PACKED_FROM)
    for place, makes in enumerate((None, by_machine)):  # a block of each
        monkeypatch.setattr(hashes, "_hashes_of", makes)
        write(store, *tasks[place * PACKED_FROM : (place + 1) * PACKED_FROM])
    monkeypatch.setattr(hashes, "_hashes_of", None)  # and one of both: what is large has its hashes at once
    write(store, settling("large", *(f"http://a/large/{place}" for place in range(64)), at=900))
    monkeypatch.setattr(hashes, "_hashes_of", by_machine)
    write(store, *tasks[2 * PACKED_FROM :])
    for place in (0, PACKED_FROM - 1, PACKED_FROM, 2 * PACKED_FROM, 3 * PACKED_FROM - 1):
        assert names(ask(store, target=f"http://a/{place}")) == [f"t-{place:04}"]
    assert names(ask(store, target="https://a/large/63")) == ["large"]
    assert names(ask(store, target="http://a/large/64")) == []
    assert names(ask(store, target="http://b/1")) == []


def test_questions_are_put_together(store: Store) -> None:
    two = plan_of("edge-1", "edge-2")
    write(store, *urls(10, token="cms", plan=two), *urls(10, first=10, host="b", token="shop"))
    write(store, *urls(5, first=20, state=State.FAILED, states={"edge-1": bytes([FAILED])}))
    write(store, settling("fetch", "http://a/f", action="prefetch", at=1100))
    assert names(ask(store, host="b", by="shop", since=1012, until=1014.5)) == [
        "t-0014",
        "t-0013",
        "t-0012",
    ]
    assert len(ask(store, node="edge-2")) == 10
    assert len(ask(store, node="edge-2", by="shop")) == 0
    assert len(ask(store, state="failed")) == 5
    assert names(ask(store, action="prefetch")) == ["fetch"]
    assert len(ask(store, by="nobody")) == 0
    assert len(ask(store, by="127.0.0.1")) == 26


def test_each_node_says_what_it_did(store: Store) -> None:
    plan = plan_of("edge-1", "edge-7")
    error = {"node": "edge-7", "target": "http://a/y", "reason": "400"}
    states = {"edge-7": bytes([ACKED, FAILED])}
    write(
        store,
        settling("good", "http://a/x", at=1, plan=plan, token="cms"),
        settling(
            "bad",
            "http://a/x",
            "http://a/y",
            at=2,
            plan=plan,
            state=State.FAILED,
            states=states,
            errors=[error],
        ),
    )
    bad, good = ask(store)
    assert good["by"] == {"token": "cms", "address": "127.0.0.1", "door": "http"}
    assert [(node["name"], node["outcome"]) for node in good["nodes"]] == [
        ("edge-1", "acked"),
        ("edge-7", "acked"),
    ]
    assert (bad["total"], bad["counter"], bad["failed"], bad["errors"]) == (4, 3, 1, [error])
    [of_x], [of_y] = ask(store, target="http://a/x", state="failed"), ask(store, target="http://a/y")
    assert [node["outcome"] for node in of_x["nodes"]] == ["acked", "acked"]
    assert [node["outcome"] for node in of_y["nodes"]] == ["acked", "failed"]


def parked_tasks(store: Store, plan: Plan) -> None:
    """Store a partial task with two rows of edge-1."""
    task = settling(
        "late",
        "http://a/1",
        "http://a/2",
        at=1500,
        plan=plan,
        state=State.PARTIAL,
        states={"edge-1": bytes([DELAYED, DELAYED])},
    )
    rows = [Parked("edge-1", int(Operation.PURGE_URL), target, "late", "", 1500.0) for target in task.targets]
    documents = {
        name: text.replace(b'"counter": 1', b'"counter": 0').replace(b'"delayed": 1', b'"delayed": 2')
        for name, text in documents_of([task]).items()
    }
    store.commit(Batch(documents=documents, settling=[task], parked=rows, plans={plan.key: plan.text}))
    keep_plans(store, {plan.key: plan.text})


@pytest.mark.parametrize("is_packed", [False, True], ids=["in no block", "in a block"])
def test_late_delivery_changes_the_outcome(store: Store, *, is_packed: bool) -> None:
    """One of two is delivered, then the other fails: at every moment the history says so."""
    parked_tasks(store, plan_of("edge-1"))
    if is_packed:
        write(store, *urls(PACKED_FROM))
    [before] = ask(store, target="http://a/1", state="partial")
    assert (before["delayed"], before["nodes"][0]["outcome"]) == (2, "delayed")
    rows = {row.target: row for row in store.parked_of("edge-1", 10)}
    store.commit(Batch(delivered=[Delivered(rows["http://a/1"], "edge", 1600.0)]))
    [between] = ask(store, target="http://a/1", state="partial")
    assert (between["counter"], between["delayed"], between["nodes"][0]["outcome"]) == (1, 1, "acked")
    store.commit(Batch(delivered=[Delivered(rows["http://a/2"], "edge", 1700.0, "400")]))
    assert ask(store, state="partial") == []
    [after] = ask(store, target="http://a/2", state="failed")
    assert (after["counter"], after["failed"], after["updated_at"]) == (1, 1, 1700.0)
    assert after["errors"] == [{"node": "edge-1", "target": "http://a/2", "reason": "400"}]
    assert after["nodes"][0]["outcome"] == "failed"


@pytest.mark.parametrize("is_packed", [False, True], ids=["in no block", "in a block"])
def test_what_failed_late_is_known_when_the_history_has_let_the_task_go(
    store: Store, *, is_packed: bool
) -> None:
    """A delay queue keeps a row for longer than the history a task: what failed then can be sent again."""
    parked_tasks(store, plan_of("edge-1"))
    for row in store.parked_of("edge-1", 10):
        store.commit(Batch(delivered=[Delivered(row, "edge", 1700.0, "not sent: it waited too long")]))
    if is_packed:
        write(store, *urls(PACKED_FROM))
    recall = Recall(Search(RegionMap(1), lambda: store.histories, keep_s=1e6))
    found = recall.failed("late", 1500.0)
    assert found is not None
    assert (found.state, found.soft) == ("failed", False)
    [share] = found.shares
    assert (share.node, share.operation) == ("edge-1", Operation.PURGE_URL)
    assert sorted(share.targets) == ["http://a/1", "http://a/2"]
    assert recall.failed("nobody", 1500.0) is None


def test_what_a_version_without_a_history_made_of_a_task_is_told_by_its_document(store: Store) -> None:
    """During a reload, and after a way back, it settles tasks and says nothing of that to the history."""
    parked_tasks(store, plan_of("edge-1"))
    rows = store.parked_of("edge-1", 10)
    kept = store.histories
    monkeypatched: Any = store
    if store.is_shared:
        monkeypatched.changes._histories = ()
    else:
        monkeypatched.history = None
    store.commit(Batch(delivered=[Delivered(row, "edge", 1600.0) for row in rows]))
    if not store.is_shared:
        monkeypatched.history = kept[0]
    [task] = ask(store, target="http://a/1", state="done")
    assert (task["counter"], task["delayed"], task["updated_at"]) == (2, 0, 1600.0)


def test_a_cancel_of_a_stored_task_is_told(store: Store) -> None:
    parked_tasks(store, plan_of("edge-1"))
    store.commit(Batch(cancelled={"late": 1800.0}))
    [task] = ask(store, state="cancelled")
    assert (task["cancelled"], task["nodes"][0]["outcome"]) == (2, "cancelled")


def test_a_task_that_is_stored_twice_is_shown_once_as_it_was_last(store: Store) -> None:
    write(store, settling("t", "http://a/1", state=State.CANCELLED, states={"edge-1": bytes([DELAYED])}))
    again = settling("t", "http://a/1", state=State.DONE)
    again.updated_at += 5
    write(store, again)
    assert [task["state"] for task in ask(store)] == ["done"]


def test_old_blocks_go_and_what_is_too_old_is_not_shown(make: Callable[..., Store]) -> None:
    """At the boundary: a task is shown as long as it is young enough, whatever block it is in."""
    store = make()
    now = time.time()
    tasks = [settling(f"t-{number}", f"http://a/{number}", at=now - number) for number in range(PACKED_FROM)]
    write(store, *tasks)
    assert names(ask(store, keep_s=4.5)) == ["t-0", "t-1", "t-2", "t-3", "t-4"]
    store = make(keep_s=0.001)
    time.sleep(1.1 if store.is_shared else 0.002)  # Redis keeps a second at the least
    store.forget(0, 100)
    assert ask(store) == []
    assert store.histories[0].bytes_kept() == 0


def test_beyond_its_bytes_the_oldest_goes(make: Callable[..., Store]) -> None:
    store = make(max_bytes=6000)
    for first in range(0, 20 * PACKED_FROM, PACKED_FROM):
        write(store, *urls(PACKED_FROM, first=first))
    assert 3000 < store.histories[0].bytes_kept() <= 6000
    kept = names(ask(store, limit=1000))
    assert kept == [
        f"t-{number:04d}" for number in range(20 * PACKED_FROM - 1, 20 * PACKED_FROM - 1 - len(kept), -1)
    ]


def test_pages_go_on_while_the_oldest_blocks_go(make: Callable[..., Store]) -> None:
    """No page repeats a task, and none is skipped but what is there no more."""
    store = make(max_bytes=6000)
    for first in range(0, 10 * PACKED_FROM, PACKED_FROM):
        write(store, *urls(PACKED_FROM, first=first))
    search = Search(RegionMap(1), lambda: store.histories, keep_s=1e10, look_s=10.0)
    found: list[str] = []
    cursor, count = "", 10 * PACKED_FROM
    while True:
        page = search.page(question_of(HistoryQuery(limit=7, cursor=cursor), ""))
        found += [task.task_id for task in page.tasks]
        cursor = page.cursor
        if not cursor:
            break
        write(store, *urls(PACKED_FROM, first=count))  # an old block goes for it
        count += PACKED_FROM
    last = 10 * PACKED_FROM - 1
    assert PACKED_FROM < len(found) < 10 * PACKED_FROM
    assert found == [f"t-{number:04d}" for number in range(last, last - len(found), -1)]


def missing(store: Store, since: float, keep_s: float = 1e10) -> str:
    """Return what a rewind is told of a window that begins at *since*."""
    recall = Recall(Search(RegionMap(1), lambda: store.histories, keep_s=keep_s))
    return recall.purges(Window("edge-1", "edge", since, since), (math.inf, "")).missing


def test_a_window_that_begins_before_the_history_is_told(make: Callable[..., Store]) -> None:
    began = time.time()
    store = make()
    write(store, settling("t-0", "http://a/0", at=began + 1))
    assert "it has all purges since 2" in missing(store, began - 60)
    store = make()  # a restart is no beginning
    assert missing(store, time.time()) == ""
    assert "it has all purges since 2" in missing(store, time.time() - 3, keep_s=2)  # history_days is over


def test_a_window_that_begins_before_a_block_that_was_dropped_is_told(make: Callable[..., Store]) -> None:
    store = make(max_bytes=6000)
    begin = time.time() + 1000
    for first in range(0, 20 * PACKED_FROM, PACKED_FROM):
        tasks = [
            settling(f"t-{n:04d}", f"http://a/{n}", at=begin + n) for n in range(first, first + PACKED_FROM)
        ]
        write(store, *tasks)
    oldest = ask(store, limit=1000)[-1]["created_at"]
    assert missing(store, oldest - 1.5)
    assert missing(store, oldest) == ""
    assert missing(make(max_bytes=6000), oldest - 1.5)


def rewound(store: Store, since: float, until: float = 1e9, **asked: Any) -> list[tuple[str, list[str]]]:
    """Return kind and targets of what a rewind of edge-1 is told, the newest first."""
    regions = asked.pop("regions", None) or RegionMap(1)
    shared = store if store.is_shared else None
    recall = Recall(Search(regions, lambda: store.histories, keep_s=1e10, shared=shared))
    page = recall.purges(Window("edge-1", "edge", since, until, **asked), (math.inf, ""))
    return [(purge.kind, purge.targets) for purge in page.purges]


@pytest.mark.parametrize("is_packed", [True, False])
def test_a_rewind_has_what_may_have_reached_the_node_in_its_time(store: Store, *, is_packed: bool) -> None:
    """Also of a task that is older and settled in it; not what settled before, or never began."""
    others = [
        settling("before", "http://a/1", at=1000),
        settling("later", "http://a/2", at=2300),
        settling("never", "http://a/3", at=1500, updated_at=2100, state=State.CANCELLED, start_at=9000),
    ]
    others[-1].shares = ()
    write(store, *others)
    if is_packed:
        write(store, *urls(PACKED_FROM, first=-900))
    write(store, settling("old", "http://a/4", at=1010, updated_at=2001))
    write(store, settling("partial", "http://a/5", at=1020, updated_at=2050, state=State.PARTIAL))
    write(store, settling("young", "http://a/6", at=2100))
    if is_packed:
        write(store, *urls(PACKED_FROM, first=-900))
        assert store.histories[0].bytes_kept()
    assert rewound(store, 2000, 2200) == [
        ("url", ["http://a/6"]),
        ("url", ["http://a/5"]),
        ("url", ["http://a/4"]),
    ]


@pytest.mark.parametrize("is_packed", [True, False])
def test_a_rewind_has_rows_that_were_delivered_in_its_time(store: Store, *, is_packed: bool) -> None:
    """Whenever their task was created, and also when the history has let that go; no question shows them."""
    old = settling("old", "http://a/1", at=1000, state=State.PARTIAL)
    rows = [
        Parked(node, operation, target, "old", "", 1001.0)
        for node, operation, target in (
            ("edge-1", Operation.PURGE_URL, "http://a/1"),
            ("edge-1", Operation.SOFT_PREFIX, "http://a/album/"),
            ("edge-1", Operation.PURGE_URL, "http://a/refused"),
            ("edge-1", Operation.PREFETCH, "http://a/fetched"),
            ("edge-2", Operation.PURGE_URL, "http://a/2"),
        )
    ]
    store.commit(Batch(parked=rows, documents=documents_of([old]), settling=[old]))
    for node in ("edge-1", "edge-2"):
        for row in store.parked_of(node, 10):
            reason = "no" if row.target.endswith("refused") else ""
            store.commit(Batch(delivered=[Delivered(row, "edge", 2000.0, reason)]))
    if is_packed:
        write(store, *urls(PACKED_FROM, first=-900))
        assert store.histories[0].bytes_kept()
    assert sorted(rewound(store, 1999, 2200)) == [
        ("prefix", ["http://a/album/"]),
        ("url", ["http://a/1"]),
    ]
    assert rewound(store, 1999, 2200, host="b") == []
    assert rewound(store, 2001, 2200) == []
    assert [one for one in names(ask(store, limit=1000)) if not one.startswith("t-")] == ["old"]


def test_blocks_go_on_behind_one_that_was_dropped(store: Store) -> None:
    """Those that are asked for next are neither fewer nor the same, also among blocks of one time."""
    for _ in range(6):
        write(
            store, *[settling(f"t-{number}", f"http://a/{number}", at=1000) for number in range(PACKED_FROM)]
        )
    history: Any = store.histories[0]
    heads = history.heads(Wanted(), None, 10)
    left = [*heads]
    for place in (4, 0, 2):
        left.remove(heads[place])
        if store.is_shared:
            store.link.one("ZREM", f"{store.keys.tags[0]}blocks", heads[place].key, is_write=True)  # type: ignore[attr-defined]
        else:
            history._file.writer.execute("DELETE FROM block WHERE n = ?", (heads[place].key,))
        behind = history.heads(Wanted(), heads[place], 10)
        assert behind == [head for head in left if heads.index(head) > place]


def test_without_a_history_nothing_is_kept(make: Callable[..., Store]) -> None:
    store = make(keep_s=0)
    assert not store.histories
    write(store, *urls(3))
    store.tidy()


def test_blocks_overlap_and_pages_are_in_order_all_the_same(store: Store) -> None:
    """Tasks settle in another order than they were created in."""
    tasks = urls(4 * PACKED_FROM)
    mixed = tasks[::2] + tasks[1::2][::-1]
    for first in range(0, len(mixed), PACKED_FROM):
        write(store, *mixed[first : first + PACKED_FROM])
    assert names(ask(store, limit=7)) == [task.id for task in reversed(tasks)]
    # Pages that end as soon as they may go on, too: a block a page.
    assert names(ask(store, limit=7, look_s=-1.0)) == [task.id for task in reversed(tasks)]
    assert names(ask(store, target="http://a/0", look_s=-1.0)) == ["t-0000"]


def test_a_clock_that_is_set_back_neither_hides_nor_repeats_a_task(store: Store) -> None:
    """Tasks are in the order of their own times; a clock that nobody sets tells how long they are kept."""
    now = time.time()
    before = [settling(f"a-{number}", f"http://a/{number}", at=now + number) for number in range(PACKED_FROM)]
    after = [
        settling(f"b-{number}", f"http://a/{number}", at=now - 3600 + number) for number in range(PACKED_FROM)
    ]
    write(store, *before)
    write(store, *after)
    store.forget(0, 100)
    wanted = [task.id for task in (*reversed(before), *reversed(after))]
    assert names(ask(store, limit=7)) == wanted


def test_a_task_that_has_not_begun_names_its_nodes(store: Store) -> None:
    regions = RegionMap(1)
    task = settling("now", "http://a/1", state=State.ACCEPTED, plan=plan_of("edge-1", "edge-2"))
    task.shares = ()
    regions.add(task)
    [found] = ask(store, regions=regions, node="edge-2")
    assert [(node["name"], node["total"], node["outcome"]) for node in found["nodes"]] == [
        ("edge-1", 1, "sent"),
        ("edge-2", 1, "sent"),
    ]


def test_tasks_at_work_are_in_the_answer(store: Store) -> None:
    regions = RegionMap(1)
    task = settling("now", "http://a/1", state=State.RUNNING, states={"edge-1": bytes([DELAYED])}, at=3000)
    regions.add(task)
    write(store, *urls(2))
    assert names(ask(store, regions=regions, target="http://a/1")) == ["now", "t-0001"]
    assert [one["state"] for one in ask(store, regions=regions, state="running")] == ["running"]


@pytest.mark.redis
def test_in_a_redis_that_is_nearly_full_the_history_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full Redis refuses purges: the oldest blocks go before."""
    monkeypatch.setattr(redis_history, "_TASKS_MAX", PACKED_FROM)
    with RedisServer(tmp_path) as server:
        limits = HistoryLimits(1e10, 2**40)
        store = redis_store(server.url, "engine", region_count=1, history=limits)
        store.open()
        with contextlib.closing(store):
            for first in range(0, 10 * PACKED_FROM, PACKED_FROM):
                write(store, *urls(PACKED_FROM, first=first))
            kept = store.histories[0].bytes_kept()
            server.set("maxmemory", int(server.info("memory")["used_memory"] * 1.1))
            write(store, *urls(PACKED_FROM, first=10 * PACKED_FROM))
            assert store.histories[0].bytes_kept() < kept
            found = names(ask(store, limit=1000))
            assert found[0] == f"t-{11 * PACKED_FROM - 1:04d}"
            assert len(found) < 11 * PACKED_FROM


@pytest.mark.redis
def test_a_region_of_which_no_block_can_be_made_drops_its_oldest_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Says so, and takes every task in; they are packed when that can be done again."""
    monkeypatch.setattr(redis_history, "_TASKS_MAX", PACKED_FROM)
    monkeypatch.setattr(redis_history, "_TASKS_OPEN_MAX", 2 * PACKED_FROM)
    monkeypatch.setattr(redis_history, "_RETRY_S", 0.0)
    with RedisServer(tmp_path) as server:
        store = redis_store(server.url, "engine", region_count=1, history=HistoryLimits(1e10, 2**40))
        store.open()
        with contextlib.closing(store), monkeypatch.context() as broken:
            broken.setattr(redis_history, "close_block", lambda *_: 1 / 0)
            for first in range(0, 20 * PACKED_FROM, 5):
                write(store, *urls(5, first=first))
            assert "a block cannot be made" in store.histories[0].errors.text
            kept = names(ask(store, limit=1000))
            assert kept[0] == f"t-{20 * PACKED_FROM - 1:04d}"
            assert PACKED_FROM < len(kept) < 6 * PACKED_FROM
            assert time.time() - 60 < store.histories[0].complete_since() < time.time()
            broken.undo()
            write(store, *urls(PACKED_FROM, first=20 * PACKED_FROM))
            write(store, *urls(PACKED_FROM, first=21 * PACKED_FROM))
            assert store.histories[0].bytes_kept()
            assert not store.histories[0].errors.text


@pytest.mark.redis
def test_no_task_is_missed_by_who_reads_while_another_takes_records_to_pack_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisServer(tmp_path) as server:
        limits = HistoryLimits(1e10, 2**40)
        store = redis_store(server.url, "engine", region_count=1, history=limits)
        store.open()
        with contextlib.closing(store):
            write(store, *urls(3))
            history: Any = store.histories[0]
            read = history._all

            def with_another_between(commands: Any) -> list[Any]:
                replies = []
                for command in commands:
                    replies += read([command])
                    history._take("another")
                return replies

            monkeypatch.setattr(history, "_all", with_another_between)
            assert len(ask(store)) == 3


# What only a file can do


def test_a_damaged_block_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_history, "TASKS_MAX", PACKED_FROM)
    store = SqliteStore(tmp_path / "tasks-0.db", history=HistoryLimits(1e10, 2**40))
    store.open()
    with contextlib.closing(store):
        for first in (0, PACKED_FROM):
            write(store, *urls(PACKED_FROM, first=first))
        with sqlite3.connect(tmp_path / "history-0.db") as other:
            other.execute("UPDATE block_body SET body = x'00' WHERE n = 1")
        other.close()
        assert len(ask(store)) == PACKED_FROM
        assert "cannot be read" in store.histories[0].errors.text


def test_an_error_of_reading_ends_with_the_next_whole_page_and_one_of_writing_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_history, "TASKS_MAX", PACKED_FROM)
    store = SqliteStore(tmp_path / "tasks-0.db", history=HistoryLimits(1e10, 2**40))
    store.open()
    search = Search(RegionMap(1), lambda: store.histories, keep_s=1e10)
    with contextlib.closing(store), contextlib.closing(sqlite3.connect(tmp_path / "history-0.db")) as other:
        write(store, *urls(PACKED_FROM))
        with other:
            other.execute("CREATE TABLE kept AS SELECT * FROM block_body")
            other.execute("UPDATE block_body SET body = x'00'")
        for _ in range(2):
            search.page(question_of(HistoryQuery(), ""))
            assert "cannot be read" in search.error
        with other:
            other.execute("UPDATE block_body SET body = (SELECT body FROM kept)")
        assert not search.page(question_of(HistoryQuery(), "")).missing
        assert not search.error
        with monkeypatch.context() as broken:
            broken.setattr(sqlite_history, "close_block", lambda *_: 1 / 0)
            write(store, *urls(PACKED_FROM, first=PACKED_FROM))
        assert len(ask(store)) > PACKED_FROM
        assert "cannot write" in search.error


def test_where_hashes_of_one_block_are_damaged_the_others_are_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_history, "TASKS_MAX", PACKED_FROM)
    store = SqliteStore(tmp_path / "tasks-0.db", history=HistoryLimits(1e10, 2**40))
    store.open()
    for block in range(3):
        for number in range(PACKED_FROM):
            targets = [f"http://a/{block}/{number}/{place}" for place in range(150)]
            write(store, settling(f"t-{block}-{number:02d}", *targets, at=1000.0 + 100 * block + number))
    hashes, _ = store.histories[0].block(2)
    store.close()
    path = tmp_path / "history-0.db"
    data = path.read_bytes()
    page = data.index(hashes[5000:5100]) // 4096 * 4096  # in the first page beyond that of the row
    with path.open("r+b") as file:
        file.seek(page)
        file.write(b"\xff" * 4)  # the number of the next one
    store.open()
    with contextlib.closing(store):
        assert names(ask(store, target="http://a/0/3/7")) == ["t-0-03"]
        assert names(ask(store, target="http://a/2/3/149")) == ["t-2-03"]
        assert len(ask(store, limit=1000)) == 2 * PACKED_FROM
        assert "cannot be read" in store.histories[0].errors.text
        write(store, settling("after", "http://a/after", at=2000))
        assert names(ask(store, target="http://a/after")) == ["after"]


def test_a_record_that_cannot_be_read_is_left_out_and_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_history, "TASKS_MAX", PACKED_FROM)
    store = SqliteStore(tmp_path / "tasks-0.db", history=HistoryLimits(1e10, 2**40))
    store.open()
    with contextlib.closing(store), contextlib.closing(sqlite3.connect(tmp_path / "tasks-0.db")) as other:
        write(store, *urls(3))
        other.execute(
            "INSERT INTO settled(is_change, tasks, at, data) VALUES (0, 1, 0, x'93'), (1, 1, 0, x'c1')"
        )
        other.commit()
        assert len(ask(store)) == 3
        assert "cannot be read" in store.histories[0].errors.text
        write(store, *urls(PACKED_FROM, first=3))
        assert len(ask(store)) == PACKED_FROM + 3
        assert store.histories[0].bytes_kept()


def test_a_file_that_is_none_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "history-0.db").write_bytes(b"no database" * 1000)
    store = SqliteStore(tmp_path / "tasks-0.db", history=HistoryLimits(1e10, 2**40))
    store.open()
    with contextlib.closing(store):
        assert "was damaged" in store.histories[0].errors.text
        write(store, *urls(3))
        assert len(ask(store)) == 3
    assert list(tmp_path.glob("history-0.db.damaged-*"))


def test_a_history_that_cannot_be_written_is_in_no_tasks_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records stay with the tasks, to a bound, and are packed when it can be written again."""
    monkeypatch.setattr(sqlite_history, "TASKS_MAX", PACKED_FROM)
    monkeypatch.setattr(sqlite_history, "_RETRY_S", 0.0)
    store = SqliteStore(tmp_path / "tasks-0.db", history=HistoryLimits(1e10, 2**40))
    store.open()
    with contextlib.closing(store), contextlib.closing(sqlite3.connect(tmp_path / "history-0.db")) as other:
        other.execute("DROP TABLE block_body")
        write(store, *urls(PACKED_FROM))
        assert "cannot write" in store.histories[0].errors.text
        assert len(ask(store)) == PACKED_FROM
        other.execute("CREATE TABLE block_body(n INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        other.commit()
        write(store, *urls(1, first=PACKED_FROM))
        assert store.histories[0].errors.text == ""
        assert len(ask(store)) == PACKED_FROM + 1


def test_a_page_that_takes_long_ends_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_history, "TASKS_MAX", PACKED_FROM)
    store = SqliteStore(tmp_path / "tasks-0.db", history=HistoryLimits(1e10, 2**40))
    store.open()
    with contextlib.closing(store):
        for first in range(0, 3 * PACKED_FROM, PACKED_FROM):
            write(store, *urls(PACKED_FROM, first=first))
        search = Search(RegionMap(1), lambda: store.histories, keep_s=1e10, look_s=-1)
        page = search.page(question_of(HistoryQuery(), ""))
        assert [task.task_id for task in page.tasks] == [f"t-{number:04d}" for number in range(59, 39, -1)]
        assert page.cursor


def test_a_history_that_cannot_be_written_is_said_and_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk is full: tasks are stored, and found, and packed when there is space again."""
    monkeypatch.setattr(sqlite_history, "TASKS_MAX", PACKED_FROM)
    monkeypatch.setattr(sqlite_history, "_RETRY_S", 0.0)
    store = SqliteStore(tmp_path / "tasks-0.db", history=HistoryLimits(1e10, 2**40))
    store.open()
    with contextlib.closing(store):
        assert store.history is not None
        writer = store.history._file.writer
        assert writer is not None
        [[pages]] = writer.execute("PRAGMA page_count").fetchall()
        writer.execute(f"PRAGMA max_page_count = {pages}")
        count, kept = 0, -1
        while not store.histories[0].errors.text:
            kept = store.histories[0].bytes_kept()
            write(store, *urls(PACKED_FROM, first=count))
            count += PACKED_FROM
        assert "full" in store.histories[0].errors.text
        assert store.histories[0].bytes_kept() == kept
        assert len(ask(store, limit=1000)) == count
        writer.execute("PRAGMA max_page_count = 100000")
        write(store, *urls(1, first=count))
        assert store.histories[0].errors.text == ""
        assert store.histories[0].bytes_kept() > kept
        assert len(ask(store, limit=1000)) == count + 1


def test_a_history_that_cannot_be_opened_is_opened_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_history, "TASKS_MAX", PACKED_FROM)
    monkeypatch.setattr(sqlite_history, "_RETRY_S", 0.0)
    (tmp_path / "history-0.db").mkdir()
    store = SqliteStore(tmp_path / "tasks-0.db", history=HistoryLimits(1e10, 2**40))
    store.open()
    with contextlib.closing(store):
        write(store, *urls(PACKED_FROM))
        assert "cannot be opened" in store.histories[0].errors.text
        assert len(ask(store)) == PACKED_FROM
        (tmp_path / "history-0.db").rmdir()
        write(store, *urls(1, first=PACKED_FROM))
        assert store.histories[0].errors.text == ""
        assert len(ask(store)) == PACKED_FROM + 1


def test_records_are_not_kept_for_ever_when_no_block_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_history, "TASKS_MAX", PACKED_FROM)
    monkeypatch.setattr(sqlite_history, "_RETRY_S", 0.0)
    monkeypatch.setattr(sqlite_history, "_OPEN_BYTES_MAX", 4000)
    (tmp_path / "history-0.db").mkdir()
    store = SqliteStore(tmp_path / "tasks-0.db", history=HistoryLimits(1e10, 2**40))
    store.open()
    with contextlib.closing(store):
        for first in range(0, 20 * PACKED_FROM, 5):
            write(store, *urls(5, first=first))
        kept = names(ask(store, limit=1000))
        assert kept[0] == f"t-{20 * PACKED_FROM - 1:04d}"
        assert PACKED_FROM < len(kept) < 10 * PACKED_FROM
        assert store.histories[0].complete_since() > 0


@pytest.mark.slow
def test_a_million_tasks_of_one_host_are_looked_at_a_page_at_a_time(tmp_path: Path) -> None:
    """No page takes long, whatever is asked for; the next one goes on where it ended."""
    count, million = 4096, 1_000_000
    shape = Shape("purge", "url", False, False, "cms", b"", ("cms", "10.0.0.9", "http"))
    store = SqliteStore(tmp_path / "tasks-0.db", history=HistoryLimits(1e10, 2**40))
    store.open()
    with contextlib.closing(store):
        assert store.history is not None
        for first in range(0, million, count):
            places = range(first, first + count)
            tasks = SettledTasks(
                ids=[f"t-{place:07d}" for place in places],
                created=array("d", places).tobytes(),
                settled=array("d", places).tobytes(),
                states=bytes([state_number(State.DONE)]) * (count - 1) + bytes([state_number(State.FAILED)]),
                counts=array("H", [1]).tobytes() * count,
                shape_of=bytes(2 * count),
                shapes=[shape],
                targets="\n".join([f"http://img.example.com/{place}.jpg" for place in places]),
            )
            store.history._write(close_block([tasks], {}), [])
        search = Search(RegionMap(1), lambda: store.histories, keep_s=1e10)
        for asked, found in (
            ({"host": "img.example.com"}, 50),
            ({"target": "http://img.example.com/5.jpg"}, 1),
            ({"host": "img.example.com", "state": "failed", "until": 5000}, 1),
            ({"host": "img.example.com", "action": "purge", "by": "cms", "limit": 1000}, 1000),
            ({"host": "img.example.com", "state": "failed", "limit": 1000}, 245),
            ({"host": "img.example.com", "state": "partial"}, 0),
        ):
            tasks_seen, cursor, slowest = 0, "", 0.0
            while tasks_seen < found or (cursor and not found):
                began = time.thread_time()
                query = msgspec.convert({**asked, "cursor": cursor}, HistoryQuery)
                page = search.page(question_of(query, ""))
                slowest = max(slowest, time.thread_time() - began)
                tasks_seen, cursor = tasks_seen + len(page.tasks), page.cursor
                if not cursor:
                    break
            assert (asked, tasks_seen) == (asked, found)
            assert slowest < 1.5, asked


@pytest.mark.slow
@pytest.mark.redis
def test_a_cluster_without_one_of_its_masters_answers_with_what_the_others_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says that some is missing; with the master, all of it is there again."""
    monkeypatch.setattr(redis_history, "_TASKS_MAX", PACKED_FROM)
    with RedisCluster(tmp_path, fsync="always", cluster_require_full_coverage="no") as cluster:
        limits = HistoryLimits(1e10, 2**40)
        store = redis_store(cluster.url, "engine", region_count=6, timeout_s=1, history=limits)
        store.open()
        with contextlib.closing(store):
            tasks = urls(10 * PACKED_FROM)
            for first in range(0, len(tasks), 25):
                write(store, *tasks[first : first + 25])
            wanted = [task.id for task in reversed(tasks)]
            assert names(ask(store, limit=30)) == wanted
            gone = {
                region
                for region, tag in enumerate(store.keys.tags)
                if cluster.owner(cluster.slot_of(tag)) is cluster.servers[0]
            }
            here = [name for name in wanted if store.keys.region(name) not in gone]
            assert 0 < len(here) < len(wanted)
            for server in (cluster.servers[0], cluster.servers[3]):
                server.kill()
            assert names(ask(store, limit=30)) == here
            assert any(part.errors.text for part in store.histories)
            for server in (cluster.servers[0], cluster.servers[3]):
                server.start()
            wait_until(lambda: names(ask(store, limit=30)) == wanted, what="all of the history")

"""The contract of a store, for every store there is; then what only a file can do."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engine.errors import StoreDamagedError, StoreError
from engine.store.redis.open import redis_store
from engine.store.sqlite.store import SqliteStore
from engine.tasks.plan import Note, Skipped
from engine.tasks.records import (
    FIRST_PAGE,
    Accepted,
    Batch,
    Callback,
    Delivered,
    Joined,
    Noted,
    Parked,
    ParkedRow,
    Pause,
    Sighting,
    Silence,
    rows_of,
)
from engine.tasks.told import Told
from engine.tasks.words import Operation
from tests.rigs.redis_servers import RedisCluster, RedisServer, SentinelGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engine.store.store import Store
    from engine.tasks.records import PageStart

URL, PREFIX, HOST = Operation.PURGE_URL, Operation.PURGE_PREFIX, Operation.PURGE_HOST


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Return a function that starts a kind of Redis when it is first asked for, and says its URL."""
    with contextlib.ExitStack() as stack:
        urls: dict[str, str] = {}

        def url_of(kind: str) -> str:
            if kind not in urls:
                folder = tmp_path_factory.mktemp(kind)
                urls[kind] = stack.enter_context(SERVERS[kind](folder)).url
            return urls[kind]

        yield url_of


SERVERS: dict[str, Any] = {"redis": RedisServer, "sentinel": SentinelGroup, "cluster": RedisCluster}
KINDS = [
    "sqlite",
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("sentinel", marks=pytest.mark.redis),
    pytest.param("cluster", marks=pytest.mark.redis),
]


@pytest.fixture(params=KINDS)
def make(
    request: pytest.FixtureRequest, tmp_path: Path, servers: Callable[[str], str]
) -> Iterator[Callable[[], Store]]:
    """Return a function that opens the same store again, as a restart does."""
    opened: list[Store] = []
    prefix = f"test-{next(_numbers)}"

    def again() -> Store:
        if opened:
            opened[-1].close()
        store: Store
        if request.param == "sqlite":
            store = SqliteStore(tmp_path / "tasks-0.db")
        else:
            store = redis_store(servers(request.param), "engine", region_count=4, prefix=prefix)
        store.open()
        opened.append(store)
        return store

    yield again
    for store in opened:
        store.close()


_numbers = itertools.count()


@pytest.fixture
def store(make: Callable[[], Store]) -> Store:
    return make()


def accepted(name: str, *, digest: bytes = b"") -> Accepted:
    return Accepted(name, 1000.0, 60.0, digest, b'{"targets":["http://a/\xc3\xbc"]}')


def planned(name: str, plan: bytes, *, digest: bytes = b"") -> Accepted:
    return Accepted(name, 1000.0, 60.0, digest, b"{}", "", plan)


def document(name: str, *, state: str = "done", **extra: Any) -> dict[str, bytes]:
    made = {
        "task_id": name,
        "state": state,
        "active": state == "partial",
        "working_layer": "edge" if state == "partial" else None,
        "counter": 0,
        "failed": 0,
        "delayed": 0,
        "layers": [],
        "created_at": 10.0 + next(_numbers) / 1000,
        "updated_at": 1000.0,
        "errors": [],
        **extra,
    }
    return {name: json.dumps(made).encode()}


def partial(name: str, delayed: int, **extra: Any) -> dict[str, bytes]:
    layer = {"name": "edge", "total": delayed + 1, "counter": 1, "failed": 0, "delayed": delayed}
    errors = [{"node": "n", "target": "x", "reason": "late"}]
    return document(name, state="partial", delayed=delayed, layers=[layer], errors=errors, **extra)


def parked(
    target: str, *, node: str = "n", task: str = "t", after: str = "", at: float = 0.0, op: int = URL
) -> Parked:
    return Parked(node, int(op), target, task, after, at or 1000.0 + next(_numbers))


def delivered(
    target: str, parent: str = "n", *, task: str = "t", reason: str = "", at: float = 2.0
) -> Delivered:
    """A row delivered that is not there any more, or never was: only its task and its children are told."""
    node, _, fetch = parent.partition(":")
    operation = int(Operation.PREFETCH if fetch else URL)
    return Delivered(ParkedRow(0, 0, node, operation, target, task, "", 1.0), "edge", at, reason)


def of_rows(rows: list[ParkedRow], *, reason: str = "", at: float = 2.0) -> Batch:
    """Return the batch that says that these rows were delivered."""
    return Batch(delivered=[Delivered(row, "edge", at, reason) for row in rows])


def targets(rows: list[ParkedRow]) -> list[str]:
    return [row.target for row in rows]


def test_accepted_tasks_come_back_in_order_after_a_restart(make: Callable[[], Store]) -> None:
    store = make()
    first = store.commit(Batch(accepted=[accepted("a"), accepted("b", digest=b"\x01" * 16)]))
    second = store.commit(Batch(accepted=[accepted("c")]))
    assert len(first.journal) == 2
    assert not {*first.journal} & {*second.journal}
    store = make()
    rows = list(store.journal())
    assert {key for key, _ in rows} == {*first.journal, *second.journal}
    records = [record for _, some in rows for record in some]
    assert sorted(records[:2], key=lambda record: record.id) == [
        accepted("a"),
        accepted("b", digest=b"\x01" * 16),
    ]
    assert records[2:] == [accepted("c")]
    assert store.commit(Batch(accepted=[accepted("d")])).journal[0] not in {*first.journal, *second.journal}


def test_an_empty_batch_writes_nothing(store: Store) -> None:
    assert store.commit(Batch()).journal == []
    assert list(store.journal()) == []
    assert store.count() == {"settled": 0, "journal_rows": 0}


def test_settled_tasks_are_left_out_of_the_journal_and_settled_rows_are_gone(store: Store) -> None:
    store.commit(Batch(accepted=[accepted("a"), accepted("b")]))
    second = store.commit(Batch(accepted=[accepted("c")])).journal[0]
    store.commit(Batch(documents=document("a") | document("c")))
    assert [record.id for _, records in store.journal() for record in records] == ["b"]
    assert (second, []) in list(store.journal())
    rows = store.count()["journal_rows"]
    store.commit(Batch(settled_journal=[second]))
    assert second not in [key for key, _ in store.journal()]
    assert store.count() == {"settled": 2, "journal_rows": rows - 1}


def test_a_known_id_is_answered_with_its_document_and_not_taken_again(store: Store) -> None:
    store.commit(Batch(documents=document("a", digest="ab" * 16)))
    done = store.commit(Batch(accepted=[accepted("a", digest=b"\xab" * 16), accepted("b", digest=b"x")]))
    digest, text = done.known["a"]
    assert digest == "ab" * 16
    assert json.loads(text)["task_id"] == "a"
    assert [record.id for _, records in store.journal() for record in records] == ["b"]


def test_when_every_id_is_known_no_row_is_written(store: Store) -> None:
    store.commit(Batch(documents=document("a")))
    done = store.commit(Batch(accepted=[accepted("a", digest=b"x")]))
    assert list(done.known) == ["a"]
    assert done.known["a"][0] == ""
    assert list(store.journal()) == []


def test_a_document_is_read_back_and_replaced(store: Store) -> None:
    assert store.document("a") is None
    text = document("a", state="partial", note='quote " \\ ü \u2028 \x00')
    store.commit(Batch(documents=text))
    assert json.loads(store.document("a") or b"") == json.loads(text["a"])
    store.commit(Batch(documents=document("a")))
    # A shared store changes what is stored by what became of its rows only: that may be another engine's.
    state = "partial" if store.is_shared else "done"
    assert json.loads(store.document("a") or b"")["state"] == state
    assert store.count()["settled"] == 1


def test_documents_are_paged_newest_first_each_once(store: Store) -> None:
    for number in range(25):
        store.commit(Batch(documents=document(f"t{number:02d}", state="done" if number % 5 else "failed")))
    for state, expected in (
        (None, [f"t{number:02d}" for number in reversed(range(25))]),
        ("failed", ["t20", "t15", "t10", "t05", "t00"]),
        ("cancelled", []),
    ):
        for limit in (1, 2, 5, 7, 100):
            assert paged(store, limit, state) == expected, (state, limit)


def paged(
    store: Store,
    limit: int,
    state: str | None,
    token: str | None = None,
    begin: PageStart | None = FIRST_PAGE,
) -> list[str]:
    """Return the ids of all pages; none is empty but the last."""
    found: list[str] = []
    at = begin
    while at is not None:
        page, at = store.documents(state, at, limit, None, token)
        assert len(page) <= limit
        assert page or at is None
        found += [json.loads(text)["task_id"] for text in page]
    return found


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_tasks_of_one_moment_are_paged_each_once(store: Store, limit: int) -> None:
    """A batch, or two engines, may give many tasks the same time; some of them in one region."""
    names = [f"t{number}" for number in range(9)] + ["T9"]
    for name in names:
        store.commit(Batch(documents=document(name, created_at=10.0)))
    assert sorted(paged(store, limit, None)) == sorted(names)
    assert sorted(paged(store, limit, "done")) == sorted(names)
    store.commit(Batch(documents=document("later", created_at=11.0)))
    _, at = store.documents(None, FIRST_PAGE, 1)
    assert at is not None
    assert not at.task_id, "an engine of the version before can go on there"


def test_a_page_goes_on_behind_a_task_that_is_gone(store: Store) -> None:
    names = [f"t{number}" for number in range(12)]
    for name in names:
        store.commit(Batch(documents=document(name, created_at=10.0, updated_at=10.0)))
    page, at = store.documents(None, FIRST_PAGE, 5)
    first = [json.loads(text)["task_id"] for text in page]
    assert store.forget(20.0, 100) == len(names)
    for name in names:
        if name != first[-1] and store.is_shared:  # an embedded store lists what comes back as new
            store.commit(Batch(documents=document(name, created_at=10.0)))
    rest = paged(store, 5, None, begin=at)
    assert sorted(first + rest) == (sorted(names) if store.is_shared else sorted(first))


def test_documents_of_a_token_are_paged_without_those_of_others(store: Store) -> None:
    for number in range(25):
        token = "mine" if number % 10 == 3 else "other"
        state = "failed" if number < 10 else "done"
        store.commit(Batch(documents=document(f"t{number:02d}", state=state, token=token)))
    for limit in (1, 2, 100):
        assert paged(store, limit, None, "mine") == ["t23", "t13", "t03"]
        assert paged(store, limit, "failed", "mine") == ["t03"]
        assert paged(store, limit, None, "nobody") == []


def test_a_plan_is_there_with_the_first_task_that_names_it_and_over_a_restart(
    make: Callable[[], Store],
) -> None:
    store = make()
    one, other = planned("a", b"one"), planned("b", b"other", digest=b"d")
    store.commit(Batch(accepted=[one, accepted("c")], plans={b"one": b"text of one"}))
    store.commit(Batch(accepted=[planned("d", b"one")], plans={b"one": b"text of one"}))
    store.commit(Batch(accepted=[other], documents=document("x"), plans={b"other": b"text of the other"}))
    store = make()
    records = [record for _, row in store.journal() for record in row]
    assert {record.id: record.plan for record in records} == {
        "a": b"one",
        "b": b"other",
        "c": b"",
        "d": b"one",
    }
    assert store.plans(records) == {b"one": b"text of one", b"other": b"text of the other"}
    assert store.plans([accepted("c"), planned("e", b"nobody's")]) == {}


def test_a_task_whose_plan_is_lost_is_stored_without_it(store: Store) -> None:
    """A move between stores takes such a task along: it is planned again."""
    store.commit(Batch(accepted=[planned("t", b"lost"), accepted("u")]))
    records = [record for _, of_row in store.journal() for record in of_row]
    assert sorted(record.id for record in records) == ["t", "u"]
    assert store.plans(records) == {}


def test_a_task_is_stored_once_though_its_plan_was_not_known_there(store: Store) -> None:
    """A shared store has plans by region, and learns of each where it is first named."""
    names = [f"t{number}" for number in range(12)]
    for part in (names[:6], names[6:]):
        done = store.commit(Batch(accepted=[planned(name, b"p") for name in part], plans={b"p": b"text"}))
        assert all(done.journal)
        assert not done.refused
    found = [record.id for _, row in store.journal() for record in row]
    assert sorted(found) == sorted(names)
    known = store.commit(Batch(accepted=[planned("t3", b"p", digest=b"d")], plans={b"p": b"text"})).known
    assert store.is_shared == ("t3" in known)


SILENCES = (("s1", 6.5), ("s2", 9.5))


def test_what_was_said_last_of_a_nodes_pause_is_kept(make: Callable[[], Store]) -> None:
    store = make()
    assert store.pauses() == {}
    store.commit(Batch(pauses=[Pause("e1", "ops", 5.5), Pause("e2", "ops", 6.5)]))
    store.commit(Batch(pauses=[Pause("e1", "else", 7.5, is_paused=False)]))
    assert make().pauses() == {
        "e1": Pause("e1", "else", 7.5, is_paused=False),
        "e2": Pause("e2", "ops", 6.5),
    }


def test_silences_are_kept_as_they_were_written_last_until_they_are_forgotten(
    make: Callable[[], Store],
) -> None:
    store = make()
    assert store.silences() == {}
    short, long = (Silence(name, ["kind=node"], "reason", "ops", 5.5, until) for name, until in SILENCES)
    store.commit(Batch(silences=[short, long]))
    ended = msgspec.structs.replace(long, until=7.0)
    store.commit(Batch(silences=[ended, msgspec.structs.replace(short, matchers=[])]))
    assert make().silences() == {"s2": ended}


def test_nodes_are_seen_by_the_clock_of_the_store(make: Callable[[], Store]) -> None:
    store = make()
    assert store.last_seen() == {}
    store.commit(Batch(sightings=[Sighting("e1", "edge"), Sighting("p1", "parent")]))
    store.commit(Batch(sightings=[Sighting("old", "", is_gone=True), Sighting("p1", "", is_forgotten=True)]))
    seen = make().last_seen()
    assert {name: one.layer for name, one in seen.items()} == {"e1": "edge", "p1": "parent", "old": ""}
    assert seen["e1"].ago_s < 60
    assert seen["old"].ago_s < 60
    assert seen["p1"].ago_s > 1e9, "nobody waits for it any more"


def test_a_node_is_gone_from_the_first_time_on_until_it_is_configured_again(store: Store) -> None:
    store.commit(Batch(sightings=[Sighting("e1", "edge")]))
    store.commit(Batch(sightings=[Sighting("e1", "", is_gone=True)]))
    seen = store.last_seen()["e1"]
    assert (seen.is_gone, seen.layer, seen.ago_s < 60) == (True, "edge", True)
    store.commit(Batch(sightings=[Sighting("e1", "", is_forgotten=True)]))
    store.commit(Batch(sightings=[Sighting("e1", "", is_gone=True)]))
    seen = store.last_seen()["e1"]
    assert (seen.is_gone, seen.layer, seen.ago_s > 1e9) == (True, "edge", True)
    store.commit(Batch(sightings=[Sighting("e1", "inner")]))
    seen = store.last_seen()["e1"]
    assert (seen.is_gone, seen.layer, seen.ago_s < 60) == (False, "inner", True)


def test_a_delay_queue_gives_its_oldest_rows_first_and_knows_its_depth(make: Callable[[], Store]) -> None:
    store = make()
    assert store.depths() == {}
    rows = [parked(f"http://a/{number}", at=100.0 + number) for number in range(5)]
    others = [parked("http://b/", node="other", at=7.0)]
    store.commit(Batch(documents=partial("t", 6), parked=[*rows, *others]))
    store = make()
    assert {name: (depth.count, depth.oldest_at) for name, depth in store.depths().items()} == {
        "n": (5, 100.0),
        "other": (1, 7.0),
    }
    oldest = store.oldest_parked("n", 3)
    assert targets(oldest) == ["http://a/0", "http://a/1", "http://a/2"]
    first = oldest[0]
    assert (first.node, first.operation, first.task_id, first.after, first.parked_at) == (
        "n",
        URL,
        "t",
        "",
        100.0,
    )
    store.commit(of_rows(oldest))
    assert targets(store.oldest_parked("n", 10)) == ["http://a/3", "http://a/4"]


def test_row_numbers_are_never_used_again(store: Store) -> None:
    store.commit(Batch(documents=partial("t", 2), parked=[parked("x")]))
    [row] = store.oldest_parked("n", 1)
    store.commit(of_rows([row]))
    store.commit(Batch(parked=[parked("y")]))
    assert store.oldest_parked("n", 1)[0].key != row.key


def test_every_row_of_a_cancelled_task_goes(store: Store) -> None:
    store.commit(Batch(parked=[parked("a"), parked("b", task="u"), parked("c", node="m")]))
    store.commit(Batch(unparked_tasks=["t"]))
    assert {name: depth.count for name, depth in store.depths().items()} == {"n": 1}


def test_a_child_waits_until_each_of_its_parents_is_delivered(store: Store) -> None:
    store.commit(
        Batch(parked=[parked("x", after="p1,p2"), parked("y", after="p1,p2"), parked("z", after="p1")])
    )
    assert store.oldest_parked("n", 10) == []
    store.commit(
        Batch(delivered=[delivered("x", "p1"), delivered("z", "p1"), delivered("y", "p1", task="other")])
    )
    assert targets(store.oldest_parked("n", 10)) == ["z"]
    store.commit(Batch(delivered=[delivered("x", "p2")]))
    assert sorted(targets(store.oldest_parked("n", 10))) == ["x", "z"]


def test_parents_that_are_delivered_in_one_batch_all_let_go(store: Store) -> None:
    store.commit(Batch(parked=[parked("x", after="p1,p2,p3"), parked("y", after="p1:f,p1")]))
    store.commit(
        Batch(delivered=[*(delivered("x", name) for name in ("p1", "p2", "p3")), delivered("y", "p1")])
    )
    assert targets(store.oldest_parked("n", 10)) == ["x"]
    store.commit(Batch(delivered=[delivered("y", "p1:f")]))
    assert targets(store.oldest_parked("n", 10)) == ["x", "y"]


def test_a_name_that_is_part_of_another_is_not_taken_for_it(store: Store) -> None:
    store.commit(Batch(parked=[parked("x", after="edge-10,edge-1")]))
    store.commit(Batch(delivered=[delivered("x", "edge-1")]))
    assert store.oldest_parked("n", 10) == []
    store.commit(Batch(delivered=[delivered("x", "edge-10")]))
    assert targets(store.oldest_parked("n", 10)) == ["x"]


def test_wide_purges_are_found_newest_first(store: Store) -> None:
    store.commit(
        Batch(
            parked=[
                parked("http://a/", op=PREFIX),
                parked("http://a/x"),
                parked("a", op=HOST),
                parked("http://a/.*", op=Operation.PURGE_REGEX),
                parked("http://a/p", op=Operation.SOFT_PREFIX),
                parked("http://b/", op=PREFIX, node="m"),
                parked("http://c/", op=PREFIX, after="p"),
            ]
        )
    )
    assert targets(store.wide_parked("n")) == ["http://a/p", "a", "http://a/"]


def test_rows_alike_are_found_whichever_task_they_are_of(store: Store) -> None:
    store.commit(
        Batch(
            parked=[
                parked("x"),
                parked("x", task="u"),
                parked("x", op=Operation.SOFT_URL),
                parked("y"),
                parked("x", node="m"),
                parked("x", after="p"),
            ]
        )
    )
    rows = store.oldest_parked("n", 100)
    assert [row.task_id for row in store.parked_like("n", [(URL, "x")], rows)] == ["t", "u"]
    assert targets(store.parked_like("n", [(URL, "x"), (URL, "y"), (URL, "z")], rows)) == ["x", "x", "y"]
    assert store.parked_like("n", [], rows) == []


def test_rows_below_a_prefix_are_older_url_purges_of_either_scheme(store: Store) -> None:
    below = ["http://a.com/img/1", "https://a.com/img/~z", "http://a.com/img/", "http://a.com/img/%_*"]
    others = ["http://a.com/im", "http://a.com/imh", "http://b.com/img/1", "http://a.com:80/img/1"]
    store.commit(Batch(parked=[parked(target) for target in below + others]))
    store.commit(
        Batch(
            parked=[
                parked("http://a.com/img/soft", op=Operation.SOFT_URL),
                parked("http://a.com/img/f", op=Operation.PREFETCH),
                parked("http://a.com/img/2", node="m"),
                parked("http://a.com/img/3", after="p"),
                parked("http://a.com/img/", op=PREFIX),
                parked("http://a.com/img/younger"),
            ]
        )
    )
    wide = store.wide_parked("n")[0]
    found = store.parked_below("n", "a.com/img/", wide.seq, store.oldest_parked("n", 100))
    assert sorted(targets(found)) == sorted([*below, "http://a.com/img/soft"])


def test_prefetches_behind_purges_of_their_node_are_found_and_go_with_these(store: Store) -> None:
    fetch = int(Operation.PREFETCH)
    rows = [
        Parked("n", fetch, "http://a.com/x", "t", "n", 1.0),
        Parked("n", fetch, "http://a.com/y", "t", "n,p1:f", 1.0),
        Parked("n", fetch, "http://a.com/z", "t", "p1:f", 1.0),
        Parked("n", fetch, "http://a.com/x", "other", "n", 1.0),
        Parked("n-2", fetch, "http://a.com/x", "t", "n-2", 1.0),
    ]
    store.commit(Batch(documents=partial("t", 4), parked=rows))
    asked = [("t", f"http://a.com/{name}") for name in "xyz"] + [("nobody", "http://a.com/x")]
    found = store.prefetches_behind("n", asked)
    assert sorted((row.task_id, row.target) for row in found) == asked[:2]
    purge = ParkedRow(0, 0.0, "n", int(Operation.PURGE_URL), "http://a.com/x", "t", "", 0.0)
    purges = [purge, msgspec.structs.replace(purge, target="http://a.com/y")]
    store.commit(Batch(delivered=[Delivered(row, "edge", 2.0, "failed") for row in [*purges, *found]]))
    assert store.prefetches_behind("n", asked) == []
    assert store.oldest_parked("n", 10) == []
    assert store.depth("n").count == 2
    document = json.loads(store.document("t") or b"")
    assert document["failed"] >= 2


def test_pages_of_a_queue_have_all_rows_that_may_go(store: Store) -> None:
    rows = [parked(f"{number}", task=f"t{number % 7}") for number in range(300)]
    others = [parked("f", op=Operation.PREFETCH), parked("w", after="p1"), parked("m", node="m")]
    store.commit(Batch(parked=[*rows, *others]))
    for purges_only in (False, True):
        found: list[str] = []
        place, pages = 0, 0
        while True:
            page, place = store.parked_page("n", place, 60, purges_only)
            found += targets(page)
            pages += 1
            if not place:
                break
        assert sorted(found) == sorted([*map(str, range(300)), *([] if purges_only else ["f"])])
        assert pages > 1


def test_rows_that_are_too_old_are_found_in_every_queue_and_the_limit_holds(store: Store) -> None:
    old = [
        parked("x", at=100.0),
        parked("x", node="m", at=101.0),
        parked("y", at=102.0, after="p1"),
        parked("z", at=103.0, op=Operation.PREFETCH),
    ]
    store.commit(Batch(documents=partial("t", 5), parked=[*old, parked("young", at=500.0)]))
    assert targets(store.expired("m", 400.0, 10)) == ["x"]
    found = store.expired("n", 400.0, 10)
    assert sorted(row.target for row in found) == ["x", "y", "z"]
    assert len(store.expired("n", 400.0, 2)) == 2
    assert store.expired("n", 50.0, 10) == []
    store.commit(of_rows([*found, *store.expired("m", 400.0, 10)], reason="too old"))
    assert store.expired("n", 400.0, 10) == []
    assert targets(store.oldest_parked("n", 10)) == ["young"]
    assert json.loads(store.document("t") or b"")["failed"] == 4


def test_rows_that_were_host_wide_for_a_time_are_found_among_younger_ones(store: Store) -> None:
    old = [parked(f"http://a.com/{n}", at=100.0) for n in range(2)]
    store.commit(Batch(documents=partial("t", 7), parked=old))
    store.commit(Batch(joined=[joined(store.oldest_parked("n", 10))]))
    store.commit(Batch(parked=[parked(f"http://a.com/young/{n}", at=500.0) for n in range(5)]))
    store.commit(Batch(parted=store.host_rows("n", 1)))
    assert sorted(targets(store.expired("n", 400.0, 3))) == ["http://a.com/0", "http://a.com/1"]


def test_rows_of_some_operations_are_counted_by_host(store: Store) -> None:
    rows = [
        *(
            parked(f"http://a.com/{number}", at=100.0 + number, op=Operation.PURGE_PREFIX)
            for number in range(3)
        ),
        parked("https://a.com/x", at=50.0, op=Operation.PURGE_PREFIX, after="p1"),
        parked("a.com/a/key", at=200.0, op=Operation.PURGE_KEY),
        parked("b.com", at=300.0, op=Operation.PURGE_HOST),
        parked("http://a.com/url", at=1.0),
        parked("http://a.com/", at=1.0, op=Operation.PURGE_PREFIX, node="other"),
    ]
    store.commit(Batch(documents=partial("t", 8), parked=rows))
    asked = [Operation.PURGE_PREFIX, Operation.PURGE_KEY, Operation.PURGE_HOST, Operation.PURGE_REGEX]
    counted = {(operation, host): count for operation, host, count, _ in store.count_parked("n", asked)}
    assert counted == {
        (Operation.PURGE_PREFIX, "a.com"): 4,
        (Operation.PURGE_KEY, "a.com"): 1,
        (Operation.PURGE_HOST, "b.com"): 1,
    }
    assert store.count_parked("n", [Operation.PURGE_HOST]) == [(Operation.PURGE_HOST, "b.com", 1, 300.0)]
    assert store.count_parked("n", []) == []


def joined(rows: list[ParkedRow]) -> Joined:
    return Joined(rows, int(Operation.PURGE_HOST), "a.com")


def test_rows_of_a_task_become_one_that_stands_for_them_and_settle_with_it(make: Callable[[], Store]) -> None:
    store = make()
    urls = [parked(f"http://a.com/{number}") for number in range(30)]
    behind = parked("http://a.com/0", node="below", after="n")
    fetch = parked("http://a.com/1", after="n", op=Operation.PREFETCH)
    prefix = parked("http://a.com/i/", op=Operation.PURGE_PREFIX)
    others = [parked("http://a.com/", task="u"), behind, fetch, prefix]
    store.commit(Batch(documents={**partial("t", 33), **partial("u", 1)}, parked=[*urls, *others]))
    rows = [row for row in store.oldest_parked("n", 100) if row.task_id == "t"]
    assert len(rows) == 31
    store.commit(Batch(joined=[joined(rows)]))
    store = make()
    assert store.depth("n").count == store.depths()["n"].count == store.pin()("n") == 3
    (other, host) = store.oldest_parked("n", 100, True)
    if other.task_id == "t":
        other, host = host, other
    assert (host.operation, host.target, host.task_id) == (Operation.PURGE_HOST, "a.com", "t")
    assert sorted(one.target for one in rows_of(host)) == sorted(row.target for row in rows)
    assert {one.key for one in rows_of(host)} == {host.key}
    assert store.host_rows("n", 10) == [host]
    assert store.wide_parked("n") == [host]
    assert store.parked_like("n", [(Operation.PURGE_HOST, "a.com")], [other, host]) == [host]
    assert host in store.parked_of("n", 10)
    assert host in store.expired("n", 1e12, 10)
    page, place = store.parked_page("n", 0, 100)
    while place:
        more, place = store.parked_page("n", place, 100)
        page += more
    assert sorted(str(row.key) for row in page) == sorted(str(row.key) for row in (other, host))
    assert store.orphans() == []
    store.commit(of_rows(rows_of(host)))
    document = json.loads(store.document("t") or b"")
    assert (document["counter"], document["delayed"], document["failed"]) == (32, 2, 0)
    assert targets(store.oldest_parked("below", 10)) == ["http://a.com/0"], "its parent's purge is done"
    assert sorted(targets(store.oldest_parked("n", 10))) == ["http://a.com/", "http://a.com/1"]
    store.commit(of_rows(rows_of(host)))
    assert json.loads(store.document("t") or b"")["counter"] == 32, "counted once"


def test_a_host_wide_row_becomes_what_it_stands_for_again(store: Store) -> None:
    store.commit(Batch(documents=partial("t", 3), parked=[parked(f"http://a.com/{n}") for n in range(3)]))
    before = store.oldest_parked("n", 10)
    store.commit(Batch(joined=[joined(before)]))
    [host] = store.oldest_parked("n", 10)
    store.commit(Batch(parted=[host]))
    after = store.oldest_parked("n", 10)
    assert sorted(targets(after)) == sorted(targets(before))
    assert not any(row.stands_for for row in after)
    assert store.host_rows("n", 10) == []
    store.commit(Batch(parted=[host]))
    assert store.depth("n").count == 3, "what was parted is not parted again"
    store.commit(of_rows(after, reason="refused"))
    assert json.loads(store.document("t") or b"")["failed"] == 3
    assert store.depths() == {}


def test_a_host_wide_row_goes_with_its_task_and_rows_that_have_gone_are_not_joined(store: Store) -> None:
    store.commit(Batch(documents=partial("t", 3), parked=[parked(f"http://a.com/{n}") for n in range(3)]))
    rows = store.oldest_parked("n", 10)
    store.commit(of_rows(rows[:2]))
    store.commit(Batch(joined=[joined(rows)]))
    assert targets(store.oldest_parked("n", 10)) == targets(rows[2:])
    store.commit(
        Batch(documents=partial("u", 2), parked=[parked(f"http://a.com/{n}", task="u") for n in "xy"])
    )
    store.commit(Batch(joined=[joined([row for row in store.oldest_parked("n", 10) if row.task_id == "u"])]))
    assert [row.task_id for row in store.host_rows("n", 10)] == ["u"]
    store.commit(Batch(cancelled={"u": 9.0}))
    assert json.loads(store.document("u") or b"")["state"] == "cancelled"
    assert store.host_rows("n", 10) == []
    assert store.depth("n").count == 1


def test_rows_of_a_task_without_a_document_stay(store: Store) -> None:
    """It may begin again from the journal, in a version that knows no host-wide rows."""
    store.commit(Batch(parked=[parked(f"http://a.com/{n}") for n in range(3)]))
    rows = store.oldest_parked("n", 10)
    store.commit(Batch(joined=[joined(rows)]))
    assert store.host_rows("n", 10) == []
    assert store.depth("n").count == 3


def test_late_delivery_is_folded_into_the_stored_document(store: Store) -> None:
    store.commit(Batch(documents=partial("t", 3), parked=[parked("x"), parked("y"), parked("z")]))
    rows = store.oldest_parked("n", 2)
    batch = of_rows(rows, at=2000.0)
    batch.delivered.append(delivered("x", task="gone"))
    assert store.commit(batch).settled_late == []
    found = json.loads(store.document("t") or b"")
    assert (found["counter"], found["delayed"], found["state"], found["updated_at"]) == (
        3,
        1,
        "partial",
        2000.0,
    )
    done = store.commit(of_rows(store.oldest_parked("n", 2), at=3000.0))
    assert [document["state"] for document in done.settled_late] == ["done"]
    found = json.loads(store.document("t") or b"")
    assert (found["counter"], found["delayed"], found["state"], found["errors"]) == (4, 0, "done", [])
    assert (found["active"], found["working_layer"]) == (False, None)
    assert store.depths() == {}


def test_a_row_that_two_workers_settle_is_counted_once(store: Store) -> None:
    store.commit(Batch(documents=partial("t", 2), parked=[parked("x"), parked("y")]))
    [row] = store.oldest_parked("n", 1)
    store.commit(of_rows([row], reason="gone"))
    store.commit(of_rows([row]))
    found = json.loads(store.document("t") or b"")
    assert (found["counter"], found["failed"], found["delayed"], found["state"]) == (1, 1, 1, "partial")


def test_a_row_that_is_told_again_in_one_batch_counts_as_it_was_told_first(store: Store) -> None:
    store.commit(Batch(documents=partial("t", 3), parked=[parked("x"), parked("y"), parked("z")]))
    [row] = store.oldest_parked("n", 1)
    batch = of_rows([row, row])
    batch.delivered += of_rows([row], reason="gone").delivered
    store.commit(batch)
    found = json.loads(store.document("t") or b"")
    assert (found["counter"], found["failed"], found["delayed"], found["state"]) == (2, 0, 2, "partial")


def test_late_delivery_that_fails_makes_the_task_failed_and_says_why(store: Store) -> None:
    store.commit(Batch(documents=partial("t", 2), parked=[parked("x"), parked("y")]))
    one, other = store.oldest_parked("n", 2)
    batch = of_rows([other], reason="refused")
    batch.delivered += of_rows([one]).delivered
    assert [document["state"] for document in store.commit(batch).settled_late] == ["failed"]
    found = json.loads(store.document("t") or b"")
    assert (found["state"], found["failed"], found["counter"]) == ("failed", 1, 2)
    assert found["errors"][-1] == {"node": "n", "target": "y", "reason": "refused"}


def test_a_row_whose_task_was_told_goes_and_its_document_stays(store: Store) -> None:
    store.commit(Batch(documents=partial("t", 1), parked=[parked("x")]))
    batch = of_rows(store.oldest_parked("n", 2))
    store.commit(Batch(delivered=[Delivered(one.row, "edge", 2.0, is_told=True) for one in batch.delivered]))
    assert store.depths() == {}
    assert json.loads(store.document("t") or b"")["delayed"] == 1


def test_a_task_that_late_delivery_settles_gets_its_callback(store: Store) -> None:
    store.commit(Batch(documents=partial("t", 1, callback="http://hook/", digest="ab"), parked=[parked("x")]))
    done = store.commit(of_rows(store.oldest_parked("n", 1)))
    [callback] = done.callbacks
    assert (callback.task_id, callback.url) == ("t", "http://hook/")
    shown = json.loads(callback.body)
    assert shown["state"] == "done"
    assert not {"callback", "digest"} & set(shown)
    assert store.pending_callbacks() == [callback]


def test_a_stored_task_is_cancelled_with_its_rows_and_says_so(store: Store) -> None:
    store.commit(
        Batch(
            documents=partial("t", 2, callback="http://hook/") | partial("u", 1) | document("over"),
            parked=[parked("x"), parked("y", after="p"), parked("z", task="u")],
        )
    )
    done = store.commit(Batch(cancelled={"t": 7.0, "over": 7.0, "gone": 7.0}))
    assert [document["state"] for document in done.settled_late] == ["cancelled"]
    assert [callback.task_id for callback in done.callbacks] == ["t"]
    found = json.loads(store.document("t") or b"")
    assert (found["state"], found["delayed"], found["updated_at"]) == ("cancelled", 0, 7.0)
    assert (found["cancelled"], found["layers"][0]["cancelled"], found["counter"]) == (2, 2, 1)
    store.commit(Batch(delivered=[delivered("x")]))  # it was on the wire
    assert json.loads(store.document("t") or b"") == found
    assert json.loads(store.document("over") or b"")["state"] == "done"
    assert [row.task_id for row in store.parked_of("n", 10)] == ["u"]


def by_task(callbacks: list[Callback]) -> list[Callback]:
    """Servers of a cluster write in the same millisecond, so their order is not told."""
    return sorted(callbacks, key=lambda one: one.task_id)


def test_callbacks_wait_under_their_keys_until_they_are_over(make: Callable[[], Store]) -> None:
    store = make()
    first = store.commit(
        Batch(callbacks=[Callback(0, "t", "http://a/", "1"), Callback(0, "u", "http://b/", "2")])
    )
    keys = [callback.key for callback in first.callbacks]
    assert len(set(keys)) == 2
    assert 0 not in keys
    store = make()
    assert by_task(store.pending_callbacks()) == first.callbacks
    second = store.commit(Batch(callbacks=[Callback(0, "v", "http://c/", "3")], callbacks_over=[keys[0]]))
    assert second.callbacks[0].key not in keys
    assert [callback.task_id for callback in by_task(store.pending_callbacks())] == ["u", "v"]


def test_what_became_of_a_report_is_kept_with_its_task_and_the_report_of_its_end_stays(
    make: Callable[[], Store],
) -> None:
    """Of tasks that are final and of those that are not; nothing is reported by it; no task is made by it."""
    store = make()
    over = document("over", callback="http://a/")
    store.commit(Batch(documents=over | partial("late", 1)))
    given = Told("done", "delivered", 3, "answered 204", over_at=5.0)
    early = Told("partial", "failed", 8, "answered 503", over_at=6.0)
    done = store.commit(Batch(told=[("over", given), ("late", early), ("nobody", given)]))
    assert (done.callbacks, done.settled_late, done.own_error) == ([], [], None)
    store.commit(Batch(told=[("over", early)]))
    store = make()
    kept = {name: json.loads(store.document(name) or b"{}") for name in ("over", "late")}
    assert msgspec.convert(kept["over"].pop("told"), Told) == given
    assert msgspec.convert(kept["late"]["told"], Told) == early
    assert kept["over"] == json.loads(over["over"])
    assert store.document("nobody") is None
    assert store.pending_callbacks() == []


def test_old_final_tasks_are_forgotten_and_partial_ones_are_not(store: Store) -> None:
    for number in range(10):
        store.commit(Batch(documents=document(f"old{number}", updated_at=100.0)))
    store.commit(Batch(documents=partial("late", 1, updated_at=100.0)))
    store.commit(Batch(documents=document("new", updated_at=900.0)))
    assert store.forget(500.0, 4) == 4
    assert sum(store.forget(500.0, 4) for _ in range(5)) == 6
    assert store.count()["settled"] == 2
    assert store.document("late") is not None
    assert store.document("new") is not None


def test_a_task_that_was_partial_when_its_neighbours_went_is_forgotten_in_its_turn(store: Store) -> None:
    store.commit(Batch(documents=partial("late", 1, updated_at=100.0), parked=[parked("x", task="late")]))
    store.commit(Batch(documents=document("old", updated_at=100.0)))
    assert store.forget(500.0, 100) == 1
    store.commit(of_rows(store.oldest_parked("n", 1), at=400.0))
    assert sum(store.forget(500.0, 100) for _ in range(3)) == 1
    assert store.count()["settled"] == 0


@pytest.mark.parametrize("make", ["sqlite"], indirect=True)
def test_old_tasks_behind_some_that_changed_later_are_forgotten(store: Store) -> None:
    for name, count, at in (("late", 20, 900.0), ("old", 60, 100.0), ("young", 60, 900.0)):
        one = {f"{name}{number}": document("x", updated_at=at)["x"] for number in range(count)}
        store.commit(Batch(documents=one))
    assert store.forget(500.0, 1000) == 60
    assert store.forget(500.0, 1000) == 0
    assert store.count()["settled"] == 80


@pytest.mark.parametrize("make", ["sqlite"], indirect=True)
@pytest.mark.parametrize("count", [1, 2, 3, 511, 512, 513, 1030])
def test_a_batch_of_many_documents_is_stored_in_its_order(store: Store, count: int) -> None:
    names = [f"t{number}" for number in range(count)]
    store.commit(Batch(documents={name: document("x", updated_at=1.0)["x"] for name in names}))
    store.commit(Batch(documents={name: document(name, updated_at=2.0)[name] for name in names}))
    found, _ = store.documents(None, FIRST_PAGE, count)
    assert [json.loads(one)["task_id"] for one in found] == names[::-1]


@pytest.mark.parametrize("make", ["sqlite"], indirect=True)
def test_rows_of_tasks_that_begin_again_are_dropped(store: Store) -> None:
    store.commit(
        Batch(documents=partial("kept", 1), parked=[parked("x", task="kept"), parked("y", task="again")])
    )
    assert store.orphans() == ["again"]
    store.commit(Batch(orphans=["again", "kept"]))
    assert targets(store.oldest_parked("n", 10)) == ["x"]


@pytest.mark.parametrize("make", ["sqlite"], indirect=True)
@pytest.mark.parametrize("task", ["bad", "worse"])  # their documents lack what is folded
def test_of_a_batch_that_fails_in_the_middle_nothing_is_written(make: Callable[[], Store], task: str) -> None:
    store = make()
    bad = {"bad": b'{"task_id":"bad"}', "worse": b"[]"}
    seq = store.commit(Batch(accepted=[accepted("first")])).journal[0]
    store.commit(Batch(documents=bad, parked=[parked("x"), parked("z", task=task)]))
    batch = Batch(
        accepted=[accepted("a")],
        documents=document("a"),
        parked=[parked("y")],
        settled_journal=[seq],
        delivered=of_rows(store.oldest_parked("n", 2)).delivered,
        callbacks=[Callback(0, "t", "u", "b")],
    )
    with pytest.raises((StoreError, KeyError, TypeError)):
        store.commit(batch)
    after = store.commit(Batch(accepted=[accepted("next")])).journal[0]
    store = make()  # what was not committed would be gone with the connection
    assert [(row, [record.id for record in records]) for row, records in store.journal()] == [
        (seq, ["first"]),
        (after, ["next"]),
    ]
    assert store.document("a") is None
    assert targets(store.oldest_parked("n", 10)) == ["x", "z"]
    assert store.pending_callbacks() == []


def test_a_document_that_cannot_be_stored_fails_its_batch(store: Store) -> None:
    with pytest.raises((StoreError, UnicodeDecodeError)):
        store.commit(Batch(accepted=[accepted("a")], documents=document("b") | {"a": b"\xff{"}))
    assert store.document("b") is None
    assert list(store.journal()) == []
    assert store.commit(Batch(accepted=[accepted("b")])).journal[0]


def test_a_closed_store_refuses(store: Store) -> None:
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.commit(Batch(accepted=[accepted("a")]))


# Only a file


def test_a_file_belongs_to_one_engine(tmp_path: Path) -> None:
    one, other = SqliteStore(tmp_path / "tasks-0.db"), SqliteStore(tmp_path / "tasks-0.db")
    one.open()
    with pytest.raises(StoreError, match=r"tasks-0\.db: another engine is using it; .*engine\.data_dir"):
        other.open()
    one.commit(Batch(accepted=[accepted("a")]))
    one.close()
    other.open()
    assert len(list(other.journal())) == 1
    other.close()


@pytest.mark.parametrize("content", [b"not a database at all " * 500, b""])
def test_a_file_that_is_no_database_stops_the_start_and_stays_as_it_is(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "tasks-0.db"
    path.write_bytes(content)
    with pytest.raises(StoreDamagedError) as caught:
        SqliteStore(path).open()
    assert str(path) in str(caught.value)
    assert "move tasks-0.db" in str(caught.value)
    assert path.read_bytes() == content


def test_damage_inside_the_file_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "tasks-0.db"
    store = SqliteStore(path)
    store.open()
    for number in range(200):
        store.commit(Batch(accepted=[accepted(f"{number}-{'x' * 500}")], documents=document(f"d{number}")))
    store.close()
    data = bytearray(path.read_bytes())
    for start in range(4096 * 2, len(data), 4096):
        data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)
    with pytest.raises(StoreDamagedError, match="damaged"):
        SqliteStore(path).open()


def test_a_file_of_the_next_version_is_read_and_of_a_later_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "tasks-0.db"
    store = SqliteStore(path)
    store.open()
    store.close()
    for version, is_readable in ((2, True), (3, False)):
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.close()
        if is_readable:
            store.open()
            store.close()
        else:
            with pytest.raises(StoreError, match="newer version of purgeline"):
                store.open()


def test_a_folder_that_is_not_there_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        SqliteStore(tmp_path / "gone" / "tasks-0.db").open()


def test_plans_are_dropped_at_a_start_that_finds_no_task(tmp_path: Path) -> None:
    record = planned("a", b"one")
    with contextlib.closing(SqliteStore(tmp_path / "tasks-0.db")) as store:
        store.open()
        [key] = store.commit(Batch(accepted=[record], plans={b"one": b"text"})).journal
        store.close()
        store.open()
        assert store.plans([record]) == {b"one": b"text"}
        store.commit(Batch(documents=document("a"), settled_journal=[key]))
        store.close()
        store.open()
        assert store.plans([record]) == {}
        store.commit(Batch(accepted=[record], plans={b"one": b"text"}))
        assert store.plans([record]) == {b"one": b"text"}, "what one opening knew the next does not"


def test_parts_of_tasks_are_found_by_how_their_ids_begin(store: Store) -> None:
    names = ["t", "t~0123456789abcdef", "t~f", "t~1f~2e", "t2~f", "t-~f", "u~f"]
    for name in names:
        store.commit(Batch(documents=document(name), parked=[parked(f"http://a/~/{name}", task=name)]))
    assert sorted(store.parts_parked(["t"])) == ["t~0123456789abcdef", "t~1f~2e", "t~f"]
    assert sorted(store.parts_parked(["t~1f", "u"])) == ["t~1f~2e", "u~f"]
    assert store.parts_parked(["f"]) == []


def test_what_is_done_otherwise_below_a_node_is_noted_in_stored_tasks(store: Store) -> None:
    store.commit(Batch(documents=partial("t", 1), parked=[parked("http://a/")]))
    skipped, notes = [Skipped("n/squid-1", "no regex")], [Note(("n/edge-1",), "hard")]
    for _ in range(2):
        store.commit(Batch(noted=[Noted("t", "n", "http://a/", "", skipped, notes)]))
    [row] = store.oldest_parked("n", 10)
    last = [Skipped("n/squid-2", "no regex")]
    batch = Batch(
        noted=[Noted("t", "n", "http://a/", "held", last, notes)], delivered=[Delivered(row, "e", 2.0)]
    )
    store.commit(batch)  # it settles the task
    told = json.loads(store.document("t") or b"")
    assert told["state"] == "done"
    assert told["errors"] == []
    assert told["skipped"] == [{"name": "n/squid-2", "reason": "no regex"}]
    assert told["notes"] == [{"nodes": ["n/edge-1"], "note": "hard"}]

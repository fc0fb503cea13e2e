"""Engines of one Redis: who lives and leads, how entries change hands, and what a late one may still do."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from engine.base.clock import SteadyClock
from engine.cluster.claims import QueueClaims
from engine.cluster.membership import Membership
from engine.cluster.threads import Threads
from engine.errors import StoreError
from engine.store.redis.keys import GROUP
from engine.store.redis.members import About, Members
from engine.store.redis.open import redis_store
from engine.tasks.records import Accepted, Batch, Callback, Delivered, Parked
from tests.rigs.redis_servers import RedisCluster, RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.store.redis.records import Taken

pytestmark = pytest.mark.redis

_numbers = itertools.count()
REGIONS = 4
TTL_S = 0.3


@pytest.fixture(scope="module", params=[RedisServer, RedisCluster])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with request.param(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def join(url: str) -> Iterator[Callable[[str], Members]]:
    """Return a function that makes an engine's side of the store."""
    made: list[Members] = []
    prefix = f"members-{next(_numbers)}"

    def one(name: str) -> Members:
        store = redis_store(url, name, region_count=REGIONS, prefix=prefix)
        store.open()
        made.append(Members(store, TTL_S))
        return made[-1]

    yield one
    for members in made:
        members.store.close()


def record(name: str) -> Accepted:
    return Accepted(name, 1000.0, 60.0, b"d", b'{"targets":["http://a/"]}')


def document(name: str, state: str, **extra: object) -> dict[str, bytes]:
    layer = {"name": "edge", "total": 2, "counter": 1, "failed": 0, "delayed": 1 if "delayed" in extra else 0}
    made = {
        "task_id": name,
        "state": state,
        "active": state == "running",
        "working_layer": "edge",
        "total": 2,
        "counter": 1,
        "failed": 0,
        "delayed": 0,
        "layers": [layer],
        "created_at": 1000.0,
        "updated_at": 1000.0,
        "due_at": 1060.0,
        "errors": [],
    }
    return {name: json.dumps({**made, **extra}).encode()}


def state_of(members: Members, name: str) -> str:
    return str(json.loads(members.store.document(name) or b"")["state"])


def take_all(members: Members, consumer: str) -> list[Taken]:
    return [
        one
        for region in range(REGIONS)
        for ids in list(members.entries_of(consumer, region))
        for one in members.take(consumer, region, ids)
    ]


def test_an_entry_that_cannot_be_read_holds_up_no_other(join: Callable[[str], Members]) -> None:
    """A power cut may tear what Redis had not synced, and Redis does not see that."""
    dead, taker = join("dead"), join("taker")
    store = dead.store
    store.commit(Batch(accepted=[record(f"t-{number}") for number in range(8)]))
    for stream in store.keys.streams:
        store.link.one("XADD", stream, "*", "t", b"\0" * 40)
        store.link.one("XREADGROUP", "GROUP", GROUP, "dead", "STREAMS", stream, ">")
    store.commit(Batch(accepted=[record(f"t-{number}") for number in range(8, 16)]))
    names = {one.id for taken in take_all(taker, "dead") for one in taken.records}
    assert names == {f"t-{number}" for number in range(16)}
    left = [list(taker.entries_of("dead", region)) for region in range(REGIONS)]
    assert [len(ids) for [ids] in left] == [1] * REGIONS, "an operator may look at them"


@pytest.mark.parametrize("is_lost", [True, False])
def test_an_entry_is_let_go_where_it_is_not_there_any_more(
    join: Callable[[str], Members], monkeypatch: pytest.MonkeyPatch, *, is_lost: bool
) -> None:
    """It was looked for on a server that was no master any more, and has been worked there, in vain."""
    dead, taker = join("dead"), join("taker")
    link = taker.store.link
    [key] = dead.store.commit(Batch(accepted=[record("t")])).journal
    region, _, entry = str(key).partition(":")
    stream = taker.store.keys.streams[int(region)]
    before = link.one("DUMP", stream)
    link.one("XDEL", stream, entry, is_write=True)
    read = taker.store.read_entries

    def read_before_a_failover(*args: Any) -> Any:
        if not is_lost:
            link.one("RESTORE", stream, 0, before, "REPLACE", is_write=True)
        return read(*args)

    with monkeypatch.context() as patched:
        patched.setattr(taker.store, "read_entries", read_before_a_failover)
        assert take_all(taker, "dead") == []
    assert [one.id for taken in take_all(taker, "dead") for one in taken.records] == (["t"] * (not is_lost))
    assert list(taker.entries_of("dead", int(region))) == []


def test_one_leads_until_it_is_silent_and_the_number_grows(join: Callable[[str], Members]) -> None:
    one, other = join("one"), join("other")
    assert one.beat(About("one"), may_lead=True).leader == "one"
    view = other.beat(About("other", nodes=["n"]), may_lead=True)
    assert (view.leader, view.fence) == ("one", 1)
    assert {member.consumer: member.lives for member in view.members} == {"one": True, "other": True}
    time.sleep(0.4)
    view = other.beat(About("other"), may_lead=True)
    assert (view.leader, view.fence) == ("other", 2)
    assert {member.consumer: member.lives for member in view.members} == {"one": False, "other": True}


def test_who_leaves_is_known_to_have_left_and_tells_the_others(join: Callable[[str], Members]) -> None:
    one, other = join("one"), join("other")
    other.beat(About("other"), may_lead=False)
    one.beat(About("one"), may_lead=True)
    one.leave()
    view = other.beat(About("other"), may_lead=True)
    assert view.leader == "other"
    assert [member.consumer for member in view.members if member.has_left] == ["one"]
    assert other.receive(1) == "look"
    assert other.bury("one")
    assert [member.consumer for member in other.beat(About("other"), may_lead=True).members] == ["other"]


def test_entries_change_hands_once_with_what_was_done(join: Callable[[str], Members]) -> None:
    one, other, third = join("one"), join("other"), join("third")
    one.store.commit(Batch(accepted=[record(name) for name in ("a", "b", "c")]))
    one.store.commit(
        Batch(documents=document("a", "done"), progress={"b": b'{"task_id":"b","state":"running"}'})
    )
    one.store.commit(Batch(callbacks=[Callback(0, "a", "http://hook/", "{}")]))
    assert state_of(other, "b") == "running"
    assert one.pending()["one"]
    taken = take_all(other, "one")
    records = {record.id: taken_.progress.get(record.id) for taken_ in taken for record in taken_.records}
    assert records == {"b": b'{"task_id":"b","state":"running"}', "c": None}
    assert [taken_.entry.callback.task_id for taken_ in taken if taken_.entry.callback] == ["a"]
    assert take_all(third, "one") == []
    assert sum(map(len, [one.pending()["one"]])) == 0
    assert sum(other.pending()["other"].values()) == len(taken)


def test_results_of_one_that_was_taken_for_dead_do_not_count(join: Callable[[str], Members]) -> None:
    one, other = join("one"), join("other")
    keys = one.store.commit(Batch(accepted=[record("a"), record("b")])).journal
    take_all(other, "one")
    late = one.store.commit(
        Batch(
            documents={**document("a", "failed"), **document("b", "partial", delayed=1)},
            progress={"a": b'{"task_id":"a","state":"running"}'},
            parked=[Parked("n", 1, "http://a/", "b", "", 5.0)],
            settled_journal=keys,
            callbacks=[Callback(0, "a", "http://hook/", "{}")],
        )
    )
    assert (late.lost, late.callbacks) == ({"a", "b"}, [])
    assert one.store.depths() == {}
    assert sorted(record.id for _, records in other.store.journal() for record in records) == ["a", "b"]
    done = other.store.commit(Batch(documents={**document("a", "done"), **document("b", "done")}))
    assert done.lost == set()
    assert (state_of(one, "a"), state_of(one, "b")) == ("done", "done")
    assert one.store.commit(Batch(documents=document("a", "failed"))).lost == set()
    assert state_of(one, "a") == "done"


def test_a_row_delivered_by_two_is_counted_once(join: Callable[[str], Members]) -> None:
    one, other = join("one"), join("other")
    rows = [Parked("n", 1, f"http://a/{number}", "t", "", 5.0 + number) for number in range(2)]
    layer = {"name": "edge", "total": 3, "counter": 1, "failed": 0, "delayed": 2}
    one.store.commit(Batch(documents=document("t", "partial", delayed=2, layers=[layer]), parked=rows))
    seen = one.store.oldest_parked("n", 10)
    for members, some in ((one, seen[:1]), (other, seen[:1]), (other, seen), (one, seen)):
        members.store.commit(Batch(delivered=[Delivered(row, "edge", 9.0) for row in some]))
    found = json.loads(one.store.document("t") or b"")
    assert (found["counter"], found["delayed"], found["state"]) == (3, 0, "done")


def test_a_leader_that_slept_through_its_end_changes_nothing(join: Callable[[str], Members]) -> None:
    one, other = join("one"), join("other")
    old = one.beat(About("one"), may_lead=True).fence
    rows = [Parked("n", 1, "http://a/", "t", "", 5.0)]
    one.store.commit(Batch(documents=document("t", "running", delayed=1), parked=rows))
    time.sleep(0.4)
    new = other.beat(About("other"), may_lead=True).fence
    assert new > old
    assert other.fence(new, range(REGIONS)) == set(range(REGIONS))
    assert one.fence(old, range(REGIONS)) is None
    with pytest.raises(StoreError, match="later one"):
        one.make_due(2000.0, old)
    assert state_of(one, "t") == "running"
    assert other.make_due(1059.0, new)[0] == []
    assert other.make_due(2000.0, new)[0] == ["partial"]
    assert state_of(one, "t") == "partial"
    assert other.make_due(2000.0, new)[0] == []


def test_a_task_that_is_done_while_it_becomes_due_stays_done(
    join: Callable[[str], Members], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = join("one")
    fence = one.beat(About("one"), may_lead=True).fence
    rows = [Parked("n", 1, "http://a/", "t", "", 5.0)]
    one.store.commit(Batch(documents=document("t", "running", delayed=1), parked=rows))
    [row] = one.store.oldest_parked("n", 2)
    read = one.store.values

    def read_and_then_deliver(ids: list[str]) -> dict[str, bytes | None]:
        found = read(ids)
        monkeypatch.setattr(one.store, "values", read)
        one.store.commit(Batch(delivered=[Delivered(row, "edge", 7.0)]))
        return found

    monkeypatch.setattr(one.store, "values", read_and_then_deliver)
    assert one.make_due(2000.0, fence)[0] == []
    assert one.make_due(2000.0, fence)[0] == []
    assert state_of(one, "t") == "done"


def test_an_id_that_is_used_again_meanwhile_is_not_forgotten(
    join: Callable[[str], Members], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = join("one")
    one.store.commit(Batch(documents=document("t", "done")))
    key, read = one.store.keys.task("t"), one.store.values

    def read_and_then_use(ids: list[str]) -> dict[str, bytes | None]:
        found = read(ids)
        one.store.link.one("SET", key, "@two 1-1", is_write=True)
        return found

    monkeypatch.setattr(one.store, "values", read_and_then_use)
    assert one.store.forget(1e9, 10) == 0
    assert one.store.link.one("GET", key) == b"@two 1-1"
    monkeypatch.setattr(one.store, "values", read)
    one.store.link.one("DEL", key, is_write=True)
    assert one.store.forget(1e9, 10) == 1


def test_a_task_that_was_settled_by_an_engine_whose_clock_is_behind_is_not_forgotten(
    join: Callable[[str], Members],
) -> None:
    store = join("one").store
    store.commit(Batch(documents=document("t", "done")))  # of 1970
    store.now = SteadyClock().now
    before_at = store.now() - 3 * 86400
    assert store.forget(before_at, 10) == 0
    store.link.one("PERSIST", store.keys.task("t"), is_write=True)
    assert store.forget(before_at, 10) == 1


def test_one_delivers_a_nodes_queue_at_a_time(join: Callable[[str], Members]) -> None:
    one, other = join("one"), join("other")
    assert one.lock("n") == ""
    assert other.lock("n") == "one"
    assert other.lock("m") == ""
    assert one.lock("n") == ""
    other.unlock("n")
    assert other.lock("n") == "one"
    assert other.lock("n", "one") == "", "from one that is gone, however long its claim lasts"
    assert one.lock("n") == "other"
    other.unlock("n")
    assert one.lock("n") == ""


async def test_a_claim_of_an_engine_that_has_just_joined_is_not_taken(join: Callable[[str], Members]) -> None:
    def engine(name: str) -> tuple[Membership, QueueClaims]:
        members, threads = join(name), Threads()
        membership = Membership(
            members,
            threads,
            About(name=name),
            clock=SteadyClock(),
            ttl_s=TTL_S,
            is_draining=lambda: False,
            kept=lambda: (0, {}),
        )
        return membership, QueueClaims(members, threads, membership)

    (first, its_claims), (second, claims) = engine("first"), engine("second")
    await first.join()
    while not first.is_steady:
        await asyncio.sleep(TTL_S / 10)
        await first.beat()
    await second.join()  # the first has not beaten since
    assert await claims.take("n")
    assert not await its_claims.take("n")
    await claims.keep_all()
    assert await claims.take("n")
    await second.leave()
    await first.beat()
    assert await its_claims.take("n"), "of one that has left it is"


def test_what_one_server_cannot_write_is_left_and_the_rest_is_written(
    join: Callable[[str], Members], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = join("one").store
    names = {store.keys.region(f"t{number}"): f"t{number}" for number in range(50)}
    away, here = names[0], names[1]
    run = store.link.run

    def run_without(commands: list[tuple[object, ...]], *, is_write: bool = False, **_: bool) -> list[object]:
        return [
            StoreError("away")
            if any(store.keys.tags[0] in str(word) for word in command)
            else run([command], is_write=is_write)[0]
            for command in commands
        ]

    monkeypatch.setattr(store.link, "run", run_without)
    monkeypatch.setattr(store, "_works_in_part", lambda: True)
    rows = [Parked("n", 1, "http://a/", name, "", 5.0) for name in (away, here)]
    documents = document(away, "running", delayed=1) | document(here, "running", delayed=1)
    done = store.commit(Batch(documents=documents, parked=rows))
    assert str(done.own_error) == "away"
    assert done.left is not None
    assert (list(done.left.documents), [row.task_id for row in done.left.parked]) == ([away], [away])
    monkeypatch.setattr(store.link, "run", run)
    assert [row.task_id for row in store.oldest_parked("n", 9)] == [here]
    assert store.commit(done.left).own_error is None
    assert sorted(row.task_id for row in store.oldest_parked("n", 9)) == sorted([away, here])


def test_rows_come_by_the_time_of_their_region_which_never_goes_back(join: Callable[[str], Members]) -> None:
    """Whatever the clock of the engine says, and also where a failover comes to a server that is behind."""
    store = join("one").store
    link, keys = store.link, store.keys
    ahead = time.time() + 3600
    for tag in keys.tags:
        link.one("SET", f"{tag}clock", repr(ahead), is_write=True)
    store.commit(Batch(parked=[Parked("n", 1, "http://a/1", "t", "", 0.0)]))
    [first] = store.oldest_parked("n", 9)
    assert ahead < first.parked_at < ahead + 1
    assert not store.moment()(first), "a failover may lose what was written last"
    link.one("SET", f"{keys.tags[keys.region('t')]}clock", repr(ahead + 60), is_write=True)
    was_there = store.moment()
    assert was_there(first)
    store.commit(Batch(parked=[Parked("n", 1, "http://a/2", "t", "", 0.0)]))
    assert [was_there(row) for row in store.oldest_parked("n", 9)] == [True, False]


def test_a_number_that_was_lost_grows_past_what_the_regions_have_seen(join: Callable[[str], Members]) -> None:
    one, other = join("one"), join("other")
    number = one.beat(About("one"), may_lead=True).fence + 7
    assert one.fence(number, range(REGIONS)) == set(range(REGIONS))
    assert other.grow_fence() == 0, "only of the one that leads"
    assert one.grow_fence() == number + 1
    assert other.beat(About("other"), may_lead=True).fence == number + 1
    assert one.fence(number + 1, range(REGIONS)) == set(range(REGIONS))

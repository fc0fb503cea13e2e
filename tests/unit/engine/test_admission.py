"""From bodies to the saver and back to answers; saver and delivery are recorders."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from engine.config.load import parse
from engine.config.tables import AuthConfig
from engine.delivery.load import Load
from engine.errors import BacklogFullError, StoreError
from engine.intake.admission import Admission
from engine.intake.auth import Auth
from engine.intake.client import Client
from engine.intake.drafting import LINES_MAX
from engine.intake.topology import Topology
from engine.intake.validate import Validator
from engine.observe.counters import Stats
from engine.tasks.records import By
from engine.tasks.region import RegionMap
from tests.fakes.audit import Lines, audit_of

if TYPE_CHECKING:
    from engine.intake.replies import Reply
    from engine.tasks.task import Task

CONFIG = parse({"node": [{"name": "edge-1", "driver": "varnish", "url": "http://127.0.0.1:1"}]})


def body(name: str = "a", *targets: str) -> bytes:
    return json.dumps({"id": name, "targets": targets or ["http://a/"]}).encode()


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a slice of work may be over before it has begun."""
    monkeypatch.setattr("engine.intake.drafting.SLICE_S", 60.0)


class Saver:
    """Keeps the tasks that it is pushed."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.documents: dict[str, bytes] = {}
        self.store = SimpleNamespace(document=self.documents.get)

    def of(self, _task_id: str) -> Saver:
        return self

    def push(self, task: Task, _until: float | None) -> None:
        self.tasks.append(task)


class Delivery:
    """Keeps what it is to deliver."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def submit(self, task: Task, _journal_key: object) -> None:
        self.tasks.append(task.id)


class Bench:
    """An admission and what it touches."""

    def __init__(self, *, live_max: int = 100, wait_s: float = 0.001) -> None:
        self.saver = cast("Any", Saver())
        self.delivery = cast("Any", Delivery())
        self.load = Load(asyncio.get_running_loop())
        self.regions = RegionMap(4)
        self.stats = Stats()
        self.alerts: list[str] = []
        self.news = asyncio.Event()
        self.lines = Lines()
        self.client = Client(Auth(AuthConfig(), []).check(None, "submit"), By("anonymous", "192.0.2.7"))
        self.full = cast("Any", SimpleNamespace(names=()))
        self.replayed = asyncio.Event()
        self.admission = Admission(
            Validator(Topology(CONFIG), due_s=60, allows_callback=lambda _: None),
            self.regions,
            self.delivery,
            self.saver,
            self.stats,
            reader=cast("Any", self),
            load=self.load,
            full=self.full,
            replayed=self.replayed,
            live_max=live_max,
            wait_s=wait_s,
            waiting_max=10,
            audit=audit_of(self.lines),
            on_alert=lambda key, _level, _message: self.alerts.append(key),
        )

    def fill_queues(self) -> None:
        """Have every task add only rows to full delay queues."""

        def check(_task: Task) -> None:
            raise BacklogFullError("the delay queue of edge-1", retry_after_s=60)

        self.full.names, self.full.check = {"edge-1"}, check
        self.replayed.set()

    async def read(self, function: Any, *args: Any) -> Any:
        return function(*args)

    def submit(self, data: bytes) -> list[Reply]:
        """Hand a body in; return where its reply comes."""
        replies: list[Reply] = []

        def answer(reply: Reply) -> None:
            replies.append(reply)
            self.news.set()

        self.admission.submit(data, self.client, answer)
        return replies

    def commit(self, number: int = 0, error: Exception | None = None) -> None:
        self.admission.accepted(self.saver.tasks[number], 0 if error else 7, error)


def statuses(*replies: list[Reply]) -> list[int]:
    return [reply.status for each in replies for reply in each]


async def test_a_task_is_answered_after_its_commit_and_delivered_then() -> None:
    bench = Bench()
    replies = bench.submit(body("a", "http://a/1", "http://a/2"))
    assert (replies, bench.delivery.tasks, bench.load.live) == ([], [], 2)
    bench.commit()
    assert statuses(replies) == [202]
    assert json.loads(replies[0].body) == {"task_id": "a", "state": "accepted", "total": 2}
    assert bench.delivery.tasks == ["a"]
    assert (bench.stats.tasks_accepted, bench.stats.qps_boss.count) == (1, 2)


async def test_a_task_that_cannot_be_saved_is_as_if_it_had_never_come() -> None:
    bench = Bench()
    replies = bench.submit(body())
    bench.commit(error=StoreError("disk is full"))
    assert statuses(replies) == [503]
    assert (len(bench.regions), bench.load.live, bench.delivery.tasks) == (0, 0, [])
    assert (bench.stats.store_errors, bench.stats.requests_unavailable) == (1, 1)


async def test_the_same_again_while_it_is_being_saved_shares_its_fate() -> None:
    bench = Bench()
    first, second = bench.submit(body()), bench.submit(body())
    assert len(bench.saver.tasks) == 1
    assert (first, second) == ([], [])
    bench.commit()
    assert statuses(first, second) == [202, 200]
    assert statuses(bench.submit(body())) == [200]
    assert bench.stats.tasks_replayed == 2


async def test_a_full_delay_queue_refuses_new_tasks_and_knows_those_that_came_before() -> None:
    bench = Bench()
    first = bench.submit(body())
    bench.fill_queues()
    while_saved = bench.submit(body())
    bench.commit()
    assert statuses(first, while_saved, bench.submit(body())) == [202, 200, 200]
    task = bench.saver.tasks[0]
    bench.regions.remove(task.id)
    bench.saver.documents[task.id] = json.dumps(
        {"task_id": "a", "state": "done", "digest": task.digest.hex()}
    ).encode()
    own_id = bench.submit(json.dumps({"targets": ["http://a/"]}).encode())
    assert statuses(own_id) == [503]
    for data, status in ((body(), 200), (body("a", "http://b/"), 409), (body("b"), 503)):
        bench.news.clear()
        replies = bench.submit(data)
        await asyncio.wait_for(bench.news.wait(), 5)
        assert statuses(replies) == [status]
    assert len(bench.regions) == 0
    assert bench.saver.tasks == [task]


async def test_another_task_under_the_same_id_is_a_conflict_at_every_stage() -> None:
    bench = Bench()
    first = bench.submit(body())
    assert statuses(bench.submit(body("a", "http://b/"))) == [409]
    bench.commit()
    assert statuses(bench.submit(body("a", "http://b/"))) == [409]
    assert statuses(first) == [202]


@pytest.mark.parametrize("is_same", [True, False])
async def test_an_id_that_the_store_has_is_answered_from_there(is_same: bool) -> None:
    bench = Bench()
    replies = bench.submit(body())
    [task] = bench.saver.tasks
    digest = task.digest.hex() if is_same else "00"
    bench.admission.known(task, digest, b'{"task_id":"a","state":"done","digest":"ff"}')
    assert statuses(replies) == [200 if is_same else 409]
    assert (len(bench.regions), bench.load.live) == (0, 0)


async def test_a_task_without_room_waits_and_is_refused_in_the_end() -> None:
    bench = Bench(live_max=2)
    bench.submit(body("a", "http://a/1", "http://a/2"))
    replies = bench.submit(body("b"))
    assert replies == []
    async with asyncio.timeout(30):
        await bench.news.wait()
    assert statuses(replies) == [503]
    assert replies[0].headers["Retry-After"] == "1"
    assert bench.alerts == ["full:pushing_queue"]
    assert bench.stats.requests_failed == 0, "a full engine is no error of the engine"
    assert len(bench.regions) == 1


async def test_lines_are_answered_together_and_each_for_itself() -> None:
    bench = Bench()
    replies: list[Reply] = []
    bench.admission.submit_lines(body("a") + b"\n\n{}\n" + body("b"), bench.client, replies.append)
    assert [task.id for task in bench.saver.tasks] == ["a", "b"]
    bench.commit(1)
    bench.commit(0, BacklogFullError("saver_queue", retry_after_s=1))
    [reply] = replies
    first, wrong, second = map(json.loads, reply.body.splitlines())
    assert (first["status"], wrong["status"], second["state"]) == (503, 422, "accepted")


@pytest.mark.parametrize("data", [b"", b"\n\n", b"{}\n" * (LINES_MAX + 1)])
async def test_no_line_and_too_many_are_refused_whole(data: bytes) -> None:
    bench = Bench()
    replies: list[Reply] = []
    bench.admission.submit_lines(data, bench.client, replies.append)
    assert statuses(replies) == [422]
    assert bench.stats.requests_refused == 1

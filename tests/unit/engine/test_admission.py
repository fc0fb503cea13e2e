"""From bodies to the saver and back to answers; the saver keeps what it is pushed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from engine.errors import BacklogFullError, StoreError
from engine.intake.drafting import LINES_MAX
from tests.rigs.admission_rig import AdmissionRig

if TYPE_CHECKING:
    from engine.intake.replies import Reply


def body(name: str = "a", *targets: str) -> bytes:
    return json.dumps({"id": name, "targets": targets or ["http://a/"]}).encode()


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a slice of work may be over before it has begun."""
    monkeypatch.setattr("engine.intake.drafting.SLICE_S", 60.0)


def statuses(*replies: list[Reply]) -> list[int]:
    return [reply.status for each in replies for reply in each]


async def test_a_task_is_answered_after_its_commit_and_delivered_then() -> None:
    bench = AdmissionRig()
    replies = bench.submit(body("a", "http://a/1", "http://a/2"))
    assert (replies, bench.delivered, bench.load.live) == ([], [], 2)
    bench.commit()
    assert statuses(replies) == [202]
    assert json.loads(replies[0].body) == {"task_id": "a", "state": "accepted", "total": 2}
    assert bench.delivered == ["a"]
    assert (bench.stats.tasks_accepted, bench.stats.qps_boss.count) == (1, 2)


async def test_a_task_that_cannot_be_saved_is_as_if_it_had_never_come() -> None:
    bench = AdmissionRig()
    replies = bench.submit(body())
    bench.commit(error=StoreError("disk is full"))
    assert statuses(replies) == [503]
    assert (len(bench.regions), bench.load.live, bench.delivered) == (0, 0, [])
    assert (bench.stats.store_errors, bench.stats.requests_unavailable) == (1, 1)


async def test_the_same_again_while_it_is_being_saved_shares_its_fate() -> None:
    bench = AdmissionRig()
    first, second = bench.submit(body()), bench.submit(body())
    assert len(bench.saved) == 1
    assert (first, second) == ([], [])
    bench.commit()
    assert statuses(first, second) == [202, 200]
    assert statuses(bench.submit(body())) == [200]
    assert bench.stats.tasks_replayed == 2


async def test_a_full_delay_queue_refuses_new_tasks_and_knows_those_that_came_before() -> None:
    bench = AdmissionRig()
    first = bench.submit(body())
    bench.fill_queues()
    while_saved = bench.submit(body())
    bench.commit()
    assert statuses(first, while_saved, bench.submit(body())) == [202, 200, 200]
    task = bench.saved[0]
    bench.regions.remove(task.id)
    bench.documents[task.id] = json.dumps(
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
    assert bench.saved == [task]


async def test_another_task_under_the_same_id_is_a_conflict_at_every_stage() -> None:
    bench = AdmissionRig()
    first = bench.submit(body())
    assert statuses(bench.submit(body("a", "http://b/"))) == [409]
    bench.commit()
    assert statuses(bench.submit(body("a", "http://b/"))) == [409]
    assert statuses(first) == [202]


@pytest.mark.parametrize("is_same", [True, False])
async def test_an_id_that_the_store_has_is_answered_from_there(is_same: bool) -> None:
    bench = AdmissionRig()
    replies = bench.submit(body())
    [task] = bench.saved
    digest = task.digest.hex() if is_same else "00"
    bench.admission.known(task, digest, b'{"task_id":"a","state":"done","digest":"ff"}')
    assert statuses(replies) == [200 if is_same else 409]
    assert (len(bench.regions), bench.load.live) == (0, 0)


async def test_a_task_without_room_waits_and_is_refused_in_the_end() -> None:
    bench = AdmissionRig(live_max=2)
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
    bench = AdmissionRig()
    replies: list[Reply] = []
    bench.admission.submit_lines(body("a") + b"\n\n{}\n" + body("b"), bench.client, replies.append)
    assert [task.id for task in bench.saved] == ["a", "b"]
    bench.commit(1)
    bench.commit(0, BacklogFullError("saver_queue", retry_after_s=1))
    [reply] = replies
    first, wrong, second = map(json.loads, reply.body.splitlines())
    assert (first["status"], wrong["status"], second["state"]) == (503, 422, "accepted")


@pytest.mark.parametrize("data", [b"", b"\n\n", b"{}\n" * (LINES_MAX + 1)])
async def test_no_line_and_too_many_are_refused_whole(data: bytes) -> None:
    bench = AdmissionRig()
    replies: list[Reply] = []
    bench.admission.submit_lines(data, bench.client, replies.append)
    assert statuses(replies) == [422]
    assert bench.stats.requests_refused == 1

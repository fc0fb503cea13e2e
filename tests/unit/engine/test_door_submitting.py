"""From what is asked for to tasks. The intake is a recorder."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from engine.delivery.watchers import Watchers
from engine.doors.asked import Asked, bodies_of
from engine.doors.submitting import Saved, Submitting, is_unsent
from engine.intake.replies import Reply
from engine.recordings.tap import Tap
from engine.tasks.words import ACKED, BLOCKED, DELAYED, QUEUED, RETRYING, SENT, State

if TYPE_CHECKING:
    from collections.abc import Callable

URL = Asked("url", ["http://a.org/"])


class Bench:
    """Submitting, and all that it touches."""

    def __init__(self) -> None:
        self.handed_in: list[tuple[bytes, Callable[[Reply], None]]] = []
        self.tasks: dict[str, Any] = {}
        self.watchers = Watchers()
        admission: Any = SimpleNamespace(
            submit=lambda body, client, answer, **_: self.handed_in.append((body, answer)), tap=Tap()
        )
        regions: Any = self.tasks
        self.submitting = Submitting(admission, regions, self.watchers, asyncio.get_running_loop())
        self.saved: list[Saved] = []

    def submit(self, asked: Asked = URL, *, token: str = "cms", wait_s: float = 0) -> None:
        client: Any = SimpleNamespace(token=SimpleNamespace(name=token))
        self.submitting.submit(asked, client, self.saved.append, wait_s=wait_s)

    def answer(self, number: int, task_id: str = "t1", *states: int) -> None:
        shares = [SimpleNamespace(states=bytearray(states))] if states else []
        self.tasks[task_id] = SimpleNamespace(id=task_id, shares=shares, state=State.ACCEPTED)
        self.handed_in[number][1](
            Reply(202, json.dumps({"task_id": task_id, "state": "accepted", "total": 2}).encode())
        )


async def test_the_same_purge_while_nothing_of_it_is_sent_is_one_task() -> None:
    bench = Bench()
    bench.submit()
    bench.submit()
    bench.submit(token="other")
    bench.submit(Asked("url", ["http://a.org/b"]))
    assert len(bench.handed_in) == 3
    bench.answer(0, "t1", QUEUED, BLOCKED)
    bench.submit()
    assert [saved.task_ids for saved in bench.saved] == [("t1",)] * 3
    bench.tasks["t1"].shares[0].states[0] = SENT
    bench.submit()
    assert len(bench.handed_in) == 4


@pytest.mark.parametrize("state", [SENT, RETRYING, ACKED, DELAYED])
def test_what_may_have_been_sent_is_not_joined(state: int) -> None:
    task: Any = SimpleNamespace(shares=[SimpleNamespace(states=bytearray([QUEUED, state]))])
    assert not is_unsent(task)


async def test_a_refused_purge_is_tried_again() -> None:
    bench = Bench()
    bench.submit()
    bench.submit()
    bench.handed_in[0][1](Reply(503, b"{}"))
    assert [saved.refusal is not None for saved in bench.saved] == [True, True]
    bench.submit()
    assert len(bench.handed_in) == 2


async def test_too_many_targets_are_several_tasks_one_after_the_other() -> None:
    bench = Bench()
    keys = [{"host": "a.org", "key": f"k{number}"} for number in range(25_000)]
    bench.submit(Asked("key", keys))
    bench.answer(0, "t1")
    bench.answer(1, "t2")
    bench.answer(2, "t3")
    parts = [json.loads(body)["targets"] for body, _ in bench.handed_in]
    assert [len(part) for part in parts] == [10_000, 10_000, 5_000]
    assert [key for part in parts for key in part] == keys
    assert bench.saved == [Saved(("t1", "t2", "t3"), 6)]


async def test_after_a_refused_part_nothing_more_is_handed_in_and_what_is_saved_is_named() -> None:
    bench = Bench()
    bench.submit(Asked("key", [{"host": "a.org", "key": f"k{number}"} for number in range(25_000)]))
    bench.answer(0, "t1")
    bench.handed_in[1][1](Reply(429, b"{}"))
    assert len(bench.handed_in) == 2
    assert (bench.saved[0].task_ids, bench.saved[0].refusal) == (("t1",), Reply(429, b"{}"))


async def test_a_client_waits_until_nothing_is_on_its_way_or_the_engine_ends() -> None:
    bench = Bench()
    bench.submit(wait_s=60)
    bench.answer(0, "t1", QUEUED)
    bench.submit(wait_s=60)
    assert bench.saved == []
    bench.watchers.tell(bench.tasks["t1"])
    assert [saved.tasks for saved in bench.saved] == [(bench.tasks["t1"],)] * 2
    bench.submit(Asked("url", ["http://a.org/c"]), wait_s=60)
    bench.answer(1, "t2", SENT)
    bench.submitting.stop_waiting()
    assert bench.saved[2].task_ids == ("t2",)


async def test_a_client_waits_no_longer_than_its_door_says() -> None:
    bench = Bench()
    bench.submit(wait_s=0.001)
    bench.answer(0, "t1", SENT)
    await asyncio.sleep(0.01)  # the timers of a loop go off in their order
    assert bench.saved[0].tasks == (bench.tasks["t1"],)


def test_a_body_names_only_what_is_asked_for() -> None:
    assert bodies_of(URL) == [b'{"targets":["http://a.org/"]}']
    [body] = bodies_of(Asked("key", [{"host": "a", "key": "k"}], soft=True))
    assert json.loads(body) == {"kind": "key", "soft": True, "targets": [{"host": "a", "key": "k"}]}

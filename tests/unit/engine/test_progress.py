"""How far tasks have come: what is written down, when, and what another engine reads of it."""

from __future__ import annotations

import time
from types import SimpleNamespace

import msgspec
import pytest

from engine.tasks.plan import Plan
from engine.tasks.progress import YOUNG_S, is_cancelled, progress_document, read_progress, take_touched
from engine.tasks.records import Progress
from engine.tasks.task import Share, Task
from engine.tasks.words import ACKED, FAILED, SENT, Operation, State


def task(name: str = "t", *, age_s: float = 0.0) -> Task:
    made = Task.internal(["a", "b", "c"], owner=None, task_id=name)
    made.created_at = time.time() - age_s
    return made


def share(of: Task, node: str, states: list[int]) -> Share:
    made = Share(of, SimpleNamespace(name=node, layer="edge"), Operation.PURGE_URL, len(states))
    made.states = bytearray(states)
    made.acked_count = states.count(ACKED)
    return made


def planned(age_s: float = 0.0) -> Task:
    """A task at work on two nodes; the first one has acked two of its targets."""
    made = task(age_s=age_s)
    made.plan = Plan(())
    made.shares = [share(made, "e1", [ACKED, SENT, ACKED]), share(made, "e2", [FAILED, SENT, SENT])]
    made.total = 6
    return made


def test_what_was_acked_is_read_back() -> None:
    at_work = planned()
    at_work.absent_count = 1
    at_work.shares[0].absent_count, at_work.shares[0].acked_at = 1, 7.0
    assert read_progress(progress_document(at_work)) == Progress(
        {("e1", int(Operation.PURGE_URL)): b"\1\0\1"}, 1, {"e1": (1, 7.0), "e2": (0, 0.0)}
    )


def test_the_record_is_a_document_too() -> None:
    shown = msgspec.json.decode(progress_document(planned()))
    assert (shown["task_id"], shown["total"]) == ("t", 6)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no json",
        b"{}",
        b'{"progress": []}',
        b'{"progress": [["e1", 1, "AAAA"]]}',
        b'{"progress": [["e1"]]}',
        b'{"progress": 3}',
    ],
)
def test_what_cannot_be_read_counts_as_nothing(text: bytes) -> None:
    assert read_progress(text) is None


def test_the_record_tells_that_the_task_was_cancelled() -> None:
    cancelled = planned()
    assert not is_cancelled(progress_document(cancelled))
    cancelled.state = State.CANCELLED
    text = progress_document(cancelled)
    assert is_cancelled(text)
    shown = msgspec.json.decode(text)
    assert (shown["counter"], shown["failed"], shown["cancelled"], shown["total"]) == (2, 0, 4, 6)
    assert not is_cancelled(b"")
    assert not is_cancelled(b"no json")


def test_young_tasks_get_no_record() -> None:
    old, young = task("old", age_s=YOUNG_S + 1), task("young")
    touched = {old, young}
    assert list(take_touched(touched)) == ["old"]
    assert touched == {young}


def test_what_is_on_its_way_to_the_store_is_not_recorded_any_more() -> None:
    handed = task("handed", age_s=YOUNG_S + 1)
    handed.is_handed = True
    touched = {handed}
    assert take_touched(touched) == {}
    assert touched == set()


def test_one_round_is_bounded() -> None:
    touched = {task(str(number), age_s=YOUNG_S + 1) for number in range(501)}
    assert len(take_touched(touched)) == 500
    assert len(touched) == 1
    assert len(take_touched(touched)) == 1

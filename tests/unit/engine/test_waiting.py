"""Waiting until tasks are settled; the engine is a recorder."""

from __future__ import annotations

from typing import Any

import pytest

from engine.cli.waiting import (
    TOLD_EVERY_S,
    TOLD_FIRST_S,
    Pulse,
    still_waiting,
    wait,
    what_was_absent,
    what_was_verified,
    why_waiting,
)
from engine.client.errors import RefusedError, UnreachableError
from engine.client.polls import POLL_FIRST_S, POLL_LAST_S


class Engine:
    """Answers each question about a task with the next of its states; the last one for ever."""

    timeout_s = 10.0

    def __init__(self, **states: list[str | Exception]) -> None:
        self.states = states
        self.asked: list[str] = []

    def look(self, task_id: str) -> dict[str, str]:
        self.asked.append(task_id)
        states = self.states[task_id]
        state = states.pop(0) if len(states) > 1 else states[0]
        if isinstance(state, Exception):
            raise state
        return {"task_id": task_id, "state": state}


def waited(engine: Any, *task_ids: str) -> tuple[list[str], list[float], int]:
    """Wait; return the states in the end, the pauses, and how often progress was reported."""
    pauses: list[float] = []
    reports: list[object] = []
    documents = wait(engine, task_ids, report=reports.append, sleep=pauses.append)
    return [document["state"] for document in documents], pauses, len(reports)


def test_each_task_is_asked_for_until_it_is_settled() -> None:
    engine = Engine(a=["accepted", "running", "done"], b=["partial"])
    assert waited(engine, "a", "b")[0] == ["done", "partial"]
    assert engine.asked == ["a", "b", "a", "a"]


def test_pauses_grow_up_to_a_limit() -> None:
    engine = Engine(a=[*["running"] * 20, "done"])
    _, pauses, reports = waited(engine, "a")
    assert (pauses[0], pauses[-1]) == (POLL_FIRST_S, POLL_LAST_S)
    assert pauses == sorted(pauses)
    assert reports == 21


def test_an_engine_that_restarts_is_waited_for() -> None:
    away = UnreachableError("http://e", "refused", sent=False)
    engine = Engine(a=["running", away, RefusedError(503, "starting"), "done"])
    assert waited(engine, "a")[0] == ["done"]


@pytest.mark.parametrize(
    "error", [UnreachableError("http://e", "refused", sent=False), RefusedError(404, "no such task")]
)
def test_an_engine_that_never_answered_is_not_waited_for(error: Exception) -> None:
    with pytest.raises(type(error)):
        waited(Engine(a=[error]), "a")


def test_a_task_that_is_gone_ends_the_wait() -> None:
    with pytest.raises(RefusedError):
        waited(Engine(a=["running", RefusedError(404, "no such task")]), "a")


def test_what_partial_tasks_wait_for_is_said_with_a_reason_for_each_node() -> None:
    errors = [{"node": "edge-1", "target": "x", "reason": "refused: answered 405"}] * 2
    errors += [{"node": "edge-2", "target": "x", "reason": "unreachable: gone"}]
    partial = {"state": "partial", "delayed": 3, "errors": errors}
    assert why_waiting([{"state": "done", "errors": []}]) == ""
    assert why_waiting([{"state": "done"}, partial]) == (
        "3 subtasks wait for edge-1 (refused: answered 405); edge-2 (unreachable: gone): "
        "it goes on in the engine, and late delivery makes it done"
    )


RUNNING = {"state": "running", "working_layer": "edge", "total": 6, "counter": 3, "failed": 1, "delayed": 1}


def test_what_is_waited_for_is_said_with_the_layer_and_the_reasons() -> None:
    errors = [{"node": "edge-1", "target": "x", "reason": "unreachable: gone"}]
    assert still_waiting([{**RUNNING, "errors": errors}]) == (
        "waiting for the task: 4 of 6 subtasks settled, at work: edge, 1 failed, 1 delayed: "
        "edge-1 (unreachable: gone)"
    )
    accepted = {"state": "accepted", "working_layer": "", "total": 2}
    assert still_waiting([accepted]) == "waiting for the task: 0 of 2 subtasks settled"
    done = {"state": "done", "total": 2, "counter": 2}
    assert still_waiting([done, accepted]) == "waiting for 1 of 2 tasks: 2 of 4 subtasks settled"


def test_what_is_waited_for_names_the_nodes_that_have_not_answered_and_how_long_it_takes() -> None:
    rows = [{"name": f"edge-{number}", "layer": "edge", "total": 2, "acked": 1} for number in range(7)]
    rows += [{"name": "parent", "layer": "parent", "total": 2}, {"name": "well", "layer": "edge", "total": 0}]
    rows[0]["delayed"] = 1
    assert still_waiting([{**RUNNING, "nodes": rows}], 12.4) == (
        "waiting for the task (12 s): 4 of 6 subtasks settled, at work: edge, 1 failed, 1 delayed; "
        "no answer yet of edge-1 (1), edge-2 (1), edge-3 (1), edge-4 (1), edge-5 (1) and 1 more"
    )
    assert why_waiting([{"state": "partial", "delayed": 3}], 3.2).startswith("after 3 s 3 subtasks wait")


def test_it_is_said_now_and_then_and_not_of_settled_tasks() -> None:
    said: list[str] = []
    at = 0.0
    pulse = Pulse(said.append, lambda: at)
    for at, count in ((1.0, 0), (TOLD_FIRST_S, 1), (TOLD_EVERY_S, 1), (TOLD_FIRST_S + TOLD_EVERY_S, 2)):
        pulse([RUNNING])
        assert len(said) == count, at
    at = 1000.0
    pulse([{**RUNNING, "state": "done"}])
    assert len(said) == 2


def test_what_no_cache_had_is_told() -> None:
    assert what_was_absent([{"counter": 4, "absent": 0}, {"counter": 2}]) == ""
    assert what_was_absent([{"counter": 4, "absent": 1}, {"counter": 2}]) == (
        "1 of 6 acked subtasks were absent: those caches had nothing to drop"
    )
    assert what_was_absent([{"counter": 2, "absent": 2}]) == (
        "nothing was dropped: none of the caches had it (2 of 2 acked subtasks absent)"
    )


def test_what_visits_came_to_is_told_of_all_tasks_with_the_rules_and_the_first_reasons() -> None:
    assert what_was_verified([{"state": "done", "verify": None}, {"state": "done"}]) == ""
    one = {"verified": 2, "stale": 0, "unverifiable": 1, "rules": {"etag": 2}, "reasons": ["e1: gone", "x"]}
    other = {"verified": 1, "stale": 1, "unverifiable": 0, "rules": {"etag": 1, "digest": 1}, "note": "few"}
    assert what_was_verified([{"verify": one}, {"verify": other}, {"verify": None}]) == (
        "verification: 3 verified, 1 stale, 1 unverifiable, decided by digest (1), etag (3); e1: gone; few"
    )
    assert what_was_verified([{"verify": {"checked": 0}}]) == (
        "verification: 0 verified, 0 stale, 0 unverifiable"
    )

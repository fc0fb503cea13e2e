"""What the tasks of a trigger come to together."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.doors.cdni.telling import errors_of
from engine.tasks.triggers import Status, TriggerRecord, as_seen, decode, encode, status_of

URLS = ["https://A.example.com/1", "https://a.example.com/2"]


def record(**fields: Any) -> TriggerRecord:
    spec = {"type": "purge", "content.urls": URLS, "content.ccid": ["c"]}
    known = {"id": "1", "token": "t", "ctime": 10.0, "mtime": 10.0, "etime": 70.0, "status": Status.PENDING}
    tasks = {"url": "u", "key": "k"}
    return TriggerRecord(**{**known, "spec": msgspec.Raw(encode(spec)), "tasks": tasks, **fields})


def task(state: str, **fields: Any) -> dict[str, Any]:
    return {"state": state, "updated_at": 20.0, "settled_at": 30.0, "failed": 0, "errors": [], **fields}


@pytest.mark.parametrize(
    ("states", "status"),
    [  # of a trigger that is older than settled tasks are kept
        (("accepted", "accepted"), Status.PENDING),
        (("accepted", "done"), Status.ACTIVE),
        (("running", "accepted"), Status.ACTIVE),
        (("partial", "done"), Status.ACTIVE),
        (("done", "done"), Status.COMPLETE),
        (("done", None), Status.PROCESSED),
        (("failed", None), Status.FAILED),
        (("failed", "done"), Status.FAILED),
        (("cancelled", "failed"), Status.CANCELLED),
        (("done", "cancelled"), Status.CANCELLED),
    ],
)
def test_the_states_of_tasks_are_one_status(states: tuple[str | None, ...], status: Status) -> None:
    documents = {
        name: None if state is None else task(state) for name, state in zip("uk", states, strict=True)
    }
    assert status_of(record(), documents, forgotten_before=11) is status


def test_a_trigger_that_is_to_end_is_ending_until_it_has() -> None:
    documents = {"u": task("running"), "k": task("cancelled")}
    assert status_of(record(is_cancelled=True), documents, forgotten_before=0) is Status.CANCELLING
    documents["u"] = task("done")
    assert status_of(record(is_cancelled=True), documents, forgotten_before=0) is Status.CANCELLED


def test_what_was_refused_fails_a_trigger_whose_tasks_are_done() -> None:
    refused = [{"error": "emeta", "content.urls": ["x"]}]
    seen = as_seen(record(refused=refused), {"u": task("done"), "k": task("done")}, [], forgotten_before=0)
    assert seen is not None
    assert (seen.status, seen.errors, seen.settled_at) == (Status.FAILED, refused, 30.0)


def test_a_record_is_written_when_something_is_new_and_survives_that() -> None:
    active = as_seen(record(), {"u": task("running"), "k": task("accepted")}, [], forgotten_before=0)
    assert active is not None
    assert (active.status, active.mtime, active.settled_at) == (Status.ACTIVE, 20.0, 0)
    later = {"u": task("running", updated_at=25.0), "k": task("accepted")}
    assert as_seen(active, later, [], forgotten_before=0) is None
    assert decode(encode(active)) == active


def test_a_record_of_the_first_version_is_read_and_one_of_a_later_one() -> None:
    """Two versions work side by side during a reload: fields are only added."""
    text = (
        b'{"id":"1a","token":"t","ctime":10.0,"mtime":10.0,"etime":70.0,"status":"active","spec":'
        b'{"type":"purge","content.urls":["https://a.example.com/1"]},"tasks":{"url":"u"},"later":1}'
    )
    kept = decode(text)
    assert (kept.id, kept.status, kept.tasks, kept.settled_at) == ("1a", Status.ACTIVE, {"url": "u"}, 0)
    assert bytes(kept.spec).startswith(b'{"type":"purge"')


def test_errors_name_what_the_client_wrote() -> None:
    reason = {"node": "edge-1", "target": "https://a.example.com/1", "reason": "400"}
    failed = task("failed", failed=2, errors=[reason])
    key = {"node": "edge-1", "target": "*.example.com/c", "reason": "refused"}
    documents = {"u": failed, "k": task("failed", failed=1, errors=[key])}
    first, more, of_key = errors_of(record(), documents, forgotten_before=0)
    assert (first["error"], first["content.urls"], first["description"]) == ("ecdn", URLS[:1], "edge-1: 400")
    assert more["description"] == "1 more subtasks have failed"
    assert more["content.urls"] == URLS
    assert (of_key["content.ccid"], of_key["content.urls"]) == (["c"], [])


def test_a_cancelled_task_names_all_of_its_part_and_nothing_that_had_been_refused() -> None:
    refused = [{"error": "emeta", "description": "x", "content.urls": URLS[:1]}]
    documents = {"u": task("cancelled"), "k": task("done")}
    [error] = errors_of(record(refused=refused), documents, forgotten_before=0)
    assert (error["error"], error["content.urls"]) == ("ecanceled", URLS[1:])


def test_a_task_that_cannot_have_been_forgotten_yet_is_lost() -> None:
    """Nobody knows whether it was done: a server of Redis has gone with it, say."""
    documents = {"u": None, "k": task("done")}
    assert status_of(record(), documents, forgotten_before=9) is Status.FAILED
    [error] = errors_of(record(), documents, forgotten_before=9)
    assert (error["error"], error["content.urls"]) == ("ecdn", URLS)
    assert "its task u is lost" in error["description"]
    assert errors_of(record(), documents, forgotten_before=11) == []


@pytest.mark.parametrize("is_refused", [True, False])
def test_errors_are_told_of_a_trigger_that_would_not_be_taken_now(is_refused: bool) -> None:
    """Another version has stored it; who lists triggers must not be refused for what is in one."""
    spec = {"type": "purge", "content.urls": URLS, "content.ccid": ["two words"]}
    refused = [{"error": "ereject", "description": "x", "content.urls": [], "content.ccid": ["two words"]}]
    old = record(spec=msgspec.Raw(encode(spec)), refused=refused if is_refused else [])
    [error] = errors_of(old, {"u": task("cancelled"), "k": task("done")}, forgotten_before=0)
    assert (error["error"], error["content.urls"]) == ("ecanceled", URLS if is_refused else [])


def test_errors_are_the_same_when_they_are_read_again() -> None:
    pattern = {"pattern": "https://a.example.com/*.css", "case-sensitive": True}
    spec = {"type": "purge", "content.patterns": [{**pattern, "x": 1}]}
    known = record(spec=msgspec.Raw(encode(spec)), tasks={"regex": "r"})
    documents = {"r": task("failed", failed=1)}
    errors = errors_of(known, documents, forgotten_before=0)
    assert errors[0]["content.patterns"] == [pattern]
    seen = as_seen(known, documents, errors, forgotten_before=0)
    assert seen is not None
    assert as_seen(decode(encode(seen)), documents, errors, forgotten_before=0) is None

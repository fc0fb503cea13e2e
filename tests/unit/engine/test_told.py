"""What clients are told of the report of a task to its callback."""

from typing import Any

import msgspec
import pytest

from engine.tasks import stored_documents
from engine.tasks.told import Told, callback_of, replaces, tell

URL = "https://hooks.example.com:8443/private?key=hidden"


def stored(state: str, told: Told | None = None) -> dict[str, Any]:
    document: dict[str, Any] = {"task_id": "t", "state": state, "callback": URL}
    return document if told is None else document | {"told": msgspec.to_builtins(told)}


@pytest.mark.parametrize(
    ("state", "told", "shown"),
    [
        ("accepted", None, "waiting"),
        ("running", None, "waiting"),
        ("done", None, "unknown"),
        ("partial", Told("partial", "failed", 8), "failed"),
        ("done", Told("partial", "failed", 8), "pending"),
        ("done", Told("partial", "pending", 3), "pending"),
        ("done", Told("done", "delivered", 1), "delivered"),
    ],
)
def test_the_state_is_that_of_the_last_report(state: str, told: Told | None, shown: str) -> None:
    """A report that is over and was of an earlier state says nothing of the one that came after it."""
    callback = callback_of(stored(state, told))
    assert callback is not None
    assert (callback.host, callback.state) == ("hooks.example.com", shown)


def test_a_task_without_a_callback_has_none() -> None:
    assert callback_of({"task_id": "t", "state": "done"}) is None


def test_the_report_of_an_end_is_not_replaced_by_one_before_it() -> None:
    early, end = Told("partial", "delivered", 9), Told("done", "delivered", 1)
    document = stored("done", end)
    assert not tell(document, early)
    assert document == stored("done", end)
    assert replaces(end, early)
    assert tell(document, Told("done", "failed", 8, last="answered 410", over_at=3.0))
    assert document["told"]["last"] == "answered 410"


def test_what_is_kept_of_a_report_is_no_field_of_the_document() -> None:
    shown = stored_documents.public(stored("done", Told("done", "delivered", 1)))
    assert not {"told", "callback"} & shown.keys()


def test_fields_of_a_later_version_are_read_over() -> None:
    document = stored("done") | {"told": {"reports": "done", "state": "delivered", "attempts": 1, "new": 1}}
    callback = callback_of(document)
    assert callback is not None
    assert callback.attempts == 1

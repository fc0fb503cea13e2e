"""A task as an answer of the history shows it, by what late delivery made of it."""

from __future__ import annotations

import pytest

from engine.history.entries import entry, parts_of
from engine.tasks.columns import columns_of
from engine.tasks.settled import Change, Columns, Failure, state_number
from engine.tasks.words import DELAYED, Operation, State
from tests.fakes.settling import settling

FAILURE = Failure("edge-1", int(Operation.PURGE_URL), "http://a/1", "400")


def change(at: float, state: State, *failures: Failure) -> Change:
    return Change("t", at, state_number(state), list(failures))


@pytest.mark.parametrize(
    ("changes", "state", "failed"),
    [
        ([change(5, State.FAILED, FAILURE)], "failed", 1),
        ([change(5, State.DONE)], "done", 0),
        ([change(5, State.CANCELLED), change(6, State.DONE)], "cancelled", 0),
        ([change(5, State.PARTIAL, FAILURE), change(6, State.FAILED, FAILURE)], "failed", 1),
    ],
    ids=["failed", "done", "two engines at the same time", "told again"],
)
def test_what_became_of_a_partial_task_is_shown_once(changes: list[Change], state: str, failed: int) -> None:
    """The first final change counts, and a failure that is told twice is one."""
    partial = settling("t", "http://a/1", state=State.PARTIAL, states={"edge-1": bytes([DELAYED])})
    [task] = Columns(columns_of([partial]))
    shown = entry(task, parts_of(task, {}, changes, lambda *_: set()), None, changes)
    assert (shown.state, shown.failed, len(shown.errors)) == (state, failed, failed)


@pytest.mark.parametrize(
    ("became", "errors"),
    [
        (change(5, State.FAILED, FAILURE), [("http://a/2", "unreachable: no"), ("http://a/1", "400")]),
        (change(5, State.DONE), []),
    ],
    ids=["failed", "done"],
)
def test_what_failed_in_the_end_does_not_say_too_why_it_had_waited(
    became: Change, errors: list[tuple[str, str]]
) -> None:
    partial = settling("t", "http://a/1", "http://a/2", state=State.PARTIAL)
    partial.errors = [
        {"node": "edge-1", "target": target, "reason": "unreachable: no"} for target in partial.targets
    ]
    [task] = Columns(columns_of([partial]))
    shown = entry(task, parts_of(task, {}, [became], lambda *_: set()), None, [became])
    assert [(error.target, error.reason) for error in shown.errors] == errors

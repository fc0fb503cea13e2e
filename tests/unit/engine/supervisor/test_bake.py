"""How many 5xx are too many for a new release."""

from __future__ import annotations

import pytest

from engine.supervisor.bake import Answers, is_enough, needing_pages_in, too_many_errors, unproven_in


@pytest.mark.parametrize(
    ("answers", "is_bad"),
    [
        ([], False),
        ([Answers(0, 0)], False),
        ([Answers(19, 19)], False),  # too few to tell
        ([Answers(20, 20)], True),
        ([Answers(400, 20)], False),  # one in twenty
        ([Answers(399, 20)], True),
        ([Answers(100, 10), Answers(100, 10)], True),  # together
        ([Answers(1000, 10), Answers(1000, 10)], False),
    ],
)
def test_it_takes_twenty_and_more_than_a_twentieth(answers: list[Answers], is_bad: bool) -> None:
    assert bool(too_many_errors(answers)) == is_bad


def test_the_reason_has_the_counts() -> None:
    assert too_many_errors([Answers(30, 25)]) == ("answers with errors: 25 of 30 requests were answered 5xx")


@pytest.mark.parametrize(
    ("body", "unproven"),
    [
        (b'{"status": "ready"}', {}),
        (
            b'{"status": "ready", "unproven": {"edge-1": "unproven: a server"}}',
            {"edge-1": "unproven: a server"},
        ),
        (b'{"status": "ready", "unproven": 3}', {}),
        (b"[]", {}),
        (b"<html>", {}),
    ],
)
def test_a_worker_says_which_nodes_are_unproven(body: bytes, unproven: dict[str, str]) -> None:
    assert unproven_in(body) == unproven


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'{"status": "ready"}', []),
        (b'{"status": "ready", "need_pages": ["edge-1"]}', ["edge-1"]),
        (b'{"need_pages": {"edge-1": 1}}', []),
        (b"[]", []),
        (b"<html>", []),
    ],
)
def test_a_worker_says_which_nodes_no_probe_can_prove(body: bytes, names: list[str]) -> None:
    assert needing_pages_in(body) == names


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([Answers(1999, 0)], False),
        ([Answers(2000, 0)], True),
        ([Answers(9000, 1)], False),  # not good: it is watched to the end
        ([Answers(1500, 0), Answers(500, 0)], True),
        ([Answers(1999, 0), Answers(1, 0)], False),  # of the second nothing is known
    ],
)
def test_a_watch_may_end_once_each_worker_answered_enough_requests_well(
    answers: list[Answers], *, expected: bool
) -> None:
    assert is_enough(answers) is expected

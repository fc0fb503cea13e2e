"""Some thousand cases of both fuzzers; ``python -m tests.fuzz`` runs for longer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.fuzz.cases import Cases, others, tasks, with_right_length
from tests.fuzz.run import compared, run

if TYPE_CHECKING:
    from pathlib import Path


EXPECTED = {
    "door": {200, 400, 403, 405, 422},
    "cdni": {200, 201, 304, 400, 404, 405, 406, 412, 415},
    "redis": {202, 400, 403, 422},
    "groups": {200},
}
CASES = {"rules": 1000, "lanes": 500, "door": 500, "cdni": 1000, "htcp": 1000, "redis": 600, "groups": 500}


@pytest.mark.parametrize(("kind", "cases"), CASES.items())
def test_whatever_comes_the_engine_goes_on_and_both_lanes_say_the_same(
    tmp_path: Path, kind: str, cases: int
) -> None:
    """How soon others are answered is measured by the command: a busy machine is late by itself."""
    report = run(tmp_path, kind, seed=12, cases=cases, answer_within_s=20)
    assert report.faults == []
    assert report.cases == cases
    assert report.probes.found
    if kind == "htcp":
        assert {"accepted", "answered", "malformed", "signature", "site", "uri"} <= set(report.outcomes)
        return
    assert EXPECTED.get(kind, {200, 202, 400, 401, 415, 422}) <= set(report.statuses)


def test_a_seed_makes_the_same_cases_again() -> None:
    first, again, other = (Cases(seed, tasks() + others()) for seed in (1, 1, 2))
    assert [first.case(number) for number in range(50)] == [again.case(number) for number in range(50)]
    assert [first.case(number) for number in range(50)] != [other.case(number) for number in range(50)]


def test_lengths_are_put_right() -> None:
    assert with_right_length(b"POST / HTTP/1.1\r\nContent-Length: 9\r\nX: y\r\n\r\nabc") == (
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nX: y\r\n\r\nabc"
    )


def test_the_comparison_sees_what_differs_and_nothing_else() -> None:
    """A comparison that cannot fail finds nothing."""

    def answer(status: int, body: dict[str, object], *lines: str) -> bytes:
        text = json.dumps(body)
        head = [
            f"HTTP/1.1 {status} X",
            "Date: now",
            "Content-Type: a/b",
            *lines,
            f"Content-Length: {len(text)}",
        ]
        return ("\r\n".join(head) + "\r\n\r\n" + text).encode()

    refused = answer(422, {"detail": "x"})
    assert compared(answer(202, {"task_id": "a"})) == compared(answer(200, {"task_id": "b"}, "Date: then"))
    assert compared(refused) == compared(refused.replace(b"now", b"then"))
    for other in (
        answer(422, {"detail": "y"}),
        answer(400, {"detail": "x"}),
        answer(422, {"detail": "x"}, "Allow: GET"),
        refused + refused,
        b"",
    ):
        assert compared(refused) != compared(other)

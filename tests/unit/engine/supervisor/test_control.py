"""Requests of the control socket."""

from __future__ import annotations

import pytest

from engine.supervisor.control import request_of
from engine.supervisor.errors import SupervisorError


def test_a_request_is_a_json_object() -> None:
    assert request_of(b'{"cmd": "status"}') == {"cmd": "status"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"status", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "a request is a JSON object"),
        (b"7", "a request is a JSON object"),
    ],
)
def test_anything_else_is_told_what_a_request_is(line: bytes, reason: str) -> None:
    with pytest.raises(SupervisorError, match=reason):
        request_of(line)

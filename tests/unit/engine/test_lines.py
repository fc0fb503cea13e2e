"""The lines of an NDJSON request, and the reply to all of them."""

from __future__ import annotations

import json
from functools import partial

import pytest

from engine.errors import RequestError
from engine.intake.lines import LinesReply, split_lines
from engine.intake.problems import problem
from engine.intake.replies import Reply


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b"", []),
        (b" \n\r\n\t\n", []),
        (b"a", [(1, b"a")]),
        (b"a\nb\n", [(1, b"a"), (2, b"b")]),
        (b"\n\n a \r\n\n\nb", [(3, b"a \r"), (6, b"b")]),
        (b"a\n\x0b\x0c\nb", [(1, b"a"), (3, b"b")]),
    ],
)
def test_lines_are_numbered_as_the_client_counts_them(body: bytes, lines: list[tuple[int, bytes]]) -> None:
    assert split_lines(body, 10) == lines


def test_no_more_lines_are_cut_than_one_past_the_limit() -> None:
    assert len(split_lines(b"a\n" * 1000, 10)) == 11


def test_replies_of_lines_come_as_one_in_the_order_of_the_lines() -> None:
    """In whatever order they are made, and only when the last one is there."""
    answered: list[Reply] = []
    replies = LinesReply([1, 2, 3], answered.append)
    takers = [replies.next() for _ in range(3)]
    for number in (2, 0):
        takers[number](Reply(202, b'{"n":%d}' % number))
        assert answered == []
    takers[1](Reply(200, b'{"n":1}'))
    [reply] = answered
    assert (reply.status, reply.content_type) == (200, "application/x-ndjson")
    assert reply.body == b'{"n":0}\n{"n":1}\n{"n":2}\n'


def test_the_error_of_a_line_says_which_line_it_is() -> None:
    answered: list[Reply] = []
    LinesReply([7], answered.append).next()(problem(422, "targets: takes a URL", field="targets[3]"))
    assert json.loads(answered[0].body) == {
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "line 7: targets: takes a URL",
        "field": "targets[3]",
        "line": 7,
    }


def test_one_hint_is_given_a_request() -> None:
    replies = LinesReply([1], lambda _: None)
    hinting = RequestError(422, "x", hint=partial(str, "; did you mean y?"))
    assert [replies.may_hint(RequestError(422, "x")), *(replies.may_hint(hinting) for _ in range(3))] == [
        False,
        True,
        False,
        False,
    ]

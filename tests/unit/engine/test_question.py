"""What is asked of the history: parameters, read."""

from __future__ import annotations

import math
from typing import Any

import pytest
from multidict import MultiDict

from engine.api.history import HistoryQuery, question_of
from engine.api.query import QueryReader
from engine.errors import RequestError
from engine.history.question import Question, read_cursor, write_cursor
from engine.tasks.hashes import crc_of, line_hash_of


def read(query: dict[str, str], only: str = "") -> Question:
    asked: Any = QueryReader(HistoryQuery).read(MultiDict(query))
    return question_of(asked, only)


def test_nothing_asked_is_everything() -> None:
    question = read({})
    assert (question.limit, question.since, question.until, question.cover()) == (50, 0.0, math.inf, None)
    assert question.before == (math.inf, "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("target", "http://a b/"),
        ("target", "ftp://a/"),
        ("host", "a/b"),
        ("state", "asleep"),
        ("action", "flush"),
        ("since", "yesterday"),
        ("until", "nan"),
        ("since", "-1"),
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "9" * 5000),
        ("cursor", "x"),
        ("cursor", "inf~t"),
        ("cursor", "1~" + "t" * 200),
    ],
)
def test_a_wrong_value_names_its_parameter(name: str, value: str) -> None:
    with pytest.raises(RequestError) as refused:
        read({name: value})
    assert refused.value.status == 422
    assert refused.value.field == name


def test_a_cursor_names_the_task_that_it_goes_on_behind() -> None:
    assert read_cursor(write_cursor(1764000000.123456, "t-1")) == (1764000000.123456, "t-1")


def test_a_state_may_have_come_of_another() -> None:
    """A task that was partial is done by now: its block counts."""
    question = read({"state": "done", "by": "cms"}, "own")
    wanted = question.wanted(None, 5.0)
    assert wanted.states & 1 << 3  # partial
    assert not wanted.states & 1 << 4  # failed
    assert (wanted.who, wanted.since, wanted.takes_wide) == (["own", "cms"], 5.0, False)


def test_a_target_is_looked_for_under_both_schemes() -> None:
    question = read({"target": "http://A.example.com:80/x#y"})
    wanted = question.wanted(question.cover(), 0.0)
    names = ("http://a.example.com/x", "https://a.example.com/x")
    assert set(wanted.targets) == {hash_of(name) for name in names for hash_of in (crc_of, line_hash_of)}
    assert wanted.takes_wide

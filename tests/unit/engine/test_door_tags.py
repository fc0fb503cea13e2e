"""Lists of tags, in the forms that clients write them in."""

from __future__ import annotations

import contextlib
import time

import pytest

from engine.doors.purge import tags
from engine.errors import RequestError


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a", ["a"]),
        ("a|b|a", ["a", "b"]),
        ("(^|,)(a|b)(,|$)", ["a", "b"]),
        (r"((^|\,)(/books/1|/books)($|\,))", ["/books/1", "/books"]),
        ("((^|,)cat_p_1(,|$))|((^|,)cat_p_2(,|$))", ["cat_p_1", "cat_p_2"]),
        (r"(?:^| )a\.b\-c(?: |$)", ["a.b-c"]),
        (r"(^|[\s,])node\:1([\s,]|$)", ["node:1"]),
        ("^(a|b)$", ["a", "b"]),
        ("a.b", ["a.b"]),
        (".*", None),
        ("^.*$", None),
        ("(^|,)()(,|$)", []),
    ],
)
def test_a_pattern_is_the_list_that_it_stands_for(pattern: str, found: list[str] | None) -> None:
    assert tags.of_pattern(pattern, "x") == found


@pytest.mark.parametrize(
    "pattern",
    ["a.*", "a+", "a(b|c)", "(a", "a)", "[ab]", "a{2}", r"\d", "a\\", "(" * 20 + "a" + ")" * 20, "a,b"],
)
def test_what_is_more_than_a_list_is_refused(pattern: str) -> None:
    with pytest.raises(RequestError, match="takes a list of tags"):
        tags.of_pattern(pattern, "x-cache-tags")


def test_a_field_of_both_forms_is_read_by_its_signs() -> None:
    assert tags.of_field("a+b, c?d  a+b", "x") == ["a+b", "c?d"]
    assert tags.of_field(r"a\+|b", "x") == ["a+", "b"]


def test_no_pattern_takes_long() -> None:
    began = time.process_time()
    for text in ("(^|,)" * 12_000, "(" * 60_000, "a|" * 30_000, "(a" * 30_000, "(?:^|" * 12_000):
        with contextlib.suppress(RequestError):
            tags.of_pattern(text, "x")
    assert time.process_time() - began < 1

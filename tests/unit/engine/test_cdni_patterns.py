"""Patterns of CDNI triggers: what is made of them takes what they take, and nothing else."""

from __future__ import annotations

import random
import re

import pytest

from engine.doors.cdni.patterns import UnsupportedPatternError, target_of
from engine.errors import RequestError

SIGNS = "aAb/%.*?$&-"


def target(pattern: str, *, is_cased: bool = False, has_query: bool = False) -> tuple[str, str]:
    found = target_of(pattern, "p", is_cased=is_cased, has_query=has_query)
    return found.kind, found.target


@pytest.mark.parametrize(
    ("pattern", "is_cased", "has_query", "expected"),
    [
        ("https://www.example.com/a/b/*", True, False, ("prefix", "http://www.example.com/a/b/")),
        ("http*://www.example.com/2024/*", False, False, ("prefix", "http://www.example.com/2024/")),
        ("https://www.example.com/a/b/*", False, False, ("regex", "http://www.example.com/(?i:a/b/)")),
        ("*://WWW.example.com:8080/*", False, False, ("host", "www.example.com:8080")),
        ("https://www.example.com:443/*", False, False, ("host", "www.example.com")),
        ("http://www.example.com:80/a/*", True, False, ("prefix", "http://www.example.com/a/")),
        ("*://www.example.com:443/*", False, False, ("host", "www.example.com")),
        ("https://www.example.com:80/*", False, False, ("prefix", "https://www.example.com:80/")),
        ("http://www.example.com:443/*", False, False, ("host", "www.example.com:443")),
        ("https://www.example.com/x.css$?v=1", True, True, ("url", "http://www.example.com/x.css?v=1")),
        ("https://www.example.com/x.css", True, False, ("regex", r"http://www.example.com/x\.css(?:\?|$)")),
        ("https://www.example.com/$**", True, False, ("regex", r"http://www.example.com/\*")),
    ],
)
def test_patterns_are_targets(
    pattern: str, is_cased: bool, has_query: bool, expected: tuple[str, str]
) -> None:
    assert target(pattern, is_cased=is_cased, has_query=has_query) == expected


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("www.example.com/*", "whole URLs"),
        ("ftp://www.example.com/*", "scheme"),
        ("https://www.example.com", "path"),
        ("https://user@www.example.com/*", "user name"),
        ("https://www.example.com/$a", "neither"),
        ("https://www.example.com/a b", "percent-encoded"),
        ("https://www.example.com/ä", "percent-encoded"),
        ("https://www.example.com/" + "a" * 5000, "characters long"),
    ],
)
def test_a_malformed_pattern_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        target(pattern)
    assert caught.value.status == 400


@pytest.mark.parametrize("pattern", ["*", "https://*.example.com/a", "https://www.example.com/a$?b"])
def test_what_no_target_stands_for_is_no_target(pattern: str) -> None:
    with pytest.raises((UnsupportedPatternError, RequestError)):
        target(pattern)


def fits(pattern: str, path: str) -> bool:
    """Tell whether a path fits a pattern, as the RFC says it: the slow and certain way."""
    tokens = re.findall(r"%[0-9A-Fa-f]{2}|.", path)
    parts = re.findall(r"\$.|.", pattern)
    reached = {0}
    for part in parts:
        if part == "*":
            reached = {
                end
                for start in reached
                for end in range(start, len(tokens) + 1)
                if all(len(one) == 3 or one not in "?%" for one in tokens[start:end])
            }
        elif part == "?":
            reached = {at + 1 for at in reached if at < len(tokens) and tokens[at] not in {"/", "?", "%"}}
        else:
            letter = part[-1]
            reached = {at + 1 for at in reached if at < len(tokens) and tokens[at] == letter}
    return len(tokens) in reached


def test_random_patterns_take_what_they_say() -> None:
    """Each as a regular expression, against random paths; a seed makes the same again."""
    made = random.Random(8007)
    compared = taken = 0
    for _ in range(4000):
        pattern = "".join(
            made.choice(["a", "A", "b", "/", ".", "*", "*", "?", "$$", "$*", "&"])
            for _ in range(made.randint(1, 8))
        )
        is_cased = made.random() < 0.5
        kind, text = target(f"https://h.org/{pattern}", is_cased=is_cased, has_query=True)
        if kind == "regex":
            expression = re.compile("^/(?:" + text.removeprefix("http://h.org/") + ")")
        else:
            assert kind == "url"
            expression = re.compile("^/" + re.escape(text.removeprefix("http://h.org/")) + "$")
        for _ in range(6):
            path = "".join(
                made.choice(["a", "A", "b", "/", ".", "%2F", "$", "*", "&"])
                for _ in range(made.randint(0, 9))
            )
            lowered = (pattern, path) if is_cased else (pattern.lower(), path.lower())
            expected = fits(*lowered)
            assert bool(expression.match(f"/{path}")) == expected, (pattern, path, text)
            compared += 1
            taken += expected
    assert compared == 24_000
    assert taken > 500


def test_many_stars_do_not_keep_a_cache_busy() -> None:
    """The last literal is missing: nothing is tried twice."""
    _, text = target("https://h.org/" + "*a" * 30 + "*b", is_cased=True, has_query=True)
    assert not re.match("^/(?:" + text.removeprefix("http://h.org/") + ")", "/" + "a" * 4000)

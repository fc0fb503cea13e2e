"""Asking PCRE2 whether it can read a pattern."""

from __future__ import annotations

import pytest

from engine.intake import pcre2


@pytest.mark.parametrize(
    "pattern", ["", "a|b", r"a\Kb", r"\Qa(\E", r"\Qa(", "(?<n>a)\\k<n>", "(?i)a", "a*+", "[[:alpha:]]"]
)
def test_what_pcre2_takes_is_not_refused(pattern: str) -> None:
    assert pcre2.refusal(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(a", "missing closing parenthesis (at character 2)"),
        ("foo)|(bar", "unmatched closing parenthesis (at character 3)"),
        ("*", "quantifier does not follow a repeatable item (at character 0)"),
        ("(" * 300 + ")" * 300, "parentheses are too deeply nested (at character 251)"),
        ("(?:(?:a{1,60000}){1,60000}){9}", "regular expression is too large"),
    ],
)
def test_a_refusal_says_what_and_where(pattern: str, reason: str) -> None:
    assert reason in str(pcre2.refusal(pattern))


def test_without_the_library_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcre2, "_library", None)
    assert not pcre2.is_installed()
    assert pcre2.refusal("(a") is None

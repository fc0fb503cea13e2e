"""Patterns as parts of a longer one, compared with PCRE2 itself."""

from __future__ import annotations

import random

import pytest

from engine.intake import pcre2
from engine.nodes.drivers.patterns import grouped, nesting

PIECES = [
    *"abxEQ|()[]{}}.^$*+?#-%='`",
    '"',
    *(
        "\\",
        r"\(",
        r"\)",
        r"\]",
        r"\Q",
        r"\E",
        r"\c",
        r"\K",
        r"\d",
        r"\N",
        r"\1",
        r"\x{41}",
        r"\g{1}",
        r"\p{L}",
    ),
    *("{2}", "[^", "[]", "[.", ".]", "=]", "[:", "[[:alpha:]]"),
    *("(?:", "(?i)", "(?x)", "(?-x)", "(?x:", "(?^x)", "(?^)", "(?xx)", "(?n)", "(?J)", "(?#"),
    *("(*ACCEPT)", "(*F)", "(*MARK:", "(*:x", "(*pla:", "(?<n>", "(?P<m>", "(?=", "(?<!b)", "(?|", "(?>"),
    *("(?(1)", "(?R)", "(?1)", "(?&n)", "(?C1)", "(?C'", "(?C{"),
]


@pytest.mark.parametrize(
    ("pattern", "group"),
    [
        ("", "(?:)"),
        ("foo|bar", "(?:foo|bar)"),
        ("(a|b)[)]\\)", "(?:(a|b)[)]\\))"),
        ("\\Qa)b", "(?:\\Qa)b\\E)"),
        ("\\Qa)b\\E|c", "(?:\\Qa)b\\E|c)"),
        ("(?x)a|b#c)", "(?:(?x)a|b)"),
        ("((?x)a)#b", "(?:((?x)a)#b)"),
        ("(?#a)|b)", "(?#a)|b)"),
        ("(?#()b", "(?:(?#()b)"),
        ("(*MARK:a(b)c", "(?:(*MARK:a(b)c)"),
        ("(?C'a)''b')c", "(?:(?C'a)''b')c)"),
        ("foo)|(bar", "foo)|(bar"),
        ("[]a)]|b", "(?:[]a)]|b)"),
        ("\\c)|(b)", "(?:\\c)|(b))"),
    ],
)
def test_a_pattern_is_one_group_unless_it_is_no_pattern(pattern: str, group: str) -> None:
    assert grouped(pattern) == group


@pytest.mark.parametrize("seed", range(3))
def test_what_pcre2_takes_is_held_by_its_group_and_what_it_refuses_is_refused(seed: int) -> None:
    """So no pattern gets out of the group, with the library or without it."""
    assert pcre2.is_installed()
    chosen = random.Random(seed)
    taken = 0
    for _ in range(8000):
        pattern = "".join(chosen.choices(PIECES, k=chosen.randint(1, 12)))
        group = grouped(pattern)
        sent = pcre2.refusal(f"^/{group}")
        if pcre2.refusal(pattern) is None:
            taken += 1
            assert sent is None, f"{pattern!r} is sent as {group!r}: {sent}"
            assert group.startswith("(?:"), f"{pattern!r} is sent as {group!r}"
        else:
            assert sent is not None, f"{pattern!r} is sent as {group!r}"
    assert taken > 500


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [("a", 0), ("(a)(b)", 1), ("((a)(?:b(?=c)))", 3), ("[((]\\((", 1), ("\\Q(((\\E(", 1), ("(?i)(?i:a)", 1)],
)
def test_groups_within_each_other_are_counted(pattern: str, groups: int) -> None:
    assert nesting(pattern) == groups

"""A command gets its parser alone, and it is the one that all of them together have."""

from __future__ import annotations

import pytest

from engine.cli.arguments import _wanted, parsers
from engine.cli.commands import GROUPS


@pytest.mark.parametrize("name", [name for group in GROUPS for name in group.names])
def test_a_command_that_is_made_alone_is_the_same(name: str) -> None:
    every = parsers()[1]
    alone = parsers(name)[1]
    assert list(alone) == [name]
    assert alone[name].format_help() == every[name].format_help()


def test_the_groups_name_all_commands_in_the_order_of_help() -> None:
    assert list(parsers()[1]) == [name for group in GROUPS for name in group.names]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["nodes"], "nodes"),
        (["--json", "--engine", "stats", "--token=nodes", "--timeout", "3", "why", "nodes"], "why"),
        (["--engine"], None),
        (["--version", "nodes"], "--version"),
        (["--help"], None),
        (["--", "nodes"], None),
        (["node"], None),
        (["--no-such", "nodes"], None),
        ([], None),
    ],
)
def test_the_command_is_found_behind_global_options(words: list[str], wanted: str | None) -> None:
    assert _wanted(words) == wanted

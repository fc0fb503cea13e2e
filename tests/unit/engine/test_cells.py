"""What stands in tables and lines."""

from __future__ import annotations

from typing import Any

import pytest

from engine.cli.cells import (
    by_note,
    clean,
    distinct,
    flatten,
    held_of,
    merge_layers,
    plain,
    reasons_of,
    rows_of,
    sum_of,
)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        (True, "true"),
        (0, "0"),
        (1.0, "1"),
        (0.12349, "0.123"),
        (["a", "b\n"], r"a,b\n"),
        ("a b", "a b"),
    ],
)
def test_a_cell_for_a_program_is_plain(value: object, cell: str) -> None:
    """Numbers as they are, and a dash where there is nothing, so that columns can be counted."""
    assert plain(value) == cell


@pytest.mark.parametrize("text", ["a\tb", "a\nb", "\x1b[31m", "\u202e", "\x9b"])
def test_what_drives_a_terminal_or_forges_a_column_is_escaped(text: str) -> None:
    assert clean(text).isprintable()
    assert plain(text).isprintable()
    assert plain([text]).isprintable()


def test_layers_of_several_tasks_are_summed_by_name() -> None:
    first = {"layers": [{"name": "edge", "total": 2, "counter": 1, "failed": 0, "delayed": 1}]}
    second = {"layers": [{"name": "edge", "total": 3, "counter": None}, {"name": "parent", "total": 1}]}
    assert merge_layers([first, second]) == [
        {"name": "edge", "total": 5, "counter": 1, "failed": 0, "delayed": 1, "cancelled": 0},
        {"name": "parent", "total": 1, "counter": 0, "failed": 0, "delayed": 0, "cancelled": 0},
    ]


def test_documents_without_layers_have_a_sum_of_their_own() -> None:
    assert sum_of("", [{"total": 4, "counter": 1}, {"total": 1}])["total"] == 5


def test_what_is_no_list_of_objects_has_no_rows() -> None:
    """Another program may answer at the engine's address."""
    assert rows_of({}, "errors") == []
    assert rows_of({"errors": None}, "errors") == []
    assert rows_of({"errors": ["x", {"node": "n"}]}, "errors") == [{"node": "n"}]


def test_rows_that_several_documents_have_are_shown_once() -> None:
    one, other = {"name": "e1", "reason": "x"}, {"name": "e2", "reason": "x"}
    assert distinct([{"skipped": [one]}, {"skipped": [one, other]}, {}], "skipped") == [one, other]


def test_nested_documents_become_dotted_keys() -> None:
    document = {"a": 1, "b": {"c": 2, "d": {"e": 3}}}
    assert list(flatten(document)) == [("a", 1), ("b.c", 2), ("b.d.e", 3)]


def test_nodes_with_the_same_note_are_named_once() -> None:
    rows: list[dict[str, object]] = [
        {"name": "a", "notes": ["x", "y"]},
        {"name": "b", "notes": ["x"]},
        {"name": "c"},
    ]
    assert by_note(rows) == [{"nodes": ["a", "b"], "note": "x"}, {"nodes": ["a"], "note": "y"}]


def test_what_nodes_hold_and_why_they_take_nothing_are_rows_of_their_own() -> None:
    held = {"operation": "purge_prefix", "host": "a.com", "subtasks": 2, "reason": "incapable: squid"}
    rows: list[dict[str, Any]] = [
        {"name": "a", "held": [held], "reason": ""},
        {"name": "b", "held": [], "reason": "gone: not configured"},
        {"name": "c", "reason": "timed out", "last_error": "timed out"},
        {"name": "d", "canary": {"state": "stale", "reason": "d keeps it"}},
        {"name": "e", "canary": None},
    ]
    assert held_of(rows) == [{"node": "a", **held}]
    assert reasons_of(rows) == [
        {"node": "b", "reason": "gone: not configured"},
        {"node": "d", "reason": "canary: d keeps it"},
    ]
    assert plain({"state": "stale"}) == "stale"
    assert plain([held]) == "purge_prefix a.com 2"

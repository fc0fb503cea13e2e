"""How every table looks in terminals of any width: nothing is wider than they are, and nothing is cut off."""

from __future__ import annotations

import importlib
import io
import pkgutil
from typing import TYPE_CHECKING, Any, Final

import pytest
from rich.cells import cell_len
from rich.console import Console

import engine.cli
from engine.cli import drawing
from engine.cli.layout import SENTENCES, whole_words

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTHS: Final = (24, 40, 60, 120)
NAME: Final = "cache-frankfurt-am-main-rack-12-row-3-unit-0042-a.prod.example"
URL: Final = f"http://img.example.com/{'pictures/of/the/summer/party/' * 5}1-large.jpg?width=1200&height=800"
REASON: Final = f"refused: answered 405: let PURGE in from this engine (ACL, method) on {NAME}; 東京"
COUNTED: Final = ("total", "acked", "failed", "delayed", "count", "bytes", "passes", "subtasks", "age", "lag")


def tables() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the columns of every table, by the name of their constant."""
    for module in pkgutil.iter_modules(engine.cli.__path__):
        for name, value in vars(importlib.import_module(f"engine.cli.{module.name}")).items():
            if name.endswith("_COLUMNS") and isinstance(value, tuple):
                yield name, value


TABLES: Final = dict(tables())


def cell(column: str, *, is_long: bool) -> Any:
    """Return what may stand in a column."""
    if column.endswith("_at") or column in {"until", "since"}:
        return 1796059807.016
    if column.endswith(("_s", "_ms")) or column in COUNTED:
        return 1234567.891 if is_long else 0
    if column in SENTENCES:
        return REASON if is_long else "refused"
    if column in {"url", "target", "targets", "matched", "match", "place"}:
        return URL if is_long else "http://a/"
    return NAME if is_long else "e1"


def drawn(width: int, *args: Any) -> str:
    """Return a table as a terminal of that width gets it."""
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    drawing.table(console, *args)
    return told(console)


def told(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(map(cell_len, text.splitlines())) <= console.width
    assert "…" not in text
    return text


def letters(text: str) -> str:
    return "".join(text.split())


def test_the_tables_of_all_commands_are_known() -> None:
    assert {"NODE_COLUMNS", "TASK_COLUMNS", "HISTORY_COLUMNS", "DOCTOR_COLUMNS", "ROW_COLUMNS"} <= set(TABLES)
    assert len(TABLES) >= 30


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", TABLES)
def test_no_line_is_wider_than_the_terminal_and_no_value_is_cut(name: str, width: int) -> None:
    """What has no room as a column is named; as blocks all is there."""
    columns = TABLES[name]
    for is_long in (False, True):
        rows = [{column: cell(column, is_long=is_long) for column in columns}]
        text = drawn(width, "", columns, rows)
        shown, _, left_out = text.partition("no room for: ")
        for column in columns:
            if column not in letters(left_out).partition(";")[0].split(","):
                value = str(rows[0][column])
                first, last = (value[:4], value[-4:]) if isinstance(rows[0][column], str) else ("", "")
                assert first in shown, column
                assert letters(last) in letters(shown), column


@pytest.mark.parametrize("width", WIDTHS)
def test_values_beside_their_names_are_whole(width: int) -> None:
    """A name that takes half of the width has its value below it."""
    for name in ("url", NAME):
        pairs: list[tuple[str, Any]] = [
            (name, URL),
            ("reason", REASON),
            ("nothing", None),
            ("none", []),
            ("count", 0),
        ]
        console = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
        drawing.pairs(console, pairs)
        text = told(console)
        assert letters(URL) in letters(text)
        assert letters(name) in letters(text)
        assert "nothing" not in text
        assert letters("count 0") in letters(text)


def test_a_block_has_as_many_values_in_a_line_as_there_is_room_for() -> None:
    row = {"name": NAME, "state": "ready", "waiting": 0, "delayed": 2, "reason": "it is away", "total": 7}
    assert drawn(60, "nodes", tuple(row), [row]).splitlines() == [
        "",
        "nodes",
        "",
        NAME[:60],
        NAME[60:],
        "  state ready  waiting 0  delayed 2",
        "  reason it is away",
        "  total 7",
    ]


def test_a_sentence_on_standard_error_keeps_its_words_whole() -> None:
    assert whole_words("short", 60) == "short"
    lines = whole_words(f"purgeline: {URL} is refused by {NAME}", 60).splitlines()
    assert lines == ["purgeline:", f"  {URL}", "  is refused by", f"  {NAME}"]

"""The formatters of log lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from engine.observe.log_lines import LogLine, as_dict, as_struct, as_text

if TYPE_CHECKING:
    from collections.abc import Callable

FULL = LogLine(1.0, "WARNING", "subtask", "purgeline/1", task_id="t", status=404, extra={"left": 2})


@pytest.mark.parametrize("form", [as_struct, as_dict])
def test_json_leaves_out_what_is_not_set(form: Callable[[LogLine], bytes]) -> None:
    """Defaults cost no bytes."""
    assert json.loads(form(LogLine(1.0, "INFO", "m", "s"))) == {
        "time": 1.0, "level": "INFO", "message": "m", "service": "s",
    }  # fmt: skip


def test_both_json_forms_say_the_same() -> None:
    assert json.loads(as_struct(FULL)) == json.loads(as_dict(FULL))
    assert json.loads(as_struct(FULL))["extra"] == {"left": 2}


@pytest.mark.parametrize("form", [as_struct, as_dict])
def test_what_json_cannot_hold_does_not_lose_the_line(form: Callable[[LogLine], bytes]) -> None:
    line = form(LogLine(1.0, "INFO", "lone \ud800 surrogate", "s", extra={"huge": 2**80}))
    assert line.endswith(b"\n")
    assert json.loads(line)["level"] == "INFO"


def test_text_has_the_facts_behind_the_message() -> None:
    line = as_text(FULL).decode()
    assert line.endswith(" WARNING subtask task_id=t status=404 left=2\n")


def test_text_of_a_client_cannot_forge_a_line() -> None:
    line = as_text(LogLine(1.0, "INFO", "a\nERROR forged", "s", target="/\x1b[31m")).decode()
    assert line.count("\n") == 1
    assert "\\nERROR forged" in line
    assert "\x1b" not in line


def test_text_has_colour_on_a_terminal_only() -> None:
    assert b"\x1b[33mWARNING\x1b[0m" in as_text(FULL, is_tty=True)
    assert b"\x1b" not in as_text(FULL)


def test_rows_of_a_traceback_are_marked() -> None:
    """None of them passes for a line of its own."""
    line = as_text(LogLine(1.0, "ERROR", "m", "s", exception="Traceback\n  ValueError: x\n")).decode()
    assert line.splitlines()[1:] == ["    | Traceback", "    |   ValueError: x"]

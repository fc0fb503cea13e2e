"""release.states.results and view: a readable diff without secrets."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from release.states.results import HostStates, states_of_answer
from release.states.view import describe, show

DIFF = '--- \n+++ \n@@ -1 +1 @@\n-due_s = 60\n+due_s = 30\n+secret = "s3cret"\n'


def entry(**changes: Any) -> dict[str, Any]:
    found = {
        "id": "engine-config-file-managed",
        "function": "file.managed",
        "name": "/srv/engine.toml",
        "result": True,
        "comment": "",
        "changes": {},
    }
    return {**found, **changes}


def lines_of(**changes: Any) -> list[str]:
    [state] = states_of_answer([entry(**changes)])
    return describe(state)


def test_a_state_that_found_all_as_it_should_be_is_not_shown() -> None:
    assert lines_of() == []


def test_a_diff_is_shown_without_secrets() -> None:
    assert lines_of(result=None, changes={"diff": DIFF}) == [
        "  ~ engine-config-file-managed  /srv/engine.toml",
        "      --- ",
        "      +++ ",
        "      @@ -1 +1 @@",
        "      -due_s = 60",
        "      +due_s = 30",
        "      +secret = (hidden)",
    ]


def test_a_failure_is_shown_with_all_it_says() -> None:
    lines = lines_of(result=False, comment="check_cmd execution failed\nunknown key 'lisen'")
    assert lines == [
        "  ✗ engine-config-file-managed",
        "      check_cmd execution failed",
        "      unknown key 'lisen'",
    ]


def test_old_and_new_are_shown_with_an_arrow() -> None:
    changes = {"mode": {"old": "0644", "new": "0640"}, "pid": 12, "retcode": 0, "stdout": ""}
    assert lines_of(changes=changes)[1:] == ["      mode: 0644 → 0640"]


def test_a_notice_is_shown_though_nothing_changed() -> None:
    lines = lines_of(id="note", function="test.show_notification", comment="not checked")
    assert lines == ["  ! note", "      not checked"]


def test_a_line_for_each_host_says_how_it_ended() -> None:
    out = io.StringIO()
    good = HostStates(
        host="cdn-1", ok=True, states=states_of_answer([entry(changes={"diff": "+x"}), entry()])
    )
    bad = HostStates(host="cdn-2", ok=False, reason="cannot connect [refused]", log=["last [line]"])
    show([good, bad], Console(file=out, width=200), is_test=False)
    assert out.getvalue().splitlines()[-3:] == [
        "cdn-1: ok, 1 of 2 states changed",
        "cdn-2: failed: cannot connect [refused]",
        "    last [line]",
    ]

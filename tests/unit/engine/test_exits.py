"""Exit codes and the line that says what went wrong."""

from __future__ import annotations

import sys
import types

import pytest

from engine.cli.exits import UsageError, exit_code_of, fail, hint
from engine.cli.screen import Output
from engine.client.errors import RefusedError, UnreachableError
from engine.errors import ConfigError, StoreError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnreachableError("http://e", "refused", sent=False), 3),
        (RefusedError(503, "busy"), 3),
        (RefusedError(429, "slower"), 3),
        (RefusedError(422, "no"), 2),
        (RefusedError(404, "no task"), 2),
        (RefusedError(500, "oh"), 1),
        (RefusedError(301, "elsewhere"), 1),
        (UsageError("no target"), 2),
        (ConfigError("unknown key"), 2),
        (StoreError("disk is full"), 1),
        (OSError("no space"), 1),
        (TypeError("not today"), 1),
    ],
)
def test_who_must_act_decides_the_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "flags", types.SimpleNamespace(dev_mode=False))
    assert fail(Output(as_json=False), error) == code
    err = capsys.readouterr().err
    assert err.startswith("purgeline: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("state", "code"), [("done", 0), ("running", 0), ("partial", 1), ("failed", 1), ("cancelled", 1)]
)
def test_a_task_that_did_not_go_through_is_a_failure(state: str, code: int) -> None:
    assert exit_code_of({"state": state}) == code


def test_the_hint_names_a_few_tasks_and_counts_the_others() -> None:
    assert hint(["a", "b"]).endswith("purgeline watch a b")
    assert hint(list("abcdefg")).endswith("purgeline watch a b c d e (and 2 more: purgeline tasks)")

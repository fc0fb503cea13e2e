"""Whose watchdog it is."""

from __future__ import annotations

import os

import pytest

from engine.supervisor.notifier import Notifier


@pytest.mark.parametrize(
    ("usec", "pid", "watchdog_s"),
    [
        ("", None, 0.0),
        ("9000000", None, 9.0),
        ("9000000", "own", 9.0),
        ("9000000", "1", 0.0),  # of another process
        ("soon", None, 0.0),
    ],
)
def test_the_watchdog_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str | None, watchdog_s: float
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert Notifier().watchdog_s == watchdog_s

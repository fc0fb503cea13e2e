"""How the end of a worker is told."""

from __future__ import annotations

import pytest

from engine.supervisor.worker import end_of


@pytest.mark.parametrize(
    ("exit_code", "text"),
    [(0, "exit code 0"), (2, "exit code 2"), (-9, "killed by SIGKILL"), (-250, "killed by signal 250")],
)
def test_an_end_is_told_in_words(exit_code: int, text: str) -> None:
    assert end_of(exit_code) == text

"""What a run of the benchmarks leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmarks import report
from tests.benchmarks.harness import Figure

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_figures_without_anything_to_be_compared_with_are_no_chart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bench.json"
    report.write([Figure("history", "SQLite: the slowest question", 0.2, "s")], path)
    assert report.chart(path) is None
    assert "no chart: nothing of this run has something to be compared with" in capsys.readouterr().out

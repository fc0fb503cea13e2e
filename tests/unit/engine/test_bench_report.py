"""What a run of the benchmarks leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmarks import report
from tests.benchmarks.figures import Figure, Side, beside, cpu_of_unit

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


def test_a_target_is_met_by_the_medians_alone_and_not_with_errors() -> None:
    ours, theirs = Side(values=[90.0, 110.0, 500.0]), Side(values=[50.0, 60.0, 10.0])
    made = beside("intake", "64", "202/s", ours, "FastAPI", theirs, least=2.2)
    assert (made.value, made.peer_value, made.ratio, made.ok) == (110.0, 50.0, 2.2, True)
    ours.errors = 1
    assert beside("intake", "64", "202/s", ours, "FastAPI", theirs, least=2.2).ok is False
    assert beside("intake", "64", "202/s", ours, "FastAPI", theirs).ok is None


def test_cpu_time_is_of_each_unit_of_all_rounds() -> None:
    made = cpu_of_unit("intake", "CPU", "us a task", Side(cpu_s=2.0, done=50_000), most_us=40)
    assert (made.value, made.ok, made.target) == (40.0, True, "<= 40 us")


def test_a_run_says_in_which_form_its_engines_ran() -> None:
    figures = [Figure("a", "", 1.0, "s", compiled=True), Figure("logs", "", 1.0, "s")]
    assert report.form(figures) == "compiled: true"
    assert (
        report.form([*figures, Figure("b", "", 1.0, "s", compiled=False)])
        == "compiled: some true, some false"
    )
    assert report.form(figures[1:]) == "compiled: no engine ran"
    assert report.form([]) == "compiled: no engine ran"

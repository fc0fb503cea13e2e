"""What the package brings for Prometheus and Grafana goes together, and the command that writes it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from engine.cli import main
from engine.cli.monitoring import with_runbook
from tests import metric_docs, monitoring

if TYPE_CHECKING:
    from pathlib import Path

PAGES = monitoring.ROOT / "docs/runbook"


def test_every_metric_that_rules_and_dashboard_name_is_one_of_the_engine() -> None:
    assert monitoring.metrics_in() <= metric_docs.names()
    assert len(monitoring.metrics_in()) > 40


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert {page.stem for page in PAGES.iterdir()} == set(monitoring.alerts())


@pytest.mark.parametrize("alert", monitoring.alerts())
def test_an_alert_says_how_bad_it_is_and_its_page_what_to_do(alert: str) -> None:
    text = monitoring.alerts()[alert]
    assert f"runbook_url: docs/runbook/{alert}.md\n" in text
    assert re.search(r"labels: \{severity: (critical|warning)\}", text)
    page = (PAGES / f"{alert}.md").read_text(encoding="utf-8")
    heads = re.findall(r"^#+ .*$", page, re.MULTILINE)
    assert heads == [f"# {alert}", "## What it means", "## What to look at", "## What to do"]


def test_every_page_names_metrics_that_there_are() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES.iterdir())
    known = metric_docs.names() | {name.removesuffix("_bucket") for name in metric_docs.names()}
    assert set(re.findall(r"\b(?:purgeline|process)_[a-z0-9_]+\b", text)) <= known


def test_the_dashboard_asks_one_source_and_no_panel_lies_on_another() -> None:
    dashboard = monitoring.dashboard()
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    sources = {json.dumps(panel["datasource"]) for panel in dashboard["panels"] if "datasource" in panel}
    assert sources == {'{"type": "prometheus", "uid": "${datasource}"}'}


def test_the_command_writes_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["monitoring", "--to", str(tmp_path / "new")]) == 0
    assert (tmp_path / "new/rules.yml").read_text(encoding="utf-8") == monitoring.rules()
    assert json.loads((tmp_path / "new/dashboard.json").read_text(encoding="utf-8")) == monitoring.dashboard()
    assert "new/rules.yml: for Prometheus: name it in rule_files" in capsys.readouterr().out


def test_the_pages_may_be_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = with_runbook(monitoring.rules(), "https://wiki.test/{alert}#top")
    assert 'runbook_url: "https://wiki.test/PurgelineNodeDown#top"\n' in moved
    assert "docs/runbook/Purgeline" not in moved
    assert main.main(["monitoring", "--to", str(tmp_path), "--runbook", "https://wiki.test/"]) == 2
    assert "takes a URL with {alert} in it" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main.main(["monitoring", "--to", str(tmp_path / "file")]) == 1


def test_the_documentation_tells_of_each_alert_by_which_fault_it_was_raised() -> None:
    """`python -m tests.alert_docs` makes the faults, and writes the table."""
    page = (monitoring.ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\w+)\]\(runbook/\1\.md\) \| .+ \| [\d.]+ s \| (\w*) \|$", page, re.MULTILINE)
    assert rows == [(alert, monitoring.wait_of(text)) for alert, text in monitoring.alerts().items()]

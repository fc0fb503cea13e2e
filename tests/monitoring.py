"""What the rules and the dashboard of ``templates/monitoring/`` name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "templates/monitoring"
_NAME: Final = re.compile(r"\b(?:purgeline|process)_[a-z0-9_]+\b")
_ALERT: Final = re.compile(r"^ +- alert: (\w+)\n(.*?)(?=^ +- alert:|\Z)", re.MULTILINE | re.DOTALL)
NEEDS: Final = frozenset(
    {
        "purgeline_datagrams_total",
        "purgeline_fresh_seconds_bucket",
        "purgeline_leaves",
        "purgeline_leaves_learned_timestamp_seconds",
        "purgeline_redis_door_entries_total",
        "purgeline_store_bytes",
    }
)
"""What an engine on Redis has only behind a door, a verification or a region; and its files: it has none."""


def rules() -> str:
    """Return the text of the rules."""
    return (FOLDER / "rules.yml").read_text(encoding="utf-8")


def alerts() -> dict[str, str]:
    """Return the alerts, and the text of each."""
    return dict(_ALERT.findall(rules()))


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    found: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    return found


def expressions() -> list[str]:
    """Return every query of the dashboard: of its panels and variables."""
    panels = [inner for panel in dashboard()["panels"] for inner in [panel, *panel.get("panels", ())]]
    found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return found + [one["query"] for one in dashboard()["templating"]["list"] if one["type"] == "query"]


def asked_of_panels() -> list[str]:
    """Return what the dashboard's panels ask for, of all engines and nodes, as Grafana would write it."""
    found = [one for one in expressions() if not one.startswith("label_values(")]
    for name, value in {"job": ".*", "instance": ".*", "node": ".*", "__rate_interval": "1m"}.items():
        found = [re.sub(rf"\${name}\b", value, one) for one in found]
    assert not any("$" in one for one in found), "a variable that nobody fills in"
    return found


def metrics_in() -> set[str]:
    """Return the metrics that rules and dashboard name."""
    said = "\n".join(line for line in rules().splitlines() if "alert:" not in line and "summary:" not in line)
    return set(_NAME.findall(said + "\n".join(expressions())))


def wait_of(alert: str) -> str:
    """Return how long an alert waits, of its text: its ``for``."""
    found = re.search(r"^ +for: (\w+)$", alert, re.MULTILINE)
    return found[1] if found else ""

"""``python -m tests.metric_docs``: writes the table of docs/metrics.md from what the engine's page can hold.

The table stands between two comments; a test compares it with what is made here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.observe.counters import FURTHER_GAUGES, GAUGES, Stats
from engine.observe.meters import Histogram
from engine.observe.prometheus import REDIS_DOOR_GAUGES, EngineCollector, LeavesSample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

PAGE: Final = Path(__file__).resolve().parents[1] / "docs/metrics.md"
_TABLE: Final = re.compile(r"(<!-- metrics: made by [\w .-]+ -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def families() -> Iterator[Metric]:
    """Yield every metric of an engine that has everything: a Redis, doors, an objective."""
    stats = Stats(redis_beat_s=Histogram())
    for name in GAUGES | FURTHER_GAUGES:
        stats.gauge(name, lambda: 0)
    stats.redis_doors["redis", "source"] = dict.fromkeys(REDIS_DOOR_GAUGES, 0.0)
    yield from EngineCollector(stats, "", "", list, lambda: [LeavesSample("eu", {}, 0, 0.0)]).read().collect()


def names() -> set[str]:
    """Return the names of metrics as PromQL has them; of a histogram, those of its series, too."""
    found: set[str] = set()
    for family in families():
        name = _name(family)
        found |= {f"{name}_{end}" for end in ("bucket", "sum", "count")} if _is_histogram(family) else {name}
    return found


def table() -> str:
    """Return the table, in the order of names."""
    rows = sorted(
        (_name(family), family.type, ", ".join(f"`{label}`" for label in family._labelnames), _text(family))  # type: ignore[attr-defined]
        for family in families()
        if family.name.startswith("purgeline_")
    )
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {kind} | {labels} | {text} |" for name, kind, labels, text in rows]
    return "\n".join(lines) + "\n"


def filled(page: str) -> str:
    """Return *page* with its table made anew."""
    return _TABLE.sub(lambda found: found[1] + table() + found[3], page)


def _name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def _is_histogram(family: Metric) -> bool:
    return bool(family.type == "histogram")


def _text(family: Metric) -> str:
    return str(family.documentation).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE} written")

"""``python -m tests.alert_docs``: makes each fault, and writes what it raised into docs/monitoring.md."""

import re
import tempfile
from pathlib import Path
from typing import Final

from tests.monitoring import ROOT, alerts, wait_of
from tests.rigs.alert_faults import FAULTS, Fault, Raised, raise_alert
from tests.rigs.prometheus import RULES, Prometheus, hurried

PAGE: Final = ROOT / "docs/monitoring.md"
TABLE: Final = re.compile(r"(<!-- alerts: made by [\w .-]+ -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def raise_all(folder: Path) -> dict[Fault, Raised]:
    """Make every fault, one after the other; return what was raised."""
    found: dict[Fault, Raised] = {}
    with Prometheus(folder, hurried(RULES.read_text())) as prometheus:
        for number, fault in enumerate(FAULTS):
            place = folder / str(number)
            place.mkdir()
            found[fault] = raised = raise_alert(fault, prometheus, place)
            print(f"{fault.alert} after {raised.after_s:.1f} s")
    return found


def table(found: dict[Fault, Raised]) -> str:
    """Return the table."""
    lines = ["| alert | fault made | fired after | `for` |", "|---|---|---|---|"]
    texts = alerts()
    for fault, raised in found.items():
        page = f"[{fault.alert}](runbook/{fault.alert}.md)"
        lines.append(f"| {page} | {fault.text} | {raised.after_s:.1f} s | {wait_of(texts[fault.alert])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        made = table(raise_all(Path(temporary)))
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(lambda said: said[1] + made + said[3], page), encoding="utf-8")
    print(f"{PAGE} written")

"""The task that looks at hosts: limits, disk, clock, Redis, caches, as the release on each host sees them.

It returns 0 when no check fails, 1 when one does or a host has no doctor, 3 when a host could not be asked.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from release.hosts.target import apply, open_fleet
from release.rollout import exits
from release.rollout.exits import code_of_outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from release.hosts.remote import Outcome
    from release.hosts.target import Wanted
    from release.rollout.display import Display
    from release.settings import Settings

TIMEOUT_S: Final = 180.0  #: a thousand caches that do not answer take a minute and a half
FAIL: Final = "fail"
_STYLES: Final = {"ok": "green", "warn": "yellow", FAIL: "red"}
_ORDER: Final = (FAIL, "warn", "not known", "ok")


def doctor(wanted: Wanted, settings: Settings, display: Display) -> int:
    """Have the release on every host look at it, and show one table: what is not well, and what mends it."""
    settings = apply(wanted, settings)
    with open_fleet(wanted, settings, display.event) as fleet:
        outcomes = fleet.run("doctor", timeout_s=TIMEOUT_S)
    failed = [outcome for outcome in outcomes.values() if not outcome.ok]
    is_sick = any(outcome.answer.get("verdict") == FAIL for outcome in outcomes.values())
    if display.is_json:
        hosts = [
            {"host": name, "ok": outcome.ok, "reason": outcome.reason, "answer": outcome.answer}
            for name, outcome in outcomes.items()
        ]
        display.result({"action": "doctor", "hosts": hosts})
    else:
        rows = [row for name, outcome in outcomes.items() for row in _rows(name, outcome)]
        display.table("host", "check", "verdict", "found, and what mends it", rows=rows)
    return code_of_outcomes(failed) or (exits.FAILED if is_sick else exits.DONE)


def _rows(name: str, outcome: Outcome) -> Iterator[list[str | Text]]:
    """Yield a row of the host, and one for each check that is not well, the worst first."""
    if not outcome.ok:
        yield [name, "-", "not known", Text(outcome.reason, style="red")]
        return
    checks = [check for check in outcome.answer["checks"] if isinstance(check, dict)]
    verdicts = Counter(_text(check, "verdict") for check in checks)
    counted = ", ".join(f"{verdicts[one]} {one}" for one in _ORDER if verdicts[one])
    yield [name, "all", _styled(_text(outcome.answer, "verdict")), counted]
    for verdict in (FAIL, "warn"):
        for check in checks:
            if _text(check, "verdict") == verdict:
                yield [name, _text(check, "name"), _styled(verdict), _found(check)]


def _found(check: Mapping[str, Any]) -> str:
    """Return the values of a check, why they are not well, and what mends that."""
    value, limit = _text(check, "value"), _text(check, "limit")
    values = " ".join(filter(None, (value, limit and f"(limit: {limit})")))
    told = "; ".join(filter(None, (_text(check, "reason"), _text(check, "remedy"))))
    return ": ".join(filter(None, (values, told)))


def _text(document: Mapping[str, Any], key: str) -> str:
    return str(document.get(key) or "")


def _styled(verdict: str) -> Text:
    return Text(verdict, style=_STYLES.get(verdict, ""))

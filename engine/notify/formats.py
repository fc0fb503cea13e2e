"""What an alert looks like to those who receive it: our own JSON, Alertmanager's, Slack's. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config.tables import AlertFormat

Level = Literal["warning", "error", "resolved"]

STANDS_S: Final = 240.0
"""Alertmanager takes an alert as over when it has not heard of it for so long; Prometheus says so, too."""
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_NAME: Final = re.compile(r"[^a-zA-Z0-9_]")
_MARKS: Final = {"warning": ":warning:", "error": ":red_circle:", "resolved": ":large_green_circle:"}
_MOMENTS: Final = frozenset({"full", "htcp", "leader", "poison"})
_MOMENTS_OF_STORE: Final = frozenset({"store:embedded", "store:emptied", "store:rows", "store:set-back"})
_encode = msgspec.json.encode


class Alert(msgspec.Struct):
    """An alert, and the body of its POST in our own form."""

    key: str
    level: Level
    message: str
    facts: dict[str, str | int | float]
    time: float  #: UNIX seconds
    host: str
    repeated: int = 0  #: the same alert, not posted, since the last one
    suppressed: int = 0  #: other alerts that did not fit since the last one
    since: float = 0.0  #: when the first of its kind came that is not over, UNIX seconds
    changed: str = "new"  #: what is new about it


def is_moment(key: str) -> bool:
    """Tell whether nothing resolves alerts of a key: they are about a moment."""
    return key.partition(":")[0] in _MOMENTS or key in _MOMENTS_OF_STORE


def body_of(name: AlertFormat, alert: Alert, now: float) -> bytes:
    """Return the body of one alert in the form of that name; *now* in UNIX seconds."""
    match name:
        case "alertmanager":
            return alertmanager([alert], now)
        case "slack":
            return slack(alert)
        case "purgeline":
            return own(alert)


def own(alert: Alert) -> bytes:
    """Return the body in our own form."""
    return _encode(alert)


def slack(alert: Alert) -> bytes:
    """Return the body for an incoming webhook of Slack, or of what takes the same."""
    facts = " ".join(f"{name}={value}" for name, value in alert.facts.items())
    lines = [
        f"{_MARKS[alert.level]} *{alert.level}* {_escaped(alert.message)}",
        _escaped(f"{alert.key} on {alert.host}: {alert.changed}{f' ({facts})' if facts else ''}"),
    ]
    if alert.suppressed:
        lines.append(f"{alert.suppressed} other alerts did not fit")
    return _encode({"text": "\n".join(lines)})


def alertmanager(alerts: Sequence[Alert], now: float) -> bytes:
    """Return the body for ``POST /api/v2/alerts`` of Alertmanager.

    Args:
        alerts: one that has just been raised or is over, or all that go on.
        now: UNIX seconds.
    """
    return _encode([_of_alertmanager(alert, now) for alert in alerts])


def span(seconds: float) -> str:
    """Return a duration for people: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    return f"{seconds / _HOUR_S:.1f} h"


def labels_of(alert: Alert) -> dict[str, str]:
    """Return what tells one alert from another: only what stays the same while it goes on."""
    kind, _, about = alert.key.partition(":")
    labels = {
        "alertname": f"Purgeline{_NAME.sub('', kind.title())}",
        "instance": alert.host,
        "key": alert.key,
    }
    labels |= {name: str(alert.facts[name]) for name in ("node", "layer") if name in alert.facts}
    if about and "node" not in labels and kind in _OF_NODES:
        labels["node"] = about
    return labels


def _of_alertmanager(alert: Alert, now: float) -> dict[str, Any]:
    ends = alert.time if alert.level == "resolved" else now + STANDS_S
    return {
        "labels": labels_of(alert),
        "annotations": {
            "summary": alert.message,
            "severity": alert.level,
            "changed": alert.changed,
            **({"suppressed": str(alert.suppressed)} if alert.suppressed else {}),
            **{_NAME.sub("_", name): str(value) for name, value in alert.facts.items()},
        },
        "startsAt": moment(alert.since or alert.time),
        "endsAt": moment(ends),
    }


_OF_NODES: Final = frozenset({"canary", "delay", "gone", "node", "refused", "stale"})


def moment(at: float) -> str:
    """Return a time, UNIX seconds, as RFC 3339 has it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

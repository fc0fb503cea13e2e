"""Whether a host serves the version that it should, and serves it well."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from release.hosts.remote import Fleet, Outcome

WATCH_TIMEOUT_S: Final = 30.0
UPTIME_SLACK_S: Final = 0.5


def watch(
    fleet: Fleet,
    versions: Mapping[str, str],
    *,
    since: Mapping[str, float] | None = None,
    known: Mapping[str, Outcome] | None = None,
    stale: Mapping[str, Collection[str]] | None = None,
) -> dict[str, Outcome]:
    """Ask each host whether it serves its version well; return outcomes that are ok only where it does.

    Args:
        fleet: the hosts.
        versions: what each should serve.
        since: when each was reloaded, by the monotonic clock; a younger worker has replaced one that died.
        known: outcomes of hosts that said it a moment ago, and need not be asked.
        stale: the caches of each host whose canary was stale before its reload.
    """
    before = time.monotonic()
    said = {name: outcome for name, outcome in (known or {}).items() if name in versions}
    asked = [name for name in versions if name not in said]
    answers = said | (fleet.run("status", hosts=asked, timeout_s=WATCH_TIMEOUT_S) if asked else {})
    outcomes = {name: answers[name] for name in versions}
    for name, outcome in outcomes.items():
        least_s = before - since[name] if since and name in since and name not in said else 0.0
        wrong = unwell(outcome.answer, versions[name]) if outcome.ok else ""
        wrong = wrong or (_died(outcome.answer, least_s) if outcome.ok else "")
        wrong = wrong or (turned_stale(outcome.answer, (stale or {}).get(name, ())) if outcome.ok else "")
        if wrong:
            outcomes[name] = msgspec.structs.replace(
                outcome, ok=False, answer={"ok": False}, kind="unwell", reason=wrong
            )
    return outcomes


def _died(status: Mapping[str, Any], least_s: float) -> str:
    """Say which worker is younger than the reload: one that died and was started again will die again."""
    for worker in status.get("workers") or []:
        if isinstance(worker, dict) and float(worker.get("uptime_s") or 0) < least_s - UPTIME_SLACK_S:
            return f"its worker {worker.get('slot')} ended by itself and was started again"
    return ""


def turned_stale(status: Mapping[str, Any], before: Collection[str]) -> str:
    """Say of a cache what its canary shows: it acks purges and serves the old object, and did not before."""
    for worker in status.get("workers") or []:
        found = worker.get("stale") if isinstance(worker, dict) else None
        for name, reason in found.items() if isinstance(found, dict) else ():
            if name not in before:
                return f"{reason} (canary of {name})"
    return ""


def unwell(status: Mapping[str, Any], version: str) -> str:
    """Return what is wrong with a host that should serve *version*; empty when nothing is."""
    if status.get("version") != version:
        return f"serves {status.get('version') or 'nothing'}, not {version}"
    workers = [worker for worker in status.get("workers") or [] if isinstance(worker, dict)]
    serving = [worker for worker in workers if worker.get("state") == "accepting"]
    if not serving:
        return "no worker accepts"
    others = sorted({str(worker.get("version")) for worker in serving} - {version})
    if others:
        return f"a worker serves {', '.join(others)}"
    if status.get("ready") is False:
        return f"is not ready: {status.get('ready_detail') or 'no answer'}"
    return ""


def unread(status: Mapping[str, Any]) -> str:
    """Say that an edited configuration is not the one that runs: the last reload, by SIGHUP, failed."""
    last = status.get("last_reload")
    if not isinstance(last, dict) or last.get("by") != "SIGHUP" or last.get("ok") is not False:
        return ""
    said = [str(last.get("error")), *(last.get("log") or [])]
    return f"goes on with the configuration that it had: {': '.join(said)}"

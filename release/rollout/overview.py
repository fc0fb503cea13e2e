"""The tasks that only look: status and history.

They return 0 when all is well, 1 when something is not, 3 when a host could not be asked.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from release.hosts.target import apply, journal_of, open_fleet
from release.rollout import exits, gates
from release.rollout.exits import code_of_outcomes
from release.rollout.health import unread, unwell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from release.hosts.remote import Outcome
    from release.hosts.target import Wanted
    from release.rollout.display import Display
    from release.rollout.plan import HostState
    from release.settings import Settings

TIMEOUT_S: Final = 60.0


def status(wanted: Wanted, settings: Settings, display: Display) -> int:
    """Show what every host serves, its health, and where hosts drift from what they should be."""
    settings = apply(wanted, settings)
    with open_fleet(wanted, settings, display.event) as fleet:
        facts = fleet.run("facts", timeout_s=TIMEOUT_S)
        answered = [name for name, outcome in facts.items() if outcome.ok]
        answers = fleet.run("status", hosts=answered, timeout_s=TIMEOUT_S) if answered else {}
        states = {name: gates.state_of(name, facts[name].answer, answers[name].answer) for name in answered}
        wrong = {name: _wrong(states[name], answers[name], states) for name in answered}
        wrong |= {name: [outcome.reason] for name, outcome in facts.items() if not outcome.ok}
    if display.is_json:
        display.result(
            {
                "hosts": [
                    {
                        "host": name,
                        "ok": not wrong[name],
                        "wrong": wrong[name],
                        "facts": facts[name].answer,
                        "status": answers[name].answer if name in answers else {},
                    }
                    for name in fleet.names
                ]
            }
        )
    else:
        rows = [
            _status_row(name, states.get(name), answers[name].answer if name in answers else {}, wrong[name])
            for name in fleet.names
        ]
        display.table("host", "serves", "previous", "state", "workers", "up", "lock", "", rows=rows)
    if len(answered) < len(fleet.names):
        return exits.GATE
    return exits.FAILED if any(wrong.values()) else exits.DONE


def _wrong(state: HostState, status: Outcome, states: Mapping[str, HostState]) -> list[str]:
    """Return what is wrong with a host, in sentences."""
    wrong = []
    if not state.current:
        return ["no release yet"]
    if not status.ok:
        return [status.reason]
    if not state.running:
        return ["nothing runs"]
    if sentence := unwell(status.answer, state.running):
        wrong.append(sentence)
    if sentence := unread(status.answer):
        wrong.append(sentence)
    if state.running != state.current:
        wrong.append(f"serves {state.running}, but current is {state.current}")
    if why := state.yanked.get(state.running):
        wrong.append(f"{state.running} was yanked: {why}")
    most = _most([other.running for other in states.values()])
    if state.running != most:
        wrong.append(f"most hosts serve {most}")
    alike = [
        other.digests.get(state.running, "")
        for other in states.values()
        if (other.running, other.python, other.platform) == (state.running, state.python, state.platform)
    ]
    if state.digests.get(state.running, "") != _most(alike):
        wrong.append(f"its {state.running} is made of other bytes than that of most hosts")
    return wrong


def _most(versions: Sequence[str]) -> str:
    return max(sorted(set(versions)), key=list(versions).count)


def _status_row(
    name: str, state: HostState | None, status: Mapping[str, Any], wrong: Sequence[str]
) -> list[str | Text]:
    workers = [worker for worker in status.get("workers") or [] if isinstance(worker, dict)]
    serving = sum(worker.get("state") == "accepting" for worker in workers)
    restarts = sum(int(worker.get("restarts") or 0) for worker in workers)
    shown = f"{serving} of {len(workers)}" + (f", {restarts} restarts" if restarts else "")
    up = status.get("uptime_s")
    return [
        name,
        (state.running if state else "") or "-",
        (state.previous if state else "") or "-",
        (state.state if state else "") or "-",
        shown if workers else "-",
        _span(float(up)) if isinstance(up, int | float) else "-",
        state.lock if state else "",
        Text("; ".join(wrong), style="red") if wrong else Text("ok", style="green"),
    ]


def history(wanted: Wanted, settings: Settings, display: Display, *, limit: int, is_here: bool) -> int:
    """Show who did what when: on the hosts, or with *is_here* from this machine."""
    settings = apply(wanted, settings) if not is_here else settings
    if is_here:
        entries = [{"host": "", **entry} for entry in journal_of(settings).read(limit)]
        return _show_history(entries, [], display)
    with open_fleet(wanted, settings, display.event) as fleet:
        outcomes = fleet.run("history", {"limit": limit}, timeout_s=TIMEOUT_S)
    entries = [
        {"host": name, **entry}
        for name, outcome in outcomes.items()
        for entry in outcome.answer.get("entries") or []
    ]
    entries.sort(key=lambda entry: float(entry.get("at") or 0))
    return _show_history(entries, [outcome for outcome in outcomes.values() if not outcome.ok], display)


def _show_history(entries: list[dict[str, Any]], failed: Sequence[Outcome], display: Display) -> int:
    if display.is_json:
        display.result({"entries": entries, "failed": {outcome.host: outcome.reason for outcome in failed}})
    else:
        display.table(
            *("when", "host", "who", "what", "from", "to", "time", "outcome", "deploy"),
            rows=[_history_row(entry) for entry in entries],
        )
        for outcome in failed:
            display.say(f"{outcome.host}: {outcome.reason}")
    return code_of_outcomes(failed)


def _history_row(entry: Mapping[str, Any]) -> list[str | Text]:
    duration = entry.get("duration_s")
    phase = str(entry.get("phase") or "")
    is_ok = entry.get("ok")
    outcome = (
        Text(str(entry.get("error") or "failed"), style="red")
        if is_ok is False
        else Text("ok", style="green")
    )
    if phase == "begin":
        outcome = Text("begun")
    elif entry.get("verdict"):
        outcome = Text(str(entry["verdict"]), style="green" if is_ok else "red")
        outcome.append(f": {entry['error']}" if entry.get("error") else "")
    hosts = entry.get("hosts")
    return [
        _when(entry.get("at")),
        str(entry.get("host") or ",".join(hosts if isinstance(hosts, list) else [])),
        str(entry.get("who") or ""),
        str(entry.get("action") or ""),
        str(entry.get("from") or ""),
        str(entry.get("version") or ""),
        f"{float(duration):.1f} s" if isinstance(duration, int | float) else "",
        outcome,
        str(entry.get("deploy_id") or ""),
    ]


def _when(at: object) -> str:
    if not isinstance(at, int | float):
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _span(seconds: float) -> str:
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days:.0f} d {hours % 24:.0f} h"
    if hours:
        return f"{hours:.0f} h {minutes % 60:.0f} min"
    return f"{minutes:.0f} min {seconds % 60:.0f} s" if minutes else f"{seconds:.0f} s"

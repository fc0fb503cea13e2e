"""The small tasks on hosts: status, history, version, lock, unlock, prune, verify, stop.

Each asks every host, shows what came back, and returns an exit code: 0 when all is well, 1 when something is
not, 3 when a host could not be asked.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from release import exits, gates, journal
from release.errors import LockedError, ReleaseError, SettingsError
from release.lock import HostsLock
from release.steps import unwell
from release.target import apply, journal_of, open_fleet
from release.version import normal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from release.plan import HostState
    from release.remote import Outcome
    from release.screen import Screen
    from release.settings import Settings
    from release.target import Wanted

TIMEOUT_S: Final = 60.0
MANUAL_TTL_S: Final = 7 * 86400.0  #: a lock that somebody set by hand
DEPLOYED: Final = frozenset({"reload", "rollback", "auto-rollback", "unpack", "prune", "stop"})


def status(wanted: Wanted, settings: Settings, screen: Screen) -> int:
    """Show what every host serves, its health, and where hosts drift from what they should be."""
    settings = apply(wanted, settings)
    with open_fleet(wanted, settings, screen) as fleet:
        facts = fleet.run("facts", timeout_s=TIMEOUT_S)
        there = [name for name, outcome in facts.items() if outcome.ok]
        answers = fleet.run("status", hosts=there, timeout_s=TIMEOUT_S) if there else {}
        states = {name: gates.state_of(name, facts[name].answer, answers[name].answer) for name in there}
        wrong = {name: _wrong(states[name], answers[name], states) for name in there}
        wrong |= {name: [outcome.reason] for name, outcome in facts.items() if not outcome.ok}
    if screen.is_json:
        screen.result(
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
        screen.table("host", "serves", "previous", "state", "workers", "up", "lock", "", rows=rows)
    if len(there) < len(fleet.names):
        return exits.GATE
    return exits.FAILED if any(wrong.values()) else exits.DONE


def _wrong(state: HostState, status: Outcome, states: Mapping[str, HostState]) -> list[str]:
    """Return what is wrong with a host, in sentences."""
    found = []
    if not state.current:
        return ["no release yet"]
    if not status.ok:
        return [status.reason]
    if not state.running:
        return ["nothing runs"]
    if sentence := unwell(status.answer, state.running):
        found.append(sentence)
    if state.running != state.current:
        found.append(f"serves {state.running}, but current is {state.current}")
    most = _most([other.running for other in states.values()])
    if state.running != most:
        found.append(f"most hosts serve {most}")
    return found


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


def history(wanted: Wanted, settings: Settings, screen: Screen, *, limit: int, is_here: bool) -> int:
    """Show who did what when: on the hosts, or with *is_here* from this machine."""
    settings = apply(wanted, settings) if not is_here else settings
    if is_here:
        entries = [{"host": "", **entry} for entry in journal_of(settings).read(limit)]
        return _show_history(entries, [], screen)
    with open_fleet(wanted, settings, screen) as fleet:
        outcomes = fleet.run("history", {"limit": limit}, timeout_s=TIMEOUT_S)
    entries = [
        {"host": name, **entry}
        for name, outcome in outcomes.items()
        for entry in outcome.answer.get("entries") or []
    ]
    entries.sort(key=lambda entry: float(entry.get("at") or 0))
    return _show_history(entries, [outcome for outcome in outcomes.values() if not outcome.ok], screen)


def _show_history(entries: list[dict[str, Any]], failed: Sequence[Outcome], screen: Screen) -> int:
    if screen.is_json:
        screen.result({"entries": entries, "failed": {outcome.host: outcome.reason for outcome in failed}})
    else:
        screen.table(
            *("when", "host", "who", "what", "from", "to", "time", "outcome", "deploy"),
            rows=[_history_row(entry) for entry in entries],
        )
        for outcome in failed:
            screen.say(f"{outcome.host}: {outcome.reason}")
    return _code(failed)


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


def lock(wanted: Wanted, settings: Settings, screen: Screen, *, why: str) -> int:
    """Lock hosts by hand, so that nobody deploys to them until `unlock`."""
    settings = apply(wanted, settings)
    if not why.strip():
        raise SettingsError("--why TEXT is missing: others will read it when they are refused")
    with open_fleet(wanted, settings, screen) as fleet:
        run = journal.new_run("lock", version=why.strip(), root=fleet.root, hosts=fleet.names, is_manual=True)
        memory = journal_of(settings)
        memory.begin(run)
        try:
            HostsLock(fleet, run, fleet.names, ttl_s=MANUAL_TTL_S).acquire()
        except LockedError:
            memory.end(run.deploy_id)
            raise
    return _show(screen, "lock", [_plain(name, "locked") for name in fleet.names], [])


def unlock(wanted: Wanted, settings: Settings, screen: Screen, *, is_forced: bool) -> int:
    """Release locks that this machine holds by hand or left behind; with *is_forced* whosoever they are."""
    settings = apply(wanted, settings)
    memory = journal_of(settings)
    with open_fleet(wanted, settings, screen) as fleet:
        if is_forced:
            outcomes = fleet.run("unlock", {"force": True, "who": journal.who()}, timeout_s=TIMEOUT_S)
            return _show_outcomes(screen, "unlock", outcomes, lambda _answer: "unlocked")
        runs = [
            run
            for run in memory.runs()
            if run.root == fleet.root
            and not set(run.hosts).isdisjoint(fleet.names)
            and (run.pid == 0 or not run.is_alive)
        ]
        if not runs:
            raise ReleaseError(
                "this machine holds no lock there; ./inv status shows whose it is, --force releases it anyway"
            )
        outcomes = {}
        for run in runs:
            hosts = [name for name in fleet.names if name in run.hosts]
            done = fleet.run("unlock", {"token": run.token}, hosts=hosts, timeout_s=TIMEOUT_S)
            if all(outcome.is_answered for outcome in done.values()):
                memory.end(run.deploy_id)
            outcomes |= done
    return _show_outcomes(screen, "unlock", outcomes, lambda _answer: "unlocked")


def prune(wanted: Wanted, settings: Settings, screen: Screen, *, keep: int) -> int:
    """Remove releases beyond the last good ones; never the current, the previous or a running one."""
    settings = apply(wanted, settings)
    request = {"keep": keep or settings.keep_count, "who": journal.who(), "dry_run": wanted.is_dry}
    with open_fleet(wanted, settings, screen) as fleet:
        outcomes = fleet.run("prune", request)

    def text(answer: Mapping[str, Any]) -> str:
        removed = [str(version) for version in answer.get("removed") or []]
        return f"{'would remove' if wanted.is_dry else 'removed'} {', '.join(removed) or 'nothing'}"

    return _show_outcomes(screen, "prune", outcomes, text)


def verify(wanted: Wanted, settings: Settings, screen: Screen) -> int:
    """Compare every file of a release on the hosts with what was unpacked."""
    settings = apply(wanted, settings)
    with open_fleet(wanted, settings, screen) as fleet:
        version = normal(wanted.release, "--release") if wanted.release else ""
        if not version:
            states, failed = gates.ask(fleet)
            gates.need_all(failed)
            gates.refuse([f"{name}: no release yet" for name, state in states.items() if not state.current])
        outcomes = fleet.run("verify", lambda name: {"version": version or states[name].current})

    def text(answer: Mapping[str, Any]) -> str:
        return f"{answer.get('version', version)}: {answer.get('files', 'all')} files as they were unpacked"

    return _show_outcomes(screen, "verify", outcomes, text)


def stop(wanted: Wanted, settings: Settings, screen: Screen) -> int:
    """Stop the engine where the pipeline itself started it: drained, nothing is lost."""
    settings = apply(wanted, settings)
    if not wanted.hosts:
        raise SettingsError("--host is missing: name the hosts whose engine is to stop, or local")
    with open_fleet(wanted, settings, screen) as fleet:
        outcomes = fleet.run("stop", {"who": journal.who()}, timeout_s=TIMEOUT_S)
    return _show_outcomes(screen, "stop", outcomes, lambda _answer: "stopped")


# --- showing -----------------------------------------------------------------------------------


def _show_outcomes(
    screen: Screen, what: str, outcomes: Mapping[str, Outcome], text: Callable[[Mapping[str, Any]], str]
) -> int:
    failed = [outcome for outcome in outcomes.values() if not outcome.ok]
    rows = [
        _plain(name, text(outcome.answer)) if outcome.ok else _plain(name, outcome.reason, is_bad=True)
        for name, outcome in outcomes.items()
    ]
    if screen.is_json:
        screen.result(
            {
                "action": what,
                "hosts": [
                    {"host": name, "ok": outcome.ok, "reason": outcome.reason, "answer": outcome.answer}
                    for name, outcome in outcomes.items()
                ],
            }
        )
        return _code(failed)
    return _show(screen, what, rows, failed)


def _show(screen: Screen, what: str, rows: Sequence[list[str | Text]], failed: Sequence[Outcome]) -> int:
    if screen.is_json:
        screen.result({"action": what, "hosts": [{"host": row[0], "ok": True} for row in rows]})
    else:
        screen.table("host", what, rows=rows)
    return _code(failed)


def _plain(name: str, text: str, *, is_bad: bool = False) -> list[str | Text]:
    return [name, Text(text, style="red" if is_bad else "")]


def _code(failed: Sequence[Outcome]) -> int:
    if any(not outcome.is_answered for outcome in failed):
        return exits.GATE
    return exits.FAILED if failed else exits.DONE


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

"""The small tasks on hosts: lock, unlock, prune, verify, stop.

Each asks every host, shows what came back, and returns an exit code: 0 when all is well, 1 when something is
not, 3 when a host could not be asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from release.build.version import normal
from release.calling import call
from release.errors import LockedError, ReleaseError, SettingsError
from release.hosts import journal
from release.hosts.lock import HostsLock
from release.hosts.target import apply, journal_of, open_fleet
from release.rollout import gates
from release.rollout.exits import code_of_outcomes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from release.hosts.remote import Outcome
    from release.hosts.target import Wanted
    from release.rollout.display import Display
    from release.settings import Settings

TIMEOUT_S: Final = 60.0
MANUAL_TTL_S: Final = 0.0  #: a lock that somebody set by hand is kept until it is released


def lock(wanted: Wanted, settings: Settings, display: Display, *, why: str) -> int:
    """Lock hosts by hand, so that nobody deploys to them until `unlock`."""
    settings = apply(wanted, settings)
    if not why.strip():
        raise SettingsError("--why TEXT is missing: others will read it when they are refused")
    with open_fleet(wanted, settings, display.event) as fleet:
        run = journal.new_run("lock", version=why.strip(), root=fleet.root, hosts=fleet.names, is_manual=True)
        memory = journal_of(settings)
        memory.begin(run)
        try:
            HostsLock(fleet, run, fleet.names, ttl_s=MANUAL_TTL_S).acquire()
        except LockedError:
            memory.end(run.deploy_id)
            raise
    return _show(display, "lock", [_plain(name, "locked") for name in fleet.names], [])


def unlock(wanted: Wanted, settings: Settings, display: Display, *, is_forced: bool, why: str = "") -> int:
    """Release locks that this machine holds by hand or left behind; with *is_forced* also those of others.

    *why* is asked for with *is_forced*; it is printed, and noted here and in the hosts' histories.
    """
    settings = apply(wanted, settings)
    why = why.strip()
    if is_forced and not why:
        raise SettingsError("--force needs --why TEXT: it takes a lock that is somebody else's")
    memory = journal_of(settings)
    with open_fleet(wanted, settings, display.event) as fleet:
        if is_forced:
            asked = {"force": True, "who": journal.who(), "why": why}
            outcomes = fleet.run("unlock", asked, timeout_s=TIMEOUT_S)
            taken = {name: str(outcome.answer.get("was") or "") for name, outcome in outcomes.items()}
            memory.append(
                action="unlock", phase="end", verdict="done", ok=True, who=asked["who"], root=fleet.root,
                hosts=fleet.names, error=why, taken=taken,
            )  # fmt: skip
            return _show_outcomes(display, "unlock", outcomes, lambda answer: _unlocked(answer, why))
        runs = [
            run
            for run in memory.runs()
            if run.root == fleet.root
            and not set(run.hosts).isdisjoint(fleet.names)
            and run.is_here
            and (run.pid == 0 or run.is_ended)
        ]
        if not runs:
            raise ReleaseError(
                f"this machine holds no lock there; {call('status')} shows whose it is, --force releases it "
                "anyway"
            )
        outcomes = {}
        for run in runs:
            hosts = [name for name in fleet.names if name in run.hosts]
            asked = {"token": run.token, "who": journal.who(), "why": why}
            done = fleet.run("unlock", asked, hosts=hosts, timeout_s=TIMEOUT_S)
            if all(outcome.is_answered for outcome in done.values()):
                memory.end(run.deploy_id)
            outcomes |= done
    return _show_outcomes(display, "unlock", outcomes, lambda answer: _unlocked(answer, why))


def _unlocked(answer: Mapping[str, Any], why: str) -> str:
    was = f"; it was {answer['was']}" if answer.get("was") else ""
    return f"unlocked{was}" + (f"; taken because: {why}" if was and why else "")


def prune(wanted: Wanted, settings: Settings, display: Display, *, keep: int) -> int:
    """Remove releases beyond the last good ones; never the current, the previous or a running one."""
    settings = apply(wanted, settings)
    request = {"keep": keep or settings.keep_count, "who": journal.who(), "dry_run": wanted.is_dry}
    with open_fleet(wanted, settings, display.event) as fleet:
        outcomes = fleet.run("prune", request)

    def text(answer: Mapping[str, Any]) -> str:
        removed = [str(version) for version in answer.get("removed") or []]
        return f"{'would remove' if wanted.is_dry else 'removed'} {', '.join(removed) or 'nothing'}"

    return _show_outcomes(display, "prune", outcomes, text)


def verify(wanted: Wanted, settings: Settings, display: Display) -> int:
    """Compare every file of a release on the hosts with what was unpacked."""
    settings = apply(wanted, settings)
    with open_fleet(wanted, settings, display.event) as fleet:
        version = normal(wanted.release, "--release") if wanted.release else ""
        if not version:
            states, failed = gates.ask(fleet)
            gates.need_all(failed)
            gates.refuse([f"{name}: no release yet" for name, state in states.items() if not state.current])
        outcomes = fleet.run("verify", lambda name: {"version": version or states[name].current})

    def text(answer: Mapping[str, Any]) -> str:
        return f"{answer.get('version', version)}: {answer.get('files', 'all')} files as they were unpacked"

    return _show_outcomes(display, "verify", outcomes, text)


def stop(wanted: Wanted, settings: Settings, display: Display) -> int:
    """Stop the engine where the pipeline itself started it: drained, nothing is lost."""
    settings = apply(wanted, settings)
    if not wanted.hosts:
        raise SettingsError("--host is missing: name the hosts whose engine is to stop, or local")
    with open_fleet(wanted, settings, display.event) as fleet:
        outcomes = fleet.run("stop", {"who": journal.who()}, timeout_s=TIMEOUT_S)
    return _show_outcomes(display, "stop", outcomes, lambda _answer: "stopped")


def _show_outcomes(
    display: Display, what: str, outcomes: Mapping[str, Outcome], text: Callable[[Mapping[str, Any]], str]
) -> int:
    failed = [outcome for outcome in outcomes.values() if not outcome.ok]
    for name, outcome in outcomes.items():
        if why := outcome.answer.get("by_sudo"):
            display.say(f"{name}: by sudo, since {why}")
    rows = [
        _plain(name, text(outcome.answer)) if outcome.ok else _plain(name, outcome.reason, is_bad=True)
        for name, outcome in outcomes.items()
    ]
    if display.is_json:
        display.result(
            {
                "action": what,
                "hosts": [
                    {"host": name, "ok": outcome.ok, "reason": outcome.reason, "answer": outcome.answer}
                    for name, outcome in outcomes.items()
                ],
            }
        )
        return code_of_outcomes(failed)
    return _show(display, what, rows, failed)


def _show(display: Display, what: str, rows: Sequence[list[str | Text]], failed: Sequence[Outcome]) -> int:
    if display.is_json:
        display.result({"action": what, "hosts": [{"host": row[0], "ok": True} for row in rows]})
    else:
        display.table("host", what, rows=rows)
    return code_of_outcomes(failed)


def _plain(name: str, text: str, *, is_bad: bool = False) -> list[str | Text]:
    return [name, Text(text, style="red" if is_bad else "")]

"""Reasons not to begin, looked for before anything is changed and told all at once.

The hosts answer `look`, facts and status in one; the rest is decided without them. A deploy needs every
host; a rollback takes those it can get.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from release.calling import call
from release.hosts.lock import locked
from release.hosts.target import journal_of
from release.rollout.exits import GateError
from release.rollout.plan import HostState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from release.hosts.remote import Fleet, Outcome
    from release.hosts.target import Wanted
    from release.repository.index import Artefact
    from release.settings import Settings

FACTS_TIMEOUT_S: Final = 30.0
UNPACKED_TIMES: Final = 4  #: an unpacked release and its artefact take so many times the artefact's size


def ask(fleet: Fleet) -> tuple[dict[str, HostState], list[Outcome]]:
    """Return the state of each host, and the outcomes of hosts that could not be asked."""
    looks = fleet.run("look", timeout_s=FACTS_TIMEOUT_S)
    failed = [outcome for outcome in looks.values() if not outcome.ok]
    return {
        name: state_of(name, outcome.answer, outcome.answer.get("status") or {})
        for name, outcome in looks.items()
        if outcome.ok
    }, failed


def state_of(name: str, facts: Mapping[str, Any], status: Mapping[str, Any]) -> HostState:
    """Read the parts of a host's answers that decide something."""
    running = status.get("version") if status.get("ok") else ""
    return HostState(
        name=name,
        python=str(facts.get("python_tag") or ""),
        platform=str(facts.get("platform") or ""),
        free_bytes=int(facts.get("free_bytes") or 0),
        current=str(facts.get("current") or ""),
        previous=str(facts.get("previous") or ""),
        running=str(running or ""),
        releases=[str(version) for version in facts.get("releases") or []],
        digests=facts.get("digests") or {},
        yanked=facts.get("yanked") or {},
        state=str(status.get("state") or "") if status.get("ok") else "",
        why_sudo=str(facts.get("by_sudo") or ""),
        listen=str(facts.get("listen") or ""),
        workers=len({row.get("slot") for row in status.get("workers") or [] if isinstance(row, dict)}),
        unit_workers=int(facts.get("unit_workers") or 0),
        lock=_lock_text(facts.get("lock")),
        lock_id=_lock_id(facts.get("lock")),
    )


def _lock_text(lock: object) -> str:
    """Say whose a lock is, in a few words."""
    if not isinstance(lock, dict):
        return ""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(lock.get("at") or 0)))
    text = f"{lock.get('who')} on {lock.get('where')} since {since} ({lock.get('why')})"
    return f"{text}, stale" if lock.get("stale") else text


def _lock_id(lock: object) -> str:
    return str(lock.get("deploy_id") or "?") if isinstance(lock, dict) and not lock.get("stale") else ""


def check_locks(fleet: Fleet, states: Mapping[str, HostState], settings: Settings) -> None:
    """Refuse to begin on hosts that somebody holds; locks of this machine's ended runs can be taken over.

    Raises:
        LockedError: says whose locks they are.
    """
    ended = journal_of(settings).abandoned(fleet.root, fleet.names)
    refuse_locked(states, [run.deploy_id for run in ended])


def refuse_locked(states: Mapping[str, HostState], ours: Iterable[str]) -> None:
    """Refuse to begin on hosts that somebody holds; the lock itself is taken later.

    Args:
        states: of the hosts.
        ours: ids of ended runs of this machine, whose locks can be taken over.

    Raises:
        LockedError: says whose locks they are.
    """
    free = {"", *ours}
    held = {name: f"locked by {state.lock}" for name, state in states.items() if state.lock_id not in free}
    if held:
        raise locked(held)


def need_all(failed: Iterable[Outcome]) -> None:
    """Refuse to begin without some hosts.

    Raises:
        GateError: names each of them and why.
    """
    refuse([f"{outcome.host}: {outcome.reason}" for outcome in failed])


def choose(states: Mapping[str, HostState], find: Callable[[str, str], Artefact]) -> dict[str, Artefact]:
    """Return the artefact for each host.

    Args:
        states: of the hosts.
        find: returns the artefact for a Python and a platform tag.

    Raises:
        GateError: a host does not say which Python it has.
        RepositoryError: *find* says that there is no build for a host.
    """
    refuse(
        [f"{name}: does not say which Python it has" for name, state in states.items() if not state.python]
    )
    builds = {
        tags: find(*tags) for tags in sorted({(state.python, state.platform) for state in states.values()})
    }
    return {name: builds[state.python, state.platform] for name, state in states.items()}


def check(
    states: Mapping[str, HostState], artefacts: Mapping[str, Artefact], *, min_free_bytes: int
) -> list[str]:
    """Return the reasons not to begin on these hosts; none when all is well."""
    reasons = []
    for name, state in states.items():
        if state.is_busy:
            reasons.append(f"{name}: a reload is under way ({state.state}); wait for its end")
        if name in artefacts:
            need = max(min_free_bytes, UNPACKED_TIMES * artefacts[name].size)
            if state.free_bytes < need:
                reasons.append(
                    f"{name}: {_mib(state.free_bytes)} MiB free, {_mib(need)} needed (min_free_bytes); "
                    f"{call('prune')} frees old releases"
                )
    return reasons


def by_sudo(states: Mapping[str, HostState]) -> list[str]:
    """Say on which hosts everything is done as root by sudo, and why."""
    return [f"{name}: by sudo, since {state.why_sudo}" for name, state in states.items() if state.why_sudo]


def check_options(
    states: Mapping[str, HostState], wanted: Wanted, settings: Settings, *, writes_units: bool = False
) -> list[str]:
    """Return the options that hosts would pass over, since they are set up otherwise already.

    Args:
        states: of the hosts.
        wanted: the options.
        settings: with the options over them.
        writes_units: the states are applied first, which write a unit that starts so many workers.
    """
    reasons = []
    for name, state in states.items():
        if wanted.listen and state.listen and wanted.listen != state.listen:
            reasons.append(
                f"{name}: its engine.toml has listen = {state.listen!r}, --listen {wanted.listen} is for a "
                f"first start; change it there, then {call('stop')} and {call('reload')}"
            )
        if wanted.workers and state.workers and wanted.workers != state.workers:
            reasons.append(
                f"{name}: its engine has {state.workers} worker{'s' * (state.workers > 1)}, and "
                f"--workers {wanted.workers} is for a start; {call('stop')}, take the data along "
                f"(purgeline migrate --workers), then {call('reload')}"
            )
        elif wanted.workers and _unit_differs(state, settings) and not writes_units:
            reasons.append(
                f"{name}: systemd's unit starts {state.unit_workers}, whatever --workers says; set workers = "
                f"{wanted.workers} in the settings and write the unit by {call('salt')}"
            )
    return reasons


def _unit_differs(state: HostState, settings: Settings) -> bool:
    """Tell whether a unit would start the engine, and with another number of workers."""
    is_asked = settings.service != "direct" and not state.workers
    return is_asked and state.unit_workers not in {0, settings.workers}


def other_workers(states: Mapping[str, HostState], wanted: Wanted, settings: Settings) -> list[str]:
    """Say where the number of workers in the settings is not the one that runs, or that a unit starts."""
    if wanted.workers:
        return []  # `check_options` refuses
    lines = []
    for name, state in states.items():
        if state.workers not in {0, settings.workers}:
            lines.append(
                f"{name}: its engine goes on with {state.workers} worker{'s' * (state.workers > 1)}; "
                f"workers = {settings.workers} of the settings is for its next start; take the data along "
                "before that (purgeline migrate --workers)"
            )
        elif _unit_differs(state, settings):
            lines.append(
                f"{name}: systemd's unit starts {state.unit_workers}, not workers = {settings.workers} of "
                f"the settings; {call('salt')} writes the unit"
            )
    return lines


def other_bytes(states: Mapping[str, HostState], artefacts: Mapping[str, Artefact]) -> list[str]:
    """Return a reason for each host where the version is unpacked with other bytes than the index says."""
    return [
        f"{name}: {entry.version} is unpacked there with other bytes (SHA-256 "
        f"{(states[name].digests.get(entry.version) or 'unknown')[:12]}…, the index has {entry.sha256[:12]}…)"
        "; a version is never built twice: publish these bytes under a new one"
        for name, entry in artefacts.items()
        if states[name].has_other(entry.version, entry.sha256)
    ]


def refuse(reasons: Iterable[str]) -> None:
    """Refuse to begin if there are reasons.

    Raises:
        GateError: there are; a line each.
    """
    if lines := list(reasons):
        raise GateError("nothing was changed:\n" + "\n".join(f"  {line}" for line in lines))


def _mib(count: int) -> int:
    return round(count / 1024 / 1024)

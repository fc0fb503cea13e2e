"""A deploy: gates, plan, and then `release.rollout.runner`.

Nothing is changed before every gate has passed: hosts reachable, version in a valid index and built for
their Pythons, space, no reload under way, lock free. Hosts that are on the version already get no steps, so
a deploy that was cut short goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from release.build.version import normal
from release.hosts.target import apply, open_fleet
from release.repository.repository import open_repository
from release.rollout import advice, exits, gates, localhost, shadow
from release.rollout.plan import deploy_plan, parse_batches, unpack_only
from release.rollout.review import confirm, show_plan
from release.rollout.runner import Runner
from release.rollout.steps import Cargo

if TYPE_CHECKING:
    from collections.abc import Iterable

    from release.hosts.remote import Fleet
    from release.hosts.target import Wanted
    from release.repository.index import Artefact
    from release.rollout.display import Display
    from release.rollout.plan import HostState, Plan
    from release.rollout.shadow import Recorded
    from release.settings import Settings


CACHED_COUNT: Final = 8  #: artefacts that are kept on this machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A plan with what is brought to the hosts, or the reasons not to begin."""

    plan: Plan
    reasons: list[str]
    cargo: Cargo


def deploy(wanted: Wanted, settings: Settings, display: Display, *, is_unpack: bool = False) -> int:
    """Bring a version to hosts; return the exit code.

    Args:
        wanted: options of the task.
        settings: of the project.
        display: shows it.
        is_unpack: only unpack it, on all hosts at once.

    Raises:
        ReleaseError: something was wrong before anything was changed; see `release.rollout.exits.code_of`.
    """
    settings = apply(wanted, settings)
    parse_batches(settings.batches)
    if wanted.release:
        normal(wanted.release, "--release")
    with (
        shadow.recorded(wanted.shadow, settings) as recording,
        open_fleet(wanted, settings, display.event) as fleet,
    ):
        return _deploy(wanted, settings, display, fleet, recording, is_unpack=is_unpack)


def _deploy(
    wanted: Wanted,
    settings: Settings,
    display: Display,
    fleet: Fleet,
    recording: Recorded | None,
    *,
    is_unpack: bool,
) -> int:
    states, failed = gates.ask(fleet)
    gates.need_all(failed)
    gates.check_locks(fleet, states, settings)
    has_states = wanted.with_salt and not wanted.is_local
    planned = localhost.as_planned(wanted, settings, states)
    gates.refuse(gates.check_options(planned, wanted, settings, writes_units=has_states))
    if wanted.is_local:
        source = localhost.prepare(wanted, settings, states[fleet.names[0]], display)
        wanted, settings = source.wanted, source.settings
        if not source.is_packed:
            display.say(f"{wanted.release} would be packed from this tree first")
            plan = deploy_plan(fleet.hosts, states, wanted.release, batches=settings.batches)
            return show_plan(plan, [], display)
    for line in gates.by_sudo(states) + gates.other_workers(states, wanted, settings):
        display.say(line)
    ready = _prepare(wanted, settings, fleet, states, recording)
    plan = unpack_only(ready.plan) if is_unpack else ready.plan
    if wanted.is_dry:
        return show_plan(plan, ready.reasons, display)
    gates.refuse(ready.reasons)
    if plan.is_done:
        display.say(f"nothing to do: {', '.join(fleet.names)} on {plan.version} already")
    elif not confirm(wanted, plan, display):
        return exits.USAGE
    if wanted.is_local and not is_unpack:
        localhost.begin(wanted, settings, states[fleet.names[0]])
    runner = Runner(fleet, settings, display, plan=plan, cargo=ready.cargo, listen=wanted.listen)
    code = runner.run()
    if code == exits.DONE and not is_unpack:
        advice.after_deploy(wanted, fleet, states, settings.pillar, display)
    return code


def show_deploy(wanted: Wanted, settings: Settings, display: Display) -> int:
    """Print what `deploy` would do now, and what stands against it; return the exit code."""
    return deploy(msgspec.structs.replace(wanted, is_dry=True), settings, display)


def _prepare(
    wanted: Wanted,
    settings: Settings,
    fleet: Fleet,
    states: dict[str, HostState],
    recording: Recorded | None,
) -> Prepared:
    """Find the version and its artefacts, plan, ask the gates, and bring the artefacts here."""
    with open_repository(wanted.repository, settings) as opened:
        envelope = opened.envelope()
        index = opened.verify(envelope)
        version = normal(wanted.release, "--release") if wanted.release else index.channel(settings.channel)

        def find(python: str, platform: str) -> Artefact:
            return index.find(version, python=python, platform=platform)

        index.builds(version)  # known at all
        chosen = gates.choose(states, find)
        plan = deploy_plan(
            fleet.hosts,
            states,
            version,
            batches=settings.batches,
            failures_max=settings.failures_max,
            with_salt=wanted.with_salt and not wanted.is_local,
            digests={name: entry.sha256 for name, entry in chosen.items()},
        )
        plan = shadow.gated(plan, states) if recording is not None else plan
        missing = {name: entry for name, entry in chosen.items() if version not in states[name].releases}
        reasons = gates.other_bytes(states, chosen)
        reasons += gates.check(states, missing, min_free_bytes=settings.min_free_bytes)
        files: dict[str, Path] = {}
        if not wanted.is_dry and not reasons:
            cache = Path(settings.cache_dir).expanduser() / "artefacts"
            at_work = {host.host: chosen[host.host] for host in plan.hosts if host.steps}
            paths = {name: opened.fetch(entry, cache) for name, entry in _by_file(at_work).items()}
            files = {name: paths[entry.file_name] for name, entry in at_work.items()}
            _tidy(cache, paths.values())
    cargo = Cargo(
        files=files,
        artefacts=chosen,
        envelope=envelope,
        trusted_keys=settings.trusted_keys,
        recording=recording,
    )
    return Prepared(plan=plan, reasons=reasons, cargo=cargo)


def _tidy(cache: Path, needed: Iterable[Path]) -> None:
    """Remove old artefacts from this machine's cache."""
    kept = sorted(cache.glob("purgeline-*.tar.gz"), key=lambda path: path.stat().st_mtime)
    for path in set(kept[:-CACHED_COUNT]) - set(needed):
        path.unlink(missing_ok=True)


def _by_file(chosen: dict[str, Artefact]) -> dict[str, Artefact]:
    return {entry.file_name: entry for entry in chosen.values()}

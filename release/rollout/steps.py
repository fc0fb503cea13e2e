"""The steps of a rollout on real hosts: which operations of the agent they are, with hooks around them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from release.errors import ReleaseError
from release.hosts.remote import Outcome
from release.rollout.health import watch
from release.rollout.hooks import HookError
from release.rollout.plan import RELOAD, SALT, SHADOW, UNPACK, WATCH
from release.rollout.shadow import compared, judged
from release.rollout.tried import wait_tried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from release.hosts.journal import Run
    from release.hosts.remote import Fleet
    from release.repository.index import Artefact
    from release.rollout.display import Display
    from release.rollout.hooks import Hooks
    from release.rollout.plan import HostPlan
    from release.rollout.shadow import Recorded
    from release.settings import Settings

RELOAD_SLACK_S: Final = 60.0  #: a reload may take so long beside getting ready and being watched
FRESH_S: Final = 1.0  #: a status that is older, such as after a hook that took its time, is asked for again
HOOKED: Final = frozenset({SALT, UNPACK, RELOAD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cargo:
    """What is brought to the hosts; empty for a rollback, which takes releases that are unpacked there."""

    files: dict[str, Path] = field(default_factory=dict)  #: artefact on this machine, by host
    artefacts: dict[str, Artefact] = field(default_factory=dict)  #: its entry in the index, by host
    envelope: bytes = b""  #: the signed index; hosts verify it themselves
    trusted_keys: list[str] = field(default_factory=list)
    recording: Recorded | None = None  #: that versions are compared by


class HostSteps:
    """Does the steps of one run; see `release.rollout.batches.Steps`.

    Args:
        fleet: the hosts.
        run: who does what, for the hosts' histories.
        settings: time-outs, limits, workers.
        cargo: what is unpacked.
        listen: address for an engine that we start ourselves; empty: as its configuration says.
        salt: applies the release's states to some hosts; None: no such step.
        hooks: around the steps.
        display: shows it.
    """

    def __init__(
        self,
        fleet: Fleet,
        run: Run,
        settings: Settings,
        *,
        cargo: Cargo,
        hooks: Hooks,
        display: Display,
        listen: str = "",
        salt: Callable[[Sequence[str]], dict[str, Outcome]] | None = None,
    ) -> None:
        self._fleet = fleet
        self._run = run
        self._settings = settings
        self._cargo = cargo
        self._hooks = hooks
        self._display = display
        self._listen = listen
        self._salt = salt
        self._reloaded: dict[str, float] = {}
        self._stale: dict[str, list[str]] = {}  #: caches with stale canaries, by host, before its reload
        self._tried: set[str] = set()  #: hosts whose canaries were waited for
        self._said: dict[str, Outcome] = {}  #: status of hosts, from the reload that has just ended

    def run(self, step: str, hosts: Sequence[HostPlan]) -> dict[str, Outcome]:
        """See `release.rollout.batches.Steps`."""
        names = [host.host for host in hosts]
        self._display.begin(step, names)
        outcomes = self._hooked(step, hosts) if step in HOOKED else self._do(step, hosts)
        self._display.end(list(outcomes.values()))
        return outcomes

    def take_back(self, hosts: Sequence[HostPlan]) -> dict[str, Outcome]:
        """See `release.rollout.batches.Steps`."""
        self._display.begin("way back", [host.host for host in hosts])
        nowhere = [host for host in hosts if not host.was]
        outcomes = {
            host.host: _failed(host.host, "way back", "nowhere", f"it was on nothing before, {host.to} stays")
            for host in nowhere
        }
        back = {host.host: host.was for host in hosts if host.was}
        if back:
            outcomes |= self._reload(back, action="auto-rollback")
        ordered = {host.host: outcomes[host.host] for host in hosts}
        self._display.end(list(ordered.values()))
        return ordered

    def _hooked(self, step: str, hosts: Sequence[HostPlan]) -> dict[str, Outcome]:
        names = [host.host for host in hosts]
        version = ",".join(sorted({host.to for host in hosts}))
        try:
            self._hooks.call(f"pre-{step}", names, version=version)
        except HookError as exc:
            return {name: _failed(name, step, "hook", str(exc)) for name in names}
        outcomes = self._do(step, hosts)
        good = [name for name, outcome in outcomes.items() if outcome.ok]
        if not good:
            return outcomes
        try:
            self._hooks.call(f"post-{step}", good, version=version)
        except HookError as exc:  # the answer stays: the host did it
            for name in good:
                outcomes[name] = msgspec.structs.replace(
                    outcomes[name], ok=False, kind="hook", reason=str(exc)
                )
        return outcomes

    def _do(self, step: str, hosts: Sequence[HostPlan]) -> dict[str, Outcome]:
        names = [host.host for host in hosts]
        if step == SALT and self._salt is not None:
            return self._salt(names)
        if step == UNPACK:
            return self._unpack(names)
        if step == SHADOW and self._cargo.recording is not None:
            return {host.host: self._compare(host, self._cargo.recording) for host in hosts}
        if step == RELOAD:
            return self._reload({host.host: host.to for host in hosts}, action=self._action)
        if step == WATCH:
            return self._watch({host.host: host.to for host in hosts})
        raise ReleaseError(f"there is no step {step!r} here")

    def _watch(self, versions: Mapping[str, str]) -> dict[str, Outcome]:
        """Look at hosts, those that are new to this when their canaries have tried their caches."""
        now = time.monotonic()
        said = {name: one for name, one in self._said.items() if now - self._reloaded[name] < FRESH_S}
        self._said = {}
        outcomes = watch(self._fleet, versions, since=self._reloaded, known=said, stale=self._stale)
        new = {name: one for name, one in outcomes.items() if one.ok and name not in self._tried}
        self._tried |= new.keys()
        waited = wait_tried(self._fleet, new, versions, say=self._display.say)
        again = {name: versions[name] for name in waited}
        if again:
            outcomes |= watch(self._fleet, again, since=self._reloaded, stale=self._stale)
        return outcomes

    @property
    def _action(self) -> str:
        return "rollback" if self._run.action == "rollback" else "reload"

    def _of_run(self) -> dict[str, str]:
        """Who asks, and the token without which a host whose lock is somebody else's refuses."""
        run = self._run
        return {"who": run.who, "deploy_id": run.deploy_id, "token": run.token}

    def _unpack(self, names: Iterable[str]) -> dict[str, Outcome]:
        """Bring the artefact over and unpack it; no host waits for another one."""
        here = {host.name for host in self._fleet.hosts if host.is_local}

        def request(name: str) -> dict[str, Any]:
            artefact = self._cargo.artefacts[name]
            return {
                "sha256": artefact.sha256,
                "size": artefact.size,
                "version": artefact.version,
                "envelope": msgspec.to_builtins(self._cargo.envelope),  # base64
                "trusted_keys": self._cargo.trusted_keys,
                "min_free_bytes": self._settings.min_free_bytes,
                "brought": name not in here,
                **self._of_run(),
            }

        return self._fleet.run("unpack", request, hosts=names, files=self._cargo.files)

    def _compare(self, host: HostPlan, recording: Recorded) -> Outcome:
        """Have the host play the recording at both versions, and show what comes of it."""
        here = any(each.is_local for each in self._fleet.hosts)
        request = {
            "host": host.host,
            "version": host.to,
            "was": host.was,
            "brought": not here,
            **self._of_run(),
        }
        outcome = compared(self._fleet, request, recording, self._settings)
        if not outcome.ok:
            return outcome
        outcome, lines = judged(outcome, (host.was, host.to), self._settings)
        for line in lines:
            self._display.say(f"  {line}")
        return outcome

    def _reload(self, versions: Mapping[str, str], *, action: str) -> dict[str, Outcome]:
        settings = self._settings

        def request(name: str) -> dict[str, Any]:
            artefact = self._cargo.artefacts.get(name)
            is_new = artefact is not None and artefact.version == versions[name]
            return {
                "version": versions[name],
                "sha256": artefact.sha256 if artefact is not None and is_new else None,
                "listen": self._listen,
                "workers": settings.workers,
                "bake_s": settings.bake_s,
                "timeout_s": settings.reload_timeout_s,
                "service": settings.service,
                **self._of_run(),
                "action": action,
                "force": self._run.action == RELOAD,  # for the configuration, too
            }

        limit_s = settings.reload_timeout_s + settings.bake_s + RELOAD_SLACK_S
        outcomes = self._fleet.run("reload", request, hosts=list(versions), timeout_s=limit_s)
        self._reloaded |= dict.fromkeys(outcomes, time.monotonic())
        self._stale |= {
            name: outcome.answer.get("stale_before") or [] for name, outcome in outcomes.items() if outcome.ok
        }
        self._said = {
            name: Outcome(host=name, op="status", ok=True, answer=outcome.answer["status"])
            for name, outcome in outcomes.items()
            if outcome.ok and isinstance(outcome.answer.get("status"), dict)
        }
        return outcomes


def _failed(host: str, op: str, kind: str, reason: str) -> Outcome:
    return Outcome(host=host, op=op, ok=False, kind=kind, reason=reason, answer={"ok": False})

"""Applies the states of a release to hosts, by ``salt-call --local`` on each or through a Salt master.

Without a master the release's own state tree and the operator's pillar go to each host in one request, so a
host needs Salt and nothing of ours. The host's name is its minion id and the inventory's facts are its grain
``purgeline``, so a pillar can tell hosts apart by either. A master has its own copies of both: only the call
goes out, to minions with the names of the inventory's hosts.

What comes back is compared with the hosts that were asked: ``salt`` itself ends with 0 when a minion is down.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from release.agent.salt import states_of
from release.errors import ReleaseError, SettingsError
from release.hosts import remote
from release.states import saltenv
from release.states.stateview import State, from_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from release.hosts.remote import Outcome
    from release.inventory import Host
    from release.settings import Settings

OPERATION: Final = "apply"  #: of the agent
GATHER_S: Final = 5  #: after this a master asks who is still at work; who does not say so counts as down


class Fleet(Protocol):
    """What is used of `release.hosts.remote.Fleet`."""

    def run(
        self, op: str, request: Callable[[str], Mapping[str, Any]], *, timeout_s: float | None = None
    ) -> dict[str, Outcome]:
        """Run an operation on every host; return an outcome for each."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be applied, to every host the same."""

    root: str  #: of the installation on the hosts
    states: str = ""  #: one SLS, such as ``engine.clean``; empty: the top file
    is_test: bool = False  #: only tell what would change
    release: str = ""  #: the version that is being brought; checks the new configuration once it is unpacked
    workers: int = 1
    channel: str = ""

    def pillar(self) -> dict[str, Any]:
        """Return what the pipeline's settings say, which goes over the operator's pillar."""
        return {"engine": {"root": self.root, "workers": self.workers, "release": self.release}}


class HostStates(msgspec.Struct, frozen=True, kw_only=True):
    """What the states did, or would do, on one host."""

    host: str
    ok: bool
    reason: str = ""  #: of the failure
    kind: str = (
        ""  #: of the failure: ``states``, ``render``, ``missing``, or one of `release.remote.NO_ANSWER`
    )
    log: list[str] = []
    states: list[State] = []

    @property
    def changed(self) -> list[State]:
        """The states that changed something, or would."""
        return [state for state in self.states if state.changes or state.result is None]

    @property
    def failed(self) -> list[State]:
        """The states that failed."""
        return [state for state in self.states if state.result is False]


def step(
    hosts: Sequence[Host], order: Order, *, files: Mapping[str, str], settings: Settings
) -> Callable[[Sequence[str]], dict[str, Outcome]]:
    """Return what applies states to some of *hosts*, by their names: the salt step of a deploy."""
    by_name = {host.name: host for host in hosts}

    def run(names: Sequence[str]) -> dict[str, Outcome]:
        chosen = [by_name[name] for name in names]
        with remote.Fleet(chosen, settings, root=order.root) as fleet:
            return fleet.run(OPERATION, _requests(chosen, order, files, settings))

    return run


def apply(
    fleet: Fleet, hosts: Sequence[Host], order: Order, *, files: Mapping[str, str], settings: Settings
) -> list[HostStates]:
    """Apply states on each host with ``salt-call --local``; return what each says, in order.

    Args:
        fleet: connections to *hosts*.
        hosts: of the inventory.
        order: what to apply.
        files: state tree and pillar, see `release.statefiles`.
        settings: where Salt is on the hosts.
    """
    found = fleet.run(OPERATION, _requests(hosts, order, files, settings))
    return [_host_states(outcome) for outcome in found.values()]


def apply_by_master(hosts: Sequence[Host], order: Order, *, settings: Settings) -> list[HostStates]:
    """Apply states through the Salt master on this machine; return what each host's minion says, in order.

    The master's ``file_roots`` need both folders of a `release.statefiles.TREE`; its pillar is its own.

    Raises:
        SettingsError: a host that no minion can be, or no ``salt`` program.
        ReleaseError: no answer from the master in ``step_timeout_s``.
    """
    if any(host.is_local for host in hosts):
        raise SettingsError("a Salt master reaches its minions; leave --master out for the host 'local'")
    names = [host.name for host in hosts]
    call = [*shlex.split(settings.salt_master), "--list", "--out=json", "--static", f"--timeout={GATHER_S}"]
    call += [",".join(names), "state.apply", *([order.states] if order.states else [])]
    call += [f"test={order.is_test}", f"pillar={json.dumps(order.pillar())}"]
    try:
        done = subprocess.run(
            call, capture_output=True, text=True, check=False, timeout=settings.step_timeout_s
        )
    except FileNotFoundError:
        raise SettingsError(
            f"{call[0]} is not there: run this on the Salt master, or say how it is called with salt_master "
            "in [tool.purgeline.release]"
        ) from None
    except subprocess.TimeoutExpired:
        limit_s = settings.step_timeout_s
        raise ReleaseError(f"the Salt master gave no answer within {limit_s:g} s (step_timeout_s)") from None
    answers = _documents(done.stdout)
    if not answers and done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise ReleaseError(f"{call[0]} ended with {done.returncode}: {said}")
    return [_minion_states(name, answers.get(name)) for name in names]


def _minion_states(name: str, answer: object) -> HostStates:
    """Read what a minion answered; nothing, false or a sentence instead of states is a failure."""
    if isinstance(answer, dict) and answer and all("_|-" in key for key in answer):
        states = from_answer(states_of(answer))
        failed = [state.id for state in states if state.result is False]
        reason = f"{len(failed)} of {len(states)} states failed: {', '.join(failed)}" if failed else ""
        return HostStates(
            host=name, ok=not failed, reason=reason, kind="states" if failed else "", states=states
        )
    if answer is None or answer is False or answer == {}:
        reason = "its minion gave no answer: it is down, unknown to the master or cut off"
        return HostStates(host=name, ok=False, kind="missing", reason=reason)
    lines = [str(line) for line in answer] if isinstance(answer, list) else [str(answer)]
    missing = "did not return" in lines[0].lower()
    return HostStates(
        host=name,
        ok=False,
        kind="missing" if missing else "render",
        reason=lines[0] if missing else "the states cannot be rendered: " + "\n".join(lines),
    )


def _requests(
    hosts: Sequence[Host], order: Order, files: Mapping[str, str], settings: Settings
) -> Callable[[str], dict[str, Any]]:
    """Return what gives the request for one host, by its name; see `release.agent.salt.apply`."""
    by_name = {host.name: host for host in hosts}

    def request(name: str) -> dict[str, Any]:
        host = by_name[name]
        return {
            "id": name,
            "files": files,
            "grains": {"purgeline": _facts(host, order)},
            "pillar": order.pillar(),
            "states": order.states,
            "test": order.is_test,
            "salt_call": _salt_call(host, settings),
        }

    return request


def _host_states(outcome: Outcome) -> HostStates:
    return HostStates(
        host=outcome.host,
        ok=outcome.ok,
        reason=outcome.reason,
        kind=outcome.kind,
        log=outcome.log,
        states=from_answer(outcome.answer.get("states", [])),
    )


def _facts(host: Host, order: Order) -> dict[str, Any]:
    return {
        "name": host.name,
        "address": host.address or host.name,
        "groups": host.groups,
        "release": order.release,
        "channel": order.channel,
    }


def _salt_call(host: Host, settings: Settings) -> str:
    """Return the program; on this machine that of `release.saltenv` when nothing else is asked for."""
    if host.is_local and settings.salt_call == "salt-call" and saltenv.is_current():
        return str(saltenv.folder() / "bin/salt-call")
    return settings.salt_call


def _documents(text: str) -> dict[str, Any]:
    """Join the JSON objects that ``salt`` printed, one or several, with other lines between them."""
    found: dict[str, Any] = {}
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            document, end = decoder.raw_decode(text, at)
        except ValueError:
            end = at + 1
        else:
            found |= document
        at = text.find("{", end)
    return found

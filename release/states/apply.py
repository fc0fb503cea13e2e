"""Applies the states of a release to hosts, by ``salt-call --local`` on each of them.

The release's own state tree and the operator's pillar go to each host in one request, so a host needs Salt
and nothing of ours. The host's name is its minion id and the inventory's facts are its grain ``purgeline``,
so a pillar can tell hosts apart by either. `release.states.master` does the same through a Salt master.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from release.lab.environment import SALT
from release.states.results import HostStates, states_of_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from release.hosts.remote import Outcome
    from release.inventory import Host
    from release.settings import Settings

OPERATION: Final = "apply"  #: of the agent


class AsksHosts(Protocol):
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


def apply(
    fleet: AsksHosts, hosts: Sequence[Host], order: Order, *, files: Mapping[str, str], settings: Settings
) -> list[HostStates]:
    """Apply states on each host with ``salt-call --local``; return what each says, in order.

    Args:
        fleet: connections to *hosts*.
        hosts: of the inventory.
        order: what to apply.
        files: state tree and pillar, see `release.states.files`.
        settings: where Salt is on the hosts.
    """
    outcomes = fleet.run(OPERATION, requests(hosts, order, files=files, settings=settings))
    return [_host_states(outcome) for outcome in outcomes.values()]


def requests(
    hosts: Sequence[Host], order: Order, *, files: Mapping[str, str], settings: Settings, token: str = ""
) -> Callable[[str], dict[str, Any]]:
    """Return a function that gives the request for one host, by its name; see `release.agent.salt.apply`."""
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
            "token": token,
        }

    return request


def _host_states(outcome: Outcome) -> HostStates:
    return HostStates(
        host=outcome.host,
        ok=outcome.ok,
        reason=outcome.reason,
        kind=outcome.kind,
        log=outcome.log,
        states=states_of_answer(outcome.answer.get("states", [])),
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
    """Return the program; on this machine that of ``.venv-salt`` when nothing else is asked for."""
    if host.is_local and settings.salt_call == "salt-call" and SALT.is_current():
        return str(SALT.folder / "bin/salt-call")
    return settings.salt_call

"""release.states.apply: what is sent to a host, and what is made of its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from release.errors import SettingsError
from release.hosts.remote import Outcome
from release.inventory import Host
from release.settings import Settings
from release.states import master
from release.states.apply import Order, apply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HOSTS = [Host(name="cdn-1", groups=["canary"]), Host(name="cdn-2", address="192.0.2.2")]
ORDER = Order(root="/srv/purgeline", workers=2, release="1.4.2", channel="canary")


class FakeFleet:
    """Keeps the requests; answers each host with an outcome."""

    def __init__(self, **outcomes: Outcome) -> None:
        self.outcomes = outcomes
        self.requests: dict[str, Mapping[str, Any]] = {}

    def run(
        self, op: str, request: Callable[[str], Mapping[str, Any]], *, timeout_s: float | None = None
    ) -> dict[str, Outcome]:
        self.requests = {host.name: request(host.name) for host in HOSTS}
        unreachable = {"ok": False, "kind": "unreachable", "reason": "connection refused"}
        return {
            host.name: self.outcomes.get(host.name, Outcome(host=host.name, op=op, **unreachable))  # type: ignore[arg-type]
            for host in HOSTS
        }


def test_each_host_gets_its_own_facts_and_the_settings_of_the_pipeline() -> None:
    fleet = FakeFleet()
    apply(fleet, HOSTS, ORDER, files={"salt/top.sls": ""}, settings=Settings(salt_call="/opt/salt-call"))
    request = fleet.requests["cdn-2"]
    assert request["id"] == "cdn-2"
    assert request["grains"] == {
        "purgeline": {
            "name": "cdn-2",
            "address": "192.0.2.2",
            "groups": [],
            "release": "1.4.2",
            "channel": "canary",
        }
    }
    assert request["pillar"] == {"engine": {"root": "/srv/purgeline", "workers": 2, "release": "1.4.2"}}
    assert request["salt_call"] == "/opt/salt-call"
    assert fleet.requests["cdn-1"]["grains"]["purgeline"]["groups"] == ["canary"]


def test_a_host_that_did_not_answer_is_a_failure_beside_the_others() -> None:
    good = Outcome(host="cdn-1", op="apply", ok=True, answer={"ok": True, "states": []})
    found = apply(FakeFleet(**{"cdn-1": good}), HOSTS, ORDER, files={}, settings=Settings())
    assert [(host.host, host.ok, host.reason) for host in found] == [
        ("cdn-1", True, ""),
        ("cdn-2", False, "connection refused"),
    ]


def test_this_machine_without_ssh_is_no_minion() -> None:
    with pytest.raises(SettingsError, match="leave --master out"):
        master.apply([Host(name="local")], ORDER, settings=Settings())

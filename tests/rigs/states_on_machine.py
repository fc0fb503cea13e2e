"""Applies states on a `Machine` as the pipeline does on a host: by `release.states`, with the real script."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from release.hosts.remote import AGENT, Outcome, from_answer
from release.inventory import Host
from release.lab.environment import SALT
from release.settings import ROOT, Settings
from release.states.apply import Order
from release.states.apply import apply as apply_states
from release.states.files import read_tree, tree_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from release.states.results import HostStates, State
    from tests.rigs.machine import Machine

HOST = Host(name="cdn-1", address="192.0.2.11", groups=["canary", "eu"])


class MachineFleet:
    """One machine as `release.states.apply.AsksHosts`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def run(
        self, op: str, request: Callable[[str], Mapping[str, Any]], *, timeout_s: float | None = None
    ) -> dict[str, Outcome]:
        line = json.dumps({"root": str(self._machine.root), **request(HOST.name)})
        done = self._machine.run("/usr/bin/python3", "-I", "-B", str(AGENT), op, stdin=line, check=False)
        answer = json.loads(done.stdout.splitlines()[-1])
        assert done.returncode == (0 if answer["ok"] else 1)
        return {HOST.name: from_answer(HOST.name, op, answer)}


def example_pillar() -> dict[str, Any]:
    """Return what salt/pillar.example says, as Salt reads it."""
    program = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"
    text = (ROOT / "salt/pillar.example").read_text(encoding="utf-8")
    python = str(SALT.ensure() / "python")
    done = subprocess.run([python, "-c", program], input=text, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def changed(pillar: dict[str, Any], **areas: Any) -> dict[str, Any]:
    """Return a copy of a pillar with keys of its ``engine`` replaced; mappings are merged one level deep."""
    pillar = copy.deepcopy(pillar)
    for area, value in areas.items():
        old = pillar["engine"].get(area)
        both = isinstance(old, dict) and isinstance(value, dict)
        pillar["engine"][area] = {**old, **value} if both and old else value
    return pillar


def apply(
    machine: Machine,
    pillar: dict[str, Any] | Mapping[str, str],
    *,
    name: str = "",
    is_test: bool = False,
    salt_call: str = "",
    root: Path | None = None,
) -> HostStates:
    """Apply all states or the SLS *name*, with a pillar: a mapping, or files of `read_pillar`."""
    files = {"pillar/top.sls": json.dumps({"base": {"*": ["hosts"]}}), "pillar/hosts.sls": json.dumps(pillar)}
    if all(isinstance(value, str) for value in pillar.values()):
        files = dict(pillar)
    settings = Settings(salt_call=salt_call or str(SALT.ensure() / "salt-call"))
    order = Order(root=str(root or machine.root), states=name, is_test=is_test)
    tree = read_tree(tree_of(settings))
    [found] = apply_states(MachineFleet(machine), [HOST], order, files={**tree, **files}, settings=settings)
    return found


def ids(found: list[State]) -> list[str]:
    """Return the states' ids."""
    return [state.id for state in found]


PYTHON = sys.executable

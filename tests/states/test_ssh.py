"""The task ``salt`` over SSH: two hosts with a real sshd, and one of them gone."""

from __future__ import annotations

import contextlib
import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from release.settings import ROOT
from tests.rigs.machine import Machine, kill, make_certificate
from tests.rigs.states_on_machine import PYTHON
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PORTS = {"cdn-1": 2201, "cdn-2": 2202}
PROGRAM = """
import json, sys
from pathlib import Path
from release.errors import ReleaseError
from release.states.program import SaltOptions, run
folder = Path(sys.argv[1])
try:
    sys.exit(run(SaltOptions(**json.loads(sys.argv[2])), folder=folder))
except ReleaseError as exc:
    sys.exit(f"salt: {exc}")
"""


class Site:
    """A controller's machine, and hosts whose sshd it reaches."""

    def __init__(self, controller: Machine) -> None:
        self.controller = controller
        self.hosts: dict[str, Machine] = {}
        self.servers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start the sshd of a host, and wait until it listens."""
        host = self.hosts[name]
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(host.folder / "sshd_config")]
        self.servers[name] = host.start(*command, log=host.folder / "sshd.log")
        wait_until(lambda: PORTS[name] in _listen(self.controller), what="sshd")

    def run(self, **wanted: Any) -> subprocess.CompletedProcess[str]:
        folder = str(self.controller.folder)
        return self.controller.run(PYTHON, "-c", PROGRAM, folder, json.dumps(wanted), check=False)

    def json(self, **wanted: Any) -> tuple[int, list[dict[str, Any]]]:
        done = self.run(is_json=True, **wanted)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)["hosts"]


@pytest.fixture(scope="module")
def site(machine: Machine, salt_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = machine.folder
    for key in ("host", "client"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / f"{key}.key")]
        subprocess.run(command, check=True)
    public = (folder / "host.key.pub").read_text().split()[:2]
    known = [f"[127.0.0.1]:{port} {' '.join(public)}\n" for port in PORTS.values()]
    (folder / "known_hosts").write_text("".join(known))
    for name in ("salt", "templates"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "pillar.sls").write_text((ROOT / "salt/pillar.example").read_text())
    table = {
        "known_hosts": str(folder / "known_hosts"),
        "ssh_key_file": str(folder / "client.key"),
        "salt_call": str(salt_programs / "salt-call"),
        "connect_timeout_s": 5,
        "workers": 3,
        "source": str(folder),
    }
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in table.items()]
    (folder / "release.toml").write_text("".join(lines))
    (folder / "hosts.toml").write_text(
        "".join(
            f'[[hosts]]\nname = "{name}"\naddress = "127.0.0.1"\nport = {port}\nuser = "root"\n'
            for name, port in PORTS.items()
        )
    )
    with contextlib.ExitStack() as stack:
        found = Site(machine)
        for name, port in PORTS.items():
            host = stack.enter_context(Machine(tmp_path_factory.mktemp(name), net_of=machine))
            make_certificate(host)
            (host.folder / "sshd_config").write_text(
                f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host.key\nPidFile none\nUsePAM no\n"
                f"AuthorizedKeysFile {folder}/client.key.pub\nStrictModes no\nSubsystem sftp internal-sftp\n"
            )
            host.run("mkdir", "/run/sshd")
            found.hosts[name] = host
            found.start(name)
            stack.callback(lambda name=name: kill(found.servers[name]))  # type: ignore[misc]
        yield found


@dataclass(frozen=True)
class First:
    """What the first two runs did: one that shows what would change, and one that changes it."""

    diff: subprocess.CompletedProcess[str]
    made_by_diff: list[str]  #: hosts on which the diff made something
    code: int
    hosts: list[dict[str, Any]]


@pytest.fixture(scope="module")
def first(site: Site) -> First:
    """Bring all hosts into the state."""
    diff = site.run(is_test=True)
    made = [name for name, host in site.hosts.items() if host.has("/srv/purgeline/shared")]
    return First(diff, made, *site.json())


def _listen(machine: Machine) -> set[int]:
    lines = machine.run("ss", "-Htln").stdout.splitlines()
    return {int(line.split()[3].rpartition(":")[2]) for line in lines}


def test_a_diff_is_readable_and_changes_nothing(first: First) -> None:
    assert first.diff.returncode == 0, first.diff.stderr
    assert "  ~ engine-config-file-managed  /srv/purgeline/shared/engine.toml\n" in first.diff.stdout
    assert "cdn-1: ok, 2" in first.diff.stdout
    assert "states would change" in first.diff.stdout.splitlines()[-1]
    assert first.made_by_diff == []


def test_all_hosts_are_brought_into_the_state(first: First, site: Site) -> None:
    assert first.code == 0, first.hosts
    assert [host["host"] for host in first.hosts] == list(PORTS)
    for host in site.hosts.values():
        assert "--workers 3" in host.read("/etc/systemd/system/purgeline.service")


def test_the_pillar_of_another_file_is_taken(first: First, site: Site) -> None:
    """Nothing else would change: the hosts are in the state of the usual one."""
    assert first.code == 0
    path = site.controller.folder / "other.sls"
    path.write_text((ROOT / "salt/pillar.example").read_text().replace("watchdog_s: 30", "watchdog_s: 99"))
    code, [host] = site.json(hosts=["cdn-1"], pillar="other.sls", is_test=True)
    assert code == 0
    [state] = [state for state in host["states"] if state["changes"]]
    assert "+WatchdogSec=99" in state["changes"]["diff"]


@pytest.mark.slow  # of a master, tests/hosts/test_salt_master.py shows the same
def test_a_host_that_is_down_fails_and_the_others_are_done(first: First, site: Site) -> None:
    """Behind the first runs: what those find is a host on which nothing is yet."""
    assert first.code == 0
    kill(site.servers["cdn-2"])
    try:
        code, hosts = site.json()
        done = site.run(hosts=["cdn-2"])
    finally:
        site.start("cdn-2")
    assert code == 1
    assert [(host["host"], host["ok"]) for host in hosts] == [("cdn-1", True), ("cdn-2", False)]
    assert hosts[1]["kind"] == "unreachable"
    assert done.returncode == 1
    assert "cdn-2: failed: " in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"hosts": ["cdn-9"]}, "'cdn-9' is no host or group of the inventory; there are cdn-1, cdn-2"),
        ({"pillar": "nowhere.sls"}, "nowhere.sls: no such pillar; copy salt/pillar.example"),
        ({"inventory": "nowhere.toml"}, "nowhere.toml: no such inventory"),
        ({"release": "9.9"}, "has no index.json; publish something"),
    ],
)
def test_a_wrong_argument_is_named(site: Site, wanted: dict[str, Any], reason: str) -> None:
    done = site.run(**wanted)
    assert done.returncode == 1
    assert reason in done.stderr

"""The hosts of tests are hosts: own name, address, processes, files; they crash, are cut off, come back."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from release.inventory import load_inventory
from tests.rigs import hosts
from tests.rigs.hosts import Host, Hosts

ROOT = Path(__file__).resolve().parents[2]
CONNECT_S = 2


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with Hosts(tmp_path_factory.mktemp("rig"), 2) as made:
        yield made


def ssh(rig: Hosts, host: Host, script: str) -> "subprocess.CompletedProcess[str]":
    """Log in from the controller as a deploy does: with the key, and host keys that are checked."""
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": str(CONNECT_S),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(rig.known_hosts),
    }
    flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    command = rig.command("ssh", "-F", "none", "-i", str(rig.key), *flags, f"root@{host.address}", script)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)


def namespaces() -> set[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return {line.split(" ")[0] for line in listed.splitlines()}


def test_each_host_has_its_own_name_processes_files_and_address(rig: Hosts) -> None:
    """And the controller reaches all of them with the keys and the inventory that the rig made."""
    script = "hostname; cat /proc/1/comm; echo /run/*; echo $SSH_CONNECTION; hostname | tee /srv/name"
    for host in rig.hosts:
        done = ssh(rig, host, script)
        assert done.returncode == 0, done.stderr
        name, init, run, connection, written = done.stdout.splitlines()
        assert (name, written, init) == (host.name, host.name, "sshd")
        assert set(run.split()) <= {"/run/sshd", "/run/mount"}
        assert connection.split()[2] == host.address
        assert (host.srv / "name").read_text() == f"{host.name}\n"
        inside = subprocess.run(host.inside("cat", "/srv/name"), capture_output=True, text=True, check=True)
        assert inside.stdout == f"{host.name}\n"
    listed = load_inventory(rig.inventory())
    assert [(host.name, host.address) for host in listed] == [(host.name, host.address) for host in rig.hosts]


def test_a_host_that_is_not_known_is_not_trusted(rig: Hosts) -> None:
    """Each host has a key of its own: one that answers at another's address is found out."""
    first, second = rig.hosts
    keys = [(host.folder / "host_key.pub").read_text().split()[1] for host in rig.hosts]
    assert keys[0] != keys[1]
    assert f"{first.address} ssh-ed25519 {keys[0]}" in rig.known_hosts.read_text()
    first.crash()
    right = (first.folder / "host_key").read_bytes()
    (first.folder / "host_key").write_bytes((second.folder / "host_key").read_bytes())
    try:
        first.start()
        assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in ssh(rig, first, "true").stderr
    finally:
        first.crash()
        (first.folder / "host_key").write_bytes(right)
        first.start()


def test_a_crashed_host_refuses_at_once_and_keeps_its_disk(rig: Hosts) -> None:
    """Everything that ran on it is gone; it comes back with the same keys and files."""
    first, second = rig.hosts
    assert ssh(rig, first, "setsid sleep 300 > /dev/null 2>&1 & echo kept > /srv/kept").returncode == 0
    assert "sleep" in ssh(rig, first, "cat /proc/*/comm").stdout.split()
    first.crash()
    began = time.monotonic()
    done = ssh(rig, first, "true")
    assert (done.returncode, "refused" in done.stderr) == (255, True), done.stderr
    assert time.monotonic() - began < CONNECT_S
    assert ssh(rig, second, "true").returncode == 0
    first.start()
    assert "sleep" not in ssh(rig, first, "cat /proc/*/comm").stdout.split()
    assert ssh(rig, first, "cat /srv/kept").stdout == "kept\n"


def test_a_host_that_is_cut_off_hangs_until_it_is_healed(rig: Hosts) -> None:
    """It runs on meanwhile; only the way to it is gone."""
    first, second = rig.hosts
    first.cut()
    try:
        began = time.monotonic()
        done = ssh(rig, first, "true")
        took_s = time.monotonic() - began
        assert (done.returncode, "timed out" in done.stderr) == (255, True), done.stderr
        assert CONNECT_S - 0.5 < took_s < CONNECT_S + 5
        assert ssh(rig, second, "true").returncode == 0
        subprocess.run(first.inside("pgrep", "sshd"), check=True, capture_output=True)
    finally:
        first.heal()
    assert ssh(rig, first, "true").returncode == 0


def test_a_disk_of_its_own_can_be_filled(tmp_path: Path) -> None:
    with Hosts(tmp_path / "rig", 1, srv_bytes=2**20) as rig:
        done = ssh(rig, rig.hosts[0], "head -c 2000000 /dev/zero > /srv/big; df -B1 --output=size /srv")
        assert "No space left on device" in done.stderr
        assert done.stdout.split()[-1] == str(2**20)


def test_nothing_is_left_when_the_test_fails_or_when_making_it_does(tmp_path: Path) -> None:
    folder = tmp_path / "rig"
    made = Hosts(folder, 1)
    with pytest.raises(pytest.fail.Exception, match="made: True"), made:
        pytest.fail(f"made: {namespaces() >= {made.namespace, made.hosts[0].namespace}}")
    assert not namespaces() & {made.namespace, made.hosts[0].namespace}
    broken = Hosts(folder / "other", 2)
    (broken.folder / "h2").mkdir(parents=True)
    (broken.folder / "h2/srv").write_text("no folder")
    with pytest.raises(FileExistsError), broken:
        pass
    assert not namespaces() & {broken.namespace, *(host.namespace for host in broken.hosts)}


def test_what_a_killed_run_left_behind_is_removed_by_the_next_one(tmp_path: Path) -> None:
    """The hosts of a run that lives are not touched."""
    code = "import sys, pathlib, time; from tests.rigs.hosts import Hosts\n"
    code += "with Hosts(pathlib.Path(sys.argv[1]), 1) as rig:\n"
    code += "    print(rig.namespace, flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(tmp_path / "rig")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    left = process.stdout.readline().strip()
    hosts.sweep()
    assert left in namespaces()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    hosts.sweep()
    assert not {name for name in namespaces() if name.startswith(left[:-1])}

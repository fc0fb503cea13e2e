"""The service's command lines, run as systemd would: its socket, its account, a reload, a stop."""

from __future__ import annotations

import configparser
import json
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fakes import release_dir, supervisors
from tests.rigs.machine import kill
from tests.rigs.states_on_machine import apply, changed, example_pillar
from tests.waiting import wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.rigs.machine import Machine

INSIDE = "/srv/purgeline"
ACCOUNT = ["setpriv", "--reuid=purgeline", "--regid=purgeline", "--clear-groups", "--no-new-privs"]


class Service:
    """The installed unit and its process."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(machine.read("/etc/systemd/system/purgeline.service"))
        self.keys = parser["Service"]
        parser.read_string(machine.read("/etc/systemd/system/purgeline.socket"))
        self.address = parser["Socket"]["ListenStream"]
        self.log = machine.folder / "service.log"

    def start(self) -> subprocess.Popen[bytes]:
        """Run ExecStart with the socket, as its account, in its folder."""
        command = shlex.split(self.keys["ExecStart"])
        activate = ["systemd-socket-activate", "-l", self.address, "--"]
        in_folder = ["env", "-C", self.keys["WorkingDirectory"]]
        return self.machine.start(*ACCOUNT, *in_folder, *activate, *command, log=self.log)

    def reload(self) -> subprocess.CompletedProcess[str]:
        return self.machine.run(*ACCOUNT, *shlex.split(self.keys["ExecReload"]), check=False)

    def get(self, path: str) -> str:
        url = f"http://{self.address}{path}"
        return self.machine.run("curl", "-sS", "--max-time", "20", url, check=False).stdout


def make_release(machine: Machine, version: str) -> Path:
    """Make a release with scripted workers that the account can run."""
    release = release_dir.make_release(machine.root / "releases", version)
    shutil.copy(release_dir.SCRIPT, release / "worker.py")
    inside = f"{INSIDE}/releases/{version}"
    python = release / "venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec /usr/bin/python3 -I -S {inside}/worker.py {inside} "$@"\n')
    machine.run("chown", "-R", "purgeline", f"{INSIDE}/releases/{version}")
    return release


@pytest.fixture(scope="module")
def service(machine: Machine) -> Iterator[Service]:
    engine = {"listen": "127.0.0.1:9181", "drain_timeout_s": 5}
    pillar = changed(example_pillar(), nginx={"enabled": False}, config={"engine": engine, "auth": {}})
    assert apply(machine, pillar, root=Path(INSIDE)).ok
    supervisors.install(machine.root / "shared")
    make_release(machine, "1.0")
    (machine.root / "current").symlink_to("releases/1.0")
    found = Service(machine)
    process = found.start()
    try:
        # systemd-socket-activate starts the service when somebody connects, and they wait for the answer.
        assert wait_until(lambda: found.get("/version"), what="an answer")
        yield found
        process.terminate()
        assert process.wait(20) == 0, found.log.read_text()
    finally:
        kill(process)


def test_it_serves_on_the_socket_it_was_given(service: Service) -> None:
    assert json.loads(service.get("/version"))["version"] == "1.0"


def test_the_account_can_write_what_the_supervisor_needs(service: Service) -> None:
    run = service.machine.run("stat", "-c", "%U %a %F", f"{INSIDE}/shared/run/control.sock").stdout
    assert run == "purgeline 600 socket\n"
    assert service.machine.has(f"{INSIDE}/shared/var/supervisor.lock")


def test_a_reload_is_over_when_its_command_is(service: Service) -> None:
    before = json.loads(service.get("/version"))["pid"]
    done = service.reload()
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(service.get("/version"))["pid"] != before


def test_a_reload_that_cannot_be_fails_and_the_old_worker_goes_on(service: Service) -> None:
    release_dir.behave(service.machine.root / "releases/1.0", import_error="no module named x")
    try:
        before = json.loads(service.get("/version"))["pid"]
        done = service.reload()
        assert done.returncode == 1
        assert done.stderr.startswith("reload: ")
        assert json.loads(service.get("/version"))["pid"] == before
    finally:
        release_dir.behave(service.machine.root / "releases/1.0", import_error="")

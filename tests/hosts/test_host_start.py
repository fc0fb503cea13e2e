"""release.host: the engine is started, found dead, found in the middle of something; systemd, links."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.supervisor.unix import unix_address
from tests.fakes import small_release
from tests.fakes.small_release import Small
from tests.rigs.host_calls import HostCalls, Refusal, served, take
from tests.waiting import wait_until

SYSTEMCTL = """\
#!{python}
\"\"\"Starts and stops one supervisor, as the unit says; it starts what ``current`` names.\"\"\"
import os, signal, subprocess, sys
from pathlib import Path
root = Path({root!r})
pid = root / "pid"
with open(root / "systemctl.log", "a") as log:
    print(*sys.argv[1:], file=log)
if sys.argv[1] == "stop":
    if pid.exists():
        os.kill(int(pid.read_text()), signal.SIGTERM)
        pid.unlink()
elif (root / "refuse").exists():
    sys.exit("Job for purgeline.service failed.")
else:
    command = [sys.executable, "-I", root / "shared/supervisor.py", "--root", root]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=open(root / "unit.log", "a"), stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    pid.write_text(str(process.pid))
"""
JOURNALCTL = "#!/bin/sh\nexec cat {root}/unit.log\n"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Small]:
    folder = tmp_path_factory.mktemp("artefacts")
    made = [small_release.small(folder, version) for version in ("1.0.0", "1.1.0")]
    return [Small(**{**one.__dict__, "envelope": made[-1].envelope}) for one in made]


def begin(host: HostCalls, event: str, **request: Any) -> "subprocess.Popen[bytes]":
    """Return a reload that has just told of *event*."""
    process = host.start("reload", **request)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("event") == event:
            break
    return process


def kill(process: "subprocess.Popen[bytes]") -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def reloads(host: HostCalls) -> list[tuple[str, bool]]:
    entries = host.call("history")["entries"]
    return [(entry["version"], entry["ok"]) for entry in entries if entry["action"] == "reload"]


@pytest.mark.slow
def test_a_first_start_whose_asker_was_killed_is_ended_by_the_next_call(
    host: HostCalls, port: int, tmp_path: Path
) -> None:
    """Nothing says so until the engine serves; then links and history do, and it was started once."""
    slow = small_release.small(tmp_path / "artefacts", "1.0.0", ready_delay_s=2.5)
    host.call("unpack", **slow.request())
    process = begin(host, "start", version="1.0.0", listen=f"127.0.0.1:{port}")
    wait_until((host.root / "shared/run/control.sock").exists, what="the supervisor being there")
    kill(process)
    assert host.linked("current") == ""
    status = host.call("status")
    assert (status["state"], status["ready_detail"]) == ("starting", "the engine is starting")
    pid = status["pid"]
    answer = host.call("reload", version="1.0.0", bake_s=0.2)
    assert host.events[0]["event"] == "waiting"
    assert (answer["unchanged"], host.call("status")["pid"]) == (False, pid)
    assert (served(port), host.linked("current")) == ("1.0.0", "releases/1.0.0")
    assert reloads(host) == [("1.0.0", True)]
    assert take(host, port, slow)["unchanged"]
    assert reloads(host) == [("1.0.0", True)]


def test_a_reload_whose_asker_was_killed_is_waited_for_and_noted(
    host: HostCalls, port: int, good: list[Small]
) -> None:
    """Else a later rollback would go one too far."""
    take(host, port, good[0])
    host.call("unpack", **good[1].request())
    kill(begin(host, "baking", version="1.1.0", bake_s=15))
    assert host.call("status")["state"] == "baking"
    answer = host.call("reload", version="1.1.0", bake_s=1)
    assert host.events[0]["event"] == "waiting"
    assert (answer["unchanged"], host.linked("current")) == (False, "releases/1.1.0")
    assert reloads(host) == [("1.0.0", True), ("1.1.0", True)]
    assert host.call("previous")["version"] == "1.0.0"


def serves(port: int, version: str) -> bool:
    """Tell whether a version is served; connections to an engine that just ends may be reset."""
    with contextlib.suppress(OSError):
        return served(port) == version
    return False


@pytest.mark.parametrize("event", [pytest.param("spawned", marks=pytest.mark.slow), "accepting"])
def test_a_supervisor_that_is_killed_in_a_reload_is_started_again_with_what_was_current(
    host: HostCalls, port: int, good: list[Small], event: str
) -> None:
    take(host, port, good[0])
    host.call("unpack", **good[1].request())
    pid = host.call("status")["pid"]
    process = begin(host, event, version="1.1.0", bake_s=2)
    os.kill(pid, signal.SIGKILL)
    *events, answer = [json.loads(line) for line in process.communicate(timeout=60)[0].splitlines()]
    assert (answer["ok"], answer["kind"]) == (False, "supervisor")
    assert [one["event"] for one in events if one["event"] != "baking"] == ["restart", "start"]
    wait_until(lambda: serves(port, "1.0.0"), what="the old release")
    assert host.linked("current") == "releases/1.0.0"
    assert reloads(host) == [("1.0.0", True), ("1.1.0", False)]


class Dying:
    """Listens like a supervisor that is killed at a reload: its connection breaks before its socket goes."""

    def __init__(self, path: Path, status: dict[str, Any]) -> None:
        path.unlink(missing_ok=True)
        self._status = status
        self._listener = socket.socket(socket.AF_UNIX)
        with unix_address(path) as address:
            self._listener.bind(address)
        self._listener.listen()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        with self._listener:
            while True:
                client, _ = self._listener.accept()
                with client:
                    line = client.makefile("rb").readline()
                    if b'"reload"' in line:
                        break
                    if line:
                        client.sendall(json.dumps(self._status).encode() + b"\n")
            time.sleep(0.5)  # the system takes its sockets from it one by one


@pytest.mark.slow
def test_a_supervisor_whose_socket_outlives_it_for_a_moment_is_started_again(
    host: HostCalls, port: int, good: list[Small]
) -> None:
    take(host, port, good[0])
    host.call("unpack", **good[1].request())
    status = host.call("status")
    host.call("stop")
    dying = Dying(host.root / "shared/run/control.sock", status)
    with pytest.raises(Refusal) as caught:
        host.call("reload", version="1.1.0", bake_s=0)
    dying.thread.join(10)
    assert caught.value.kind == "supervisor"
    assert [event["event"] for event in host.events] == ["restart", "start"]
    assert served(port) == "1.0.0"


@pytest.mark.slow
def test_when_links_cannot_follow_the_engine_goes_back(host: HostCalls, port: int, good: list[Small]) -> None:
    """Or is stopped, if none ran. What is in the way is named."""
    current = host.root / "current"
    current.mkdir(parents=True)
    with pytest.raises(Refusal, match=r"Is a directory \(.*current"):
        take(host, port, good[0])
    assert host.call("status")["state"] == "stopped"
    current.rmdir()
    take(host, port, good[0])
    current.unlink()
    current.mkdir()
    with pytest.raises(Refusal, match=r"current cannot be replaced, so 1\.0\.0 was brought back") as caught:
        take(host, port, good[1])
    assert (caught.value.kind, served(port)) == ("links", "1.0.0")
    assert [path.name for path in host.root.iterdir() if ".new-" in path.name] == []


@pytest.mark.slow
def test_a_history_that_cannot_be_written_undoes_nothing(
    host: HostCalls, port: int, good: list[Small], tmp_path: Path
) -> None:
    """It is told, and the next call that can write makes up for it."""
    take(host, port, good[0])
    host.call("unpack", **good[1].request())
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(disk)], check=True)
    try:
        path = host.root / "history.jsonl"
        whole = path.read_bytes()
        (disk / "history").write_bytes(whole + b" " * (4095 - len(whole)) + b"\n")  # the page is full
        path.unlink()
        path.symlink_to(disk / "history")
        host.call("reload", version="1.1.0", bake_s=0.2)
        (warning,) = [event for event in host.events if event["event"] == "warning"]
        assert warning["message"].startswith("the history lacks this reload: the disk is full")
        assert (served(port), host.linked("current")) == ("1.1.0", "releases/1.1.0")
        assert host.call("previous")["version"] == "1.0.0"
        subprocess.run(["mount", "-o", "remount,size=64k", str(disk)], check=True)
        assert host.call("reload", version="1.1.0")["unchanged"]
        assert reloads(host) == [("1.0.0", True), ("1.1.0", True)]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
def test_a_history_that_cannot_be_read_undoes_nothing(host: HostCalls, port: int, good: list[Small]) -> None:
    """A reload that went through is answered so; that it is not in the history is told."""
    take(host, port, good[0])
    host.call("unpack", **good[1].request())
    path = host.root / "history.jsonl"
    path.unlink()
    path.mkdir()
    host.call("reload", version="1.1.0", bake_s=0.2)
    (warning,) = [event for event in host.events if event["event"] == "warning"]
    assert warning["message"].startswith("the history lacks this reload")
    assert (served(port), host.linked("current")) == ("1.1.0", "releases/1.1.0")


def test_asking_for_what_runs_by_force_reads_the_configuration_again(
    host: HostCalls, port: int, good: list[Small]
) -> None:
    take(host, port, good[0])
    before = {worker["pid"] for worker in host.call("status")["workers"]}
    assert not host.call("reload", version="1.0.0", bake_s=0.2, force=True)["unchanged"]
    assert not before & {worker["pid"] for worker in host.call("status")["workers"]}
    assert host.linked("previous") == ""


def test_what_the_asker_has_in_its_environment_does_not_reach_the_engine(
    tmp_path: Path, quick_python: Path, port: int, good: list[Small]
) -> None:
    """It may be a service, have an engine's settings for something else, or a Python path of its own."""
    names = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1", "LISTEN_FDS": "1", "PURGELINE_ENGINE__X": "1"}
    planted = tmp_path / "planted"
    planted.mkdir()
    (planted / "sitecustomize.py").write_text("raise SystemExit('planted code runs')")
    names |= {"PYTHONPATH": str(planted), "PYTHONSTARTUP": "/nowhere", "PYTHONOPTIMIZE": "2"}
    pairs = [f"{name}={value}" for name, value in names.items()]
    host = HostCalls(tmp_path / "root", python=quick_python, prefix=["env", *pairs])
    try:
        take(host, port, good[0])
        pids = [host.call("status")["pid"], *(worker["pid"] for worker in host.call("status")["workers"])]
        environ = b"".join(Path(f"/proc/{pid}/environ").read_bytes() for pid in pids)
        assert not [name for name in names if name.encode() in environ]
    finally:
        host.close()


@pytest.fixture
def unit(tmp_path: Path, quick_python: Path) -> Iterator[HostCalls]:
    """A host where ``systemctl`` runs the engine."""
    root, programs = tmp_path / "root", tmp_path / "bin"
    for folder in (root / "shared", programs):
        folder.mkdir(parents=True)
    for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
        program = programs / name
        program.write_text(text.format(python=sys.executable, root=str(root)))
        program.chmod(0o755)
    calls = HostCalls(root, python=quick_python, prefix=["env", f"PATH={programs}:{os.environ['PATH']}"])
    yield calls
    with contextlib.suppress(Refusal):
        calls.call("stop", service="systemd")


def verbs(host: HostCalls) -> list[str]:
    return [line.split()[0] for line in (host.root / "systemctl.log").read_text().splitlines()]


def test_where_systemd_runs_the_engine_it_starts_and_stops_it(
    unit: HostCalls, port: int, good: list[Small]
) -> None:
    """What starts is what ``current`` names, so that comes first there; reloads go to the supervisor."""
    for artefact in good:
        take(unit, port, artefact, service="systemd")
        assert (served(port), unit.linked("current")) == (artefact.version, f"releases/{artefact.version}")
    assert verbs(unit) == ["start"]
    assert not unit.call("stop", service="systemd")["unchanged"]
    assert verbs(unit) == ["start", "stop"]
    assert unit.call("status")["state"] == "stopped"


def test_a_release_that_systemd_cannot_start_leaves_no_links_and_no_unit_that_tries(
    unit: HostCalls, port: int, tmp_path: Path
) -> None:
    bad = small_release.small(tmp_path / "artefacts", "3.0.0", import_error="missing thing")
    with pytest.raises(Refusal, match="the engine did not serve in time") as caught:
        take(unit, port, bad, service="systemd", timeout_s=10)
    assert "missing thing" in json.dumps(caught.value.answer["log"])
    assert (unit.linked("current"), verbs(unit)) == ("", ["start", "stop"])
    (unit.root / "refuse").touch()
    with pytest.raises(Refusal, match=r"systemctl start purgeline\.service: Job for .* failed"):
        take(unit, port, bad, service="systemd")
    assert (unit.linked("current"), verbs(unit)) == ("", ["start", "stop"] * 2)

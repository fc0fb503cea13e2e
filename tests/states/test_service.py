"""What the units and nginx run, really run: the way to a reload, and requests through nginx to the engine."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest

from release.settings import ROOT
from tests.rigs.states_on_machine import PYTHON, apply, changed, example_pillar
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.rigs.machine import Machine

ASK = ROOT / "salt/engine/files/ask.py"


class FakeSupervisor:
    """Answers one request on a control socket with scripted lines; keeps the request."""

    def __init__(self, folder: Path, *lines: dict[str, Any]) -> None:
        self.path = folder / "control.sock"
        self.asked = ""
        self._lines = lines

    @contextlib.contextmanager
    def running(self) -> Iterator[FakeSupervisor]:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(self.path))
            server.listen()
            thread = threading.Thread(target=self._serve, args=(server,))
            thread.start()
            yield self
            thread.join(10)

    def _serve(self, server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, connection.makefile("rw") as stream:
            self.asked = stream.readline()
            for line in self._lines:
                stream.write(json.dumps(line) + "\n")


def ask(path: Path, command: str) -> subprocess.CompletedProcess[str]:
    argv = ["/usr/bin/python3", "-I", str(ASK), str(path), command]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)


def test_a_reload_ends_when_the_supervisor_says_how_it_went(tmp_path: Path) -> None:
    progress = [{"event": "spawned"}, {"event": "ready"}]
    with FakeSupervisor(tmp_path, *progress, {"ok": True, "version": "1.0"}).running() as supervisor:
        assert ask(supervisor.path, "reload").returncode == 0
    assert json.loads(supervisor.asked) == {"cmd": "reload"}


def test_a_failed_reload_fails_with_the_reason(tmp_path: Path) -> None:
    with FakeSupervisor(
        tmp_path, {"ok": False, "error": "engine.listen has changed"}
    ).running() as supervisor:
        done = ask(supervisor.path, "reload")
    assert (done.returncode, done.stderr) == (1, "reload: engine.listen has changed\n")


@pytest.mark.parametrize("lines", [[], [{"event": "spawned"}]])
def test_a_supervisor_that_goes_away_is_a_failure(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    with FakeSupervisor(tmp_path, *lines).running() as supervisor:
        done = ask(supervisor.path, "reload")
    assert (done.returncode, done.stderr) == (1, "reload: it ended without an answer\n")


def test_no_supervisor_is_a_failure_that_names_the_socket(tmp_path: Path) -> None:
    done = ask(tmp_path / "control.sock", "reload")
    assert done.returncode == 1
    assert f"no supervisor answers on {tmp_path}/control.sock" in done.stderr


def test_the_path_of_a_socket_may_be_long(tmp_path: Path) -> None:
    folder = tmp_path / ("long-" * 30)
    folder.mkdir()
    with contextlib.chdir(folder), socket.socket(socket.AF_UNIX) as server:
        server.bind("control.sock")  # nobody listens: that is told from a path that is too long
        assert "Connection refused" in ask(folder / "control.sock", "reload").stderr


# --- nginx -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pillar() -> dict[str, Any]:
    nginx = {"listen": ["127.0.0.1:8080"], "allow": [], "extra": []}
    node = [{"name": "edge-1", "driver": "varnish", "url": "http://127.0.0.1:1"}]
    return changed(example_pillar(), nginx=nginx, config={"auth": {"tokens": []}, "door": [], "node": node})


@pytest.fixture(scope="module")
def front(machine: Machine, pillar: dict[str, Any]) -> Iterator[Machine]:
    """A machine with an engine and nginx in front of it."""
    found = apply(machine, pillar)
    assert found.ok, found
    shared = machine.root / "shared"
    command = [PYTHON, "-P", "-m", "engine", "serve", "--config", str(shared / "engine.toml")]
    engine = machine.start("env", "-C", str(shared), *command, log=machine.folder / "engine.log")
    nginx = machine.start("/usr/sbin/nginx", "-g", "daemon off;", log=machine.folder / "nginx.log")
    try:
        for port in (9181, 8080):
            wait_until(lambda port=port: get(machine, port, "/readyz").returncode == 0, what=f"port {port}")  # type: ignore[misc]
        yield machine
    finally:
        for process in (nginx, engine):
            process.terminate()
            process.wait(20)


def get(machine: Machine, port: int, *paths: str) -> subprocess.CompletedProcess[str]:
    """Ask for each path on a connection of its own."""
    urls = [f"http://127.0.0.1:{port}{path}" for path in paths]
    return machine.run("curl", "-sfS", "-H", "Connection: close", *urls, check=False)


def connections(machine: Machine, state: str) -> int:
    """Count connections to the engine in a state, seen from nginx's side."""
    return len(machine.run("ss", "-Htn", "state", state, "dport = :9181").stdout.splitlines())


def test_requests_through_nginx_share_kept_connections(front: Machine) -> None:
    before = connections(front, "time-wait")
    done = get(front, 8080, *["/version"] * 100)
    assert done.stdout.count('"version"') == 100
    assert connections(front, "time-wait") == before
    assert 1 <= connections(front, "established") <= 2 * 64


def test_tasks_come_through_nginx(front: Machine) -> None:
    body = json.dumps({"targets": ["http://img.example.com/a.jpg"], "id": "through-nginx"})
    post = ["curl", "-sS", "-H", "Content-Type: application/json", "-d", body]
    answer = front.run(*post, "http://127.0.0.1:8080/v1/engine/task").stdout
    assert json.loads(answer)["task_id"] == "through-nginx"


def test_a_front_that_nginx_refuses_leaves_the_old_one(front: Machine, pillar: dict[str, Any]) -> None:
    path = "/etc/nginx/conf.d/purgeline.conf"
    before = front.read(path)
    found = apply(front, changed(pillar, nginx={"extra": ["no_such_directive on"]}), name="engine.nginx")
    assert [state.id for state in found.failed] == ["engine-nginx-file-managed"]
    assert 'unknown directive "no_such_directive"' in found.failed[0].comment
    assert front.read(path) == before
    front.run("/usr/sbin/nginx", "-t", "-q")


def test_an_engine_on_all_addresses_is_reached_on_loopback(front: Machine, pillar: dict[str, Any]) -> None:
    found = apply(front, changed(pillar, config={"engine": {"listen": "[::]:9181"}}), name="engine.nginx")
    assert found.ok
    assert "server [::1]:9181 " in front.read("/etc/nginx/conf.d/purgeline.conf")


def test_without_nginx_its_file_goes(front: Machine, pillar: dict[str, Any]) -> None:
    assert apply(front, changed(pillar, nginx={"enabled": False}), name="engine.nginx").ok
    assert not front.has("/etc/nginx/conf.d/purgeline.conf")


# --- clean -------------------------------------------------------------------------------------


def test_clean_stops_a_supervisor_that_systemd_did_not_start(front: Machine, pillar: dict[str, Any]) -> None:
    with FakeSupervisor(front.root / "shared/run", {"ok": True}).running() as supervisor:
        found = apply(front, pillar, name="engine.clean")
    assert found.ok, found
    assert json.loads(supervisor.asked) == {"cmd": "stop"}

"""The supervisor without reloads: start, socket, control, respawn, replacement, signals, end."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import supervisors
from tests.fakes.release_dir import behave, commands
from tests.rigs.supervisor_process import Host, Load, has_traceback, is_running
from tests.waiting import wait_until

Make = Callable[..., Host]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return what makes a host with a release 1.0, not started."""
    made: list[Host] = []

    def build(*args: str, folder: str = "", behaviour: Any = None, **keys: Any) -> Host:
        host = Host(tmp_path / (folder or f"host{len(made)}"), *args, **keys)
        made.append(host)
        host.release("1.0", **(behaviour or {}))
        return host

    yield build
    for host in made:
        host.stop()
        assert not has_traceback(host), host.log()


@pytest.fixture
def host(make: Make) -> Host:
    """A running one."""
    host = make()
    host.start()
    return host


# --- start


def test_status_says_everything(host: Host) -> None:
    """The document of the contract, key by key."""
    status = host.status()
    assert status["uptime_s"] >= 0
    (worker,) = status["workers"]
    assert status == {
        "ok": True,
        "version": "1.0",
        "release_dir": str(host.releases / "1.0"),
        "pid": host.pid,
        "uptime_s": status["uptime_s"],
        "supervisor_sha256": status["supervisor_sha256"],
        "state": "serving",
        "listen": f"127.0.0.1:{host.port}",
        "workers": [
            {
                "slot": 0,
                "pid": host.pids()[0],
                "version": "1.0",
                "generation": 1,
                "state": "accepting",
                "uptime_s": worker["uptime_s"],
                "restarts": 0,
                "stale": {},
                "canaries": "",
            }
        ],
        "last_reload": None,
    }
    assert len(status["supervisor_sha256"]) == 64


def test_a_worker_gets_what_it_needs_and_no_more(make: Make) -> None:
    """Listening socket, control socket, lock; nothing of systemd's; its arguments and folder."""
    host = make()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
        hears.bind(str(host.root / "notify"))
        host.start(env={"NOTIFY_SOCKET": str(host.root / "notify"), "WATCHDOG_USEC": "9000000"})
    (start,) = commands(host.releases / "1.0", "start")
    settings = start["settings"]
    assert start["names"] == []
    assert start["argv"] == ["-I", "-m", "engine", "worker", "--config", str(host.config)]
    assert start["cwd"] == str(host.root / "shared")
    assert settings["protocol"] == 1
    assert settings["socket"] == str(host.root / "shared/run/w0-g1.sock")
    more = set(start["descriptors"]) - {0, 1, 2, settings["listen_fd"], settings["control_fd"]}
    assert len(more) == 1  # the lock
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (host.root / "shared/run").iterdir()}
    assert modes["control.sock"] == 0o600


@pytest.mark.parametrize(
    ("behaviour", "code", "reason"),
    [
        ({"import_error": "no module named uvloop"}, 1, "no module named uvloop"),
        ({"exit_code": 2}, 2, "exit code 2"),
        ({"hang": True}, 1, "not ready within 0.5 s"),
        ({"says": "9.9"}, 1, "expected was 1.0"),
    ],
)
def test_a_first_worker_that_cannot_start_ends_it(
    make: Make, behaviour: dict[str, Any], code: int, reason: str
) -> None:
    """With the reason; a configuration the worker refuses (2) is the supervisor's exit code too."""
    host = make("--start-timeout", "0.5" if "hang" in behaviour else "30", behaviour=behaviour)
    host.start(wait=False)
    assert host.end() == code
    assert reason in host.log()
    assert not host.control.exists()


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"listen": "nowhere"}, "engine.listen: 'nowhere' is not HOST:PORT"),
        ({"listen": "192.0.2.1:80"}, "192.0.2.1:80 cannot be bound"),
        ({"listen_backlog": "many"}, "engine.listen_backlog: 'many' is wrong"),
        ({"data_dir": ""}, "engine.data_dir: '' is wrong"),
    ],
)
def test_a_wrong_key_is_named(make: Make, keys: dict[str, Any], reason: str) -> None:
    """One line, exit code 2."""
    host = make(**keys)
    host.start(wait=False)
    assert host.end() == 2
    assert reason in host.log()


def test_wrong_arguments_are_named(make: Make) -> None:
    """Exit code 2, and what would be right."""
    host = make()
    for args, reason in (
        (["--workers", "0"], "from 1 to 256"),
        (["--root", "/nonexistent"], "/nonexistent/shared: No such file"),
        (["--config", "none.toml"], "none.toml: no such file"),
        (["--release", "releases/9"], "releases/9: no such folder"),
        (["--bake", "soon"], "not a number of seconds"),
    ):
        done = subprocess.run(
            [*host.command(), *args], capture_output=True, text=True, check=False, timeout=20
        )
        assert done.returncode in {1, 2}
        assert reason in done.stderr
        assert "Traceback" not in done.stderr
    done = subprocess.run(
        [sys.executable, "-I", str(supervisors.FOLDER)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--root" in done.stderr


def test_the_environment_and_the_command_line_override_the_file(make: Make) -> None:
    """As for the engine: file, environment, ``--listen``."""
    host = make(listen="127.0.0.1:1")
    address = f"127.0.0.1:{host.port}"
    host.start(env={"PURGELINE_ENGINE__LISTEN": address, "PURGELINE_ENGINE__DATA_DIR": "elsewhere"})
    assert host.status()["listen"] == address
    assert (host.root / "shared/elsewhere/supervisor.lock").exists()
    host.stop()
    host.args += ["--listen", address]
    host.start(env={"PURGELINE_ENGINE__LISTEN": "127.0.0.1:1"})
    assert host.status()["listen"] == address


def test_without_a_root_it_runs_a_given_command(make: Make, tmp_path: Path) -> None:
    """As ``purgeline serve`` does: `main` in the caller's process, one configuration, no releases."""
    host = make()
    worker = [str(host.releases / "1.0/venv/bin/python"), "its", "worker"]
    main = f"main(sys.argv[1:], worker_command={worker!r}, version='1.0')"
    program = f"import sys; from engine.supervisor import main; sys.exit({main})"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--config", "shared/engine.toml", "--workers", "2"],
        cwd=host.root,
        env={**os.environ, "PYTHONPATH": str(supervisors.FOLDER.parents[1])},
    )
    host.process, host.control = process, host.root / "shared/var/run/control.sock"
    wait_until(host._is_serving, what="the supervisor serving")
    assert [worker["version"] for worker in host.workers()] == ["1.0", "1.0"]
    assert commands(host.releases / "1.0", "start")[0]["argv"][:2] == ["its", "worker"]
    assert host.status()["release_dir"] is None
    assert host.reload()["ok"]
    assert "no releases" in host.reload(host.releases / "1.0")["error"]
    assert host.ask("replace")["ok"]
    assert host.reload()["ok"]
    os.kill(host.pid, signal.SIGTERM)
    assert host.end() == 0


def test_paths_may_be_longer_than_an_address_takes(make: Make) -> None:
    """A Unix socket's address has 107 bytes; control and private sockets work below any folder."""
    host = make(folder="x" * 120)
    host.start()
    assert host.reload()["ok"]
    assert host.get()["generation"] == 2


# --- socket and lock

ACTIVATE = shutil.which("systemd-socket-activate")


@pytest.mark.skipif(ACTIVATE is None, reason="systemd-socket-activate is not installed")
def test_a_socket_of_systemd_is_taken(make: Make) -> None:
    """``engine.listen`` is not bound; the socket survives reload and replacement."""
    assert ACTIVATE is not None
    host = make(listen="192.0.2.1:80")
    host.start(wait=False, prefix=[ACTIVATE, "-l", f"127.0.0.1:{host.port}"])
    wait_until(lambda: "Listening on" in host.log(), what="systemd-socket-activate")
    assert host.get()["version"] == "1.0"  # the first connection starts it
    assert host.status()["listen"] == f"127.0.0.1:{host.port}"
    assert host.status()["pid"] == host.pid
    with Load(host.port, clients=2) as load:
        assert host.reload(host.release("2.0"))["ok"]
        assert host.ask("replace")["ok"]
    assert load.errors == []
    assert commands(host.releases / "2.0", "start")[0]["names"] == []


@pytest.mark.parametrize(
    ("count", "reason"), [("1", "descriptor 3 is no socket"), ("2", "LISTEN_FDS=2: one socket")]
)
def test_a_socket_that_is_not_there_is_an_error(make: Make, count: str, reason: str) -> None:
    """What LISTEN_FDS promises must be there."""
    host = make()
    host.start(wait=False, env={"LISTEN_FDS": count})
    assert host.end() == 2
    assert reason in host.log()


def test_a_socket_for_another_process_is_not_ours(make: Make) -> None:
    """LISTEN_PID names the one that it is for."""
    host = make()
    host.start(env={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    assert host.get()["version"] == "1.0"


def test_after_a_kill_the_next_one_waits_for_the_workers(make: Make) -> None:
    """They see the end of their control socket, drain and exit; then it takes lock, address and path."""
    host = make()
    host.start()
    (orphan,) = host.pids()
    os.kill(host.pid, signal.SIGKILL)
    host.end()
    host.start()
    assert not is_running(orphan)
    assert "end of control" in [note["what"] for note in commands(host.releases / "1.0")]
    assert host.get()["version"] == "1.0"


def test_a_lock_that_stays_held_is_named(make: Make) -> None:
    """Exit code 1 after the time it waits."""
    host = make("--wait", "0.2")
    lock = host.root / "shared/var/supervisor.lock"
    lock.parent.mkdir()
    with subprocess.Popen(
        ["flock", str(lock), "sh", "-c", "echo held; exec cat"], stdin=-1, stdout=-1
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        host.start(wait=False)
        assert host.end() == 1
        holder.kill()
    assert f"{lock} is still held after 0.2 s" in host.log()


def test_an_address_that_becomes_free_is_taken(make: Make) -> None:
    """For some seconds it tries again."""
    host = make()
    with socket.create_server(("127.0.0.1", host.port)):
        host.start(wait=False)
        wait_until(lambda: "is taken, trying" in host.log(), what="the first try")
    wait_until(host._is_serving, what="the supervisor serving")


def test_the_control_socket_of_a_live_supervisor_is_left_alone(host: Host) -> None:
    """A second one says so and ends at once, whatever its data folder."""
    done = subprocess.run(host.command(), capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    assert f"a supervisor runs already, it answers on {host.control}" in done.stderr
    assert host.status()["ok"]


def test_what_is_no_socket_is_left_alone(make: Make) -> None:
    """A path given by mistake must not delete a file."""
    host = make("--control", "precious")
    (host.root / "precious").write_text("data")
    host.start(wait=False)
    assert host.end() == 2
    assert (host.root / "precious").read_text() == "data"


# --- control


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\xfe",
        b"not json",
        b"[]",
        b"7",
        b'{"cmd": "dance"}',
        b'{"cmd": ["status"]}',
        b"{}",
        b"[" * 100_000,
        b'{"cmd": "status"' * 10_000,
    ],
    ids=range(9),
)
def test_garbage_gets_an_error_and_disturbs_nobody(host: Host, garbage: bytes) -> None:
    """Also one without an end, and a client that just leaves."""
    with host.connect() as sock:
        (answer,) = host.lines(sock, garbage)
    assert answer["ok"] is False
    assert answer["error"]
    for _ in range(20):
        with host.connect() as sock:
            sock.sendall(garbage[:50])
    assert host.get()["version"] == "1.0"
    assert host.status()["ok"]


def test_one_connection_takes_several_requests(host: Host) -> None:
    """A line each, answered in order."""
    with host.connect() as sock:
        sock.sendall(b'{"cmd": "status"}\n{"cmd": "dance"}\n{"cmd": "status"}\n')
        with sock.makefile("rb") as file:
            answers = [json.loads(file.readline())["ok"] for _ in range(3)]
    assert answers == [True, False, True]


# --- respawn


def test_a_dead_worker_is_respawned_while_connections_wait(host: Host) -> None:
    """At once; new connections only notice that it takes longer."""
    for count in range(1, 4):
        before = host.worker()
        os.kill(before["pid"], signal.SIGKILL)
        assert host.get()["version"] == "1.0"
        after = host.worker()
        assert after["restarts"] == count
        assert after["pid"] != before["pid"]
        assert after["generation"] == before["generation"] + 1
    starts = [note["settings"]["has_predecessor"] for note in commands(host.releases / "1.0", "start")]
    assert not any(starts)
    assert "killed by SIGKILL" in host.log()


def test_one_that_keeps_dying_is_started_ever_more_slowly(host: Host) -> None:
    """Its log is shown, and the first good one serves what waited."""
    behave(host.releases / "1.0", import_error="no module named uvloop")
    os.kill(host.worker()["pid"], signal.SIGKILL)
    wait_until(lambda: host.log().count("is started again in") >= 3, what="three pauses")
    assert len(commands(host.releases / "1.0", "start")) < 10
    assert "no module named uvloop" in host.log()
    (host.releases / "1.0/behaviour.json").write_text('{"version": "1.0"}')
    assert host.get()["version"] == "1.0"
    assert host.worker()["restarts"] >= 4


def test_a_respawned_one_that_hangs_is_killed(make: Make) -> None:
    """It has as long as any start; then the next one is tried."""
    host = make("--start-timeout", "5")  # the first one has no more
    host.start()
    behave(host.releases / "1.0", hang=True)
    os.kill(host.worker()["pid"], signal.SIGKILL)
    wait_until(lambda: "was not ready within 5 s" in host.log(), what="the time-out")
    behave(host.releases / "1.0", hang=False)
    assert host.get()["version"] == "1.0"


def test_the_other_slots_serve_on(make: Make) -> None:
    """And are told who is there."""
    host = make("--workers", "2")
    host.start()
    other, victim = sorted(host.workers(), key=lambda worker: -worker["slot"])
    os.kill(victim["pid"], signal.SIGKILL)
    wait_until(lambda: len(host.workers()) == 2 and host.pids().count(victim["pid"]) == 0, what="a new one")
    assert other["pid"] in host.pids()

    def told() -> list[list[tuple[int, int]]]:
        return [
            [(peer["slot"], peer["generation"]) for peer in note["workers"]]
            for note in commands(host.releases / "1.0", "peers")
            if note["slot"] == other["slot"]
        ]

    wait_until(lambda: told() == [[(0, 1), (1, 2)], [(1, 2)], [(0, 3), (1, 2)]], what="the other being told")


# --- replacement


def test_it_replaces_itself(make: Make) -> None:
    """Under load, three times: pid, workers, counters and descriptors stay, and all goes on."""
    host = make("--workers", "2")
    host.start()
    os.kill(host.worker()["pid"], signal.SIGKILL)
    wait_until(lambda: len(host.workers()) == 2, what="the respawn")
    assert host.reload()["ok"]
    before, descriptors = host.status(), host.descriptors()
    with Load(host.port, clients=4) as load:
        for number in range(3):
            host.install(("supervisor.py", "", f"# {number}\n"))
            with host.connect() as sock:
                lines = list(host.lines(sock, {"cmd": "replace", "supervisor": None}))
                assert [line.get("event") for line in lines] == ["replacing", None]
                assert lines[-1]["ok"]
                assert next(host.lines(sock, {"cmd": "status"}))["ok"]  # the connection goes on too
    assert load.errors == []
    after = host.status()
    assert after["supervisor_sha256"] != before["supervisor_sha256"]
    for key in ("pid", "listen", "last_reload", "version", "release_dir"):
        assert after[key] == before[key]
    kept = ("slot", "pid", "generation", "restarts", "version", "state")
    assert [[one[key] for key in kept] for one in after["workers"]] == [
        [one[key] for key in kept] for one in before["workers"]
    ]
    assert after["uptime_s"] > before["uptime_s"]
    wait_until(lambda: host.descriptors() <= descriptors, what="flat descriptors")
    two = host.release("2.0")
    assert host.reload(two)["ok"]
    assert [len(note["descriptors"]) for note in commands(two, "start")] == [6, 6]
    os.kill(host.worker()["pid"], signal.SIGKILL)
    wait_until(lambda: len(host.workers()) == 2, what="the respawn")
    os.kill(host.pid, signal.SIGTERM)
    assert host.end() == 0


LESS = '"partial": worker.tail.partial.decode("latin-1"),'  #: a line of the state that some version adds
MORE = LESS + ' "of the next version": 1,'


@pytest.mark.parametrize(
    ("before", "after"),
    [("", LESS), (LESS, ""), (LESS, MORE), (MORE, LESS)],
    ids=["from-older", "to-older", "to-newer", "from-newer"],
)
def test_versions_next_to_each_other_hand_over(make: Make, before: str, after: str) -> None:
    """What one adds to the state the other passes over, in both directions."""
    host = make()
    host.install(("handover.py", LESS, before))
    host.start()
    host.install(("handover.py", LESS, after + "  # another"))
    pid = host.pid
    assert host.ask("replace")["ok"]
    assert (host.pid, host.status()["state"]) == (pid, "serving")
    assert host.reload()["ok"]


def test_a_version_that_lacks_what_is_needed_is_refused_before_it_is_executed(host: Host) -> None:
    needed = '"was_sent_go",\n'
    host.install(("handover.py", needed, needed + '    "made_up",\n'))
    answer = host.ask("replace")
    assert not answer["ok"]
    assert "lacks made_up" in answer["error"]
    assert host.status()["state"] == "serving"


def test_a_signal_during_the_replacement_is_not_lost(host: Host) -> None:
    """Whether the old code gets it or the new: it drains and exits with 0."""
    (worker,) = host.pids()
    with host.connect() as sock:
        for line in host.lines(sock, {"cmd": "replace"}):
            if line.get("event") == "replacing":
                os.kill(host.pid, signal.SIGTERM)
    assert host.end() == 0
    assert not is_running(worker)


def test_a_file_that_cannot_take_over_is_refused(host: Host) -> None:
    """Missing, not Python, failing at its start, of another kind, file or folder: nothing has happened."""
    other = host.root / "other.py"
    for text, reason in (
        (None, "No such file"),
        ("def broken(:\n", "invalid syntax"),
        ("raise RuntimeError('not today')\n", "not today"),
        ("print('hello')\n", "cannot take over"),
    ):
        if text is not None:
            other.write_text(text)
        answer = host.ask("replace", supervisor=str(other))
        assert answer["ok"] is False
        assert reason in answer["error"]
    folder = supervisors.copy(host.root / "other", ("handover.py", "FORMAT: Final = 1", "FORMAT: Final = 2"))
    assert "format 1" in host.ask("replace", supervisor=str(folder))["error"]
    (folder / "handover.py").write_text("def broken(:\n")
    assert "invalid syntax" in host.ask("replace", supervisor=str(folder))["error"]
    assert host.status()["pid"] == host.pid
    assert host.reload()["ok"]


def test_it_is_not_replaced_in_the_middle_of_a_reload(host: Host) -> None:
    """That would forget how far it was."""
    pending = host.begin_reload(host.release("2.0", ready_delay_s=0.3), "spawned")
    assert "under way" in host.ask("replace")["error"]
    assert pending.answer()["ok"]


def test_a_worker_that_starts_meanwhile_is_brought_up_by_the_next_one(host: Host) -> None:
    """A respawn that was under way goes on."""
    behave(host.releases / "1.0", ready_delay_s=1)
    os.kill(host.worker()["pid"], signal.SIGKILL)
    starting = host.worker("starting")
    assert host.ask("replace")["ok"]
    assert host.get()["version"] == "1.0"
    assert host.worker()["pid"] == starting["pid"]


# --- signals, systemd, end


def test_it_tells_systemd(make: Make) -> None:
    """READY when all accept, RELOADING and READY around a reload, STOPPING, and the watchdog all along."""
    host = make()
    told: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
        hears.bind(str(host.root / "notify"))
        hears.settimeout(30)

        def listen() -> None:
            while "STOPPING=1" not in told:
                told.extend(hears.recv(4096).decode().splitlines())

        thread = threading.Thread(target=listen)  # few datagrams may wait: what is sent beyond is lost
        thread.start()
        host.start(env={"NOTIFY_SOCKET": str(host.root / "notify"), "WATCHDOG_USEC": "200000"})
        assert host.reload()["ok"]
        wait_until(lambda: told.count("WATCHDOG=1") >= 2, what="the watchdog")
        os.kill(host.pid, signal.SIGTERM)
        assert host.end() == 0
        thread.join(30)
    states = [line for line in told if not line.startswith(("STATUS", "WATCHDOG", "MONOTONIC"))]
    assert states == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]


@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGINT, "stop"], ids=str)
def test_it_drains_and_exits(host: Host, way: Any) -> None:
    """The request under way is answered, no worker and no socket is left."""
    with socket.create_connection(("127.0.0.1", host.port)) as client:
        client.sendall(b"GET /slow=0.5 HTTP/1.1\r\nHost: engine\r\n\r\n")
        wait_until(lambda: commands(host.releases / "1.0", "slow"), what="the slow request")
        (worker,) = host.pids()
        if way == "stop":
            assert host.ask("stop")["ok"]
        else:
            os.kill(host.pid, way)
        wait_until(lambda: not host.control.exists() or host.status()["state"] == "stopping", what="the stop")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert host.end() == 0
    assert not is_running(worker)
    assert list((host.root / "shared/run").iterdir()) == []


def test_a_second_signal_ends_it_at_once(make: Make) -> None:
    """Whatever the workers do; exit code 0."""
    host = make(behaviour={"ignores_drain": True}, drain_timeout_s=60)
    host.start()
    (worker,) = host.pids()
    os.kill(host.pid, signal.SIGTERM)
    wait_until(lambda: commands(host.releases / "1.0", "drain"), what="the drain")
    began = time.monotonic()
    os.kill(host.pid, signal.SIGTERM)
    assert host.end() == 0
    assert time.monotonic() - began < 45
    assert not is_running(worker)


def test_a_signal_while_it_starts_ends_it(make: Make) -> None:
    """A worker that hangs at its start does not hold it."""
    host = make(behaviour={"hang": True})
    host.start(wait=False)
    wait_until(lambda: commands(host.releases / "1.0", "start"), what="a worker")
    assert host.status()["state"] == "starting"
    assert host.reload()["error"] == "the supervisor is starting"
    os.kill(host.pid, signal.SIGTERM)
    assert host.end() == 0


def test_sigusr1_is_passed_on(make: Make) -> None:
    """To every worker."""
    host = make("--workers", "2")
    host.start()
    os.kill(host.pid, signal.SIGUSR1)
    wait_until(lambda: len(commands(host.releases / "1.0", "SIGUSR1")) == 2, what="the signal")


def test_an_stderr_that_nobody_reads_holds_up_nobody(make: Make) -> None:
    """Lines are dropped; workers start, serve and are reloaded."""
    host = make(behaviour={"flood_lines": 4000})
    reader, writer = os.pipe()
    try:
        host.start(stderr=writer)
        assert host.reload()["ok"]
        assert host.get()["generation"] == 2
        os.set_blocking(reader, False)
        data = b""

        def read_note() -> bool:
            nonlocal data
            with_more = host.ask("dance")["ok"] or host.reload()["ok"]
            try:
                while True:
                    data += os.read(reader, 1 << 20)
            except BlockingIOError:
                return with_more and b"lines were dropped" in data

        wait_until(read_note, what="the count of dropped lines")
    finally:
        os.close(reader)
        os.close(writer)

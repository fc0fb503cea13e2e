"""Reloads: clients notice nothing, and a bad release never serves, or not for long."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.release_dir import behave, commands
from tests.rigs.raw_client import RawClient
from tests.rigs.supervisor_process import Host, Load, has_traceback, is_running
from tests.waiting import wait_until

Make = Callable[..., Host]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return what makes a host with release 1.0 running."""
    made: list[Host] = []

    def start(*args: str, **keys: Any) -> Host:
        host = Host(tmp_path / f"host{len(made)}", *args, **keys)
        made.append(host)
        host.release("1.0")
        host.start()
        return host

    yield start
    for host in made:
        host.stop()
        assert not has_traceback(host), host.log()


def shown(host: Host) -> tuple[str, list[tuple[str, str]]]:
    """The release that is in charge, and version and state of the workers."""
    status = host.status()
    return status["version"], [(worker["version"], worker["state"]) for worker in status["workers"]]


def test_clients_notice_nothing(make: Make) -> None:
    """No request fails; the answers come from the old, then from the new version; the pid stays."""
    host = make()
    two = host.release("2.0")
    with Load(host.port) as load:
        answer = host.reload(two)
        count = len(load.versions)
        wait_until(lambda: len(load.versions) > count + 50, what="more load")
    assert load.errors == []
    assert answer["ok"], answer
    assert answer["version"] == "2.0"
    assert 0 < answer["accepting_after_s"] < 5
    assert load.versions[0] == "1.0"
    assert set(load.versions[count + 10 :]) == {"2.0"}
    status = host.status()
    assert status["pid"] == host.pid
    assert status["release_dir"] == str(two)
    last = status["last_reload"]
    assert (last["from"], last["to"], last["ok"], last["error"]) == ("1.0", "2.0", True, None)


@pytest.mark.slow
def test_ten_reloads_leave_nothing_behind(make: Make) -> None:
    """Under load: no error, the same descriptors, one worker, no old socket."""
    host = make()
    two = host.release("2.0")
    releases = [two, host.releases / "1.0"]
    with Load(host.port, clients=4) as load:
        host.reload(two)
        before = host.descriptors()
        for number in range(10):
            answer = host.reload(releases[number % 2])
            assert answer["ok"], answer
        wait_until(lambda: host.descriptors() <= before, what="flat descriptors")
    assert load.errors == []
    assert set(load.statuses) == {200}
    assert len(host.pids()) == 1
    assert host.worker()["generation"] == 12
    assert sorted(path.name for path in (host.root / "shared/run").iterdir()) == [
        "control.sock",
        "w0-g12.sock",
    ]


def test_the_steps_are_told_in_order(make: Make) -> None:
    """And the workers are commanded in an order that lets nothing get lost between them."""
    host = make()
    two = host.release("2.0")
    with host.connect() as sock:
        request = {"cmd": "reload", "release_dir": str(two), "version": "2.0", "bake_s": 0.2}
        events = [line.get("event") for line in host.lines(sock, request)]
    assert events == ["spawned", "ready", "accepting", "baking", "drained", None]
    old = [note["what"] for note in commands(host.releases / "1.0")]
    assert old == ["start", "peers", "go", "peers", "drain", "end of control"][: len(old)]
    wait_until(lambda: commands(two, "adopt"), what="adopt")
    new = commands(two)
    assert [note["what"] for note in new] == ["start", "peers", "go", "peers", "adopt"]
    assert new[0]["settings"]["has_predecessor"] is True
    peers = [[peer["generation"] for peer in note["workers"]] for note in new if note["what"] == "peers"]
    assert peers == [[1, 2], [2]]


def test_several_workers(make: Make) -> None:
    """Each slot is handed on; all old workers drain only when all new ones accept."""
    host = make("--workers", "3")
    two = host.release("2.0")
    assert len(host.workers()) == 3
    with Load(host.port) as load:
        assert host.reload(two)["ok"]
    assert load.errors == []
    status = host.status()["workers"]
    assert [(one["slot"], one["version"], one["state"]) for one in status] == [
        (slot, "2.0", "accepting") for slot in range(3)
    ]
    wait_until(lambda: sorted(note["slot"] for note in commands(two, "adopt")) == [0, 1, 2], what="adopt")
    last = commands(two, "peers")[-1]["workers"]
    assert sorted(peer["slot"] for peer in last) == [0, 1, 2]
    starts = [note["settings"] for note in commands(host.releases / "1.0", "start")]
    assert sorted((one["slot"], one["count"], one["has_predecessor"]) for one in starts) == [
        (slot, 3, False) for slot in range(3)
    ]


BAD = {
    "import": ({"import_error": "no module named uvloop"}, "start", "no module named uvloop"),
    "exit": ({"exit_code": 2}, "start", "exit code 2"),
    "hang": ({"hang": True}, "ready", "does not answer"),
    "503": ({"ready_status": 503}, "ready", "503"),
    "version": ({"says": "9.9"}, "version", "9.9"),
}


@pytest.mark.parametrize(("behaviour", "stage", "reason"), BAD.values(), ids=BAD)
def test_a_bad_release_never_serves(make: Make, behaviour: Any, stage: str, reason: str) -> None:
    """The error names the stage and the reason, and the old worker has not noticed."""
    host = make()
    pid = host.worker()["pid"]
    bad = host.release("2.0", **behaviour)
    with Load(host.port, clients=2) as load:
        answer = host.reload(bad, timeout_s=1 if "hang" in behaviour else 4 if stage == "ready" else 30)
    assert load.errors == []
    assert set(load.versions) == {"1.0"}
    assert answer["ok"] is False
    assert answer["stage"] == stage
    assert stage in answer["error"]
    assert reason in answer["error"] + "".join(answer["log"])
    assert host.worker()["pid"] == pid
    assert host.pids() == [pid]
    assert [note["what"] for note in commands(host.releases / "1.0")] == ["start", "peers", "go"]
    assert host.status()["last_reload"]["error"] == answer["error"]
    assert host.reload(host.release("3.0"))["ok"]


BAKED = {
    "exit": ({"exit_after_s": 0.4}, "exit code 3"),
    "unready": ({"unready_after_s": 0.1}, "/readyz answers 503"),
    "errors": ({"error_every": 5}, "5xx"),
    "unproven": ({"unproven": {"edge-1": "unproven: passed on"}}, "edge-1 would turn unproven: passed on"),
}


@pytest.mark.parametrize(("behaviour", "reason"), BAKED.values(), ids=BAKED)
def test_a_release_that_goes_bad_is_taken_back(make: Make, behaviour: Any, reason: str) -> None:
    """Within the bake; no connection is refused, and the old release serves with workers of its own."""
    host = make()
    bad = host.release("2.0", **behaviour)
    with Load(host.port, clients=4) as load:
        answer = host.reload(bad, bake_s=10)
        count = len(load.versions)
        wait_until(lambda: len(load.versions) > count + 20, what="more load")
    assert answer["ok"] is False
    assert answer["stage"] == "bake"
    assert reason in answer["error"]
    assert "1.0, serves again" in answer["error"]
    if "exit_after_s" in behaviour:
        assert "the scripted end" in answer["log"]
        assert len(load.errors) <= 4  # what the dying worker had open
    else:
        assert load.errors == []
    assert set(load.versions[count + 8 :]) == {"1.0"}
    assert shown(host) == ("1.0", [("1.0", "accepting")])
    assert host.worker()["restarts"] == 0
    last = host.status()["last_reload"]
    assert (last["to"], last["ok"]) == ("2.0", False)


def test_when_the_way_back_fails_too_what_is_alive_serves(make: Make) -> None:
    """The release before does not start any more: the bad one goes on, and the error says both."""
    host = make()
    behave(host.releases / "1.0", import_error="gone bad")
    answer = host.reload(host.release("2.0", unready_after_s=0), bake_s=10)
    assert answer["ok"] is False
    assert "the way back to 1.0 failed too" in answer["error"]
    assert "gone bad" in "".join(answer["log"])
    assert shown(host) == ("2.0", [("2.0", "accepting")])
    assert host.get()["version"] == "2.0"


def test_the_bake_can_be_left_to_the_supervisor(make: Make) -> None:
    """``wait_bake: false`` answers as soon as the new version accepts; status tells the rest."""
    host = make()
    answer = host.reload(host.release("2.0", exit_after_s=0.3), bake_s=10, wait_bake=False)
    assert answer["ok"]
    assert host.status()["state"] == "baking"
    assert "under way" in host.reload(host.releases / "1.0")["error"]
    wait_until(lambda: host.status()["state"] == "serving", what="the return")
    assert shown(host) == ("1.0", [("1.0", "accepting")])
    assert host.status()["last_reload"]["ok"] is False


def test_the_bake_ends_when_enough_requests_were_seen_good(make: Make) -> None:
    """Under load the next host need not wait for the rest of it."""
    host = make()
    began = time.monotonic()
    assert host.reload(host.release("2.0", busy_count=1000), bake_s=60)["ok"]
    assert time.monotonic() - began < 50
    assert shown(host) == ("2.0", [("2.0", "accepting")])


def test_new_worker_killed_before_it_is_ready(make: Make) -> None:
    """The old one serves on."""
    host = make()
    pending = host.begin_reload(host.release("2.0", ready_delay_s=5), "spawned")
    os.kill(host.worker("starting")["pid"], signal.SIGKILL)
    answer = pending.answer()
    assert (answer["ok"], answer["stage"]) == (False, "start")
    assert "SIGKILL" in answer["error"]
    assert shown(host) == ("1.0", [("1.0", "accepting")])


def test_new_worker_killed_after_go(make: Make) -> None:
    """It may have taken work: the old one, which serves on, adopts that."""
    host = make()
    two = host.release("2.0", accept_delay_s=5)
    pending = host.begin_reload(two, "ready")
    wait_until(lambda: commands(two, "go"), what="go")
    os.kill(host.worker("ready")["pid"], signal.SIGKILL)
    answer = pending.answer()
    assert (answer["ok"], answer["stage"]) == (False, "go")
    assert shown(host) == ("1.0", [("1.0", "accepting")])
    wait_until(lambda: commands(host.releases / "1.0", "adopt"), what="adopt")


def test_old_worker_killed_before_go(make: Make) -> None:
    """It is respawned at once, the reload goes on, and the new one takes up what was left."""
    host = make()
    two = host.release("2.0", ready_delay_s=0.5)
    pending = host.begin_reload(two, "spawned")
    os.kill(host.worker()["pid"], signal.SIGKILL)
    assert host.get()["version"] in {"1.0", "2.0"}
    assert pending.answer()["ok"]
    assert shown(host) == ("2.0", [("2.0", "accepting")])
    wait_until(lambda: commands(two, "adopt"), what="adopt")


def test_old_worker_killed_before_go_and_the_new_one_is_bad(make: Make) -> None:
    """The old release comes back although nobody served for a moment."""
    host = make()
    pending = host.begin_reload(host.release("2.0", hang=True), "spawned", timeout_s=1)
    os.kill(host.worker()["pid"], signal.SIGKILL)
    assert host.get()["version"] == "1.0"
    assert pending.answer()["stage"] == "ready"
    assert shown(host) == ("1.0", [("1.0", "accepting")])
    assert host.worker()["restarts"] == 1


def test_old_worker_killed_while_it_drains(make: Make) -> None:
    """The reload is done, and the new one adopts."""
    host = make()
    two = host.release("2.0")
    behave(host.releases / "1.0", ignores_drain=True)
    assert host.reload()["ok"]  # the worker reads it at its start
    pending = host.begin_reload(two, "accepting")
    os.kill(host.worker("draining")["pid"], signal.SIGKILL)
    assert pending.answer()["ok"]
    assert shown(host) == ("2.0", [("2.0", "accepting")])
    wait_until(lambda: commands(two, "adopt"), what="adopt")


def test_new_worker_killed_while_the_old_one_drains(make: Make) -> None:
    """Part of the bake: the old release comes back with a new worker, which waits for both before it."""
    host = make()
    behave(host.releases / "1.0", ignores_drain=True)
    assert host.reload()["ok"]
    pending = host.begin_reload(host.release("2.0"), "baking", bake_s=10)
    behave(host.releases / "1.0", ignores_drain=False)
    draining = host.worker("draining")["pid"]
    os.kill(host.worker()["pid"], signal.SIGKILL)
    pending.wait_for("returning")
    wait_until(lambda: host.get()["generation"] == 4, what="the way back")
    assert commands(host.releases / "1.0", "adopt")[-1]["generation"] != 4
    os.kill(draining, signal.SIGKILL)
    assert pending.answer()["stage"] == "bake"
    assert shown(host) == ("1.0", [("1.0", "accepting")])
    wait_until(lambda: commands(host.releases / "1.0", "adopt")[-1]["generation"] == 4, what="adopt")


def test_one_that_ignores_drain_is_killed(make: Make) -> None:
    """Two seconds after its limit; the new one has served all the time."""
    host = make(drain_timeout_s=0.2)
    behave(host.releases / "1.0", ignores_drain=True)
    assert host.reload()["ok"]
    with Load(host.port, clients=3) as load:
        answer = host.reload(host.release("2.0"))
    assert answer["ok"]
    assert "SIGKILL" in host.log()
    assert len(load.errors) <= 3  # what the killed one, which went on accepting, was answering


def test_a_request_under_way_is_answered_by_the_old_worker(make: Make) -> None:
    """A slow answer outlives the reload that replaces its worker."""
    host = make()
    answers: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: answers.append(host.get("/slow=1.5")))
    thread.start()
    wait_until(lambda: commands(host.releases / "1.0", "slow"), what="the slow request")
    assert host.reload(host.release("2.0"))["ok"]
    thread.join(10)
    assert [answer["version"] for answer in answers] == ["1.0"]


@pytest.mark.parametrize(("behaviour", "event"), [({"hang": True}, "spawned"), ({}, "baking")])
def test_a_stop_in_the_middle_drains_everything(make: Make, behaviour: Any, event: str) -> None:
    """SIGTERM: the client of the reload is told, requests under way are answered, exit 0."""
    host = make()
    answers: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: answers.append(host.get("/slow=1")))
    thread.start()
    wait_until(lambda: commands(host.releases / "1.0", "slow"), what="the slow request")
    pending = host.begin_reload(host.release("2.0", **behaviour), event, bake_s=20)
    pids = host.pids()
    os.kill(host.pid, signal.SIGTERM)
    answer = pending.answer()
    assert answer["ok"] is False
    assert "told to stop" in answer["error"]
    assert host.end() == 0
    thread.join(10)
    assert [answer["version"] for answer in answers] == ["1.0"]
    assert not any(is_running(pid) for pid in pids)


def test_a_client_that_goes_away_does_not_stop_it(make: Make) -> None:
    """The reload belongs to the supervisor."""
    host = make()
    pending = host.begin_reload(host.release("2.0", ready_delay_s=0.3), "spawned")
    pending.sock.close()
    wait_until(lambda: shown(host) == ("2.0", [("2.0", "accepting")]), what="the reload")


def test_what_is_no_release_is_refused_at_once(make: Make) -> None:
    """No folder, no Python in it, wrong types: the text says what is wrong, and nothing is started."""
    host = make()
    empty = host.releases / "empty"
    empty.mkdir()
    for request, reason in (
        ({"release_dir": str(host.releases / "none")}, "no such folder"),
        ({"release_dir": str(empty)}, "venv/bin/python is missing"),
        ({"release_dir": 7}, "release_dir"),
        ({"release_dir": "releases/\0"}, "is no path"),
        ({"bake_s": "long"}, "bake_s"),
        ({"timeout_s": -1}, "timeout_s"),
    ):
        answer = host.ask("reload", **request)
        assert answer["ok"] is False
        assert reason in answer["error"]
        assert answer["stage"] == "start"
    broken = host.release("2.0")
    (broken / "venv/bin/python").write_text("#!/nowhere/python\n")
    assert "cannot be started" in host.reload(broken)["error"]
    assert host.status()["workers"][0]["generation"] == 1
    assert host.get()["version"] == "1.0"


@pytest.mark.parametrize("way", ["command", "SIGHUP"])
def test_a_configuration_reload_is_a_reload_to_the_same_release(make: Make, way: str) -> None:
    """New workers read the new file."""
    host = make("--bake", "0")
    if way == "command":
        assert host.reload()["ok"]
    else:
        os.kill(host.pid, signal.SIGHUP)
    wait_until(lambda: host.worker()["generation"] == 2, what="a new worker")
    assert shown(host)[0] == "1.0"


def test_what_needs_a_restart_is_refused(make: Make) -> None:
    """Another address or data folder would be half applied; a broken file would end the new worker."""
    host = make()
    for keys, reason in (
        ({"listen": "127.0.0.1:1"}, "engine.listen has changed"),
        ({"data_dir": "elsewhere"}, "engine.data_dir has changed from var to elsewhere"),
        ({"drain_timeout_s": "long"}, "engine.drain_timeout_s"),
    ):
        host.configure(**keys)
        for answer in (host.reload(), host.reload(host.releases / "1.0")):
            assert answer["ok"] is False
            assert reason in answer["error"]
            assert str(host.config) in answer["error"]
    os.kill(host.pid, signal.SIGHUP)
    wait_until(lambda: "SIGHUP: " in host.log(), what="the refusal in the log")
    last = host.status()["last_reload"]
    assert (last["by"], last["ok"]) == ("SIGHUP", False)
    assert "engine.drain_timeout_s" in last["error"]
    host.configure()
    assert host.reload()["ok"]


def test_a_hang_up_during_a_bake_is_done_after_it(make: Make) -> None:
    """What was edited meanwhile is read; several signals are one reload."""
    host = make()
    pending = host.begin_reload(host.release("2.0"), "baking", bake_s=0.5)
    for _ in range(3):
        os.kill(host.pid, signal.SIGHUP)
    assert pending.answer()["ok"]
    wait_until(lambda: host.worker()["generation"] == 3, what="the reload that was asked for")
    wait_until(lambda: host.status()["state"] == "serving", what="its end")
    assert host.status()["last_reload"]["by"] == "SIGHUP"
    assert host.worker()["generation"] == 3
    assert "SIGHUP: the supervisor is baking, a reload follows" in host.log()


def test_kept_connections_are_not_cut(make: Make) -> None:
    """A client between two requests gets an answer that says close."""
    host = make()
    with RawClient(host.port) as client:
        ask = b"GET / HTTP/1.1\r\nHost: engine\r\n\r\n"
        assert client.ask(ask).headers["connection"] == "keep-alive"
        pending = host.begin_reload(host.release("2.0"), "accepting")
        wait_until(lambda: commands(host.releases / "1.0", "drain"), what="drain")
        answer = client.ask(ask)
        assert (answer.headers["connection"], answer.json["version"]) == ("close", "1.0")
        assert pending.answer()["ok"]

"""release.host: the history decides where a rollback goes and what pruning keeps."""

import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.host_calls import HostCalls, Refusal


@pytest.fixture
def host(tmp_path: Path) -> HostCalls:
    """A host whose releases are empty, but for what makes them count."""
    return HostCalls(tmp_path / "root")


def have(host: HostCalls, *versions: str) -> None:
    for at, version in enumerate(versions):
        folder = host.root / "releases" / version
        folder.mkdir(parents=True)
        (folder / ".verified").write_text(json.dumps({"version": version, "at": at, "files": {}}))


def point(host: HostCalls, name: str, version: str) -> None:
    (host.root / name).unlink(missing_ok=True)
    (host.root / name).symlink_to(f"releases/{version}")


def remember(host: HostCalls, *steps: str) -> None:
    """Write history: ``2`` is a reload, ``2>1`` a rollback, ``2>>1`` one by itself, ``!2`` a failure."""
    version = ""
    for step in steps:
        left, _, to = step.partition(">")
        action = "reload" if not to else "auto-rollback" if to.startswith(">") else "rollback"
        version = to.strip(">") or left.strip("!")
        host.call(
            "append",
            entry={"action": action, "version": version, "from": left, "ok": not step.startswith("!")},
        )
    point(host, "current", version)


@pytest.mark.parametrize(
    ("steps", "goes_to"),
    [
        (["1", "2"], "1"),
        (["1", "2", "3"], "2"),
        (["3", "1", "2"], "1"),  # not by the order of names
        (["1", "2", "2"], "1"),  # its configuration was reloaded
        (["1", "2", "1"], "2"),  # the older one was brought on purpose
        (["1", "2", "3", "3>2"], "1"),  # not back to what was left
        (["1", "2", "3", "3>>2"], "1"),
        (["1", "2", "3", "3>1", "3"], "1"),  # nor to what the way back passed by
        (["1", "2", "3", "3>2", "3"], "2"),  # it was mended and brought again
        (["1", "!2", "3"], "1"),  # it never served
        (["1", "9", "3"], "1"),  # its release is not here any more
    ],
)
def test_a_rollback_goes_to_the_last_good_one_before(host: HostCalls, steps: list[str], goes_to: str) -> None:
    have(host, "1", "2", "3")
    remember(host, *steps)
    assert host.call("previous")["version"] == goes_to


def test_without_a_good_one_before_there_is_no_way_back(host: HostCalls) -> None:
    with pytest.raises(Refusal, match="no good release before the current one"):
        host.call("previous")
    have(host, "1", "2")
    remember(host, "1")
    with pytest.raises(Refusal, match="no good release before 1 on this host") as caught:
        host.call("previous")
    assert caught.value.kind == "missing"
    remember(host, "2", "2>1")
    with pytest.raises(Refusal, match="no good release before 1 on this host"):
        host.call("previous")


def test_a_release_that_was_damaged_is_no_way_back(host: HostCalls) -> None:
    have(host, "1", "2", "3")
    remember(host, "1", "2", "3")
    (host.root / "releases/2/.verified").unlink()
    assert host.call("previous")["version"] == "1"
    assert host.call("status")["unverified"] == ["2"]


def test_what_was_unpacked_ahead_stays_until_somebody_prunes(host: HostCalls) -> None:
    """A deploy prunes by itself; it does not take one that failed, or that was left, for one that waits."""
    have(host, "1", "2", "3", "4")
    remember(host, "1", "!2", "3")
    for version, at in (("4", time.time() + 60), ("5", time.time() + 60)):
        folder = host.root / "releases" / version
        folder.mkdir(exist_ok=True)
        (folder / ".verified").write_text(json.dumps({"version": version, "at": at, "files": {}}))
    done = host.call("prune", keep=1, automatic=True)
    assert done["kept"] == {"3": "it is current", **dict.fromkeys(["4", "5"], "it was unpacked ahead")}
    assert done["removed"] == ["1", "2"]
    assert host.call("prune", keep=1)["removed"] == ["4", "5"]


def test_pruning_keeps_the_last_good_ones_by_when_they_served(host: HostCalls) -> None:
    """Then those that never did, the last unpacked first; it says why of each."""
    have(host, "10", "9", "8", "7", "2", "1")
    remember(host, "1", "10", "9")
    point(host, "previous", "10")
    wanted = host.call("prune", keep=4, dry_run=True)
    assert (sorted(wanted["kept"]), wanted["removed"]) == (["1", "10", "2", "9"], ["7", "8"])
    done = host.call("prune", keep=3)
    assert done["kept"] == {
        "1": "one of the last good ones",
        "10": "it is previous",
        "9": "it is current",
    }
    assert done["why"] == dict.fromkeys(["2", "7", "8"], "older than the last 3")
    assert [event["version"] for event in host.events] == ["2", "7", "8"]
    entry = host.call("history", limit=1)["entries"][0]
    assert (entry["action"], entry["version"]) == ("prune", "2,7,8")
    assert host.call("prune", keep=3)["removed"] == []


def test_pruning_spares_the_current_one_without_any_history(host: HostCalls) -> None:
    have(host, "1", "2")
    point(host, "current", "1")
    assert host.call("prune", keep=1)["removed"] == ["2"]
    assert (host.root / "releases/1").is_dir()


def test_pruning_spares_a_release_that_only_a_process_uses(host: HostCalls) -> None:
    """As orphans of a supervisor that was killed: no link and no supervisor tells of them."""
    have(host, "1", "2", "3")
    remember(host, "3")
    program = host.root / "releases/1/venv/bin/sleep"
    program.parent.mkdir(parents=True)
    program.symlink_to("/bin/sleep")
    processes = [
        subprocess.Popen([program, "60"]),
        subprocess.Popen(["sleep", "60"], cwd=host.root / "releases/2"),
    ]
    try:
        done = host.call("prune", keep=1)
        assert done["removed"] == []
        assert done["kept"] == {"1": "a process uses it", "2": "a process uses it", "3": "it is current"}
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert host.call("prune", keep=1)["removed"] == ["1", "2"]


def test_the_last_operation_of_a_run_gives_its_lock_back_in_the_same_call(host: HostCalls) -> None:
    """One that is refused leaves the lock where it is."""
    have(host, "1", "2")
    point(host, "current", "2")
    host.call("lock", token="mine", ttl_s=60)
    with pytest.raises(Refusal, match="the lock is not ours any more"):
        host.call("prune", keep=1, token="other", unlock=True)
    with pytest.raises(Refusal, match="keep: takes a number from 1"):
        host.call("prune", keep=0, token="mine", unlock=True)
    assert host.call("facts")["lock"]["token"] == "mine"
    assert host.call("prune", keep=1, token="mine", unlock=True)["removed"] == ["1"]
    assert host.call("facts")["lock"] is None


def test_pruning_touches_nothing_that_is_no_release(host: HostCalls) -> None:
    have(host, "1")
    point(host, "current", "1")
    (host.root / "releases/lost+found").mkdir()
    (host.root / "releases/2").write_text("a file")
    assert host.call("prune", keep=1)["removed"] == []


def test_pruning_stops_where_the_supervisor_cannot_be_asked(host: HostCalls) -> None:
    """It might run anything."""
    have(host, "1", "2")
    host.call("prune", keep=2)
    descriptor = os.open(host.root / "shared/run", os.O_PATH)
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.bind(f"/proc/self/fd/{descriptor}/control.sock")
        stuck.listen()
        os.close(descriptor)
        with pytest.raises(Refusal, match="the supervisor does not answer") as caught:
            host.call("prune", keep=1)
    assert caught.value.kind == "supervisor"
    assert (host.root / "releases/1").is_dir()


def test_many_at_once_lose_no_entry(host: HostCalls) -> None:
    def add(number: int) -> None:
        HostCalls(host.root).call("append", entry={"action": "try", "version": str(number), "host": "h"})

    host.call("append", entry={"action": "begin", "version": ""})
    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries: list[dict[str, Any]] = host.call("history")["entries"]
    assert sorted(entry["version"] for entry in entries[1:]) == [str(number) for number in range(8)]


def test_a_torn_last_line_is_passed_over_wherever_it_was_torn(host: HostCalls) -> None:
    have(host, "1", "2")
    remember(host, "1", "2")
    path = host.root / "history.jsonl"
    whole = path.read_bytes()
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    for end in (*range(start, len(whole), 20), len(whole) - 1):
        path.write_bytes(whole[:end])
        assert host.call("history")["entries"][0]["version"] == "1"
        host.call("append", entry={"action": "reload", "version": "2", "ok": True})
        assert host.call("previous")["version"] == "1"

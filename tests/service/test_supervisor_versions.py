"""A supervisor of the release before replaces itself by this one and back, and only by what is whole."""

import hashlib
import os
import py_compile
import shutil
import signal
from collections.abc import Callable, Iterator
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import supervisors
from tests.fakes.release_dir import commands
from tests.rigs.supervisor_process import Host, Load, has_traceback
from tests.waiting import wait_until

Change = Callable[[Path], object]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Return a host with a release and two slots, not started."""
    with Host(tmp_path / "host", "--workers", "2") as host:
        host.release("1.0")
        yield host
        assert not has_traceback(host), host.log()


def listening(host: Host) -> set[str]:
    """Return the inodes of the listening TCP sockets of the supervisor's process."""
    lines = [line.split() for line in Path(f"/proc/{host.pid}/net/tcp").read_text().splitlines()[1:]]
    listen = {columns[9] for columns in lines if columns[3] == "0A"}
    open_files = {str(path.readlink()) for path in Path(f"/proc/{host.pid}/fd").iterdir()}
    return {f"socket:[{inode}]" for inode in listen} & open_files


def kept(host: Host) -> list[list[Any]]:
    """Return what a replacement must not change of the workers."""
    keys = ("slot", "pid", "generation", "restarts", "version", "state")
    return [[worker[key] for key in keys] for worker in host.status()["workers"]]


def digest(host: Host) -> str:
    return hashlib.sha256(host.file.read_bytes()).hexdigest()


def kill_one(host: Host) -> None:
    """Kill a worker and wait for the one after it."""
    victim = host.worker()["pid"]
    os.kill(victim, signal.SIGKILL)

    def is_replaced() -> bool:
        pids = [worker["pid"] for worker in host.workers()]
        return len(pids) == 2 and victim not in pids

    wait_until(is_replaced, what="the respawn")


def test_one_of_the_release_before_becomes_this_one_and_back(host: Host) -> None:
    """Under load, with the same process, listening socket and workers; both go on reloading."""
    single = supervisors.one_file()
    supervisors.put_file(host.file.parent, single)
    host.start()
    pid, workers, sockets = host.status()["pid"], kept(host), listening(host)
    assert len(sockets) == 1
    with Load(host.port, clients=4) as load:
        host.install()
        assert host.ask("replace", supervisor=str(host.file))["supervisor_sha256"] == digest(host)
        assert (host.status()["pid"], kept(host), listening(host)) == (pid, workers, sockets)
        assert host.status()["supervisor_sha256"] == digest(host)
        assert host.reload(host.release("2.0"))["ok"]

        workers = kept(host)
        supervisors.put_file(host.file.parent, single)
        assert host.ask("replace", supervisor=str(host.file))["ok"]
        assert (host.status()["pid"], kept(host), listening(host)) == (pid, workers, sockets)
        assert host.status()["supervisor_sha256"] == hashlib.sha256(single).hexdigest()
        assert host.reload(host.release("3.0"))["ok"]
    assert load.errors == []
    assert load.versions[-1] == "3.0"
    os.kill(host.pid, signal.SIGTERM)
    assert host.end() == 0


def test_counters_go_on_in_the_next_one(host: Host) -> None:
    """Those of restarts and generations are handed over between the two forms."""
    supervisors.put_file(host.file.parent, supervisors.one_file())
    host.start()
    kill_one(host)
    host.install()
    assert host.ask("replace")["ok"]
    assert sum(worker["restarts"] for worker in host.workers()) == 1
    kill_one(host)
    generations = [note["settings"]["generation"] for note in commands(host.releases / "1.0", "start")]
    assert sorted(generations) == [1, 2, 3, 4]


def add_a_line(folder: Path) -> None:
    with (folder / "start.py").open("a") as file:
        file.write("# changed\n")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (shutil.rmtree, "is missing"),
        (lambda folder: (folder / "worker.py").unlink(), "is not what it was made for"),
        (lambda folder: (folder / "json.py").touch(), "is not what it was made for"),
        (add_a_line, "is not what it was made for"),
    ],
    ids=["missing", "less", "more", "changed"],
)
@pytest.mark.parametrize("before", ["one file", "folder"])
def test_a_folder_that_is_not_whole_is_never_run(host: Host, before: str, change: Change, why: str) -> None:
    """Neither in place of a running supervisor, which goes on, nor at a start."""
    if before == "one file":
        supervisors.put_file(host.file.parent, supervisors.one_file())
    host.start()
    workers = kept(host)
    change(host.install(("status.py", "", "# another\n")))
    answer = host.ask("replace")
    assert not answer["ok"]
    assert f"{why}; a deploy puts it there again" in answer["error"]
    assert (kept(host), host.status()["state"]) == (workers, "serving")
    host.stop()
    host.start(wait=False)
    assert host.end() == 1
    assert why in host.log()


def test_a_releases_own_folder_stands_in_for_one_that_is_missing(host: Host) -> None:
    """A controller of the release before brings the file and no folder."""
    supervisors.put_file(host.file.parent, supervisors.one_file())
    host.start()
    workers = kept(host)
    shutil.copytree(host.install(), host.releases / "1.0/supervisor")
    shutil.rmtree(next(host.file.parent.glob("supervisor-*")))
    assert host.ask("replace", supervisor=str(host.file))["supervisor_sha256"] == digest(host)
    assert kept(host) == workers
    assert list(host.file.parent.glob("supervisor-*")) == []


def test_bytecode_beside_a_module_is_not_run(host: Host, tmp_path: Path) -> None:
    """The digest does not cover it."""
    (folder,) = host.file.parent.glob("supervisor-*")
    wrong = tmp_path / "wrong.py"
    wrong.write_text("raise RuntimeError('bytecode ran')\n")
    cached = Path(cache_from_source(str(folder / "start.py")))
    py_compile.compile(
        str(wrong), cfile=str(cached), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    host.start()
    assert host.get()["version"] == "1.0"
    assert list(folder.glob("__pycache__/*")) == [cached]

"""Power cuts, in a short form; ``python -m tests.rigs.power_loss`` makes hundreds of them."""

import random
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.rigs.engine_process import ROOT
from tests.rigs.forgetful_disk import ForgetfulDisk, Left
from tests.rigs.power_loss import Plan, Run
from tests.rigs.syscalls import Call, FileCalls, has_ended, has_strace, traced
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not has_strace(), reason="strace is not installed")


def test_everything_answered_202_is_there_after_a_power_cut(tmp_path: Path) -> None:
    """From the first start on an empty disk on."""
    run = Run(Plan(cuts=30, seconds=0.6, pause_s=0.02, whole=1), tmp_path, say=print)
    run.record()
    report = run.check()
    assert report.is_good, str(report)
    run.plan.cuts = 0  # but for the one at the end
    assert run.check(is_lying=True).bad_cuts, "a disk that syncs nothing loses everything, and it is found"


@pytest.mark.slow
def test_workers_that_are_reloaded_lose_nothing_in_a_power_cut_either(tmp_path: Path) -> None:
    run = Run(Plan(workers=2, cuts=100, seconds=3, pause_s=0.01, whole=2), tmp_path, say=print)
    run.record()
    report = run.check()
    assert report.is_good, str(report)


@pytest.mark.redis
def test_everything_answered_202_is_in_a_redis_that_syncs_always(tmp_path: Path) -> None:
    run = Run(Plan(store="redis", cuts=8, seconds=0.6, pause_s=0.02, whole=0), tmp_path, say=print)
    run.record()
    report = run.check()
    assert report.is_good, str(report)
    assert "appendfsync" not in run.log


@pytest.mark.redis
def test_a_redis_that_syncs_once_a_second_loses_no_more_than_two_and_the_engine_says_so(
    tmp_path: Path,
) -> None:
    plan = Plan(store="redis", fsync="everysec", cuts=2, seconds=1.6, pause_s=0.02, whole=0)
    run = Run(plan, tmp_path, say=print)
    run.record()
    report = run.check()
    assert report.bad_cuts, str(report)
    assert report.oldest_missing_s < 3, str(report)
    assert "appendfsync everysec" in run.log


_KEPT = {
    "a host's history": (
        "from types import SimpleNamespace; from release.agent import history; "
        "history.append(SimpleNamespace(root=folder), action='unpack')"
    ),
    "the history here": (
        "from release.hosts.journal import Journal; Journal(folder / 'state').append(action='unpack')"
    ),
    "a run under way": (
        "from release.hosts.journal import Journal, Run; "
        "Journal(folder / 'state').begin(Run(deploy_id='1', token='t', action='deploy', version='1.0', "
        "root='/srv', hosts=['a'], who='me', where='here', at=1.0))"
    ),
    "a key": "from release.repository.signing import new_key; new_key(folder / 'keys/key.pem')",
    "an artefact": (
        "import io; from release.repository.transports.folder import FolderTransport as Folder; "
        "to = Folder(folder / 'repository'); to.commit(to.stage(io.BytesIO(b'content')), 'index.json')"
    ),
    "the serial of an index": (
        "from release.repository.serials import SerialMemory; "
        "SerialMemory(folder / 'state', 'http://repository.example').remember(7, 'id')"
    ),
}


@pytest.mark.parametrize("program", _KEPT.values(), ids=_KEPT.keys())
def test_what_the_pipeline_has_written_down_outlives_a_power_cut(tmp_path: Path, program: str) -> None:
    folder, log = tmp_path / "disk", tmp_path / "calls"
    folder.mkdir()
    text = f"import pathlib; folder = pathlib.Path({str(folder)!r}); {program}"
    subprocess.run([*traced(log), sys.executable, "-c", text], check=True, cwd=ROOT)
    wait_until(partial(has_ended, log), what="the log being written")
    disk = ForgetfulDisk(folder)
    for call in FileCalls(log, folder):
        disk.apply(call)
    disk.restore(tmp_path / "left", Left.NOTHING, random.Random(0))
    assert _files(tmp_path / "left") == _files(folder) != {}


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


class _Disk:
    """A disk, with calls made by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disk = ForgetfulDisk(folder / "disk")

    def do(self, kind: str, name: str, offset: int = 0, data: bytes = b"", other: str = "") -> None:
        path = self.folder / "disk" / name
        moved = str(self.folder / "disk" / other) if other else ""
        self.disk.apply(Call(kind, 0.0, str(path), offset, data, moved))

    def sync(self, name: str) -> None:
        self.do("sync_begins", name)
        self.do("sync_ends", name)

    def left(self, left: Left, seed: int = 0) -> dict[str, bytes]:
        place = self.folder / f"{left.value}-{seed}"
        self.disk.restore(place, left, random.Random(seed))
        return {path.name: path.read_bytes() for path in place.iterdir()}


def test_the_disk_keeps_what_was_synced_when_its_sync_began(tmp_path: Path) -> None:
    disk = _Disk(tmp_path)
    disk.do("create", "a")
    disk.do("write", "a", 0, b"first")
    disk.do("sync_begins", "a")
    disk.do("write", "a", 5, b" late")
    disk.do("sync_ends", "a")
    assert disk.left(Left.NOTHING) == {}, "its name is in no folder"
    disk.sync("")
    assert disk.left(Left.NOTHING, 1) == {"a": b"first"}
    assert disk.left(Left.ALL) == {"a": b"first late"}
    disk.do("move", "a", other="b")
    disk.do("truncate", "b", 2)
    assert disk.left(Left.NOTHING, 2) == {"a": b"first"}
    assert {*disk.left(Left.ORDERED)} in ({"a"}, {"b"})
    disk.sync("")
    disk.sync("b")
    assert disk.left(Left.NOTHING, 3) == {"b": b"fi"}


def test_the_disk_keeps_some_of_the_rest_in_any_order(tmp_path: Path) -> None:
    disk = _Disk(tmp_path)
    disk.do("create", "a")
    disk.sync("")
    disk.do("write", "a", 0, b"x" * 1024)
    disk.do("write", "a", 1024, b"y" * 512)
    found = {disk.left(Left.SOME, seed)["a"] for seed in range(100)}
    assert {b"", b"x" * 1024, bytes(1024) + b"y" * 512, bytes(512) + b"x" * 512} <= found


_PROGRAM = """
import os, sys
os.chdir(sys.argv[1])
os.mkdir("in")
with open("in/a", "w") as file:
    file.write("one")
    file.flush()
    os.fsync(file.fileno())
    file.write(" two")
with open("in/a", "a") as file:
    file.write(" three")
descriptor = os.open("in/a", os.O_RDWR)
os.pwrite(descriptor, b"O", 0)
os.rename("in/a", "in/b")
os.ftruncate(descriptor, 7)
if os.fork() == 0:
    os.writev(os.open("c", os.O_CREAT | os.O_WRONLY), [b"of a", b" child"])
    os._exit(0)
os.wait()
"""


def test_what_a_program_does_to_its_files_is_seen(tmp_path: Path) -> None:
    folder, log = tmp_path / "disk", tmp_path / "calls"
    folder.mkdir()
    subprocess.run([*traced(log), sys.executable, "-I", "-S", "-c", _PROGRAM, folder], check=True)
    wait_until(partial(has_ended, log), what="the log being written")
    disk = ForgetfulDisk(folder)
    for call in FileCalls(log, folder):
        disk.apply(call)
    disk.restore(tmp_path / "all", Left.ALL, random.Random(0))
    assert (tmp_path / "all/in/b").read_bytes() == (folder / "in/b").read_bytes() == b"One two"
    assert (tmp_path / "all/c").read_bytes() == b"of a child"
    disk.restore(tmp_path / "nothing", Left.NOTHING, random.Random(0))
    assert list((tmp_path / "nothing").iterdir()) == []

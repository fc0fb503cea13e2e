"""release.repository and its lock: publishers at once, killed at every step, on a full disk.

Publishers are processes where they are killed or run at once; the index is whole whatever happens to them.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest

from release.errors import LockedError, RepositoryError
from release.repository.index import Index
from release.repository.lock import BREAK, LOCK, Holder, PublishLock, this_process
from release.repository.repository import Repository, open_repository
from release.repository.signed import INDEX
from release.repository.transports.folder import FolderTransport
from release.repository.transports.transport import TEMPORARY
from release.settings import Settings
from tests.fakes import artefacts
from tests.rigs.sftpd import Sshd

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd")).running() as server:
        yield server


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    return artefacts.signer(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "srv" / "repository"


def reader(folder: Path, chosen: Settings, tmp_path: Path, **more: Any) -> Repository:
    """Return the repository as a machine sees it that has not seen it before."""
    fresh = msgspec.structs.replace(chosen, state_dir=str(tmp_path / f"fresh-{time.monotonic_ns()}"))
    return Repository(FolderTransport(folder), fresh, **more)


def versions(index: Index) -> list[str]:
    return sorted(index.versions())


def order(url: str, path: Path, chosen: Settings, **more: Any) -> list[str]:
    values = {"url": url, "path": str(path), "settings": msgspec.structs.asdict(chosen), **more}
    return [sys.executable, "-m", "tests.fakes.publisher", json.dumps(values)]


def start(*args: Any, **more: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        order(*args, **more), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_publishers_at_the_same_time_lose_nothing(
    sshd: Sshd, folder: Path, chosen: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of them by the folder, half over SSH to the same folder."""
    monkeypatch.setenv("HOME", str(sshd.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    wanted = [f"1.{number}" for number in range(6)]
    urls = [str(folder), sshd.url(folder)]
    started = [
        start(urls[number % 2], artefacts.make(tmp_path, version, content=os.urandom(50_000)), chosen)
        for number, version in enumerate(wanted)
    ]
    for process in started:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    index = reader(folder, chosen, tmp_path).index()
    assert versions(index) == wanted
    assert {p.name for p in folder.iterdir()} == {INDEX, *(entry.file_name for entry in index.artefacts)}


def test_two_of_one_version_with_other_bytes_never_mix(
    folder: Path, chosen: Settings, tmp_path: Path
) -> None:
    """One wins, the other is refused; what is there is what the index says."""
    paths = [artefacts.make(tmp_path / name, content=name.encode() * 9000) for name in ("a", "b")]
    started = [start(str(folder), path, chosen) for path in paths]
    codes = [(process.wait(60), process.communicate()[1]) for process in started]
    assert sorted(code for code, _ in codes) == [0, 1]
    assert "is published with other bytes" in next(errors for code, errors in codes if code)
    opened = reader(folder, chosen, tmp_path)
    opened.fetch(opened.index().artefacts[0], tmp_path / "to")


def test_a_publisher_killed_at_any_step_leaves_an_index_that_is_whole(
    folder: Path, chosen: Settings, tmp_path: Path
) -> None:
    """SIGKILL at every step. Then the next one publishes at once, and has nothing to wait for or repair."""
    first, second, third = (artefacts.make(tmp_path, version, content=b"x" * 3000) for version in "123")
    done = subprocess.run(order(str(folder), first, chosen), cwd=ROOT, check=True, capture_output=True)
    base = {p.name: p.read_bytes() for p in folder.iterdir()}
    probe = tmp_path / "probe"
    Repository(FolderTransport(probe), chosen).publish(first)
    done = subprocess.run(order(str(probe), second, chosen), cwd=ROOT, check=True, capture_output=True)
    steps = json.loads(done.stdout)["steps"]
    assert steps > 25
    outcomes = []
    for kill_at in range(1, steps + 1):
        place = tmp_path / f"kill-{kill_at}"
        place.mkdir()
        for name, content in base.items():
            (place / name).write_bytes(content)
        own = msgspec.structs.replace(chosen, state_dir=f"{place}-state")  # else a copy is an old index
        process = start(str(place), second, own, kill_at=kill_at)
        process.communicate(timeout=30)
        assert process.returncode == -9
        opened = reader(place, chosen, tmp_path)
        found = opened.index()
        for entry in found.artefacts:
            opened.fetch(entry, tmp_path / "fetched")
        outcomes.append(len(found.artefacts))
        began = time.monotonic()
        opened.publish(third)
        opened.publish(second)
        assert time.monotonic() - began < 25, f"step {kill_at}: the lock of a dead process was waited for"
        assert versions(opened.index()) == ["1", "2", "3"]
        left = {p.name for p in place.iterdir()} - {INDEX} - {e.file_name for e in opened.index().artefacts}
        assert all(name.startswith(TEMPORARY) for name in left), left
    assert outcomes == sorted(outcomes), "once the new index is there, it stays"
    assert {1, 2} == set(outcomes)


@pytest.mark.parametrize("way", ["folder", "ssh"])
@pytest.mark.parametrize("room", [3000, 40_000, 66_000])
def test_a_full_disk_leaves_the_old_index(
    request: pytest.FixtureRequest,
    chosen: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    room: int,
    way: str,
) -> None:
    """No room for the artefact, the lock or the index: refused with the reason; with room it works."""
    assert os.geteuid() == 0, "mounting a small file system takes root"
    disk = tmp_path / "disk"
    disk.mkdir()
    place = disk / "repository"
    url = str(place)
    if way == "ssh":
        sshd: Sshd = request.getfixturevalue("sshd")
        monkeypatch.setenv("HOME", str(sshd.home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        url = sshd.url(place)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        with open_repository(url, chosen) as repository:
            repository.publish(artefacts.make(tmp_path, "1.0"))
            before = {p.name: p.read_bytes() for p in place.iterdir()}
            second = artefacts.make(tmp_path, "1.1", content=os.urandom(60_000))
            status = os.statvfs(disk)
            (disk / "filler").write_bytes(bytes(status.f_bavail * status.f_frsize - room))
            with pytest.raises(RepositoryError, match=r"no space is left there; make room|is its disk full"):
                repository.publish(second)
            assert {p.name: p.read_bytes() for p in place.iterdir() if p.name in before} == before
            assert versions(reader(place, chosen, tmp_path).index()) == ["1.0"]
            (disk / "filler").unlink()
            repository.publish(second)
            assert versions(repository.index()) == ["1.0", "1.1"]
        assert {p.name for p in place.iterdir()} == {*before, second.name}
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


# the lock


def foreign(token: str = "t") -> bytes:
    return msgspec.json.encode(
        Holder(token=token, who="ann", host="far", machine="another", pid=1, started="1", at=1_700_000_000)
    )


def test_a_lock_of_another_machine_is_broken_when_it_does_not_move(
    folder: Path, chosen: Settings, tmp_path: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / LOCK).write_bytes(foreign())
    (folder / BREAK).write_bytes(foreign("also left behind"))
    repository = Repository(FolderTransport(folder), chosen, stale_s=0.3)
    began = time.monotonic()
    repository.publish(artefacts.make(tmp_path))
    assert time.monotonic() - began >= 0.3
    assert versions(repository.index()) == ["1.0"]
    assert not any((folder / name).exists() for name in (LOCK, BREAK))


def test_a_lock_that_is_held_is_waited_for_and_then_says_who(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / LOCK).write_bytes(foreign())
    with (
        pytest.raises(LockedError, match=r"ann on far \(pid 1\) publishes since 2023-11-14 22:13:20 UTC"),
        PublishLock(FolderTransport(folder), wait_s=0.2),
    ):
        pytest.fail("got a lock that somebody holds")
    assert (folder / LOCK).read_bytes() == foreign()


def test_a_lock_of_a_living_process_of_this_machine_is_respected(folder: Path) -> None:
    """A dead one's counts as left behind at once, and so does that of an earlier process with its number."""
    transport = FolderTransport(folder)
    with PublishLock(transport), pytest.raises(LockedError), PublishLock(transport, wait_s=0.1):
        pytest.fail("two have the lock")
    here = this_process()
    for left in (msgspec.structs.replace(here, started="1"), msgspec.structs.replace(here, pid=2**22 + 1)):
        (folder / LOCK).write_bytes(msgspec.json.encode(left))
        with PublishLock(transport, wait_s=1) as lock:
            assert lock.is_ours()


def test_many_waiters_break_a_stale_lock_and_only_one_has_it(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / LOCK).write_bytes(foreign())
    inside: list[int] = []
    most: list[int] = []

    def take(number: int) -> None:
        with PublishLock(FolderTransport(folder), stale_s=0.2, wait_s=20):
            inside.append(number)
            most.append(len(inside))
            threading.Event().wait(0.01)
            inside.remove(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1] * 8


class Overtaken(FolderTransport):
    """While it writes its index, another publisher finds its lock to be stale and publishes."""

    def __init__(self, folder: Path, meanwhile: Callable[[], object]) -> None:
        super().__init__(folder)
        self._meanwhile: Callable[[], object] | None = meanwhile

    def stage(self, content: IO[bytes]) -> str:
        staged = super().stage(content)
        meanwhile = self._meanwhile
        if meanwhile is not None and b"signatures" in (self.folder / staged).read_bytes():
            self._meanwhile = None
            meanwhile()
        return staged


def test_a_publisher_whose_lock_was_taken_writes_no_index(
    folder: Path, chosen: Settings, tmp_path: Path
) -> None:
    quick = Repository(FolderTransport(folder), chosen, stale_s=0.1)
    slow = Repository(
        Overtaken(folder, lambda: quick.publish(artefacts.make(tmp_path, "2.0"))), chosen, stale_s=30
    )
    with pytest.raises(RepositoryError, match="another publisher took over"):
        slow.publish(artefacts.make(tmp_path, "1.0"))
    assert versions(quick.index()) == ["2.0"]
    slow.publish(artefacts.make(tmp_path, "1.0"))
    assert versions(quick.index()) == ["1.0", "2.0"]


def test_what_was_left_long_ago_is_removed(folder: Path, chosen: Settings, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    old, new = (folder / f"{TEMPORARY}{name}" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    Repository(FolderTransport(folder), chosen).publish(artefacts.make(tmp_path))
    assert (old.exists(), new.exists()) == (False, True)

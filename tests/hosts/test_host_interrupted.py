"""release.host: unpacking that is killed or runs out of disk anywhere leaves nothing that counts."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import small_release
from tests.fakes.small_release import Small
from tests.rigs.host_calls import HostCalls, Refusal
from tests.waiting import wait_until

DISK_BYTES = 12 * 2**20
VERSION = "1.0.0"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small_release.small(tmp_path_factory.mktemp("artefacts"), VERSION)


@pytest.fixture
def host(tmp_path: Path) -> HostCalls:
    return HostCalls(tmp_path / "root")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def begin(host: HostCalls, stage: str, artefact: Small) -> "subprocess.Popen[bytes]":
    """Return an unpacking that has just come to *stage*."""
    process = host.start("unpack", **artefact.request())
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("event") == stage:
            break
    return process


def is_whole(host: HostCalls) -> bool:
    return bool(host.call("verify", version=VERSION)["files"]) and host.call("status")["unverified"] == []


def test_what_a_killed_one_started_is_waited_for(host: HostCalls, first: Small) -> None:
    """Its installing process goes on, and must not write into the next one's release."""
    process = begin(host, "install", first)
    venv = str(host.root / "releases" / VERSION / "venv")
    wait_until(lambda: _commands_with("pip", venv), what="pip being under way")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not host.call("unpack", **first.request())["unchanged"]
    assert not _commands_with("pip", venv)
    assert is_whole(host)


def _commands_with(*words: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if all(word in text for word in words):
            found.append(text)
    return found


@pytest.mark.parametrize(
    "after_s",
    [0.25, *(pytest.param(after_s, marks=pytest.mark.slow) for after_s in (0.02, 0.1, 0.45, 0.7, 1.0))],
)
def test_killed_at_any_time_the_next_call_makes_it_whole(
    host: HostCalls, first: Small, after_s: float
) -> None:
    """With all that it started, as when the host's own time-out ends it."""
    process = host.start("unpack", **first.request())
    time.sleep(after_s)  # a moment, wherever that is
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    status = host.call("status")
    assert status["releases"] in ([], [VERSION])
    host.call("unpack", **first.request())
    assert is_whole(host)
    assert [path.name for path in host.root.iterdir() if ".new-" in path.name] == []


@pytest.mark.parametrize(
    "left_kib", [0, 200, *(pytest.param(kib, marks=pytest.mark.slow) for kib in (4, 100))]
)
def test_a_disk_that_is_too_small_leaves_nothing_half_made(disk: Path, first: Small, left_kib: int) -> None:
    """Refused as a full disk; once there is room it is whole."""
    host = HostCalls(disk / "root")
    fill(disk, left_kib * 1024)
    with pytest.raises(Refusal, match=r"disk is full|0\.\d MiB free, 0\.\d MiB are needed") as caught:
        host.call("unpack", **first.request())
    assert caught.value.kind == "disk"
    assert host.call("status")["releases"] + host.call("status")["unverified"] == []
    (disk / "filler").unlink()
    host.call("unpack", **first.request())
    assert is_whole(host)


@pytest.mark.parametrize(
    "stage", ["install", *(pytest.param(stage, marks=pytest.mark.slow) for stage in ("extract", "try"))]
)
def test_a_disk_that_fills_up_meanwhile_leaves_nothing_half_made(
    disk: Path, first: Small, stage: str
) -> None:
    host = HostCalls(disk / "root")
    process = begin(host, stage, first)
    while process.poll() is None:
        fill(disk, 0)
        time.sleep(0.001)
    out, err = process.communicate()
    answer = json.loads(out.splitlines()[-1])
    assert (answer["ok"], answer["kind"], err) == (False, "disk", b""), answer
    assert host.call("status")["releases"] + host.call("status")["unverified"] == []
    (disk / "filler").unlink()
    host.call("unpack", **first.request())
    assert is_whole(host)


def fill(disk: Path, left: int) -> None:
    """Fill a disk up to some bytes."""
    stat = os.statvfs(disk)
    count = stat.f_bavail * stat.f_frsize - left
    with contextlib.suppress(OSError), (disk / "filler").open("ab") as file:  # something else was faster
        file.write(bytes(max(count, 0)))


def test_a_disk_without_room_for_more_files_is_refused_before_the_beginning(disk: Path, first: Small) -> None:
    subprocess.run(["mount", "-o", "remount,nr_inodes=1000", str(disk)], check=True)
    with pytest.raises(Refusal, match=r"has room for \d+ more files, 4000 are needed") as caught:
        HostCalls(disk / "root").call("unpack", **first.request())
    assert caught.value.kind == "disk"


@pytest.mark.slow
def test_a_release_whose_python_is_gone_is_made_again_unless_it_is_in_use(
    host: HostCalls, first: Small
) -> None:
    """As after the host's Python was replaced."""
    host.call("unpack", **first.request())
    python = host.root / "releases" / VERSION / "venv/bin/python"
    python.unlink()
    python.symlink_to("/usr/bin/python-that-is-gone")
    (host.root / "current").symlink_to(f"releases/{VERSION}")
    assert host.call("facts")["releases"] == []
    with pytest.raises(Refusal, match="venv/bin/python points to /usr/bin/python-that-is-gone"):
        host.call("reload", version=VERSION, listen="127.0.0.1:1")
    assert not host.call("unpack", **first.request())["unchanged"]  # a link names it, nothing runs from it
    assert "its Python is gone" in host.events[0]["message"]
    assert host.call("facts")["releases"] == [VERSION]
    assert is_whole(host)


@pytest.mark.slow
def test_a_half_made_release_that_is_in_use_is_left_alone(host: HostCalls, first: Small) -> None:
    host.call("unpack", **first.request())
    release = host.root / "releases" / VERSION
    (release / ".verified").unlink()
    process = subprocess.Popen([release / "venv/bin/python", "-I", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(Refusal, match="cannot be made again: a process uses it"):
            host.call("unpack", **first.request())
        assert (release / "venv/bin/python").exists()
    finally:
        process.communicate()
    assert not host.call("unpack", **first.request())["unchanged"]


def test_a_file_that_was_put_into_the_environment_is_found(host: HostCalls, first: Small) -> None:
    host.call("unpack", **first.request())
    release = host.root / "releases" / VERSION
    (packages,) = release.glob("venv/lib/python*/site-packages")
    (packages / "evil.pth").write_text("import os\n")
    with pytest.raises(Refusal, match=r"site-packages/evil\.pth was added") as caught:
        host.call("verify", version=VERSION)
    assert caught.value.kind == "damaged"


@pytest.mark.slow
def test_what_was_brought_for_it_does_not_stay(host: HostCalls, first: Small) -> None:
    """In the cache; a file elsewhere is not ours. Also when the release is there already."""
    cache = host.root / "cache"
    cache.mkdir(parents=True)
    for _ in range(2):
        brought = cache / first.path.name
        brought.write_bytes(first.path.read_bytes())
        host.call("unpack", **first.request(file=str(brought)))
        assert list(cache.iterdir()) == []
    assert first.path.exists()

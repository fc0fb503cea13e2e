"""release.agent.artefact and verify: nothing leaves the folder, nothing is missing, nothing is changed."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from release.agent import artefact, environment, verify
from release.agent.answers import Refused
from release.agent.digests import sha256_of
from release.agent.layout import Host
from release.agent.tags import platform_tag, python_tag

TOP = "purgeline-1"


def packed(path: Path, *entries: tarfile.TarInfo | str) -> Path:
    """Write an archive of entries, or of small files by their names."""
    with tarfile.open(path, "w:gz") as archive:
        for entry in entries:
            if isinstance(entry, str):
                entry = tarfile.TarInfo(entry)  # noqa: PLW2901 - a name stands for a file
                entry.size, entry.mode = 1, 0o755
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def test_files_and_folders_come_out_with_plain_modes(tmp_path: Path) -> None:
    source = packed(tmp_path / "a.tar.gz", f"{TOP}/deep/er/file", special(f"{TOP}/empty", tarfile.DIRTYPE))
    artefact.extract(source, tmp_path / "out", TOP)
    assert (tmp_path / "out/deep/er/file").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out/empty").is_dir()


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        (["purgeline-2/a"], "not a plain path in purgeline-1/"),
        ([f"{TOP}/../a"], "not a plain path"),
        ([f"/{TOP}/a"], "not a plain path"),
        ([f"{TOP}//a"], "not a plain path"),
        ([f"{TOP}/a\x07"], "not a plain path"),
        ([f"{TOP}/a", f"{TOP}/a"], "is there twice"),
        ([special(f"{TOP}/a", tarfile.SYMTYPE, "/etc/passwd")], "is a link, a device or the like"),
        ([special(f"{TOP}/a", tarfile.LNKTYPE, "b")], "is a link"),
        ([special(f"{TOP}/a", tarfile.FIFOTYPE)], "is a link"),
        ([f"{TOP}/a", f"{TOP}/a/b"], "damaged"),
    ],
)
def test_an_unsafe_artefact_is_refused(tmp_path: Path, entries: list[Any], why: str) -> None:
    source = packed(tmp_path / "a.tar.gz", *entries)
    with pytest.raises(Refused, match=why) as caught:
        artefact.extract(source, tmp_path / "out", TOP)
    assert caught.value.kind == "artefact"


@pytest.mark.parametrize("keep_bytes", [0, 10, 40])
def test_half_an_artefact_is_damaged(tmp_path: Path, keep_bytes: int) -> None:
    source = packed(tmp_path / "a.tar.gz", f"{TOP}/a")
    source.write_bytes(source.read_bytes()[:keep_bytes])
    with pytest.raises(Refused, match="damaged"):
        artefact.extract(source, tmp_path / "out", TOP)


def manifest(folder: Path, **changes: Any) -> None:
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in folder.iterdir()
    }
    whole = {"version": "1", "python": python_tag(), "platform": platform_tag(), "files": files}
    (folder / "manifest.json").write_text(json.dumps({**whole, **changes}))


@pytest.mark.parametrize(
    ("changes", "kind", "why"),
    [
        ({"version": "2"}, "artefact", "says version 2, here it is 1"),
        ({"python": "cp38"}, "python", "says python cp38, here it is"),
        ({"files": {}}, "artefact", "a is not in the manifest"),
        ({"files": {"a": {"sha256": "0"}}}, "artefact", "a differs from the manifest"),
        ({"files": {"a": {"sha256": "0"}, "b": {}}}, "artefact", "b is missing"),
        ({"files": None}, "artefact", "has no manifest"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], kind: str, why: str
) -> None:
    (tmp_path / "a").write_text("a")
    manifest(tmp_path)
    artefact.check_manifest(tmp_path, "1")
    (tmp_path / "manifest.json").unlink()
    manifest(tmp_path, **changes)
    with pytest.raises(Refused, match=why) as caught:
        artefact.check_manifest(tmp_path, "1")
    assert caught.value.kind == kind


def test_the_file_must_be_the_one_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("abc")
    request = {"size": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}
    artefact.check(path, request)
    with pytest.raises(Refused, match="3 bytes, not 4: it did not arrive whole"):
        artefact.check(path, {**request, "size": 4})
    with pytest.raises(Refused, match="it was changed"):
        artefact.check(path, {**request, "sha256": "0"})
    with pytest.raises(Refused, match="is not on this host"):
        artefact.check(tmp_path / "gone", request)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release as it was unpacked."""
    folder = Host(tmp_path).release("1")
    (folder / "venv/__pycache__").mkdir(parents=True)
    (folder / "venv/bin").mkdir()
    for name in ("a", "b", "venv/c", "venv/__pycache__/c.pyc"):
        (folder / name).write_text(name)
    (folder / "venv/bin/python").symlink_to("/usr/bin/python3.11")
    (folder / ".verified").write_text(json.dumps({"version": "1", **verify.recorded(folder)}))
    return folder


def wrong(folder: Path, *, is_quick: bool = True) -> list[str]:
    marker = json.loads((folder / ".verified").read_text())
    return verify.differences(folder, marker, is_quick=is_quick)


def test_verify_names_what_is_missing_changed_and_added(release: Path) -> None:
    host = Host(release.parents[1])
    assert verify.verify(host, {"version": "1"}) == {"version": "1", "files": 3}
    (release / "a").unlink()
    (release / "b").write_text("other")
    (release / "venv/d").symlink_to("c")
    os.mkfifo(release / "pipe")
    with pytest.raises(Refused) as caught:
        verify.verify(host, {"version": "1"})
    said = "1: a is missing; b was changed; pipe was added and 1 more; find out who did it"
    assert str(caught.value) == f"{said}, then remove {release} and unpack it again"


def test_bytecode_and_links_are_what_was_unpacked_too(release: Path) -> None:
    (release / "venv/__pycache__/c.pyc").write_text("other")
    (release / "venv/__pycache__/d.pyc").write_text("")
    (release / "venv/bin/python").unlink()
    (release / "venv/bin/python").symlink_to("/tmp/evil")
    assert wrong(release) == [
        "venv/__pycache__/c.pyc was changed",
        "venv/__pycache__/d.pyc was added",
        "venv/bin/python points to /tmp/evil, not /usr/bin/python3.11",
    ]


def test_a_quick_look_reads_only_what_has_another_inode_length_or_time(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(verify, "sha256_of", counted)
    assert (wrong(release), read) == ([], [])
    status = (release / "a").stat()
    (release / "a").write_text("A")  # as long as before, and with the time of before
    os.utime(release / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (wrong(release), read) == (["a was changed"], ["a"])
    (release / "a").write_text("a")
    assert (wrong(release), wrong(release), read) == ([], [], ["a", "a"])
    assert wrong(release, is_quick=False) == []
    assert sorted(read[2:]) == ["a", "b", "c", "c.pyc"]
    (release / ".seen").write_text("[")
    assert (wrong(release), len(read)) == ([], 10)


def test_a_release_of_the_version_before_is_compared_by_what_it_says(release: Path) -> None:
    """Its bytecode came and went; a link that no virtual environment has is planted."""
    marker = json.loads((release / ".verified").read_text())
    (release / ".verified").write_text(json.dumps({"version": "1", "files": marker["files"]}))
    (release / "venv/__pycache__/d.pyc").write_text("")
    (release / "more").write_text("")
    assert wrong(release) == []
    (release / "venv/sitecustomize.py").symlink_to("/tmp/evil")
    (release / "venv/e").write_text("")
    assert wrong(release) == ["venv/e was added", "venv/sitecustomize.py was added"]


@pytest.mark.parametrize(
    ("interpreter", "is_lost"),
    [("python3.11", False), ("python", False), ("python3.99", True), ("gone", True)],
)
def test_a_release_whose_interpreter_is_another_now_cannot_run(
    tmp_path: Path, interpreter: str, is_lost: bool
) -> None:
    """As when ``python3`` became a newer one. A name without a number tells nothing."""
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/lib/python3.11").mkdir(parents=True)
    (tmp_path / "python3").symlink_to(interpreter)
    if interpreter != "gone":
        (tmp_path / interpreter).touch()
    (tmp_path / "venv/bin/python").symlink_to(tmp_path / "python3")
    assert environment.has_lost_python(tmp_path) is is_lost

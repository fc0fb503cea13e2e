"""release.agent.artefact and digests: nothing leaves the folder, nothing is missing, nothing is changed."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from release.agent import artefact, verify
from release.agent.answers import Refused
from release.agent.digests import lasting_files
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


def test_verify_names_what_is_missing_changed_and_added(tmp_path: Path) -> None:
    """Bytecode and links may come and go, and so may what is added outside the environment."""
    host = Host(tmp_path)
    folder = host.release("1")
    (folder / "venv/__pycache__").mkdir(parents=True)
    for name in ("a", "b", "venv/c", "venv/__pycache__/c.pyc"):
        (folder / name).write_text(name)
    (folder / "venv/link").symlink_to("c")
    assert list(lasting_files(folder)) == ["a", "b", "venv/c"]
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a", "b", "venv/c")}
    (folder / ".verified").write_text(json.dumps({"version": "1", "files": digests}))
    assert verify.verify(host, {"version": "1"}) == {"version": "1", "files": 3}
    (folder / "a").unlink()
    (folder / "b").write_text("other")
    (folder / "venv/d").write_text("")
    (folder / "venv/e").write_text("")
    with pytest.raises(Refused) as caught:
        verify.verify(host, {"version": "1"})
    said = "1: a is missing; b was changed; venv/d was added and 1 more; unpack it again under a new version"
    assert str(caught.value) == said

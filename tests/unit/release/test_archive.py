"""release.build.archive: the same files are the same bytes, and none writes where it should not."""

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from release.build import archive
from release.errors import ArtefactError


def packed(*entries: tuple[tarfile.TarInfo, bytes], compress: bool = True) -> io.BytesIO:
    """Return an archive of *entries*, as somebody with bad intentions would write it."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry, content in entries:
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return io.BytesIO(gzip.compress(raw.getvalue()) if compress else raw.getvalue())


def plain(name: str, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.linkname = target
    return entry, b""


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for number, names in enumerate([("b", "a", "c"), ("c", "a", "b")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)
            (folder / name).chmod(0o640 if number else 0o666)
            os.utime(folder / name, (number, number))
        (folder / "b").chmod(0o711 if number else 0o777)
        path = tmp_path / f"{number}.tar.gz"
        archive.write(path, {f"top/{name}": folder / name for name in names}, time=1_700_000_000)
        written.append(path.read_bytes())
    assert written[0] == written[1]
    assert written[0][3] == 0, "no name in the gzip header"
    assert written[0][4:8] == bytes(4), "no time in the gzip header"
    with tarfile.open(tmp_path / "0.tar.gz") as tar:
        entries = [(e.name, e.mode, e.uid, e.gid, e.uname, e.mtime) for e in tar]
    assert entries == [
        (f"top/{name}", mode, 0, 0, "", 1_700_000_000)
        for name, mode in (("a", 0o644), ("b", 0o755), ("c", 0o644))
    ]


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    long = "d" * 120 + "/" + "é" * 60
    (tmp_path / "file").write_bytes(b"content")
    archive.write(
        tmp_path / "a.tar.gz", {"top/x": tmp_path / "file", f"top/{long}": tmp_path / "file"}, time=5
    )
    assert sorted(archive.extract(tmp_path / "a.tar.gz", tmp_path / "to", top="top")) == [
        f"top/{long}",
        "top/x",
    ]
    assert (tmp_path / "to" / "top" / long).read_bytes() == b"content"
    assert archive.read_file(tmp_path / "a.tar.gz", "top/x", bytes_max=7) == b"content"


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([plain("/etc/x")], "absolute path"),
        ([plain("top/../../x")], "leads out"),
        ([plain("..")], "leads out"),
        ([plain("top/./x")], "no plain relative path"),
        ([plain("top//x")], "no plain relative path"),
        ([plain("top/a\nb")], "no plain relative path"),
        ([plain("top\\..\\x")], "no plain relative path"),
        ([plain("top/" + "x" * 2000)], "too long"),
        ([plain("other/x")], "is not in top/"),
        ([plain("top")], "is no folder"),
        ([special("top/x", tarfile.SYMTYPE, "/etc/passwd")], "a link, a device"),
        ([special("top", tarfile.SYMTYPE, "/tmp"), plain("top/x")], "a link, a device"),
        ([plain("top/y"), special("top/x", tarfile.LNKTYPE, "top/y")], "a link, a device"),
        ([special("top/x", tarfile.CHRTYPE)], "a link, a device"),
        ([special("top/x", tarfile.BLKTYPE)], "a link, a device"),
        ([special("top/x", tarfile.FIFOTYPE)], "a link, a device"),
        ([plain("top/x"), plain("top/x")], "is there twice"),
        ([plain("top/x"), special("top/x", tarfile.DIRTYPE)], "is there twice"),
        ([plain("top/x"), plain("top/x/y")], "is a file and a folder"),
        ([plain(f"top/{number}") for number in range(6)], "one more than the 5 allowed"),
        ([plain("top/x", bytes(100_001))], "unpacks to more than 100000 bytes"),
    ],
)
def test_an_unsafe_archive_is_refused_and_writes_nothing_outside(
    tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]], why: str
) -> None:
    to = tmp_path / "inner" / "to"
    for compress in (True, False):
        source = packed(*entries, compress=compress)
        with pytest.raises(ArtefactError, match=f"unsafe: .*{why}"):
            archive.extract(source, to, top="top", bytes_max=100_000, files_max=5)
        assert {path.name for path in tmp_path.iterdir()} == {"inner"}
        assert not any(path.is_symlink() for path in to.rglob("*"))
        for path in sorted(to.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    """A few bytes in the archive, as much as it says on the disk."""
    entry = tarfile.TarInfo("top/x")
    entry.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": "99",
        "GNU.sparse.map": "0,1",
    }
    with pytest.raises(ArtefactError, match=r"unsafe|damaged"):
        archive.extract(packed((entry, b"x")), tmp_path / "to", top="top")


def test_a_bomb_ends_early(tmp_path: Path) -> None:
    """A gigabyte of zeros in a megabyte: refused when the limit is reached, not when the disk is full."""
    entry = tarfile.TarInfo("top/x")
    entry.size = 1 << 30
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1) as file:
        file.write(entry.tobuf())
        for _ in range(64):
            file.write(bytes(1 << 20))
    raw.seek(0)
    with pytest.raises(ArtefactError, match="more than 8388608 bytes"):
        archive.extract(raw, tmp_path / "to", bytes_max=8 << 20)
    assert (tmp_path / "to/top/x").stat().st_size <= 8 << 20


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-4],
        lambda content: content[:-8] + bytes(8),
        lambda content: content[:40] + bytes(20) + content[60:],
        lambda content: b"PK\x03\x04" + content,
        lambda _content: b"",
        lambda _content: b"\x1f\x8b",
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    good = packed(plain("top/x", os.urandom(30_000))).getvalue()
    path = tmp_path / "a.tar.gz"
    path.write_bytes(damage(good))
    with pytest.raises(ArtefactError, match=r"damaged|has no top/x"):
        archive.extract(path, tmp_path / "to") or archive.read_file(path, "top/x", bytes_max=100)


def test_nothing_that_is_there_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "to" / "top").mkdir(parents=True)
    (tmp_path / "to" / "top" / "x").write_text("mine")
    with pytest.raises(ArtefactError, match="is a file and a folder"):
        archive.extract(packed(plain("top/x")), tmp_path / "to")
    assert (tmp_path / "to" / "top" / "x").read_text() == "mine"

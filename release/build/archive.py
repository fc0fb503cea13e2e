"""Writes archives that depend on their contents alone, and reads archives that nobody vouches for.

Writing: names sorted, one time for all, owner 0, modes 0644 or 0755, a gzip header without name and time.
So two archives of the same files are the same bytes.

Reading refuses what could leave the folder it is told to fill, or fill the disk: absolute names, ``..``,
links, devices, two entries of one name, more files or bytes than allowed. What was written before a refusal
is left for the caller to remove. Standard library only.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from release.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BYTES_MAX: Final = 1024**3  #: unpacked, headers included
FILES_MAX: Final = 20_000
_NAME_BYTES_MAX: Final = 1024
_CHUNK_BYTES: Final = 1024 * 1024
_EXECUTABLE: Final = 0o100
_PLAIN_TYPES: Final = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE})


def write(path: Path, files: Mapping[str, Path], *, time: int) -> None:
    """Write *files*, by their names in the archive, to the new gzipped tar *path*.

    Args:
        path: written from the start; on an error it may be there in part.
        files: name → file; of its mode only the executable bit counts.
        time: modification time of every entry, UNIX seconds.

    Raises:
        OSError: a file cannot be read or *path* not written.
    """
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(files):
            with files[name].open("rb") as content:
                status = os.fstat(content.fileno())
                entry = tarfile.TarInfo(name)
                entry.size = status.st_size
                entry.mtime = time
                entry.mode = 0o755 if status.st_mode & _EXECUTABLE else 0o644
                tar.addfile(entry, content)


def extract(
    source: Path | IO[bytes],
    to: Path,
    *,
    top: str = "",
    bytes_max: int = BYTES_MAX,
    files_max: int = FILES_MAX,
) -> list[str]:
    """Unpack the tar *source*, gzipped or plain, into the folder *to*, made if missing.

    Args:
        source: a path, or the open file.
        to: should be empty: a file that is there already is refused, never written over.
        top: the one folder that every entry must be in.
        bytes_max: most bytes that it may unpack to.
        files_max: most entries.

    Returns:
        Names of the files, in the archive's order.

    Raises:
        ArtefactError: the archive is damaged or unsafe; names the entry.
        OSError: *to* cannot be written.
    """
    names: list[str] = []
    seen: set[str] = set()
    to.mkdir(parents=True, exist_ok=True)
    with _opened(source, bytes_max) as tar:
        for entry in tar:
            name = _checked_name(entry, top)
            if name in seen or len(seen) >= files_max:
                why = "is there twice" if name in seen else f"is one more than the {files_max} allowed"
                raise ArtefactError(f"the archive is unsafe: {name!r} {why}")
            seen.add(name)
            try:
                if entry.isdir():
                    (to / name).mkdir(mode=0o755, parents=True, exist_ok=True)
                else:
                    _write_file(tar, entry, to / name)
                    names.append(name)
            except (FileExistsError, NotADirectoryError) as exc:
                raise ArtefactError(f"the archive is unsafe: {name!r} is a file and a folder") from exc
    return names


def read_file(source: Path, name: str, *, bytes_max: int) -> bytes:
    """Return the content of the file *name* in the archive *source*.

    Raises:
        ArtefactError: the archive is damaged, has no such file, or it is larger than *bytes_max*.
    """
    with _opened(source, BYTES_MAX) as tar:
        for entry in tar:
            if entry.name == name and entry.type in _PLAIN_TYPES:
                content = tar.extractfile(entry)
                if content is None or entry.size > bytes_max:
                    raise ArtefactError(f"{source}: {name} is a folder, or larger than {bytes_max} bytes")
                return content.read()
    raise ArtefactError(f"{source}: has no {name}")


@contextmanager
def _opened(source: Path | IO[bytes], bytes_max: int) -> Iterator[tarfile.TarFile]:
    """Give the archive as a stream; the rest is read on leaving, so that a wrong checksum shows."""
    label = source if isinstance(source, Path) else getattr(source, "name", "archive")
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as raw:
        magic = raw.read(2)
        raw.seek(0)
        is_packed = magic == b"\x1f\x8b"
        limited = _Limited(gzip.GzipFile(fileobj=raw) if is_packed else raw, bytes_max)
        try:
            with tarfile.open(fileobj=limited, mode="r|", errorlevel=2) as tar:
                yield tar
            while limited.read(_CHUNK_BYTES):
                pass
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as exc:
            raise ArtefactError(f"{label}: is damaged or no archive: {exc}") from exc


def _checked_name(entry: tarfile.TarInfo, top: str) -> str:
    """Return the entry's name without a closing slash, if it is a plain file or folder inside *top*."""
    name = entry.name
    refused = ""
    parts = name.split("/")
    if entry.type not in _PLAIN_TYPES or entry.issparse():
        refused = "is a link, a device or something else than a file or folder"
    elif name.startswith("/"):
        refused = "is an absolute path"
    elif ".." in parts:
        refused = "leads out of its folder"
    elif not all(parts) or "." in parts or not name.isprintable() or "\\" in name:
        refused = "is no plain relative path"
    elif len(name.encode("utf-8", "surrogatepass")) > _NAME_BYTES_MAX:
        refused = "is too long"
    elif top and parts[0] != top:
        refused = f"is not in {top}/"
    elif not entry.isdir() and len(parts) == 1 and top:
        refused = f"is no folder, but {top}/ has to be one"
    if refused:
        raise ArtefactError(f"the archive is unsafe: {name!r} {refused}")
    return name


def _write_file(tar: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    content = tar.extractfile(entry)
    assert content is not None  # it is a plain file
    mode = 0o755 if entry.mode & _EXECUTABLE else 0o644
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, mode), "wb") as file:
        remaining = entry.size
        while chunk := content.read(min(remaining, _CHUNK_BYTES)):
            file.write(chunk)
            remaining -= len(chunk)
    if remaining:
        raise ArtefactError(f"the archive is damaged: {entry.name!r} ends {remaining} bytes early")
    path.chmod(mode)  # whatever the umask is


class _Limited(io.RawIOBase):
    """Reads from *source* until more than *bytes_max* came, headers of the archive included."""

    def __init__(self, source: gzip.GzipFile | IO[bytes], bytes_max: int) -> None:
        super().__init__()
        self._source = source
        self._left = bytes_max
        self._bytes_max = bytes_max

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        wanted = _CHUNK_BYTES if size < 0 else size
        chunk = self._source.read(min(wanted, self._left + 1))
        self._left -= len(chunk)
        if self._left < 0:
            raise ArtefactError(f"the archive is unsafe: it unpacks to more than {self._bytes_max} bytes")
        return chunk

"""What an artefact says of itself: its name and its manifest.

``purgeline-V-cp311-linux_x86_64.tar.gz`` holds one folder ``purgeline-V/`` with ``manifest.json``, which
lists every other file with size and SHA-256.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

import msgspec

from release.build import archive
from release.calling import call
from release.errors import ArtefactError

if TYPE_CHECKING:
    from pathlib import Path

FORMAT: Final = 1
NAME: Final = "purgeline"
MANIFEST: Final = "manifest.json"
_MANIFEST_BYTES_MAX: Final = 4 * 1024 * 1024
_PYTHON: Final = re.compile(r"cp3\d{1,2}")
_PLATFORM: Final = re.compile(r"linux_[a-z0-9_]+")
_VERSION: Final = re.compile(r"[0-9A-Za-z.+_-]{1,120}")
_CHUNK_BYTES: Final = 1024 * 1024


class FileEntry(msgspec.Struct, frozen=True):
    """One file of an artefact."""

    sha256: str
    size: int  #: bytes


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """``manifest.json``."""

    format: int = FORMAT
    name: str = NAME
    version: str
    revision: str
    built_at: str  #: time of the commit, ISO 8601
    python: str  #: such as ``cp311``
    platform: str  #: such as ``linux_x86_64``
    compiler: str = ""  #: what compiled the hot modules; empty: they are interpreted
    files: dict[str, FileEntry]  #: all but the manifest itself

    @property
    def top(self) -> str:
        """Name of the one folder in the archive."""
        return f"{NAME}-{self.version}"

    @property
    def file_name(self) -> str:
        """Name of the artefact."""
        return file_name(self.version, self.python, self.platform)


def file_name(version: str, python: str, platform: str) -> str:
    """Return the name of an artefact."""
    return f"{NAME}-{version}-{python}-{platform}.tar.gz"


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of the artefact *path*.

    Raises:
        ArtefactError: no such file, no artefact, or its name is not what its manifest says.
    """
    top = path.name.removesuffix(".tar.gz").rsplit("-", 2)[0]
    try:
        content = archive.read_file(path, f"{top}/{MANIFEST}", bytes_max=_MANIFEST_BYTES_MAX)
        manifest = msgspec.json.decode(content, type=Manifest)
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such artefact; {call('pack')} makes one") from None
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as exc:
        raise ArtefactError(f"{path}: cannot be read: {exc}") from exc
    if manifest.format != FORMAT or manifest.name != NAME:
        raise ArtefactError(
            f"{path}: is {manifest.name!r}, format {manifest.format}; read is {NAME}, {FORMAT}"
        )
    if not (
        _VERSION.fullmatch(manifest.version)
        and _PYTHON.fullmatch(manifest.python)
        and _PLATFORM.fullmatch(manifest.platform)
    ):
        raise ArtefactError(f"{path}: its manifest names no usable version, python and platform")
    if manifest.file_name != path.name:
        raise ArtefactError(f"{path}: by its manifest this is {manifest.file_name}; give it its name back")
    return manifest


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare the files of the unpacked *folder* with *manifest*.

    Raises:
        ArtefactError: one is missing, different, or one too many; names it.
    """
    unpacked = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()} - {MANIFEST}
    for name in sorted(unpacked ^ set(manifest.files)):
        what = "is not in its manifest" if name in unpacked else "is missing"
        raise ArtefactError(f"{manifest.file_name}: {name} {what}")
    for name, entry in manifest.files.items():
        path = folder / name
        if path.stat().st_size != entry.size or sha256_of(path) != entry.sha256:
            raise ArtefactError(f"{manifest.file_name}: {name} differs from its manifest")

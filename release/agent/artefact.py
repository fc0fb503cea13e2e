"""The artefact on this host: the one of the index, extracted safely, the files of its manifest."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib

from .answers import Refused
from .digests import sha256_of
from .files import read_json
from .tags import platform_tag, python_tag

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

FILES_MAX = 20_000
UNPACKED_BYTES_MAX = 2 * 1024**3
DAMAGED = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)


def check(source: Path, request: dict[str, Any]) -> None:
    """See that the file is the one that the index names: its size and SHA-256."""
    try:
        size = source.stat().st_size
    except FileNotFoundError:
        raise Refused("artefact", f"{source} is not on this host") from None
    if size != request["size"]:
        raise Refused(
            "artefact", f"{source.name} has {size} bytes, not {request['size']}: it did not arrive whole"
        )
    sha256 = sha256_of(source)
    if sha256 != request["sha256"]:
        raise Refused(
            "artefact", f"{source.name} has sha256 {sha256}, not {request['sha256']}: it was changed"
        )


def extract(source: Path, folder: Path, top: str) -> None:
    """Extract plain files and folders only, each inside *top*, each once, bounded.

    Raises:
        Refused: the artefact is damaged, or unsafe to extract.
    """
    seen: set[str] = set()
    room_bytes = UNPACKED_BYTES_MAX
    folder.mkdir(mode=0o755)
    try:
        with tarfile.open(source, "r:gz", errorlevel=2) as archive:
            for entry in archive:
                parts = _parts_of(entry, top)
                if entry.name in seen or len(seen) >= FILES_MAX:
                    raise _unsafe(f"{entry.name!r} is there twice, or one too many")
                seen.add(entry.name)
                path = folder.joinpath(*parts)
                if entry.isdir():
                    path.mkdir(mode=0o755, parents=True, exist_ok=True)
                    continue
                room_bytes -= entry.size
                if room_bytes < 0:
                    raise _unsafe("it unpacks to more than 2 GiB")
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                content = archive.extractfile(entry)
                assert content is not None
                with path.open("xb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
                path.chmod(0o755 if entry.mode & 0o111 else 0o644)
    except (*DAMAGED, FileExistsError, NotADirectoryError) as exc:
        raise Refused("artefact", f"the artefact is damaged: {exc}") from exc


def _parts_of(entry: tarfile.TarInfo, top: str) -> list[str]:
    """Return the path of an entry inside *top*."""
    name = entry.name
    parts = name.split("/")
    is_plain = entry.type in {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE}
    if not is_plain or entry.issparse():
        raise _unsafe(f"{name!r} is a link, a device or the like")
    if parts[0] != top or not all(parts) or {".", ".."} & set(parts) or not name.isprintable():
        raise _unsafe(f"{name!r} is not a plain path in {top}/")
    return parts[1:]


def _unsafe(why: str) -> Refused:
    return Refused("artefact", f"the artefact is unsafe: {why}")


def check_manifest(folder: Path, version: str) -> None:
    """See that the files are those of the manifest, and that it is of this version and host."""
    manifest = read_json(folder / "manifest.json")
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise Refused("artefact", "the artefact has no manifest")
    wanted = {"version": version, "python": python_tag(), "platform": platform_tag()}
    for key, value in wanted.items():
        if manifest.get(key) != value:
            kind = "artefact" if key == "version" else "python"
            raise Refused(kind, f"the artefact's manifest says {key} {manifest.get(key)}, here it is {value}")
    paths = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    names = paths - {"manifest.json"}
    for name in sorted(names ^ set(manifest["files"])):
        raise Refused("artefact", f"{name} is {'not in the manifest' if name in names else 'missing'}")
    for name, entry in manifest["files"].items():
        if sha256_of(folder / name) != entry["sha256"]:
            raise Refused("artefact", f"{name} differs from the manifest")

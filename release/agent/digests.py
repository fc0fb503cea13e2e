"""SHA-256 of files, and of a release's."""

from __future__ import annotations

import hashlib

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from pathlib import Path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def lasting_files(folder: Path) -> dict[str, Path]:
    """Return the files of a release that stay as they are, by name: no links, no bytecode."""
    return {
        str(path.relative_to(folder)): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts
    }

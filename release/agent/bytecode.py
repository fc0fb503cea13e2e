"""Bytecode of a new release that the current one has of the same sources: most modules stay as they are.

To compile a whole release is half of the work of unpacking it. What is taken is what was compiled from a
source of the same SHA-256, to count whatever the source's time is, by a Python with the same bytecode; and it
has to be what ``.verified`` says. The path in it is the old one; Python replaces it as it loads the module.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from importlib.util import MAGIC_NUMBER
from pathlib import PurePosixPath

from .contents import BYTECODE
from .digests import sha256_of

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from pathlib import Path

    from .layout import Host

HEAD = MAGIC_NUMBER + b"\1\0\0\0"  #: of bytecode that counts whatever the source's time is


def reuse(host: Host, folder: Path) -> int:
    """Copy to the new release in *folder* what the current one has; return of how many modules that was.

    Bytecode that came with wheels is removed first.
    """
    for place, names, _files in os.walk(folder):
        if "__pycache__" in names:
            names.remove("__pycache__")
            shutil.rmtree(os.path.join(place, "__pycache__"))  # noqa: PTH118 - as os.walk gives it
    current = host.linked("current")
    marker = (host.verified(current) if current else None) or {}
    count = 0
    for name, digest in marker.get("bytecode", {}).items():
        source = source_of(name)
        if _has_same(folder / source, marker.get("files", {}).get(source)):
            count += _copy(host.release(current) / name, folder / name, digest)
    return count


def source_of(name: str) -> str:
    """Return of which module bytecode is: ``a/b.py`` for ``a/__pycache__/b.cpython-311.pyc``."""
    place, _, file = name.rpartition(BYTECODE)
    return str(PurePosixPath(place, f"{file.partition('.')[0]}.py"))


def _has_same(path: Path, sha256: str | None) -> bool:
    return sha256 is not None and path.is_file() and sha256_of(path) == sha256


def _copy(old: Path, new: Path, sha256: str) -> bool:
    """Copy bytecode that is what it was when it was made; tell whether it was."""
    with contextlib.suppress(OSError):
        content = old.read_bytes()
        if content.startswith(HEAD) and hashlib.sha256(content).hexdigest() == sha256:
            new.parent.mkdir(exist_ok=True)
            new.write_bytes(content)
            return True
    return False

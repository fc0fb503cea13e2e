"""Runs the supervisor from this file's own folder, or from a folder elsewhere on a host.

``python3 -I DIR`` runs the folder DIR. A host has the folder under the name of its digest, and a copy of this
file, ``supervisor.py``, in which the digest is written: that file is what is started and what replaces a
running supervisor, and it runs nothing but the folder that it was made for. That of a release stands in for
one that is missing: a controller of the version before brings the file alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from importlib import import_module
from importlib.machinery import FileFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Final

DIGEST: Final = ""  #: of the folder to run; empty: the folder of this file
_PACKAGE: Final = "supervisor"
_UNUSABLE: Final = 1  #: exit code


class _Sources(SourceFileLoader):
    """Loads sources and neither reads nor writes bytecode, which the digest does not cover."""

    def path_stats(self, path: str) -> dict[str, float]:
        raise OSError(f"{path}: no bytecode")


def digest_of(folder: Path) -> str:
    """Return the digest of a folder's Python files, all that is run of it: ``sha256sum *.py | sha256sum``."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.glob("*.py"))
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def load(folder: Path) -> ModuleType:
    """Make a package of a folder, whatever its name, and return the module that starts it."""
    place = str(folder)
    sys.path[:] = [path for path in sys.path if Path(path).absolute() != folder]
    sys.path_importer_cache[place] = FileFinder(place, (_Sources, [".py"]))
    package = sys.modules[_PACKAGE] = ModuleType(_PACKAGE)
    package.__path__ = [place]
    return import_module(f"{_PACKAGE}.start")


def _shipped(shared: Path) -> Path:
    """Return the folder that a host's ``supervisor.py`` was made for.

    Raises:
        FileNotFoundError: no folder of the host has its digest.
    """
    folder = shared / f"supervisor-{DIGEST}"
    for place in (folder, *shared.parent.glob("releases/*/supervisor")):
        with contextlib.suppress(OSError):  # one that cannot be read is not the one
            if digest_of(place) == DIGEST:
                return place
    state = "is not what it was made for" if folder.is_dir() else "is missing"
    raise FileNotFoundError(f"{folder} {state}; a deploy puts it there again")


def _run() -> int:
    own = Path(__file__).absolute().parent
    try:
        folder = _shipped(own) if DIGEST else own
    except OSError as exc:
        sys.stderr.write(f"supervisor: {exc}\n")
        return _UNUSABLE
    return int(load(folder).main(path=Path(sys.argv[0]).absolute()))


if __name__ == "__main__":
    sys.exit(_run())

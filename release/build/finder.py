"""Finds the compiled modules of a checkout, while its sources are those that they were built of.

``./inv build`` copies this file into the site-packages of the environment, and a path file there has each
Python import it at its start. So a checkout holds no compiled module beside a source: once a source that was
compiled differs, all are interpreted again, until the next build. ``PURGELINE_INTERPRETED=1`` has them
interpreted at once.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # each start of Python imports this: typing would be the longer part
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

ROOT = ""  # the checkout; set in the copy
BUILT = "build/compiled"  # in the checkout
STAMPS = "sources.txt"  # in that: of each source its time (ns), its size and its name
OFF = "PURGELINE_INTERPRETED"


class Finder:
    """Knows where each compiled module of one checkout lies; knows none once a source has changed."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._places: dict[str, str] | None = None  #: module → its file; read when it is first asked for
        self._is_used = False  #: a module was found: the library that it asks for is this checkout's

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a compiled module is; nothing for every other one."""
        if path is None:
            if not (self._is_used and name.endswith("__mypyc")):
                return None
        elif not name.startswith("engine.") or not self._is_own(name, path):
            return None
        if self._places is None:
            self._places = self._read()
        place = self._places.get(name)
        if place is None:
            return None
        self._is_used = True
        from importlib.util import spec_from_file_location  # noqa: PLC0415 - only where it is needed

        return spec_from_file_location(name, place)

    def _is_own(self, name: str, path: Sequence[str]) -> bool:
        """Tell whether a package is that of this checkout, and not of another one or an installed one."""
        package = name.rpartition(".")[0].replace(".", "/")
        return list(path) == [f"{self._root}/{package}"]

    def _read(self) -> dict[str, str]:
        built = f"{self._root}/{BUILT}"
        try:
            with open(f"{built}/{STAMPS}", encoding="utf-8") as file:  # noqa: PTH123 - without pathlib
                stamps = file.read().splitlines()
            for stamp in stamps:
                time_ns, size, name = stamp.split(" ", 2)
                found = os.stat(f"{self._root}/{name}")  # noqa: PTH116 - as above
                if (found.st_mtime_ns, found.st_size) != (int(time_ns), int(size)):
                    return {}
        except OSError:
            return {}
        places = {}
        for folder, _, names in os.walk(built):
            for name in names:
                if name.endswith(".so"):
                    inside = f"{folder}/{name}"[len(built) + 1 :]
                    places[inside.partition(".")[0].replace("/", ".")] = f"{built}/{inside}"
        return places


def install(root: str) -> None:
    """Have Python ask this first, unless the environment says otherwise."""
    if not os.environ.get(OFF):
        sys.meta_path.insert(0, Finder(root))


if ROOT:
    install(ROOT)

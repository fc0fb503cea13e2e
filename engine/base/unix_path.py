"""Paths of Unix sockets that are longer than the address of one may be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_PATH_MAX_BYTES: Final = 100  #: the kernel takes 107 in a Unix socket's address


class UnixPaths:
    """Names sockets so that each name fits, for as long as this object is not closed.

    A long path is named through an open descriptor of its folder.
    """

    def __init__(self) -> None:
        self._folders: dict[Path, int] = {}

    def short(self, path: Path) -> str:
        """Return a name of *path* that is short enough for an address.

        Raises:
            OSError: the path is long, and its folder cannot be opened.
        """
        if len(os.fsencode(path)) <= _PATH_MAX_BYTES:
            return str(path)
        if path.parent not in self._folders:
            self._folders[path.parent] = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._folders[path.parent]}/{path.name}"

    def close(self) -> None:
        """Close the folders; names of long paths lead nowhere from now on."""
        for descriptor in self._folders.values():
            os.close(descriptor)
        self._folders.clear()

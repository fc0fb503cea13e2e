"""Which worker of an embedded store begins the rewind of a node.

It holds a lock on a file of that node in the data folder, ``rewind-NODE.lock``, until the tasks are stored;
the file says which rewind that is. The lock goes with its process, however that ends, and workers of two
generations see the same one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING, Final

import msgspec

from engine.errors import StoreError
from engine.tasks.rewinds import Rewind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_TRIES: Final = 5  #: who only looks holds the lock, too, for an instant
_PAUSE_S: Final = 0.01
_READ_BYTES: Final = 1024

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Rewind).decode


class FolderRewinds:
    """See `engine.api.rewinding.SharesRewinds`. Blocking; all methods raise `StoreError`.

    Args:
        folder: the data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, tuple[str, int]] = {}  # node → its rewind, descriptor of its locked file

    def claim(self, node: str, name: str, since: float) -> str:
        """Claim a node for the rewind *name*; return the name of the one that has it, empty: it is ours."""
        path = self._path(node)
        known = None
        for _ in range(_TRIES):
            try:
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                is_locked = _locks(file, fcntl.LOCK_EX)
            except OSError as exc:
                raise StoreError(f"{path}: cannot be locked: {exc.strerror}") from exc
            if not is_locked:
                known = _read(file)
                os.close(file)
                time.sleep(_PAUSE_S)
            elif not os.fstat(file).st_nlink:  # who had it has just removed it
                os.close(file)
            else:
                with contextlib.suppress(OSError):  # a disk that is full: the lock counts without a name
                    os.ftruncate(file, 0)
                    os.write(file, _encode(Rewind(name, since)))
                self._held[node] = name, file
                return ""
        return "another one" if known is None else known.name

    def keep(self, node: str, name: str, since: float) -> None:
        """See `SharesRewinds.keep`: a lock lapses with its process alone."""

    def begun(self, node: str, name: str, _since: float, _tasks: Mapping[str, int]) -> None:
        """Let others ask the worker that has the tasks, which are stored by now."""
        held_by, file = self._held.get(node, ("", 0))
        if held_by == name:
            del self._held[node]
            with contextlib.suppress(OSError):  # it says nothing without its lock
                self._path(node).unlink()
            os.close(file)

    def under_way(self, nodes: Iterable[str]) -> dict[str, Rewind]:
        """Return node → the rewind that a worker is beginning."""
        found: dict[str, Rewind] = {}
        for node in nodes:
            with contextlib.suppress(OSError), self._path(node).open("rb") as file:
                if not _locks(file.fileno(), fcntl.LOCK_SH):
                    found[node] = _read(file.fileno()) or Rewind("another one", time.time())
        return found

    def _path(self, node: str) -> Path:
        return self._folder / f"rewind-{node}.lock"


def _locks(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: int) -> Rewind | None:
    """Return what who has the lock says; None: nothing yet."""
    try:
        return _decode(os.pread(file, _READ_BYTES, 0))
    except (OSError, msgspec.DecodeError):
        return None

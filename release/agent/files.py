"""Files that are whole whenever a process is killed or the power fails: by rename, and written out."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time

TYPE_CHECKING = False  # see `answers`
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from .answers import Refused


def sync_folder(folder: Path) -> None:
    """Make renames in *folder* last over a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_name_of(folder: Path) -> None:
    """Make the name of *folder* last over a power cut, and the names of the folders that it is in.

    A folder that this user may not read was not made by this user, and is left out.
    """
    device = folder.stat().st_dev
    for above in folder.resolve().parents:
        if above.stat().st_dev != device:
            return
        with contextlib.suppress(PermissionError):
            sync_folder(above)


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file by rename."""
    draft = path.with_name(f".{path.name}.new-{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(mode)
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    sync_folder(path.parent)


def link(path: Path, target: str) -> None:
    """Point a link at *target*, or remove it for an empty one."""
    if not target:
        path.unlink(missing_ok=True)
    else:
        draft = path.with_name(f".{path.name}.new-{os.getpid()}")
        draft.unlink(missing_ok=True)
        try:
            draft.symlink_to(target)
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def read_json(path: Path) -> Any:
    """Return what a file holds, None when there is none or it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def holding(path: Path, *, wait_s: float, refusal: Refused) -> Iterator[None]:
    """Hold a lock file, so that two operations of a kind do not meet.

    The programs that `command.run` starts hold it too: after a kill of this process, the next operation waits
    until they have ended as well.

    Raises:
        Refused: *refusal*, when another process holds the file for longer than *wait_s*.
    """
    with path.open("a") as file:
        os.set_inheritable(file.fileno(), True)
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise refusal from None
                time.sleep(0.05)
        yield

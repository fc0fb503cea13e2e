"""Names that outlive a power cut: the fsync of a file keeps its bytes, that of its folder its name."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Have the names in *folder* on disk when this returns.

    Raises:
        OSError: it cannot be read or synced.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_name_of(folder: Path) -> None:
    """Have the name of *folder* on disk, and the names of the folders that it is in, on its file system.

    A folder that this user may not read was not made by this user, and is left out.
    """
    device = folder.stat().st_dev
    for above in folder.resolve().parents:
        if above.stat().st_dev != device:
            return
        with suppress(PermissionError):
            sync_folder(above)

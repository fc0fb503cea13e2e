"""Which file of the embedded store a task is in: ``tasks-N.db``, and N is told by the task's id.

So the number of files may not change under a store. The first worker to open the folder writes the number
down beside the files.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from engine.base.durable import sync_folder, sync_name_of
from engine.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

LAYOUT: Final = "layout"


def check_layout(folder: Path, workers: int, saver_count: int) -> None:
    """Make *folder* for so many workers with so many savers each, or check that it was made for as many.

    Raises:
        StoreError: it was made for other numbers, or cannot be made.
    """
    wanted = f"workers={workers} saver_count={saver_count}"
    path = folder / LAYOUT
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sync_name_of(
            folder
        )  # also of one that was made just before: what is in there is to outlive the power
        if not path.exists():
            files = len(list(folder.glob("tasks-*.db")))
            _write_once(path, f"workers=1 saver_count={files}" if files else wanted)
        written = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise StoreError(f"{folder}: cannot be made or read: {exc} (engine.data_dir)") from exc
    if written != wanted:
        raise StoreError(
            f"{folder} is of an engine with {written}, and these numbers say which file a task is in: they "
            f"cannot be {wanted} there; set them back, or copy the tasks into another folder for that number "
            "(purgeline migrate --to sqlite:DIR --workers N) and make it engine.data_dir"
        )


def _write_once(path: Path, text: str) -> None:
    """Create *path* whole and on disk, unless somebody else has just done it."""
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    sync_folder(path.parent)

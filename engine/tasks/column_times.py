"""Times of many tasks as doubles, by machine code: see `engine.tasks.columns`, which alone calls this.

No time becomes an object of its own. Interpreted, `struct` is quicker.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

with contextlib.suppress(ImportError):  # every module of a release is imported before it serves
    from librt.strings import BytesWriter, write_f64_le

if TYPE_CHECKING:
    from engine.tasks.task import Task


def times_of(tasks: list[Task]) -> tuple[bytes, bytes]:
    """Return when each task was created, and when it changed last: UNIX time, eight bytes each."""
    created = BytesWriter()
    updated = BytesWriter()
    for task in tasks:
        write_f64_le(created, task.created_at)
        write_f64_le(updated, task.updated_at)
    return created.getvalue(), updated.getvalue()

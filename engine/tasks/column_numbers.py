"""Numbers of many tasks as columns, by machine code: see `engine.tasks.columns`, which alone calls this.

No number becomes an object of its own. Interpreted, `struct` is quicker.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

with contextlib.suppress(ImportError):  # every module of a release is imported before it serves
    from librt.strings import BytesWriter, write_f64_le, write_i16_le, write_i32_le

if TYPE_CHECKING:
    # mypyc replaces the calls of these: nothing of them is looked up as it runs.
    from mypy_extensions import i16, i32, i64  # noqa: TC004

    from engine.tasks.task import Task


def numbers_of(tasks: list[Task]) -> tuple[bytes, bytes, bytes, bytes]:
    """Return when each task was created, and when it changed last, how many targets it has, and `absents`.

    Raises:
        ValueError: a task has more than 65,535 targets.
    """
    created = BytesWriter()
    updated = BytesWriter()
    counts = BytesWriter()
    absents = BytesWriter()
    is_any_absent = False
    for task in tasks:
        write_f64_le(created, task.created_at)
        write_f64_le(updated, task.updated_at)
        count: i64 = len(task.targets)
        if count > 65_535:  # noqa: PLR2004 - 16 bits
            raise ValueError(f"a task of {count} targets does not fit into a column")
        write_i16_le(counts, i16(count))
        absent: i64 = task.absent_count
        if absent:
            is_any_absent = True
        write_i32_le(absents, i32(absent))
    return (
        created.getvalue(),
        updated.getvalue(),
        counts.getvalue(),
        absents.getvalue() if is_any_absent else b"",
    )

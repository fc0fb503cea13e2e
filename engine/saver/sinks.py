"""Who is told what became of what a saver was handed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.errors import StoreError
    from engine.tasks.records import Callback, JournalKey
    from engine.tasks.task import Task


def _ignore(_: object) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Sinks:
    """Called on the loop, after each commit.

    Attributes:
        accepted: told of each accepted task: its journal row and None, or 0 and the error.
        known: told of an accepted task whose id is stored already: the stored digest (hex) and document.
        saved: told of each saved document: its task and version.
        callbacks: given callbacks that were written, with their keys.
        late: given the documents of stored tasks that late delivery settled, or a cancel.
        rows_left: told of how many delivered rows stay, as their tasks are in the memory of another process.
        state: told when the store begins to fail (the error) and when it works again (None).
        lost: told of the id of each task that is another engine's by now; nothing of it was written.
    """

    accepted: Callable[[Task, JournalKey, Exception | None], None]
    known: Callable[[Task, str, bytes], None]
    saved: Callable[[Task, int], None]
    callbacks: Callable[[list[Callback]], None] = _ignore
    late: Callable[[list[dict[str, Any]]], None] = _ignore
    rows_left: Callable[[int], None] = _ignore
    state: Callable[[StoreError | None], None] = _ignore
    lost: Callable[[str], None] = _ignore

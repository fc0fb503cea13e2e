"""A side: a whole store, read and written from outside of any engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from engine.tasks.records import Parked
from engine.tasks.words import State

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterator, Sequence

    from engine.store.history import History
    from engine.tasks.records import Accepted, Batch, Callback, ParkedRow, Pause, Silence

PAGE: Final = 500


class _Facts(msgspec.Struct):
    task_id: str
    state: str


facts_of = msgspec.json.Decoder(_Facts).decode


class Side(Protocol):
    """One store as a whole. Every method raises `StoreError` when the store cannot do it."""

    url: str
    is_shared: bool

    @property
    def histories(self) -> Sequence[History]:
        """What is known of settled tasks, by `of`; none: no history is kept."""

    def of(self, task_id: str) -> int:
        """Return in which history a task is."""

    def opened(self) -> contextlib.AbstractContextManager[None]:
        """Open all of it, and close it at the end; no engine may use it."""

    def documents(self) -> Iterator[list[bytes]]:
        """Yield pages of stored documents, the oldest first."""

    def unfinished(self) -> Iterator[list[Accepted]]:
        """Yield accepted tasks that have not settled."""

    def plans(self, accepted: Sequence[Accepted]) -> dict[bytes, bytes]:
        """Return key → text of the plans that *accepted*, of this side, were accepted for."""

    def nodes(self) -> list[str]:
        """Return the nodes that have rows in delay queues."""

    def rows(self, node: str) -> list[Parked]:
        """Return a node's rows, oldest first, without those of tasks that begin again from the journal."""

    def callbacks(self) -> list[Callback]:
        """Return callbacks that were not delivered."""

    def pauses(self) -> list[Pause]:
        """Return which nodes were paused or resumed."""

    def silences(self) -> list[Silence]:
        """Return the silences of alerts."""

    def write(self, batch: Batch) -> None:
        """Write *batch*, each record where it belongs."""

    def drop_rows(self) -> None:
        """Empty the delay queues."""


def parked(row: ParkedRow, *, after: str | None = None) -> Parked:
    """Return a row as it was parked; *after* are the parents it waits for, where the row does not say."""
    waits_for = row.after if after is None else after
    return Parked(row.node, row.operation, row.target, row.task_id, waits_for, row.parked_at)


def settled_state(document: bytes) -> bytes:
    """Return a document of a task that waits for nothing but unreachable nodes, before its time is up.

    A shared store keeps such a task as running until its time is up; an embedded store calls it partial.
    """
    if facts_of(document).state != State.RUNNING:
        return document
    return msgspec.json.encode({**msgspec.json.decode(document), "state": State.PARTIAL.value})

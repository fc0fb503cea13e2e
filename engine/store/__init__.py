"""Where tasks are saved: the interface that savers and the engine use, and the records it takes.

A store is written by one saver thread, in batches; a batch is one transaction. It is read by other
threads. What it holds:

- the *journal*: accepted tasks as the clients sent them, one row per batch, until all of the batch
  have settled; after a crash they are worked again;
- *task documents* of what has settled or is only waiting for unreachable nodes;
- the *delay queues*: subtasks of unreachable nodes, oldest first;
- *callbacks* that have not been delivered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORMAT = 1
"""Version of the records. Versions N and N-1 of the engine read each other's, so fields are only added."""


class Accepted(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A task as it was accepted; times in UNIX seconds."""

    id: str
    created_at: float
    due_s: float
    digest: bytes  #: of the body; empty when the id is ours
    body: bytes
    token: str = ""  #: name of the client's token


class Parked(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A subtask in a delay queue.

    ``after`` names the parents (comma-separated) whose own delivery must come first; empty: none.
    """

    node: str
    operation: int
    target: str
    task_id: str
    after: str
    parked_at: float


class ParkedRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A `Parked` as it is read back, with its row number: older rows have smaller ones."""

    seq: int
    node: str
    operation: int
    target: str
    task_id: str
    after: str
    parked_at: float


class Late(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What late delivery changes in a stored task's document."""

    task_id: str
    layer: str
    acked: int
    failed: int
    error: dict[str, str] | None
    at: float


class Callback(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A callback to deliver. The store gives it its key when it is written with key 0."""

    key: int
    task_id: str
    url: str
    body: str


class Batch(msgspec.Struct):
    """What one transaction writes. Empty parts cost nothing."""

    accepted: list[Accepted] = []
    documents: dict[str, bytes] = {}  #: task id → JSON
    settled_journal: list[int] = []  #: journal rows of which every task has settled
    parked: list[Parked] = []
    unparked: list[int] = []  #: rows of the delay queues that were delivered
    unparked_tasks: list[str] = []  #: tasks of which every row goes (cancelled)
    orphans: list[str] = []  #: tasks of which every row goes, unless a document has been stored
    released: list[tuple[str, str, str]] = []  #: (parent, task id, target) delivered: children may go
    late: list[Late] = []
    callbacks: list[Callback] = []
    callbacks_over: list[int] = []
    is_probe: bool = False  #: nothing to write but a sign that writing works

    @property
    def is_accept_only(self) -> bool:
        """Whether one INSERT is all there is to do, the usual case under load."""
        return not (
            self.documents
            or self.settled_journal
            or self.parked
            or self.unparked
            or self.unparked_tasks
            or self.orphans
            or self.released
            or self.late
            or self.callbacks
            or self.callbacks_over
            or self.is_probe
        )


class Committed(msgspec.Struct):
    """What a commit answers."""

    journal_seq: int = 0
    known: dict[str, tuple[str, bytes]] = {}  #: accepted ids already stored: digest (hex), document
    settled_late: list[str] = []  #: states of the stored tasks that late delivery settled
    callbacks: list[Callback] = []  #: those written, with their keys


class Depth(msgspec.Struct, frozen=True):
    """How full a delay queue is."""

    count: int
    oldest_at: float  #: UNIX seconds


class Store(Protocol):
    """One store file or server. Blocking; no method is called from the loop's thread.

    Every method raises `StoreError` when the store cannot do it; nothing of a failed `commit` is
    written.
    """

    def open(self, *, is_in_use: bool = False) -> None:
        """Open or create the store, and check it.

        Args:
            is_in_use: the worker before this one has it open and works with it.

        Raises:
            StoreDamagedError: the content is damaged; says what to do.
            StoreError: it cannot be opened or is in use.
        """

    def commit(self, batch: Batch) -> Committed:
        """Write *batch* whole, on disk when this returns."""

    def journal(self) -> Iterator[tuple[int, list[Accepted]]]:
        """Yield the journal's rows, oldest first, without tasks that have settled."""

    def document(self, task_id: str) -> bytes | None:
        """Return a stored task's JSON document."""

    def documents(self, state: str | None, before: int, limit: int) -> tuple[list[bytes], int]:
        """Return a page of documents, newest first, from rows below *before*, and the next *before*.

        A *before* of 0 is the end.
        """

    def count(self) -> dict[str, int]:
        """Return how many tasks the store holds: ``settled`` documents and journal ``rows``."""

    def depths(self) -> dict[str, Depth]:
        """Return the depth of every delay queue that is not empty."""

    def depth(self, node: str) -> Depth:
        """Return the depth of one delay queue."""

    def nodes_behind(self) -> list[str]:
        """Return the nodes that have rows which wait for their parents."""

    def parked_of(self, node: str, limit: int) -> list[ParkedRow]:
        """Return the oldest rows of a delay queue, also those that wait for their parents."""

    def oldest_parked(self, node: str, limit: int, purges_only: bool = False) -> list[ParkedRow]:
        """Return the oldest rows of a delay queue that may go now; on request without prefetches."""

    def wide_parked(self, node: str) -> list[ParkedRow]:
        """Return a node's rows of prefix and host purges that may go now, newest first, 1000 at the most."""

    def parked_like(self, node: str, targets: Sequence[tuple[int, str]]) -> list[ParkedRow]:
        """Return every row of a node for these (operation, target) pairs that may go now."""

    def parked_below(self, node: str, prefix: str, before: int) -> list[ParkedRow]:
        """Return the rows of URL purges under *prefix* (without scheme) that are older than row *before*."""

    def pending_callbacks(self) -> list[Callback]:
        """Return callbacks that were not delivered, oldest first."""

    def forget(self, before_at: float, limit: int) -> int:
        """Delete up to *limit* final tasks last updated before *before_at*; return how many."""

    def orphans(self) -> list[str]:
        """Return the tasks with rows but no document: live ones, and those the journal will work again."""

    def close(self) -> None:
        """Close it."""

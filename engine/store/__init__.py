"""Where tasks are saved: the interface that savers and the engine use, and the records it takes.

A store is written by one saver thread, in batches; a batch is one transaction. It is read by other
threads. What it holds:

- the *journal*: accepted tasks as the clients sent them, a few rows per batch, until all of a row
  have settled; after a crash they are worked again;
- *task documents* of what has settled or is only waiting for unreachable nodes;
- the *delay queues*: subtasks of unreachable nodes, oldest first;
- *callbacks* that have not been delivered.

Two kinds. The *embedded* one (SQLite) belongs to one engine: rows of a delay queue are written as soon as
their node is down, while their task may still be in that engine's memory. A *shared* one (Redis) is worked
by many: there a task is an engine's as long as it is in its memory, and everybody's from the moment its
document and its rows are written, which is one step. So no two engines ever count for one task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from engine.errors import StoreError  # noqa: TC001 - msgspec reads the annotations
from engine.tasks.task import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

JournalKey = int | str
"""What a store calls a row of its journal."""
RowKey = int | str
"""What a store calls a row of a delay queue."""
CallbackKey = int | str
"""What a store calls a callback; 0 and "" are none."""

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
    """A `Parked` as it is read back, with its key and its place: older rows have smaller places."""

    key: RowKey
    seq: float
    node: str
    operation: int
    target: str
    task_id: str
    after: str
    parked_at: float


class Delivered(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What became of a row of a delay queue: the row goes, and its task is told, in one step."""

    row: ParkedRow
    layer: str  #: of its node; empty when that is not configured any more
    at: float
    reason: str = ""  #: why it failed; empty when it was acked
    is_told: bool = False  #: its task is in memory and knows: the stored document stays as it is


class Late(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What late delivery changes in a stored task's document; see `late_of`."""

    task_id: str
    layer: str
    acked: int
    failed: int
    error: dict[str, str] | None
    at: float


class Callback(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A callback to deliver. The store gives it its key when it is written with key 0."""

    key: CallbackKey
    task_id: str
    url: str
    body: str


class Batch(msgspec.Struct):
    """What one transaction writes. Empty parts cost nothing."""

    accepted: list[Accepted] = []
    documents: dict[str, bytes] = {}  #: task id → JSON
    progress: dict[str, bytes] = {}  #: of tasks that go on, for a shared store only; see `Store.is_shared`
    settled_journal: list[JournalKey] = []  #: journal rows of which every task has settled
    parked: list[Parked] = []  #: to a shared store they come in the batch of their task's document
    delivered: list[Delivered] = []
    unparked_tasks: list[str] = []  #: tasks of which every row goes (cancelled)
    orphans: list[str] = []  #: tasks of which every row goes, unless a document has been stored
    cancelled: dict[str, float] = {}  #: stored tasks of which the rest is cancelled: id → when
    callbacks: list[Callback] = []
    callbacks_over: list[CallbackKey] = []
    is_probe: bool = False  #: nothing to write but a sign that writing works

    @property
    def is_accept_only(self) -> bool:
        """Whether one INSERT is all there is to do, the usual case under load."""
        return not (
            self.documents
            or self.progress
            or self.settled_journal
            or self.parked
            or self.delivered
            or self.unparked_tasks
            or self.orphans
            or self.cancelled
            or self.callbacks
            or self.callbacks_over
            or self.is_probe
        )


class Committed(msgspec.Struct):
    """What a commit answers."""

    journal: list[JournalKey] = []  #: row of each accepted task, in their order; nothing of a known one's
    known: dict[str, tuple[str, bytes]] = {}  #: accepted ids already stored: digest (hex), document
    refused: dict[str, StoreError] = {}  #: accepted ids that could not be stored, while others could
    own_error: StoreError | None = None  #: of the batch, accepted tasks aside, `left` has to be written again
    left: Batch | None = None
    lost: set[str] = set()  #: ids of documents that are another engine's by now, and were not written
    settled_late: list[str] = []  #: states of the stored tasks that late delivery settled, or a cancel
    callbacks: list[Callback] = []  #: those written, with their keys


class Depth(msgspec.Struct, frozen=True):
    """How full a delay queue is."""

    count: int
    oldest_at: float  #: UNIX seconds
    ready: int = 0  #: rows that may go now; an embedded store need not say


class Store(Protocol):
    """One store file or server. Blocking; no method is called from the loop's thread.

    Every method raises `StoreError` when the store cannot do it. Of a `commit` that failed, an embedded
    store has written nothing; a shared one may have written parts, and writing the batch again is safe.

    Attributes:
        is_shared: other engines work with it too.
    """

    is_shared: bool

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

    def journal(self) -> Iterator[tuple[JournalKey, list[Accepted]]]:
        """Yield the journal's rows, oldest first, without tasks that have settled.

        Of a shared store those of this engine.
        """

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

    def pin(self) -> Callable[[str], int]:
        """Return a function that counts the rows of a node as they are now, whatever is written until then.

        A shared store's count is always of the moment. Called by the saver's thread, between two commits; any
        thread may call the function, once.
        """

    def nodes_behind(self) -> list[str]:
        """Return the nodes that have rows which wait for their parents."""

    def parked_of(self, node: str, limit: int) -> list[ParkedRow]:
        """Return the oldest rows of a delay queue, also those that wait for their parents."""

    def oldest_parked(self, node: str, limit: int, purges_only: bool = False) -> list[ParkedRow]:
        """Return the oldest rows of a delay queue that may go now; on request without prefetches."""

    def wide_parked(self, node: str) -> list[ParkedRow]:
        """Return a node's rows of prefix and host purges that may go now, newest first, 1000 at the most."""

    def parked_like(
        self, node: str, targets: Sequence[tuple[int, str]], among: Sequence[ParkedRow]
    ) -> list[ParkedRow]:
        """Return every row of a node for these (operation, target) pairs that may go now.

        Args:
            node: name of the node.
            targets: what is about to be sent.
            among: rows just read; a store without an index of targets looks only at these.
        """

    def parked_below(
        self, node: str, prefix: str, before: float, among: Sequence[ParkedRow]
    ) -> list[ParkedRow]:
        """Return the rows of URL purges under *prefix* (without scheme) that lie before place *before*."""

    def pending_callbacks(self) -> list[Callback]:
        """Return callbacks that were not delivered, oldest first."""

    def forget(self, before_at: float, limit: int) -> int:
        """Delete up to *limit* final tasks last updated before *before_at*; return how many."""

    def orphans(self) -> list[str]:
        """Return the tasks with rows but no document: live ones, and those the journal will work again."""

    def shrink(self) -> None:
        """Let go of memory that only makes it faster."""

    def close(self) -> None:
        """Close it."""


def token_of_row(row: ParkedRow) -> str:
    """Return what other rows call the share of *row*; see `dispatch.token_of`."""
    return f"{row.node}:f" if row.operation == Operation.PREFETCH else row.node


def late_of(delivered: Sequence[Delivered]) -> list[Late]:
    """Return what *delivered* changes in stored documents: one `Late` per failure, one per task and layer."""
    late: list[Late] = []
    counts: dict[tuple[str, str], list[Any]] = {}
    for one in delivered:
        if one.is_told:
            continue
        if one.reason:
            error = {"node": one.row.node, "target": one.row.target, "reason": one.reason}
            late.append(Late(one.row.task_id, one.layer, 0, 1, error, one.at))
        else:
            count = counts.setdefault((one.row.task_id, one.layer), [0, one.at])
            count[0] += 1
            count[1] = max(count[1], one.at)
    return late + [
        Late(task_id, layer, acked, 0, None, at) for (task_id, layer), (acked, at) in counts.items()
    ]

"""What is stored: accepted tasks, rows of delay queues, callbacks; and the batches that change them.

Savers write batches of these, stores read and write them, and nothing here knows how.
"""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from engine.errors import StoreError  # noqa: TC001 - msgspec reads the annotations
from engine.tasks.told import Told  # noqa: TC001 - msgspec reads the annotations
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.tasks.plan import Note, Skipped

JournalKey = int | str
"""What a store calls a row of its journal."""
RowKey = int | str
"""What a store calls a row of a delay queue."""
CallbackKey = int | str
"""What a store calls a callback; 0 and "" are none."""

FORMAT = 1
"""Version of the records. Versions N and N-1 of the engine read each other's, so fields are only added."""


class By(msgspec.Struct, frozen=True, gc=False):
    """Who handed a task in."""

    token: str = ""  #: its name; empty: nobody knows, in a record of a version that kept none
    address: str = ""  #: of the client; empty: it came by a Unix socket, or nobody knows
    door: str = (
        ""  #: what it came in by: ``http`` is the engine's port, ``tree`` an engine above handed it down
    )
    path: str | msgspec.UnsetType = msgspec.UNSET  #: of ``tree``: the engines it came through, the root first


class Accepted(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A task as it was accepted; times in UNIX seconds."""

    id: str
    created_at: float
    due_s: float
    digest: bytes  #: of the body; empty when the id is ours
    body: bytes
    token: str = ""  #: name of the client's token, if that may only see its own tasks
    plan: bytes = b""  #: key of the plan it was accepted for; empty: by a version that kept none
    rebound_s: float = -1.0  #: as its client asked, see `journal_body`; negative: the body says, or nobody
    by: By = By()
    start_at: float = 0  #: it is planned and sent then, UNIX time; negative: it has begun, for its *plan*
    verify: bytes = b""  #: how it is verified, see `tasks.verify`; empty: it is not
    retries: str = ""  #: id of the task of which it sends what failed; empty: of none
    rewind: str = ""  #: the rewind that it is a part of; empty: of none
    traceparent: str = ""  #: of its client's request; empty: there was none


class Progress(msgspec.Struct, frozen=True):
    """How far an engine before this one had come with a task."""

    marks: dict[tuple[str, int], bytes]  #: node and operation → a byte per target, 1 when it was acked
    absent: int  #: of the acked subtasks those of which a cache had nothing
    nodes: dict[str, tuple[int, float]] = {}  #: node → its part of *absent*, UNIX time of its last ack


class Parked(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A subtask in a delay queue.

    ``after`` names the parents (comma-separated) whose own delivery must come first; empty: none.
    ``parked_at`` is UNIX time; 0: when it is written, by the clock of a store that engines share.
    """

    node: str
    operation: int
    target: str
    task_id: str
    after: str
    parked_at: float


class ParkedRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A `Parked` as it is read back, with its key and its place: older rows have smaller places.

    A host-wide row stands for several subtasks of one task; see `engine.delivery.host_rows`.
    """

    key: RowKey
    seq: float
    node: str
    operation: int
    target: str
    task_id: str
    after: str
    parked_at: float
    stands_for: str = ""  #: of a host-wide row: the rows that it replaces, see `packed`


class Joined(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Rows of one task and node that wait for no parent and become one host-wide row."""

    rows: list[ParkedRow]  #: oldest first
    operation: int
    host: str


class Sighting(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """That a node is configured, was found to be configured no more, or is to be forgotten."""

    node: str
    layer: str
    is_gone: bool = False  #: from now on, unless it was gone before
    is_forgotten: bool = False  #: what is left of its subtasks fails


class LastSeen(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """When a node was configured last, or found to be gone, by the store's own clock."""

    ago_s: float
    layer: str
    is_gone: bool = False


class Pause(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """That an operator paused a node, or resumed it."""

    node: str
    by: str  #: the name of a token, or an address
    at: float  #: UNIX time, for people
    is_paused: bool = True


class Silence(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """That alerts which match are not sent. Of two records of one silence that counts which ends sooner."""

    id: str
    matchers: list[str]  #: as `engine.notify.silencing` reads them; none: the silence is to be forgotten
    reason: str
    by: str  #: the name of a token, or an address
    at: float  #: when it was made, UNIX time
    until: float  #: its end, UNIX time


class Begun(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """That a task which was accepted for later has begun, and for which plan; or that this may go."""

    task_id: str
    accepted_at: float  #: as `Accepted.created_at`: an id may be used again
    plan: bytes  #: its key
    text: bytes  #: of the plan; empty: the task is over


def begun(records: list[Accepted], known: dict[str, tuple[float, bytes]]) -> list[Accepted]:
    """Return *records* with those that have begun marked as such; id → accepted at, and key of the plan."""
    return [
        msgspec.structs.replace(record, plan=known[record.id][1], start_at=-record.start_at)
        if record.start_at > 0 and known.get(record.id, (0.0, b""))[0] == record.created_at
        else record
        for record in records
    ]


class Delivered(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What became of a row of a delay queue: the row goes, and its task is told, in one step."""

    row: ParkedRow
    layer: str  #: of its node; empty when that is not configured any more
    at: float
    reason: str = ""  #: why it failed; empty when it was acked
    is_told: bool = False  #: its task is in memory and knows: the stored document stays as it is
    is_absent: bool = False  #: it was acked, and the cache had nothing to drop


class Noted(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Why rows of a stored task wait, for its errors; or what is done otherwise below a node."""

    task_id: str
    node: str
    target: str  #: one of them
    reason: str  #: empty: nothing new
    skipped: Sequence[Skipped] = ()  #: see `engine.tasks.lower`
    notes: Sequence[Note] = ()


class Late(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What late delivery changes in a stored task's document; see `late_of`."""

    task_id: str
    layer: str
    acked: int
    failed: int
    error: dict[str, str] | None
    at: float
    absent: int = 0  #: of the acked ones those of which a cache had nothing
    node: str = ""


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
    plans: dict[bytes, bytes] = {}  #: key → text, of the plans that *accepted* name
    progress: dict[str, bytes] = {}  #: of tasks that go on, for a shared store only; see `Store.is_shared`
    settling: list[Any] = []  #: the tasks of *documents*, for the history
    settled_journal: list[JournalKey] = []  #: journal rows of which every task has settled
    parked: list[Parked] = []  #: to a shared store they come in the batch of their task's document
    delivered: list[Delivered] = []
    unparked_tasks: list[str] = []  #: tasks of which every row goes (cancelled)
    orphans: list[str] = []  #: tasks of which every row goes, unless a document has been stored
    cancelled: dict[str, float] = {}  #: stored tasks of which the rest is cancelled: id → when
    callbacks: list[Callback] = []
    callbacks_over: list[CallbackKey] = []
    told: list[tuple[str, Told]] = []  #: what became of the reports of tasks, by their ids
    noted: list[Noted] = []
    sightings: list[Sighting] = []
    pauses: list[Pause] = []  #: the last of a node is what it is
    silences: list[Silence] = []
    joined: list[Joined] = []  #: those of tasks with a document; others stay rows
    parted: list[ParkedRow] = []  #: host-wide rows that become what they stand for again
    begun: list[Begun] = []
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
            or self.told
            or self.noted
            or self.sightings
            or self.pauses
            or self.silences
            or self.begun
            or self.joined
            or self.parted
            or self.is_probe
        )


class Committed(msgspec.Struct):
    """What a commit answers."""

    journal: list[JournalKey] = []  #: row of each accepted task, in their order; nothing of a known one's
    known: dict[str, tuple[str, bytes]] = {}  #: accepted ids already stored: digest (hex), document
    refused: dict[str, StoreError] = {}  #: accepted ids that could not be stored, while others could
    own_error: StoreError | None = None  #: of the batch, accepted tasks aside, `left` has to be written again
    left: Batch | None = None
    stuck: set[str] = set()  #: of those in `left` the tasks whose rows can be read all the same
    lost: set[str] = set()  #: ids of documents that are another engine's by now, and were not written
    settled_late: list[
        dict[str, Any]
    ] = []  #: documents of stored tasks that late delivery settled, or a cancel
    callbacks: list[Callback] = []  #: those written, with their keys
    rows_left: int = 0  #: delivered rows that stay: their tasks are in the memory of another process


class PageStart(NamedTuple):
    """Where a page of a store's listing begins."""

    row: int  #: a number of the store, which several tasks may share; newer ones are larger
    task_id: str = ""  #: the page goes on behind this task, with others of the row; empty: below the row


FIRST_PAGE = PageStart(2**62)
"""Above every row."""


class Depth(msgspec.Struct, frozen=True):
    """How full a delay queue is."""

    count: int
    oldest_at: float  #: UNIX seconds
    ready: int = 0  #: rows that may go now; an embedded store need not say


def packed(rows: Sequence[tuple[int, str]]) -> str:
    """Return operations and targets of rows as a host-wide row keeps them: ASCII without spaces."""
    return base64.b64encode(zlib.compress(msgspec.json.encode(rows))).decode()


def rows_of(row: ParkedRow) -> list[ParkedRow]:
    """Return the rows that a row stands for, all with its key; of any but a host-wide one itself."""
    if not row.stands_for:
        return [row]
    pairs = msgspec.json.decode(zlib.decompress(base64.b64decode(row.stands_for)), type=list[tuple[int, str]])
    return [
        msgspec.structs.replace(row, operation=operation, target=target, stands_for="")
        for operation, target in pairs
    ]


def token_of_row(row: ParkedRow) -> str:
    """Return what the rows of its children call *row* (`Parked.after`)."""
    return f"{row.node}:f" if row.operation == Operation.PREFETCH else row.node


def late_of(delivered: Sequence[Delivered]) -> list[Late]:
    """Return what *delivered* changes in stored documents: one `Late` per failure, one per task and node.

    A row counts once, as it was told first: one whose server was away when it was to be written is found
    in its queue again, and may be delivered again before both can be written.
    """
    late: list[Late] = []
    counts: dict[tuple[str, str, str], list[Any]] = {}
    seen: set[tuple[str, RowKey, int, str]] = set()
    for settled in delivered:
        row = settled.row
        subtask = (row.node, row.key, row.operation, row.target)  # a host-wide row stands for several
        if subtask in seen:
            continue
        seen.add(subtask)
        if settled.is_told:
            continue
        if settled.reason:
            error = {"node": row.node, "target": row.target, "reason": settled.reason}
            late.append(Late(row.task_id, settled.layer, 0, 1, error, settled.at, 0, row.node))
        else:
            count = counts.setdefault((row.task_id, settled.layer, row.node), [0, settled.at, 0])
            count[0] += 1
            count[1] = max(count[1], settled.at)
            count[2] += settled.is_absent
    return late + [
        Late(task_id, layer, acked, 0, None, at, absent, node)
        for (task_id, layer, node), (acked, at, absent) in counts.items()
    ]

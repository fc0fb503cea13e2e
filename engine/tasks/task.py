"""Tasks, as they live in memory: one client request, one share per node, one byte per subtask.

A subtask is one target on one node, for one operation. There is no object per subtask: a `Share`
holds the states of all targets of its task on its node in one bytearray, and counters. That keeps
a 10,000-URL task on three nodes at three objects and 30,000 bytes.

Nothing here does I/O or knows who calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from engine.tasks.records import By
from engine.tasks.words import Action, Kind, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.tasks.lower import Lower
    from engine.tasks.plan import Plan
    from engine.tasks.records import JournalKey, Parked, Progress
    from engine.tasks.told import Told
    from engine.tasks.verify import Verify
    from engine.tasks.words import Operation

ERRORS_MAX = 100  #: errors a task keeps and shows


NOBODY: Final = By()  #: who hands in what no client did

Waiter = Callable[..., None]
"""Answers a client."""

_ACCEPTED: Final = State.ACCEPTED  # looked up once: see `nodes.health`


class NodeRef(Protocol):
    """What is asked of the node that a share is for."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""

    @property
    def layer(self) -> str:
        """The layer it is in."""

    def add(self, share: Share, indexes: Sequence[int], /) -> None:
        """Queue targets of a share."""

    def add_backlog(self, share: Share, indexes: Sequence[int], /) -> None:
        """Queue targets behind what clients wait for."""

    def forget(self, share: Share, indexes: Sequence[int], /) -> None:
        """Take cancelled targets out of the queue."""

    def postpone(self, operation: Operation, target: str, /) -> bool:
        """Keep a request that goes wrong again and again from being sent for a while; False: it is poison."""


class Owner(Protocol):
    """Who is told what became of the subtasks of an internal task."""

    def acked(self, share: Share, indexes: Sequence[int], /, *, is_absent: bool = False) -> None:
        """The cache did it; *is_absent*: it had nothing to drop."""

    def failed(self, share: Share, indexes: Sequence[int], reason: str, /) -> None:
        """The cache answered, and no attempt will change its answer."""

    def parked(self, share: Share, indexes: Sequence[int], /) -> None:
        """The node has become unreachable."""

    def postponed(self, share: Share, indexes: Sequence[int], /) -> None:
        """The cache answered wrongly again and again: it is asked later."""

    def acked_beside(self, share: Share, index: int, began_at: float, now: float, /) -> float:
        """The cache did it while prefetches of what it covers were under way, the first since *began_at*.

        Returns:
            When it was first acked so, at the latest *now*: it is sent again when those that began by then
            have ended; ``-inf``: it counts. Times are `time.monotonic`'s.
        """


class Rebounds(Owner, Protocol):
    """What comes behind the purges of a task: the second ones, or its verification."""

    def stop(self) -> None:
        """Send nothing more."""

    def unblocked(self, share: Share, ready: list[int], /) -> None:
        """Take targets of a share that wait for no other share any more."""

    def catch_up(self, share: Share, indexes: list[int], /) -> None:
        """Have the states of a share's targets be those of its first purges, where those were delayed."""


class Share:
    """One node's share of a task, for one operation: a byte per target.

    Attributes:
        states: one of the subtask states for each target, by its index.
        children: shares that wait for this one, target by target; None without any.
        parents: those that this one waits for.
        blockers: for each target how many parents have not answered; None when there is no parent.
        attempts: attempts so far of the few targets that needed more than one.
        lane: indexes of the targets that wait in a queue, the next one last; None before the first.
        acked_at: UNIX time of the last ack; 0: there was none.
    """

    __slots__ = (
        "absent_count",
        "acked_at",
        "acked_count",
        "attempts",
        "blockers",
        "cancelled_count",
        "children",
        "delayed_count",
        "failed_count",
        "lane",
        "node",
        "operation",
        "parents",
        "states",
        "task",
    )

    def __init__(self, task: Task, node: NodeRef, operation: Operation, total: int) -> None:
        self.task = task
        self.node = node
        self.operation = operation
        self.states = bytearray(total)
        self.children: list[Share] | None = None
        self.parents: Sequence[Share] = ()
        self.blockers: list[int] | bytearray | None = None
        self.attempts: dict[int, int] | None = None
        self.lane: list[int] | None = None
        self.acked_count = 0
        self.acked_at = 0.0
        self.absent_count = 0
        self.failed_count = 0
        self.delayed_count = 0
        self.cancelled_count = 0

    def __repr__(self) -> str:
        return f"<Share {self.task.id} on {self.node.name} [{self.acked_count}/{len(self.states)} acked]>"


class Task:
    """One client request and its progress.

    Attributes:
        body: the client's JSON as it came; what the journal keeps.
        targets: normalised, each once, in the client's order.
        site: what all of them begin with, such as ``http://a.example/``; empty: it is not known that they do.
        journal_key: row of the journal that holds it; 0 before the commit.
        absent_count: of the acked subtasks those whose cache said that it had nothing.
        live: subtasks that are neither settled nor in a delay queue.
        lower: what is known of it below nodes that are engines, by their names; None: nothing.
        plan: the nodes it goes to; None for an internal task, and for one of the journal that the
            configuration does not allow any more.
        token: name of the token it was handed in with, where that sees its own tasks only; else empty.
        by: who handed it in.
        owner: of an internal task: who is told what became of its subtasks; None for a client's task.
        waiters: clients that wait for its commit, each called with the answer that the intake makes; None
            from then on, see `is_committed`.
        rebound_s: seconds until its purges are sent once more; 0: they are not.
        rebound_asked_s: what its client asked for; negative: nothing.
        rebound: those purges, until they are over.
        verify: its verification; None: there is none.
        start_at: when it begins, UNIX time; 0: as soon as it is stored.
        retries: id of the task of which it sends what failed; empty: of none.
        rewind: the rewind that it is a part of; empty: of none.
        traceparent: of its client's request; empty: there was none.
        is_scheduled: it waits for that; nothing of it has been sent.
        is_due: its due time has passed.
        settled_at: when it was done, failed or cancelled; None before.
        reported: the last state its callback was sent for.
        told: what became of that; None: nothing yet.
        version: counts changes, to see whether a saved document is the latest.
        parked: rows for delay queues that are written with its document (shared store).
        progress: what an engine before this one had acked, until it is expanded; see `progress`.
        is_handed: its document and rows are on their way to the store, which has it from then on.
        is_lost: another engine took it over; what becomes of it here does not count.
    """

    __slots__ = (
        "absent_count",
        "action",
        "body",
        "by",
        "callback",
        "created_at",
        "digest",
        "due_at",
        "due_s",
        "errors",
        "id",
        "indexes",
        "is_due",
        "is_handed",
        "is_lost",
        "is_scheduled",
        "journal_key",
        "kind",
        "live",
        "lower",
        "owner",
        "parked",
        "plan",
        "prefetch",
        "progress",
        "rebound",
        "rebound_asked_s",
        "rebound_s",
        "reported",
        "retries",
        "rewind",
        "settled_at",
        "shares",
        "site",
        "soft",
        "start_at",
        "state",
        "targets",
        "token",
        "told",
        "total",
        "traceparent",
        "updated_at",
        "verify",
        "version",
        "waiters",
    )

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - the interface's word
        action: str,
        kind: str,
        targets: list[str],
        soft: bool,
        prefetch: bool,
        callback: str | None,
        due_s: float,
        body: bytes,
        digest: bytes,
        created_at: float,
    ) -> None:
        self.id = id
        self.action, self.kind = action, kind
        self.targets = targets
        self.site = ""
        self.soft, self.prefetch = soft, prefetch
        self.callback = callback
        self.due_s = due_s
        self.body, self.digest = body, digest
        self.created_at = created_at
        self.updated_at = created_at
        self.due_at = created_at + due_s
        self.state: State = _ACCEPTED
        self.shares: Sequence[Share] = ()
        self.errors: Sequence[dict[str, str]] = ()
        self.total = self.live = self.absent_count = 0
        self.journal_key: JournalKey = 0
        self.waiters: list[Waiter] | None = None
        self.plan: Plan | None = None
        self.lower: dict[str, Lower] | None = None
        self.owner: Owner | None = None
        self.token = ""
        self.by = NOBODY
        self.settled_at: float | None = None
        self.start_at = 0.0
        self.retries = self.rewind = self.traceparent = ""
        self.is_scheduled = self.is_due = False
        self.reported: State | None = None
        self.told: Told | None = None
        self.version = 0
        self.indexes: dict[str, int] | None = None
        self.parked: list[Parked] | None = None
        self.progress: Progress | None = None
        self.rebound_s, self.rebound_asked_s = 0.0, -1.0
        self.rebound: Rebounds | None = None
        self.verify: Verify | None = None
        self.is_handed = self.is_lost = False

    @classmethod
    def internal(cls, targets: list[str], *, owner: Owner | None, task_id: str) -> Task:
        """Return a task that no client handed in.

        With an owner it is the engine's own, is in no region and never saved. Without one it stands for a
        task of the journal that the configuration does not allow any more.
        """
        task = cls(
            id=task_id,
            action=Action.PURGE,
            kind=Kind.URL,
            targets=targets,
            soft=False,
            prefetch=False,
            callback=None,
            due_s=0,
            body=b"",
            digest=b"",
            created_at=0,
        )
        task.owner = owner
        return task

    @property
    def is_committed(self) -> bool:
        """Whether the store has it: before that nobody but its clients' connections may know of it."""
        return self.waiters is None

    @property
    def is_visited_only(self) -> bool:
        """Whether all that is left of it is its verification: nothing can be taken back of that."""
        is_at_it = self.live == 1 and self.verify is not None and self.verify.run is not None
        return is_at_it and not any(share.delayed_count for share in self.shares)

    @property
    def is_internal(self) -> bool:
        """Whether the engine sends it on its own account: late, or early below an unreachable parent."""
        return self.owner is not None

    def index_of(self, target: str) -> int:
        """Return the place of *target*; the table for it is made when it is first asked for."""
        if self.indexes is None:
            self.indexes = {text: index for index, text in enumerate(self.targets)}
        return self.indexes[target]

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.state} {self.kind} [{len(self.targets)} targets]>"

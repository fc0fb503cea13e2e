"""What is handed down at once: targets of one share, their id at the child, and what came back of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from engine.intake.task_body import decode, digest_of
from engine.tasks import by_region, by_target
from engine.tasks.handed_ids import SEVERAL, digest_of_text, own_id, part_id
from engine.tasks.plan import GROUP, LAYER
from engine.tasks.words import CANCELLED, HARD, LAST, LATE, TOGETHER, Operation, State
from engine.tree.words import SINCE, Handed, lacking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.nodes.queue import Item
    from engine.tasks.task import Share, Task

_SLACK_S: Final = 1.0  #: how much older a task may seem than the one that it was made of: clocks are set
_encode = msgspec.json.encode


class Way(Protocol):
    """Where pieces come from, told what became of them."""

    def settled(self, piece: Piece, places: Sequence[int], *, is_absent: bool) -> None:
        """Take targets of a piece that all leaves acked."""

    def taken(self, piece: Piece, places: Sequence[int]) -> list[Item]:
        """Return the requests of targets that are settled otherwise, which leave."""

    def given_up(self, piece: Piece, places: Sequence[int]) -> None:
        """Take targets of a cancelled task that nobody acked."""


class Piece:
    """Targets of one share on their way to the child, and back.

    Args:
        way: where they came from, and go back to.
        share: of a client's task, or of an internal one.
        indexes: its targets.
        path: of the task, see `engine.tree.words.PATH`; without this engine.
        now: `time.monotonic`.
        late_slack_s: how much older than a row a task may be that it is of; half of ``retention_days``, after
            which an id may be used again.

    Attributes:
        id: what the child calls them.
        task_id: the client's task that they are of; empty: they are of several.
        is_last: they fail, unless the child has done them: nothing of them is handed down.
        is_asked_first: they may be there already, as a part of a task: it is asked before they are sent.
        is_to_hand: it waits to be handed down.
        was_taken: the child said so since it was asked last.
        dull_count: how many reports in turn have settled none of its targets.
        lost_count: how often it knew nothing of what it had taken.
        left: the places in *indexes* that are not settled yet.
        seen: of the last report.
    """

    __slots__ = (
        "_body",
        "_digest",
        "_indexes",
        "_slack_s",
        "dull_count",
        "id",
        "is_asked_first",
        "is_folded",
        "is_last",
        "is_out",
        "is_over",
        "is_part",
        "is_to_hand",
        "left",
        "lost_count",
        "path",
        "seen",
        "sent_at",
        "share",
        "task_id",
        "was_held",
        "was_taken",
        "way",
    )

    def __init__(
        self,
        way: Way,
        share: Share,
        indexes: Sequence[int],
        path: str,
        *,
        now: float,
        late_slack_s: float,
    ) -> None:
        self.way = way
        self.share = share
        self._indexes = indexes
        self.left: Sequence[int] = range(len(indexes))
        self.path = path
        self.seen = ""
        self.sent_at = now
        self.is_over = self.was_held = self.is_folded = False
        self.is_out = False  # a request with it is under way
        self.is_to_hand = self.was_taken = False
        self.lost_count = self.dull_count = 0
        self._body: bytes | None = None
        self._digest = ""
        task = share.task
        late = task.owner is not None and task.id.startswith((LATE, LAST))
        self.is_last = late and task.id.startswith(LAST)
        self.is_asked_first = late
        is_whole = len(indexes) == len(share.states)
        self._slack_s = late_slack_s if late else _SLACK_S
        self.is_part = not (late or (task.owner is None and is_whole))
        is_of_several = task.owner is not None and task.id.startswith(TOGETHER)
        of = task.id.removeprefix(LATE).removeprefix(LAST) if late else task.id
        self.task_id = "" if is_of_several else of
        self.id = self.part_id() if self.is_part else own_id(of, share.operation)

    def __repr__(self) -> str:
        return f"<Piece {self.id} [{len(self.left)}/{len(self._indexes)} left]>"

    @property
    def count(self) -> int:
        """How many targets it had."""
        return len(self._indexes)

    @property
    def items(self) -> list[Item]:
        """The requests that are not settled yet."""
        return [(self.share, self._indexes[place], None) for place in self.left]

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants it any more."""
        share = self.share
        if share.task.state is State.CANCELLED:
            return True
        return all(share.states[self._indexes[place]] == CANCELLED for place in self.left)

    def items_at(self, places: Sequence[int]) -> list[Item]:
        """Return the requests of some places."""
        return [(self.share, self._indexes[place], None) for place in places]

    def target_at(self, place: int) -> str:
        """Return the target at a place."""
        return self.share.task.targets[self._indexes[place]]

    @property
    def body(self) -> bytes:
        """The line that hands it down."""
        if self._body is None:
            self._body = _encode(self._handed(self.id))
        return self._body

    @property
    def stored_digest(self) -> str:
        """What the child's report of a task bears of which it is some rows; empty: nobody knows."""
        task = self.share.task
        known = (task.lower or {}).get(self.share.node.name)
        return "" if known is None else known.digests.get(self.id, "")

    def lacking(self, version: int) -> str:
        """Return what a child of this version of the protocol would not know of it; empty: it knows all."""
        is_older = any(since > version for since in SINCE.values())
        return lacking(self._handed(""), version) if is_older else ""

    @property
    def digest(self) -> str:
        """What the child's reports of it bear: of its line, read as the child reads it."""
        if not self._digest:
            self._digest = digest_of(decode(self.body)).hex()
        return self._digest

    @property
    def name(self) -> str:
        """What tasks of the child are called that ask this of these targets; empty: it has too many."""
        action, kind, is_soft = words_of(self.operation)
        targets = [self.target_at(place) for place in range(self.count)]
        return by_target.name_of(action, kind, targets, is_soft=is_soft)

    def forget_body(self) -> None:
        """Let go of the line, but for its digest: it is made again, should it be needed."""
        self._digest = self.digest
        self._body = None

    @property
    def operation(self) -> Operation:
        """What is asked for each target."""
        return self.share.operation

    def is_of_another(self, age_s: float) -> bool:
        """Tell whether the child's task had this id before: it is *age_s* old, and ours is younger.

        An id may be used again when it was forgotten here; the child may remember it for longer. Only lengths
        of time are compared, not clocks.
        """
        if self.is_part:
            return False  # its id has the time in it
        task = self.share.task
        since = task.created_at if task.owner is None else task.updated_at
        return age_s > time.time() - since + self._slack_s

    def is_done_before(self, acked_ago_s: float) -> bool:
        """Tell whether what the child did for the task of some rows it did before these were made.

        So it is with second purges that became rows: the first ones count no more. Only lengths of time are
        compared; between a first ack and the row of a second purge lies more than an answer takes to come.
        """
        row_s = time.time() - self.share.task.updated_at
        return self.is_asked_first and acked_ago_s > max(0.0, row_s)

    def send_as_part(self, *, anew: bool = False) -> None:
        """Hand it down under an id of its own: the child has no such task, or another one with this id.

        Args:
            anew: under one that it never had before.
        """
        self.is_asked_first = False
        self.is_part = True
        self.seen = ""
        self.id = self.part_id(anew=anew)
        self._body = None
        self._digest = ""

    def part_id(self, *, anew: bool = False) -> str:
        """Return an id that no other targets have: made of the task's, and of all that is handed down.

        Purges that the engine sends on its own account, beside those of a task, are never the same twice.
        """
        task = self.share.task
        of = self.task_id or SEVERAL
        is_anew = task.owner is not None and not task.id.startswith((LATE, TOGETHER))
        salt = f"{self.task_id or task.id} {task.created_at!r}"
        if anew or is_anew:
            salt = f"{of} {time.time_ns()} {self.sent_at!r} {id(self)}"
        digest = digest_of_text(salt)
        digest.update(_encode(self._handed("")))
        return part_id(of, digest.hexdigest())

    def _handed(self, handed_id: str) -> Handed:
        share, task = self.share, self.share.task
        operation = share.operation
        targets = task.targets
        chosen = targets if len(self._indexes) == len(targets) else [targets[at] for at in self._indexes]
        handed = Handed(handed_id, chosen, *words_of(operation))
        if handed.kind == "url" and any(target.endswith("*") for target in chosen):
            handed.literal = True
        handed.confirm = True
        below = by_region.nodes_of(task, share.node.name)
        handed.nodes = [name for name in below if not name.startswith((LAYER, GROUP))]
        handed.layers = [name.removeprefix(LAYER) for name in below if name.startswith(LAYER)]
        handed.groups = [name.removeprefix(GROUP) for name in below if name.startswith(GROUP)]
        if task.owner is None:
            handed.due_s = task.due_s
            _add_wishes(handed, task, operation)
        return handed


def _add_wishes(handed: Handed, task: Task, operation: Operation) -> None:
    """Add what the client asked for beyond the purge; not of a prefetch."""
    if operation is Operation.PREFETCH:
        return
    if b'"on_incapable"' in task.body:
        handed.on_incapable = decode(task.body).on_incapable
    if task.rebound_s:
        handed.rebound_s = 0  # the second purges come from here
    if task.verify is not None:
        handed.verify = asked_of(task.verify.asked)


def asked_of(asked: Any) -> Any:
    """Return a task's ``verify`` as its body has it."""
    if asked.mode == "urls":
        return {"urls": list(asked.urls)}
    return True if asked.mode == "all" else {"sample": asked.count}


def words_of(operation: Operation) -> tuple[str, str, bool]:
    """Return action, kind and ``soft`` of what is asked."""
    if operation is Operation.PREFETCH:
        return "prefetch", "url", False
    soft = operation in HARD
    return "purge", (HARD[operation] if soft else operation).name.removeprefix("PURGE_").lower(), soft

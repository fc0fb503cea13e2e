"""What is handed down at once: targets of one share, their id at the child, and what came back of them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from engine.tasks.words import HARD, Operation
from engine.tree.words import Handed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.nodes.queue import Item
    from engine.tasks.task import Share, Task

LATE: Final = "delayed:"
"""How the id of an internal task begins that delivers rows of a stored task: that one's id is behind it."""
_ID_MAX: Final = 64
_DIGEST_BYTES: Final = 8
_encode = msgspec.json.encode


class Way(Protocol):
    """Where pieces come from, told what became of them."""

    def settled(self, piece: Piece, places: Sequence[int], *, is_absent: bool) -> None:
        """Take targets of a piece that all leaves acked."""

    def taken(self, piece: Piece, places: Sequence[int]) -> list[Item]:
        """Return the requests of targets that are settled otherwise, which leave."""


class Piece:
    """Targets of one share on their way to the child, and back.

    Args:
        way: where they came from, and go back to.
        share: of a client's task, or of an internal one.
        indexes: its targets.
        path: of the task, see `engine.tree.words.PATH`; without this engine.

    Attributes:
        id: what the child calls them.
        is_asked_first: they may be there already, as a part of a task: it is asked before they are sent.
        left: the places in *indexes* that are not settled yet.
        seen: of the last report.
    """

    __slots__ = (
        "_body",
        "_indexes",
        "id",
        "is_asked_first",
        "is_out",
        "is_over",
        "left",
        "path",
        "seen",
        "sent_at",
        "share",
        "way",
    )

    def __init__(self, way: Way, share: Share, indexes: Sequence[int], path: str, now: float) -> None:
        self.way = way
        self.share = share
        self._indexes = indexes
        self.left: Sequence[int] = range(len(indexes))
        self.path = path
        self.seen = ""
        self.sent_at = now
        self.is_over = False
        self.is_out = False  # a request with it is under way
        self._body: bytes | None = None
        task = share.task
        late = task.id.startswith(LATE) and task.owner is not None
        self.is_asked_first = late
        is_whole = len(indexes) == len(share.states)
        if late:
            self.id = own_id(task.id.removeprefix(LATE), share.operation)
        elif task.owner is None and is_whole:
            self.id = own_id(task.id, share.operation)
        else:
            self.id = self.part_id()

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
    def operation(self) -> Operation:
        """What is asked for each target."""
        return self.share.operation

    def send_as_part(self) -> None:
        """Hand it down under an id of its own: the child has no such task, or another one with this id."""
        self.is_asked_first = False
        self.seen = ""
        self.id = self.part_id()
        self._body = None

    def part_id(self) -> str:
        """Return an id that no other targets have: made of the task's, and of all that is handed down.

        Purges that the engine sends on its own account, beside those of a task, are never the same twice.
        """
        task = self.share.task
        of = task.id.removeprefix(LATE)
        is_anew = task.owner is not None and not task.id.startswith(LATE)
        salt = f"{of} {self.sent_at!r} {id(self)}" if is_anew else of
        digest = hashlib.blake2b(salt.encode(), digest_size=_DIGEST_BYTES)
        digest.update(_encode(self._handed("")))
        return f"{of[: _ID_MAX - 2 * _DIGEST_BYTES - 1]}.{digest.hexdigest()}"

    def _handed(self, handed_id: str) -> Handed:
        share, task = self.share, self.share.task
        operation = share.operation
        targets = task.targets
        chosen = targets if len(self._indexes) == len(targets) else [targets[at] for at in self._indexes]
        handed = Handed(handed_id, chosen, *words_of(operation))
        if handed.kind == "url" and any(target.endswith("*") for target in chosen):
            handed.literal = True
        handed.confirm = True
        if task.owner is None:
            handed.due_s = task.due_s
            _add_wishes(handed, task, operation)
        return handed


def _add_wishes(handed: Handed, task: Task, operation: Operation) -> None:
    """Add what the client asked for beyond the purge; not of a prefetch."""
    if operation is Operation.PREFETCH:
        return
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


def own_id(task_id: str, operation: Operation) -> str:
    """Return what the child calls a whole share: as its task, and prefetches behind a purge otherwise."""
    if operation is not Operation.PREFETCH:
        return task_id
    if len(task_id) <= _ID_MAX - 2:
        return f"{task_id}.f"
    digest = hashlib.blake2b(task_id.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{task_id[: _ID_MAX - 2 * _DIGEST_BYTES - 3]}.{digest}.f"

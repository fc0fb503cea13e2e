"""What the history asks of a store: blocks of settled tasks, the records that are in none yet, and changes.

A record is written in the transaction of the documents it is about, so a crash loses none. When there are
enough, the saver's thread packs them into a block (`Store.tidy`).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

import msgspec
from loguru import logger

from engine.tasks.late import late_records
from engine.tasks.packing import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from engine.tasks.records import Delivered
    from engine.tasks.settled import Change, SettledTasks
    from engine.tasks.task import Task

TASKS_MAX = 4096  #: in one block, about
BYTES_MAX = 4 * 1024**2  #: of the records of one block, about

BlockKey = int | str
"""What a store calls a block."""


class HistoryLimits(msgspec.Struct, frozen=True):
    """How much of the history a store keeps."""

    keep_s: float  #: 0: there is no history
    max_bytes: int


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a block must have to be looked into; what is empty, or 0, does not matter."""

    since: float = 0.0  #: a task of it was created then, or later
    packed: float = float("inf")  #: without one, that it was packed then, or later, will do
    until: float = float("inf")  #: a task of it was created then, or before
    actions: int = 0  #: one of these bits
    states: int = 0  #: one of these bits
    who: Sequence[str] = ()  #: tokens or addresses, all of which it has tasks of
    node: str = ""
    hosts: Sequence[bytes] = ()  #: CRC-32 of hosts, one of which it has
    crcs: Sequence[bytes] = ()  #: CRC-32 of targets, one of which it has
    line_hashes: Sequence[bytes] = ()  #: their other hashes; see `engine.tasks.hashes`
    takes_wide: bool = False  #: what has purges of more than one URL will do, too
    words: Sequence[bytes] = ()  #: one of which a record has, where its tasks are not packed

    @property
    def targets(self) -> list[bytes]:
        """The hashes of targets, of either kind."""
        return [*self.crcs, *self.line_hashes]


class OpenHistory(msgspec.Struct):
    """What is in no block yet, as the store gives it at one moment."""

    tasks: list[SettledTasks]
    changes: list[Change]
    plans: dict[bytes, bytes]


class BlockHead(msgspec.Struct, frozen=True):
    """A block that may have what is wanted."""

    key: BlockKey
    last_at: float
    starts: bytes
    patterns: list[str]


class HistoryErrors:
    """What is wrong with a history: of writing until a block is written, of reading until a page is whole.

    Any thread may tell.

    Attributes:
        of_writing: why some of it is not there; empty: nothing is missing.
        of_reading: why some of it was not found; empty: all was.
        failed_reads: how many have failed.
    """

    def __init__(self) -> None:
        self.of_writing = self.of_reading = ""
        self.failed_reads = 0
        self._last_failure = ""
        self._lock = threading.Lock()

    @property
    def text(self) -> str:
        """Why some of it is missing; empty: nothing is."""
        return self.of_writing or self.of_reading

    def cannot_write(self, why: str) -> None:
        """Say that some of it was not written, in the log once."""
        if why != self.of_writing:
            logger.error("history: {}", why)
        self.of_writing = why

    def cannot_read(self, why: str) -> None:
        """Say that some of it was not read, in the log once."""
        with self._lock:
            if why != self.of_reading:
                logger.error("history: {}", why)
            self.of_reading = self._last_failure = why
            self.failed_reads += 1

    def wrote(self) -> None:
        """End every error: what is damaged still, the next read of it tells."""
        with self._lock:
            self.of_writing = self.of_reading = ""

    def read(self, failed_before: int) -> str:
        """End what earlier reads said, when none has failed meanwhile; else return what the last one said.

        Another page that was whole may have ended it by then: this one lacks something all the same.

        Args:
            failed_before: `failed_reads` as it was when the page began.
        """
        with self._lock:
            if self.failed_reads != failed_before:
                return self._last_failure
            self.of_reading = ""
            return ""


class History(Protocol):
    """The history of one store. Blocking, and any thread may read.

    What is wrong with it is told by `errors`, and never raised: no purge waits for its history.
    """

    @property
    def errors(self) -> HistoryErrors:
        """What is wrong with it."""

    def unpacked(self, words: Sequence[bytes] = ()) -> OpenHistory:
        """Return what is in no block yet; with *words*, of small records only those that have one of them."""

    def heads(self, wanted: Wanted, after: BlockHead | None, limit: int) -> list[BlockHead]:
        """Return blocks behind *after* that may have what is wanted, by their last task, newest first."""

    def block(self, key: BlockKey) -> tuple[bytes, bytes]:
        """Return hashes and body of a block; both empty when it is gone."""

    def changes(self, task_ids: Sequence[str]) -> list[Change]:
        """Return what became later of partial tasks, of those that are in blocks."""

    def states(self, task_ids: Sequence[str]) -> list[Change]:
        """Return the states of tasks as their documents have them, of those that are stored."""

    def waiting(self, task_id: str, asked: Sequence[tuple[str, int, str]]) -> set[tuple[str, int, str]]:
        """Return what of a partial task waits, at least of *asked*: node, operation, target."""

    def bytes_kept(self) -> int:
        """Return how much it holds."""

    def complete_since(self) -> float:
        """Return since when, UNIX time, it has every task: of those created until then some may be gone."""

    # Taking another's over: no engine runs

    def begin_anew(self, since: float) -> None:
        """Drop all of it; it will have every task that was created since then.

        Raises:
            StoreError: it cannot be written.
        """

    def take_over(
        self, tasks: SettledTasks | None, changes: Sequence[Change], plans: Mapping[bytes, bytes]
    ) -> None:
        """Write tasks as another history had them, what became of tasks, and plans that they name.

        Raises:
            StoreError: it cannot be written.
        """


def late(delivered: Sequence[Delivered], fail: Callable[[str], None]) -> list[tuple[int, bytes]]:
    """Return the records of what was delivered late; see `packed`."""
    try:
        return late_records(delivered) if delivered else []
    except Exception as exc:  # noqa: BLE001 - a purge never waits for its history
        fail(f"{len(delivered)} rows that were late are not in the history: {exc!r}")
        return []


def packed(tasks: list[Task], fail: Callable[[str], None]) -> list[tuple[int, bytes]]:
    """Return the records of tasks that are being stored, and of how many each is.

    A task that cannot be packed is a mistake of ours; it is stored all the same, and *fail* is told.
    """
    try:
        return pack(tasks)
    except Exception as exc:  # noqa: BLE001 - a purge never waits for its history
        fail(f"{len(tasks)} tasks are not in the history: {exc!r}")
        return []

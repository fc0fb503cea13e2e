"""Requests of one node that go wrong again and again: when each may be sent once more, and which are poison.

A request is postponed when several attempts in quick succession went wrong: the node answered 5xx, or closed
the connection on it. Its subtasks are rows of the delay queue from then on. Each further time makes the pause
before the next attempt longer, so that a sick node is not hammered and other rows are not kept waiting.

A *poison* request has gone wrong for ``poison_after_s``, while the node did the same operation for other
targets of the same host: it is the request, not the node, and it fails for good. Every other one is kept and
tried again.

A refused request is postponed in the same way, and is never poison: an operator can mend that. What is held
as a whole, by operation and host, is known to `holds`; rows of it are chosen here too, one for each trial.

What is known is kept in memory only: after a restart each row is tried at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from engine.base.backoff import backoff_s
from engine.nodes.ability import is_of_pattern
from engine.nodes.holds import FORGOTTEN_AFTER_S, PAUSE_FIRST_S, PAUSE_MAX_S, Holds
from engine.tasks.words import host_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable

    from engine.nodes.holds import Pair
    from engine.nodes.queue import Item
    from engine.tasks.records import ParkedRow
    from engine.tasks.words import Operation

_REQUESTS_MAX: Final = 65_536
BELOW_TIMES_MAX: Final = 3  #: pauses of `kept_below` grow so often: to 16 s or so


@dataclass(slots=True)
class _Wrong:
    """A request that goes wrong; times as `Postponed` has them."""

    first_at: float
    times: int = 0
    due_at: float = 0.0

    def pause(self, now: float) -> float:
        """Begin the next pause; return its seconds."""
        pause_s = backoff_s(self.times, first_s=PAUSE_FIRST_S, max_s=PAUSE_MAX_S)
        self.times += 1
        self.due_at = now + pause_s
        return pause_s


class Postponed:
    """The postponed requests of one node, by operation and target.

    Args:
        now: a clock that never goes back, in seconds: the loop's.
        poison_after_s: how long a request goes wrong beside acked ones until it is poison.
        holds: the operations and hosts that wait as a whole.
        incapable: operations that the node cannot do, since its cache is another: their rows wait.

    Attributes:
        misses_patterns: nor can it do those of a host that is a pattern.
    """

    def __init__(
        self,
        now: Callable[[], float],
        poison_after_s: float,
        holds: Holds | None = None,
        incapable: frozenset[int] = frozenset(),
    ) -> None:
        self.misses_patterns = False
        self.incapable = incapable
        self._now = now
        self._poison_after_s = poison_after_s
        self.holds = holds or Holds(now)
        self._requests: dict[tuple[int, str], _Wrong] = {}
        self._acked_at: dict[Pair, float] = {}
        self._beside: set[tuple[int, str]] = set()
        self._first_acked_at: dict[tuple[int, str], dict[Hashable, float]] = {}
        self.watched: set[Pair] = set()
        """Operations and hosts of postponed requests, with nothing acked since; changed here only."""

    def __repr__(self) -> str:
        return f"<Postponed [{len(self._requests)} requests, {self.holds!r}]>"

    def __len__(self) -> int:
        return len(self._requests) + len(self.holds.pairs) + len(self._beside)

    def postpone(self, operation: Operation | int, target: str) -> float | None:
        """Count a request that went wrong once more.

        Returns:
            Seconds until it may be sent again; None: it is poison, and is forgotten here.
        """
        now = self._now()
        wrong = self._requests.get((int(operation), target))
        if wrong is not None and self._is_poison((int(operation), host_of(target)), wrong, now):
            self.settled(int(operation), target)
            return None
        return self._wrong(operation, target, now).pause(now)

    def kept_below(self, operation: Operation, target: str) -> None:
        """Postpone a request that another engine holds: it says when to look, and the pauses stay short."""
        now = self._now()
        wrong = self._wrong(operation, target, now)
        wrong.first_at = now
        wrong.times = min(wrong.times, BELOW_TIMES_MAX)
        wrong.pause(now)

    def refused(self, operation: Operation, target: str) -> float:
        """Postpone a refused request; return the seconds until it may be sent again."""
        now = self._now()
        wrong = self._wrong(operation, target, now)
        wrong.first_at = now
        return wrong.pause(now)

    def _wrong(self, operation: Operation | int, target: str, now: float) -> _Wrong:
        key = (int(operation), target)
        wrong = self._requests.get(key)
        if wrong is None or now - wrong.due_at > FORGOTTEN_AFTER_S:
            self._make_room(now)
            wrong = self._requests[key] = _Wrong(now)
            self.watched.add((int(operation), host_of(target)))
        return wrong

    def await_fetch(self, operation: Operation | int, target: str) -> None:
        """Keep a purge from being sent until a prefetch that it was sent beside has ended."""
        self._beside.add((operation, target))

    def fetch_over(self, operation: Operation | int, target: str) -> None:
        """That prefetch has ended."""
        self._beside.discard((operation, target))

    def acked_beside(
        self, operation: Operation | int, target: str, rows: Iterable[Hashable], now: float
    ) -> dict[Hashable, float]:
        """Note that a purge was acked for *rows* beside a prefetch; return when each was first acked so."""
        key = (int(operation), target)
        if key not in self._first_acked_at and len(self._first_acked_at) >= _REQUESTS_MAX:
            del self._first_acked_at[next(iter(self._first_acked_at))]
        before = self._first_acked_at.get(key, {})
        first_at = self._first_acked_at[key] = {row: before.get(row, now) for row in rows}
        return first_at

    def _is_poison(self, pair: Pair, wrong: _Wrong, now: float) -> bool:
        if now - wrong.due_at > FORGOTTEN_AFTER_S:
            return False
        was_acked = self._acked_at.get(pair, wrong.first_at - 1) >= wrong.first_at
        return was_acked and now - wrong.first_at >= self._poison_after_s

    def is_waiting(self, operation: int, target: str) -> bool:
        """Tell whether a request may not be sent yet."""
        if self.cannot(operation, target):
            return True
        if (operation, target) in self._beside:
            return True
        wrong = self._requests.get((operation, target))
        if wrong is not None and wrong.due_at > self._now():
            return True
        return self.holds.wait_s(operation, target) > 0

    def wait_s(self, operation: int, target: str) -> float:
        """Return the seconds until a request may be sent; 0 or less: now, or nobody knows when."""
        wrong = self._requests.get((operation, target))
        wait_s = 0.0 if wrong is None else wrong.due_at - self._now()
        return max(wait_s, self.holds.wait_s(operation, target))

    def cannot(self, operation: int, target: str) -> bool:
        """Tell whether the node can do nothing of the kind."""
        return operation in self.incapable or (self.misses_patterns and is_of_pattern(operation, target))

    def gone_wrong(self, operations: Collection[int]) -> set[tuple[int, str]]:
        """Return the requests of some operations that went wrong and were not acked since."""
        return {request for request in self._requests if request[0] in operations}

    def supersedes(self, operation: int, target: str) -> bool:
        """Tell whether a wide purge may stand for others: it is not postponed, refused or held."""
        return not (self.holds.is_known(operation, target) or self.is_waiting(operation, target))

    def sendable(self, rows: list[ParkedRow], oldest_at: float = 0.0) -> list[ParkedRow]:
        """Return the rows that may be sent now; of what is held one each, if its trial is due.

        Args:
            rows: of the node, oldest first.
            oldest_at: those parked before this are returned all the same, because they are to fail.
        """
        can_all = not self.misses_patterns and self.incapable.isdisjoint([row.operation for row in rows])
        if not self and can_all:
            return rows
        tried: set[Pair] = set()
        chosen: list[ParkedRow] = []
        for row in rows:
            operation, target = row.operation, row.target
            if row.parked_at < oldest_at:
                chosen.append(row)
                continue
            if self.is_waiting(operation, target):
                continue
            if self.holds.is_held(operation, target):
                pair = (operation, host_of(target))
                if pair in tried:
                    continue
                tried.add(pair)
            chosen.append(row)
        return chosen

    def next_s(self, since: float | None = None) -> float | None:
        """Return the seconds until the first request may be sent that could not at *since*; None: none.

        Args:
            since: on the clock of this object; None: now.
        """
        since = self._now() if since is None else since
        both = chain((wrong.due_at for wrong in self._requests.values()), self.holds.due_times())
        due_at = min((at for at in both if at > since), default=None)
        return None if due_at is None else due_at - self._now()

    def settled(self, operation: int, target: str) -> None:
        """Forget a request that was acked, or failed for good."""
        self._requests.pop((operation, target), None)
        if self._first_acked_at:
            self._first_acked_at.pop((operation, target), None)
        if not self._requests:
            self.watched.clear()
            self._acked_at.clear()

    def note_acked(self, acked: Iterable[Item]) -> None:
        """Take note of which of the `watched` operations and hosts these requests are."""
        for share, index, _ in acked:
            pair = (int(share.operation), host_of(share.task.targets[index]))
            if pair in self.watched:
                self.watched.discard(pair)
                self._acked_at[pair] = self._now()
                if not self.watched:
                    return

    def due_now(self) -> None:
        """Each request may be sent now."""
        now = self._now()
        for wrong in self._requests.values():
            wrong.due_at = min(wrong.due_at, now)

    def begin_anew(self) -> None:
        """The node was away and is back: what went wrong before says nothing about the requests."""
        now = self._now()
        for (operation, target), wrong in self._requests.items():
            wrong.first_at = now
            self.watched.add((operation, host_of(target)))

    def _make_room(self, now: float) -> None:
        """Let go of requests that nobody asked for again; and of the oldest, when there are too many."""
        if len(self._requests) < _REQUESTS_MAX:
            return
        overdue = [key for key, wrong in self._requests.items() if now - wrong.due_at > FORGOTTEN_AFTER_S]
        for key in overdue or list(islice(self._requests, _REQUESTS_MAX // 16)):
            del self._requests[key]

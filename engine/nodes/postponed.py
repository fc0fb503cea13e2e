"""Requests of one node that go wrong again and again: when each may be sent once more, and which are poison.

A request is postponed when several attempts in quick succession went wrong: the node answered 5xx, or closed
the connection on it. Its subtasks are rows of the delay queue from then on. Each further time makes the pause
before the next attempt longer, so that a sick node is not hammered and other rows are not kept waiting.

A *poison* request has gone wrong for ``poison_after_s``, while the node did the same operation for other
targets of the same host: it is the request, not the node, and it fails for good. Every other one is kept and
tried again.

When a node became sick, all rows of the operations and hosts that it did nothing of are *held* in the same
way, until one is acked: otherwise the oldest of them would make it sick after each return, and rows of other
hosts would never have their turn.

What is known is kept in memory only: after a restart each row is tried at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from engine.base.backoff import backoff_s
from engine.nodes.refusals import host_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.nodes.queue import Item
    from engine.tasks.words import Operation

PAUSE_FIRST_S: Final = 2.0
PAUSE_MAX_S: Final = 300.0
_FORGOTTEN_AFTER_S: Final = 600.0  #: nobody asked for it again: its rows were cancelled, or settled by others
_REQUESTS_MAX: Final = 65_536
_HELD_MAX: Final = 1024


@dataclass(slots=True)
class _Wrong:
    """A request that goes wrong, or an operation and host that are held; times as `Postponed` has them."""

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
        incapable: operations that the node cannot do, since its cache is another: their rows wait.
    """

    def __init__(
        self, now: Callable[[], float], poison_after_s: float, incapable: frozenset[int] = frozenset()
    ) -> None:
        self.incapable = incapable
        self._now = now
        self._poison_after_s = poison_after_s
        self._requests: dict[tuple[int, str], _Wrong] = {}
        self._held: dict[tuple[int, str], _Wrong] = {}
        self._acked_at: dict[tuple[int, str], float] = {}
        self._beside: set[tuple[int, str]] = set()
        self.watched: set[tuple[int, str]] = set()
        """Operations and hosts of postponed requests, with nothing acked since; changed here only."""

    def __repr__(self) -> str:
        return f"<Postponed [{len(self._requests)} requests, {len(self._held)} hosts held]>"

    def __len__(self) -> int:
        return len(self._requests) + len(self._held) + len(self._beside)

    def postpone(self, operation: Operation | int, target: str) -> float | None:
        """Count a request that went wrong once more.

        Returns:
            Seconds until it may be sent again; None: it is poison, and is forgotten here.
        """
        key = (int(operation), target)
        pair = (int(operation), host_of(target))
        now = self._now()
        wrong = self._requests.get(key)
        if wrong is None or now - wrong.due_at > _FORGOTTEN_AFTER_S:
            self._make_room(now)
            wrong = self._requests[key] = _Wrong(now)
            self.watched.add(pair)
        elif self._is_poison(pair, wrong, now):
            self.settled(*key)
            return None
        return wrong.pause(now)

    def hold(self, requests: Iterable[tuple[Operation, str]]) -> None:
        """Keep all requests of the operations and hosts of these from being sent for a while."""
        now = self._now()
        for pair in {(int(operation), host_of(target)) for operation, target in requests}:
            held = self._held.get(pair)
            if held is None or now - held.due_at > _FORGOTTEN_AFTER_S:
                if len(self._held) >= _HELD_MAX:
                    self._held.clear()
                held = self._held[pair] = _Wrong(now)
            held.pause(now)
            self.watched.add(pair)

    def await_fetch(self, operation: Operation | int, target: str) -> None:
        """Keep a purge from being sent until a prefetch that it was sent beside has ended."""
        self._beside.add((operation, target))

    def fetch_over(self, operation: Operation | int, target: str) -> None:
        """That prefetch has ended."""
        self._beside.discard((operation, target))

    def _is_poison(self, pair: tuple[int, str], wrong: _Wrong, now: float) -> bool:
        was_acked = self._acked_at.get(pair, wrong.first_at - 1) >= wrong.first_at
        return was_acked and now - wrong.first_at >= self._poison_after_s

    def is_waiting(self, operation: int, target: str) -> bool:
        """Tell whether a request may not be sent yet."""
        if operation in self.incapable:
            return True
        now = self._now()
        if (operation, target) in self._beside:
            return True
        wrong = self._requests.get((operation, target))
        if wrong is not None and wrong.due_at > now:
            return True
        held = self._held.get((operation, host_of(target))) if self._held else None
        return held is not None and held.due_at > now

    def next_s(self, since: float) -> float | None:
        """Return the seconds until the first request may be sent that could not at *since*; None: none."""
        both = chain(self._requests.values(), self._held.values())
        due_at = min((wrong.due_at for wrong in both if wrong.due_at > since), default=None)
        return None if due_at is None else due_at - self._now()

    def settled(self, operation: int, target: str) -> None:
        """Forget a request that was acked, or failed for good."""
        self._requests.pop((operation, target), None)
        if not self:
            self.watched.clear()
            self._acked_at.clear()

    def note_acked(self, acked: Iterable[Item]) -> None:
        """Take note of which of the `watched` operations and hosts these requests are."""
        for share, index, _ in acked:
            pair = (int(share.operation), host_of(share.task.targets[index]))
            if pair in self.watched:
                self.watched.discard(pair)
                self._acked_at[pair] = self._now()
                self._held.pop(pair, None)
                if not self.watched:
                    return

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
        overdue = [key for key, wrong in self._requests.items() if now - wrong.due_at > _FORGOTTEN_AFTER_S]
        for key in overdue or list(islice(self._requests, _REQUESTS_MAX // 16)):
            del self._requests[key]

"""The prefetches of one node before the guards of their origins: which may go, and how they went.

What has to wait stays in the node's queue, and does not keep prefetches of other origins: so many of the
queue are looked at as `_AHEAD_MAX`. The queue is looked at again when a guard lets the next one through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from engine.nodes.origin_guard import SLOW_S

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from engine.nodes.answer import Answer
    from engine.nodes.origin_guard import OriginGuard, OriginGuards
    from engine.nodes.queue import Item
    from engine.tasks.task import Share

_AHEAD_MAX: Final = 256
_OK: Final = 200


class Waiting(Protocol):
    """The queue of a node's prefetches."""

    def take_waiting(self, room: int) -> list[Item]:
        """Return up to *room* requests."""

    def put_back(self, items: list[Item]) -> None:
        """Queue requests again, in front."""


class Clockwork(Protocol):
    """The engine's timer, as far as it is needed here."""

    def add(self, key: Hashable, delay_s: float, callback: Callable[[], None]) -> None:
        """Call *callback* once, in *delay_s*."""


class FetchGuard:
    """Asks the guards for one node.

    Args:
        guards: of all origins.
        timer: of the engine.
        now: `time.monotonic`.
        wake: has the node's queue looked at again.
    """

    def __init__(
        self, guards: OriginGuards, timer: Clockwork, now: Callable[[], float], wake: Callable[[], None]
    ) -> None:
        self._guards = guards
        self._timer = timer
        self._now = now
        self._wake = wake
        self._sent: dict[tuple[Share, int], tuple[OriginGuard, float]] = {}  # no byte of an answer yet
        self._begun: dict[tuple[Share, int], float] = {}  # how long the first byte took

    def sift(self, waiting: Waiting, room: int) -> list[Item]:
        """Return up to *room* prefetches that may go now; the others stay in the queue."""
        free: list[Item] = []
        later: list[Item] = []
        blocked: dict[OriginGuard, None] = {}
        while len(free) < room and len(later) < _AHEAD_MAX:
            items = waiting.take_waiting(room - len(free))
            for item in items:
                guard = self._guards.of(_host(item))
                if guard is None:
                    free.append(item)
                elif guard not in blocked and guard.take():
                    free.append(item)
                    self._note_sent(item, guard)
                else:
                    blocked[guard] = None
                    later.append(item)
            if not items:
                break
        if later:
            waiting.put_back(later)
            self._wake_later(blocked)
        return free

    def begun(self, item: Item, wait_s: float) -> None:
        """Take how long the first byte of an answer took."""
        sent = self._sent.pop(item[:2], None)
        if sent is not None:
            self._begun[item[:2]] = wait_s
            if wait_s > SLOW_S:
                sent[0].note(_OK, wait_s, _target(item))

    def answered(self, items: Sequence[Item], answers: Sequence[Answer], duration_s: float) -> None:
        """Take answers, the oldest of whose requests was sent *duration_s* ago."""
        for item, answer in zip(items, answers, strict=False):
            self._sent.pop(item[:2], None)
            guard = self._guards.of(_host(item))
            if guard is not None:
                guard.note(answer.status, self._begun.pop(item[:2], duration_s), _target(item))

    def lost(self, items: Sequence[Item], *, has_timed_out: bool) -> None:
        """Take requests that got no answer; in time: the origin gave the cache none."""
        for item in items:
            sent = self._sent.pop(item[:2], None)
            self._begun.pop(item[:2], None)
            if sent is not None and has_timed_out:
                sent[0].note(0, 0.0, _target(item))
            elif sent is not None:
                sent[0].note_untold()

    def _note_sent(self, item: Item, guard: OriginGuard) -> None:
        if not self._sent:
            self._timer.add((self, "slow"), SLOW_S, self._look_for_slow)
        self._sent[item[:2]] = (guard, self._now())

    def _look_for_slow(self) -> None:
        """Tell the guards of prefetches that have had no byte for long."""
        now = self._now()
        for (share, index), (guard, since) in self._sent.items():
            if now - since >= SLOW_S:
                guard.note(_OK, now - since + SLOW_S, share.task.targets[index])
        if self._sent:
            self._timer.add((self, "slow"), SLOW_S, self._look_for_slow)

    def _wake_later(self, blocked: Mapping[OriginGuard, None]) -> None:
        for guard in blocked:
            guard.on_open.add(self._wake)
        wait_s = min(guard.wait_s() for guard in blocked)
        self._timer.add((self, "wake"), max(wait_s, 0.001), self._wake)


def _host(item: Item) -> str:
    return _target(item).split("/", 3)[2]


def _target(item: Item) -> str:
    share, index, _ = item
    return share.task.targets[index]

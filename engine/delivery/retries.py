"""What becomes of a request that went wrong and is worth another attempt.

Its first `QUICK_ATTEMPTS` attempts follow each other with short pauses, from memory. Then its subtasks wait
in the delay queue, with pauses that grow; what is poison fails (see `nodes.postponed`). What a node refuses,
or holds (see `nodes.holds`), waits there at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from engine.base.backoff import backoff_s
from engine.tasks.words import CANCELLED, QUICK_ATTEMPTS, RETRYING, State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.base.timer import Timer
    from engine.nodes.queue import Item
    from engine.observe.counters import Stats
    from engine.tasks.task import Share

_RETRY_BASE_S: Final = 0.1
_RETRY_MAX_S: Final = 5.0
_POISON: Final = "it went wrong for poison_after_s, while others of its host were done"
_CANCELLED: Final = State.CANCELLED  # looked up once: see `health`


class Park(Protocol):
    """Moves subtasks to the delay queue; see `Parking.park`."""

    def __call__(self, share: Share, indexes: Sequence[int], reason: str, *, tells_each: bool) -> None:
        """Park *indexes* of a share."""


class Retries:
    """Owns the attempts of subtasks, and when the next one is made.

    Args:
        timer: fires retries.
        stats: counts them.
        give_up: cancels a subtask of a cancelled task.
        fail: fails subtasks of a share for good.
        park: moves them to the delay queue.
    """

    def __init__(
        self,
        timer: Timer,
        stats: Stats,
        *,
        give_up: Callable[[Share, int], None],
        fail: Callable[[Share, list[int], str], None],
        park: Park,
    ) -> None:
        self._timer = timer
        self._stats = stats
        self._give_up = give_up
        self._fail = fail
        self._park = park
        self._retry_number = 0

    def retry(self, item: Item, reason: str) -> None:
        """Queue a request's subtasks again after a pause; postpone those that had their quick attempts."""
        share, index, others = item
        again: dict[Share, list[int]] = {}
        tired: list[tuple[Share, int]] = []
        attempt = 1
        for owner, place in ((share, index), *(others or ())):
            if _is_cancelled(owner, place):
                self._take_back(owner, place)
                continue
            attempts = owner.attempts = owner.attempts if owner.attempts is not None else {}
            attempts[place] = attempt = attempts.get(place, 0) + 1
            if attempt >= QUICK_ATTEMPTS:
                tired.append((owner, place))
            else:
                owner.states[place] = RETRYING
                again.setdefault(owner, []).append(place)
        if tired:
            self._postpone(tired, f"{reason}, {QUICK_ATTEMPTS} times")
        if not again:
            return
        self._stats.subtasks_retried += 1
        self._retry_number += 1
        pause_s = backoff_s(attempt, first_s=_RETRY_BASE_S, max_s=_RETRY_MAX_S)
        self._timer.add(("retry", self._retry_number), pause_s, lambda: _send_again(again))

    def without_cancelled(self, items: list[Item]) -> list[Item]:
        """Return what is to be sent again of requests that got no answer: nothing of a cancelled task."""
        kept: list[Item] = []
        for share, index, others in items:
            wanted: list[tuple[Share, int]] = []
            for owner, place in ((share, index), *(others or ())):
                if _is_cancelled(owner, place):
                    self._take_back(owner, place)
                else:
                    wanted.append((owner, place))
            if wanted:
                kept.append((*wanted[0], wanted[1:] or None))
        return kept

    def _take_back(self, share: Share, index: int) -> None:
        if share.task.owner is not None:
            share.task.owner.postponed(share, [index])
        else:
            self._give_up(share, index)

    def postpone(self, item: Item, reason: str) -> None:
        """Move a request's subtasks to the delay queue, to be tried again after a longer pause."""
        for share, index, others in self.without_cancelled([item]):
            self._postpone([(share, index), *(others or ())], reason)

    def _postpone(self, subtasks: list[tuple[Share, int]], reason: str) -> None:
        """Postpone subtasks of one request; fail them when it is poison."""
        share, index = subtasks[0]
        may_go_on = share.node.postpone(share.operation, share.task.targets[index])
        for owner, place in subtasks:
            if owner.attempts is not None:
                owner.attempts.pop(place, None)
            if may_go_on:
                self._wait(owner, [place], f"{reason}; it is tried again, with growing pauses")
            else:
                self._fail(owner, [place], f"{reason}; {_POISON}")

    def hold(self, items: list[Item], reason: str) -> None:
        """Move the subtasks of requests to the delay queue, whatever has been tried before."""
        waiting: dict[Share, list[int]] = {}
        for share, index, others in self.without_cancelled(items):
            for owner, place in ((share, index), *(others or ())):
                waiting.setdefault(owner, []).append(place)
                if owner.attempts is not None:
                    owner.attempts.pop(place, None)
        for share, indexes in waiting.items():
            self._wait(share, indexes, reason)

    def _wait(self, share: Share, indexes: list[int], reason: str) -> None:
        """Leave subtasks to the delay queue; those that came from it are rows there already."""
        if share.task.owner is not None:
            share.task.owner.postponed(share, indexes)
        else:
            self._park(share, indexes, reason, tells_each=True)


def _is_cancelled(share: Share, index: int) -> bool:
    """Tell whether a subtask is not wanted any more: its task is cancelled, or the rows it was sent for."""
    return share.task.state is _CANCELLED or share.states[index] == CANCELLED


def _send_again(again: dict[Share, list[int]]) -> None:
    for share, indexes in again.items():
        retrying = [index for index in indexes if share.states[index] == RETRYING]
        if retrying and share.task.is_internal:
            share.node.add_backlog(share, retrying)
        elif retrying:
            share.node.add(share, retrying)

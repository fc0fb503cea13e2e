"""What a node is not sent for a while, by operation and host: what it refuses, and what it was sick of.

A cache that *refuses* (ACL, method, no rule for a host) is reachable, and an operator must act. A refused
request waits as a row of the delay queue. After `REFUSALS_BEFORE_HOLD` refusals in a row of one operation and
host the other subtasks of both are *held*: they become rows unsent. What a node did nothing of before it
became sick is held from the first time on.

A held operation and host is tried again with growing pauses, one request each time (its *trial*). One that is
acked ends the hold, and the rows go out. Neither other operations of that host nor other hosts are kept back.

What is known is kept in memory only: after a restart the first rows are the trials.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.base.backoff import backoff_s
from engine.tasks.words import Operation, host_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from engine.nodes.queue import Item

REFUSALS_BEFORE_HOLD: Final = 8
ON_TRIAL_S: Final = 5.0
PAUSE_FIRST_S: Final = 2.0
PAUSE_MAX_S: Final = 300.0
TRIED_AGAIN: Final = "it is tried again, with growing pauses"
FORGOTTEN_AFTER_S: Final = 600.0  #: nobody asked for it again: its rows were cancelled, or settled by others
_PAIRS_MAX: Final = 1024

Pair = tuple[int, str]
"""An operation and a host."""


@dataclass(slots=True)
class Hold:
    """What is known of one operation and host; times as `Holds` has them."""

    reason: str
    since: float  #: UNIX time
    is_refused: bool  #: otherwise the node was sick of it
    refusals: int = 0  #: in a row
    last_at: float = 0.0  #: when the last of them came
    pauses: int = 0  #: 0: nothing is held yet
    due_at: float = 0.0  #: when its next trial may go out
    subtasks: int = 0  #: held so far

    def pause(self, now: float) -> None:
        """Begin the next pause, longer than the one before."""
        self.due_at = now + backoff_s(self.pauses, first_s=PAUSE_FIRST_S, max_s=PAUSE_MAX_S)
        self.pauses += 1


class Sifted(NamedTuple):
    """What becomes of requests that were about to be sent."""

    to_send: list[Item]
    held: dict[str, list[Item]]  #: reason → requests that become rows, unsent
    later: list[Item]  #: they are queued again, in front


class Holds:
    """The refused and held operations and hosts of one node.

    Args:
        now: a clock that never goes back, in seconds: the loop's.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.pairs: dict[Pair, Hold] = {}  #: with nothing acked since; changed here only

    def __repr__(self) -> str:
        return f"<Holds [{len(self.pairs)} operations of hosts]>"

    # What goes wrong, and what ends it

    def refused(self, operation: Operation, target: str, reason: str) -> bool:
        """Count a refused request. Returns True when its operation and host are held."""
        now = self._now()
        hold = self._at(operation, target, reason, is_refused=True)
        hold.reason, hold.is_refused = reason, True
        hold.refusals += 1
        hold.last_at = now
        if not hold.pauses and hold.refusals >= REFUSALS_BEFORE_HOLD:
            hold.pause(now)
        return bool(hold.pauses)

    def hold(self, requests: Iterable[tuple[Operation, str]], reason: str) -> None:
        """Hold the operations and hosts of requests that a node did nothing of."""
        now = self._now()
        for operation, host in {(operation, host_of(target)) for operation, target in requests}:
            self._at(operation, host, reason, is_refused=False).pause(now)

    def _at(self, operation: Operation, target: str, reason: str, *, is_refused: bool) -> Hold:
        pair = (int(operation), host_of(target))
        hold = self.pairs.get(pair)
        if hold is None or self._is_forgotten(hold):
            if len(self.pairs) >= _PAIRS_MAX:
                del self.pairs[next(iter(self.pairs))]
            hold = self.pairs[pair] = Hold(reason, time.time(), is_refused)
        return hold

    def _is_forgotten(self, hold: Hold) -> bool:
        return self._now() - max(hold.last_at, hold.due_at) > FORGOTTEN_AFTER_S

    def clear(self, acked: Iterable[Item]) -> bool:
        """Forget the operations and hosts of acked requests. Returns True when one of them was held."""
        was_held = False
        for share, index, _ in acked:
            hold = self.pairs.pop((int(share.operation), host_of(share.task.targets[index])), None)
            was_held = was_held or (hold is not None and hold.pauses > 0)
        return was_held

    def node_returns(self) -> None:
        """The node was away: whatever it refused before, it may have been mended."""
        now = self._now()
        for hold in self.pairs.values():
            if hold.is_refused:
                hold.due_at = min(hold.due_at, now)

    # What may be sent

    def is_known(self, operation: int, target: str) -> bool:
        """Tell whether an operation and host is refused or held, with nothing acked since."""
        return bool(self.pairs) and (operation, host_of(target)) in self.pairs

    def is_refused(self, operation: int, target: str) -> bool:
        """Tell whether an operation and host is refused, with nothing acked since: an operator must act."""
        hold = self.pairs.get((operation, host_of(target))) if self.pairs else None
        return hold is not None and hold.is_refused

    def reason_for(self, operation: int, target: str) -> str:
        """Return why an operation and host is refused or held; empty: it is not."""
        hold = self.pairs.get((operation, host_of(target)))
        return "" if hold is None else hold.reason

    def is_held(self, operation: int, target: str) -> bool:
        """Tell whether an operation and host is held, whether or not its next trial is due."""
        hold = self.pairs.get((operation, host_of(target))) if self.pairs else None
        return hold is not None and hold.pauses > 0

    def wait_s(self, operation: int, target: str) -> float:
        """Return the seconds until a request may be sent as a trial; 0 or less: now, or it is not held."""
        hold = self.pairs.get((operation, host_of(target))) if self.pairs else None
        return hold.due_at - self._now() if hold is not None and hold.pauses else 0.0

    def due_times(self) -> Iterator[float]:
        """Yield when the trials of what is held may go out."""
        return (hold.due_at for hold in self.pairs.values() if hold.pauses)

    def sift(self, items: list[Item], in_flight: Iterable[Item], size: int) -> Sifted:
        """Tell apart what may go out, what is held, and what is *on trial* and has to wait.

        An operation and host is on trial when it was refused a moment ago, but not often enough to hold the
        rest: as many of its requests are on the wire as there are connections, no whole pipelines. Others go
        on as ever.

        Args:
            items: about to be sent.
            in_flight: on the wire already.
            size: connections at the most.
        """
        now = self._now()
        on_trial = {
            pair for pair, hold in self.pairs.items() if not hold.pauses and hold.last_at > now - ON_TRIAL_S
        }
        room = size - sum(_pair_of(item) in on_trial for item in in_flight) if on_trial else 0
        sifted = Sifted([], {}, [])
        for item in items:
            pair = _pair_of(item)
            hold = self.pairs.get(pair)
            if hold is not None and hold.pauses:
                if hold.due_at > now:
                    hold.subtasks += 1 + len(item[2] or ())
                    sifted.held.setdefault(_held_reason(hold), []).append(item)
                    continue
                hold.pause(now)
            elif pair in on_trial:
                if room <= 0:
                    sifted.later.append(item)
                    continue
                room -= 1
            sifted.to_send.append(item)
        return sifted

    # Shown

    def refused_since(self) -> Hold | None:
        """Return the oldest of what is refused; None: nothing is, as far as is known."""
        self._forget()
        return min((hold for hold in self.pairs.values() if hold.is_refused), key=_since, default=None)

    def documents(self) -> list[dict[str, object]]:
        """Return what is refused or held, as ``GET /v1/engine/nodes`` shows it."""
        self._forget()
        now = self._now()
        return [
            {
                "host": host,
                "operation": Operation(operation).name.lower(),
                "reason": hold.reason,
                "since": round(hold.since, 3),
                "refused": hold.refusals,
                "subtasks": hold.subtasks,
                "next_try_s": round(max(0.0, hold.due_at - now), 3),
            }
            for (operation, host), hold in self.pairs.items()
        ]

    def _forget(self) -> None:
        for pair in [pair for pair, hold in self.pairs.items() if self._is_forgotten(hold)]:
            del self.pairs[pair]


def _pair_of(item: Item) -> Pair:
    share, index, _ = item
    return int(share.operation), host_of(share.task.targets[index])


def _held_reason(hold: Hold) -> str:
    if hold.is_refused:
        return f"{hold.reason}; not sent, because it has refused {hold.refusals} in a row"
    return f"{hold.reason}; not sent before one like it has been done"


def _since(hold: Hold) -> float:
    return hold.since

"""Whose turn it is, where several engines hear the same message.

Engines that share a store hear each message on a channel, all of them; it is one task for all. The worker
whose turn it is (`hold.Hold`) makes it one. The others keep it for a while: when that one dies before anybody
could notice, the next makes up for it; what the old one had done already is done again, which is safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Leads(Protocol):
    """Whose turn it is; see `hold.Hold`."""

    def leads(self) -> bool:
        """Tell whether this worker does, as far as it can know."""

    def leader(self) -> str:
        """Return who does, as far as this worker can know; empty: it cannot."""


class Turn:
    """Whether this worker makes messages tasks.

    Args:
        cluster: None: nobody else hears them.
        keep_s: for so long a message is kept under a leader that is another one.
        now: the loop's time.
    """

    def __init__(self, cluster: Leads | None, keep_s: float, now: Callable[[], float]) -> None:
        self._cluster = cluster
        self._keep_s = keep_s
        self._now = now
        self._leader = ""
        self._since = now()  # that one leads without a gap

    def is_ours(self) -> bool:
        """Tell whether this worker is to make tasks now."""
        return self._cluster is None or self._cluster.leads()

    def knows_leader(self) -> bool:
        """Tell whether some worker is known to lead."""
        return self._cluster is None or bool(self._cluster.leader())

    def is_done(self, heard_at: float) -> bool:
        """Tell whether a message that was heard at a time is a task of another worker by now."""
        if self._cluster is None:
            return False
        now, leader = self._now(), self._cluster.leader()
        if leader != self._leader:
            self._leader, self._since = leader, now
        return bool(leader) and now - max(heard_at, self._since) > self._keep_s

"""What a node does not take now is kept: as rows of its delay queue, until it takes one like it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.nodes.holds import TRIED_AGAIN
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config.tables import NodeConfig
    from engine.nodes.channel import Channel
    from engine.nodes.holds import Holds
    from engine.nodes.postponed import Postponed
    from engine.nodes.queue import Item
    from engine.nodes.sink import Events, Outcomes
    from engine.tasks.task import Share


class Keeping:
    """Keeps refused and held requests of one node.

    Args:
        config: the node's table.
        holds: knows what is refused and held.
        postponed: its requests that wait one by one.
        events: told what is refused, and when rows may be sent again.
        outcomes: told what is kept.
    """

    def __init__(
        self, config: NodeConfig, holds: Holds, postponed: Postponed, events: Events, outcomes: Outcomes
    ) -> None:
        self._config = config
        self._holds = holds
        self._postponed = postponed
        self._events = events
        self._outcomes = outcomes

    @property
    def is_refusing(self) -> bool:
        """Whether something is refused, and nothing of its operation and host has been acked since."""
        return self._holds.refused_since() is not None

    def refused(self, item: Item, reason: str) -> None:
        """Keep a refused request; after some in a row the others of its operation and host wait with it."""
        share, index, _ = item
        operation, target = share.operation, share.task.targets[index]
        self._events.refused(self._config, reason)
        if not self._holds.refused(operation, target, reason):
            self._postponed.refused(operation, target)
        self.held([item], reason)

    def hold_sick(self, item: Item, error: str) -> None:
        """Keep others like a request that the node, sick by now, did not answer in time."""
        share, index, _ = item
        self._holds.hold([(share.operation, share.task.targets[index])], f"sick: {error}")

    def too_big(self, item: Item, limit_bytes: int) -> None:
        """Fail a prefetch whose answer is over the limit; a cache that answers a purge so served a page."""
        if item[0].operation is Operation.PREFETCH:
            self._outcomes.failed(item, f"the body is over prefetch_max_bytes ({limit_bytes} bytes)")
        else:
            said = f"the body is over what a purge may answer ({limit_bytes} bytes)"
            self.refused(item, f"refused: {said}: let {self._config.name} answer purges itself")

    def unreadable(self, item: Item, reason: str) -> None:
        """Fail a request that the node cannot read, and never will."""
        self._outcomes.failed(item, reason)

    def wanted(self, items: list[Item]) -> list[Item]:
        """Return those of requests without an answer that are to be sent again; see `Outcomes`."""
        return self._outcomes.without_cancelled(items)

    def held(self, items: list[Item], reason: str) -> None:
        """Keep requests until they, or others like them, may be tried again."""
        self._hold(items, f"{reason}; {TRIED_AGAIN}")

    def _hold(self, items: list[Item], reason: str) -> None:
        self._outcomes.hold(items, reason)
        wait_s = self._postponed.next_s()
        if wait_s is not None:
            self._events.postponed(self._config, wait_s)

    def keep_below(self, items: list[Item], reason: str) -> None:
        """Keep what the engine that this node is holds itself: it is asked again, and goes on meanwhile."""
        for share, index, _ in items:
            self._postponed.kept_below(share.operation, share.task.targets[index])
        self._hold(items, reason)

    def look_again(self) -> None:
        """Have all rows sent that were postponed: what kept them may be over."""
        self._postponed.due_now()
        self._events.held_no_longer(self._config)

    def park_all(self, channels: Sequence[Channel], reason: str) -> None:
        """Everything that waits in memory goes to the delay queue: the delay queue's first."""
        waiting = [channel.take_all() for channel in channels]
        for subtasks in [*(backlog for backlog, _ in waiting), *(queue for _, queue in waiting)]:
            shares: dict[Share, list[int]] = {}
            for share, index in subtasks:
                shares.setdefault(share, []).append(index)
            for share, indexes in shares.items():
                self._outcomes.park(share, indexes, reason)

    def let_go(self, acked: list[Item]) -> None:
        """What is acked is not refused or held any more: have the rows sent that waited for that."""
        was_refusing = self.is_refusing
        if self._holds.clear(acked):
            self._events.held_no_longer(self._config)
        if was_refusing and not self.is_refusing:
            self._events.takes_purges_again(self._config)

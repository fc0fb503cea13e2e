"""The channels of one node: which of them takes what it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.nodes import drivers
from engine.nodes.channel import Channel
from engine.nodes.drivers.sign import fetch_sign_of
from engine.nodes.limits import hand_down_limits, prefetch_limits, purge_limits, rule_limits
from engine.nodes.queue import ShareQueue
from engine.nodes.rule_file import RuleFile
from engine.nodes.rule_writer import RuleWriter
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from engine.base.buffers import BufferPool
    from engine.base.timer import Timer
    from engine.config.tables import EngineConfig
    from engine.nodes.answer import Sign
    from engine.nodes.channel import Owner
    from engine.nodes.connection import Wire
    from engine.nodes.holds import Holds
    from engine.nodes.underway import Fetches


class Channels:
    """A channel for purges, one for prefetches, and where there are any one for purges by rules of a file.

    Those of a node that is itself an engine have no connections: `engine.tree` opens them their way out.

    Args:
        owner: the node.
        holds: asked before purges are sent.
        fetches: told which prefetches are sent.
        sign: by which answers to purges show that the node gave them.
    """

    def __init__(
        self,
        owner: Owner,
        settings: EngineConfig,
        buffers: BufferPool,
        timer: Timer,
        *,
        holds: Holds,
        fetches: Fetches,
        sign: Sign | None,
    ) -> None:
        self._others: dict[Operation, Channel] = {}
        if drivers.is_engine(owner.config):
            limits = hand_down_limits(settings)
            self.purges = Channel(owner, limits, buffers, timer, holds=holds, queues=ShareQueue)
            self.prefetches = Channel(owner, limits, buffers, timer, holds=holds, queues=ShareQueue)
            self.all = [self.purges, self.prefetches]
            self._others[Operation.PREFETCH] = self.prefetches
            return
        self.purges = Channel(owner, purge_limits(settings), buffers, timer, holds=holds, sign=sign)
        self.prefetches = Channel(
            owner,
            prefetch_limits(settings),
            buffers,
            timer,
            fetches=fetches,
            sign=fetch_sign_of(owner.config),
        )
        self.all = [self.purges, self.prefetches]
        self._others[Operation.PREFETCH] = self.prefetches
        by_rules = drivers.by_rules(owner.config)
        if by_rules:
            rules = Channel(owner, rule_limits(settings), buffers, timer, holds=holds)
            rules.opened(RuleWriter(rules, RuleFile(owner.config), owner.health, owner.keeping))
            self.all.append(rules)
            self._others.update(dict.fromkeys(by_rules, rules))

    def __repr__(self) -> str:
        return f"<Channels {self.all}>"

    def of(self, operation: Operation) -> Channel:
        """Return the channel that takes subtasks of *operation*."""
        return self._others.get(operation, self.purges)

    def oldest_purge_sent_at(self) -> float:
        """Return when the oldest purge was sent that waits for its answer; infinity: there is none."""
        return min(channel.oldest_sent_at() for channel in self.all if channel is not self.prefetches)

    @property
    def in_flight(self) -> int:
        """Requests on the wire."""
        return sum(channel.in_flight for channel in self.all)

    @property
    def waiting_count(self) -> int:
        """Requests that wait in memory."""
        return sum(channel.waiting_count for channel in self.all)

    @property
    def coalesced(self) -> int:
        """Subtasks settled by another's request so far."""
        return sum(channel.coalesced for channel in self.all)

    def watch(self, wire: Wire | None) -> None:
        """Have what passes on all connections told; None: no more."""
        for channel in self.all:
            channel.wire = wire

    def wake(self) -> None:
        """Have all of them look for work."""
        for channel in self.all:
            channel.wake()

    def abort_all(self, reason: str) -> None:
        """Close every connection; what is in flight comes back."""
        for channel in self.all:
            channel.abort_all(reason)

    def close(self) -> None:
        """Close every connection, for the end of the engine."""
        for channel in self.all:
            channel.close()

"""One cache at work: its configuration, its health, a channel for purges and one for prefetches.

Subtasks come in through `Node.add`, and go to the delay queue when the node is down. Answers come back
through `Node.answered`, which says what each of them means and passes them on to `Outcomes`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from engine.nodes.ability import incapable_of, misses_patterns
from engine.nodes.address import address_of
from engine.nodes.channels import Channels
from engine.nodes.counting import Counting
from engine.nodes.findings import Place
from engine.nodes.health import Health, NodeState
from engine.nodes.holds import Holds
from engine.nodes.keeping import Keeping
from engine.nodes.postponed import Postponed
from engine.nodes.proving import Proving
from engine.nodes.readings import Readings
from engine.nodes.suspects import Suspects
from engine.nodes.underway import Fetches
from engine.tasks.words import QUICK_ATTEMPTS, Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.base.buffers import BufferPool
    from engine.base.timer import Timer
    from engine.config.tables import EngineConfig, NodeConfig
    from engine.nodes.answer import Answer
    from engine.nodes.channel import Channel
    from engine.nodes.connection import Connection
    from engine.nodes.queue import Item
    from engine.nodes.readings import Unacked
    from engine.nodes.register import Register
    from engine.nodes.sink import Events, Outcomes
    from engine.observe.counters import Stats
    from engine.observe.logs import AnswerRow
    from engine.tasks.task import Share

_PREFETCH: Final = Operation.PREFETCH  # looked up once: see `health`


class Node:
    """One configured cache at work.

    Args:
        config: its table.
        outcomes: told what became of subtasks.
        events: told what happens to the node itself.
        above: returns its parents and their parents, those next to the origin first.
        evidence_interval_s: how often a node that is ready is asked again whose its answers are.
        log_subtasks: given the answers of each read (``log_subtasks``); see `logs.Logs.subtasks`.

    Raises:
        OSError: the CA file cannot be read or holds no certificate.
    """

    def __init__(
        self,
        config: NodeConfig,
        outcomes: Outcomes,
        events: Events,
        *,
        settings: EngineConfig,
        buffers: BufferPool,
        timer: Timer,
        stats: Stats,
        evidence_interval_s: float = 300,
        above: Callable[[], list[Place]] = list,
        log_subtasks: Callable[[str, list[AnswerRow], float], None] | None = None,
    ) -> None:
        now = asyncio.get_running_loop().time
        self.config = config
        self.name = config.name
        self.layer = config.layer
        self.address = address_of(config)
        self.health = Health(now)
        self._outcomes = outcomes
        self._events = events
        self._stats = stats
        self.holds = Holds(now)
        self._suspects = Suspects()
        self.postponed = Postponed(now, settings.poison_after_s, self.holds, incapable_of(config))
        self.postponed.misses_patterns = misses_patterns(config)
        self.keeping = Keeping(config, self.holds, self.postponed, events, outcomes)
        self.proving = self._make_proving(above, settings.request_timeout_s, evidence_interval_s)
        judge = self.proving.judge
        self._readings = Readings(config, judge, stats, log_subtasks)
        self.fetches = Fetches(config.name, timer, time.monotonic, max_s=2 * settings.prefetch_timeout_s)
        self.channels = Channels(
            self, settings, buffers, timer, holds=self.holds, fetches=self.fetches, sign=judge.sign
        )
        self.purges, self.prefetches = self.channels.purges, self.channels.prefetches
        self.proving.lookups.channels = (self.purges, self.prefetches)
        self.proving.prober.visit = self.fetches.visit
        self.counting = self._make_counting(timer)
        self.underway, self._beside = self.counting.underway, self.counting.beside
        self._is_closed = False
        self._took_s = stats.node_histogram(config.name)
        self.refused_count = self.failed_count = self.retried_count = 0

    def _make_proving(self, above: Callable[[], list[Place]], timeout_s: float, interval_s: float) -> Proving:
        proving = Proving(
            Place(self.config, self.address),
            self.health,
            self.postponed,
            above,
            events=self._events,
            outcomes=self._outcomes,
            timeout_s=timeout_s,
            interval_s=interval_s,
        )
        proving.on_down, proving.on_back = self._gone_down, self._answers_again
        return proving

    def _make_counting(self, timer: Timer) -> Counting:
        return Counting(
            self.channels.oldest_purge_sent_at,
            timer,
            self.postponed,
            self._outcomes,
            send_again=self._purge_again,
            on_rows=lambda: self._events.postponed(self.config, 0),
        )

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.state} [{self.waiting_count} waiting, {self.in_flight} in flight]>"

    @property
    def state(self) -> NodeState:
        """Whether it takes subtasks; see `health`."""
        return self.health.state

    @property
    def in_flight(self) -> int:
        """Requests on the wire."""
        return self.channels.in_flight

    @property
    def waiting_count(self) -> int:
        """Requests that wait in memory."""
        return self.channels.waiting_count + len(self.counting)

    @property
    def coalesced(self) -> int:
        """Subtasks settled by another's request so far."""
        return self.channels.coalesced

    # Work in

    def add(self, share: Share, indexes: Sequence[int]) -> None:
        """Queue subtasks, or put them into the delay queue when the node cannot be reached."""
        if self.health.is_down:
            self._outcomes.park(share, indexes, self.health.away_reason)
            return
        self.channels.of(share.operation).add(share, indexes)

    def add_backlog(self, share: Share, indexes: Sequence[int]) -> None:
        """Queue what the engine sends on its own account: what comes out of the delay queue, early purges."""
        if self.health.is_down:
            self._outcomes.park(share, indexes, self.health.away_reason)  # its rows are still there
            return
        self.channels.of(share.operation).add_backlog(share, indexes)
        self.begin_delivery()

    def begin_delivery(self) -> None:
        """The delivery of the delay queue has begun, here or elsewhere: new subtasks may go out beside it."""
        if self.health.begin_delivery():
            self.channels.wake()

    def forget(self, share: Share, indexes: Sequence[int]) -> None:
        """Take cancelled subtasks out of the queue."""
        self.channels.of(share.operation).forget(share, indexes)

    def postpone(self, operation: Operation, target: str) -> bool:
        """Keep a request from being sent for a while; False: it is poison, see `postponed`."""
        pause_s = self.postponed.postpone(operation, target)
        if pause_s is None:
            return False
        self._events.postponed(self.config, pause_s)
        return True

    # Answers, told by the channels

    def answered(self, items: list[Item], answers: list[Answer], duration_s: float) -> None:
        """Read each answer and pass the subtasks on; *duration_s* is how long the oldest took."""
        sent_at = self.purges.now() - duration_s  # now: prefetches may end while answers are read
        self.health.answered()
        self._stats.qps_proxy.mark(len(answers))
        self._took_s.observe(duration_s)
        acked, absent, rest = self._readings.sort(items, answers, duration_s)
        for part in filter(None, (acked, absent)):
            self._acked(part, sent_at, is_absent=part is absent)
        if not rest:
            return
        for item, meaning, answer in self.proving.keep(rest):
            self._not_acked(item, meaning, answer)
        if not (acked or absent or self._is_closed):
            self._count_wrong(rest)

    def _acked(self, acked: list[Item], sent_at: float, *, is_absent: bool) -> None:
        if self.holds.pairs:
            self.keeping.let_go(acked)
        if self._suspects.counts:
            self._suspects.clear(acked)
        if self.health.has_been_wrong and acked[0][0].operation is not _PREFETCH:
            self.health.works()
        if self.postponed.watched:
            self.postponed.note_acked(acked)
        self._stats.subtasks_absent += len(acked) if is_absent else 0
        self.counting.acked(acked, sent_at, is_absent=is_absent)

    def _not_acked(self, item: Item, outcome: Outcome, answer: Answer) -> None:
        self.unacked(item, outcome, self._readings.reason_of(item[0].operation, outcome, answer))

    def unacked(self, item: Item, outcome: Outcome, reason: str) -> None:
        """Act on a request that was not done: try it again, keep it, or fail it."""
        if outcome is Outcome.RETRY:
            self.retried_count += 1
            self._outcomes.retry(item, reason)
            return
        self.health.note(reason)
        if outcome is Outcome.REFUSED:
            self.refused_count += 1
            self.keeping.refused(item, reason)
            return
        self.failed_count += 1
        self._outcomes.failed(item, reason)

    def _count_wrong(self, rest: list[Unacked]) -> None:
        """Count purges of a read without an ack that were answered 5xx; many in a row make the node sick."""
        for operation, target, reason in self._readings.server_errors(rest):
            if self.health.answered_wrongly(operation, target, reason):
                self.holds.hold(self.health.wrong, f"sick: {self.health.last_error}")
                self._gone_down(self.health.last_error)
                return

    def unanswered(self, channel: Channel, connection: Connection, items: list[Item]) -> None:
        """A connection of *channel* ended early. Its requests are sent again, in order, unless cancelled.

        When not one answer came on it, the first request is suspected: it went alone. A request that
        did this `QUICK_ATTEMPTS` times, while others were answered, is postponed. A prefetch that gets no
        answer says something about its origin, not about the cache, so it is only tried again.
        """
        reason = f"{self.config.url} {connection.reason}"
        is_suspicious = not connection.answered_count or connection.has_timed_out
        if self.health.is_down:
            is_suspicious = False  # it was closed on this side
        if is_suspicious and channel is self.prefetches:
            self.retried_count += 1
            self._outcomes.retry(items.pop(0), reason)
            is_suspicious = False
        suspect = items[0] if is_suspicious else None
        if suspect is not None and connection.has_timed_out and self._beside.keeps_unanswered(suspect):
            items.pop(0)
            suspect = None
        if suspect is not None:
            count = self._suspects.count(suspect)
            if count >= QUICK_ATTEMPTS and self.health.survives_a_failure:
                self._suspects.clear(items[:1])
                self._outcomes.postpone(items.pop(0), f"{reason}, {count} times")
        channel.put_back(self._outcomes.without_cancelled(items))
        if suspect is not None:
            self.failed(reason, is_sick=connection.has_timed_out)
            if connection.has_timed_out and self.health.is_down:
                self.keeping.hold_sick(suspect, self.health.last_error)
        elif self.health.is_down:
            self.park_all()

    # Up and down

    def failed(self, reason: str, *, is_sick: bool = False) -> None:
        """Count a failure of the node itself; several in a row take it down, as *is_sick* or unreachable."""
        if self._is_closed:
            return
        if self.health.failed(reason, is_sick=is_sick):
            self._gone_down(reason)
        elif self.health.is_down:
            self.park_all()
        else:
            self.channels.wake()

    def _purge_again(self, items: list[Item]) -> None:
        """Send purges again that were acked beside a prefetch, now that it has ended."""
        self.purges.put_back(self._outcomes.without_cancelled(items))
        if self.health.is_down:
            self.park_all()
        else:
            self.purges.wake()

    def _gone_down(self, reason: str) -> None:
        """Stop sending, and ask until the node answers as one that works.

        The first question waits longer each time that a node becomes sick whose probes are answered well.
        """
        self._events.node_down(self.config, reason, is_sick=self.health.state is NodeState.SICK)
        self.channels.abort_all(reason)
        self.park_all()
        self.proving.ask(attempt=max(0, self.health.sick_times - 1))

    def park_all(self) -> None:
        """Everything that waits in memory goes to the delay queue."""
        self.purges.put_back(self._outcomes.without_cancelled(self._beside.take_all()))
        self.keeping.park_all(self.channels.all, self.health.away_reason)

    def start_probe(self) -> None:
        """Keep the node from being ready until it has answered a probe: its delay queue has rows."""
        if not self._is_closed and self.health.state is not NodeState.PAUSED:
            self.health.doubt()
            self.proving.ask()

    def start(self) -> None:
        """Ask whose the node's answers are, and look its name up, now and again and again."""
        self.proving.start()

    def _answers_again(self) -> None:
        """A probe was answered."""
        if not self._is_closed and self.health.state is not NodeState.PAUSED:
            self.health.answers_again()
            self.postponed.begin_anew()
            self.holds.node_returns()
            self._events.node_returns(self.config)

    def is_ready_now(self) -> None:
        """The delay queue is empty: take subtasks as they come."""
        self._events.node_ready(self.config, self.health.ready())
        self.channels.wake()

    def share(self, register: Register) -> None:
        """Work with engines on other machines that send prefetches to the same nodes."""
        self.counting.register = register
        self.fetches.share(register, self._outcomes.without_cancelled)

    def close(self) -> None:
        """Stop sending. What waits in memory is in the store's journal."""
        self._is_closed = True
        self.counting.close()
        self.proving.close()
        self.channels.close()

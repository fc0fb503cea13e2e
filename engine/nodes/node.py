"""One cache: its queues, its connections, and whether it can be reached.

States of a node::

    READY ── 3 failures in a row ──▶ DOWN ── a probe is answered ──▶ RETURNING ─▶ CATCHING_UP ─▶ READY
      ▲                               ▲──────────── any failure ──────────┘───────────┘
    READY      subtasks go out as they come
    DOWN       subtasks go to the delay queue; one probe at a time, with backoff and jitter
    RETURNING  the delay queue is delivered, oldest first; new subtasks go out in between, while rows are read
               and written. If they joined it, a busy engine would never catch up: a row costs ten times
               a subtask that stays in memory
    CATCHING_UP  its last rows are on their way; new subtasks wait in memory behind them

The probe is a purge of a URL that nobody has, answered by the cache itself: it shows that purges work
again, not only that a port is open.

A cache that *refuses* (ACL, method) is reachable; its subtasks fail and say why. After
`REFUSALS_BEFORE_HOLD` refusals in a row for one host the rest are failed unsent, but for one try
every `REFUSAL_HOLD_S`: an operator must act, and hammering helps nobody.
"""

from __future__ import annotations

import asyncio
import enum
import random
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from engine.errors import WireError
from engine.nodes import drivers
from engine.nodes.channel import Pool
from engine.nodes.drivers.common import headers_text
from engine.nodes.queue import NodeQueue
from engine.nodes.wire import Answer, AnswerReader
from engine.tasks.words import Operation, Outcome

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from engine.base.buffers import BufferPool
    from engine.base.timer import Timer
    from engine.config.tables import EngineConfig, NodeConfig
    from engine.delivery.dispatch import Dispatch
    from engine.nodes.connection import Connection
    from engine.nodes.queue import Item
    from engine.observe.logs import AnswerRow
    from engine.tasks.task import Share

FAILURES_UNTIL_DOWN: Final = 3
REFUSALS_BEFORE_HOLD: Final = 8
REFUSAL_HOLD_S: Final = 5.0
_RETRY_BASE_S: Final = 0.05
_PROBE_BASE_S: Final = 0.2
_PROBE_MAX_S: Final = 5.0
_SUSPECTS_MAX: Final = 1024
_REFUSED_HOSTS_MAX: Final = 1024
_PROBE_HOST: Final = "purgeline-probe.invalid"


class NodeState(enum.StrEnum):
    """Whether a node takes subtasks; see the module."""

    READY = "ready"
    DOWN = "down"
    RETURNING = "returning"
    CATCHING_UP = "catching_up"


# A member of an enum is looked up in its class at each use: 40 ns, and 1 µs where the interpreter's cache of
# such look-ups has a collision; it was 6 % of a busy loop.
_READY: Final = NodeState.READY
_DOWN: Final = NodeState.DOWN
_PREFETCH: Final = Operation.PREFETCH
_ABSENT: Final = Outcome.ABSENT


class Node:
    """One configured cache at work.

    Args:
        config: its table.
        dispatch: told what became of subtasks.
        log_subtasks: given the answers of each read (``log_subtasks``); see `logs.Logs.subtasks`.
    """

    def __init__(
        self,
        config: NodeConfig,
        dispatch: Dispatch,
        settings: EngineConfig,
        buffers: BufferPool,
        timer: Timer,
        *,
        log_subtasks: Callable[[str, list[AnswerRow], float], None] | None = None,
    ) -> None:
        self.config = config
        self.name = config.name
        self.layer = config.layer
        self.state = NodeState.READY
        self.address = address_of(config)
        self.attempts_max = settings.attempts_max
        self._dispatch = dispatch
        self._timer = timer
        self._loop = asyncio.get_running_loop()
        self.purges = Pool(
            self,
            size=settings.connections_per_node,
            depth=settings.pipeline_depth,
            timeout_s=settings.request_timeout_s,
            connect_timeout_s=settings.connect_timeout_s,
            body_max_bytes=1024 * 1024,
            buffers=buffers,
            timer=timer,
        )
        self.prefetches = Pool(
            self,
            size=settings.prefetch_concurrency,
            depth=1,
            timeout_s=settings.prefetch_timeout_s,
            connect_timeout_s=settings.connect_timeout_s,
            body_max_bytes=settings.prefetch_max_bytes,
            buffers=buffers,
            timer=timer,
        )
        # Per pool: what comes from the delay queue, served first, and what comes from tasks.
        self._backlog = {self.purges: NodeQueue(), self.prefetches: NodeQueue()}
        self._queue = {self.purges: NodeQueue(), self.prefetches: NodeQueue()}
        self._readings: dict[tuple[Operation, int, bool], Outcome] = {}
        self._suspects: dict[tuple[Operation, str], int] = {}
        self._refusals: dict[str, tuple[int, float, str]] = {}
        self._failures = 0
        self._not_before = 0.0
        self._probe: asyncio.Task[None] | None = None
        self._is_closed = False
        self._took_s = dispatch.stats.node_histogram(config.name)
        self._log_subtasks = log_subtasks
        self.acked = 0
        self.refused = 0
        self.failed_count = 0
        self.last_error = ""
        self.last_error_at = 0.0
        self.returns = 0  #: times it was ready again, with an empty delay queue
        self._away_since = 0.0  # loop's time
        self._has_begun = False  # the delivery of its delay queue has

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.state} [{self.waiting_count} waiting, {self.in_flight} in flight]>"

    @property
    def in_flight(self) -> int:
        """Requests on the wire."""
        return self.purges.in_flight + self.prefetches.in_flight

    @property
    def waiting_count(self) -> int:
        """Requests that wait in memory."""
        return sum(map(len, self._queue.values())) + sum(map(len, self._backlog.values()))

    @property
    def coalesced(self) -> int:
        """Subtasks settled by another's request so far."""
        return sum(queue.coalesced for queue in self._queue.values())

    @property
    def is_refusing(self) -> bool:
        """Whether it refused lately and nothing has gone well for that host since."""
        return any(count >= REFUSALS_BEFORE_HOLD for count, _, _ in self._refusals.values())

    # Work in

    def add(self, share: Share, indexes: Sequence[int]) -> None:
        """Queue subtasks, or put them into the delay queue when the node cannot be reached."""
        if self.state is _DOWN:
            self._dispatch.park(share, indexes, self.last_error)
            return
        pool = self._pool_of(share.operation)
        self._queue[pool].add(share, indexes)
        pool.wake()

    def add_backlog(self, share: Share, indexes: Sequence[int]) -> None:
        """Queue what comes out of the delay queue."""
        if self.state is _DOWN:
            self._dispatch.park(share, indexes, self.last_error)  # its rows are still there
            return
        pool = self._pool_of(share.operation)
        self._backlog[pool].add(share, indexes)
        self.begin()
        pool.wake()

    def begin(self) -> None:
        """The delivery of the delay queue has begun, here or elsewhere: new subtasks may go out beside it."""
        if not self._has_begun:
            self._has_begun = True
            self.prefetches.wake()
            self.purges.wake()

    def forget(self, share: Share, indexes: Sequence[int]) -> None:
        """Take cancelled subtasks out of the queue."""
        self._queue[self._pool_of(share.operation)].forget(share, indexes)

    def _pool_of(self, operation: Operation) -> Pool:
        return self.prefetches if operation is _PREFETCH else self.purges

    # Work out, asked by the pools

    def may_connect(self, pool: Pool) -> bool:
        """Return whether a connection may be tried now; otherwise the pool is woken when it may."""
        if self._is_closed or self.state is _DOWN:
            return False
        wait_s = self._not_before - self._loop.time()
        if wait_s <= 0:
            return True
        self._timer.add((self.name, "connect", pool), wait_s, pool.wake)
        return False

    def waiting(self, pool: Pool) -> int:
        """Return how many requests a pool could send."""
        return len(self._backlog[pool]) + (len(self._queue[pool]) if self._takes_new else 0)

    @property
    def _takes_new(self) -> bool:
        """Whether what does not come from the delay queue may go out."""
        return self.state is _READY or (self.state is NodeState.RETURNING and self._has_begun)

    def take(self, pool: Pool, count: int) -> list[Item]:
        """Return up to *count* requests, the delay queue's first."""
        backlog = self._backlog[pool]
        items = backlog.take(count) if backlog else []
        if len(items) < count and self._takes_new:
            items += self._queue[pool].take(count - len(items))
        return self._without_refused(pool, items) if self._refusals and pool is self.purges else items

    def _without_refused(self, pool: Pool, items: list[Item]) -> list[Item]:
        """Return what may go out; fail what is held, and leave what is *on trial* for later.

        A host is on trial when it was refused a moment ago, but not often enough to hold the rest: as many of
        its requests are on the wire as there are connections, no whole pipelines. Other hosts' go on as ever.
        """
        since = self._loop.time() - REFUSAL_HOLD_S
        on_trial = {
            host
            for host, (count, at, _) in self._refusals.items()
            if count < REFUSALS_BEFORE_HOLD and at > since
        }
        room = (
            pool.size - sum(_host_of(item) in on_trial for item in pool.items_in_flight()) if on_trial else 0
        )
        sent, later = [], []
        for item in items:
            host = _host_of(item)
            if host not in on_trial:
                if not self._is_held(item, host):
                    sent.append(item)
            elif room > 0:
                room -= 1
                sent.append(item)
            else:
                later.append(item)
        if later:
            self._put_back(later)
        if len(sent) + len(later) < len(items):
            pool.wake()  # there is room again
        return sent

    def _is_held(self, item: Item, host: str) -> bool:
        """Fail a request unsent when its host has been refused again and again."""
        refused = self._refusals.get(host)
        if refused is None or refused[0] < REFUSALS_BEFORE_HOLD:
            return False
        count, last_at, reason = refused
        now = self._loop.time()
        if now - last_at >= REFUSAL_HOLD_S:
            self._refusals[host] = (count, now, reason)
            return False
        self._dispatch.failed(item, f"{reason}; not sent, because it has refused {count} in a row")
        return True

    # Answers, told by the pools

    def answered(self, items: list[Item], answers: list[Answer], duration_s: float) -> None:
        """Read each answer and pass the subtasks on; *duration_s* is how long the oldest took."""
        self._failures = 0
        self._dispatch.stats.qps_proxy.mark(len(answers))
        self._took_s.observe(duration_s)
        outcome = self._one_outcome(items, answers)
        acked: list[Item]
        rest: list[tuple[Item, Outcome, Answer]]
        if outcome is not None and outcome <= _ABSENT:
            acked, rest = items, []
            if outcome is _ABSENT:
                self._dispatch.stats.subtasks_absent += len(items)
        else:
            acked, rest = self._sort(items, answers, duration_s)
        if acked:
            self.acked += len(acked)
            if self._refusals or self._suspects:
                self._clear(acked)
            self._dispatch.acked(acked)
        for item, one, answer in rest:
            self._not_acked(item, one, answer)

    def _one_outcome(self, items: list[Item], answers: list[Answer]) -> Outcome | None:
        """Return what all of these purges came to, when one answer was given to each; None: look at each.

        Nearly every read is such a run, and needs no look at its single answers.
        """
        answer, operation = answers[0], items[0][0].operation
        if self._log_subtasks is not None or operation is _PREFETCH:
            return None
        for item in items:
            if item[0].operation is not operation:
                return None
        return self._read(operation, answer) if answers.count(answer) == len(answers) else None

    def _sort(
        self, items: list[Item], answers: list[Answer], duration_s: float
    ) -> tuple[list[Item], list[tuple[Item, Outcome, Answer]]]:
        """Read each answer; return what was acked and, with its reading, what was not."""
        acked: list[Item] = []
        rest: list[tuple[Item, Outcome, Answer]] = []
        rows: list[AnswerRow] = []
        last_key: tuple[Operation, Answer] | None = None
        outcome = Outcome.ACKED
        absent = 0
        for item, answer in zip(items, answers, strict=True):
            share, index, _ = item
            operation = share.operation
            if last_key is None or operation is not last_key[0] or answer is not last_key[1]:
                outcome = self._read(operation, answer)
                last_key = (operation, answer)
            if self._log_subtasks is not None:
                task = share.task
                rows.append((task.id, task.targets[index], operation, answer.status, outcome))
            if operation is _PREFETCH:
                self._dispatch.stats.prefetched_bytes += answer.body_bytes
            if outcome <= _ABSENT:
                absent += outcome is _ABSENT
                acked.append(item)
            else:
                rest.append((item, outcome, answer))
        self._dispatch.stats.subtasks_absent += absent
        if self._log_subtasks is not None:
            self._log_subtasks(self.name, rows, duration_s * 1000)
        return acked, rest

    def _read(self, operation: Operation, answer: Answer) -> Outcome:
        key = (operation, answer.status, answer.body_bytes > 0)
        outcome = self._readings.get(key)
        if outcome is None:
            outcome = drivers.read(self.config, operation, answer.status, answer.body_bytes)
            self._readings[key] = outcome
        return outcome

    def _clear(self, acked: list[Item]) -> None:
        for share, index, _ in acked:
            target = share.task.targets[index]
            self._suspects.pop((share.operation, target), None)
            if share.operation is _PREFETCH:
                continue  # a GET that is answered says nothing about purges
            if self._refusals.pop(host_of(target), None) and not self._refusals:
                self._dispatch.on_alert(f"refused:{self.name}", "resolved", f"{self.name} takes purges again")

    def _not_acked(self, item: Item, outcome: Outcome, answer: Answer) -> None:
        reason = reason_of(self.config, item[0].operation, outcome, answer)
        if outcome is Outcome.RETRY:
            self._dispatch.retry(item, reason)
            return
        self._note(reason)
        if outcome is Outcome.REFUSED:
            self.refused += 1
            share, index, _ = item
            host = host_of(share.task.targets[index])
            if len(self._refusals) >= _REFUSED_HOSTS_MAX:
                self._refusals.clear()
            count = self._refusals.get(host, (0, 0.0, ""))[0] + 1
            self._refusals[host] = (count, self._loop.time(), reason)
            self._dispatch.refused(self, reason)
        else:
            self.failed_count += 1
        self._dispatch.failed(item, reason)

    def too_big(self, item: Item, limit_bytes: int) -> None:
        """Fail a request whose answer is over the limit."""
        what = "prefetch_max_bytes" if item[0].operation is Operation.PREFETCH else "what a purge may answer"
        self._dispatch.failed(item, f"the body is over {what} ({limit_bytes} bytes)")

    def unanswered(self, items: list[Item], connection: Connection, pool: Pool) -> None:
        """A connection of *pool* ended early. Its requests are sent again, in order.

        When not one answer came on it, the first request is suspected: it went alone. A request that
        did this `attempts_max` times, while others were answered, is failed. A prefetch that gets no
        answer says something about its origin, not about the cache, so it is only tried again.
        """
        reason = f"{self.config.url} {connection.reason}"
        is_suspicious = not connection.answered or connection.has_timed_out
        if is_suspicious and pool is self.prefetches and self.state is not NodeState.DOWN:
            self._dispatch.retry(items.pop(0), reason)
            is_suspicious = False
        if is_suspicious:
            share, index, _ = items[0]
            suspect = (share.operation, share.task.targets[index])
            if len(self._suspects) >= _SUSPECTS_MAX:
                self._suspects.clear()
            count = self._suspects[suspect] = self._suspects.get(suspect, 0) + 1
            if count >= self.attempts_max and self._failures < FAILURES_UNTIL_DOWN - 1:
                del self._suspects[suspect]
                self._dispatch.failed(items.pop(0), f"{reason}, {count} times")
        self._put_back(items)
        if is_suspicious:
            self.failed(reason)
        elif self.state is NodeState.DOWN:
            self._park_all()

    def _put_back(self, items: list[Item]) -> None:
        """Queue requests again, in front."""
        by_queue: dict[NodeQueue, list[Item]] = {}
        for item in items:
            queues = self._queue if item[0].task.owner is None else self._backlog
            by_queue.setdefault(queues[self._pool_of(item[0].operation)], []).append(item)
        for queue, again in by_queue.items():
            queue.put_back(again)

    # Up and down

    def failed(self, reason: str) -> None:
        """Count a failure of the node itself; several in a row take it down."""
        if self._is_closed:
            return
        self._failures += 1
        self._note(reason)
        if self.state is NodeState.DOWN:
            self._park_all()
            return
        if self.state is not NodeState.READY or self._failures >= FAILURES_UNTIL_DOWN:
            self._go_down(reason)
            return
        backoff_s = _RETRY_BASE_S * 2**self._failures * random.uniform(0.5, 1)  # noqa: S311 - jitter
        self._not_before = self._loop.time() + backoff_s
        self.purges.wake()
        self.prefetches.wake()

    def _go_down(self, reason: str) -> None:
        self.state = NodeState.DOWN
        self._away_since = self._away_since or self._loop.time()
        self._dispatch.node_down(self, reason)
        self.purges.abort_all(reason)
        self.prefetches.abort_all(reason)
        self._park_all()
        self.start_probe()

    def _park_all(self) -> None:
        """Everything that waits in memory goes to the delay queue."""
        for queues in (self._backlog, self._queue):
            for queue in queues.values():
                shares: dict[Share, list[int]] = {}
                for share, index in queue.take_all():
                    shares.setdefault(share, []).append(index)
                for share, indexes in shares.items():
                    self._dispatch.park(share, indexes, self.last_error)

    def start_probe(self) -> None:
        """Try until the node answers again."""
        if self.state is NodeState.READY:
            self.state = NodeState.DOWN
        if self._probe is None or self._probe.done():
            self._probe = self._loop.create_task(self._probe_until_answered())

    async def _probe_until_answered(self) -> None:
        attempt = 0
        while not self._is_closed:
            problem = await self._probe_once()
            if problem is None:
                break
            self._note(problem)
            backoff_s = min(_PROBE_MAX_S, _PROBE_BASE_S * 2**attempt)
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1))  # noqa: S311 - jitter
            attempt += 1
        if not self._is_closed:
            self._failures = 0
            self._not_before = 0.0
            self.state = NodeState.RETURNING
            self._has_begun = False
            self._dispatch.node_returns(self)

    async def _probe_once(self) -> str | None:
        """Return None when the node answers HTTP, otherwise what is wrong."""
        host, port, context = self.address
        timeout_s = min(self.purges.timeout_s, _PROBE_MAX_S)
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(host, port, ssl=context)
                try:
                    path = f"{self.config.purge_path}/.purgeline-probe"
                    writer.write(
                        f"{self.config.purge_method} {path} HTTP/1.1\r\nHost: {_PROBE_HOST}\r\n"
                        f"{headers_text(self.config)}Connection: close\r\n\r\n".encode("ascii")
                    )
                    await _read_answer(reader)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            return f"{self.config.url} gave no answer within {timeout_s:g} s"
        except (OSError, ValueError, WireError) as exc:
            return f"{self.config.url} cannot be reached: {exc}"
        return None

    def is_ready_now(self) -> None:
        """The delay queue is empty: take subtasks as they come."""
        self.state = NodeState.READY
        self.returns += 1
        self._dispatch.node_ready(self, self._loop.time() - self._away_since if self._away_since else 0.0)
        self._away_since = 0.0
        self.purges.wake()
        self.prefetches.wake()

    def _note(self, reason: str) -> None:
        self.last_error = reason
        self.last_error_at = time.time()

    def close(self) -> None:
        """Stop sending. What waits in memory is in the store's journal."""
        self._is_closed = True
        if self._probe is not None:
            self._probe.cancel()
        self.purges.close()
        self.prefetches.close()


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    answers: list[Answer] = []
    parser = AnswerReader()
    data = bytearray()
    while not answers:
        chunk = await reader.read(16384)
        if not chunk:
            parser.feed_eof(answers)
            if not answers:
                raise WireError("closed the connection without an answer")
            break
        data += chunk
        del data[: parser.feed(data, len(data), answers)]
    return answers[0]


def address_of(config: NodeConfig) -> tuple[str, int, ssl.SSLContext | None]:
    """Return host, port and, for https, the TLS context of a node.

    Raises:
        OSError: the CA file cannot be read or holds no certificate.
    """
    url = urlsplit(config.url)
    host = url.hostname or ""
    if url.scheme == "http":
        return host, url.port or 80, None
    import ssl  # noqa: PLC0415 - only https nodes pay for it

    context = ssl.create_default_context(cafile=config.ca_file or None)
    if not config.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return host, url.port or 443, context


def host_of(target: str) -> str:
    """Return the host of a stored target of any kind."""
    if target.startswith(("http://", "https://")):  # a surrogate key may hold "://" itself
        return target.split("/", 3)[2]
    return target.partition("/")[0]


def _host_of(item: Item) -> str:
    share, index, _ = item
    return host_of(share.task.targets[index])


def reason_of(config: NodeConfig, operation: Operation, outcome: Outcome, answer: Answer) -> str:
    """Say what a cache answered, and what an operator can do about it."""
    said = f"answered {answer.status}"
    if outcome is Outcome.RETRY:
        return said
    if outcome is Outcome.REFUSED:
        if answer.status == 404:  # noqa: PLR2004 - HTTP
            return f"refused: {said} with a page: no rule for this host on {config.name}"
        return (
            f"refused: {said}: let {config.purge_method} in from this engine (ACL, method) on {config.name}"
        )
    return f"{said} to a prefetch" if operation is Operation.PREFETCH else said

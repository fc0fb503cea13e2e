"""One node's queue and connections for one purpose: purges (pipelined) or prefetches (one at a time each)."""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import TYPE_CHECKING, Protocol

from engine.base.protocols import BufferedProtocol
from engine.nodes import drivers
from engine.nodes.address import addresses_of
from engine.nodes.connection import Connection
from engine.nodes.drivers.by_path import PathRequester
from engine.nodes.queue import NodeQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.base.buffers import BufferPool
    from engine.base.timer import Timer
    from engine.config.tables import NodeConfig
    from engine.nodes.address import Address
    from engine.nodes.answer import Answer, Sign
    from engine.nodes.connection import Wire
    from engine.nodes.health import Health
    from engine.nodes.holds import Holds
    from engine.nodes.keeper import Keeper
    from engine.nodes.limits import Limits
    from engine.nodes.outlet import Outlet
    from engine.nodes.queue import Item
    from engine.nodes.underway import Fetches
    from engine.tasks.task import Share
    from engine.tasks.words import Operation


class Owner(Protocol):
    """The node of a channel; told once a read or connection what came of it."""

    config: NodeConfig
    address: Address
    health: Health

    @property
    def keeping(self) -> Keeper:
        """What keeps its requests."""

    def answered(self, items: list[Item], answers: list[Answer], duration_s: float) -> None:
        """Read the answers of one read; the oldest took *duration_s*."""

    def unanswered(self, channel: Channel, connection: Connection, items: list[Item]) -> None:
        """Have the requests sent again, or failed, that a connection left without an answer."""

    def failed(self, reason: str) -> None:
        """Count a failure to connect."""


class Channel:
    """Owns what waits for one purpose, and the connections; opens those as work comes and keeps them.

    Two queues: what comes from the delay queue is sent first, then what comes from tasks.

    Args:
        owner: the node.
        holds: asked before requests are sent; None where nothing is held (prefetches).
        fetches: told what is sent and what comes of it; None where that does not count (purges).
        sign: by which answers show that the node gave them; None: nobody asks, and no bytes of them are kept.
        queues: makes its queues.
    """

    def __init__(
        self,
        owner: Owner,
        limits: Limits,
        buffers: BufferPool,
        timer: Timer,
        *,
        holds: Holds | None = None,
        fetches: Fetches | None = None,
        sign: Sign | None = None,
        queues: type[NodeQueue] = NodeQueue,
    ) -> None:
        self._owner = owner
        self._health = owner.health
        self._holds = holds
        self._fetches = fetches
        self.sign = sign
        self.wire: Wire | None = None
        self.name = owner.config.name
        self.size = limits.size
        self.depth = limits.depth
        self.timeout_s = limits.timeout_s
        self.body_max_bytes = limits.body_max_bytes
        self.buffers = buffers
        self.timer = timer
        self.now = time.monotonic  # the loop's clock counts whole milliseconds, and a cache is faster
        self._connect_timeout_s = limits.connect_timeout_s
        self._loop = asyncio.get_running_loop()
        self._backlog = queues()
        self._queue = queues()
        self._connections: set[Outlet] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._requesters: dict[Operation, Callable[[str], str]] = {}
        self._wake_handle: asyncio.Handle | None = None
        self._is_closed = False
        self.on_forgotten: Callable[[Share], None] | None = None  #: told of shares that are cancelled
        if fetches is not None:
            fetches.on_entered = self.wake

    def __repr__(self) -> str:
        opened = f"{len(self._connections)}/{self.size} open"
        return f"<Channel of {self.name} [{opened}, {self.in_flight} in flight]>"

    @property
    def in_flight(self) -> int:
        """Requests on the wire."""
        return sum(connection.in_flight for connection in self._connections)

    def oldest_sent_at(self) -> float:
        """Return when the oldest request was sent that waits for its answer; infinity: there is none."""
        return min((connection.oldest_sent_at for connection in self._connections), default=inf)

    @property
    def waiting_count(self) -> int:
        """Requests that wait in memory."""
        entering = 0 if self._fetches is None else self._fetches.entering_count
        return len(self._backlog) + len(self._queue) + entering

    @property
    def coalesced(self) -> int:
        """Subtasks of tasks that were settled by another's request so far."""
        return self._queue.coalesced

    # Work in

    def add(self, share: Share, indexes: Sequence[int]) -> None:
        """Queue subtasks of a task."""
        self._queue.add(share, indexes)
        self.wake()

    def add_backlog(self, share: Share, indexes: Sequence[int]) -> None:
        """Queue what comes out of the delay queue."""
        self._backlog.add(share, indexes)
        self.wake()

    def put_back(self, items: list[Item]) -> None:
        """Queue requests again, in front, each in the queue it came from."""
        own = [item for item in items if item[0].task.owner is None]
        if own:
            self._queue.put_back(own)
        if len(own) < len(items):
            self._backlog.put_back([item for item in items if item[0].task.owner is not None])

    def forget(self, share: Share, indexes: Sequence[int]) -> None:
        """Take cancelled subtasks out of the queue they are in."""
        (self._queue if share.task.owner is None else self._backlog).forget(share, indexes)
        if self.on_forgotten is not None:
            self.on_forgotten(share)

    def take_all(self) -> tuple[list[tuple[Share, int]], list[tuple[Share, int]]]:
        """Empty both queues; return the subtasks of the delay queue, and those of tasks."""
        return self._backlog.take_all(), self._queue.take_all()

    # Work out, asked by the connections

    def take(self, room: int) -> list[Item]:
        """Return up to *room* requests to send now, the delay queue's first."""
        if self._fetches is not None:
            return self._take_fetches(self._fetches, room)
        items = self.take_waiting(room)
        holds = self._holds
        return self._sift(items, holds) if holds is not None and holds.pairs else items

    def take_waiting(self, room: int) -> list[Item]:
        """Return up to *room* requests, whatever holds or guards say."""
        backlog = self._backlog
        items = backlog.take(room) if backlog else []
        if len(items) < room and self._health.takes_new:
            items += self._queue.take(room - len(items))
        return items

    def _take_fetches(self, fetches: Fetches, room: int) -> list[Item]:
        """Return up to *room* prefetches; where other engines are told first, those that have been entered.

        As many are entered as there are connections for them.
        """
        entering = fetches.entering
        if entering is None:
            items = fetches.free(self, room)
            fetches.begin(items)
            return items
        entered, late = entering.take(room)
        if late:
            self.put_back(late)
        items = fetches.begin_entered(entered)
        more = self._idle_count() - len(items) - entering.count_prompt()
        if more > 0:
            entering.enter(fetches.free(self, more))
        room_s = entering.next_room_s
        if room_s is not None and (self._queue or self._backlog):
            self.timer.add((self, "entering"), room_s, self.wake)
        return items

    def _idle_count(self) -> int:
        return sum(connection.takes_more for connection in self._connections)

    def _sift(self, items: list[Item], holds: Holds) -> list[Item]:
        """Return what may go out; park what is held, and queue again what has to wait."""
        to_send, held, later = holds.sift(items, self._items_in_flight(), self.size)
        for reason, together in held.items():
            self._owner.keeping.held(together, reason)
        if later:
            self.put_back(later)
        if held:
            self.wake()  # there is room again
        return to_send

    def _items_in_flight(self) -> Iterator[Item]:
        for connection in self._connections:
            yield from connection.items

    def text_of(self, items: list[Item]) -> str:
        """Return the text of these requests, one after the other."""
        parts: list[str] = []
        targets: list[str] = []  # of the same operation, one after the other
        last = items[0][0].operation
        for share, index, _ in items:
            if share.operation is not last:
                parts.append(self._texts(last, targets))
                targets = []
                last = share.operation
            targets.append(share.task.targets[index])
        text = self._texts(last, targets)
        return "".join([*parts, text]) if parts else text

    def _texts(self, operation: Operation, targets: list[str]) -> str:
        make = self._requesters.get(operation)
        if make is None:
            make = self._requesters[operation] = drivers.requester(self._owner.config, operation)
        return make.texts(targets) if isinstance(make, PathRequester) else "".join(map(make, targets))

    # Answers, told by the connections

    def settle(self, items: list[Item], answers: list[Answer], duration_s: float) -> None:
        """Pass answers on, with the time since the oldest of their requests was sent."""
        if self._fetches is not None:
            self._fetches.settled(items, answers, duration_s)
        self._owner.answered(items, answers, duration_s)

    def begun(self, item: Item, wait_s: float) -> None:
        """Note that an answer has begun, which is not all there, *wait_s* after its request."""
        if self._fetches is not None:
            self._fetches.begun(item, wait_s)

    def too_big(self, item: Item) -> None:
        """Fail a request whose answer is over the limit."""
        if self._fetches is not None:
            self._fetches.lost([item])
        self._owner.keeping.too_big(item, self.body_max_bytes)

    # Connections

    def wake(self) -> None:
        """Look for work at the end of this turn of the loop."""
        if self._wake_handle is None:
            self._wake_handle = self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._wake_handle = None
        for connection in list(self._connections):
            connection.fill()
        self._open_more()

    def _open_more(self) -> None:
        """Open a connection when there is more work than the open ones take."""
        sendable = len(self._backlog) + (len(self._queue) if self._health.takes_new else 0)
        entering = 0 if self._fetches is None else self._fetches.prompt_count
        sendable += entering
        open_count = len(self._connections) + len(self._connecting)
        if not sendable or open_count >= self.size or not self._may_connect():
            return
        idle = self._idle_count()
        if idle > entering or (idle and idle == sendable):
            return
        if len(self._connecting) * self.depth >= sendable:
            return
        task = self._loop.create_task(self._connect())
        self._connecting.add(task)
        task.add_done_callback(self._connected)

    def _may_connect(self) -> bool:
        """Return whether a connection may be tried now; otherwise the channel is woken when it may."""
        if self._is_closed or self._health.is_down:
            return False
        wait_s = self._health.connect_wait_s()
        if wait_s <= 0:
            return True
        self.timer.add((self, "connect"), wait_s, self.wake)
        return False

    def _connected(self, task: asyncio.Task[None]) -> None:
        """An attempt is over; only now is there room for the next one beside what it opened."""
        self._connecting.discard(task)
        self.wake()

    async def _connect(self) -> None:
        host, port, context, name = self._owner.address
        connection = Connection(self)
        is_open = False
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await addresses_of(self._owner.address)
                await self._loop.create_connection(
                    lambda: BufferedProtocol(connection), host, port, ssl=context, server_hostname=name
                )
            is_open = True
        except TimeoutError:
            self._owner.failed(f"no connection within {self._connect_timeout_s:g} s")
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            self._owner.failed(f"cannot connect: {exc}")
        finally:
            if not is_open:
                connection.drop()

    def opened(self, connection: Outlet) -> None:
        """Take a connection in."""
        self._connections.add(connection)
        connection.fill()
        self.wake()

    def lost(self, connection: Connection, unanswered: list[Item]) -> None:
        """Let a connection go; what it left unanswered is done again."""
        self._connections.discard(connection)
        if self._fetches is not None:
            self._fetches.lost(unanswered, has_timed_out=connection.has_timed_out)
        if unanswered:
            self._owner.unanswered(self, connection, unanswered)
        self.wake()

    def abort_all(self, reason: str) -> None:
        """Close every connection; what is in flight comes back through `lost`."""
        if self._fetches is not None:
            self.put_back(self._fetches.take_entering())
        for task in self._connecting:
            task.cancel()
        for connection in list(self._connections):
            connection.abort(reason)

    def leave(self, addresses: frozenset[str]) -> None:
        """Close the connections that go to none of *addresses*; what is in flight is sent again."""
        for connection in list(self._connections):
            if connection.peer not in addresses:
                connection.abort("the node's name stands for another address now")

    def close(self) -> None:
        """Close every connection, for the end of the engine."""
        self._is_closed = True
        if self._wake_handle is not None:
            self._wake_handle.cancel()
        self.abort_all("the engine stops")

"""The connections of one node for one purpose: purges (pipelined) or prefetches (one at a time each)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from engine.nodes import drivers
from engine.nodes.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.base.buffers import BufferPool
    from engine.base.timer import Timer
    from engine.nodes.node import Node
    from engine.nodes.queue import Item
    from engine.nodes.wire import Answer
    from engine.tasks.words import Operation


class Pool:
    """Opens connections as work comes, and keeps them while the node does.

    Args:
        node: whose connections these are.
        size: connections at the most.
        depth: requests in flight on one connection.
        timeout_s: seconds without any answer until a connection is given up.
        body_max_bytes: a longer body is not read on.
    """

    def __init__(
        self,
        node: Node,
        *,
        size: int,
        depth: int,
        timeout_s: float,
        connect_timeout_s: float,
        body_max_bytes: int,
        buffers: BufferPool,
        timer: Timer,
    ) -> None:
        self.node = node
        self.depth = depth
        self.timeout_s = timeout_s
        self.body_max_bytes = body_max_bytes
        self.buffers = buffers
        self.timer = timer
        self.size = size
        self._connect_timeout_s = connect_timeout_s
        self._loop = asyncio.get_running_loop()
        self.now = time.monotonic  # the loop's clock counts whole milliseconds, and a cache is faster
        self._connections: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._requesters: dict[Operation, Callable[[str], str]] = {}
        self._wake_handle: asyncio.Handle | None = None

    def __repr__(self) -> str:
        opened = f"{len(self._connections)}/{self.size} open"
        return f"<Pool of {self.node.name} [{opened}, {self.in_flight} in flight]>"

    @property
    def in_flight(self) -> int:
        """Requests on the wire."""
        return sum(connection.in_flight for connection in self._connections)

    def items_in_flight(self) -> Iterator[Item]:
        """Yield the requests on the wire."""
        for connection in self._connections:
            yield from connection.items

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
        waiting = self.node.waiting(self)
        open_count = len(self._connections) + len(self._connecting)
        if not waiting or open_count >= self.size or not self.node.may_connect(self):
            return
        if any(connection.takes_more for connection in self._connections):
            return
        if len(self._connecting) * self.depth >= waiting:
            return
        task = self._loop.create_task(self._connect())
        self._connecting.add(task)
        task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[None]) -> None:
        """An attempt is over; only now is there room for the next one beside what it opened."""
        self._connecting.discard(task)
        self.wake()

    async def _connect(self) -> None:
        host, port, context = self.node.address
        connection = Connection(self)
        is_open = False
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._loop.create_connection(lambda: connection, host, port, ssl=context)
            is_open = True
        except TimeoutError:
            self.node.failed(f"no connection within {self._connect_timeout_s:g} s")
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            self.node.failed(f"cannot connect: {exc}")
        finally:
            if not is_open:
                connection.drop()

    def opened(self, connection: Connection) -> None:
        """Take a connection in."""
        self._connections.add(connection)
        connection.fill()
        self.wake()

    def lost(self, connection: Connection, unanswered: list[Item]) -> None:
        """Let a connection go; what it left unanswered is done again."""
        self._connections.discard(connection)
        if unanswered:
            self.node.unanswered(unanswered, connection, self)
        self.wake()

    def take(self, count: int) -> list[Item]:
        """Return requests to send now."""
        return self.node.take(self, count)

    def text_of(self, items: list[Item]) -> str:
        """Return the text of these requests, one after the other."""
        requesters = self._requesters
        parts = []
        for share, index, _ in items:
            operation = share.operation
            make = requesters.get(operation)
            if make is None:
                make = requesters[operation] = drivers.requester(self.node.config, operation)
            parts.append(make(share.task.targets[index]))
        return "".join(parts)

    def settle(self, items: list[Item], answers: list[Answer], duration_s: float) -> None:
        """Pass answers on, with the time since the oldest of their requests was sent."""
        self.node.answered(items, answers, duration_s)

    def too_big(self, item: Item) -> None:
        """Fail a prefetch whose object is over the limit."""
        self.node.too_big(item, self.body_max_bytes)

    def abort_all(self, reason: str) -> None:
        """Close every connection; what is in flight comes back through `lost`."""
        for task in self._connecting:
            task.cancel()
        for connection in list(self._connections):
            connection.abort(reason)

    def close(self) -> None:
        """Close every connection, for the end of the engine."""
        if self._wake_handle is not None:
            self._wake_handle.cancel()
        self.abort_all("the engine stops")

"""The gate: which connections of the port are open, what they share, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Protocol

from engine.intake.heads import KnownHeads
from engine.intake.replies import ReplyWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.intake.admission import Admission
    from engine.intake.auth import Auth
    from engine.intake.client import Addresses
    from engine.observe.meters import Histogram


class Connection(Protocol):
    """A client's connection, as the gate sees it."""

    def check_time(self, now: float) -> None:
        """Close when something has taken too long by *now*, the loop's time."""

    def close_if_idle(self) -> None:
        """Close unless a request is under way."""

    def abort(self) -> None:
        """Close at once."""


class Gate:
    """What the connections of one port share: limits, the replies they know, their end.

    Args:
        addresses: tells where a request came from.
        server: value of ``Server`` in replies.
        connections_max: open at a time; a further one is told 503.
        header_timeout_s: for a head that has begun.
        body_timeout_s: for a body.
        idle_timeout_s: for a connection between two requests.
    """

    def __init__(
        self,
        *,
        addresses: Addresses,
        server: str,
        connections_max: int,
        header_timeout_s: float,
        body_timeout_s: float,
        idle_timeout_s: float,
    ) -> None:
        self.addresses = addresses
        self.connections_max = connections_max
        self.header_timeout_s = header_timeout_s
        self.body_timeout_s = body_timeout_s
        self.idle_timeout_s = idle_timeout_s
        self._writer = ReplyWriter(server)
        self.write = self._writer.write
        self.lags: Histogram | None = None  #: given how late each sweep was
        self.connections: set[Connection] = set()
        self.is_draining = False
        self.is_closing = False
        self._all_closed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._sweep_at = 0.0
        self._plan_sweep()

    def __repr__(self) -> str:
        return f"<Gate [{len(self.connections)} connections]>"

    def _sweep(self) -> None:
        """Close connections that are too slow or idle: one pass a second instead of a timer each."""
        if self.lags is not None:
            self.lags.observe(max(0.0, time.monotonic() - self._sweep_at))
        self._plan_sweep()
        now = self._loop.time()
        for connection in list(self.connections):
            connection.check_time(now)

    def _plan_sweep(self) -> None:
        self._sweep_at = time.monotonic() + 1
        self._sweep_handle = self._loop.call_later(1, self._sweep)

    def count_in(self, responses: dict[int, int]) -> None:
        """Have replies counted, by status, where those of its door are."""
        self._writer.counts = responses

    def drain(self) -> None:
        """Ask every connection to end after the request it is in."""
        self.is_draining = True

    def close_idle(self) -> None:
        """Close the connections on which no request is under way, the others as soon as that is so."""
        self.is_closing = True
        for connection in list(self.connections):
            connection.close_if_idle()

    def forget(self, connection: Connection) -> None:
        """Note that a connection is closed."""
        self.connections.discard(connection)
        if not self.connections:
            self._all_closed.set()

    async def wait_closed(self, timeout_s: float) -> None:
        """Wait until every connection is closed, for at most *timeout_s*."""
        self._all_closed.clear()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_closed.wait(), timeout_s)

    def close(self) -> None:
        """Close everything at once."""
        self._sweep_handle.cancel()
        for connection in list(self.connections):
            connection.abort()


class PortGate(Gate):
    """The gate of the engine's port.

    Args:
        admission: takes the tasks.
        auth: tells the token of a request.
        make_aiohttp: makes aiohttp's protocol for a connection that is handed over.
        body_max_bytes: of one request.
        limits: see `Gate`.
    """

    def __init__(
        self,
        admission: Admission,
        auth: Auth,
        make_aiohttp: Callable[[], asyncio.Protocol],
        *,
        body_max_bytes: int,
        **limits: Any,
    ) -> None:
        super().__init__(**limits)
        self.admission = admission
        self.auth = auth
        self.make_aiohttp = make_aiohttp
        self.body_max_bytes = body_max_bytes
        self.parse = KnownHeads().parse

"""The slow lane: a connection that aiohttp serves, and when it is busy, idle or stuck.

aiohttp has no times that fit a port with many idle clients, and does not tell a half-closed client that its
request cannot become complete. So the lane watches the bytes that come and the handlers that run.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from engine.errors import RequestError
from engine.intake.problems import ENDED_EARLY, problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from engine.intake.replies import Reply

_EOF_GRACE_S: Final = 0.1
"""After the end of a half-closed client's bytes: time for aiohttp to call the handler of what it has."""
_TURNS: Final = 10  #: of the loop, more than aiohttp takes from one request to the handler of the next
_WRITTEN_S: Final = 0.05  #: aiohttp writes a response after its handler has returned


class AiohttpLane:
    """aiohttp's part of one connection, from the hand-over on.

    Args:
        protocol: aiohttp's.
        loop: the engine's.
        close_if_idle: closes the connection unless a request is under way.
        give_up: answers in aiohttp's place, and closes the connection.

    Attributes:
        busy: handlers that run.
        is_reading: bytes of a request have come, and no handler has been called for them.
        since: the loop's time of the last change of these two.
    """

    def __init__(
        self,
        protocol: asyncio.Protocol,
        loop: asyncio.AbstractEventLoop,
        *,
        close_if_idle: Callable[[], None],
        give_up: Callable[[Reply], None],
    ) -> None:
        self.protocol = protocol
        self.busy = 0
        self.is_reading = True
        self.since = loop.time()
        self._loop = loop
        self._close_if_idle = close_if_idle
        self._give_up = give_up
        self._has_eof = False
        self._begun = 0  # requests whose handler has been called
        self._body_timeout: asyncio.Timeout | None = None  # of the handler that reads a body

    def data_received(self, data: bytes) -> None:
        """Give *data* to aiohttp."""
        if not self.busy and not self.is_reading:
            self.since = self._loop.time()
            self.is_reading = True
        self.protocol.data_received(data)

    def eof_received(self) -> None:
        """The client has ended its side: close the connection when all that came before is answered."""
        self._has_eof = True
        self.protocol.eof_received()
        if self._body_timeout is not None:
            self._call_later(_EOF_GRACE_S, self._end_body)
        elif self.is_reading and not self.busy:
            self._call_later(_EOF_GRACE_S, self._ended)
        elif not self.busy:  # a pipelined request may be next
            self._call_later(0, self._close_if_idle)

    def _call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Have *call* called when *delay_s* has passed, unless aiohttp begins with another request.

        aiohttp takes some turns of the loop from one request to the next, and a loop that was kept busy runs
        its timers first: so aiohttp has its turns after the delay, too.
        """
        self._loop.call_later(delay_s, self._turn, _TURNS, self._begun, call)

    def _turn(self, left: int, begun: int, call: Callable[[], None]) -> None:
        if begun != self._begun:
            return  # the end of that request sees to it
        if left:
            self._loop.call_soon(self._turn, left - 1, begun, call)
        else:
            call()

    def _ended(self) -> None:
        """Answer for aiohttp, which says nothing when the client ended its side within a head."""
        if self.is_reading and not self.busy:
            self._give_up(problem(400, ENDED_EARLY))

    # Told by the application's middleware

    def request_begins(self) -> None:
        """Note that a handler has been called."""
        self.busy += 1
        self._begun += 1
        self.is_reading = False

    def request_ends(self) -> None:
        """Note that a handler has returned."""
        self.busy -= 1
        self.since = self._loop.time()
        if self._has_eof:
            self._call_later(_WRITTEN_S, self._close_if_idle)

    @contextlib.asynccontextmanager
    async def reading_body(self, limit_s: float) -> AsyncIterator[None]:
        """Give a handler *limit_s* to read its body, and no time for one that cannot come any more.

        Raises:
            RequestError: 408, or 400 when the client has ended its side.
        """
        try:
            async with asyncio.timeout(limit_s) as self._body_timeout:
                if self._has_eof:
                    self._call_later(_EOF_GRACE_S, self._end_body)
                yield
        except TimeoutError:
            if self._has_eof:
                raise RequestError(400, ENDED_EARLY) from None
            raise RequestError(408, f"the body took longer than {limit_s:g} s") from None
        finally:
            self._body_timeout = None

    def _end_body(self) -> None:
        """Wait no longer for the rest of a body."""
        if self._body_timeout is not None and not self._body_timeout.expired():  # its time may just be up
            self._body_timeout.reschedule(self._loop.time())

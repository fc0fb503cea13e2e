"""A client's connection as every port of the engine has it: requests in, answers in their order.

What a request is, the connection of a port tells (`Pipeline.read_request`): the fast lane, a door.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from engine.base.turns import SLICE_S
from engine.errors import TooManyConnectionsError
from engine.intake.client import Caller
from engine.intake.problems import ENDED_EARLY, problem
from engine.intake.slot import Slot

if TYPE_CHECKING:
    import asyncio

    from engine.errors import EngineError
    from engine.intake.gate import Gate
    from engine.intake.replies import Reply

PENDING_MAX: Final = 128
"""Pipelined requests without an answer, per connection; then reading waits."""
_LINGER_S: Final = 2.0
"""After a refusal, what the client still sends is read and dropped: closing on unread bytes resets the
connection, and the client would lose the answer."""


class Pipeline:
    """One client connection; a loop is given its `StreamedProtocol`.

    Args:
        gate: of its port.
        loop: the engine's.
        door: what its tasks come in by, see `By.door`.
    """

    def __init__(self, gate: Gate, loop: asyncio.AbstractEventLoop, door: str) -> None:
        self._gate = gate
        self._loop = loop
        self._door = door
        self._transport: asyncio.Transport
        self._caller: Caller
        self._tail = b""  # of a head, or of requests that wait for the ones before
        self._is_in_head = False
        self._slots: deque[Slot] = deque()
        self._since = loop.time()  # of what `check_time` looks at
        self._is_paused = False  # requests wait behind answers
        self._is_clogged = False  # the client does not read its answers
        self._is_closing = False
        self._has_eof = False
        self._lingers = False

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""
        return bool(self._slots)

    # What a port says otherwise

    def read_request(self, data: bytes) -> bytes | None:
        """Read one request at the start of *data*; return the bytes behind it, or None when all are used."""
        raise NotImplementedError

    def refused(self, error: EngineError) -> Reply:
        """Count an error before any request, and return its reply."""
        raise NotImplementedError

    def problem(self, status: int, detail: str) -> Reply:
        """Return the reply for a request that did not come whole."""
        return problem(status, detail)

    # Connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or say that there are too many."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._caller = Caller(self._gate.addresses, transport.get_extra_info("peername"), self._door)
        if len(self._gate.connections) >= self._gate.connections_max:
            self._say_and_close(self.refused(TooManyConnectionsError(self._gate.connections_max)))
            return
        self._gate.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Have the gate forget the connection. Tasks that were taken in go on."""
        self._is_closing = True
        self._gate.forget(self)

    def eof_received(self) -> bool:
        """The client has closed its side and may still read: answer its requests, then close."""
        self._has_eof = True
        if self._tail:
            self._say_and_close(self.problem(400, ENDED_EARLY))
        self.close_if_idle()
        return not self._is_closing or bool(self._slots)

    def pause_writing(self) -> None:
        """The client does not read its answers: take no more requests from it."""
        self._is_clogged = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads its answers again: take requests from it."""
        self._is_clogged = False
        self._resume_reading()

    def _resume_reading(self) -> None:
        """Read from the client again, unless there is another reason to wait."""
        if not (self._is_clogged or self._is_paused or self._is_closing):
            self._transport.resume_reading()

    # Requests

    def data_received(self, data: bytes) -> None:
        """Read requests out of *data*, however it was cut."""
        if self._is_closing:
            return
        if self._tail:
            data = self._tail + data
            self._tail = b""
        self._read_requests(data)

    def _read_requests(self, data: bytes) -> None:
        until = 0.0
        while data and not self._is_closing:
            if len(self._slots) >= PENDING_MAX:
                self._pause(data)
                return
            rest = self.read_request(data)
            if not rest:
                return
            data = rest
            now = time.monotonic()  # for pipelined requests only: others leave no rest
            until = until or now + SLICE_S
            if now > until:
                self._pause(data)
                self._loop.call_soon(self._go_on)
                return

    def _wait_for_head(self, data: bytes) -> None:
        """Keep the beginning of a head until more comes."""
        if not self._is_in_head:
            self._is_in_head = True
            self._since = self._loop.time()
        self._tail = data

    def _add_slot(self, *, is_last: bool) -> Slot:
        """Keep a place for the answer of a request."""
        is_last = is_last or self._gate.is_draining
        slot = Slot(self, is_last=is_last)
        self._slots.append(slot)
        if is_last:
            self._is_closing = True
            self._since = self._loop.time()
        return slot

    def _pause(self, data: bytes) -> None:
        self._tail = data
        self._is_paused = True
        self._transport.pause_reading()

    # Answers

    def flush(self) -> None:
        """Write the answers that are next in order."""
        slots = self._slots
        written = b""
        while slots and (reply := slots[0].reply) is not None:
            slot = slots.popleft()
            text = self._gate.write(reply, is_last=slot.is_last)
            written = written + text if written else text
            if slot.is_last:
                self._is_closing = True
                slots.clear()
        if not written or self._transport.is_closing():
            return
        self._transport.write(written)
        self._since = self._loop.time()
        if self._is_closing and not slots:
            self._end()
        elif self._is_paused and len(slots) <= PENDING_MAX // 2:
            self._go_on()
        elif self._has_eof or self._gate.is_closing:
            self.close_if_idle()

    def _go_on(self) -> None:
        """Read the requests that waited behind the answers, as far as they need not wait still."""
        if not self._is_paused:
            return
        data, self._tail = self._tail, b""
        self._is_paused = False
        self.data_received(data)
        self._resume_reading()

    def _say_and_close(self, reply: Reply) -> None:
        """Answer after the pending requests, and close; the client may be in the middle of sending."""
        self._tail = b""
        self._lingers = True
        slot = Slot(self, is_last=True)
        self._slots.append(slot)
        slot(reply)
        self._is_closing = True

    def _end(self) -> None:
        """Close, after a refusal in such a way that the client can read it."""
        if self._lingers and not self._has_eof:
            self._transport.write_eof()
            self._transport.resume_reading()
            self._loop.call_later(_LINGER_S, self._transport.abort)
        else:
            self._transport.close()

    # Time

    def check_time(self, now: float) -> None:
        """Close when something has taken too long."""
        gate = self._gate
        waited_s = now - self._since
        if self._is_closing:
            if waited_s > gate.idle_timeout_s:
                self._transport.abort()
        elif self._tail and not self._is_paused:
            if waited_s > gate.header_timeout_s:
                self._say_and_close(self._late_head())
        elif not self.is_busy and waited_s > gate.idle_timeout_s:
            self._is_closing = True
            self._transport.close()

    def _late_head(self) -> Reply:
        return self.problem(408, f"the head took longer than {self._gate.header_timeout_s:g} s")

    def close_if_idle(self) -> None:
        """Close unless a request is under way."""
        if not self.is_busy and not self._is_closing:
            self._is_closing = True
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._is_closing = True
        self._transport.abort()

"""The fast lane: one client's connection, read without aiohttp as long as its requests are plain.

A connection begins in the fast lane, which reads just the usual request: ``POST /v1/engine/task`` or
``/tasks``, HTTP/1.1, one ``Content-Length``. The first request that is anything else (another route or
method, chunked, ``Expect``, HTTP/1.0, a head that is not perfectly plain) hands the connection, once and
for good, to aiohttp, with the bytes that it began with. aiohttp serves the task routes too, on the same
`Admission`, so which lane a request takes changes its speed and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from engine.base.turns import SLICE_S
from engine.errors import RequestError, TooManyConnectionsError
from engine.intake.aiohttp_lane import ENDED_EARLY, AiohttpLane
from engine.intake.client import Caller
from engine.intake.heads import HEAD_MAX_BYTES, START
from engine.intake.incoming import Incoming
from engine.intake.problems import problem, too_large
from engine.intake.slot import Slot

if TYPE_CHECKING:
    from engine.intake.auth import Token
    from engine.intake.gate import Gate
    from engine.intake.heads import Head
    from engine.intake.replies import Reply

PENDING_MAX: Final = 128
"""Pipelined requests without an answer, per connection; then reading waits."""
_LINGER_S: Final = 2.0
"""After a refusal, what the client still sends is read and dropped: closing on unread bytes resets the
connection, and the client would lose the answer."""


class ClientConnection(asyncio.Protocol):
    """One client connection.

    Attributes:
        lane: aiohttp's, once the connection has been handed over.
    """

    def __init__(self, gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        self.lane: AiohttpLane | None = None
        self._gate = gate
        self._loop = loop
        self._transport: asyncio.Transport
        self._caller: Caller
        self._tail = b""  # of a head, or of requests that wait for the ones before
        self._is_in_head = False
        self._incoming: Incoming | None = None  # the request whose body is being read
        self._slots: deque[Slot] = deque()
        self._since = loop.time()  # of what `check_time` looks at
        self._is_paused = False  # requests wait behind answers
        self._is_clogged = False  # the client does not read its answers
        self._is_closing = False
        self._has_eof = False
        self._lingers = False

    def __repr__(self) -> str:
        lane = "fast" if self.lane is None else "aiohttp"
        return f"<ClientConnection {lane} lane [{len(self._slots)} pending]>"

    @property
    def _is_fast(self) -> bool:
        """Whether requests are still read here."""
        return self.lane is None and not self._is_closing

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""
        return bool(self._slots or self._incoming is not None or (self.lane is not None and self.lane.busy))

    # Connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or say that there are too many."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._caller = Caller(self._gate.addresses, transport.get_extra_info("peername"))
        if len(self._gate.connections) >= self._gate.connections_max:
            error = TooManyConnectionsError(self._gate.connections_max)
            self._say_and_close(self._gate.admission.refuse(error, self._caller.by("", b"")))
            return
        self._gate.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Have the gate forget the connection. Tasks that were taken in go on."""
        self._is_closing = True
        self._gate.forget(self)
        if self.lane is not None:
            self.lane.protocol.connection_lost(exc)
            self.lane = None  # it refers to this connection: nobody but the collector would free the two

    def eof_received(self) -> bool:
        """The client has closed its side and may still read: answer its requests, then close."""
        self._has_eof = True
        if self.lane is not None:
            self.lane.eof_received()
            return True
        if self._tail or self._incoming is not None:
            self._say_and_close(problem(400, ENDED_EARLY))
        self.close_if_idle()
        return not self._is_closing or bool(self._slots)

    def pause_writing(self) -> None:
        """The client does not read its answers: take no more requests from it."""
        if self.lane is not None:
            self.lane.protocol.pause_writing()
        self._is_clogged = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads its answers again: take requests from it."""
        if self.lane is not None:
            self.lane.protocol.resume_writing()
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
        if self.lane is not None:
            self.lane.data_received(data)
            return
        if self._incoming is not None:
            data = self._read_body(self._incoming, data)
        elif self._tail:
            data = self._tail + data
            self._tail = b""
        until = 0.0
        while data and self._is_fast:
            if len(self._slots) >= PENDING_MAX:
                self._pause(data)
                return
            rest = self._read_request(data)
            if not rest:
                return
            data = rest
            now = time.monotonic()  # for pipelined requests only: others leave no rest
            until = until or now + SLICE_S
            if now > until:
                self._pause(data)
                self._loop.call_soon(self._go_on)
                return

    def _read_request(self, data: bytes) -> bytes | None:
        """Read one request at the start of *data*; return the bytes behind it, or None when all are used."""
        head_end = data.find(b"\r\n\r\n") + 4
        head = self._gate.parse(data[:head_end]) if head_end > len(START) else None
        if head is None:
            self._not_plain(data)
            return None
        self._is_in_head = False
        try:
            token = self._gate.auth.check(head.authorization, "submit")
            if head.body_bytes > self._gate.body_max_bytes:
                raise too_large(self._gate.body_max_bytes)
        except RequestError as exc:
            return self._refuse(head, exc, data[head_end:])
        end = head_end + head.body_bytes
        if len(data) >= end:
            self._finish(head, token, data[head_end:end])
            return data[end:]
        self._incoming = Incoming(head, token, data[head_end:])
        self._since = self._loop.time()
        return None

    def _read_body(self, incoming: Incoming, data: bytes) -> bytes:
        """Read on in a body; return the bytes behind it, none while it is not complete."""
        behind = incoming.take(data)
        if behind is None:
            return b""
        self._incoming = None
        self._finish(incoming.head, incoming.token, incoming.body())
        return behind

    def _finish(self, head: Head, token: Token, body: bytes) -> None:
        """Submit a complete request."""
        admission = self._gate.admission
        slot = self._add_slot(head)
        client = self._caller.client(token, head.forwarded)
        if head.is_lines:
            admission.submit_lines(body, client, slot)
        else:
            admission.submit(body, client, slot)

    def _refuse(self, head: Head, error: RequestError, behind: bytes) -> bytes | None:
        """Answer a request by its head; nothing of its body is kept.

        Args:
            head: of the request.
            error: what is wrong with it.
            behind: the bytes behind the head.

        Returns:
            The bytes behind the request, or None: its body is still coming, and the connection ends.
        """
        by = self._caller.by(self._gate.auth.name_of(head.authorization), head.forwarded)
        reply = self._gate.admission.refuse(error, by, request=head.request)
        if len(behind) < head.body_bytes:
            self._gate.admission.stats.requests += 1
            self._say_and_close(reply)
            return None
        self._add_slot(head)(reply)
        return behind[head.body_bytes :]

    def _add_slot(self, head: Head) -> Slot:
        """Count a request, and keep a place for its answer."""
        gate = self._gate
        gate.admission.stats.requests += 1
        is_last = head.is_last or gate.is_draining
        slot = Slot(self, is_last=is_last)
        self._slots.append(slot)
        if is_last:
            self._is_closing = True
            self._since = self._loop.time()
        return slot

    def _not_plain(self, data: bytes) -> None:
        """Wait for the rest of a head, or give the connection to aiohttp."""
        could_be_ours = data.startswith(START) if len(data) >= len(START) else START.startswith(data)
        if could_be_ours and b"\r\n\r\n" not in data and len(data) <= HEAD_MAX_BYTES:
            if not self._is_in_head:
                self._is_in_head = True
                self._since = self._loop.time()
            self._tail = data
        else:
            self._hand_over(data)

    def _hand_over(self, data: bytes) -> None:
        """Give the connection to aiohttp, when the answers before have gone out."""
        if self._slots:
            self._pause(data)
            return
        protocol = self._gate.make_aiohttp()
        self.lane = AiohttpLane(protocol, self._loop, close_if_idle=self.close_if_idle, give_up=self._give_up)
        protocol.connection_made(self._transport)
        protocol.data_received(data)

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
        self._incoming = None
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

    def _give_up(self, reply: Reply) -> None:
        """Answer in aiohttp's place, and close."""
        self._is_closing = True
        if not self._transport.is_closing():
            self._lingers = True
            self._transport.write(self._gate.write(reply, is_last=True))
            self._end()

    # Time

    def check_time(self, now: float) -> None:
        """Close when something has taken too long."""
        gate, lane = self._gate, self.lane
        waited_s = now - (self._since if lane is None else lane.since)
        if self._is_closing:
            if waited_s > gate.idle_timeout_s:
                self._transport.abort()
        elif self._incoming is not None:
            if waited_s > gate.body_timeout_s:
                self._say_and_close(problem(408, f"the body took longer than {gate.body_timeout_s:g} s"))
        elif self._tail and not self._is_paused:
            if waited_s > gate.header_timeout_s:
                self._say_and_close(self._late_head())
        elif lane is not None and lane.is_reading:
            if waited_s > gate.header_timeout_s and not lane.busy:
                self._give_up(self._late_head())
        elif not self.is_busy and waited_s > gate.idle_timeout_s:
            self._is_closing = True
            self._transport.close()

    def _late_head(self) -> Reply:
        return problem(408, f"the head took longer than {self._gate.header_timeout_s:g} s")

    def close_if_idle(self) -> None:
        """Close unless a request is under way."""
        if not self.is_busy and not self._is_closing:
            self._is_closing = True
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._is_closing = True
        self._transport.abort()

"""The fast lane: one client's connection, read without aiohttp as long as its requests are plain.

A connection begins in the fast lane, which reads just the usual request: ``POST /v1/engine/task`` or
``/tasks``, HTTP/1.1, one ``Content-Length``. The first request that is anything else (another route or
method, chunked, ``Expect``, HTTP/1.0, a head that is not perfectly plain) hands the connection, once and
for good, to aiohttp, with the bytes that it began with. aiohttp serves the task routes too, on the same
`Admission`, so which lane a request takes changes its speed and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from engine.errors import RequestError
from engine.intake.aiohttp_lane import ENDED_EARLY, AiohttpLane
from engine.intake.heads import HEAD_MAX_BYTES, START
from engine.intake.problems import problem

if TYPE_CHECKING:
    from engine.intake.gate import Gate
    from engine.intake.heads import Head
    from engine.intake.replies import Reply

PENDING_MAX: Final = 128
"""Pipelined requests without an answer, per connection; then reading waits."""
_LINGER_S: Final = 2.0
"""After a refusal, what the client still sends is read and dropped: closing on unread bytes resets the
connection, and the client would lose the answer."""


class _Slot:
    """The place of one answer in the order of its connection."""

    __slots__ = ("_connection", "is_last", "reply")

    def __init__(self, connection: ClientConnection, *, is_last: bool) -> None:
        self._connection = connection
        self.is_last = is_last
        self.reply: Reply | None = None

    def __call__(self, reply: Reply) -> None:
        self.reply = reply
        self._connection.flush()


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
        self._tail = b""  # of a head, or of requests that wait for the ones before
        self._is_in_head = False
        self._chunks: list[bytes] = []  # of a body
        self._missing = 0  # bytes of the body still to come
        self._head: Head | None = None  # of the request whose body is being read
        self._slots: deque[_Slot] = deque()
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
        return bool(self._slots or self._head is not None or (self.lane is not None and self.lane.busy))

    # Connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or say that there are too many."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        if len(self._gate.connections) >= self._gate.connections_max:
            detail = f"there are {self._gate.connections_max} connections (connections_max); try again"
            self._say_and_close(problem(503, detail, headers={"Retry-After": "1"}))
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
            if self.lane.eof_received():
                return True
        elif self._tail or self._head is not None:
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
        if self._head is not None:
            data = self._read_body(data)
        elif self._tail:
            data = self._tail + data
            self._tail = b""
        while data and self._is_fast:
            if len(self._slots) >= PENDING_MAX:
                self._pause(data)
                return
            rest = self._read_request(data)
            if rest is None:
                return
            data = rest

    def _read_request(self, data: bytes) -> bytes | None:
        """Read one request at the start of *data*; return the bytes behind it, or None when all are used."""
        head_end = data.find(b"\r\n\r\n") + 4
        head = self._gate.parse(data[:head_end]) if head_end > len(START) else None
        if head is None:
            self._not_plain(data)
            return None
        if head.body_bytes > self._gate.body_max_bytes:
            detail = (
                f"the body has {head.body_bytes} bytes, at most {self._gate.body_max_bytes} (body_max_bytes)"
            )
            self._say_and_close(problem(413, detail))
            return None
        end = head_end + head.body_bytes
        self._head = head
        self._is_in_head = False
        if len(data) >= end:
            self._finish(data[head_end:end])
            return data[end:]
        self._chunks = [data[head_end:]]
        self._missing = end - len(data)
        self._since = self._loop.time()
        return None

    def _read_body(self, data: bytes) -> bytes:
        if len(data) < self._missing:
            self._chunks.append(data)
            self._missing -= len(data)
            return b""
        self._chunks.append(data[: self._missing])
        rest = data[self._missing :]
        body = b"".join(self._chunks)
        self._chunks = []
        self._missing = 0
        self._finish(body)
        return rest

    def _finish(self, body: bytes) -> None:
        """Submit a complete request."""
        head, self._head = self._head, None
        assert head is not None
        gate = self._gate
        gate.admission.stats.requests += 1
        is_last = head.is_last or gate.is_draining
        slot = _Slot(self, is_last=is_last)
        self._slots.append(slot)
        if is_last:
            self._is_closing = True
            self._since = self._loop.time()
        try:
            token = gate.auth.check(head.authorization, "submit")
        except RequestError as exc:
            slot(gate.admission.refuse(exc))
            return
        if head.is_lines:
            gate.admission.submit_lines(body, token, slot)
        else:
            gate.admission.submit(body, token, slot)

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
        data, self._tail = self._tail, b""
        self._is_paused = False
        self.data_received(data)
        self._resume_reading()

    def _say_and_close(self, reply: Reply) -> None:
        """Answer after the pending requests, and close; the client may be in the middle of sending."""
        self._head = None
        self._tail = b""
        self._chunks = []
        self._lingers = True
        slot = _Slot(self, is_last=True)
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
        elif self._head is not None:
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

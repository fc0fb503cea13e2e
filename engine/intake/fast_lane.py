"""The fast lane: one client's connection, read without aiohttp as long as its requests are plain.

A connection begins in the fast lane, which reads just the usual request: ``POST /v1/engine/task`` or
``/tasks``, HTTP/1.1, one ``Content-Length``. The first request that is anything else (another route or
method, chunked, ``Expect``, HTTP/1.0, a head that is not perfectly plain) hands the connection, once and
for good, to aiohttp, with the bytes that it began with. aiohttp serves the task routes too, on the same
`Admission`, so which lane a request takes changes its speed and nothing else.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.errors import RequestError
from engine.intake.aiohttp_lane import AiohttpLane
from engine.intake.client import HTTP
from engine.intake.heads import HEAD_MAX_BYTES, START
from engine.intake.incoming import Incoming
from engine.intake.pipeline import Pipeline
from engine.intake.problems import ENDED_EARLY, too_large

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from engine.errors import EngineError
    from engine.intake.auth import Token
    from engine.intake.gate import PortGate
    from engine.intake.heads import Head
    from engine.intake.replies import Reply
    from engine.intake.slot import Slot


class ClientConnection(Pipeline):
    """One client connection.

    Args:
        gate: of its port.
        loop: the engine's.
        door: what its tasks come in by, see `By.door`.

    Attributes:
        lane: aiohttp's, once the connection has been handed over.
    """

    def __init__(self, gate: PortGate, loop: asyncio.AbstractEventLoop, door: str = HTTP) -> None:
        super().__init__(gate, loop, door)
        self.lane: AiohttpLane | None = None
        self._port = gate
        self._incoming: Incoming | None = None  # the request whose body is being read

    def __repr__(self) -> str:
        lane = "fast" if self.lane is None else "aiohttp"
        return f"<ClientConnection {lane} lane [{len(self._slots)} pending]>"

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""
        return bool(self._slots or self._incoming is not None or (self.lane is not None and self.lane.busy))

    # Connection

    def refused(self, error: EngineError) -> Reply:
        """Count an error before any request, and return its reply."""
        return self._port.admission.refuse(error, self._caller.by("", b""))

    def connection_lost(self, exc: Exception | None) -> None:
        """Have the gate forget the connection. Tasks that were taken in go on."""
        super().connection_lost(exc)
        if self.lane is not None:
            self.lane.protocol.connection_lost(exc)
            self.lane = None  # it refers to this connection: nobody but the collector would free the two

    def eof_received(self) -> bool:
        """The client has closed its side and may still read: answer its requests, then close."""
        if self.lane is not None:
            self._has_eof = True
            self.lane.eof_received()
            return True
        if self._incoming is not None:
            self._say_and_close(self.problem(400, ENDED_EARLY))
        return super().eof_received()

    def pause_writing(self) -> None:
        """The client does not read its answers: take no more requests from it."""
        if self.lane is not None:
            self.lane.protocol.pause_writing()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads its answers again: take requests from it."""
        if self.lane is not None:
            self.lane.protocol.resume_writing()
        super().resume_writing()

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
        self._read_requests(data)

    def read_request(self, data: bytes) -> bytes | None:
        """Read one request at the start of *data*; return the bytes behind it, or None when all are used."""
        head_end = data.find(b"\r\n\r\n") + 4
        head = self._port.parse(data[:head_end]) if head_end > len(START) else None
        if head is None:
            self._not_plain(data)
            return None
        self._is_in_head = False
        try:
            token = self._port.auth.check(head.authorization, "submit")
            if head.body_bytes > self._port.body_max_bytes:
                raise too_large(self._port.body_max_bytes)
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
        admission = self._port.admission
        answer: Callable[[Reply], None] = self._place_for(head)
        if admission.tap.recordings:
            answer = admission.tap.watch(head.text, body, answer)
        client = self._caller.client(token, head.forwarded)
        if head.traceparent:
            client = client._replace(traceparent=head.traceparent)
        if head.is_lines:
            admission.submit_lines(body, client, answer)
        else:
            admission.submit(body, client, answer)

    def _refuse(self, head: Head, error: RequestError, behind: bytes) -> bytes | None:
        """Answer a request by its head; nothing of its body is kept.

        Args:
            head: of the request.
            error: what is wrong with it.
            behind: the bytes behind the head.

        Returns:
            The bytes behind the request, or None: its body is still coming, and the connection ends.
        """
        by = self._caller.by(self._port.auth.name_of(head.authorization), head.forwarded)
        tap = self._port.admission.tap
        reply = self._port.admission.refuse(error, by, request=head.request)
        if tap.recordings:
            tap.saw(head.text, behind[: head.body_bytes], reply, time.time_ns())
        if len(behind) < head.body_bytes:
            self._port.admission.stats.requests += 1
            self._say_and_close(reply)
            return None
        self._place_for(head)(reply)
        return behind[head.body_bytes :]

    def _place_for(self, head: Head) -> Slot:
        """Count a request, and keep a place for its answer."""
        self._port.admission.stats.requests += 1
        return self._add_slot(is_last=head.is_last)

    def _not_plain(self, data: bytes) -> None:
        """Wait for the rest of a head, or give the connection to aiohttp."""
        could_be_ours = data.startswith(START) if len(data) >= len(START) else START.startswith(data)
        if could_be_ours and b"\r\n\r\n" not in data and len(data) <= HEAD_MAX_BYTES:
            self._wait_for_head(data)
        else:
            self._hand_over(data)

    def _hand_over(self, data: bytes) -> None:
        """Give the connection to aiohttp, when the answers before have gone out."""
        if self._slots:
            self._pause(data)
            return
        protocol = self._port.make_aiohttp()
        self.lane = AiohttpLane(protocol, self._loop, close_if_idle=self.close_if_idle, give_up=self._give_up)
        protocol.connection_made(self._transport)
        protocol.data_received(data)

    def _say_and_close(self, reply: Reply) -> None:
        """Answer after the pending requests, and close; the client may be in the middle of sending."""
        self._incoming = None
        super()._say_and_close(reply)

    def _give_up(self, reply: Reply) -> None:
        """Answer in aiohttp's place, and close; once, whatever else comes to an end after that."""
        if self._is_closing or self._transport.is_closing():
            return
        self._is_closing = self._lingers = True
        self._transport.write(self._gate.write(reply, is_last=True))
        self._end()

    # Time

    def check_time(self, now: float) -> None:
        """Close when something has taken too long."""
        gate, lane = self._gate, self.lane
        if self._is_closing or lane is None:
            if self._incoming is None or self._is_closing:
                super().check_time(now)
            elif now - self._since > gate.body_timeout_s:
                self._say_and_close(self.problem(408, f"the body took longer than {gate.body_timeout_s:g} s"))
        elif lane.is_reading:
            if now - lane.since > gate.header_timeout_s and not lane.busy:
                self._give_up(self._late_head())
        elif not self.is_busy and now - lane.since > gate.idle_timeout_s:
            self._is_closing = True
            self._transport.close()

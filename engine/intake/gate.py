"""The port: a fast lane for tasks, and aiohttp for everything else.

A connection begins in the fast lane, which reads just the usual request: ``POST /v1/engine/task`` or
``/tasks``, HTTP/1.1, one ``Content-Length``. The first request that is anything else (another route or
method, chunked, ``Expect``, HTTP/1.0, a head that is not perfectly plain) hands the connection, once and
for good, to aiohttp, with the bytes that it began with. aiohttp serves the task routes too, on the same
`Accept`, so which lane a request takes changes its speed and nothing else.

Why a pattern and not httptools: the lane takes only heads that match one strict pattern whole, so there
is nothing to be lenient about; it knows where a request ends, which a hand-over needs and httptools does
not tell; and a head seen before is one dictionary look-up, where a callback parser makes a call a header.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import re
import time
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from engine.errors import RequestError
from engine.intake.problems import Reply, problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from engine.intake.admission import Accept
    from engine.intake.auth import Auth

HEAD_MAX_BYTES: Final = 16 * 1024
PENDING_MAX: Final = 128
"""Pipelined requests without an answer, per connection; then reading waits."""

_PARSED_HEADS_MAX: Final = 1024
_PARSED_HEAD_MAX_BYTES: Final = 1024

_START: Final = b"POST /v1/engine/task"
_HEAD: Final = re.compile(
    rb"POST /v1/engine/task(s?) HTTP/1\.1"
    rb"((?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*)+)\r\n\r\n"
)
_UNUSUAL: Final = re.compile(
    rb"\r\n(?:transfer-encoding|expect|upgrade|content-encoding|trailer)[ \t]*:"
    rb"|\r\nconnection:(?! ?keep-alive\r| ?close\r)"
)
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,12})[ \t]*\r")
_TYPE: Final = re.compile(rb"\r\ncontent-type:[ \t]*([^\r;]*)")
_JSON_TYPES: Final = frozenset(
    {b"application/json", b"application/x-ndjson", b"application/ndjson", b"application/jsonl"}
)
_LINGER_S: Final = 2.0
"""After a refusal, what the client still sends is read and dropped: closing on unread bytes resets the
connection, and the client would lose the answer."""
_ENDED_EARLY: Final = "the request ended before it was complete"
_EOF_GRACE_S: Final = 0.1
"""After the end of a half-closed client's bytes: time for aiohttp to call the handler of what it has."""


class Head(NamedTuple):
    """What the fast lane needs to know of a request's head."""

    is_lines: bool  #: ``/tasks``, NDJSON
    body_bytes: int
    authorization: bytes
    is_last: bool  #: ``Connection: close``


def parse_head(text: bytes) -> Head | None:
    """Return what a plain head says, or None when aiohttp has to read it.

    Args:
        text: from the request line to the empty line.
    """
    match = _HEAD.fullmatch(text)
    if match is None:
        return None
    fields = match[2].lower() + b"\r"
    length = _LENGTH.search(fields)
    kind = _TYPE.search(fields)
    authorization = fields.find(b"\r\nauthorization:")
    if (
        length is None
        or fields.count(b"\r\ncontent-length") > 1
        or _UNUSUAL.search(fields)
        or (kind is not None and kind[1].strip() not in _JSON_TYPES)
        or fields.find(b"\r\nauthorization:", authorization + 2) > authorization >= 0
    ):
        return None
    value = match[2][authorization + 16 :].partition(b"\r")[0].strip() if authorization >= 0 else b""
    is_last = re.search(rb"\r\nconnection:[ \t]*close\r", fields) is not None
    return Head(bool(match[1]), int(length[1]), value, is_last)


class Gate:
    """What the connections of one port share: limits, counts, and the hand-over to aiohttp.

    Args:
        make_inner: makes aiohttp's protocol for a connection that is handed over.
    """

    def __init__(
        self,
        accept: Accept,
        auth: Auth,
        make_inner: Callable[[], asyncio.Protocol],
        *,
        server: str,
        connections_max: int,
        body_max_bytes: int,
        header_timeout_s: float,
        body_timeout_s: float,
        idle_timeout_s: float,
    ) -> None:
        self.accept = accept
        self.auth = auth
        self.make_inner = make_inner
        self.connections_max = connections_max
        self.body_max_bytes = body_max_bytes
        self.header_timeout_s = header_timeout_s
        self.body_timeout_s = body_timeout_s
        self.idle_timeout_s = idle_timeout_s
        self.connections: set[Intake] = set()
        self.is_draining = False
        self.is_closing = False
        self._all_closed = asyncio.Event()
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._heads: dict[tuple[int, str, bool], bytes] = {}
        self._heads_at = 0
        self._parsed: dict[bytes, Head | None] = {}
        self._sweep_handle = self._loop.call_later(1, self._sweep)

    def __call__(self) -> Intake:
        """Make the protocol of a new connection."""
        return Intake(self, self._loop)

    def head(self, reply: Reply, *, is_last: bool) -> bytes:
        """Return the head of a response up to ``Content-Length: ``; made once a second and kind."""
        now = int(time.time())
        if now != self._heads_at:
            self._heads.clear()
            self._heads_at = now
        key = (reply.status, reply.content_type, is_last)
        made = self._heads.get(key)
        if made is None:
            lines = [
                f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}",
                f"Server: {self._server}",
                f"Date: {email.utils.formatdate(now, usegmt=True)}",
                f"Content-Type: {reply.content_type}",
                *(["Connection: close"] if is_last else []),
                "Content-Length: ",
            ]
            made = self._heads[key] = "\r\n".join(lines).encode()
        return made

    def parse(self, text: bytes) -> Head | None:
        """Return `parse_head` of *text*.

        A client's heads differ in nothing but the length of the body, so a few hundred cover nearly all
        requests: one dictionary look-up in place of six searches (0.4 µs instead of 4.4).
        """
        try:
            return self._parsed[text]
        except KeyError:
            head = parse_head(text)
            if len(text) <= _PARSED_HEAD_MAX_BYTES:
                if len(self._parsed) >= _PARSED_HEADS_MAX:
                    self._parsed.clear()
                self._parsed[text] = head
            return head

    def _sweep(self) -> None:
        """Close connections that are too slow or idle: one pass a second instead of a timer each."""
        self._sweep_handle = self._loop.call_later(1, self._sweep)
        now = self._loop.time()
        for connection in list(self.connections):
            connection.check_time(now)

    def drain(self) -> None:
        """Ask every connection to end after the request it is in."""
        self.is_draining = True

    def close_idle(self) -> None:
        """Close the connections on which no request is under way, the others as soon as that is so."""
        self.is_closing = True
        for connection in list(self.connections):
            connection.close_if_idle()

    def forget(self, connection: Intake) -> None:
        """A connection is closed."""
        self.connections.discard(connection)
        if not self.connections:
            self._all_closed.set()

    async def wait_closed(self, timeout_s: float) -> None:
        """Wait until no connection is left, for at most that many seconds."""
        self._all_closed.clear()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_closed.wait(), timeout_s)

    def close(self) -> None:
        """Close everything at once."""
        self._sweep_handle.cancel()
        for connection in list(self.connections):
            connection.abort()


class _Slot:
    """The place of one answer in the order of its connection."""

    __slots__ = ("_connection", "is_last", "reply")

    def __init__(self, connection: Intake, *, is_last: bool) -> None:
        self._connection = connection
        self.is_last = is_last
        self.reply: Reply | None = None

    def __call__(self, reply: Reply) -> None:
        self.reply = reply
        self._connection.flush()


class Intake(asyncio.Protocol):
    """One client connection."""

    def __init__(self, gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        self._gate = gate
        self._loop = loop
        self._transport: asyncio.Transport
        self._inner: asyncio.Protocol | None = None
        self._inner_busy = 0
        self._inner_reads = False  # bytes of a request have come, and no handler has been called
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
        self._body_timeout: asyncio.Timeout | None = None  # of the handler that reads one in aiohttp's lane

    def __repr__(self) -> str:
        lane = "aiohttp" if self._inner else "fast"
        return f"<Intake {lane} lane [{len(self._slots)} pending]>"

    @property
    def _is_fast(self) -> bool:
        """Whether requests are still read here."""
        return self._inner is None and not self._is_closing

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""
        return bool(self._slots or self._inner_busy or self._head is not None)

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
        """Forget it. Tasks that were taken in go on."""
        self._is_closing = True
        self._gate.forget(self)
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def eof_received(self) -> bool:
        """The client has closed its side and may still read: answer what it asked, then close."""
        self._has_eof = True
        if self._inner is not None:
            self._inner.eof_received()
            if self._body_timeout is not None:
                self._end_body_soon()
            elif self._inner_reads and not self.is_busy:
                self._loop.call_later(_EOF_GRACE_S, self._inner_ended)
                return True
        elif self._tail or self._head is not None:
            self._say_and_close(problem(400, _ENDED_EARLY))
        self.close_if_idle()
        return not self._is_closing or bool(self._slots)

    def pause_writing(self) -> None:
        """The client does not read its answers: take no more requests from it."""
        if self._inner is not None:
            self._inner.pause_writing()
        self._is_clogged = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        if self._inner is not None:
            self._inner.resume_writing()
        self._is_clogged = False
        self._resume_reading()

    def _resume_reading(self) -> None:
        """Read on, unless something else still keeps us from it."""
        if not (self._is_clogged or self._is_paused or self._is_closing):
            self._transport.resume_reading()

    # Requests

    def data_received(self, data: bytes) -> None:
        """Read requests out of *data*, however it was cut."""
        if self._is_closing:
            return
        if self._inner is not None:
            if not self._inner_busy and not self._inner_reads:
                self._since = self._loop.time()
                self._inner_reads = True
            self._inner.data_received(data)
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
        """Read one request at the start of *data*; return what follows, or None when all is used."""
        head_end = data.find(b"\r\n\r\n") + 4
        head = self._gate.parse(data[:head_end]) if head_end > len(_START) else None
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
        gate.accept.stats.requests += 1
        is_last = head.is_last or gate.is_draining
        slot = _Slot(self, is_last=is_last)
        self._slots.append(slot)
        if is_last:
            self._is_closing = True
            self._since = self._loop.time()
        try:
            token = gate.auth.check(head.authorization, "submit")
        except RequestError as exc:
            slot(gate.accept.refuse(exc))
            return
        if head.is_lines:
            gate.accept.submit_lines(body, token, slot)
        else:
            gate.accept.submit(body, token, slot)

    def _not_plain(self, data: bytes) -> None:
        """Wait for the rest of a head, or give the connection to aiohttp."""
        could_be_ours = data.startswith(_START) if len(data) >= len(_START) else _START.startswith(data)
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
        self._inner = self._gate.make_inner()
        self._since = self._loop.time()
        self._inner_reads = True
        self._inner.connection_made(self._transport)
        self._inner.data_received(data)

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
            text = self._text(reply, is_last=slot.is_last)
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
        """Read what waited behind the answers, unless it still has to."""
        data, self._tail = self._tail, b""
        self._is_paused = False
        self.data_received(data)
        self._resume_reading()

    def _text(self, reply: Reply, *, is_last: bool) -> bytes:
        head = self._gate.head(reply, is_last=is_last)
        if reply.headers:
            extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items()).encode()
            head = head.replace(b"Content-Length: ", extra + b"Content-Length: ")
        return b"%b%d\r\n\r\n%b" % (head, len(reply.body), reply.body)

    def _say_and_close(self, reply: Reply) -> None:
        """Answer after what is pending, and close; the client may be in the middle of sending."""
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

    # aiohttp's lane, told by its middleware

    def request_begins(self) -> None:
        """A handler has been called."""
        self._inner_busy += 1
        self._inner_reads = False

    def request_ends(self) -> None:
        """A handler has returned."""
        self._inner_busy -= 1
        self._since = self._loop.time()
        if self._has_eof:
            self._loop.call_later(0.05, self.close_if_idle)  # the response is written after this

    @contextlib.asynccontextmanager
    async def reading_body(self, limit_s: float) -> AsyncIterator[None]:
        """Give a handler *limit_s* to read its body, and no time for one that cannot come any more.

        Raises:
            RequestError: 408, or 400 when the client has ended its side.
        """
        try:
            async with asyncio.timeout(limit_s) as self._body_timeout:
                if self._has_eof:
                    self._end_body_soon()
                yield
        except TimeoutError:
            if self._has_eof:
                raise RequestError(400, _ENDED_EARLY) from None
            raise RequestError(408, f"the body took longer than {limit_s:g} s") from None
        finally:
            self._body_timeout = None

    def _end_body_soon(self) -> None:
        assert self._body_timeout is not None
        self._body_timeout.reschedule(self._loop.time() + _EOF_GRACE_S)

    def _inner_ended(self) -> None:
        """The client had ended its side before aiohttp had a whole head: there is nobody else to say so."""
        if self._inner_reads and not self.is_busy:
            self._inner_gives_up(problem(400, _ENDED_EARLY))

    def _inner_gives_up(self, reply: Reply) -> None:
        self._is_closing = True
        if not self._transport.is_closing():
            self._lingers = True
            self._transport.write(self._text(reply, is_last=True))
            self._end()

    # Time

    def check_time(self, now: float) -> None:
        """Close when something has taken too long."""
        gate = self._gate
        waited_s = now - self._since
        if self._is_closing:
            if waited_s > gate.idle_timeout_s:
                self._transport.abort()
        elif self._head is not None:
            if waited_s > gate.body_timeout_s:
                self._say_and_close(problem(408, f"the body took longer than {gate.body_timeout_s:g} s"))
        elif self._tail and not self._is_paused:
            if waited_s > gate.header_timeout_s:
                self._say_and_close(problem(408, f"the head took longer than {gate.header_timeout_s:g} s"))
        elif not self.is_busy and waited_s > (
            gate.header_timeout_s if self._inner_reads else gate.idle_timeout_s
        ):
            if self._inner_reads:
                reply = problem(408, f"the head took longer than {gate.header_timeout_s:g} s")
                self._inner_gives_up(reply)
            else:
                self._is_closing = True
                self._transport.close()

    def close_if_idle(self) -> None:
        """Close unless a request is under way."""
        if not self.is_busy and not self._is_closing:
            self._is_closing = True
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._is_closing = True
        self._transport.abort()

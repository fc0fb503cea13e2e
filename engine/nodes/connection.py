"""One pipelined connection to a node.

Requests go out up to ``depth`` ahead of their answers; answers come in order. The first request on a
connection goes alone, until the node has shown that it answers here (RFC 9112, section 9.3.2: no
pipelining before that, none straight after a failed connection). When the connection ends early, what
got no answer is handed back in order.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Protocol, cast

from engine.errors import WireError
from engine.nodes.wire import AnswerReader

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from engine.base.buffers import BufferPool
    from engine.base.timer import Timer
    from engine.nodes.answer import Answer, Sign
    from engine.nodes.queue import Item


class Wire(Protocol):
    """Takes along what passes on the connections of a node, while somebody asks for it."""

    def sent(self, connection: Connection, items: list[Item], data: bytes, /) -> None:
        """Take requests that have just been written; they are among the connection's items by now."""

    def received(self, connection: Connection, buffer: bytearray, filled: int, end: int, /) -> None:
        """Take bytes that have just come: those from *filled* on, behind what could not be read before."""

    def lost(self, connection: Connection, reason: str, /) -> None:
        """Take what a connection that ended leaves unanswered."""


class Feeder(Protocol):
    """Gives a connection its requests and takes their answers; called once a read or fill."""

    name: str  #: of the node
    depth: int  #: requests in flight on one connection
    timeout_s: float  #: seconds without any answer until a connection is given up
    body_max_bytes: int  #: a longer body is not read on
    sign: Sign | None  #: by which answers show that the node gave them; None: nobody asks
    wire: Wire | None  #: told what is written and read; None: nobody asks
    buffers: BufferPool
    timer: Timer
    now: Callable[[], float]  #: a clock in seconds that never goes back

    def opened(self, connection: Connection) -> None:
        """Take in a connection that can send."""

    def take(self, room: int) -> list[Item]:
        """Return up to *room* requests to send now."""

    def text_of(self, items: list[Item]) -> str:
        """Return the text of these requests, one after the other."""

    def settle(self, items: list[Item], answers: list[Answer], duration_s: float) -> None:
        """Take the answers of one read, with the time since the oldest of their requests was sent."""

    def begun(self, item: Item, wait_s: float) -> None:
        """Note that an answer has begun, which is not all there, *wait_s* after its request."""

    def too_big(self, item: Item) -> None:
        """Take a request whose answer is longer than `body_max_bytes`."""

    def lost(self, connection: Connection, unanswered: list[Item]) -> None:
        """Let a connection go, and take back what got no answer on it, in order."""


class Connection:
    """A connection of a `Feeder`, reading into a pooled buffer; a loop is given its `BufferedProtocol`."""

    def __init__(self, feeder: Feeder) -> None:
        self._feeder = feeder
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader(feeder.sign)
        self._buffer: bytearray | None = None
        self._filled = 0
        self.items: list[Item] = []  #: requests that wait for their answer
        self._progress_at = 0.0
        self._writes: deque[tuple[int, float]] = deque()  # answers until a write is through, its time
        self._sent_count = 0
        self._is_last = False  # no further request goes out on it
        self._is_armed = False
        self._has_begun = False  # that the next answer has is told
        self.answered_count = 0
        self.has_timed_out = False
        self.reason = "closed the connection without an answer"

    def __repr__(self) -> str:
        return f"<Connection to {self._feeder.name} [{len(self.items)} in flight]>"

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answer."""
        return len(self.items)

    @property
    def peer(self) -> str:
        """The address that it goes to."""
        return str(self._transport.get_extra_info("peername")[0]) if self._transport is not None else ""

    @property
    def oldest_sent_at(self) -> float:
        """When the oldest request was sent that waits for its answer; infinity: there is none."""
        return self._writes[0][1] if self._writes else inf

    @property
    def takes_more(self) -> bool:
        """Whether a request could go out now."""
        depth = self._feeder.depth if self.answered_count else 1
        return self._transport is not None and not self._is_last and len(self.items) < depth

    @property
    def is_between_answers(self) -> bool:
        """Whether what is read next is the beginning of an answer."""
        return self._reader.expects == -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start sending."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._feeder.opened(self)

    def fill(self) -> None:
        """Send as many waiting requests as the pipeline takes, in one write.

        Half a pipeline at a time, unless it is empty: a write a request would cost a system call each.
        """
        transport = self._transport
        if transport is None or self._is_last:
            return
        depth = self._feeder.depth if self.answered_count else 1
        in_flight = len(self.items)
        room = depth - in_flight
        if room <= 0 or (in_flight and room < depth // 2):
            return
        items = self._feeder.take(room)
        if not items:
            return
        now = self._feeder.now()
        if not in_flight:
            self._progress_at = now
            self._arm(self._feeder.timeout_s)
        self.items.extend(items)
        self._sent_count += len(items)
        self._writes.append((self._sent_count, now))
        data = self._feeder.text_of(items).encode("ascii")
        transport.write(data)
        if self._feeder.wire is not None:
            self._feeder.wire.sent(self, items, data)

    def abort(self, reason: str) -> None:
        """Close at once; `connection_lost` hands back what is in flight."""
        self.reason = reason
        self._is_last = True
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close, nothing being in flight."""
        self._is_last = True
        if self._transport is not None:
            self._transport.close()

    def drop(self) -> None:
        """Let go of a connection whose opening was given up.

        uvloop closes such a transport without `connection_lost`, even when `connection_made` has been called.
        """
        self._is_last = True
        self.connection_lost(None)

    # Reading

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the loop the free part of the buffer."""
        if self._buffer is None:
            self._buffer = self._feeder.buffers.take()
            self._filled = 0
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Read the answers that have come."""
        buffer = self._buffer
        assert buffer is not None
        end = self._filled + nbytes
        if self._feeder.wire is not None:
            self._feeder.wire.received(self, buffer, self._filled, end)
        answers: list[Answer] = []
        try:
            used = self._reader.feed(buffer, end, answers)
        except WireError as exc:
            self._give_back()
            if answers:  # no answer at all must not look like a node that answers
                self._settle(answers)
            self.abort(str(exc))
            return
        rest = end - used
        if rest:
            if used:
                buffer[:rest] = buffer[used:end]
            self._filled = rest
        else:
            self._give_back()
        if answers:
            self._settle(answers)
        elif self._writes and not self._has_begun:
            self._has_begun = True
            self._feeder.begun(self.items[0], self._feeder.now() - self._writes[0][1])
        if not answers and self._reader.body_bytes > self._feeder.body_max_bytes:
            self._refuse_body()
            return
        self.fill()

    def eof_received(self) -> bool:
        """The node closed its side; that may end a body without a length."""
        answers: list[Answer] = []
        try:
            self._reader.feed_eof(answers)
        except WireError as exc:
            self.reason = str(exc)
        if answers:
            self._settle(answers)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand back what got no answer."""
        if self._transport is None:
            return  # dropped before
        self._give_back()
        self._transport = None
        if self._is_armed:
            self._feeder.timer.cancel(self)
        if exc is not None and not self._is_last:
            self.reason = str(exc) or type(exc).__name__
        if self._feeder.wire is not None:
            self._feeder.wire.lost(self, self.reason)
        unanswered, self.items = self.items, []
        self._feeder.lost(self, unanswered)

    def _settle(self, answers: list[Answer]) -> None:
        in_flight = self.items
        if len(answers) > len(in_flight) or self._is_last:
            self.abort("sent more answers than there were requests")
            del answers[len(in_flight) :]
            if self._is_last and not answers:
                return
        items = in_flight[: len(answers)]
        del in_flight[: len(answers)]
        self.answered_count += len(answers)
        self._has_begun = False
        self._progress_at = now = self._feeder.now()
        duration_s = now - self._writes[0][1] if answers else 0.0
        while self._writes and self._writes[0][0] <= self.answered_count:
            self._writes.popleft()
        if answers and not answers[-1].keep_alive:
            self._is_last = True
            if self._transport is not None:
                self._transport.close()
        self._feeder.settle(items, answers, duration_s)

    def _refuse_body(self) -> None:
        if self.items:  # or nobody asked for it
            self._feeder.too_big(self.items.pop(0))
        self.abort("stopped reading a body over the limit")

    def _give_back(self) -> None:
        if self._buffer is not None:
            self._feeder.buffers.give_back(self._buffer)
            self._buffer = None
            self._filled = 0

    # Time-out

    def _arm(self, delay_s: float) -> None:
        """Have the oldest request looked at when it could be overdue; one timer a connection."""
        if not self._is_armed:
            self._is_armed = True
            self._feeder.timer.add(self, delay_s, self._check)

    def _check(self) -> None:
        self._is_armed = False
        if not self.items:
            return
        left_s = self._progress_at + self._feeder.timeout_s - self._feeder.now()
        if left_s > 0:
            self._arm(left_s)
        else:
            self.has_timed_out = True
            self.abort(f"gave no answer within {self._feeder.timeout_s:g} s")

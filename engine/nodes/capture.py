"""What passes on the wire between the engine and one node, taken along while somebody asks for it.

Connections tell a capture what they send and read; without one they look at an attribute once a write and
once a read. Answers are told apart by an `AnswerReader` of their own, which is given no more than one at a
time, so they end where the engine reads that they end. Of each exchange heads and the beginning of a body are
kept.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from engine.debugging.exchanges import DebugExchange
from engine.debugging.masking import escaped, head_lines
from engine.errors import WireError
from engine.nodes.probe import Problem
from engine.nodes.wire import HEAD_MAX_BYTES, AnswerReader
from engine.tasks.words import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.nodes.answer import Answer
    from engine.nodes.connection import Connection
    from engine.nodes.queue import Item

_BODY_SHOWN: Final = 256
_HEAD_END: Final = b"\r\n\r\n"
_LINE_END: Final = b"\r\n"
_A_HEAD, _TO_A_CLOSE = -1, -2  #: see `AnswerReader.expects`


class _Exchange:
    """One that has begun."""

    __slots__ = (
        *("body", "body_bytes", "fault", "head", "number", "operation", "request", "sent_at", "took_s"),
    )

    def __init__(self, operation: str, request: bytes, sent_at: float | None) -> None:
        self.operation = operation
        self.request = request
        self.sent_at = sent_at
        self.head = self.body = b""
        self.body_bytes = self.number = 0
        self.fault = ""
        self.took_s: float | None = None

    def keep(self, data: bytes, *, is_head: bool) -> None:
        """Take along bytes of the answer, as far as they are shown."""
        if is_head:
            self.head = data  # an interim one goes
        elif self.operation != _PREFETCH and len(self.body) < _BODY_SHOWN:
            self.body += data[: _BODY_SHOWN - len(self.body)]

    def over(self, number: int, *, body_bytes: int = 0, fault: str = "") -> _Exchange:
        """End it, on the connection of that *number*, and return it."""
        self.number, self.body_bytes, self.fault = number, body_bytes, fault
        if self.sent_at is not None and self.head and not fault:
            self.took_s = time.time() - self.sent_at
        return self

    def document(self) -> DebugExchange:
        """Return what is shown of it."""
        status = self.head[9:12]
        return DebugExchange(
            self.number,
            self.operation,
            None if self.sent_at is None else round(self.sent_at, 6),
            None if self.took_s is None else round(self.took_s * 1000, 3),
            head_lines(self.request) if self.request else ["(sent before the look began)"],
            int(status) if status.isdigit() else 0,
            head_lines(self.head) if self.head else [],
            escaped(self.body),
            self.body_bytes,
            self.fault,
        )


_PREFETCH: Final = Operation.PREFETCH.name.lower()


class Capture:
    """Exchanges with one node.

    Args:
        count: it is full with so many.

    Attributes:
        full: set when it is.
        connections: that were seen.
    """

    def __init__(self, count: int) -> None:
        self.full = asyncio.Event()
        self._exchanges: list[_Exchange] = []  # those that are over
        self.connections = 0
        self._count = count
        self._streams: dict[Connection, _Stream] = {}

    # Told by connections

    def sent(self, connection: Connection, items: Sequence[Item], data: bytes) -> None:
        """Take requests that have just been written; they are among the connection's items by now."""
        if self.full.is_set():
            return
        now = time.time()
        stream = self._stream(connection, len(connection.items) - len(items))
        requests = data.split(_HEAD_END)[:-1]  # none has a body
        for item, request in zip(items, requests, strict=False):
            stream.begun.append(_Exchange(_operation(item), request, now))

    def received(self, connection: Connection, buffer: bytearray, filled: int, end: int) -> None:
        """Take bytes that have just come: those from *filled* on, behind what could not be read before."""
        if self.full.is_set():
            return
        stream = self._stream(connection, len(connection.items))
        if not stream.is_read:
            if not connection.is_between_answers:
                return  # the rest of one whose beginning was not seen
            stream.begin(len(connection.items))
            filled = 0
        for exchange in stream.read(bytes(memoryview(buffer)[filled:end])):
            self._take(exchange)

    def lost(self, connection: Connection, reason: str) -> None:
        """Take what a connection leaves unanswered."""
        stream = self._streams.pop(connection, None)
        for exchange in () if stream is None else stream.end(reason):
            self._take(exchange)

    def probed(self, request: str, data: bytes, answer: Answer | Problem, sent_at: float) -> None:
        """Take a probe that is over; it has a connection of its own."""
        self.connections += 1
        head, _, body = data.partition(_HEAD_END)
        exchange = _Exchange("probe", request.encode("ascii"), sent_at)
        exchange.head, exchange.body = head, body[:_BODY_SHOWN]
        fault = answer.reason if isinstance(answer, Problem) else ""
        self._take(exchange.over(self.connections, body_bytes=len(body), fault=fault))

    # Shown

    async def documents(self) -> list[DebugExchange]:
        """Return the exchanges, and as far as there is room the requests that wait for their answers.

        A thread writes them down: that takes longer than to take them along.
        """
        waiting = [exchange for stream in self._streams.values() for exchange in stream.end("no answer yet")]
        shown = [*self._exchanges, *waiting][: self._count]
        return await asyncio.to_thread(lambda: [exchange.document() for exchange in shown])

    def _take(self, exchange: _Exchange) -> None:
        self._exchanges.append(exchange)
        if len(self._exchanges) >= self._count:
            self.full.set()

    def _stream(self, connection: Connection, before: int) -> _Stream:
        """Return what is known of a connection, which had *before* requests under way at first sight."""
        stream = self._streams.get(connection)
        if stream is None:
            self.connections += 1
            stream = self._streams[connection] = _Stream(self.connections)
            for item, _ in zip(connection.items, range(before), strict=False):
                stream.begun.append(_Exchange(_operation(item), b"", None))
        return stream


class _Stream:
    """One connection.

    Attributes:
        begun: exchanges that wait for their answers.
        is_read: its answers are told apart.
    """

    def __init__(self, number: int) -> None:
        self.begun: deque[_Exchange] = deque()
        self.is_read = False
        self._number = number
        self._reader = AnswerReader()
        self._data = bytearray()
        self._is_broken = False

    def begin(self, under_way: int) -> None:
        """Begin to tell answers apart, between two of them; *under_way* are still to come."""
        self.is_read = True
        while len(self.begun) > under_way:
            self.begun.popleft()

    def read(self, data: bytes) -> list[_Exchange]:
        """Return the exchanges that bytes complete."""
        self._data += data
        shown: list[_Exchange] = []
        while self._data and not self._is_broken and (step := self._step()):
            piece = bytes(self._data[:step])
            del self._data[:step]
            is_head = self._reader.expects == _A_HEAD
            answers: list[Answer] = []
            try:
                self._reader.feed(bytearray(_as_any(piece) if is_head else piece), len(piece), answers)
            except WireError as exc:
                self._is_broken = True
                return [*shown, *self.end(str(exc), piece)]
            if self.begun:
                self.begun[0].keep(piece, is_head=is_head)
            if answers:
                exchange = self.begun.popleft() if self.begun else _unasked(piece)
                shown.append(exchange.over(self._number, body_bytes=answers[0].body_bytes))
        return shown

    def _step(self) -> int:
        """Return how many bytes the reader is given next, none of the next answer; 0: wait for more."""
        data, expects = self._data, self._reader.expects
        if expects > 0:
            return min(expects, len(data))
        if expects == _TO_A_CLOSE:
            return len(data)
        end = _HEAD_END if expects == _A_HEAD else _LINE_END
        at = data.find(end)
        if at < 0 and len(data) > HEAD_MAX_BYTES:
            return len(data)  # the reader says what is wrong with that
        return at + len(end) if at >= 0 else 0

    def end(self, reason: str, piece: bytes = b"") -> list[_Exchange]:
        """Return what is left without an answer."""
        left = list(self.begun)
        self.begun.clear()
        shown: list[_Exchange] = []
        if left and self._reader.expects == _TO_A_CLOSE:
            shown.append(left.pop(0).over(self._number, body_bytes=self._reader.body_bytes))
        elif left and (rest := piece or bytes(self._data)):
            left[0].keep(rest[:HEAD_MAX_BYTES], is_head=self._reader.expects == _A_HEAD)
        return [*shown, *(exchange.over(self._number, fault=reason) for exchange in left)]


def _as_any(head: bytes) -> bytes:
    """Return a head that is read for its body alone: of a 400 the reader waits for what the body says."""
    return b"%s499%s" % (head[:9], head[12:]) if head[9:12] == b"400" else head


def _operation(item: Item) -> str:
    return Operation(item[0].operation).name.lower()


def _unasked(data: bytes) -> _Exchange:
    exchange = _Exchange("", b"(nothing was asked)", None)
    exchange.head = data
    return exchange

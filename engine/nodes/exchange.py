"""One request and its answer, on a connection of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.errors import WireError
from engine.nodes.address import addresses_of
from engine.nodes.answer import SAMPLE_BYTES
from engine.nodes.wire import AnswerReader

if TYPE_CHECKING:
    from engine.nodes.address import Address
    from engine.nodes.answer import Answer

_READ_BYTES: Final = 65536
_HEAD_END: Final = b"\r\n\r\n"


class Exchange(NamedTuple):
    """What came back."""

    status: int
    body_bytes: int
    text: bytes  #: the head through its empty line, and up to `SAMPLE_BYTES` of the body

    def field(self, name: str) -> str:
        """Return the first field called *name*, or an empty text."""
        for line in self.text.partition(_HEAD_END)[0].split(b"\r\n")[1:]:
            each, _, value = line.decode("latin-1").partition(":")
            if each.lower() == name.lower():
                return value.strip()
        return ""


async def exchange(address: Address, request: str, *, timeout_s: float) -> Exchange:
    """Send *request* and return its answer, of which no more than a sample of the body is kept.

    Raises:
        TimeoutError: no whole answer within *timeout_s*, connecting included.
        OSError: there is no connection, or the name stands for several caches.
        WireError: what came is no answer.
    """
    answers: list[Answer] = []
    parser = AnswerReader()
    start, rest = b"", bytearray()
    host, port, context, name = address
    async with asyncio.timeout(timeout_s):
        await addresses_of(address)
        reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
        try:
            writer.write(request.encode("ascii"))
            while not answers:
                chunk = await reader.read(_READ_BYTES)
                if len(start) < _READ_BYTES:
                    start += chunk
                if not chunk:
                    parser.feed_eof(answers)
                    if not answers:
                        raise WireError("closed the connection without an answer")
                    break
                rest += chunk
                del rest[: parser.feed(rest, len(rest), answers)]
        finally:
            writer.transport.abort()
    head_end = start.index(_HEAD_END) + len(_HEAD_END)
    return Exchange(answers[0].status, answers[0].body_bytes, start[: head_end + SAMPLE_BYTES])

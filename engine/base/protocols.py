"""Asyncio's protocols around connections that inherit from none of them.

A compiled class that inherits from an interpreted one keeps its attributes in a dictionary, and every look at
one costs what it costs interpreted. So connections stand alone, and a loop is given one of these, whose
methods are the connection's own: nothing is called in between.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_EVENTS: Final = ("connection_made", "connection_lost", "eof_received")
_STREAMED: Final = (*_EVENTS, "data_received", "pause_writing", "resume_writing")
_BUFFERED: Final = (*_EVENTS, "get_buffer", "buffer_updated")


class _Told(Protocol):
    """What both kinds are told; see `asyncio.Protocol`."""

    def connection_made(self, transport: asyncio.BaseTransport, /) -> None:
        """Take the connection."""

    def connection_lost(self, exc: Exception | None, /) -> None:
        """Let it go."""

    def eof_received(self) -> bool | None:
        """The other side has ended its half."""


class Streamed(_Told, Protocol):
    """A connection that is handed bytes."""

    def data_received(self, data: bytes, /) -> None:
        """Read them."""

    def pause_writing(self) -> None:
        """The other side does not read."""

    def resume_writing(self) -> None:
        """It reads again."""


class Buffered(_Told, Protocol):
    """A connection that lends the loop a buffer."""

    def get_buffer(self, sizehint: int, /) -> memoryview:
        """Lend it."""

    def buffer_updated(self, nbytes: int, /) -> None:
        """Read what has come."""


class StreamedProtocol(asyncio.Protocol):
    """The protocol of a `Streamed` connection.

    Attributes:
        connection: whose events they are.
    """

    def __init__(self, connection: Streamed) -> None:
        self.connection = connection
        vars(self).update({name: getattr(connection, name) for name in _STREAMED})


class BufferedProtocol(asyncio.BufferedProtocol):
    """The protocol of a `Buffered` connection."""

    def __init__(self, connection: Buffered) -> None:
        vars(self).update({name: getattr(connection, name) for name in _BUFFERED})


def streamed(make: Callable[[], Streamed]) -> Callable[[], StreamedProtocol]:
    """Return what makes protocols of the connections that *make* makes."""
    return lambda: StreamedProtocol(make())

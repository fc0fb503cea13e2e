"""Connections in memory: who listens where, and what passes between two ends, in order and with a delay."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tests.model.processes import PROCESS, Process, current_process

if TYPE_CHECKING:
    from tests.model.loop import VirtualLoop

Address = tuple[Any, Any]

_EOF = object()
_RESET = object()
_DELAY_S = 0.0001


class Door(Protocol):
    """Whoever listens."""

    @property
    def door(self) -> str:
        """Tell what a client meets: "open", "refused" (nobody is there), "lost" (packets go nowhere)."""

    def make_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol of one connection."""


@dataclass
class Listening:
    """A door that is open until it is taken away."""

    factory: Any
    door: str = "open"

    def make_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol of one connection."""
        return self.factory()  # type: ignore[no-any-return]


class Net:
    """Who listens where."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._doors: dict[Address, tuple[Door, contextvars.Context]] = {}
        self._ends: set[End] = set()

    def listen(self, address: Address, door: Door, context: contextvars.Context) -> None:
        """Open *door*; its protocols run in *context*."""
        self._doors[address] = (door, context)

    def unlisten(self, address: Address) -> None:
        """Take a door away."""
        self._doors.pop(address, None)

    async def connect(self, factory: Any, address: Address) -> tuple[asyncio.Transport, Any]:
        """Connect, or fail as a network does."""
        await asyncio.sleep(_DELAY_S)
        found = self._doors.get(address)
        if found is not None and found[0].door == "lost":
            await self._loop.create_future()
        if found is None or found[0].door != "open":
            raise ConnectionRefusedError(111, f"Connect call failed {address}")
        door, context = found
        process = context.get(PROCESS)
        if process is not None and process.is_dead:
            raise ConnectionRefusedError(111, f"Connect call failed {address}")
        here = current_process()
        own_context = here.context.copy() if here is not None else contextvars.copy_context()
        own, other = End(self._loop, own_context, here, address), End(self._loop, context, process, None)
        own.peer, other.peer = other, own
        self._ends |= {own, other}
        server = context.copy().run(door.make_protocol)
        other.begin(server)
        protocol = factory()
        own.protocol = protocol
        own.is_begun = True
        protocol.connection_made(own)
        return own, protocol

    def reset_all(self, process: Process) -> None:
        """A process has died: the other ends of its connections see a reset."""
        for end in [end for end in self._ends if end.process is process]:
            end.die()

    def reset_of(self, context: contextvars.Context) -> None:
        """Reset the connections that one listener has."""
        for end in [end for end in self._ends if end.context is context and end.remote is None]:
            end.abort()

    def forget(self, end: End) -> None:
        """A connection is over."""
        self._ends.discard(end)


class End(asyncio.Transport):
    """One end of a connection."""

    def __init__(
        self,
        loop: VirtualLoop,
        context: contextvars.Context,
        process: Process | None,
        remote: Address | None,
    ) -> None:
        super().__init__({"peername": ("127.0.0.1", 40000), "sockname": ("127.0.0.1", 9181)})
        self._loop = loop
        self.context = context
        self.process = process
        self.remote = remote
        self.peer: End
        self.protocol: Any = None
        self.is_begun = False
        self._inbox: deque[tuple[float, Any]] = deque()
        self._is_pumping = False
        self._is_paused = False
        self._is_closing = False
        self._is_lost = False
        self._has_sent_eof = False

    def begin(self, protocol: Any) -> None:
        """Tell the listener's protocol, in its own turn of the loop."""
        self.protocol = protocol

        def made() -> None:
            self.is_begun = True
            if not self._is_lost:
                protocol.connection_made(self)
                self._pump()

        self._loop.call_soon(made, context=self.context)

    # Out

    def write(self, data: Any) -> None:
        """Send bytes."""
        if not self._is_closing and not self._has_sent_eof and data:
            self.peer._take(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        """Send bytes."""
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Send nothing more."""
        if not self._has_sent_eof and not self._is_closing:
            self._has_sent_eof = True
            self.peer._take(_EOF)

    def can_write_eof(self) -> bool:
        """Say that a half can be closed."""
        return True

    def close(self) -> None:
        """Send what is written, then close."""
        if self._is_closing:
            return
        self._is_closing = True
        self.peer._take(_EOF)
        self.peer._take(_RESET)
        self._loop.call_soon(self._lose, None, context=self.context)

    def abort(self) -> None:
        """Close at once."""
        if self._is_lost:
            return
        self._is_closing = True
        self.peer._take(_RESET)
        self._loop.call_soon(self._lose, None, context=self.context)

    def die(self) -> None:
        """The process is gone."""
        self._is_closing = self._is_lost = True
        self._loop.net.forget(self)
        self.peer._take(_RESET)

    # In

    def _take(self, item: Any) -> None:
        if self._is_lost:
            return
        now = self._loop.time()
        last = self._inbox[-1][0] if self._inbox else now
        self._inbox.append((max(last, now + _DELAY_S), item))
        self._pump_later()

    def _pump_later(self) -> None:
        if not self._is_pumping and self._inbox and not self._is_lost:
            self._is_pumping = True
            self._loop.call_at(self._inbox[0][0], self._pump, context=self.context)

    def _pump(self) -> None:
        self._is_pumping = False
        if not self.is_begun:
            return
        while self._inbox and self._inbox[0][0] <= self._loop.time() + 1e-9 and not self._is_lost:
            item = self._inbox[0][1]
            if self._is_paused and item is not _RESET:
                return
            self._inbox.popleft()
            if item is _EOF:
                if not self._is_closing and not self.protocol.eof_received():
                    self.close()
            elif item is _RESET:
                self._is_closing = True
                self._lose(ConnectionResetError(104, "Connection reset by peer"))
            elif not self._is_closing:
                self._hand(item)
        self._pump_later()

    def _hand(self, data: bytes) -> None:
        protocol = self.protocol
        if not isinstance(protocol, asyncio.BufferedProtocol):
            protocol.data_received(data)
            return
        while data and not self._is_lost and not self._is_closing:
            buffer: Any = protocol.get_buffer(len(data))
            part = data[: len(buffer)]
            buffer[: len(part)] = part
            data = data[len(part) :]
            protocol.buffer_updated(len(part))

    def _lose(self, exc: Exception | None) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        self._loop.net.forget(self)
        self.protocol.connection_lost(exc)

    # The rest of a transport

    def is_closing(self) -> bool:
        """Tell whether it is closed, or about to be."""
        return self._is_closing

    def is_reading(self) -> bool:
        """Tell whether bytes are handed on."""
        return not self._is_paused

    def pause_reading(self) -> None:
        """Keep what comes."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """Hand on what came."""
        self._is_paused = False
        self._pump_later()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what comes to another protocol."""
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who gets what comes."""
        return self.protocol  # type: ignore[no-any-return]

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing: all is taken."""

    def get_write_buffer_size(self) -> int:
        """Return what waits: nothing."""
        return 0

"""Reads the datagrams of an HTCP door, some a turn of the loop, and sends answers.

All workers of an engine read from one socket, which outlives them: what comes in while none reads waits
in the kernel. What finds no room there is dropped by the kernel, which counts it. While the engine has
enough in hand, nothing is read: then datagrams wait there, too.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.base.turns import SLICE_S
from engine.doors.htcp import udp

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_DATAGRAM_MAX: Final = 65_536
_LOOK_EACH: Final = 16  #: datagrams between two looks at the clock, and for room
_PAUSE_S: Final = 0.02  #: until room is looked for again
_LAST_READS_S: Final = 0.25  #: for what waits when the process ends


class Receiver:
    """Reads one socket.

    Args:
        sock: bound.
        take: given each datagram, its sender, and its ancillary data.
        has_room: tells whether the engine can take more.
    """

    def __init__(
        self,
        sock: socket.socket,
        take: Callable[[bytes, udp.Source, udp.Control], None],
        has_room: Callable[[], bool],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._take = take
        self._has_room = has_room
        self._loop = asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(_DATAGRAM_MAX))
        self._control_bytes = udp.CONTROL_BYTES if udp.is_any(sock) else 0
        self._own = udp.own_address(sock)
        self._pause: asyncio.TimerHandle | None = None
        self._is_reading = False
        self._ends_at = 0.0
        self._over = asyncio.Event()
        self.port: int = sock.getsockname()[1]

    def __repr__(self) -> str:
        return f"<Receiver port {self.port}>"

    def dropped(self) -> int:
        """Return how many datagrams the kernel has dropped since the socket was opened.

        Raises:
            OSError: the kernel does not tell.
        """
        return udp.dropped(self._sock)

    def start(self) -> None:
        """Begin to read."""
        self._pause = None
        self._is_reading = True
        self._loop.add_reader(self._sock.fileno(), self._readable)

    def _readable(self) -> None:
        sock, buffer, take, control_bytes = self._sock, self._buffer, self._take, self._control_bytes
        until = time.monotonic() + SLICE_S
        try:
            while self._has_room():
                for _ in range(_LOOK_EACH):
                    size, control, _, source = sock.recvmsg_into([buffer], control_bytes)
                    take(bytes(buffer[:size]), source, control)
                if (now := time.monotonic()) > until:
                    if self._ends_at and now > self._ends_at:
                        self._stop_reading()
                    return
        except BlockingIOError:
            if self._ends_at:
                self._stop_reading()
            return
        except OSError as exc:
            logger.error("datagrams cannot be read: {}", exc.strerror or exc)
        self._stop_reading()
        if not self._ends_at:
            self._pause = self._loop.call_later(_PAUSE_S, self.start)

    def _stop_reading(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._sock.fileno())
        if self._ends_at:
            self._over.set()

    def stop(self) -> None:
        """Read what waits already, and then no more. Safe to call again."""
        if self._ends_at:
            return
        self._ends_at = time.monotonic() + _LAST_READS_S
        if self._is_reading:
            self._readable()
        else:
            self._stop_reading()

    async def wait_over(self) -> None:
        """After `stop`: wait until nothing more is read, for about `_LAST_READS_S`."""
        self._loop.call_later(
            2 * _LAST_READS_S, self._stop_reading
        )  # the loop may have no time for datagrams
        await self._over.wait()

    def close(self) -> None:
        """Close the socket. Safe to call again."""
        self._ends_at = self._ends_at or time.monotonic()
        self._stop_reading()
        self._sock.close()

    def destination(self, control: udp.Control) -> bytes:
        """Return the address that a datagram came to, as `signing.packed`."""
        return udp.destination(control) or self._own

    def send(self, message: bytes, source: udp.Source, control: udp.Control) -> None:
        """Send an answer from the address that its request came to; what cannot be sent is lost."""
        if self._sock.fileno() < 0:
            return
        try:
            self._sock.sendmsg([message], udp.leaving_from(control), 0, source)
        except OSError as exc:
            logger.debug("an answer to {} cannot be sent: {}", source[0], exc.strerror or exc)

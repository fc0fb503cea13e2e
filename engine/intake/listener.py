"""The listening socket: takes every connection that waits, each time it is readable.

Why not ``loop.create_server``: libuv accepts one connection per turn of the loop. A turn
of a busy engine takes tens of milliseconds, so 800 clients that connect at once waited more than two
seconds for their first answer (wrk counted 170 time-outs in 30 s; none with this).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Final

from loguru import logger

from engine.base.protocols import streamed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from engine.base.protocols import Streamed

_ACCEPTS_MAX: Final = 256
"""Connections taken in one turn, so that a flood of them does not stop the others."""
_PAUSE_S: Final = 0.2
_HANDSHAKE_S: Final = 10.0
_HANDSHAKES_MAX: Final = 1000  #: under way at a time; they do not count as connections of a gate yet
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """Accepts connections and gives each its protocol.

    Args:
        sock: bound and listening.
        make_connection: called for each.
        tls: of the port; None: it has none.
    """

    def __init__(
        self,
        sock: socket.socket,
        make_connection: Callable[[], Streamed],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:  # what is accepted inherits it: one call for all
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tls = tls
        self._sock = sock
        self._make_protocol = streamed(make_connection)
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Listener {self._sock.getsockname()}>"

    def start(self) -> None:
        """Begin to accept."""
        self._pause = None
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_MAX):
            try:
                connection, _ = self._sock.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # this client has gone again
            except OSError as exc:
                if exc.errno not in _OUT_OF_RESOURCES:
                    raise
                # The clients wait in the socket's queue; asking again at once would only burn the CPU.
                logger.error("cannot accept connections: {}; raise the limit of open files", exc.strerror)
                self._loop.remove_reader(self._sock.fileno())
                self._pause = self._loop.call_later(_PAUSE_S, self.start)
                return
            if self._tls is not None and len(self._opening) >= _HANDSHAKES_MAX:
                connection.close()
                continue
            connection.setblocking(False)
            task = self._loop.create_task(self._open(connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._make_protocol,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else _HANDSHAKE_S,
            )
        except OSError:  # of TLS, too
            connection.close()  # the client is gone already

    def close(self) -> None:
        """Stop accepting and close the socket. Safe to call again."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

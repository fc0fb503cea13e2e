"""Channels of a Redis that are listened to, on a connection of their own.

What is published while there is no connection is lost: Redis keeps no messages. A connection that is silent
for longer than an answer may take is asked whether it lives, so that a server that has gone without a word
is noticed.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from engine.store.redis.servers import AWAY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.errors import StoreError
    from engine.store.redis.servers import Server, Servers

_READ_MAX: Final = 256  #: messages at a time
_READ_MAX_BYTES: Final = 16 * 1024 * 1024


class Subscription:
    """One subscription; it may be opened again after it failed. Blocking; for one thread at a time.

    Args:
        servers: of the Redis. In a cluster every server has all messages, so any of them will do.
        channels: their names.
        timeout_s: of connecting and of answers.
        translate: makes an error of the store of one of Redis.
    """

    def __init__(
        self,
        servers: Servers,
        channels: Sequence[str],
        *,
        timeout_s: float,
        translate: Callable[[Exception], StoreError],
    ) -> None:
        self._servers = servers
        self._channels = list(channels)
        self._timeout_s = timeout_s
        self._translate = translate
        self._server: Server | None = None
        self._connection: Any = None
        self._heard_at = 0.0
        self._is_asked = False

    def __repr__(self) -> str:
        return f"<Subscription to {', '.join(self._channels)}>"

    def open(self) -> None:
        """Connect and subscribe; returns when the server has confirmed every channel.

        Raises:
            StoreError: no server can be subscribed to.
        """
        try:
            self._connect()
            left = set(self._channels)
            until = time.monotonic() + self._timeout_s
            while left:
                reply = self._next(max(0.0, until - time.monotonic()))
                if reply is None:
                    raise RedisConnectionError("it does not confirm the subscription")
                if reply[0] == b"subscribe":
                    left.discard(reply[1].decode())
            assert self._server is not None
            self._server.works()
        except AWAY as exc:
            self._fail(exc)
            raise self._translate(exc) from exc

    def read(self, wait_s: float) -> list[tuple[str, bytes]]:
        """Return the messages that have come, each with its channel; waits for the first.

        Args:
            wait_s: for so long at most.

        Raises:
            StoreError: the connection is lost, and with it what is published until it is open again.
        """
        messages: list[tuple[str, bytes]] = []
        size = 0
        try:
            while len(messages) < _READ_MAX and size < _READ_MAX_BYTES:
                reply = self._next(0.0 if messages else wait_s)
                if reply is None:
                    break
                if reply[0] == b"message":
                    messages.append((reply[1].decode(errors="backslashreplace"), reply[2]))
                    size += len(reply[2])
            self._look()
        except AWAY as exc:
            self._fail(exc)
            if not messages:
                raise self._translate(exc) from exc
        return messages

    def close(self) -> None:
        """Leave. Safe to call again."""
        server, connection = self._server, self._connection
        self._server = self._connection = None
        if connection is not None and server is not None:
            with contextlib.suppress(RedisError, OSError):
                connection.disconnect()
            server.pool.release(connection)

    def _connect(self) -> None:
        self.close()
        failure: Exception = RedisConnectionError("there is no server")
        for server in self._servers.masters():
            try:
                server.check()
                self._server, self._connection = server, server.connection()
                self._connection.send_command("SUBSCRIBE", *self._channels)
            except ResponseError:
                raise
            except (RedisError, OSError) as exc:
                failure = exc
                server.fails(exc)
                self.close()
            else:
                self._heard_at, self._is_asked = time.monotonic(), False
                return
        raise failure

    def _next(self, wait_s: float) -> list[Any] | None:
        """Return what the server says next; None: nothing in *wait_s* seconds."""
        connection = self._connection
        if connection is None:
            raise RedisConnectionError("the subscription is lost")
        if not connection.can_read(timeout=wait_s):
            return None
        self._heard_at, self._is_asked = time.monotonic(), False
        reply: list[Any] = connection.read_response()
        return reply

    def _look(self) -> None:
        """Ask a silent server whether it lives.

        Raises:
            RedisConnectionError: it has been asked, and says nothing.
        """
        silent_s = time.monotonic() - self._heard_at
        if silent_s > 2 * self._timeout_s and self._is_asked:
            raise RedisConnectionError("it does not answer")
        if silent_s > self._timeout_s and not self._is_asked:
            self._is_asked = True
            self._connection.send_command("PING")

    def _fail(self, exc: Exception) -> None:
        if self._server is not None:
            self._server.fails(exc)
        self._servers.doubt()
        self.close()

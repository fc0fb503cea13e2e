"""The listening socket: taken from systemd, or bound."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import TYPE_CHECKING, Final

from .errors import USAGE, SupervisorError

if TYPE_CHECKING:
    from .output import Output
    from .table import EngineTable

_BIND_RETRY_S: Final = 10.0


def handed_down() -> socket.socket | None:
    """Return the socket that systemd handed down (``LISTEN_FDS``), if it did; forget the variables.

    Raises:
        SupervisorError: what was handed down is not one listening stream socket.
    """
    count, pid = os.environ.get("LISTEN_FDS", ""), os.environ.get("LISTEN_PID", str(os.getpid()))
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if not count or pid != str(os.getpid()):
        return None
    if count != "1":
        raise SupervisorError(f"LISTEN_FDS={count}: one socket must be handed down", exit_code=USAGE)
    try:
        listener = socket.socket(fileno=3)
    except OSError as exc:
        raise SupervisorError(
            f"LISTEN_FDS=1: descriptor 3 is no socket: {exc.strerror}", exit_code=USAGE
        ) from exc
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()
        raise SupervisorError("LISTEN_FDS=1: descriptor 3 does not listen", exit_code=USAGE)
    os.set_inheritable(3, False)
    listener.setblocking(False)
    return listener


def bind(table: EngineTable, output: Output) -> socket.socket:
    """Return a socket that listens on ``engine.listen``; a taken address is tried again for some seconds.

    Raises:
        SupervisorError: the address cannot be bound.
    """
    until = time.monotonic() + _BIND_RETRY_S
    is_told = False
    while True:
        try:
            return listening_at(table.listen, table.listen_backlog)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or time.monotonic() > until:
                raise SupervisorError(
                    f"engine.listen: {table.listen} cannot be bound: {exc.strerror or exc}", exit_code=USAGE
                ) from exc
            if not is_told:
                output.say(f"{table.listen} is taken, trying for {_BIND_RETRY_S:g} s")
                is_told = True
            time.sleep(0.05)


def listening_at(listen: str, backlog: int) -> socket.socket:
    """Return a socket that listens on ``HOST:PORT``.

    Raises:
        OSError: the address cannot be bound.
    """
    host, _, port = listen.rpartition(":")
    family, kind, proto, _, address = socket.getaddrinfo(
        host.strip("[]"), int(port), type=socket.SOCK_STREAM
    )[0]
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def receiving_at(listen: str) -> socket.socket:
    """Return a socket that takes datagrams on ``HOST:PORT``.

    Raises:
        OSError: the address cannot be bound.
    """
    host, _, port = listen.rpartition(":")
    family, kind, proto, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[
        0
    ]
    sock = socket.socket(family, kind, proto)
    try:
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock

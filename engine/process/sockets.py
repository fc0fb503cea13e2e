"""The sockets of a process: bound here, or handed down by whoever started it. None of them blocks."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

from engine.base.unix_path import UnixPaths
from engine.config.tables import address_of
from engine.errors import ConfigError
from engine.process.orders import ENVIRONMENT

if TYPE_CHECKING:
    from pathlib import Path

    from engine.config.doors import Transport
    from engine.config.tables import Config


def open_listener(config: Config) -> socket.socket:
    """Return the listening socket: the one handed down (``LISTEN_FDS``), or a new one.

    Raises:
        ConfigError: the address cannot be bound.
    """
    if os.environ.get("LISTEN_FDS") == "1" and os.environ.get("LISTEN_PID", str(os.getpid())) == str(
        os.getpid()
    ):
        return _handed_down()
    return _bind("engine.listen", config.engine.listen, config.engine.listen_backlog)


def open_doors(config: Config) -> dict[str, socket.socket]:
    """Return the sockets of the doors, by their names.

    Raises:
        ConfigError: one of the addresses cannot be bound.
    """
    backlog = config.engine.listen_backlog
    return {
        door.socket_name: _bind("door.listen", door.listen, backlog, transport=door.transport)
        for door in config.listening_doors()
    }


def _bind(where: str, listen: str, backlog: int, *, transport: Transport = "tcp") -> socket.socket:
    try:
        listener = _listen(listen, backlog) if transport == "tcp" else _bind_datagrams(listen)
    except OSError as exc:
        raise ConfigError(f"{where}: {listen} cannot be bound: {exc.strerror or exc}") from exc
    listener.setblocking(False)
    return listener


def _listen(listen: str, backlog: int) -> socket.socket:
    host, port = address_of(listen)
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


def _bind_datagrams(listen: str) -> socket.socket:
    host, port = address_of(listen)
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _handed_down() -> socket.socket:
    try:
        listener = socket.socket(fileno=3)
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.detach()
            raise ConfigError("LISTEN_FDS=1: descriptor 3 does not listen")
    except OSError as exc:
        raise ConfigError(f"LISTEN_FDS=1: descriptor 3 is no socket: {exc.strerror or exc}") from exc
    listener.setblocking(False)
    return listener


def take_socket(descriptor: int) -> socket.socket:
    """Return a socket that the supervisor has handed down; processes started here do not get it.

    Raises:
        ConfigError: there is no socket of that number.
    """
    try:
        handed_down = socket.socket(fileno=descriptor)
    except OSError as exc:
        raise ConfigError(f"{ENVIRONMENT}: descriptor {descriptor} is no socket: {exc.strerror}") from exc
    handed_down.setblocking(False)
    os.set_inheritable(descriptor, False)
    return handed_down


def take_doors(descriptors: dict[str, int], config: Config) -> dict[str, socket.socket]:
    """Return the sockets of the configured doors, by their names; those of others are closed.

    Raises:
        ConfigError: a door has none.
    """
    sockets = {name: take_socket(number) for name, number in descriptors.items()}
    names = [door.socket_name for door in config.listening_doors()]
    for name in names:
        if name not in sockets:
            detail = "the supervisor holds no socket for it; reload, or replace a supervisor that is older"
            raise ConfigError(f"door {name!r}: {detail}")
    for name in sockets.keys() - set(names):
        sockets.pop(name).close()
    return sockets


def bind_unix(path: Path) -> socket.socket:
    """Return a Unix socket at *path* that only this user may open; paths may be longer than its address.

    Raises:
        OSError: it cannot be bound.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.setblocking(False)
    before = os.umask(0o177)
    try:
        with contextlib.closing(UnixPaths()) as paths:
            listener.bind(paths.short(path))
    finally:
        os.umask(before)
    return listener

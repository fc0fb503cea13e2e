"""A network of one's own for the thread that asks, and for what it starts: sockets, limits and counters.

The kernel's settings below ``net`` are set in there without changing this machine. What was started in it
has to end before it does. Needs root.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEW_NET: Final = 0x40000000
_NETFILTER: Final = 12
_NEW_TRACKED: Final = 1 << 8  #: of the part of netfilter that tracks connections
_CREATE: Final = 0x605  #: a request, answered, that makes what is not there yet
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *args: int) -> None:
    if getattr(_LIBC, name)(*args):
        raise OSError(ctypes.get_errno(), name)


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Move this thread into a network with nothing but a loopback, and back."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", _NEW_NET)
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            _call("setns", before, _NEW_NET)
    finally:
        os.close(before)


@contextlib.contextmanager
def setting(key: str, value: object) -> Iterator[None]:
    """Set one of the kernel's settings, and set it back."""
    path = Path("/proc/sys") / key.replace(".", "/")
    before = path.read_text()
    path.write_text(f"{value}\n")
    try:
        yield
    finally:
        path.write_text(before)


def track(count: int) -> None:
    """Have the kernel track so many connections here, as if packets of them had come by."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as link:
        for port in range(5000, 5000 + count):
            body = struct.pack("=BBH", socket.AF_INET, 0, 0)
            body += _tuple(1, "10.0.0.1", "10.0.0.2", port, 80) + _tuple(2, "10.0.0.2", "10.0.0.1", 80, port)
            body += _attribute(7, struct.pack("!I", 600)) + _nest(4, _nest(1, _attribute(1, b"\3")))
            link.send(struct.pack("=IHHII", 16 + len(body), _NEW_TRACKED, _CREATE, 1, 0) + body)
            (error,) = struct.unpack_from("=i", link.recv(4096), 16)
            assert error == 0, os.strerror(-error)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _nest(kind: int, *parts: bytes) -> bytes:
    return _attribute(kind | 0x8000, b"".join(parts))


def _tuple(kind: int, source: str, target: str, port: int, to_port: int) -> bytes:
    addresses = _nest(1, _attribute(1, socket.inet_aton(source)), _attribute(2, socket.inet_aton(target)))
    ports = (_attribute(2, struct.pack("!H", port)), _attribute(3, struct.pack("!H", to_port)))
    return _nest(kind, addresses, _nest(2, _attribute(1, bytes([socket.IPPROTO_TCP])), *ports))

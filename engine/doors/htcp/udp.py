"""What is set on the socket of an HTCP door, and what its ancillary data say. Linux."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

from engine.doors.htcp.signing import packed, unmapped

if TYPE_CHECKING:
    from collections.abc import Sequence

Source = tuple[Any, ...]
"""Address and port of a sender, as the socket tells them."""
Control = list[tuple[int, int, bytes]]
"""Ancillary data of a datagram: to which of this machine's addresses it came."""

CONTROL_BYTES: Final = 64
_SO_RCVBUFFORCE: Final = 33  # `socket` has no names for these
_SO_MEMINFO: Final = 55
_MEMINFO_DROPS: Final = 8  #: place of the count of dropped datagrams in it
_IP_PKTINFO: Final = 8
_IP_MULTICAST_ALL: Final = 49
_IPV6_MULTICAST_ALL: Final = 29
_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with


def is_any(sock: socket.socket) -> bool:
    """Tell whether a socket is bound to every address of the machine."""
    return sock.getsockname()[0] in _ANY


def keep(sock: socket.socket, size: int) -> int:
    """Have the kernel keep up to *size* bytes of datagrams; return how many it keeps.

    It counts what it needs for each, some 0.8 KiB for a small one, and keeps twice what it is told.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size // 2)
    except OSError:  # without the right for it: up to net.core.rmem_max
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size // 2)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def dropped(sock: socket.socket) -> int:
    """Return how many datagrams the kernel has dropped so far: what ``/proc/net/udp`` calls drops.

    Raises:
        OSError: the kernel does not tell; Linux does since 4.12.
    """
    info = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 64)
    words = struct.unpack(f"={len(info) // 4}I", info)
    return int(words[_MEMINFO_DROPS]) if len(words) > _MEMINFO_DROPS else 0


def tell_destinations(sock: socket.socket) -> None:
    """Have each datagram come with the address that it was sent to."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def join(sock: socket.socket, groups: Sequence[str]) -> None:
    """Join multicast groups, those apart that the worker before has joined.

    Raises:
        OSError: one cannot be joined.
    """
    for group in groups:
        try:
            if ":" in group:
                request = socket.inet_pton(socket.AF_INET6, group) + bytes(4)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
            else:
                request = socket.inet_pton(socket.AF_INET, group) + bytes(4)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
                sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise


def destination(control: Control) -> bytes:
    """Return the address that a datagram came to, as `signing.packed`; nothing when it is not told."""
    for level, kind, data in control:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return data[8:12]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return unmapped(data[:16])
    return b""


def is_group(address: bytes) -> bool:
    """Tell whether an address is that of a multicast group, or a broadcast."""
    parsed = ipaddress.ip_address(address)
    return parsed.is_multicast or address == b"\xff" * 4


def leaving_from(control: Control) -> Control:
    """Return the ancillary data with which an answer goes out from the address that its request came to."""
    for level, kind, data in control:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return [(level, kind, bytes(4) + data[4:8] + bytes(4))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return [(level, kind, data[:16] + bytes(4))]
    return []


def own_address(sock: socket.socket) -> bytes:
    """Return the address that a socket is bound to, as `signing.packed`."""
    return packed(sock.getsockname()[0])

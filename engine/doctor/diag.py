"""What the kernel knows of a socket that listens: how full its queue is, how long it may be, what it dropped.

``/proc`` does not tell; the kernel's socket diagnosis (sock_diag(7)) does, for anybody.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SOCK_DIAG: Final = 4  #: protocol of netlink
_BY_FAMILY: Final = 20  #: kind of the request and of its answers
_ERROR, _DONE = 2, 3
_REQUEST_DUMP: Final = 0x301
_LISTENING: Final = 1 << 10
_MEMORY: Final = 7  #: attribute with the counters of memory, the last of which counts drops
_DROPS_AT: Final = 8
_REQUEST: Final = struct.Struct("=IHHII BBBBI 48s")
_HEAD: Final = struct.Struct("=IHHII")
_SOCKET: Final = struct.Struct("=BBBB 48s IIIII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_PIECE_BYTES: Final = 1 << 16
_TIMEOUT_S: Final = 2.0


class Listener(NamedTuple):
    """A socket that listens."""

    inode: int
    waiting: int  #: connections that nobody has accepted yet
    backlog: int  #: so many may wait: what was asked for, or somaxconn then
    drops: int  #: connections that it has dropped since it was opened


def listeners() -> list[Listener]:
    """Return all TCP sockets of this network namespace that listen.

    Raises:
        OSError: the kernel does not say.
    """
    found: list[Listener] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _REQUEST.pack(
            _REQUEST.size, _BY_FAMILY, _REQUEST_DUMP, 1, 0,
            family, socket.IPPROTO_TCP, 1 << (_MEMORY - 1), 0, _LISTENING, b"",
        )  # fmt: skip
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as link:
            link.settimeout(_TIMEOUT_S)
            link.send(request)
            pieces: list[bytes] = []
            while not pieces or not _is_last(pieces[-1]):
                pieces.append(link.recv(_PIECE_BYTES))
        found += read_listeners(pieces)
    return found


def _is_last(piece: bytes) -> bool:
    return any(kind in {_ERROR, _DONE} for kind, _ in _messages(piece))


def _messages(piece: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + _HEAD.size <= len(piece):
        length, kind, *_ = _HEAD.unpack_from(piece, place)
        if length < _HEAD.size:
            return
        yield kind, piece[place + _HEAD.size : place + length]
        place += length + -length % 4


def read_listeners(pieces: Sequence[bytes]) -> Iterator[Listener]:
    """Yield the sockets of answers.

    Raises:
        OSError: they hold an error.
    """
    for piece in pieces:
        for kind, body in _messages(piece):
            if kind == _ERROR:
                (number,) = struct.unpack_from("=i", body)
                raise OSError(-number, "the kernel has no diagnosis of sockets")
            if kind == _BY_FAMILY:
                yield _listener(body)


def _listener(body: bytes) -> Listener:
    *_, waiting, backlog, _uid, inode = _SOCKET.unpack_from(body)
    drops, place = 0, _SOCKET.size
    while place + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, place)
        if length < _ATTRIBUTE.size:
            break
        if kind == _MEMORY and length >= _ATTRIBUTE.size + 4 * (_DROPS_AT + 1):
            (drops,) = struct.unpack_from("=I", body, place + _ATTRIBUTE.size + 4 * _DROPS_AT)
        place += length + -length % 4
    return Listener(inode, waiting, backlog, drops)

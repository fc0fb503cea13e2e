"""HTCP datagrams as clients send them, and a reader of answers: by RFC 2756, not by the engine's code."""

import hmac
import ipaddress
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

NOP, TST, MON, SET, CLR = range(5)


def counted(text: bytes) -> bytes:
    """Return a COUNTSTR."""
    return struct.pack("!H", len(text)) + text


def specifier(
    url: str | bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1", headers: bytes = b""
) -> bytes:
    """Return a SPECIFIER."""
    uri = url if isinstance(url, bytes) else url.encode()
    return counted(method) + counted(uri) + counted(version) + counted(headers)


def data(
    opcode: int, op_data: bytes = b"", *, wants_answer: bool = False, trans_id: int = 7, is_old: bool = False
) -> bytes:
    """Return a DATA section of a request; *is_old*: as Squid before 2.7, and MediaWiki, lay it out."""
    codes = opcode if is_old else opcode << 4
    flags = (0x40 if is_old else 0x02) if wants_answer else 0
    return struct.pack("!HBBI", 8 + len(op_data), codes, flags, trans_id) + op_data


def datagram(section: bytes, auth: bytes = b"\0\2", *, major: int = 0, minor: int = 1) -> bytes:
    """Return a whole message."""
    return struct.pack("!HBB", 4 + len(section) + len(auth), major, minor) + section + auth


def clr(url: str | bytes, **keys: bool | int) -> bytes:
    """Return a CLR by the RFC's layout, as minor version 1."""
    return datagram(data(CLR, bytes(2) + specifier(url), **keys))  # type: ignore[arg-type]


def tst(url: str, **keys: bool | int) -> bytes:
    """Return a TST by the RFC's layout, as minor version 1."""
    return datagram(data(TST, specifier(url), wants_answer=True, **keys))  # type: ignore[arg-type]


def mediawiki(url: str, trans_id: int = 1) -> bytes:
    """Return what MediaWiki sends for a URL: HEAD, version 0.0, no answer wanted."""
    section = data(CLR, bytes(2) + specifier(url, b"HEAD", b"HTTP/1.0"), trans_id=trans_id, is_old=True)
    return datagram(section, minor=0)


class Signed(NamedTuple):
    """How messages are signed."""

    secret: bytes
    name: bytes = b"wiki"
    signed_at: float | None = None  #: UNIX seconds; None: now
    lasts_s: float = 60


def signed(
    section: bytes, key: Signed, source: tuple[str, int], destination: tuple[str, int], *, minor: int = 1
) -> bytes:
    """Return a whole message with the AUTH of RFC 2756 section 2.8."""
    began = int(time.time() if key.signed_at is None else key.signed_at)
    times = struct.pack("!II", began, int(began + key.lasts_s))
    ends = b"".join(
        ipaddress.ip_address(address).packed + struct.pack("!H", port)
        for address, port in (source, destination)
    )
    covered = ends + bytes([0, minor]) + times + section + counted(key.name)
    auth = times + counted(key.name) + counted(hmac.new(key.secret, covered, "md5").digest())
    return datagram(section, struct.pack("!H", 2 + len(auth)) + auth, minor=minor)


class Answer(NamedTuple):
    """An answer, read by the layout that was asked in."""

    opcode: int
    response: int
    is_overall: bool
    trans_id: int
    op_data: bytes
    auth: bytes  #: without its LENGTH
    minor: int


def read_answer(message: bytes, *, is_old: bool = False) -> Answer:
    """Return what an answer says; its lengths have to be right."""
    length, major, minor, data_length, codes, flags, trans_id = struct.unpack_from("!HBBHBBI", message)
    assert (length, major) == (len(message), 0)
    end = 4 + data_length
    [auth_length] = struct.unpack_from("!H", message, end)
    assert end + auth_length == length
    assert flags & (0x80 if is_old else 0x01), "this is no answer"
    opcode, response = (codes & 15, codes >> 4) if is_old else (codes >> 4, codes & 15)
    is_overall = bool(flags & (0x40 if is_old else 0x02))
    return Answer(opcode, response, is_overall, trans_id, message[12:end], message[end + 2 :], minor)


class HtcpClient:
    """A client of a door: a UDP socket.

    Args:
        port: of the door.
        host: of the door.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.door = (host, port)
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(10)
        if ipaddress.ip_address(host).is_loopback:
            self.socket.bind((host if ":" in host else "127.0.0.1", 0))

    @property
    def here(self) -> tuple[str, int]:
        """Its own address."""
        name = self.socket.getsockname()
        return name[0], name[1]

    def send(self, message: bytes) -> None:
        """Send a datagram."""
        self.socket.sendto(message, self.door)

    def ask(self, message: bytes, *, is_old: bool = False) -> Answer:
        """Send a datagram and return its answer."""
        self.send(message)
        return read_answer(self.socket.recv(65_536), is_old=is_old)

    def has_answer(self, wait_s: float = 0.2) -> bool:
        """Tell whether an answer comes within so long."""
        self.socket.settimeout(wait_s)
        try:
            self.socket.recv(65_536)
        except TimeoutError:
            return False
        finally:
            self.socket.settimeout(10)
        return True


@contextmanager
def htcp_client(port: int, host: str = "127.0.0.1") -> Iterator[HtcpClient]:
    """A client, closed at the end."""
    client = HtcpClient(port, host)
    with client.socket:
        yield client

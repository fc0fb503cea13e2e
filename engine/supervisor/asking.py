"""One request to a worker's private HTTP socket."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING, Final

from .unix import unix_address

if TYPE_CHECKING:
    from pathlib import Path

OK: Final = 200
TIMEOUT_S: Final = 2.0
_ANSWER_MAX: Final = 64 * 1024  #: bytes; what comes beyond is not read


def is_whole(data: bytes) -> bool:
    """Tell whether an answer has the length that its head names; without one, a close ends it."""
    head, gap, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return bool(gap and length and len(body) >= int(length[1]))


def status_and_body(data: bytes) -> tuple[int, bytes]:
    """Return what an HTTP/1 answer says.

    Raises:
        ValueError: an answer that is not HTTP.
    """
    head, _, body = data.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    if status is None:
        raise ValueError(f"not an HTTP answer: {data[:80]!r}")
    return int(status[1]), body


async def ask(address: Path, path: str, *, timeout_s: float = TIMEOUT_S) -> tuple[int, bytes]:
    """GET a path on a worker's socket; return status and body.

    Raises:
        OSError: no answer, or none in time (`TimeoutError`).
        ValueError: an answer that is not HTTP.
    """
    loop = asyncio.get_running_loop()
    request = f"GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n".encode()
    async with asyncio.timeout(timeout_s):
        with socket.socket(socket.AF_UNIX) as sock, unix_address(address) as reachable:
            sock.setblocking(False)
            await loop.sock_connect(sock, reachable)
            await loop.sock_sendall(sock, request)
            data = b""
            while (chunk := await loop.sock_recv(sock, _ANSWER_MAX)) and len(data) < _ANSWER_MAX:
                data += chunk
                if is_whole(data):
                    break
    try:
        return status_and_body(data)
    except ValueError as exc:
        raise ValueError(f"{path}: {exc}") from None


def reason_of(status: int, body: bytes) -> str:
    """Say what ``/readyz`` answered instead of 200."""
    return f"/readyz answers {status}: {body[:500].decode(errors='replace')}"

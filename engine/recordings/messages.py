"""HTTP messages of a recording, taken apart: as lenient as what recorded them."""

from __future__ import annotations

from typing import Final

import msgspec

from engine.errors import RecordingError

_PARTS: Final = 3  #: of the first line


class Request(msgspec.Struct, frozen=True):
    """A recorded request."""

    method: str
    path: str  #: with its query; of an absolute form the whole URL
    fields: list[tuple[str, str]]
    body: bytes

    def get(self, name: str) -> str:
        """Return the first value of a field; empty without one."""
        name = name.lower()
        return next((value for field, value in self.fields if field.lower() == name), "")


class Response(msgspec.Struct, frozen=True):
    """A recorded response."""

    status: int
    body: bytes


def request_of(message: bytes) -> Request:
    """Return a request.

    Raises:
        RecordingError: it is none.
    """
    line, fields, body = _apart(message)
    words = line.split(" ")
    if len(words) != _PARTS or not words[0] or not words[1]:
        raise RecordingError(f"{line[:60]!r} is no request line")
    return Request(words[0], words[1], fields, _whole(fields, body))


def response_of(message: bytes) -> Response:
    """Return a response.

    Raises:
        RecordingError: it is none.
    """
    line, fields, body = _apart(message)
    words = line.split(" ", 2)
    if len(words) < _PARTS - 1 or not words[0].startswith("HTTP/") or not words[1].isdecimal():
        raise RecordingError(f"{line[:60]!r} is no status line")
    return Response(int(words[1]), _whole(fields, body))


def _apart(message: bytes) -> tuple[str, list[tuple[str, str]], bytes]:
    """Return the first line, the fields and the body."""
    head, _, body = message.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
    return lines[0], fields, body


def _whole(fields: list[tuple[str, str]], body: bytes) -> bytes:
    """Return a body as it was meant."""
    coding = next((value for name, value in fields if name.lower() == "transfer-encoding"), "")
    return _unchunked(body) if "chunked" in coding.lower() else body


def _unchunked(body: bytes) -> bytes:
    """Return a body without the lengths of its chunks; as it is where they cannot be read."""
    whole, rest = b"", body
    while rest:
        line, _, rest = rest.partition(b"\r\n")
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            return body
        if size == 0:
            return whole
        whole, rest = whole + rest[:size], rest[size + 2 :]
    return whole

"""Requests as they may lie in a file: without what lets somebody in. Pure.

Of a head only those fields stay that say what the request is; whatever else clients and proxies add (tokens,
cookies, secrets of doors, certificates, addresses) is left out, known or not. Of a body the URL of a callback
loses its user, query and fragment.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit

import msgspec

KEPT: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type"}
    | {"host", "user-agent"}
)
"""Fields that are recorded."""

_PARAMETER: Final = re.compile(rb"([?&;])([^=&;# ]*)=[^&;# ]*")
_HIDDEN: Final = re.compile(rb"(?i)token|secret|passw|signature|api[_-]?key")  # and RFC 6750, section 2.3
_USER: Final = re.compile(rb"^(\S+ [a-zA-Z][a-zA-Z0-9+.-]*://)[^/?# ]*@")
_KEY: Final = b"".join(rb"(?:%c|\\u00(?i:%02x))" % (char, char) for char in b"callback")
_CALLBACK: Final = re.compile(rb'"%b"\s*:\s*' % _KEY)  # within a string it would have a backslash
_STRING: Final = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"?', re.DOTALL)
_SCALAR: Final = re.compile(rb"(?:null|true|false|[-+.0-9eE]+)?(?=\s*(?:[,}\]]|$))")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
_LINE: Final = re.compile(rb"[^\n]*")
_BRACKET: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[][{}]', re.DOTALL)


class CleanHead(NamedTuple):
    """A head that may be recorded."""

    text: bytes  #: to its empty line
    body_bytes: int  #: as ``Content-Length`` says; -1: it does not
    left_out: int  #: fields

    def with_length(self, body_bytes: int) -> bytes:
        """Return the head of a request with a body of that length, whatever the client had said."""
        if body_bytes == max(self.body_bytes, 0):
            return self.text
        lines = [
            line for line in self.text[:-4].split(b"\r\n") if not line.lower().startswith(b"content-length")
        ]
        return b"\r\n".join([*lines, b"Content-Length: %d" % body_bytes, b"", b""])


def clean_head(text: bytes) -> CleanHead:
    """Return a head without what is not `KEPT`.

    Args:
        text: from the request line to the empty line.
    """
    first, *lines = text[:-4].split(b"\r\n")
    first = _USER.sub(rb"\1", _PARAMETER.sub(_clean_parameter, first))
    kept = [first]
    body_bytes = -1
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.strip().lower()
        if name.decode("latin-1") in KEPT:
            kept.append(line)
            if name == b"content-length" and _LENGTH.fullmatch(value.strip()):
                body_bytes = int(value)
    left_out = len(lines) + 1 - len(kept)
    return CleanHead(b"\r\n".join([*kept, b"", b""]), body_bytes, left_out)


def _clean_parameter(found: re.Match[bytes]) -> bytes:
    """Return a parameter of a query without its value when its name is a secret's, however it is escaped."""
    if _HIDDEN.search(unquote_to_bytes(found[2])):
        return b"%b%b=-" % (found[1], found[2])
    return found[0]


def clean_body(body: bytes) -> bytes:
    """Return a body whose callbacks name no user, query or fragment; no JSON has to be whole for that."""
    parts: list[bytes] = []
    at = 0
    for key in _CALLBACK.finditer(body):
        if key.start() >= at:  # and not within a value that is left out
            end, clean = _clean_value(body, key.end())
            parts += (body[at : key.end()], clean)
            at = end
    return b"".join([*parts, body[at:]])


def _clean_value(body: bytes, at: int) -> tuple[int, bytes]:
    """Return where the value of a callback ends, and what is recorded of it."""
    if text := _STRING.match(body, at):
        return text.end(), b'"%b"' % _clean_string(text[1])
    if body[at : at + 1] in {b"[", b"{"}:  # the engine refuses it, an empty one as well
        return _end_of(body, at), b"[]" if body[at : at + 1] == b"[" else b"{}"
    scalar = _SCALAR.match(body, at)
    return (scalar.end(), scalar[0]) if scalar else (_LINE.match(body, at).end(), b"")  # type: ignore[union-attr]


def _clean_string(text: bytes) -> bytes:
    """Return what is between the quotation marks of a callback; nothing of what cannot be read."""
    try:
        url = msgspec.json.decode(b'"%b"' % text, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return b""
    clean = _clean_url(url)
    return text if clean == url else msgspec.json.encode(clean)[1:-1]


def _end_of(body: bytes, at: int) -> int:
    """Return where an array or an object ends; the end of the body when it does not."""
    depth = 0
    for found in _BRACKET.finditer(body, at):
        mark = found[0]
        if mark in {b"[", b"{"}:
            depth += 1
        elif mark in {b"]", b"}"}:
            depth -= 1
            if not depth:
                return found.end()
    return len(body)


def _clean_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    path = parts.path if parts.netloc else parts.path.rpartition("@")[2]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, "", ""))

"""Requests as they may lie in a file: without what lets somebody in. Pure.

Of a head only those fields stay that say what the request is; whatever else clients and proxies add (tokens,
cookies, secrets of doors, certificates, addresses) is left out, known or not. Of a body the URL of a callback
loses its user, query and fragment.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import msgspec

KEPT: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type"}
    | {"host", "user-agent"}
)
"""Fields that are recorded."""

_HIDDEN: Final = re.compile(rb"(?i)([?&]access_token=)[^& ]*")  # RFC 6750, section 2.3
_USER: Final = re.compile(rb"^(\S+ [a-zA-Z]+://)[^/?#@ ]*@")
_CALLBACK: Final = re.compile(rb'("callback"\s*:\s*")((?:[^"\\]|\\.)*)')


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
    first = _USER.sub(rb"\1", _HIDDEN.sub(rb"\1-", first))
    kept = [first]
    body_bytes = -1
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.strip().lower()
        if name.decode("latin-1") in KEPT:
            kept.append(line)
            if name == b"content-length" and value.strip().isdigit():
                body_bytes = int(value)
    left_out = len(lines) + 1 - len(kept)
    return CleanHead(b"\r\n".join([*kept, b"", b""]), body_bytes, left_out)


def clean_body(body: bytes) -> bytes:
    """Return a body whose callbacks name no user, query or fragment."""
    return b"\n".join([_clean_line(line) for line in body.split(b"\n")])


def _clean_line(text: bytes) -> bytes:
    try:
        task: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return _CALLBACK.sub(lambda match: match[1] + _clean_url(match[2].decode("latin-1")).encode(), text)
    url = task.get("callback") if isinstance(task, dict) else None
    if not isinstance(url, str) or (clean := _clean_url(url)) == url:
        return text
    return msgspec.json.encode({**task, "callback": clean})


def _clean_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

"""Bytes of HTTP as they may be shown: control characters escaped, and without what lets somebody in. Pure.

Of a field that is not `SHOWN` the name is shown, and how long its value is: whatever operators, origins and
proxies put in there (tokens, cookies, shared secrets), known or not.
"""

from __future__ import annotations

import re
from typing import Final

SHOWN: Final = frozenset(
    {"host", "user-agent", "accept", "accept-encoding", "accept-ranges", "connection", "keep-alive", "allow"}
    | {"content-length", "content-type", "content-encoding", "transfer-encoding", "mime-version", "date"}
    | {"server", "via", "age", "vary", "etag", "last-modified", "expires", "cache-control", "cache-status"}
    | {"retry-after", "x-varnish", "x-cache", "x-cache-lookup", "x-squid-error", "proxy-connection"}
    | {
        "xkey",
        "xkey-purge",
        "xkey-softpurge",
        "surrogate-key",
        "surrogate-control",
        "cache-tag",
        "cache-tags",
    }
)
"""Fields whose values are shown, and all that begin with `_OWN`."""
_OWN: Final = "purgeline-"
LINES_MAX: Final = 60
_LINE_MAX: Final = 400
_PRINTED: Final = frozenset(range(0x20, 0x7F))
_SECRET: Final = re.compile(rb"(?i)([?&][^=&\s]*(?:token|key|sig|secret|passw|auth|session)[^=&\s]*=)[^&\s]*")
_USER: Final = re.compile(rb"(?i)([a-z]+://)[^/?#@\s]*@")


def head_lines(head: bytes) -> list[str]:
    """Return the lines of a head, from its first to its last field."""
    first, *fields = head.rstrip(b"\r\n").split(b"\r\n")
    lines = [escaped(_USER.sub(rb"\1", _SECRET.sub(rb"\1-", first)))]
    for field in fields[:LINES_MAX]:
        name, _, value = field.partition(b":")
        known = name.strip().lower().decode("latin-1")
        if known in SHOWN or known.startswith(_OWN):
            lines.append(escaped(field))
        else:
            lines.append(f"{escaped(name)}: ({len(value.strip())} bytes, not shown)")
    if len(fields) > LINES_MAX:
        lines.append(f"({len(fields) - LINES_MAX} fields more)")
    return lines


def escaped(data: bytes) -> str:
    """Return bytes as a line of ASCII, cut where it is very long."""
    shown = "".join(chr(byte) if byte in _PRINTED else f"\\x{byte:02x}" for byte in data[:_LINE_MAX])
    return f"{shown} ({len(data) - _LINE_MAX} bytes more)" if len(data) > _LINE_MAX else shown

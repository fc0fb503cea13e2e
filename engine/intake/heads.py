"""Heads of requests that the fast lane serves: the usual ones, and nothing that is open to interpretation.

Why a pattern and not httptools: the lane takes only heads that match one strict pattern whole, so there
is nothing to be lenient about; it knows where a request ends, which a hand-over needs and httptools does
not tell; and a head seen before is one dictionary look-up, where a callback parser makes a call a header.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from engine.tasks.traceparent import read_traceparent

HEAD_MAX_BYTES: Final = 16 * 1024
START: Final = b"POST /v1/engine/task"  #: of every plain head

_KNOWN_MAX: Final = 1024
_KNOWN_HEAD_MAX_BYTES: Final = 1024
_HEAD: Final = re.compile(
    rb"POST /v1/engine/task(s?) HTTP/1\.1"
    rb"((?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*)+)\r\n\r\n"
)
_NAMES: Final = re.compile(rb"\r\n([^:]+):")
_UNUSUAL: Final = re.compile(
    rb"\r\n(?:transfer-encoding|expect|upgrade|content-encoding|trailer)[ \t]*:"
    rb"|\r\nconnection:(?! ?keep-alive\r| ?close\r)"
)
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,12})[ \t]*\r")
_TYPE: Final = re.compile(rb"\r\ncontent-type:[ \t]*([^\r;]*)")
_JSON_TYPES: Final = frozenset(
    {"application/json", "application/x-ndjson", "application/ndjson", "application/jsonl"}
)


class Head(NamedTuple):
    """What the fast lane needs to know of a request's head."""

    is_lines: bool  #: ``/tasks``, NDJSON
    body_bytes: int
    authorization: bytes
    is_last: bool  #: ``Connection: close``
    forwarded: bytes = b""  #: ``X-Forwarded-For``
    text: bytes = b""  #: the head itself, for recordings
    traceparent: str = ""  #: of W3C's Trace Context, where it is one

    @property
    def request(self) -> str:
        """Method and path."""
        return START.decode() + "s" * self.is_lines


def is_json(content_type: str) -> bool:
    """Tell whether a body of this ``Content-Type`` is one that both lanes take."""
    return content_type.partition(";")[0].strip().lower() in _JSON_TYPES


def parse_head(text: bytes) -> Head | None:
    """Return what a plain head says, or None when aiohttp has to read it.

    Args:
        text: from the request line to the empty line.
    """
    match = _HEAD.fullmatch(text)
    if match is None:
        return None
    fields = match[2].lower() + b"\r"
    names = _NAMES.findall(fields)
    length = _LENGTH.search(fields)
    kind = _TYPE.search(fields)
    authorization = fields.find(b"\r\nauthorization:")
    if (
        length is None
        or b"host" not in names
        or b"origin" in names  # a browser's: see `engine.api.browsers`
        or b"sec-fetch-site" in names
        or len(set(names)) < len(names)  # which of the two counts is for aiohttp to say
        or _UNUSUAL.search(fields)
        or (kind is not None and not is_json(kind[1].decode("latin-1")))
    ):
        return None
    value = match[2][authorization + 16 :].partition(b"\r")[0].strip() if authorization >= 0 else b""
    forwarded = fields.find(b"\r\nx-forwarded-for:")
    hops = fields[forwarded + 18 :].partition(b"\r")[0].strip() if forwarded >= 0 else b""
    is_last = re.search(rb"\r\nconnection:[ \t]*close\r", fields) is not None
    trace = fields.find(b"\r\ntraceparent:")
    traceparent = ""
    if trace >= 0:
        value_at = match[2][trace + 14 :]  # as it was sent: one with capitals is none
        traceparent = read_traceparent(value_at.partition(b"\r")[0].decode("latin-1"))
    return Head(bool(match[1]), int(length[1]), value, is_last, hops, text, traceparent)


class KnownHeads:
    """Heads that were parsed before; shared by all connections of a port.

    A client's heads differ in nothing but the length of the body, so a few hundred cover nearly all
    requests: one dictionary look-up in place of seven searches (0.4 µs instead of 4.7). A head with a
    traceparent comes once, and is not kept.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Head | None] = {}

    def parse(self, text: bytes) -> Head | None:
        """Return `parse_head` of *text*."""
        try:
            return self._known[text]
        except KeyError:
            head = parse_head(text)
            if len(text) <= _KNOWN_HEAD_MAX_BYTES and not (head is not None and head.traceparent):
                if len(self._known) >= _KNOWN_MAX:
                    self._known.clear()
                self._known[text] = head
            return head

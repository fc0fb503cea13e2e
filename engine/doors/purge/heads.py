"""Heads of requests to a purge door, read strictly: one meaning, or a refusal.

Parsers made for web servers refuse the methods that caches are purged by (``BAN``, ``PURGEKEYS``). What is
read here has no body, so where a request ends is where its empty line is: whatever leaves that open to
interpretation (``Transfer-Encoding``, a length of more than 0, a bare line end, a folded line, a field that
counts and is there twice) is refused, and where it leaves open what comes next, the connection ends.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from engine.errors import RequestError

HEAD_MAX_BYTES: Final = 64 * 1024
"""More than the fast lane's: lists of tags are sent in one field."""

HAS_BODY: Final = "content-length: a purge has no body; leave it out"
_KNOWN_MAX: Final = 1024
_LOGGED_CHARS: Final = 200
_KNOWN_MAX_BYTES: Final = 1024
_LINE: Final = re.compile(rb"([A-Z]{1,32}) ([!-~]+) HTTP/1\.([01])").fullmatch
_FIELDS: Final = re.compile(rb"(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*)*")
_REPEATABLE: Final = frozenset(
    {"accept", "accept-encoding", "accept-language", "cache-control", "connection", "cookie", "forwarded"}
    | {"pragma", "user-agent", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}
)


SAYING: Final = frozenset(
    {"xkey", "xkey-purge", "xkey-softpurge", "surrogate-key", "cache-tag", "x-xkey", "x-xkey-soft"}
    | {"x-cache-tags-pattern", "x-magento-tags-pattern", "apiplatform-ban-regex"}
    | {"x-cache-tags", "cache-tags", "purge-cache-tags", "varnish-ban-typo3-tag"}
    | {"x-purge-method", "x-url", "x-host", "x-content-type", "ban-url", "ban-host"}
    | {"varnish-ban-all", "varnish-ban-typo3-pid", "varnish-ban-typo3-sitename"}
)
"""Fields by which clients say what is to be purged; see `engine.doors.purge.wording`."""


class UnframedError(RequestError):
    """A request of which nobody can tell where it ends: its connection ends with the answer."""


class Fields(msgspec.Struct, frozen=True, gc=False):
    """The fields of a head, and what is read out of them once for all requests that have the same ones."""

    values: dict[str, str]  #: by lower-case name
    connection: frozenset[str]  #: words of ``Connection``
    is_closing: bool  #: ``close`` is one of them
    body_bytes: int
    host: str  #: value of ``Host``; empty without one
    forwarded: bytes  #: value of ``X-Forwarded-For``
    is_silent: bool  #: none of them says what is to be purged, see `SAYING`


class Head(msgspec.Struct, frozen=True, gc=False):
    """A request."""

    method: str
    target: str  #: as it stands in the request line
    fields: Fields
    is_last: bool  #: the connection ends with its answer
    is_old: bool  #: HTTP/1.0, kept alive: the answer has to say so

    @property
    def request(self) -> str:
        """Method and path, as far as a line of the log has room for them."""
        return f"{self.method} {self.target[:_LOGGED_CHARS]}"

    def get(self, name: str) -> str:
        """Return the value of a field; empty without one."""
        return self.fields.values.get(name, "")


class HeadReader:
    """Reads heads; the fields that one client sends are mostly the same, and are remembered."""

    def __init__(self) -> None:
        self._known: dict[bytes, Fields] = {}

    def read(self, text: bytes) -> Head:
        """Return what a head says.

        Args:
            text: from the request line to the empty line, both line ends of it included.

        Raises:
            UnframedError: 400, where it ends is not certain.
        """
        end = text.find(b"\r\n")
        line = _LINE(text, 0, end)
        if line is None:
            raise UnframedError(400, _line_problem(text[:end]))
        lines = text[end:-4]
        fields = self._known.get(lines)
        if fields is None:
            fields = read_fields(lines)
            if len(lines) <= _KNOWN_MAX_BYTES:
                if len(self._known) >= _KNOWN_MAX:
                    self._known.clear()
                self._known[lines] = fields
        method, target, minor = line.groups()
        if minor == b"1":
            return Head(method.decode(), target.decode(), fields, fields.is_closing, is_old=False)
        is_kept = "keep-alive" in fields.connection and not fields.is_closing
        return Head(method.decode(), target.decode(), fields, is_last=not is_kept, is_old=is_kept)


def read_fields(lines: bytes) -> Fields:
    """Return the fields of a head.

    Args:
        lines: each with the line end before it.

    Raises:
        UnframedError: 400.
    """
    if not _FIELDS.fullmatch(lines):
        raise UnframedError(400, "a line of the head is no field: takes 'Name: value', each on one line")
    values: dict[str, str] = {}
    for line in lines.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        if name not in values:
            values[name] = value
        elif name in _REPEATABLE:
            values[name] += f", {value}"
        else:
            raise UnframedError(400, f"{name}: is there twice; takes one")
    if "transfer-encoding" in values:
        raise UnframedError(400, "transfer-encoding: a purge has no body; leave it out")
    length = values.get("content-length", "")
    if not re.fullmatch("[0-9]{0,12}", length) or ("content-length" in values and not length):
        raise UnframedError(400, "content-length: takes a number")
    words = frozenset(word.strip().lower() for word in values.get("connection", "").split(","))
    return Fields(
        values,
        words,
        is_closing="close" in words,
        body_bytes=int(length or 0),
        host=values.get("host", ""),
        forwarded=values.get("x-forwarded-for", "").encode("latin-1"),
        is_silent=SAYING.isdisjoint(values),
    )


def _line_problem(line: bytes) -> str:
    words = line.split(b" ")
    takes = "takes 'METHOD PATH HTTP/1.1'"
    if len(words) == 3 and not re.fullmatch(rb"[!-~]*", words[1]):  # noqa: PLR2004 - method, target, version
        return "the path has characters that must be percent-encoded"
    if len(words) == 3 and not re.fullmatch(rb"HTTP/1\.[01]", words[2]):  # noqa: PLR2004 - as above
        return f"the version is neither HTTP/1.1 nor HTTP/1.0; {takes}"
    return f"the first line is no request; {takes}"

"""A request and its answer in bytes: HTTP/1.1, as far as engines, and proxies in front of them, speak it.

`http.client` does more, and brings `email`, `ssl` and `enum` classes by the dozen: half of what a short
command executes. No socket is touched here.
"""

from __future__ import annotations

from engine.base.tuples import NamedTuple

TYPE_CHECKING = False  # see `tuples`
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Final

LINE_MAX_BYTES: Final = 65536  #: of a status line, a header, or the size of a chunk
HEADERS_MAX: Final = 100
_WITHOUT_BODY: Final = frozenset({204, 304})
_FINAL: Final = 200  #: statuses below are interim
_WITH_LENGTH: Final = frozenset({"POST", "PUT", "PATCH"})  #: whose empty body is said
_HEXADECIMAL: Final = frozenset(b"0123456789abcdefABCDEF")


class NoHttpError(Exception):
    """What came is no answer in HTTP."""


class EarlyEndError(Exception):
    """The connection ended before the whole answer had come."""


class Received(NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]  #: by names in lower case; of one that is there twice, the last
    content: bytes
    keeps: bool  #: the connection goes on


def request(
    method: str, path: str, *, host: str, headers: Mapping[str, str], body: bytes | None = None
) -> bytes:
    """Return the head of a request.

    Args:
        method: of the request.
        path: with its query, quoted.
        host: as the header has it.
        headers: others.
        body: whose length is said.

    Raises:
        ValueError: the path or a header cannot be sent.
    """
    lines = [f"{method} {path or '/'} HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None or method in _WITH_LENGTH:
        lines.append(f"Content-Length: {len(body or b'')}")
    for line in lines:
        if not line.isprintable():
            raise ValueError(f"{line!r} cannot be sent: it has characters that are not printable")
    if " " in path or not path.isascii():
        raise ValueError(f"{path!r} cannot be asked for: it is not quoted")
    return "\r\n".join((*lines, "", "")).encode("latin-1", "replace")


def host_of(host: str, port: int | None) -> str:
    """Return the header of a host; no *port*: the scheme's own."""
    named = f"[{host.partition('%')[0]}]" if ":" in host else host
    return named if port is None else f"{named}:{port}"


class AnswerReader:
    """Reads the answers of one connection, in turn.

    Args:
        receive: returns the next bytes, as many as there are; none: the other side has ended it.
    """

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self._rest = bytearray()

    def read(self, method: str) -> Received:
        """Return the answer to a request.

        Raises:
            NoHttpError: it is none.
            EarlyEndError: the connection ended before.
        """
        while True:
            version, status = self._status()
            headers = self._headers()
            if status >= _FINAL:
                break
        words = headers.get("connection", "").lower()
        keeps = "close" not in words if version >= b"HTTP/1.1" else "keep-alive" in words
        if method == "HEAD" or status in _WITHOUT_BODY:
            content = b""
        elif headers.get("transfer-encoding", "identity").lower() != "identity":
            content = self._chunks()
        elif (length := headers.get("content-length")) is not None:
            if not (length.isascii() and length.isdecimal()):
                raise NoHttpError(f"Content-Length: {length}")
            content = self._bytes(int(length))
        else:
            content, keeps = self._until_end(), False
        return Received(status, headers, content, keeps and not self._rest)

    def _status(self) -> tuple[bytes, int]:
        version, _, rest = self._line().partition(b" ")
        code = rest.strip()[:3]
        if not version.startswith(b"HTTP/") or len(code) < 3 or not code.isdigit() or code < b"100":  # noqa: PLR2004 - digits
            raise NoHttpError("no status line")
        return version, int(code)

    def _headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        name = ""
        for _ in range(HEADERS_MAX + 1):
            line = self._line()
            if not line:
                return found
            text = line.decode("latin-1")
            if text[0] in " \t":  # goes on with the one before
                found[name] = f"{found.get(name, '')} {text.strip()}"
                continue
            name, sign, value = text.partition(":")
            if not sign:
                raise NoHttpError("a header without a colon")
            name = name.strip().lower()
            found[name] = value.strip()
        raise NoHttpError(f"more than {HEADERS_MAX} headers")

    def _chunks(self) -> bytes:
        content = bytearray()
        while True:
            size = self._line().partition(b";")[0].strip()
            if not size or not _HEXADECIMAL.issuperset(size):
                raise NoHttpError("a chunk without a size")
            count = int(size, 16)
            if not count:
                break
            content += self._bytes(count)
            if self._line():
                raise NoHttpError("a chunk that is longer than its size")
        self._headers()  # trailers
        return bytes(content)

    def _line(self) -> bytes:
        """Return the next line, without its end."""
        start = 0
        while (end := self._rest.find(b"\n", start)) < 0:
            start = len(self._rest)
            if start > LINE_MAX_BYTES:
                raise NoHttpError("a line without an end")
            self._more()
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line.removesuffix(b"\r")

    def _bytes(self, count: int) -> bytes:
        while len(self._rest) < count:
            self._more()
        taken = bytes(self._rest[:count])
        del self._rest[:count]
        return taken

    def _until_end(self) -> bytes:
        while piece := self._receive():
            self._rest += piece
        taken = bytes(self._rest)
        self._rest.clear()
        return taken

    def _more(self) -> None:
        piece = self._receive()
        if not piece:
            raise EarlyEndError
        self._rest += piece

"""What caches answer of their own, with the mark that the templates add or without.

The shapes are those of real servers: Varnish 7.1, nginx 1.22 with cache_purge 2.3, ATS 9.2, Squid 5.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.model.caches import Act, Cache

DATE: Final = "Date: Sun, 29 Nov 2026 10:00:00 GMT"
_NGINX: Final = "Server: nginx/1.22.1"
_SQUID: Final = ("Server: squid/5.7", "Mime-Version: 1.0", DATE)
_KEEP: Final = "Connection: keep-alive"


def plain(status: int, reason: str, lines: list[str], body: bytes = b"") -> bytes:
    """Return an answer with its length last."""
    return _text(status, reason, [*lines, f"Content-Length: {len(body)}"], body)


def _text(status: int, reason: str, lines: list[str], body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} {reason}", *lines]).encode() + b"\r\n\r\n" + body


def _mark(cache: Cache, nonce: str) -> list[str]:
    if not cache.is_marked:
        return []
    return [
        f"Purgeline-Cache: {cache.driver} {cache.name}",
        *([f"Purgeline-Nonce: {nonce}"] if nonce else []),
    ]


def done(cache: Cache, nonce: str, count: int, act: Act) -> bytes:
    """Return the answer to a purge that was carried out; *count* objects went."""
    mark = _mark(cache, nonce)
    found = (200, "OK") if count else (404, "Not Found")
    if cache.driver == "varnish":
        xid = cache.rng.randrange(2, 1 << 24)
        lines = [DATE, "Server: Varnish", f"X-Varnish: {xid}", f"Purgeline-Count: {count}", *mark]
        return _text(200, "Purged", [*lines, "Content-Length: 0", _KEEP])
    if cache.driver == "ats":
        return plain(*found, [DATE, _KEEP, "Server: ATS/9.2.5", *mark])
    if cache.driver == "squid":
        lines = [
            "Content-Length: 0",
            "X-Cache: MISS from purgeline",
            "X-Cache-Lookup: NONE from purgeline:80",
        ]
        return _text(*found, [*_SQUID, *lines, "Via: 1.1 purgeline (squid/5.7)", _KEEP, *mark])
    if not count and act.method != "prefix":
        return _nginx_page(404, "Not Found", mark)
    key = act.target.removeprefix("http://")
    page = f"<center><h1>Successful purge</h1>\r\n<br>Key : {key}\r\n<br>Path: /c/0/00/0000</center>\r\n"
    return _nginx(200, "OK", "Successful purge", '<body bgcolor="white">\r\n' + page, mark)


def error(cache: Cache, nonce: str, status: int, reason: str) -> bytes:
    """Return the answer to a purge that was not carried out."""
    mark = _mark(cache, nonce)
    page = b"<html>denied</html>" if status == 403 else b""
    if cache.driver == "nginx":
        return _nginx_page(status, reason, mark)
    if cache.driver == "squid":
        return plain(status, reason, [*_SQUID, "X-Squid-Error: ERR_ACCESS_DENIED 0", *mark], page)
    if cache.driver == "ats":
        return plain(status, reason, [DATE, _KEEP, *mark], page)
    return plain(status, reason, [DATE, "Server: Varnish", "X-Varnish: 17", *mark])


def _nginx_page(status: int, reason: str, mark: list[str]) -> bytes:
    text = f"{status} {reason}"
    return _nginx(status, reason, text, f"<body>\r\n<center><h1>{text}</h1></center>\r\n", mark)


def _nginx(status: int, reason: str, title: str, page: str, mark: list[str]) -> bytes:
    end = "<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n"
    body = f"<html>\r\n<head><title>{title}</title></head>\r\n{page}{end}".encode()
    lines = [_NGINX, DATE, "Content-Type: text/html", f"Content-Length: {len(body)}", _KEEP, *mark]
    return _text(status, reason, lines, body)

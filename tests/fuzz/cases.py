"""Cases: requests that are nearly right, made of good ones. The same seed and number make the same case."""

from __future__ import annotations

import json
import random
from typing import Final

from tests.fakes.cache_clients import CLIENTS

TOKEN: Final = "fuzz"  #: the bearer token of the good ones
_AUTH: Final = f"Authorization: Bearer {TOKEN}"
_HOST: Final = "http://img.example.com"

BODIES: Final[tuple[dict[str, object], ...]] = (
    {"targets": [f"{_HOST}/a.jpg"]},
    {"targets": [f"{_HOST}/a.jpg?q=1", f"{_HOST}/b"], "soft": True, "prefetch": True, "due_s": 5},
    {"kind": "prefix", "targets": [f"{_HOST}/album/*"], "nodes": ["edge-1"], "layers": ["edge"]},
    {"kind": "regex", "targets": [f"{_HOST}/(a|b)+\\.jpg$"], "on_incapable": "skip"},
    {"kind": "key", "targets": [{"host": "img.example.com", "key": "product-1"}, "img.example.com/k"]},
    {"kind": "host", "targets": ["img.example.com", "[::1]:8080"]},
    {"targets": ["http://bücher.example/ä"], "callback": "http://127.0.0.1:1/", "rebound_s": 1.5},
    {"action": "prefetch", "targets": [f"{_HOST}/*"], "literal": True},
)
_TEXT: Final = (
    b"\x00",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b'"',
    b"\\",
    b"/",
    b"?",
    b"#",
    b"%",
    b"*",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xc3\xa9",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b"0",
    b"-1",
    b"9" * 25,
    b"1e999",
    b"null",
    b"true",
    b"[" * 40,
    b"A" * 300,
    b"%00",
    b"%ff",
    b"..",
    b"\x0b",
    b"(",
    b")|(",
    b"\\Q",
    b"@",
    b"http://",
)
LINES: Final = (
    b"Expect: 100-continue",
    b"Expect: \xff",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: upgrade",
    b"Upgrade: websocket",
    b"Content-Type: text/plain",
    b"Content-Type:",
    b"Content-Type: application/json; charset=\xff",
    b"Content-Encoding: gzip",
    b"Content-Length: 0",
    b"Content-Length: 9999999999",
    b"Content-Length: 5",
    b"Host: other",
    b"Host:",
    b"Authorization: Bearer wrong",
    b"Authorization: Basic x",
    b"Trailer: X",
    b"X: " + b"a" * 9000,
    b"Cookie: a=b",
    b"Range: bytes=0-1",
    b"If-None-Match: *",
    b"Sec-WebSocket-Key: x",
    b": x",
    b"X",
    b"Accept-Encoding: gzip, deflate, br",
    b"Forwarded: for=x",
    b" folded",
    b"Content-Length: 1\r\nContent-Length: 1",
)
STARTS: Final = (
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"BAN",
    b"PURGE",
    b"TRACE",
    b"CONNECT",
    b"get",
    b"PRI",
)
PATHS: Final = (
    b"/",
    b"/v1/engine/task",
    b"/v1/engine/tasks",
    b"/v1/engine/tasks?limit=2&state=done",
    b"/v1/engine/tasks?cursor=s0.5",
    b"/v1/engine/task/fuzz-1",
    b"/v1/engine/nodes",
    b"/v1/engine/nodes/gone",
    b"/v1/engine/stats",
    b"/v1/engine/cluster",
    b"/v1/engine/version",
    b"/version",
    b"/healthz",
    b"/readyz",
    b"/metrics",
    b"*",
    b"http://h/v1/engine/task",
    b"//",
    b"/%2e%2e",
    b"/v1/engine/log-format",
    b"a:1",
    b"/v1/engine/task?x=1",
    b"/v1/engine/tasks?limit=\xff",
    b"/v1//engine/task",
    b"http://[/",
)


_PURGE_STARTS: Final = (b"URIBAN", b"PURGEKEYS", b"REFRESH", b"purge", b"A" * 40)
_PURGE_PATHS: Final = (
    b"/.*",
    b"/a*",
    b"/tags",
    b"/purge/a",
    b"/" + b"a" * 9000,
    b"/" + b"(a" * 60,
    b"/(a+)+$.*",
    b"http://img.example.com",
    b"http://127.0.0.1/a",
    b"http://evil.org/a",
    b"http://user@img.example.com/",
    b"/a#b",
    b"///",
)
_PURGE_LINES: Final = (
    b"Host: img.example.com",
    b"Host: img.example.com:9182",
    b"Host: varnish",
    b"Host: [::1",
    b"Host: " + b"a." * 200,
    b"X-Host: .*",
    b"X-Host: ^(img\\.example\\.com|evil\\.org)$",
    b"X-Url: (a|b)+$",
    b"X-Url: \\",
    b"X-Url: " + b"(a" * 60,
    b"X-Content-Type: .*",
    b"X-Cache-Tags: a,b",
    b"X-Cache-Tags: (^|,)(a|b)(,|$)",
    b"X-Cache-Tags: " + b"(" * 300,
    b"X-Cache-Tags-Pattern: " + b"(^|,)" * 500,
    b"Cache-Tags: " + b"t " * 6000,
    b"xkey-softpurge: a b",
    b"X-Purge-Method: regex",
    b"Varnish-Ban-All: 1",
    b"X-Forwarded-For: 10.0.0.1, x",
)


def request(body: bytes, *lines: str, start: str = "POST /v1/engine/task") -> bytes:
    """Return a whole good request."""
    head = [f"{start} HTTP/1.1", "Host: engine", _AUTH, *lines, f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def get(path: str, method: str = "GET") -> bytes:
    """Return a whole request without a body."""
    return f"{method} {path} HTTP/1.1\r\nHost: engine\r\n{_AUTH}\r\n\r\n".encode()


def tasks() -> list[bytes]:
    """Return good requests to the routes that both lanes serve."""
    bodies = [json.dumps(body).encode() for body in BODIES]
    made = [request(body) for body in bodies]
    made.append(request(bodies[0], "Content-Type: application/json", "User-Agent: curl/8", "Accept: */*"))
    made.append(
        request(b"\n".join(bodies), "Content-Type: application/x-ndjson", start="POST /v1/engine/tasks")
    )
    return made


def others() -> list[bytes]:
    """Return good requests to the other routes, and in other forms."""
    body = json.dumps(BODIES[0]).encode()
    parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:9], body[9:])) + b"0\r\n\r\n"
    head = request(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    made = [get(path.decode("latin-1")) for path in PATHS if path.isascii()]
    made += [
        get("/v1/engine/task/fuzz-1", "DELETE"),
        get("/v1/engine/tasks", "OPTIONS"),
        get("/version", "HEAD"),
    ]
    made += [head + parts, request(b'{"format":"struct"}', start="PUT /v1/engine/log-format")]
    made.append(request(body, "Expect: 100-continue"))
    return made


def purges(seed: int) -> Cases:
    """Return cases for a purge door, made of what caches' clients send."""
    return Cases(
        seed,
        [sent.bytes for sent in CLIENTS.values()],
        lines=LINES + _PURGE_LINES,
        starts=STARTS + _PURGE_STARTS,
        paths=PATHS + _PURGE_PATHS,
    )


class Cases:
    """Makes cases out of good requests.

    Args:
        seed: of all of them.
        good: what they are made of.
        is_rough: whether they may be anything; else most keep a head that can be read. When aiohttp's parser
            finds bytes that are no request, it forgets the good requests that came with them.
        lines: of heads, that are put in.
        starts: methods.
        paths: of request lines.
    """

    def __init__(
        self,
        seed: int,
        good: list[bytes],
        *,
        is_rough: bool = True,
        lines: tuple[bytes, ...] = LINES,
        starts: tuple[bytes, ...] = STARTS,
        paths: tuple[bytes, ...] = PATHS,
    ) -> None:
        self._lines, self._starts, self._paths = lines, starts, paths
        self._seed = seed
        self._good = good
        self._is_rough = is_rough

    def case(self, number: int) -> bytes:
        """Return one case."""
        chosen = random.Random(f"{self._seed}:{number}")
        data = chosen.choice(self._good)
        for _ in range(chosen.choice((0, 1, 1, 1, 2, 2, 3, 6))):
            data = self._changed(data, chosen)
        if not self._is_rough or chosen.random() < 0.5:  # the other half has a length that may be wrong
            data = with_right_length(data)
        return data * chosen.choice((1,) * 30 + (2, 5))

    def _changed(self, data: bytes, chosen: random.Random) -> bytes:
        head, gap, body = data.partition(b"\r\n\r\n")
        way = chosen.random()
        if way < 0.25:
            return head + gap + cut(body, chosen)
        if way < 0.45:
            lines = head.split(b"\r\n")
            lines.insert(chosen.randint(1, len(lines)), chosen.choice(self._lines))
            return b"\r\n".join(lines) + gap + body
        if way < 0.55:
            lines = head.split(b"\r\n")
            lines.insert(chosen.randint(1, len(lines)), chosen.choice(lines[1:] or lines))
            return b"\r\n".join(lines) + gap + body
        if way < 0.65 and self._is_rough:
            first, _, rest = head.partition(b"\r\n")
            words = [chosen.choice(self._starts), chosen.choice(self._paths), first.split(b" ")[-1]]
            return b" ".join(words) + b"\r\n" + rest + gap + body
        if way < 0.8:
            return cut(head, chosen) + gap + body
        return cut(data, chosen) if self._is_rough else data


def cut(data: bytes, chosen: random.Random) -> bytes:
    """Change some bytes: leave out, put in, double, end early."""
    start = chosen.randint(0, len(data))
    end = min(len(data), start + chosen.choice((0, 0, 1, 1, 2, 5, 20)))
    way = chosen.randrange(8)
    if way == 0:
        return data[:start]
    if way == 1:
        return data[:end] + data[start:]
    put = chosen.choice(_TEXT) if way < 6 else bytes([chosen.randrange(256)])
    return data[:start] + put + data[end:]


def with_right_length(data: bytes) -> bytes:
    """Return a request whose ``Content-Length``, where it has one, is that of its body."""
    head, gap, body = data.partition(b"\r\n\r\n")
    lines = [
        b"Content-Length: %d" % len(body) if line.lower().startswith(b"content-length:") else line
        for line in head.split(b"\r\n")
    ]
    return b"\r\n".join(lines) + gap + body

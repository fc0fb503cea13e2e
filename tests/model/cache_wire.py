"""How a cache of the model speaks: requests in, what it does with them, answers out, one after the other.

A cache that *forwards* sends what the one behind it answered.
"""

from __future__ import annotations

import asyncio
import email.utils
from collections import deque
from dataclasses import dataclass

from tests.model.answers import DATE, done, error, plain
from tests.model.caches import Act, Cache


@dataclass
class Request:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    peer: str = ""  #: address of the client

    @property
    def host(self) -> str:
        return self.headers.get("host", "")

    @property
    def nonce(self) -> str:
        return self.headers.get("purgeline-nonce", "")


class CacheDoor:
    """Listens for a cache.

    Args:
        cache: that answers.
        purge_path: before the path of purges.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.connections: set[CacheConnection] = set()

    @property
    def door(self) -> str:
        """Tell what a client that connects meets."""
        return self.cache.faults.door

    def make_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol of one connection."""
        return CacheConnection(self)

    def reset(self) -> None:
        """Drop all connections, as a crash does."""
        for connection in list(self.connections):
            connection.abort()


class CacheConnection(asyncio.Protocol):
    """One client of a cache: requests are answered in order."""

    def __init__(self, door: CacheDoor) -> None:
        self._door = door
        self._cache = door.cache
        self._data = b""
        self._requests: deque[Request] = deque()
        self._transport: asyncio.Transport
        self._worker: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._peer = str(transport.get_extra_info("peername")[0])
        self._door.connections.add(self)
        self._worker = asyncio.get_running_loop().create_task(self._work())

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.connections.discard(self)
        if self._worker is not None:
            self._worker.cancel()

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head, self._data = self._data[:end].decode("latin-1"), self._data[end + 4 :]
            line, *fields = head.split("\r\n")
            method, path, _ = line.split(" ", 2)
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (text.partition(":") for text in fields)
            }
            self._requests.append(Request(method, path, headers, self._peer))
        self._news.set()

    async def _work(self) -> None:
        cache = self._cache
        while True:
            while not self._requests:
                self._news.clear()
                await self._news.wait()
            request = self._requests.popleft()
            if cache.faults.hangs or cache.faults.door != "open":
                await asyncio.get_running_loop().create_future()
            if cache.faults.latency_s:
                await asyncio.sleep(cache.faults.latency_s)
            answer = await _answer(cache, request)
            if cache.faults.door != "open" or self._transport.is_closing():
                return
            asks_close = "close" in request.headers.get("connection", "").lower()
            if asks_close and not cache.faults.forwards:
                answer = answer.replace(b"Connection: keep-alive", b"Connection: close", 1)
            self._transport.write(answer)
            if asks_close or b"\r\nconnection: close" in answer.lower() or self._cuts():
                self._transport.close()
                return

    def _cuts(self) -> bool:
        cuts = self._cache.faults.cuts
        return bool(cuts) and self._cache.rng.random() < cuts


async def _answer(cache: Cache, request: Request) -> bytes:
    if request.method in {"GET", "HEAD"}:
        return await _get(cache, request)
    faults = cache.faults
    if faults.sick and cache.rng.random() < faults.sick:
        cache.undone[request.method, request.host + request.path] += 1
        return error(cache, request.nonce, 503, "Service Unavailable")
    if faults.refuses & {"*", request.host} or (faults.refuses_bans and _is_ban(request)):
        cache.undone[request.method, request.host + request.path] += 1
        return error(cache, request.nonce, 403, "Forbidden")
    if faults.forwards:
        return await _forward(cache, request)
    act = act_of(cache, request)
    if act is None:
        return error(cache, request.nonce, 405, "Not Allowed")
    act.by = request.peer
    count = cache.purge(act)
    return done(cache, request.nonce, count, act)


def _is_ban(request: Request) -> bool:
    return request.method == "BAN" or request.path.endswith("*")


async def _get(cache: Cache, request: Request) -> bytes:
    url = f"http://{request.host}{request.path}"
    cache.gets.append((cache.now(), url))
    if cache.faults.sick_gets:
        return plain(503, "Service Unavailable", ["Retry-After: 1"])
    found = await cache.get(url, "engine")
    if found is None:
        return plain(502, "Bad Gateway", [])
    date = email.utils.formatdate(cache.origin.wall_start_s + found.made_at, usegmt=True)
    age_s = int(cache.now() - found.made_at)
    lines = [f"Date: {date}", f'ETag: "{found.version}"', f"Cache-Control: max-age={cache.ttl_s:.0f}"]
    return plain(200, "OK", [*lines, f"Age: {age_s}"], b"content")


def act_of(cache: Cache, request: Request) -> Act | None:
    """Return what a purge request asks for; None when the cache does not know such a request."""
    now = cache.now()
    if cache.driver == "varnish" and request.method == "BAN":
        host = request.headers["purgeline-ban-host"]
        pattern = request.headers.get("purgeline-ban-url")
        if pattern is None:
            return Act(now, "prefix", f"http://{host}/")
        return Act(now, "regex", f"http://{host}" + pattern.removeprefix("^"))
    is_soft = cache.driver == "varnish" and request.headers.get("purgeline-soft") == "1"
    if cache.driver == "varnish" and request.method == "PURGEKEY":
        return Act(now, "key", request.headers["purgeline-key"], is_soft)
    if request.method != "PURGE":
        return None
    path = request.path
    if cache.driver == "nginx":
        if not path.startswith("/purge/"):
            return None
        path = path.removeprefix("/purge")
        if path.endswith("*"):
            return Act(now, "prefix", f"http://{request.host}{path[:-1]}")
    return Act(now, "url", f"http://{request.host}{path}", is_soft)


async def _forward(cache: Cache, request: Request) -> bytes:
    """Return what the parent, or the origin, says to a purge that was passed on."""
    await asyncio.sleep(0.002)
    if cache.parents:
        parent = cache.parents[0]
        if parent.faults.door != "open" or parent.faults.hangs:
            return plain(503, "Backend fetch failed", [DATE, "Server: Varnish", "X-Varnish: 19"])
        passed = request
        if cache.driver == "nginx" and request.path.startswith("/purge/") and parent.driver != "nginx":
            passed = Request(request.method, request.path, request.headers, request.peer)
        answer = await _answer(parent, passed)
    else:
        status, reason = cache.rng.choice([(200, "OK"), (404, "Not Found"), (200, "OK")])
        lines = ["Server: nginx/1.22.1" if cache.driver == "nginx" else "Server: Apache", DATE]
        answer = plain(status, reason, [*lines, "Content-Type: text/plain"], b"the origin")
    if cache.driver == "varnish":  # a pipe
        return answer.replace(b"Connection: keep-alive\r\n", b"", 1).replace(
            b"\r\n", b"\r\nConnection: close\r\n", 1
        )
    if cache.driver == "ats":
        return answer.replace(b"\r\n\r\n", b"\r\nAge: 0\r\nServer: ATS/9.2.5\r\n\r\n", 1)
    return answer

"""A small caching proxy that speaks PURGE, for a demo on a machine without a real cache server.

    python -m release.lab.cacheproxy --port 6081 --backend 127.0.0.1:8080 --folder DIR

Not for production: it keeps everything in memory. What it does, it does as a cache should (RFC 9111):

- ``GET`` and ``HEAD`` are answered from the cache while fresh (``s-maxage``, else ``max-age``, less the
  ``Age`` it came with), with ``Age`` and ``X-Cache: HIT`` or ``MISS``. The key is host and request target
  as sent.
- Requests for one object wait for one fetch. What may not be stored is passed on; so are ranges and
  requests with ``Authorization``, and objects over `OBJECT_MAX_BYTES`. All other methods are answered 405.
- ``PURGE`` answers 200 (dropped) or 404 (was not cached), both without a body, as Squid does: a node of
  driver ``squid``, whose mark it sets (``Purgeline-Cache``). Only loopback clients may; others get 403. A
  fetch under way when the purge comes is not stored.

Every object is also a file in *folder*, see `release.lab.cachestore`.
"""

import argparse
import asyncio
import ipaddress
import re
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from release.lab.cachestore import Store, Stored

OBJECT_MAX_BYTES = 16 * 1024 * 1024
FETCH_TIMEOUT_S = 30.0

_STORABLE = frozenset({200, 203, 204, 301, 308, 404, 410})
_NEVER = re.compile(r"\b(no-store|no-cache|private)\b", re.IGNORECASE)
_AGE = {name: re.compile(rf"\b{name}\s*=\s*\"?(\d+)", re.IGNORECASE) for name in ("s-maxage", "max-age")}
_HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("content-length", "age"),  # both are ours to say
    }
)
_NONCE = "Purgeline-Nonce"
_PASSED_ON = (
    "User-Agent",
    "Accept",
    "Range",
    "Authorization",
    "Cookie",
    "If-None-Match",
    "If-Modified-Since",
)


class CacheProxy:
    """The proxy: a low-level handler for aiohttp's server.

    Args:
        backend: ``host:port`` of the origin, or of the proxy behind this one.
        folder: for the objects.
        node: its name in ``engine.toml``; by default that of *folder*.
    """

    def __init__(self, backend: str, folder: Path, *, node: str = "") -> None:
        self._backend = backend
        self._mark = f"squid {node or folder.name}"
        self._store = Store(folder)
        self._fetches: dict[str, asyncio.Task[Stored | None]] = {}
        self._session: aiohttp.ClientSession  # there from `start` to `stop`
        self._runner = web.ServerRunner(web.Server(self.handle, access_log=None), shutdown_timeout=1.0)

    async def start(self, port: int, *, host: str = "127.0.0.1") -> int:
        """Listen; return the port, which is a free one for port 0."""
        self._session = aiohttp.ClientSession(
            auto_decompress=False, timeout=aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S)
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, backlog=1024).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close everything."""
        for fetch in self._fetches.values():
            fetch.cancel()
        await self._runner.cleanup()
        await self._session.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        host, path = _place(request)
        if not host or not path.startswith("/"):
            return web.Response(status=400, text="needs a Host and a path\n")
        if request.method == "PURGE":
            return self._purge(request, f"{host}{path}")
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405, headers={"Allow": "GET, HEAD, PURGE"})
        try:
            return await self._get(request, host, path)
        except TimeoutError:
            return web.Response(status=504, text="the backend took too long\n")
        except aiohttp.ClientError as exc:
            return web.Response(status=502, text=f"the backend cannot be reached: {exc}\n")

    async def _get(self, request: web.BaseRequest, host: str, path: str) -> web.StreamResponse:
        key = f"{host}{path}"
        if "Range" in request.headers or "Authorization" in request.headers:
            return await self._pass(request, host, path)
        stored = self._store.get(key)
        if stored is not None:
            return _response(stored, "HIT")
        fetched = await asyncio.shield(self._fetch_once(key, host, path))
        if fetched is None or not fetched.fresh_s:  # too big, or this one client's own
            return await self._pass(request, host, path)
        return _response(fetched, "MISS")

    def _purge(self, request: web.BaseRequest, key: str) -> web.Response:
        marks = {"Purgeline-Cache": self._mark}
        if _NONCE in request.headers:
            marks[_NONCE] = request.headers[_NONCE]
        if not ipaddress.ip_address(request.remote or "::").is_loopback:
            return web.Response(status=403, text="this client may not purge\n", headers=marks)
        self._fetches.pop(key, None)  # it goes on for those who wait, but is not stored
        return web.Response(status=200 if self._store.drop(key) else 404, headers=marks)

    def _fetch_once(self, key: str, host: str, path: str) -> asyncio.Task[Stored | None]:
        fetch = self._fetches.get(key)
        if fetch is None:
            fetch = self._fetches[key] = asyncio.create_task(self._fetch(key, host, path))
            fetch.add_done_callback(lambda done: self._fetched(key, done))
        return fetch

    def _fetched(self, key: str, fetch: asyncio.Task[Stored | None]) -> None:
        is_current = self._fetches.get(key) is fetch
        if is_current:
            del self._fetches[key]
        if fetch.cancelled() or fetch.exception() is not None:
            return
        fetched = fetch.result()
        if is_current and fetched is not None and fetched.fresh_s:
            self._store.put(fetched)

    async def _fetch(self, key: str, host: str, path: str) -> Stored | None:
        """Fetch an object whole; return None for one over `OBJECT_MAX_BYTES`."""
        async with self._session.get(
            self._url(path),
            headers={"Host": host, "Accept-Encoding": "identity", "User-Agent": "purgeline-cacheproxy"},
            allow_redirects=False,
        ) as answer:
            body = bytearray()
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > OBJECT_MAX_BYTES:
                    return None
            return Stored(
                key=key,
                status=answer.status,
                headers=_end_to_end(answer.headers),
                body=bytes(body),
                since=time.time() - _number(answer.headers.get("Age", "")),
                fresh_s=fresh_s(answer.status, answer.headers),
            )

    async def _pass(self, request: web.BaseRequest, host: str, path: str) -> web.StreamResponse:
        """Send a request on and its answer back, without a look at the store."""
        headers = {"Host": host, "Accept-Encoding": "identity"}
        headers |= {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        async with self._session.request(
            request.method, self._url(path), headers=headers, allow_redirects=False
        ) as answer:
            response = web.StreamResponse(
                status=answer.status, headers=CIMultiDict(_end_to_end(answer.headers))
            )
            response.headers["X-Cache"] = "MISS"
            response.content_length = answer.content_length
            await response.prepare(request)
            if request.method == "GET":
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            await response.write_eof()
            return response

    def _url(self, path: str) -> URL:
        return URL(f"http://{self._backend}{path}", encoded=True)


def fresh_s(status: int, headers: Mapping[str, str]) -> float:
    """Return for how many seconds, from age 0 on, an answer may be served again; 0: not at all.

    ``Vary`` on anything but the encoding, which we always ask for plain, would need a second key: not stored.
    """
    control = headers.get("Cache-Control", "")
    varies = {name.strip().lower() for name in headers.get("Vary", "").split(",")} - {"", "accept-encoding"}
    if status not in _STORABLE or _NEVER.search(control) or varies or "Set-Cookie" in headers:
        return 0.0
    for pattern in _AGE.values():
        if found := pattern.search(control):
            return float(found[1])
    return 0.0


def _place(request: web.BaseRequest) -> tuple[str, str]:
    """Return host (lower case, without the default port) and request target of a request."""
    host, path = request.headers.get("Host", ""), request.raw_path
    if path.lower().startswith("http://"):  # absolute form; its host counts (RFC 9112, section 3.2.2)
        host, slash, rest = path[len("http://") :].partition("/")
        path = slash + rest or "/"
    return host.lower().removesuffix(":80"), path


def _response(stored: Stored, how: str) -> web.Response:
    headers = CIMultiDict(stored.headers)
    headers["X-Cache"] = how
    headers["Age"] = str(stored.age_s)
    return web.Response(status=stored.status, headers=headers, body=stored.body)


def _end_to_end(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    return [(name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP | named]


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


async def serve(port: int, backend: str, folder: Path) -> None:
    """Run a proxy until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    proxy = CacheProxy(backend, folder)
    try:
        await proxy.start(port)
        await stopped.wait()
    finally:
        await proxy.stop()


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(
        prog="python -m release.lab.cacheproxy", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--backend", required=True, metavar="HOST:PORT")
    parser.add_argument("--folder", type=Path, required=True)
    args = parser.parse_args(argv)
    asyncio.run(serve(args.port, args.backend, args.folder))


if __name__ == "__main__":
    main()

"""Requests of one child: sealed answers come back, or an error that says who must act."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiohttp
import msgspec
from yarl import URL

from engine.errors import NodeError
from engine.nodes.address import address_of
from engine.tree.pace import Pace
from engine.tree.seal import Asked
from engine.tree.words import (
    ABOVE,
    ANSWER_MAX_BYTES,
    BY,
    KEY,
    PATH,
    SAID_MAX_BYTES,
    SIGNATURE,
    TYPES,
    VERSION,
    VERSION_HEADER,
    WITHIN,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import NodeConfig
    from engine.tree.seal import Trusted

NONCE: Final = "Purgeline-Nonce"
_CONNECTIONS: Final = 16
_SHORT_BYTES: Final = 64 * 1024  #: a body that is written at once
_SHOWN: Final = 300
_OK: Final = 200
_REFUSED: Final = 400
_SERVER_ERROR: Final = 500
_CANCELLED: Final = frozenset({200, 404, 409})
_NOT_FOUND: Final = 404
_BUSY: Final = frozenset({429, 502, 503, 504})


class _Said(NamedTuple):
    """An answer, as it came."""

    status: int
    body: bytes
    asked: Asked  #: what it answers
    key: str
    signature: str


class LinkError(NodeError):
    """The child cannot be asked now.

    Args:
        text: why, for operators.
        is_sick: it could be reached.
    """

    def __init__(self, text: str, *, is_sick: bool) -> None:
        super().__init__(text)
        self.is_sick = is_sick


class RefusedError(NodeError):
    """The child refuses the request: an operator must act."""


class Said(NamedTuple):
    """An answer that counts."""

    body: bytes
    kid: str  #: name of the key that signed it


class Link:
    """The way to one child, over a few connections that are kept.

    Args:
        config: its node's table.
        token: that it takes; empty: none.
        trusted: the keys that its answers are checked by; None: every answer counts.
        connect_timeout_s: of a connection.
        timeout_s: of a request, beyond what a question may wait.

    Raises:
        OSError: the CA file cannot be read.
    """

    def __init__(
        self,
        config: NodeConfig,
        token: str,
        trusted: Trusted | None,
        *,
        connect_timeout_s: float,
        timeout_s: float,
    ) -> None:
        self.trusted = trusted
        self._name = config.name
        self._url = config.url.rstrip("/")
        self._tls = address_of(config).tls
        self._server_name = config.server_name or None
        self._headers = {"User-Agent": "purgeline", **config.headers}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None
        self.above: Callable[[], str] = str  #: tells the engines above this one, see `Place.above`

    def __repr__(self) -> str:
        return f"<Link to {self._name} at {self._url}>"

    async def post(self, where: str, body: bytes, *, path: str, wait_s: float = 0) -> Said:
        """Send a request and return its answer, when the child has given and signed it.

        Args:
            where: of the routes in `words`.
            body: JSON, or NDJSON.
            path: of the tasks, see `words.PATH`.
            wait_s: as long as the child may wait with its answer.

        Raises:
            LinkError: there is no answer, or a busy one.
            RefusedError: the child refuses it.
            SealError: nothing shows that the child answered.
        """
        headers = {"Content-Type": TYPES[where]}
        within_s = self._timeout_s + wait_s
        said = await self._send(
            "POST", where, body, headers, path=path, within_s=within_s, takes_its_time=True
        )
        if said.status != _OK:
            raise self._error(where, said.status, said.body)
        self._check(said)
        return Said(said.body, said.key)

    async def ask(
        self, method: str, where: str, body: bytes = b"", *, path: str, within_s: float, by: str = ""
    ) -> tuple[int, bytes]:
        """Ask any route of the child; return its status and body. One that is no error is signed.

        Args:
            method: of HTTP.
            where: path and query, as they go out.
            body: JSON; empty: none.
            path: the engines that the question came through, see `words.PATH`.
            within_s: seconds for all of it; the child is told, so that it answers before.
            by: who asks, for the child's log.

        Raises:
            LinkError: there is no answer, or a busy one.
            SealError: nothing shows that the child answered.
        """
        headers = {WITHIN: f"{within_s:.3f}"}
        if body:
            headers["Content-Type"] = "application/json"
        if by:
            headers[BY] = by
        said = await self._send(
            method, where, body, headers, path=path, within_s=within_s, most=SAID_MAX_BYTES
        )
        if said.status in _BUSY or said.status >= _SERVER_ERROR:
            raise self._error(where, said.status, said.body)
        if said.status < _REFUSED:
            self._check(said)
        return said.status, said.body

    async def cancel(self, task_id: str) -> None:
        """Cancel a task of the child; one that it does not have, or that has settled, is none to cancel.

        Raises:
            LinkError: as of `post`.
            RefusedError: as of `post`.
        """
        where = f"/v1/engine/task/{task_id}"
        said = await self._send("DELETE", where, b"", {}, path="", within_s=self._timeout_s)
        if said.status not in _CANCELLED:
            raise self._error(where, said.status, said.body)

    def _check(self, said: _Said) -> None:
        if self.trusted is not None:
            self.trusted.check(said.key, said.signature, said.asked, said.body)

    async def _send(
        self,
        method: str,
        where: str,
        body: bytes,
        headers: dict[str, str],
        *,
        path: str,
        within_s: float,
        most: int = ANSWER_MAX_BYTES,
        takes_its_time: bool = False,
    ) -> _Said:
        """Send a request; one that *takes_its_time* may last longer, as long as bytes pass."""
        nonce = secrets.token_hex(16)
        if path:
            headers |= {NONCE: nonce, PATH: path, VERSION_HEADER: str(VERSION)}
        if path and (above := self.above()):
            headers[ABOVE] = above
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s)
        data: Any = body or None
        try:
            async with asyncio.timeout(within_s) as limit:
                pace = Pace(limit, within_s) if takes_its_time else None
                if pace is not None and len(body) > _SHORT_BYTES:
                    headers["Content-Length"] = str(len(body))
                    data = pace.parts(body)
                response = await self._open().request(
                    method,
                    URL(self._url + where, encoded=True),
                    data=data,
                    headers=headers,
                    timeout=timeout,
                    allow_redirects=False,
                    ssl=self._tls or True,
                    server_hostname=self._server_name if self._tls else None,
                )
                async with response:
                    said = await self._read(response, most, pace)
                got = response.headers
                asked = Asked(nonce, method, where, body)
                return _Said(response.status, said, asked, got.get(KEY, ""), got.get(SIGNATURE, ""))
        except aiohttp.ClientConnectorError as exc:
            reason = exc.os_error.strerror or str(exc.os_error)
            raise LinkError(f"{self._url} cannot be reached: {reason}", is_sick=False) from exc
        except aiohttp.ConnectionTimeoutError as exc:
            reason = f"no connection within {self._connect_timeout_s:g} s"
            raise LinkError(f"{self._url} cannot be reached: {reason}", is_sick=False) from exc
        except TimeoutError as exc:
            raise LinkError(f"{self._url} gave no answer within {within_s:g} s", is_sick=True) from exc
        except (aiohttp.ClientError, OSError) as exc:
            reason = str(exc) or type(exc).__name__
            raise LinkError(f"{self._url} cannot be asked: {reason}", is_sick=False) from exc

    async def _read(self, response: aiohttp.ClientResponse, most: int, pace: Pace | None) -> bytes:
        """Return a body; one that is too long is not waited for."""
        parts: list[bytes] = []
        left = most
        async for part in response.content.iter_any():
            left -= len(part)
            if left < 0:
                response.close()
                raise LinkError(f"{self._url} answers with more than {most // 2**20} MiB", is_sick=True)
            parts.append(part)
            if pace is not None:
                pace.read(len(part))
        return b"".join(parts)

    def _error(self, where: str, status: int, body: bytes) -> NodeError:
        said = detail_of(body)
        text = f"{self._url} answered {status}{f': {said}' if said else ''}"
        if status in _BUSY or status >= _SERVER_ERROR:
            return LinkError(text, is_sick=True)
        if status == _NOT_FOUND:
            text = (
                f"{self._url} has no {where}: {self._name} is no engine, or of a version before the tree. "
                "It has to speak the tree's protocol: bring it up to this engine's"
            )
        return RefusedError(f"refused: {text}")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=60)
            self._session = aiohttp.ClientSession(
                connector=connector, headers=self._headers, auto_decompress=False, trust_env=False
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def detail_of(body: bytes) -> str:
    """Return what a problem document says, in one line."""
    try:
        problem = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    detail = problem.get("detail", "") if isinstance(problem, dict) else ""
    return " ".join(str(detail).split())[:_SHOWN]

"""Requests of one child: sealed answers come back, or an error that says who must act."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from engine.errors import NodeError
from engine.nodes.address import address_of
from engine.tree.words import ABOVE, KEY, PATH, SIGNATURE, TYPES, VERSION, VERSION_HEADER

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from engine.config.tables import NodeConfig
    from engine.tree.seal import Trusted

NONCE: Final = "Purgeline-Nonce"
_CONNECTIONS: Final = 16
_SHOWN: Final = 300
_SERVER_ERROR: Final = 500
_OK: Final = 200
_CANCELLED: Final = frozenset({200, 404, 409})
_NOT_FOUND: Final = 404
_BUSY: Final = frozenset({429, 502, 503, 504})


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
        self.above: Collection[str] = ()  #: engines that are known to be above this one, see `Place`

    def __repr__(self) -> str:
        return f"<Link to {self._name} at {self._url}>"

    async def post(self, where: str, body: bytes, *, path: str, wait_s: float = 0) -> bytes:
        """Send a request and return its answer's body, when the child has given and signed it.

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
        nonce = secrets.token_hex(16)
        headers = {NONCE: nonce, PATH: path, VERSION_HEADER: str(VERSION), "Content-Type": TYPES[where]}
        if self.above:
            headers[ABOVE] = ",".join(self.above)
        status, got, said = await self._exchange("POST", where, body, headers, wait_s)
        if status != _OK:
            raise self._error(where, status, said)
        if self.trusted is not None:
            self.trusted.check(got.get(KEY, ""), got.get(SIGNATURE, ""), nonce, said)
        return said

    async def cancel(self, task_id: str) -> None:
        """Cancel a task of the child; one that it does not have, or that has settled, is none to cancel.

        Raises:
            LinkError: as of `post`.
            RefusedError: as of `post`.
        """
        where = f"/v1/engine/task/{task_id}"
        status, _, said = await self._exchange("DELETE", where, b"", {}, 0)
        if status not in _CANCELLED:
            raise self._error(where, status, said)

    async def _exchange(
        self, method: str, where: str, body: bytes, headers: dict[str, str], wait_s: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body of an answer, whoever gave it."""
        timeout = aiohttp.ClientTimeout(total=self._timeout_s + wait_s, sock_connect=self._connect_timeout_s)
        try:
            async with self._open().request(
                method,
                self._url + where,
                data=body or None,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                ssl=self._tls or True,
                server_hostname=self._server_name if self._tls else None,
            ) as response:
                said = await response.read()
                return response.status, response.headers, said
        except aiohttp.ClientConnectorError as exc:
            reason = exc.os_error.strerror or str(exc.os_error)
            raise LinkError(f"{self._url} cannot be reached: {reason}", is_sick=False) from exc
        except aiohttp.ConnectionTimeoutError as exc:
            reason = f"no connection within {self._connect_timeout_s:g} s"
            raise LinkError(f"{self._url} cannot be reached: {reason}", is_sick=False) from exc
        except TimeoutError as exc:
            raise LinkError(f"{self._url} gave no answer within {self._timeout_s:g} s", is_sick=True) from exc
        except (aiohttp.ClientError, OSError) as exc:
            reason = str(exc) or type(exc).__name__
            raise LinkError(f"{self._url} cannot be asked: {reason}", is_sick=False) from exc

    def _error(self, where: str, status: int, body: bytes) -> NodeError:
        said = _detail_of(body)
        text = f"{self._url} answered {status}{f': {said}' if said else ''}"
        if status in _BUSY or status >= _SERVER_ERROR:
            return LinkError(text, is_sick=True)
        if status == _NOT_FOUND:
            text = (
                f"{self._url} has no {where}: {self._name} is no engine, or of a version before the tree. "
                f"It has to speak version {VERSION} of the tree's protocol: bring it up to this engine's"
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


def _detail_of(body: bytes) -> str:
    """Return what a problem document says, in one line."""
    try:
        problem = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    detail = problem.get("detail", "") if isinstance(problem, dict) else ""
    return " ".join(str(detail).split())[:_SHOWN]

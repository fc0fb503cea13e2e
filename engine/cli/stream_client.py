"""A connection to one engine for what comes bit by bit."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Final

from engine.client.connection import explain
from engine.client.errors import UnreachableError, refusal_of

if TYPE_CHECKING:
    from engine.client.address import Address

_PAUSE_MAX_S: Final = 5.0  #: within which an engine says at least that it lives


class StreamConnection:
    """One stream after the other.

    Args:
        address: the engine's.
        token: bearer token; empty sends none.
        timeout_s: for a connect, and for each wait for bytes, which is longer than an engine's pauses.
    """

    def __init__(self, address: Address, token: str, timeout_s: float) -> None:
        self._address = address
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._connect_s = timeout_s
        self._read_s = max(timeout_s, _PAUSE_MAX_S)
        kind = http.client.HTTPSConnection if address.is_tls else http.client.HTTPConnection
        self._connection = kind(address.host, address.port, timeout=timeout_s)

    def close(self) -> None:
        """Close it; the next stream opens it again."""
        self._connection.close()

    def stream(self, path: str) -> http.client.HTTPResponse:
        """Ask for a stream, and return the response to read it from; the one before is over.

        Raises:
            UnreachableError: nothing answers.
            RefusedError: the answer is not a success.
        """
        self.close()
        try:
            self._connection.connect()
        except (OSError, UnicodeError) as exc:
            self.close()
            raise UnreachableError(self._address.url, explain(exc, self._connect_s), sent=False) from exc
        self._connection.sock.settimeout(self._read_s)
        try:
            self._connection.request("GET", self._address.prefix + path, headers=self._headers)
            response = self._connection.getresponse()
            if response.status == http.client.OK:
                return response
            content = response.read()
        except (http.client.HTTPException, OSError) as exc:
            raise UnreachableError(self._address.url, self._explain(exc), sent=True) from exc
        raise refusal_of(response.status, response.headers, content)

    def _explain(self, exc: Exception) -> str:
        match exc:
            case http.client.IncompleteRead() | http.client.RemoteDisconnected():
                return "the connection closed before the whole answer came"
            case http.client.HTTPException():
                return "what answers there does not speak HTTP"
            case _:
                return explain(exc, self._read_s)

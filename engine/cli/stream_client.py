"""A connection to one engine for what comes bit by bit."""

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING, Final

from engine.client.connection import Connection, Timeouts
from engine.client.errors import UnreachableError, refusal_of

if TYPE_CHECKING:
    from engine.client.address import Address

_PAUSE_MAX_S: Final = 5.0  #: within which an engine says at least that it lives


class StreamConnection(Connection):
    """One stream after the other.

    Args:
        address: the engine's.
        token: bearer token; empty sends none.
        timeout_s: for a connect, and for each wait for bytes, which is longer than an engine's pauses.
    """

    def __init__(self, address: Address, token: str, timeout_s: float) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        super().__init__(address, headers, Timeouts(timeout_s, max(timeout_s, _PAUSE_MAX_S)))

    def stream(self, path: str) -> http.client.HTTPResponse:
        """Ask for a stream, and return the response to read it from; the one before is over.

        Raises:
            UnreachableError: nothing answers.
            RefusedError: the answer is not a success.
        """
        self.close()
        self._connect(time.monotonic() + self._timeouts.connect_s)
        assert self._connection.sock is not None
        self._connection.sock.settimeout(self._timeouts.read_s)
        try:
            self._connection.request("GET", self._address.prefix + path, headers=self._headers)
            response = self._connection.getresponse()
            if response.status == http.client.OK:
                return response
            content = response.read()
        except (http.client.HTTPException, OSError) as exc:
            raise UnreachableError(self._address.url, self._explain(exc), sent=True) from exc
        raise refusal_of(response.status, response.headers, content)

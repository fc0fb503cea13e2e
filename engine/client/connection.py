"""One keep-alive connection to one engine, blocking.

It is built on `http.client` rather than aiohttp: a command makes one request after the other, and most of
what a user waits for is the start of Python.
"""

from __future__ import annotations

import contextlib
import http.client
import time
from typing import TYPE_CHECKING, NamedTuple

from engine.client.attempts import Answer, Call
from engine.client.errors import UnreachableError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from email.message import Message

    from engine.client.address import Address

ATTEMPTS_MAX = 2  #: of a request whose connection ends early
READ_BYTES = 1 << 16

_SAFE_TO_REPEAT = (
    http.client.IncompleteRead,
    BrokenPipeError,
    ConnectionResetError,
    ConnectionAbortedError,
)


class Timeouts(NamedTuple):
    """How long one attempt may wait, in seconds."""

    connect_s: float
    read_s: float  #: for each wait for bytes of an answer


class Connection:
    """Opened by the first request, and again when the engine has closed it.

    Args:
        address: the engine's.
        headers: sent with each request.
        timeouts: of each attempt.
        tls: what https is spoken with; None: the machine's certificates.
    """

    def __init__(
        self,
        address: Address,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._address = address
        self._headers = dict(headers)
        self._timeouts = timeouts
        self._connection: http.client.HTTPConnection
        if address.is_tls:
            self._connection = http.client.HTTPSConnection(address.host, address.port, context=tls)
        else:
            self._connection = http.client.HTTPConnection(address.host, address.port)
        self._waited_s = timeouts.read_s

    def close(self) -> None:
        """Close it; the next request opens it again."""
        self._connection.close()

    def exchange(self, call: Call, left_s: float) -> Answer:
        """Send one request and return its answer, whatever its status.

        Args:
            call: the request.
            left_s: for all of it.

        Raises:
            UnreachableError: nothing usable came back.
        """
        deadline = time.monotonic() + left_s
        for attempt in range(1, ATTEMPTS_MAX + 1):
            self._connect(deadline)
            try:
                return self._attempt(call, deadline)
            except (http.client.HTTPException, OSError) as exc:
                self._connection.close()
                if attempt == ATTEMPTS_MAX or not isinstance(exc, _SAFE_TO_REPEAT):
                    raise UnreachableError(self._address.url, self._explain(exc), sent=True) from exc
        raise AssertionError("the last attempt returns or raises")

    def _connect(self, deadline: float) -> None:
        try:
            if self._connection.sock is None:
                self._connection.timeout = self._within(self._timeouts.connect_s, deadline)
                self._connection.connect()
        except (OSError, UnicodeError) as exc:
            self._connection.close()
            raise UnreachableError(self._address.url, self._explain(exc), sent=False) from exc

    def _attempt(self, call: Call, deadline: float) -> Answer:
        headers = self._headers
        if call.body is not None:
            headers = {**headers, "Content-Type": call.content_type}
        self._allow(deadline)
        # An engine may answer, such as 413, before it read everything; when it did not, the next line raises.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.request(call.method, self._address.prefix + call.path, call.body, headers)
        self._allow(deadline)
        response = self._connection.getresponse()
        content = bytearray()
        while True:
            self._allow(deadline)
            piece = response.read1(READ_BYTES)
            if not piece:
                break
            content += piece
        if response.length:
            raise http.client.IncompleteRead(bytes(content), response.length)
        response.close()
        return Answer(self._address.url, response.status, _lowered(response.headers), bytes(content))

    def _allow(self, deadline: float) -> None:
        """Set how long the next bytes may take; a response that ended has taken the socket away."""
        if self._connection.sock is not None:
            self._connection.sock.settimeout(self._within(self._timeouts.read_s, deadline))

    def _within(self, timeout_s: float, deadline: float) -> float:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._waited_s = min(timeout_s, left_s)
        return self._waited_s

    def _explain(self, exc: Exception) -> str:
        match exc:
            case TimeoutError():
                return f"no answer within {self._waited_s:.3g} s"
            case http.client.IncompleteRead() | http.client.RemoteDisconnected() | ConnectionResetError():
                return "the connection closed before the whole answer came"
            case http.client.HTTPException():
                return "what answers there does not speak HTTP"
            case OSError(strerror=str(reason)):
                return reason
            case _:
                return str(exc) or type(exc).__name__


def _lowered(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}

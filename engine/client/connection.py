"""One keep-alive connection to one engine, blocking.

It stands on a bare socket, and on `exchange` for the bytes: a command makes one request after the other, and
most of what a user waits for is the start of Python. `_socket` is what `socket` is made of; that one
makes classes of some hundred constants as it is imported, an eighth of what a short command executes. https
needs it, and gets it.
"""

from __future__ import annotations

import _socket
import contextlib
import time

from engine.base.tuples import NamedTuple
from engine.client.attempts import Answer, Call
from engine.client.errors import UnreachableError
from engine.client.exchange import AnswerReader, EarlyEndError, NoHttpError, host_of, request

TYPE_CHECKING = False  # see `tuples`
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from engine.client.address import Address

ATTEMPTS_MAX = 2  #: of a request whose connection ends early
READ_BYTES = 1 << 16
PORTS = {False: 80, True: 443}  #: where an address names none, by whether it is https

_SAFE_TO_REPEAT = (EarlyEndError, BrokenPipeError, ConnectionResetError, ConnectionAbortedError)
_JOINED_MAX_BYTES = 1 << 16  #: a longer body goes out by itself


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
        self._tls = tls
        self._sock: _socket.socket | None = None
        self._reader = AnswerReader(self._receive)
        self._deadline = 0.0  # of the attempt
        self._waited_s = timeouts.read_s

    def close(self) -> None:
        """Close it; the next request opens it again."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def exchange(self, call: Call, left_s: float) -> Answer:
        """Send one request and return its answer, whatever its status.

        Args:
            call: the request.
            left_s: for all of it.

        Raises:
            UnreachableError: nothing usable came back.
        """
        self._deadline = time.monotonic() + left_s
        for attempt in range(1, ATTEMPTS_MAX + 1):
            sock = self._connected()
            try:
                return self._attempt(sock, call)
            except (NoHttpError, EarlyEndError, OSError) as exc:
                self.close()
                if attempt == ATTEMPTS_MAX or not isinstance(exc, _SAFE_TO_REPEAT):
                    why = explain(exc, self._waited_s)
                    raise UnreachableError(self._address.url, why, sent=True) from exc
        raise AssertionError("the last attempt returns or raises")

    def _connected(self) -> _socket.socket:
        if self._sock is not None:
            return self._sock
        try:
            sock = opened(self._address, lambda: self._within(self._timeouts.connect_s))
            if self._address.is_tls:
                sock = wrapped(sock, self._address.host, self._tls)
        except (OSError, UnicodeError) as exc:
            why = explain(exc, self._waited_s)
            raise UnreachableError(self._address.url, why, sent=False) from exc
        self._sock = sock
        self._reader = AnswerReader(self._receive)
        return sock

    def _attempt(self, sock: _socket.socket, call: Call) -> Answer:
        address, headers = self._address, self._headers
        if call.body is not None:
            headers = {**headers, "Content-Type": call.content_type}
        host = host_of(address.host, address.port)
        head = request(call.method, address.prefix + call.path, host=host, headers=headers, body=call.body)
        body = call.body or b""
        pieces = (head + body,) if len(body) <= _JOINED_MAX_BYTES else (head, body)
        # An engine may answer, such as 413, before it read everything; when it did not, the next line raises.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                sock.settimeout(self._within(self._timeouts.read_s))
                sock.sendall(piece)
        answer = self._reader.read(call.method)
        if not answer.keeps:
            self.close()
        return Answer(address.url, answer.status, answer.headers, answer.content)

    def _receive(self) -> bytes:
        assert self._sock is not None
        self._sock.settimeout(self._within(self._timeouts.read_s))
        return self._sock.recv(READ_BYTES)

    def _within(self, timeout_s: float) -> float:
        """Return how long the next step may take.

        Raises:
            TimeoutError: the time of the attempt is over.
        """
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._waited_s = min(timeout_s, left_s)
        return self._waited_s


def opened(address: Address, within: Callable[[], float]) -> _socket.socket:
    """Return a socket that is connected to the first place of an address that takes it.

    Args:
        address: an engine's.
        within: says how long the next connect may take, in seconds; it raises when the time is over.

    Raises:
        OSError: none does, or there is none.
    """
    port = address.port or PORTS[address.is_tls]
    # As bytes: of a text the codec for names of other scripts is imported, though an address is ASCII.
    found = _socket.getaddrinfo(address.host.encode("ascii"), port, 0, _socket.SOCK_STREAM)
    failed: OSError = OSError(f"{address.host} has no address")
    for family, kind, protocol, _, place in found:
        sock = _socket.socket(family, kind, protocol)
        try:
            sock.settimeout(within())
            sock.connect(place)
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        except OSError as exc:
            sock.close()
            failed = exc
        else:
            return sock
    raise failed


def wrapped(sock: _socket.socket, host: str, tls: ssl.SSLContext | None) -> _socket.socket:
    """Return a connected socket that speaks TLS with *host*; *tls*: see `Connection`.

    Raises:
        OSError: they do not come to terms; the socket is closed.
    """
    import socket  # noqa: PLC0415 - see above
    import ssl  # noqa: PLC0415 - as socket

    if tls is None:
        tls = ssl.create_default_context()
        tls.set_alpn_protocols(["http/1.1"])
    timeout_s = sock.gettimeout()
    whole = socket.socket(fileno=sock.detach())
    whole.settimeout(timeout_s)
    try:
        return tls.wrap_socket(whole, server_hostname=host)
    except BaseException:
        whole.close()
        raise


def explain(exc: Exception, waited_s: float) -> str:
    """Return why nothing usable came back; *waited_s*: seconds that were waited for at most."""
    match exc:
        case TimeoutError():
            return f"no answer within {waited_s:.3g} s"
        case EarlyEndError() | ConnectionResetError():
            return "the connection closed before the whole answer came"
        case NoHttpError():
            return "what answers there does not speak HTTP"
        case OSError(strerror=str(reason)):
            return reason
        case _:
            return str(exc) or type(exc).__name__

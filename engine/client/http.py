"""Operations at engines, one request after the other, blocking; standard library only."""

from __future__ import annotations

import time

from engine.client.attempts import Answer, Attempts, Call, Patience
from engine.client.connection import Connection, Timeouts
from engine.client.engines import Engines
from engine.client.errors import UnreachableError

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence
    from typing import Self, TypeVar

    from engine.client.address import Address
    from engine.client.operations import Operation

    T = TypeVar("T")


ACCEPT = "application/json"


def headers_of(token: str, accept: str = ACCEPT) -> dict[str, str]:
    """Return what each request says."""
    headers = {"Accept": accept}
    return {**headers, "Authorization": f"Bearer {token}"} if token else headers


class HttpClient:
    """A connection to each of several engines; opened when they are asked. Of one thread at a time.

    Args:
        addresses: engines, in the order they are tried.
        token: bearer token; empty sends none.
        timeouts: of each attempt.
        patience: how long a request goes on.
        tls: what https is spoken with; None: the machine's certificates.
        accept: media types of answers.
        notice: is told about each wait for engines.
        sleep: waits; for tests.
        draw: gives the jitter of waits, from 0 to 1.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        token: str,
        timeouts: Timeouts,
        patience: Patience,
        tls: ssl.SSLContext | None = None,
        accept: str = ACCEPT,
        notice: Callable[[str], None] = lambda _text: None,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] | None = None,
    ) -> None:
        self.engines = Engines(addresses)
        self.patience = patience
        headers = headers_of(token, accept)
        self._connections = [Connection(address, headers, timeouts, tls) for address in addresses]
        self._notice = notice
        self._sleep = sleep
        self._draw = draw

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.engines.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Addresses of all engines, for an error."""
        return self.engines.url

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            connection.close()

    def answer(self, call: Call, patience: Patience | None = None) -> Answer:
        """Make one request, of as many attempts as it takes, and return the answer, a success.

        Raises:
            UnreachableError: no engine answered.
            RefusedError: an engine refuses it; when it is busy, still after the attempts.
        """
        attempts = Attempts(self.engines, patience or self.patience, notice=self._notice, draw=self._draw)
        while True:
            place, pause_s, left_s = attempts.next()
            if pause_s:
                self._sleep(pause_s)
            try:
                answer = self._connections[place].exchange(call, left_s)
            except UnreachableError as exc:
                attempts.lost(place, exc)
            else:
                if attempts.accept(place, answer):
                    return answer

    def run(self, operation: Operation[T], patience: Patience | None = None) -> T:
        """Run an operation and return what it was asked for; errors as `answer`."""
        try:
            call = next(operation)
            while True:
                call = operation.send(self.answer(call, patience))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

"""Errors of the engine, branched by who must act.

`RequestError`: the client, with another request. `BacklogFullError` and `StoreError`: the client
later, and for `StoreError` the operator too. `NodeError`: us, about one cache. `ConfigError`: the
operator, before the start. Facts are attributes; the text is for people.
"""

from __future__ import annotations

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Callable


class EngineError(Exception):
    """Base of every error raised by the engine."""


class ConfigError(EngineError):
    """The configuration cannot be used; the text names the key and what it takes."""


class RequestError(EngineError):
    """A request that will never work as it is. Answered as an RFC 9457 problem document.

    Args:
        status: HTTP status, 4xx.
        detail: one sentence that names the field and what it takes.
        field: JSON path of the field, such as ``"targets[3]"``; empty when it is not about one.
        headers: further response headers, such as ``Allow``.
        hint: makes the end of the sentence that names the known word nearest to an unknown one. It compares
            with all known words, 0.1 ms and more, so it is called only for an answer that says it.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str = "",
        headers: dict[str, str] | None = None,
        hint: Callable[[], str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.field = field
        self.headers = headers or {}
        self.short = detail  #: without its hint
        self.hint = hint

    @property
    def detail(self) -> str:
        """The whole sentence, with its hint."""
        return self.short if self.hint is None else f"{self.short}{self.hint()}"


class RateLimitedError(RequestError):
    """A token spent its rate; answered with 429.

    Args:
        name: name of the token.
        retry_after_s: seconds until the next task may come.
    """

    def __init__(self, name: str, *, retry_after_s: float) -> None:
        super().__init__(
            429,
            f"token {name!r} is over its rate, retry in {retry_after_s:.1f} s",
            headers={"Retry-After": str(max(1, round(retry_after_s + 0.5)))},
        )


class BacklogFullError(EngineError):
    """Something bounded is full; the client should retry. Answered with 503.

    Args:
        backlog: name of what is full, as in the metrics.
        retry_after_s: seconds until a retry is worth it.
    """

    def __init__(self, backlog: str, *, retry_after_s: float) -> None:
        super().__init__(f"{backlog} is full, retry in {retry_after_s:g} s")
        self.backlog = backlog
        self.retry_after_s = retry_after_s


class TooManyConnectionsError(BacklogFullError):
    """A port has as many connections as it may; answered with 503.

    Args:
        most: how many that is.
    """

    def __init__(self, most: int) -> None:
        super().__init__("connections", retry_after_s=1)
        self.args = (f"there are {most} connections (connections_max); try again",)


class StoreError(EngineError):
    """The store could not read or write; what was asked may not have been saved."""


class StoreUnusableError(StoreError):
    """The store cannot be used with this configuration: waiting does not help."""


class NotCancelledError(StoreError):
    """The engine that works on a task did not say that it is cancelled; asking again is safe."""


class StoreDamagedError(StoreError):
    """The store's file is damaged; the engine does not start on it."""


class NodeError(EngineError):
    """Talking to one cache failed."""


class WireError(NodeError):
    """A cache sent bytes that are not an HTTP/1.x response."""


class RecordingError(EngineError):
    """A recording of traffic cannot be read or written."""

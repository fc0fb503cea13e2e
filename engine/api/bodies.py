"""Bodies of requests, as aiohttp's lane reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion11, web

from engine.api.answers import response_of
from engine.errors import EngineError, RequestError
from engine.intake.problems import problem

if TYPE_CHECKING:
    from engine.intake.aiohttp_lane import AiohttpLane
    from engine.intake.fast_lane import ClientConnection

_TYPES: Final = frozenset(
    {"application/json", "application/x-ndjson", "application/ndjson", "application/jsonl"}
)


class Bodies:
    """Reads bodies.

    Args:
        timeout_s: ``body_timeout_s``; a connection whose body takes longer is closed.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    async def read(self, request: web.Request) -> bytes:
        """Return the body of a request.

        Raises:
            RequestError: 415 it is no JSON or compressed, 400 it cannot be read.
            ConnectionResetError: the client has gone.
        """
        if request.content_type not in _TYPES and "Content-Type" in request.headers:
            raise RequestError(415, f"content-type: takes application/json, not {request.content_type!r}")
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise RequestError(415, "content-encoding: send the body as it is, not compressed")
        lane = lane_of(request)
        if lane is None:
            raise ConnectionResetError("the client has gone")
        try:
            async with lane.reading_body(self._timeout_s):
                return await request.read()
        except (EngineError, web.HTTPException):
            raise
        except Exception as exc:
            raise RequestError(400, f"the body cannot be read: {exc}") from exc


def lane_of(request: web.Request) -> AiohttpLane | None:
    """Return the lane that a request came by; None when its client has gone."""
    if request.transport is None:
        return None
    connection: ClientConnection = request.transport.get_protocol()  # type: ignore[assignment]
    return connection.lane


async def continue_if_expected(request: web.Request) -> web.Response | None:
    """Tell a client that waits for it to send its body."""
    expected = request.headers.get("Expect", "")
    if expected.lower() != "100-continue":
        return response_of(problem(417, f"expect: takes 100-continue, not {expected!r}"))
    if request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the response has not begun
    return None

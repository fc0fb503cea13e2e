"""Bodies of requests, as aiohttp's lane reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aiohttp import HttpVersion11, web

from engine.errors import EngineError, RequestError
from engine.intake.heads import is_json
from engine.intake.problems import too_large

if TYPE_CHECKING:
    from engine.base.protocols import StreamedProtocol
    from engine.intake.aiohttp_lane import AiohttpLane
    from engine.intake.fast_lane import ClientConnection


class Bodies:
    """Reads bodies.

    Args:
        timeout_s: ``body_timeout_s``; a connection whose body takes longer is closed.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    async def read(self, request: web.Request) -> bytes:
        """Return the body of a request, which is JSON.

        Raises:
            RequestError: 415 it is no JSON; see `read_any`.
            ConnectionResetError: the client has gone.
        """
        content_type = request.headers.get("Content-Type")
        if content_type is not None and not is_json(content_type):
            raise RequestError(415, f"content-type: takes application/json, not {content_type[:80]!r}")
        return await self.read_any(request)

    async def read_any(self, request: web.Request, *, slowest: int = 0) -> bytes:
        """Return the body of a request, of whatever type.

        Args:
            request: of a client.
            slowest: bytes a second by which a long body has more time than ``body_timeout_s``; 0: it has not.

        Raises:
            RequestError: 415 it is compressed, 413 it is too large, 400 it cannot be read.
            ConnectionResetError: the client has gone.
        """
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise RequestError(415, "content-encoding: send the body as it is, not compressed")
        if (request.content_length or 0) > request.client_max_size:
            raise too_large(request.client_max_size)
        lane = lane_of(request)
        if lane is None:
            raise ConnectionResetError("the client has gone")
        if is_continue_expected(request):
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the response has not begun
        try:
            more_s = (request.content_length or 0) / slowest if slowest else 0.0
            async with lane.reading_body(self._timeout_s + more_s):
                return await request.read()
        except (EngineError, web.HTTPException):
            raise
        except Exception as exc:
            raise RequestError(400, f"the body cannot be read: {exc}") from exc


async def leave_to_bodies(_request: web.Request) -> None:
    """Say nothing yet to a client that waits for a word: what it is refused for comes before its body."""


def lane_of(request: web.Request) -> AiohttpLane | None:
    """Return the lane that a request came by; None when its client has gone."""
    if request.transport is None:
        return None
    protocol = cast("StreamedProtocol", request.transport.get_protocol())
    return cast("ClientConnection", protocol.connection).lane


def is_continue_expected(request: web.Request) -> bool:
    """Tell whether the client waits for a word before it sends its body.

    Raises:
        RequestError: 417, it expects something else.
    """
    expected = request.headers.get("Expect", "100-continue")
    if expected.lower() != "100-continue":
        raise RequestError(417, f"expect: takes 100-continue, not {expected[:80]!r}")
    return "Expect" in request.headers and request.version == HttpVersion11

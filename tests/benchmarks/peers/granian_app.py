"""A hard peer of the intake figure: an echo on Granian's own interface, RSGI, that keeps nothing."""

from typing import Any

HEADERS = [("content-type", "application/json")]


async def app(_scope: Any, protocol: Any) -> None:
    """Answer with the body of the request."""
    protocol.response_bytes(202, HEADERS, await protocol())

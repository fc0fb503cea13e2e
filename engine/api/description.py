"""``GET /openapi.json``: what the interface is, for programs."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from engine.api import openapi
from engine.api.route import Route, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.api.route import Declares


class Description:
    """Tells of the routes of *others*, and of its own."""

    routes: Final = (
        Route(
            "GET",
            "/openapi.json",
            "openapi",
            text="the interface as OpenAPI 3.1; no token is asked for",
            answers={200: Text("application/json")},
        ),
    )

    def __init__(self, others: Sequence[Declares]) -> None:
        self._others = others

    async def openapi(self, _request: web.Request) -> web.Response:
        """Describe every route."""
        return web.Response(body=self._document, content_type="application/json")

    @cached_property
    def _document(self) -> bytes:
        """The document, made when it is first asked for: that takes 5 ms."""
        routes = [route for owner in (*self._others, self) for route in owner.routes]
        return msgspec.json.encode(openapi.document(routes))

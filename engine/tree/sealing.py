"""Answers of any route to an engine above: signed, when it asks as one, and refused where that is a loop."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from aiohttp import web

from engine.errors import EngineError, RequestError
from engine.tree.link import NONCE
from engine.tree.seal import NONCE_MAX, seal
from engine.tree.words import ABOVE, BY, KEY, PATH, SIGNATURE, VERSION, VERSION_HEADER

if TYPE_CHECKING:
    from engine.tree.place import Place

PATH_MAX: Final = 8192  #: characters of both headers that name engines
_OWN: Final = "/v1/engine/tree/"  #: what is below it signs for itself
_WHO: Final = re.compile(r"[\x21-\x7e]{1,200}")
_REFUSED: Final = 400


class Sealing:
    """Stands around all routes; see `engine.api.app.Requests`.

    Args:
        place: this engine's.
    """

    def __init__(self, place: Place) -> None:
        self._place = place

    async def check(self, request: web.BaseRequest) -> None:
        """Refuse a question that has been here.

        Raises:
            RequestError: 409, a loop, or too deep; 422, the headers are none.
        """
        if PATH in request.headers and not request.path.startswith(_OWN):
            await check_path(self._place, request, is_noted=False)

    async def sealed(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Sign an answer to an engine above, unless it is an error."""
        headers = request.headers
        nonce = headers.get(NONCE, "")
        if PATH not in headers or response.status >= _REFUSED or request.path.startswith(_OWN):
            return
        if not is_nonce(nonce) or not isinstance(response, web.Response):
            return
        body = response.body
        if not isinstance(body, bytes):
            return
        key = await self._place.key()
        what = f"{nonce} {request.method} {request.raw_path}" if isinstance(request, web.Request) else nonce
        response.headers[KEY] = key.kid
        response.headers[SIGNATURE] = seal(key, what, body)
        response.headers[VERSION_HEADER] = str(VERSION)

    def who(self, request: web.BaseRequest) -> str:
        """Return who asked an engine above for what it asks for here; empty: nobody did."""
        who = request.headers.get(BY, "")
        if PATH not in request.headers or not _WHO.fullmatch(who):
            return ""
        engines = [entry.partition("~")[0] for entry in request.headers[PATH].split(",")]
        return f"{who} at {' > '.join(engines)}"


def is_nonce(nonce: str) -> bool:
    """Tell whether an answer can be signed over it."""
    return bool(nonce) and len(nonce) <= NONCE_MAX and nonce.isascii() and nonce.isalnum()


async def check_path(place: Place, request: web.BaseRequest, *, is_noted: bool = True) -> str:
    """Return the path of a request; *is_noted*: it hands tasks down, so the engines in it are above this one.

    Raises:
        RequestError: 409 it has been here; 422 the header is missing, or is none.
    """
    headers = request.headers
    path, above = headers.get(PATH, ""), headers.get(ABOVE, "")
    if not path or len(path) + len(above) > PATH_MAX or not f"{path}{above}".isascii():
        raise RequestError(422, f"{PATH}: takes the engines that the tasks came through, by commas")
    try:
        await place.check(path, above, is_noted=is_noted)
    except RequestError:
        raise
    except EngineError as exc:
        raise RequestError(409, f"this engine can be no node of another: {exc}") from exc
    return path

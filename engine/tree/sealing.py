"""Answers of any route to an engine above: signed, when it asks as one, and refused where that is a loop."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from aiohttp import web

from engine.errors import EngineError, RequestError
from engine.tree.link import NONCE
from engine.tree.place import are_entries
from engine.tree.seal import NONCE_MAX, Asked, seal
from engine.tree.words import ABOVE, BY, KEY, PATH, SIGNATURE, VERSION, VERSION_HEADER

if TYPE_CHECKING:
    from engine.intake.auth import Token
    from engine.tree.place import Place

PATH_MAX: Final = 8192  #: characters of both headers that name engines
_OWN: Final = "/v1/engine/tree/"  #: what is below it signs for itself
_WHO: Final = re.compile(r"[\x21-\x7e]{1,200}")
_REFUSED: Final = 400
_SUBMIT: Final = "submit"  #: the scope of who hands tasks down


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
            await check_path(self._place, request)

    async def sealed(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Sign an answer to an engine above, unless it is an error."""
        headers = request.headers
        nonce = headers.get(NONCE, "")
        if PATH not in headers or response.status >= _REFUSED or request.path.startswith(_OWN):
            return
        if not is_nonce(nonce) or not isinstance(response, web.Response):
            return
        body = response.body
        if not isinstance(body, bytes) or not request.content.at_eof():  # a body that its route did not read
            return
        response.headers.update(await signature_of(self._place, request, nonce, body))

    def who(self, request: web.BaseRequest) -> str:
        """Return who asked an engine above for what it asks for here; empty: nobody did."""
        who = request.headers.get(BY, "")
        if PATH not in request.headers or not _WHO.fullmatch(who):
            return ""
        engines = [entry.partition("~")[0] for entry in request.headers[PATH].split(",")]
        return f"{who} at {' > '.join(engines)}"


async def signature_of(place: Place, request: web.BaseRequest, nonce: str, body: bytes) -> dict[str, str]:
    """Return the headers that sign *body*, the answer to a request whose own body has been read."""
    key = await place.key()
    asked = Asked(nonce, request.method, request.raw_path, await request.read())
    return {KEY: key.kid, SIGNATURE: seal(key, asked, body), VERSION_HEADER: str(VERSION)}


def is_nonce(nonce: str) -> bool:
    """Tell whether an answer can be signed over it."""
    return bool(nonce) and len(nonce) <= NONCE_MAX and nonce.isascii() and nonce.isalnum()


async def check_path(place: Place, request: web.BaseRequest, token: Token | None = None) -> str:
    """Return the path of a request.

    Args:
        place: this engine's.
        request: with it.
        token: of who may hand tasks down with it: when these may be of all sites, the engines in the path are
            above this one. None: nobody is noted.

    Raises:
        RequestError: 409 it has been here; 422 the header is missing, or is none.
    """
    is_noted = token is not None and not token.is_limited and _SUBMIT in token.scopes
    headers = request.headers
    path, above = headers.get(PATH, ""), headers.get(ABOVE, "")
    if not path or len(path) + len(above) > PATH_MAX or not are_entries(f"{path},{above}"):
        detail = f"{PATH}: takes the engines that the tasks came through, by commas, each as NAME~KEY"
        raise RequestError(422, detail)
    try:
        await place.check(path, above, is_noted=is_noted)
    except RequestError:
        raise
    except EngineError as exc:
        raise RequestError(409, f"this engine can be no node of another: {exc}") from exc
    return path

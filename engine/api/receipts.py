"""The routes of receipts: a settled task, signed, and the keys that show by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from engine.api.answers import json_response
from engine.api.route import TOKEN, Route, Text
from engine.errors import RequestError
from engine.proof.receipts import NotInstalledError
from engine.tasks.words import FINAL_STATES

if TYPE_CHECKING:
    from engine.api.find import FindTask
    from engine.proof.signer import Signer

_JOSE: Final = "application/jose"


class Key(msgspec.Struct):
    """A public key (RFC 7517, RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: Annotated[str, Meta(description="its thumbprint (RFC 7638)")]
    use: Literal["sig"]
    alg: Literal["EdDSA"]


class Keys(msgspec.Struct):
    """The keys that receipts may be signed with: of this engine, and of all that share its store."""

    keys: list[Key]


class ReceiptRoutes:
    """Handlers.

    Args:
        find: finds tasks.
        signer: signs them.
    """

    routes: Final = (
        Route(
            "GET",
            "/v1/engine/task/{id}/receipt",
            "receipt",
            "read",
            text="a settled task, signed (JWS in compact form, EdDSA): who asked, when it was accepted, each "
            "node's ack and verification; see docs/receipts.md",
            answers={200: Text(_JOSE)},
            errors={
                404: "there is no such task, it is another client's, or this engine signs nothing",
                409: "the task has not settled",
            },
        ),
        Route(
            "GET",
            "/v1/engine/keys",
            "keys",
            text="the public keys of receipts, of all engines of one store, as a JSON Web Key Set; no token "
            "is asked for",
            answers={200: Keys},
        ),
    )

    def __init__(self, find: FindTask, signer: Signer) -> None:
        self._find = find
        self._signer = signer

    async def receipt(self, request: web.Request) -> web.Response:
        """Sign a task."""
        document = await self._find.document(request.match_info["id"], request[TOKEN])
        if document["state"] not in FINAL_STATES:
            detail = f"the task is {document['state']}: a receipt is of one that is done, failed or cancelled"
            raise RequestError(409, detail)
        try:
            signed = await self._signer.sign(document)
        except NotInstalledError as exc:
            raise RequestError(404, f"this engine signs nothing: {exc}") from exc
        return web.Response(body=signed.encode(), content_type=_JOSE)

    async def keys(self, _request: web.Request) -> web.Response:
        """Show the keys."""
        return json_response({"keys": await self._signer.keys()})

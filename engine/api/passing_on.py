"""Orders for a leaf, ``eu/edge-7``: passed on to the engine of its region, with who gave them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from engine.api.below import Order, region_of
from engine.api.route import TOKEN
from engine.errors import RequestError

if TYPE_CHECKING:
    from aiohttp import web

    from engine.api.below import Below

_OWN: Final = frozenset({401, 403})
_BAD_GATEWAY: Final = 502
UNTOLD: Final = "of a leaf: the engine of its region does not answer, or takes no such orders"
"""What a 502 of the routes that pass on is described by."""


async def pass_on(
    below: Below,
    name: str,
    request: web.Request,
    method: str,
    where: str,
    *,
    body: msgspec.Struct | None = None,
) -> dict[str, Any] | None:
    """Give an order to the region of a leaf; return its answer, None: the name is no leaf's.

    Args:
        below: asks.
        name: of the node, or leaf.
        request: that is answered; its token is named in the log of the region.
        method: of HTTP.
        where: path and query there, with ``{leaf}`` where the leaf's name there stands.
        body: whose ``node`` becomes that name.

    Raises:
        RequestError: there is no such region, or what the region refuses; 502: it does not answer, or does
            not take orders with this engine's token.
    """
    found = region_of(name, below)
    if found is None:
        return None
    region, leaf = found
    where = where.replace("{leaf}", quote(leaf, safe=""))
    text = b"" if body is None else msgspec.json.encode(msgspec.structs.replace(body, node=leaf))
    by = request[TOKEN].name
    [said] = await below.ask([region], where, request, Order(by, method, text))
    if said.status in _OWN:
        detail = (
            f"{region}: {said.error}: the token of [[node]] {region!r} needs the scope admin there, "
            "for orders to its leaves"
        )
        raise RequestError(_BAD_GATEWAY, detail)
    document = said.document()
    document["node"] = name
    return document

"""The history of a leaf, ``eu/edge-7``: the engine of its region has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET

from engine.api.below import MARK, Order, one_line
from engine.api.history_page import HistoryPage
from engine.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from engine.api.below import Below
    from engine.history.entries import HistoryTask
    from engine.intake.auth import Token

_decode: Final = msgspec.json.Decoder(HistoryPage).decode


async def page_below(
    below: Below,
    region: str,
    leaf: str,
    request: web.Request,
    token: Token,
    *,
    asked: Mapping[str, str] | None = None,
) -> HistoryPage:
    """Return a page of a region's history, with its nodes as they are called here.

    Args:
        below: asks.
        region: of the leaf.
        leaf: its name there.
        request: that is answered; the rest of its query is the region's.
        token: of the client.
        asked: in place of that query.

    Raises:
        RequestError: 403, the client may see its own tasks alone, which the region cannot tell apart; what
            the region refuses; 502, it does not answer.
    """
    if token.sees_only is not None:
        detail = f"node: the tasks of a leaf are of all clients: takes a token without sites, or {region!r}"
        headers = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
        raise RequestError(403, detail, field="node", headers=headers)
    query = urlencode({**(request.query if asked is None else asked), "node": leaf})
    [said] = await below.ask([region], f"/v1/engine/history?{query}", request, Order(token.name))
    if said.error:
        said.document()  # raises
    try:
        page = _decode(said.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise RequestError(502, f"{region}: its answer cannot be read: {exc}") from None
    for task in page.tasks:
        _name(region, task)
    if page.incomplete is not UNSET:
        page.incomplete = f"{region}: {one_line(page.incomplete)}"
    return page


def _name(region: str, task: HistoryTask) -> None:
    for node in task.nodes:
        node.name = region + MARK + one_line(node.name)
    for error in task.errors:
        error.node = region + MARK + one_line(error.node)

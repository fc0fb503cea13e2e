"""From the engine's replies to aiohttp's responses."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from engine.base.futures import settle_once
from engine.intake.replies import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

_encode = msgspec.json.encode


def response_of(reply: Reply) -> web.Response:
    """Return the response that says what *reply* says."""
    response = web.Response(status=reply.status, body=reply.body, headers=dict(reply.headers))
    response.content_type = reply.content_type
    return response


def json_response(value: object) -> web.Response:
    """Return a 200 with *value* as JSON."""
    return web.Response(body=_encode(value), content_type="application/json")


def json_reply(value: object) -> Reply:
    """Return a reply of 200 with *value* as JSON."""
    return Reply(200, _encode(value))


async def reply_to(submit: Callable[[Callable[[Reply], None]], None]) -> Reply:
    """Wait for the reply to a task that is submitted.

    Args:
        submit: called with what takes the reply; the reply may come after the client has gone.
    """
    future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    submit(partial(settle_once, future))
    return await future

"""``POST /v1/engine/nodes/{name}/check``: whether a node does the purges that it answers, asked now."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from engine.api.answers import json_response
from engine.api.passing_on import UNTOLD, pass_on
from engine.api.route import Route
from engine.config.hints import did_you_mean
from engine.errors import RequestError
from engine.nodes import drivers
from engine.nodes.findings import Verdict  # noqa: TC001 - msgspec resolves the annotations
from engine.nodes.inspection import inspect_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from engine.api.below import Below
    from engine.config.tables import Config, EngineConfig, NodeConfig
    from engine.nodes.findings import Finding

_TOGETHER_MAX: Final = 4  #: checks at a time; others wait


class Checked(msgspec.Struct):
    """What a check found; it changes nothing."""

    node: str
    verdict: Verdict
    why: Annotated[str, Meta(description="in one sentence")]


class CheckRoutes:
    """Handler.

    Args:
        config: of the engine; its nodes are asked, and nothing else.
        inspect_engine: asks one that is an engine.
        below: has leaves asked.
    """

    routes: Final = (
        Route(
            "POST",
            "/v1/engine/nodes/{name}/check",
            "check_node",
            "admin",
            text="purge a page that nobody has at the node now, and say whether the answer shows that its "
            "cache itself purges, as `purgeline check-nodes` does; scope `admin`",
            answers={200: Checked},
            errors={404: "it is not configured", 502: UNTOLD},
        ),
    )

    def __init__(
        self,
        config: Config,
        inspect_engine: Callable[[NodeConfig, EngineConfig], Awaitable[Finding]],
        below: Below,
    ) -> None:
        self._config = config
        self._inspect_engine = inspect_engine
        self._below = below
        self._free = asyncio.Semaphore(_TOGETHER_MAX)

    async def check_node(self, request: web.Request) -> web.Response:
        """Ask a node."""
        name = request.match_info["name"]
        where = "/v1/engine/nodes/{leaf}/check"
        if (passed := await pass_on(self._below, name, request, "POST", where)) is not None:
            return json_response(passed)
        node = next((node for node in self._config.node if node.name == name), None)
        if node is None:
            detail = f"{name!r} is not configured: takes the name of a node of this engine"
            hint = partial(did_you_mean, name, [node.name for node in self._config.node])
            raise RequestError(404, detail, hint=hint)
        async with self._free:
            if drivers.is_engine(node):
                found = await self._inspect_engine(node, self._config.engine)
            else:
                [found] = await inspect_all(self._config, [node], url="")
        return json_response(Checked(name, found.verdict, found.why))

"""The origin of canaries, for caches: it answers with what a request says, if an engine of this store did.

Nothing is kept, so every engine answers the canaries of every other; see `engine.nodes.canary`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from engine.api.answers import response_of
from engine.api.route import Route, Text
from engine.errors import ConfigError
from engine.intake.problems import problem
from engine.nodes.canary import HEADER, MAX_AGE_S, SURROGATE_KEY

if TYPE_CHECKING:
    from engine.proof.canaries import Canaries

_HEADERS: Final = {
    "Cache-Control": f"public, max-age={MAX_AGE_S}",
    "Surrogate-Key": SURROGATE_KEY,
    "X-Content-Type-Options": "nosniff",
}
_NONE: Final = f"no canary: caches ask here with the {HEADER} of a visit by an engine"
_BACKLOG: Final = 128


def canary_route(path: str) -> Route:
    """Return the route below *path*, which a configuration names."""
    return Route(
        "GET",
        f"{path}{{canary}}",
        "answer",
        text=f"the origin of canaries, for caches: the value of the `{HEADER}` that the request carries, if "
        "an engine of this store made it; there while `[canary]` has an `interval_s` and no `listen`",
        answers={200: Text("text/plain")},
        errors={404: "no value, or one that no engine of this store made"},
        name="canary",
    )


class CanaryOrigin:
    """Answers caches.

    Args:
        canaries: tell which values are theirs.
        path: below which canaries are.
    """

    def __init__(self, canaries: Canaries, path: str) -> None:
        self._canaries = canaries
        self.routes = (canary_route(path),)

    async def answer(self, request: web.Request) -> web.Response:
        """Give the value that the request carries."""
        value = request.headers.get(HEADER, "")
        if await self._canaries.answer(value):
            return web.Response(text=value, headers=_HEADERS)
        return response_of(problem(404, _NONE, headers={"Cache-Control": "no-store"}))


class CanaryServer:
    """The origin on a port of its own, which every worker listens on.

    Args:
        origin: answers.
        listen: ``HOST:PORT``.
    """

    def __init__(self, origin: CanaryOrigin, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        self._listen = listen
        self._address = host.strip("[]"), int(port)
        app = web.Application(client_max_size=0)
        [route] = origin.routes
        app.router.add_get(route.path, origin.answer)
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None)

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: the address cannot be bound.
        """
        await self._runner.setup()
        host, port = self._address
        try:
            await web.TCPSite(self._runner, host, port, reuse_port=True, backlog=_BACKLOG).start()
        except OSError as exc:
            await self._runner.cleanup()
            raise ConfigError(
                f"canary.listen: {self._listen} cannot be bound: {exc.strerror or exc}"
            ) from exc

    async def close(self) -> None:
        """End."""
        await self._runner.cleanup()

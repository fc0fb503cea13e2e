"""One look into all workers: this one's own, and what the others answer to the same question.

A look ends with its client: whatever it has begun here and elsewhere is stopped then. A client that has gone
looks like one that has only ended its side, until something is written to it. So an answer that takes longer
than a moment begins with line ends, which JSON ignores; proxies that give up on silent servers see them, too.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec
from aiohttp import web

from engine.api.answers import json_reply, response_of
from engine.api.debug_schemas import DebugTrouble
from engine.errors import EngineError, RequestError
from engine.intake.problems import problem
from engine.intake.replies import Reply
from engine.workers.peers import worker_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from engine.api.debug_looks import Looks
    from engine.api.readiness import Readiness
    from engine.workers.peers import Peer, Peers

LOOK_S: Final = 0.2  #: whether the client is still there
_OK: Final = 200
_LATE_S: Final = (
    120.0  #: that another worker may take beyond the time that is asked for: to walk through memory
)
_FAILED: Final = 500
_GONE: Final = Reply(499, b"{}")  #: the status as other servers log it; nobody reads that answer


class Gathering:
    """Has looks taken, in this worker and in others.

    Args:
        looks: takes them here.
        peers: the other workers, under a supervisor.
        readiness: a draining engine ends its looks.
        server: value of ``Server``.
    """

    def __init__(self, looks: Looks, peers: Peers | None, readiness: Readiness, server: str) -> None:
        self._server = server
        self._looks = looks
        self._peers = peers
        self._readiness = readiness

    async def all(self, request: web.Request, name: str, asked: Any, **more: str) -> web.StreamResponse:
        """Answer with what all workers that are *asked* for show.

        Raises:
            RequestError: 404, there is no such worker; or whatever this one's look is refused with.
        """
        if request.method == "HEAD":
            return web.Response(content_type="application/json")
        others, is_own = self.chosen(asked.worker)
        look = self._gather(name, asked, others, more, is_own=is_own)
        begun = _Begun(request, self._server)
        try:
            reply = await self._while_asked(request, look, begun.beat)
        except EngineError as exc:
            if begun.response is None:
                raise
            reply = problem(_FAILED, str(exc))
        if begun.response is None:
            return response_of(reply)
        await begun.end(reply, self._looks.worker)
        return begun.response

    async def here(self, request: web.Request, name: str, asked: Any, more: dict[str, str]) -> Reply:
        """Answer another worker with what this one shows."""
        return await self._while_asked(request, self._own(name, asked, more), _nothing)

    def chosen(self, worker: int | msgspec.UnsetType) -> tuple[list[Peer], bool]:
        """Return the other workers that are asked for, and whether this one is.

        Raises:
            RequestError: 404, there is none.
        """
        slot = 0 if self._peers is None else self._peers.slot
        others = [] if self._peers is None else self._peers.others()
        if worker is msgspec.UNSET:
            return others, True
        chosen = [peer for peer in others if peer.slot == worker]
        if not chosen and worker != slot:
            raise RequestError(404, f"there is no worker {worker}; there are: {self.slots()}", field="worker")
        return chosen, worker == slot

    def slots(self) -> str:
        """Return the slots of all workers, as a text."""
        slots = {0} if self._peers is None else {self._peers.slot, *(p.slot for p in self._peers.others())}
        return ", ".join(map(str, sorted(slots)))

    def why_over(self, request: web.Request) -> str:
        """Return why a look has to end; empty: it goes on."""
        if request.transport is None or request.transport.is_closing():
            return "client"
        return "draining" if self._readiness.is_draining else ""

    async def _while_asked(
        self, request: web.Request, look: Coroutine[Any, Any, Reply], beat: Callable[[], Awaitable[None]]
    ) -> Reply:
        """Take a look until it is over, its client has gone, or the engine drains; call *beat* meanwhile."""
        task = asyncio.create_task(look)
        try:
            while True:
                await asyncio.wait({task}, timeout=LOOK_S)
                if task.done():
                    return task.result()
                if why := self.why_over(request):
                    if why == "client":
                        return _GONE
                    return problem(503, "this worker is ending", headers={"Retry-After": "1"})
                await beat()
        except ConnectionError:
            return _GONE
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _own(self, name: str, asked: Any, more: dict[str, str]) -> Reply:
        return json_reply(await self._looks.take(name, asked, more))

    async def _gather(
        self, name: str, asked: Any, others: Sequence[Peer], more: dict[str, str], *, is_own: bool
    ) -> Reply:
        tasks = [asyncio.create_task(self._ask(peer, name, asked, more)) for peer in others]
        try:
            shown: list[Any] = [await self._looks.take(name, asked, more)] if is_own else []
            found = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        shown += [part for part in found if not isinstance(part, DebugTrouble)]
        troubles = [part for part in found if isinstance(part, DebugTrouble)]
        return json_reply({"workers": shown, "troubles": troubles})

    async def _ask(self, peer: Peer, name: str, asked: Any, more: dict[str, str]) -> Any:
        """Return what another worker shows, or why it does not."""
        assert self._peers is not None
        path = worker_path("debug", name, **query_of(asked), **more)
        try:
            async with asyncio.timeout(getattr(asked, "seconds", 0) + _LATE_S):
                response = await self._peers.open(peer, path)
                async with response:
                    body = await response.read()
            document = msgspec.json.decode(body)
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as exc:
            why = f"it does not answer, it may have just begun or ended: {exc!r}"
            return DebugTrouble(f"{peer.slot}.{peer.generation}", why)
        if response.status == _OK:
            return document
        return DebugTrouble(f"{peer.slot}.{peer.generation}", refusal(response.status, document))


class _Begun:
    """The answer to a look that takes longer than a moment.

    Attributes:
        response: None until it has begun.
    """

    def __init__(self, request: web.Request, server: str) -> None:
        self.response: web.StreamResponse | None = None
        self._request = request
        self._server = server

    async def beat(self) -> None:
        """Begin the answer, or say in it that the look goes on."""
        if self.response is None:
            headers = {"Server": self._server, "Cache-Control": "no-store"}
            response = web.StreamResponse(headers=headers)
            response.content_type = "application/json"
            await response.prepare(self._request)
            self.response = response
        await self.response.write(b"\n")

    async def end(self, reply: Reply, worker: str) -> None:
        """Say what the look came to."""
        assert self.response is not None
        body: bytes = reply.body
        if reply.status != _OK:
            trouble = DebugTrouble(worker, refusal(reply.status, msgspec.json.decode(body)))
            body = msgspec.json.encode({"workers": [], "troubles": [trouble]})
        with contextlib.suppress(ConnectionError):
            await self.response.write(body)


async def _nothing() -> None:
    """Another worker waits without a word."""


def query_of(asked: Any) -> dict[str, object]:
    """Return a query as another worker is asked."""
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in msgspec.structs.asdict(asked).items()
        if name != "worker" and value is not msgspec.UNSET
    }


def refusal(status: int, document: Any) -> str:
    """Return why another worker refuses."""
    detail = document.get("detail") if isinstance(document, dict) else None
    return str(detail or f"it answered {status}")

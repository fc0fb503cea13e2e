"""The routes that look into a running engine, for ``purgeline debug``; see docs/debug.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from aiohttp import web

from engine.api.answers import response_of
from engine.api.debug_gathering import Gathering
from engine.api.debug_looks import Looks
from engine.api.debug_queries import HeapQuery, LoopQuery, ProfileQuery, SecondsQuery, WireQuery, WorkerQuery
from engine.api.debug_schemas import (
    DebugGc,
    DebugHeap,
    DebugLoop,
    DebugProfile,
    DebugTask,
    DebugTasks,
    DebugThreads,
    DebugTrouble,
    DebugWire,
)
from engine.api.debug_trace import GcTrace
from engine.api.openapi import NDJSON
from engine.api.route import QUERY, TOKEN, Lines, Route
from engine.debugging.collector import DebugGcPass
from engine.errors import RequestError
from engine.intake.problems import problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.api.debug_task import TaskLook
    from engine.api.readiness import Readiness
    from engine.intake.replies import Reply
    from engine.nodes.node import Node
    from engine.workers.peers import Peers

_NO_WORKER: Final = "there is no such worker"
_BUSY: Final = "it is looked at already"
_BASE: Final = "/v1/engine/debug"
_QUERIES: Final[dict[str, type[msgspec.Struct]]] = {
    "threads": WorkerQuery,
    "tasks": WorkerQuery,
    "gc": SecondsQuery,
    "loop": LoopQuery,
    "profile": ProfileQuery,
    "heap": HeapQuery,
    "wire": WireQuery,
    "task": WorkerQuery,
}


_Q = TypeVar("_Q", bound=msgspec.Struct)


class DebugRoutes:
    """Handlers, for clients and for other workers.

    Args:
        nodes: name → node.
        task_look: looks for a task.
        peers: the other workers, under a supervisor.
        readiness: a draining engine ends its looks.
        server: value of ``Server``.
    """

    routes: Final = (
        Route(
            "GET",
            f"{_BASE}/threads",
            "threads",
            "admin",
            WorkerQuery,
            text="the threads of each worker: what each waits for, and where it is; scope `admin`",
            answers={200: DebugThreads},
            errors={404: _NO_WORKER},
        ),
        Route(
            "GET",
            f"{_BASE}/tasks",
            "loop_tasks",
            "admin",
            WorkerQuery,
            text="the asyncio tasks of each worker: those that wait at one place together; scope `admin`",
            answers={200: DebugTasks},
            errors={404: _NO_WORKER},
        ),
        Route(
            "GET",
            f"{_BASE}/gc",
            "gc",
            "admin",
            SecondsQuery,
            text="the garbage collector of each worker: passes, what they found, their pauses while it is "
            "looked at; scope `admin`",
            answers={200: DebugGc},
            errors={404: _NO_WORKER},
        ),
        Route(
            "GET",
            f"{_BASE}/gc/trace",
            "gc_trace",
            "admin",
            SecondsQuery,
            text="a line for each pass of the garbage collector, as it ends (NDJSON); scope `admin`",
            answers={200: Lines((DebugGcPass, DebugTrouble))},
            errors={404: _NO_WORKER},
        ),
        Route(
            "GET",
            f"{_BASE}/loop",
            "loop",
            "admin",
            LoopQuery,
            text="how late the loop of each worker is, and what kept it busy for long; scope `admin`",
            answers={200: DebugLoop},
            errors={404: _NO_WORKER, 409: _BUSY},
        ),
        Route(
            "GET",
            f"{_BASE}/profile",
            "profile",
            "admin",
            ProfileQuery,
            text="where the threads of each worker are, sampled: by function and stack; scope `admin`",
            answers={200: DebugProfile},
            errors={404: _NO_WORKER, 409: _BUSY},
        ),
        Route(
            "GET",
            f"{_BASE}/heap",
            "heap",
            "admin",
            HeapQuery,
            text="what each worker has in memory: objects by type, what grew, and on request which lines "
            "allocate; scope `admin`",
            answers={200: DebugHeap},
            errors={404: _NO_WORKER, 409: _BUSY},
        ),
        Route(
            "GET",
            f"{_BASE}/nodes/{{name}}/wire",
            "wire",
            "admin",
            WireQuery,
            text="what passes between each worker and a cache from now on: requests and answers, with their "
            "times, without secrets; scope `admin`",
            answers={200: DebugWire},
            errors={404: "there is no such node, or worker", 409: _BUSY},
        ),
        Route(
            "GET",
            f"{_BASE}/task/{{id}}",
            "task",
            "admin",
            WorkerQuery,
            text="all that is known of a task: which worker or engine has it, where its subtasks are, node "
            "by node, and what they wait for; scope `admin`",
            answers={200: DebugTask},
            errors={404: "there is no such task, or worker"},
        ),
    )

    def __init__(
        self,
        nodes: Mapping[str, Node],
        task_look: TaskLook,
        peers: Peers | None,
        readiness: Readiness,
        *,
        server: str,
    ) -> None:
        worker = "0.0" if peers is None else f"{peers.slot}.{peers.generation}"
        self._looks = Looks(worker, nodes, task_look)
        self._find = task_look.find
        self._gathering = Gathering(self._looks, peers, readiness, server)
        self._trace = GcTrace(worker, self._gathering, peers, server)

    async def threads(self, request: web.Request) -> web.StreamResponse:
        """Show the threads."""
        return await self._gathering.all(request, "threads", request[QUERY])

    async def loop_tasks(self, request: web.Request) -> web.StreamResponse:
        """Show the tasks of the loops."""
        return await self._gathering.all(request, "tasks", request[QUERY])

    async def gc(self, request: web.Request) -> web.StreamResponse:
        """Show the garbage collectors."""
        return await self._gathering.all(request, "gc", request[QUERY])

    async def loop(self, request: web.Request) -> web.StreamResponse:
        """Show the loops."""
        return await self._gathering.all(request, "loop", request[QUERY])

    async def profile(self, request: web.Request) -> web.StreamResponse:
        """Show where the threads are."""
        return await self._gathering.all(request, "profile", request[QUERY])

    async def heap(self, request: web.Request) -> web.StreamResponse:
        """Show what is in memory."""
        return await self._gathering.all(request, "heap", request[QUERY])

    async def wire(self, request: web.Request) -> web.StreamResponse:
        """Show what passes between the workers and a node."""
        node = self._looks.node_of(request.match_info["name"])
        return await self._gathering.all(request, "wire", request[QUERY], node=node.name)

    async def task(self, request: web.Request) -> web.StreamResponse:
        """Show all that is known of a task."""
        task_id = request.match_info["id"]
        try:
            await self._find.document(task_id, request[TOKEN])
        except RequestError as exc:
            where = f"in the memory and the stores of worker {self._gathering.slots()}"
            raise RequestError(exc.status, f"{exc}; it was looked for {where}") from exc
        return await self._gathering.all(request, "task", request[QUERY], task=task_id)

    async def gc_trace(self, request: web.Request) -> web.StreamResponse:
        """Stream the passes of the garbage collectors."""
        if request.method == "HEAD":
            return web.Response(content_type=NDJSON)
        others, is_own = self._gathering.chosen(request[QUERY].worker)
        return await self._trace.stream(request, request[QUERY], others, is_own=is_own)

    async def here(self, request: web.Request) -> Reply:
        """Answer another worker, which has been asked for a look."""
        name = request.match_info["look"]
        if name not in _QUERIES:
            return problem(404, "the version of this worker has no such look")
        asked, more = _read(request, _QUERIES[name])
        return await self._gathering.here(request, name, asked, more)

    async def gc_trace_here(self, request: web.Request) -> web.StreamResponse:
        """Stream the passes of this worker's garbage collector to another one."""
        try:
            asked, _ = _read(request, SecondsQuery)
        except msgspec.ValidationError as exc:
            return response_of(problem(422, str(exc)))
        return await self._trace.stream(request, asked, [], is_own=True)


def _read(request: web.Request, kind: type[_Q]) -> tuple[_Q, dict[str, str]]:
    """Return the structure of a query that another worker has checked, and what else is asked for."""
    known = {field.name for field in msgspec.structs.fields(kind)}
    query = dict(request.query)
    asked = msgspec.convert(
        {name: value for name, value in query.items() if name in known}, kind, strict=False
    )
    return asked, {name: value for name, value in query.items() if name not in known}

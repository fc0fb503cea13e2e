"""The task routes: hand in, find, cancel, list.

The fast lane of `engine.intake` takes ``POST`` requests that are plain; these handlers take the same requests
when they are not, and all others.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engine.api.answers import json_response, reply_to, response_of
from engine.api.below import MARK, NONE_BELOW
from engine.api.history import HistoryQuery
from engine.api.history_page import HistoryPage
from engine.api.leaf_tasks import add_leaves
from engine.api.preview import Preview
from engine.api.query import Time  # noqa: TC001 - msgspec resolves the annotations
from engine.api.route import QUERY, TOKEN, Either, Lines, Route
from engine.api.schemas import Accepted, FoundTask, TasksPage
from engine.errors import RequestError
from engine.intake.problems import Problem
from engine.intake.task_body import TaskBody
from engine.tasks.document_types import TaskDocument
from engine.tasks.words import Action, State  # noqa: TC001 - msgspec resolves the annotations

if TYPE_CHECKING:
    from aiohttp import web

    from engine.api.below import Below
    from engine.api.bodies import Bodies
    from engine.api.callers import Callers
    from engine.api.cancel import CancelTask
    from engine.api.find import FindTask
    from engine.api.history import HistoryRoutes
    from engine.api.listing import ListTasks
    from engine.api.preview import PreviewTask
    from engine.intake.admission import Admission
    from engine.observe.audit import Audit


class SubmitQuery(msgspec.Struct):
    """``POST /v1/engine/task``."""

    dry_run: Annotated[
        Literal["0", "1"],
        Meta(description="1: nothing is stored or sent, the answer says what the task would do"),
    ] = "0"


class FindQuery(msgspec.Struct):
    """``GET /v1/engine/task/{id}``."""

    leaves: Annotated[
        Literal["0", "1"],
        Meta(description="1: what the leaves below nodes that are engines did, which these are asked for"),
    ] = "0"


class TasksQuery(msgspec.Struct):
    """``GET /v1/engine/tasks``; what the history is asked for means the same here."""

    state: Annotated[State | UnsetType, Meta(description="only these")] = UNSET
    target: Annotated[str, Meta(description="tasks that cover it, as in the history")] = ""
    host: Annotated[str, Meta(description="tasks with targets of it")] = ""
    node: Annotated[str, Meta(description="tasks that went to it")] = ""
    by: Annotated[str, Meta(description="tasks of this token, or from this address")] = ""
    action: Annotated[Action | UnsetType, Meta(description="only these")] = UNSET
    since: Annotated[Time | UnsetType, Meta(description="tasks created then, or later")] = UNSET
    until: Annotated[Time | UnsetType, Meta(description="tasks created then, or before")] = UNSET
    limit: Annotated[int, Meta(ge=1, le=1000, description="tasks of a page")] = 100
    cursor: Annotated[str, Meta(description="of the page before")] = ""


_OF_HISTORY: Final = ("target", "host", "node", "by", "action", "since", "until")
"""What the history is asked for: documents have the first of their targets alone."""


_decode_page = msgspec.json.Decoder(HistoryPage).decode


class TaskRoutes:
    """Handlers of ``/v1/engine/task`` and ``/v1/engine/tasks``."""

    routes: Final = (
        Route(
            "POST",
            "/v1/engine/task",
            "submit",
            "submit",
            SubmitQuery,
            text="hand one task in; with `dry_run=1` see what it would do: the nodes and what they are sent, "
            "those that are skipped and why, the hosts that it covers, and what comes back to the origin",
            takes=TaskBody,
            answers={202: Accepted, 200: Either((TaskDocument, Preview))},
            errors={
                409: "the id is taken by another body, or by another client",
                429: "the token is over its rate; `Retry-After`",
            },
        ),
        Route(
            "POST",
            "/v1/engine/tasks",
            "submit_lines",
            "submit",
            text="hand tasks in, one a line of NDJSON; the answers come as NDJSON, line by line in the same "
            "order, blank lines left out. A line that is refused has its number in `line` and before "
            "its `detail`; the first unknown name of a request is answered with the nearest known one, "
            "the others without",
            takes=Lines((TaskBody,)),
            answers={200: Lines((Accepted, TaskDocument, Problem))},
        ),
        Route(
            "GET",
            "/v1/engine/task/{id}",
            "find",
            "read",
            FindQuery,
            text="the task and its progress",
            answers={200: FoundTask},
            errors={404: "there is no such task, or it is another client's"},
        ),
        Route(
            "DELETE",
            "/v1/engine/task/{id}",
            "cancel",
            "submit",
            text="cancel what has no answer yet: nothing of the task is sent again",
            answers={200: TaskDocument},
            errors={
                404: "there is no such task, or it is another client's",
                409: "the task has settled, and nothing is left to cancel",
            },
        ),
        Route(
            "GET",
            "/v1/engine/tasks",
            "list",
            "read",
            TasksQuery,
            text="tasks, newest first; with a Redis cluster of which a master is away, the tasks of the "
            "others, and `missing_regions`. All but `state`, `limit` and `cursor` ask the history, which "
            "tells in `incomplete` when some of it is missing",
            answers={200: TasksPage},
            errors={404: "the engine keeps no history, and is asked for what only that can tell"},
        ),
    )

    def __init__(
        self,
        callers: Callers,
        audit: Audit,
        bodies: Bodies,
        admission: Admission,
        *,
        find: FindTask,
        cancel: CancelTask,
        listing: ListTasks,
        preview: PreviewTask,
        history: HistoryRoutes,
        below: Below = NONE_BELOW,
    ) -> None:
        self._callers = callers
        self._audit = audit
        self._bodies = bodies
        self._admission = admission
        self._find = find
        self._cancel = cancel
        self._listing = listing
        self._preview = preview
        self._history = history
        self._below = below

    async def submit(self, request: web.Request) -> web.Response:
        """Take one task in, or say what it would do."""
        client = self._callers.client(request)
        asked: SubmitQuery = request[QUERY]
        body = await self._bodies.read(request)
        if asked.dry_run == "1":
            return json_response(await self._preview.preview(body, client.token))
        return response_of(await reply_to(partial(self._admission.submit, body, client)))

    async def submit_lines(self, request: web.Request) -> web.Response:
        """Take NDJSON in, a task per line."""
        client = self._callers.client(request)
        body = await self._bodies.read(request)
        return response_of(await reply_to(partial(self._admission.submit_lines, body, client)))

    async def find(self, request: web.Request) -> web.Response:
        """Show a task."""
        asked: FindQuery = request[QUERY]
        token = request[TOKEN]
        document = await self._find.with_callback(request.match_info["id"], token)
        if asked.leaves == "1":
            await add_leaves(document, self._below, request, by=token.name)
        return json_response(document)

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel what has no answer of a task, and show it."""
        document = await self._cancel.cancel(request.match_info["id"], request[TOKEN])
        self._audit.cancelled(document, self._callers.client(request).by)
        return json_response(document)

    async def list(self, request: web.Request) -> web.Response:
        """Show a page: tasks in memory, newest first, then stored ones; a cursor asks for the next page."""
        asked: TasksQuery = request[QUERY]
        if any(getattr(asked, name) not in {"", UNSET} for name in _OF_HISTORY):
            return json_response(await self._listed_by_history(asked, request))
        state = None if asked.state is UNSET else asked.state
        missing: set[int] = set()
        tasks, cursor = await self._listing.page(state, asked.cursor, asked.limit, request[TOKEN], missing)
        page: dict[str, Any] = {"tasks": tasks, "cursor": cursor or None}
        if missing:
            page["missing_regions"] = sorted(missing)
        return json_response(page)

    async def _listed_by_history(self, asked: TasksQuery, request: web.Request) -> dict[str, Any]:
        """Return a page of the documents of tasks that the history has; those that are gone are left out."""
        token = request[TOKEN]
        if MARK in asked.node:
            detail = f"node: tasks that went to a leaf are in the history: history, with node={asked.node}"
            raise RequestError(422, detail, field="node")
        given = {name: getattr(asked, name) for name in ("state", "limit", "cursor", *_OF_HISTORY)}
        words = {"limit": str(asked.limit), **request.query}
        found = _decode_page(await self._history.ask(HistoryQuery(**given), words, token.sees_only or ""))
        tasks = []
        for task in found.tasks:
            with contextlib.suppress(RequestError):
                tasks.append(await self._find.document(task.task_id, token))
        page: dict[str, Any] = {"tasks": tasks, "cursor": found.cursor}
        if found.incomplete is not UNSET:
            page["incomplete"] = found.incomplete
        return page

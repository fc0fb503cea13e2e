"""The routes of retries: of one task, and of all that failed and are asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engine.api.answers import json_response, response_of
from engine.api.below import region_of
from engine.api.history import HistoryQuery
from engine.api.history_below import page_below
from engine.api.history_page import HistoryPage
from engine.api.passing_on import UNTOLD
from engine.api.query import Time, seconds
from engine.api.route import QUERY, TOKEN, Either, Route
from engine.api.schemas import NotRetried, Retried, Retries, RetriesPreview, RetryPreview
from engine.errors import RequestError, StoreError
from engine.history.question import write_cursor
from engine.intake.replies import Reply
from engine.tasks.by_target import DOOR
from engine.tasks.handed_ids import root_of
from engine.tasks.words import State

if TYPE_CHECKING:
    from aiohttp import web

    from engine.api.bodies import Bodies
    from engine.api.callers import Callers
    from engine.api.history import HistoryRoutes
    from engine.api.retry import RetryTask
    from engine.history.entries import HistoryTask
    from engine.saver.reader import StoreReader

_ACCEPTED: Final = 202
_LIMIT_S: Final = 5.0  #: after so long an answer ends where it is, and the next one goes on
_FILTERS: Final = ("node", "host", "target", "by", "reason", "since", "until")


class RetryQuery(msgspec.Struct):
    """Of both routes."""

    dry_run: Annotated[
        Literal["0", "1"], Meta(description="1: nothing is stored or sent, the answer says what would be")
    ] = "0"


class RetriesBody(msgspec.Struct, forbid_unknown_fields=True):
    """``POST /v1/engine/retries``: which tasks; at least one of the fields before `state` is given."""

    node: Annotated[
        str, Meta(description="tasks that went to it; of `eu/edge-7` those that failed at that leaf's engine")
    ] = ""
    host: Annotated[str, Meta(description="tasks with targets of it")] = ""
    target: Annotated[str, Meta(description="tasks that cover it, as in the history")] = ""
    by: Annotated[str, Meta(description="tasks of this token, or from this address")] = ""
    reason: Annotated[str, Meta(description="tasks of whose errors one has this in its reason")] = ""
    since: Annotated[Time | UnsetType, Meta(description="tasks created then, or later")] = UNSET
    until: Annotated[Time | UnsetType, Meta(description="tasks created then, or before")] = UNSET
    state: Annotated[
        Literal["failed", "partial", "cancelled"], Meta(description="only tasks in it by now")
    ] = "failed"
    limit: Annotated[int, Meta(ge=1, le=1000, description="tasks that are looked at")] = 100
    cursor: Annotated[str, Meta(description="of the answer before")] = ""


_decode_body = msgspec.json.Decoder(RetriesBody).decode
_decode_page = msgspec.json.Decoder(HistoryPage).decode


class RetryRoutes:
    """Handlers.

    Args:
        callers: tell who asks.
        bodies: reads what they ask for.
        retry: retries one task.
        history: finds those that failed.
        reader: its threads do all that takes long, so the loop goes on.
    """

    routes: Final = (
        Route(
            "POST",
            "/v1/engine/task/{id}/retry",
            "retry",
            "submit",
            RetryQuery,
            text="what failed of a task, again, see docs/retry.md",
            answers={202: Retried, 200: RetryPreview},
            errors={
                404: "there is no such task, or it is another client's",
                409: "nothing of it can be sent again: it has not settled, nothing failed, its nodes are "
                "gone, a retry is at work, or nobody knows any more what failed",
                429: "the token is over its rate; `Retry-After`",
            },
        ),
        Route(
            "POST",
            "/v1/engine/retries",
            "retry_all",
            "submit",
            RetryQuery,
            text="the same for the tasks that are asked for, newest first: the answer says which are "
            "retried, which are not, and why; its `cursor` goes on",
            takes=RetriesBody,
            answers={200: Either((Retries, RetriesPreview))},
            errors={404: "the engine keeps no history", 502: UNTOLD},
        ),
    )

    def __init__(
        self,
        callers: Callers,
        bodies: Bodies,
        retry: RetryTask,
        history: HistoryRoutes,
        reader: StoreReader,
    ) -> None:
        self._callers = callers
        self._bodies = bodies
        self._retry = retry
        self._history = history
        self._reader = reader

    async def retry(self, request: web.Request) -> web.Response:
        """Retry one task, or say what that would send."""
        client = self._callers.client(request)
        task_id = request.match_info["id"]
        if _is_dry(request):
            return json_response(await self._retry.preview(task_id, client))
        retried = await self._retry.retry(task_id, client)
        return response_of(Reply(_ACCEPTED, msgspec.json.encode(retried)))

    async def retry_all(self, request: web.Request) -> web.Response:
        """Retry the tasks that are asked for, or say what that would send."""
        is_dry = _is_dry(request)
        retry = self._retry.preview if is_dry else self._retry.retry
        asked = _asked(await self._bodies.read(request))
        client = self._callers.client(request)
        found = region_of(asked.node, self._history.below)
        if found is None:
            page = await self._page(asked, client.token.sees_only or "")
        else:
            page = await self._page_below(asked, *found, request)
        until = asyncio.get_running_loop().time() + _LIMIT_S
        retried: list[Any] = []  # `Retried`, or `RetryPreview`
        others: list[NotRetried] = []
        seen: set[str] = set()  # a task and its retries may be asked for at once
        cursor = page.cursor
        for task in page.tasks:
            if asyncio.get_running_loop().time() > until:
                break
            cursor = write_cursor(task.created_at, task.task_id)
            if not task.failed or not _has_reason(task, asked.reason) or task.task_id in seen:
                continue
            name = task.task_id if found is None else root_of(task.task_id)
            if name in seen:
                continue
            try:
                if found is not None:
                    _check_handed(task, name, found[0])
                one: Retried | RetryPreview = await retry(name, client)
            except (RequestError, StoreError) as exc:
                others.append(NotRetried(name or task.task_id, str(exc)))
                seen.add(name)
            else:
                retried.append(one)
                seen |= {one.retries, name}
        else:
            cursor = page.cursor
        answer = (len(retried), retried, others, cursor, page.incomplete)
        return json_response(RetriesPreview(True, *answer) if is_dry else Retries(*answer))

    async def _page_below(
        self, asked: RetriesBody, region: str, leaf: str, request: web.Request
    ) -> HistoryPage:
        """Return what went to a leaf: its region knows, by the ids that it was handed down under."""
        if asked.by:
            detail = f"by: a leaf's tasks came from this engine: takes no client beside {asked.node!r}"
            raise RequestError(422, detail, field="by")
        words = {"state": asked.state, "limit": str(asked.limit)}
        words |= {
            name: str(given) for name in ("host", "target", "cursor") if (given := getattr(asked, name))
        }
        for name in ("since", "until"):
            if (time := getattr(asked, name)) is not UNSET:
                words[name] = repr(seconds(time))
        return await page_below(self._history.below, region, leaf, request, request[TOKEN], asked=words)

    async def _page(self, asked: RetriesBody, only: str) -> HistoryPage:
        given = {name: getattr(asked, name) for name in (*_FILTERS, "limit", "cursor") if name != "reason"}
        times = {name: given.pop(name) for name in ("since", "until")}
        query = HistoryQuery(state=State(asked.state), **given)
        words = {name: str(value) for name, value in given.items() if value != ""} | {"state": asked.state}
        for name, time in times.items():
            if time is not UNSET:
                setattr(query, name, seconds(time))
                words[name] = repr(seconds(time))
        text = await self._history.ask(query, words, only)
        return await self._reader.read(_decode_page, text)


def _is_dry(request: web.Request) -> bool:
    asked: RetryQuery = request[QUERY]
    return asked.dry_run == "1"


def _asked(body: bytes) -> RetriesBody:
    """Return what is asked for.

    Raises:
        RequestError: 400 it is no JSON, 422 it cannot be asked for.
    """
    try:
        asked = _decode_body(body)
    except msgspec.ValidationError as exc:
        raise RequestError(422, f"body: {exc}") from None
    except msgspec.DecodeError as exc:
        raise RequestError(400, f"body: is not valid JSON: {exc}") from None
    if all(getattr(asked, name) in {"", UNSET} for name in _FILTERS):
        raise RequestError(
            422, f"body: takes at least one of {', '.join(_FILTERS)}: else all would be retried"
        )
    return asked


def _check_handed(task: HistoryTask, name: str, region: str) -> None:
    """Refuse a task of a region that this engine knows nothing of, or not which of its own it is.

    Raises:
        RequestError: 409.
    """
    if task.by.door != DOOR:
        raise RequestError(409, f"it was handed in at {region} itself: retry it there")
    if not name:
        raise RequestError(409, "it is of several tasks at once: retry these by their ids")


def _has_reason(task: HistoryTask, reason: str) -> bool:
    return not reason or any(reason in error.reason for error in task.errors)

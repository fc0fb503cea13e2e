"""``GET /v1/engine/history``: a page of this worker's history, or of all workers' as one."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import aiohttp
import msgspec
from msgspec import UNSET, Meta, UnsetType
from multidict import MultiDict

from engine.api.answers import response_of
from engine.api.below import NONE_BELOW, region_of
from engine.api.history_below import page_below
from engine.api.history_page import HistoryPage
from engine.api.passing_on import UNTOLD
from engine.api.query import QueryReader, Time, seconds
from engine.api.route import QUERY, TOKEN, Route
from engine.errors import RequestError
from engine.history.question import Question, read_cursor, read_host, read_target, write_cursor
from engine.intake.replies import Reply
from engine.tasks.words import Action, State
from engine.workers.peers import worker_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohttp import web

    from engine.api.below import Below
    from engine.history.entries import HistoryTask
    from engine.history.search import Search
    from engine.intake.auth import Token
    from engine.saver.reader import StoreReader
    from engine.workers.peers import Peer, Peers

_OK: Final = 200
_PAGES_MAX: Final = 4  #: of a short question; each may end early, see `engine.history.search`
_ONLY: Final = "only"  #: of a worker's question: name of the token whose tasks alone its client may see
_IN_STORES: Final = "stores"  #: of a worker's question: 0: only what it works on, the store is the same


class HistoryQuery(msgspec.Struct):
    """``GET /v1/engine/history``."""

    target: Annotated[
        str,
        Meta(description="tasks that cover it: a URL, `host/key`, or a host; by prefix, regex, host, too"),
    ] = ""
    host: Annotated[str, Meta(description="tasks with targets of it")] = ""
    node: Annotated[str, Meta(description="tasks that went to it")] = ""
    by: Annotated[str, Meta(description="tasks of this token, or from this address")] = ""
    action: Annotated[Action | UnsetType, Meta(description="only these")] = UNSET
    state: Annotated[State | UnsetType, Meta(description="only tasks in it by now")] = UNSET
    since: Annotated[Time | UnsetType, Meta(description="tasks created then, or later")] = UNSET
    until: Annotated[Time | UnsetType, Meta(description="tasks created then, or before")] = UNSET
    limit: Annotated[int, Meta(ge=1, le=1000, description="tasks of a page")] = 50
    cursor: Annotated[str, Meta(description="of the page before")] = ""


class HistoryRoutes:
    """Handlers of ``/v1/engine/history``, and of the same on the socket of the other workers.

    Args:
        search: answers for this worker; None: no history is kept.
        reader: its threads do all that takes long, so the loop goes on.
        peers: the other workers.
        is_shared: all workers have the same store; each has the tasks that it works on.
    """

    routes: Final = (
        Route(
            "GET",
            "/v1/engine/history",
            "page",
            "read",
            HistoryQuery,
            text="who purged what, when, and what each node made of it: tasks that cover a target, newest "
            "first; kept `history_days`",
            answers={200: HistoryPage},
            errors={404: "the engine keeps no history", 502: UNTOLD},
        ),
    )

    def __init__(
        self, search: Search | None, reader: StoreReader, *, peers: Peers | None, is_shared: bool
    ) -> None:
        self._search = search
        self._reader = reader
        self._peers = peers
        self._is_shared = is_shared
        self.below: Below = NONE_BELOW  #: asks engines of regions for the history of their leaves

    async def page(self, request: web.Request) -> web.Response:
        """Answer a client."""
        asked: HistoryQuery = request[QUERY]
        token = request[TOKEN]
        if (found := region_of(asked.node, self.below)) is not None:
            page = await page_below(self.below, *found, request, token)
            return response_of(Reply(_OK, _encode(page)))
        only = token.sees_only or ""
        return response_of(Reply(_OK, await self.ask(request[QUERY], request.query, only)))

    async def purges_of(self, url: str, limit: int, token: Token) -> tuple[list[HistoryTask], str] | None:
        """Return purges that cover a URL and that a client may see, newest first; None: no history is kept.

        With them why others may be missing; an empty text: none are.
        """
        if self._search is None:
            return None
        only = token.sees_only or ""
        found: list[HistoryTask] = []
        pages: list[HistoryPage] = []
        query = {"target": url, "action": Action.PURGE.value, "limit": str(limit)}
        for _ in range(_PAGES_MAX):
            text = await self.ask(_READER.read(MultiDict(query)), query, only)
            page = await self._reader.read(_decode, text)
            pages.append(page)
            found += page.tasks
            if not page.cursor or len(found) >= limit:
                break
            query["cursor"] = page.cursor
        return found[:limit], why_incomplete(pages)

    async def ask(self, asked: HistoryQuery, query: Mapping[str, str], only: str) -> bytes:
        """Return a page of all workers' history, as JSON.

        Args:
            asked: the query.
            query: the same, as its client wrote it.
            only: name of the token whose tasks alone the client may see; empty: it may see all.

        Raises:
            RequestError: 422, it cannot be asked for; 404, no history is kept.
            StoreError: the store cannot be read.
        """
        question = question_of(asked, only)
        parts = [self._reader.read(self._answer, question)]
        if self._peers is not None:
            own = {_ONLY: only, _IN_STORES: 0 if self._is_shared else 1}
            path = worker_path("history", **query, **own)
            parts += [self._ask(self._peers, peer, path) for peer in self._peers.others()]
        texts = await asyncio.gather(*parts)
        return texts[0] if len(texts) == 1 else await self._reader.read(_merged, texts, question.limit)

    async def page_here(self, request: web.Request) -> Reply:
        """Answer another worker, which has checked what its client may see."""
        query = MultiDict(request.query)
        only, in_stores = query.pop(_ONLY), query.pop(_IN_STORES)
        question = question_of(_READER.read(query), only)
        answer = partial(self._answer, question, in_stores=in_stores != "0")
        return Reply(_OK, await self._reader.read(answer))

    def _answer(self, question: Question, *, in_stores: bool = True) -> bytes:
        search = self._search
        if search is None:
            raise RequestError(404, "this engine keeps no history: engine.history_days is 0")
        page = search.page(question, in_stores=in_stores)
        since = round(search.complete_since(), 3) if in_stores else 0.0
        incomplete = page.missing or search.error or UNSET
        return _encode(HistoryPage(page.tasks, page.cursor or None, incomplete, since))

    async def _ask(self, peers: Peers, peer: Peer, path: str) -> bytes:
        try:
            reply = await peers.ask(peer, "GET", path)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return _missing("a worker of this engine does not answer")
        if reply.status == _OK:
            return reply.body
        return _missing("a worker of this engine cannot read its history")


_READER: Final = QueryReader(HistoryQuery)
_decode = msgspec.json.Decoder(HistoryPage).decode
_encode = msgspec.json.encode


def question_of(asked: HistoryQuery, only: str) -> Question:
    """Return what a query asks for.

    Args:
        asked: the query.
        only: name of the token whose tasks alone the client may see; empty: it may see all.

    Raises:
        RequestError: 422; target, host or cursor is none.
    """
    if asked.target:
        read_target(asked.target)
    return Question(
        target=asked.target,
        host=read_host(asked.host) if asked.host else "",
        node=asked.node,
        by=asked.by,
        only=only,
        action="" if asked.action is UNSET else asked.action.value,
        state="" if asked.state is UNSET else asked.state.value,
        since=0.0 if asked.since is UNSET else seconds(asked.since),
        until=math.inf if asked.until is UNSET else seconds(asked.until),
        limit=asked.limit,
        before=read_cursor(asked.cursor),
    )


def why_incomplete(pages: Sequence[HistoryPage]) -> str:
    """Return why tasks may be missing in pages that follow each other; an empty text: none are."""
    said = [page.incomplete for page in pages if page.incomplete is not UNSET]
    return said[0] if said else "older ones were not looked for" if pages[-1].cursor else ""


def _missing(why: str) -> bytes:
    return _encode(HistoryPage([], None, why))


def _merged(texts: Sequence[bytes], limit: int) -> bytes:
    """Return the pages of workers as one; each task once: two workers of a slot have the same files."""
    pages = [_decode(text) for text in texts]
    ends = [read_cursor(page.cursor) for page in pages if page.cursor]
    end = max(ends, default=(-1.0, ""))  # before that a worker has not looked
    tasks: dict[tuple[float, str], HistoryTask] = {}
    for task in (task for page in pages for task in page.tasks if _order(task) >= end):
        known = tasks.setdefault(_order(task), task)
        if known.updated_at < task.updated_at:
            tasks[_order(task)] = task
    orders = sorted(tasks, reverse=True)
    if len(orders) > limit:
        end = orders[limit - 1]
        del orders[limit:]
    cursor = write_cursor(*end) if ends or len(tasks) > limit else None
    incomplete = next((page.incomplete for page in pages if page.incomplete), UNSET)
    since = max((page.complete_since for page in pages), default=0.0)
    return _encode(HistoryPage([tasks[order] for order in orders], cursor, incomplete, since))


def _order(task: HistoryTask) -> tuple[float, str]:
    return (task.created_at, task.task_id)

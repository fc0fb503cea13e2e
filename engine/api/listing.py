"""Listing tasks, a page at a time: of this worker, of all workers, or of a store that engines share."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec

from engine.api import cursors
from engine.api.find import private_document
from engine.errors import StoreError
from engine.history.question import read_cursor, write_cursor
from engine.tasks import stored_documents
from engine.tasks.records import FIRST_PAGE
from engine.workers.peers import GONE, worker_path

if TYPE_CHECKING:
    from engine.intake.auth import Token
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.tasks.records import PageStart
    from engine.tasks.region import RegionMap
    from engine.tasks.task import Task
    from engine.workers.peers import Peer, Peers

_OK: Final = 200
_CURSOR_REFUSED: Final = 422
_SCAN_TASKS: Final = 20_000  #: tasks one page of a filtered listing looks at

Documents = list[dict[str, Any]]
Page = tuple[Documents, str]
"""Documents, and the cursor of the next page or an empty text."""


class ListTasks:
    """Lists tasks.

    Args:
        regions: the tasks in memory.
        savers: their stores have the settled ones.
        reader: reads the stores.
        peers: the other workers, where each has a store of its own.
        is_shared: the store has the tasks of all engines.
    """

    def __init__(
        self,
        regions: RegionMap,
        savers: SaverPool,
        reader: StoreReader,
        *,
        peers: Peers | None,
        is_shared: bool,
    ) -> None:
        self._regions = regions
        self._savers = savers
        self._reader = reader
        self._peers = peers
        self._is_shared = is_shared

    async def page(self, state: str | None, cursor: str, limit: int, token: Token, missing: set[int]) -> Page:
        """Return a page of public documents, and the cursor of the next page or nothing.

        Worker by worker; of each the tasks in memory, newest first, then the stored ones. Regions of a shared
        store that cannot be read are left out, and added to *missing*.

        Raises:
            RequestError: 422, the cursor is none of ours.
            StoreError: the store cannot be read.
        """
        only = token.sees_only
        if self._is_shared:
            page, following = await self._page_of_store(state, cursor, limit, missing, only)
        elif self._peers is None or not self._peers.others():
            page, following = await self.page_here(state, cursor, limit, only)
        else:
            page, following = await self._page_of_all(self._peers, state, cursor, limit, only)
        shown = [document for document in page if token.may_see(document.get("token", ""))]
        return list(map(stored_documents.public, shown)), following

    # Several workers

    async def _page_of_all(
        self, peers: Peers, state: str | None, cursor: str, limit: int, only: str | None
    ) -> Page:
        first, inner = cursors.parse_of_worker(cursor)
        workers = peers.all()
        for place in range(first, len(workers)):
            worker = workers[place]
            if worker.generation == peers.generation:
                page, inner = await self.page_here(state, inner, limit, only)
            else:
                page, inner = await self._page_of_other(worker, state, inner, limit, only)
            if inner:
                return page, cursors.of_worker(place, inner)
            if page:
                is_last = place + 1 == len(workers)
                return page, "" if is_last else cursors.of_worker(place + 1, "")
        return [], ""

    async def _page_of_other(
        self, worker: Peer, state: str | None, cursor: str, limit: int, only: str | None
    ) -> Page:
        assert self._peers is not None
        path = worker_path("tasks", limit=limit, state=state or "", token=only or "", cursor=cursor)
        try:
            reply = await self._peers.ask(worker, "GET", path)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return [], ""  # it has gone; what it had is elsewhere by now
        if reply.status == GONE:
            return [], ""  # it is about to
        answer = msgspec.json.decode(reply.body)
        if reply.status == _OK:
            return answer["tasks"], answer["cursor"]
        if reply.status == _CURSOR_REFUSED:
            raise cursors.bad_cursor()
        raise StoreError(f"a worker of this engine cannot list its tasks: {answer['detail']}")

    # A shared store

    async def _page_of_store(
        self, state: str | None, cursor: str, limit: int, missing: set[int], only: str | None
    ) -> Page:
        """Return a page of a shared store; of tasks in memory what is known here."""
        store = self._savers.savers[0].store
        if cursor and not cursor.startswith(cursors.STORED):
            raise cursors.bad_cursor()
        _, place = cursors.parse_stored(cursor.removeprefix(cursors.STORED))
        at: PageStart | None = place
        listed: Documents = []
        looked_at = 0
        while at is not None and len(listed) < limit and looked_at < _SCAN_TASKS:
            want = limit - len(listed)
            page, at = await self._reader.read(store.documents, None, at, want, missing, only)
            looked_at += len(page) or _SCAN_TASKS  # without one it has looked at many itself
            for stored in map(msgspec.json.decode, page):
                task = self._committed(stored["task_id"])
                document = stored if task is None else private_document(task)
                if state is None or document["state"] == state:
                    listed.append(document)
        return listed, cursors.stored(0, at) if at is not None else ""

    def _committed(self, task_id: str) -> Task | None:
        task = self._regions.get(task_id)
        return task if task is not None and task.is_committed else None

    # This worker

    async def page_here(self, state: str | None, cursor: str, limit: int, only: str | None = None) -> Page:
        """Return a page of this worker's private documents and the next cursor; see `page`.

        With *only*, those of that token.
        """
        page: Documents = []
        if not cursor.startswith(cursors.STORED):
            tasks = self._newest(state, read_cursor(cursor), limit + 1, only)
            page = [private_document(task) for task in tasks[:limit]]
            if len(tasks) > limit:
                return page, write_cursor(page[-1]["created_at"], page[-1]["task_id"])
            cursor = cursors.STORED
        stored, following = await self._stored_page(
            state, cursor.removeprefix(cursors.STORED), limit - len(page), only
        )
        shown = {document["task_id"] for document in page}  # they may leave memory while the store is read
        return page + [document for document in stored if document["task_id"] not in shown], following

    def _newest(
        self, state: str | None, before: tuple[float, str], count: int, only: str | None
    ) -> list[Task]:
        """Return the newest tasks in memory that are older than *before*: when created, and id."""
        return heapq.nlargest(
            count,
            (
                task
                for task in self._regions.tasks()
                if task.is_committed
                and only in {None, task.token}
                and (task.created_at, task.id) < before
                and (state is None or task.state == state)
            ),
            key=lambda task: (task.created_at, task.id),
        )

    async def _stored_page(self, state: str | None, cursor: str, limit: int, only: str | None) -> Page:
        savers = self._savers.savers
        number, place = cursors.parse_stored(cursor)
        listed: Documents = []
        while number < len(savers) and len(listed) < limit:
            page, following = await self._reader.read(
                savers[number].store.documents, state, place, limit - len(listed), None, only
            )
            listed += [
                document
                for document in map(msgspec.json.decode, page)
                if self._regions.get(document["task_id"]) is None  # else it was on a page before
            ]
            if following is not None:
                place = following
                break
            number, place = number + 1, FIRST_PAGE
        return listed, cursors.stored(number, place) if number < len(savers) else ""

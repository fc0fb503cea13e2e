"""Asking the history, whichever worker has it, for what is sent once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec

from engine.errors import RequestError, StoreError
from engine.history.question import read_cursor
from engine.history.recall import FailedTask, PurgesPage, Window
from engine.intake.replies import Reply
from engine.workers.peers import worker_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from engine.history.recall import Recall
    from engine.saver.reader import StoreReader
    from engine.workers.peers import Peer, Peers

_OK: Final = 200
_KEEPS_NONE: Final = "this engine keeps no history: engine.history_days is 0"

_encode = msgspec.json.encode
_decode_failed = msgspec.json.Decoder(FailedTask | None).decode
_decode_page = msgspec.json.Decoder(PurgesPage).decode


class Recalling:
    """Asks this worker, and the others.

    Args:
        recall: answers for this worker; None: no history is kept.
        reader: its threads do all that takes long, so the loop goes on.
        peers: the other workers, where each has a store of its own.
    """

    def __init__(self, recall: Recall | None, reader: StoreReader, *, peers: Peers | None) -> None:
        self._recall = recall
        self._reader = reader
        self._peers = peers

    async def failed(self, task_id: str, created_at: float) -> FailedTask | None:
        """Return what failed of a task that has settled; None: the history does not have it.

        Raises:
            StoreError: a store cannot be read, or the worker that has it does not answer.
        """
        found = None
        if self._recall is not None:
            found = await self._reader.read(self._recall.failed, task_id, created_at)
        if found is None and self._recall is not None and self._peers is not None:
            path = worker_path("failed", task_id, at=repr(created_at))
            reply = await self._peers.ask_owner("GET", path, task_id)
            if reply is not None:
                body = self._body_of(reply.status, reply.body)
                found = await self._reader.read(_decode_failed, body)
        return found

    async def failed_here(self, request: web.Request) -> Reply:
        """Answer another worker about one task."""
        recall, query = self._needed(), request.query
        task_id, created_at = request.match_info["id"], float(query["at"])

        def answer() -> bytes:
            return _encode(recall.failed(task_id, created_at))

        return Reply(_OK, await self._reader.read(answer))

    async def purges(self, window: Window) -> AsyncIterator[PurgesPage]:
        """Yield what was purged in a window: worker by worker, of each the newest first.

        Raises:
            RequestError: 404, no history is kept.
            StoreError: a store cannot be read, or a worker does not answer.
        """
        recall = self._needed()
        cursor = ""
        while True:
            page = await self._reader.read(recall.purges, window, read_cursor(cursor))
            yield page
            cursor = page.cursor
            if not cursor:
                break
        for peer in self._peers.others() if self._peers is not None else ():
            while True:
                page = await self._ask(peer, window, cursor)
                yield page
                cursor = page.cursor
                if not cursor:
                    break

    async def _ask(self, peer: Peer, window: Window, cursor: str) -> PurgesPage:
        assert self._peers is not None
        query: dict[str, Any] = msgspec.structs.asdict(window)
        path = worker_path("purges", **query, cursor=cursor)
        try:
            reply = await self._peers.ask(peer, "GET", path)
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise StoreError(f"a worker of this engine does not answer: {exc!r}") from exc
        return await self._reader.read(_decode_page, self._body_of(reply.status, reply.body))

    async def purges_here(self, request: web.Request) -> Reply:
        """Answer another worker about a window."""
        query = dict(request.query)
        before = read_cursor(query.pop("cursor"))
        window = msgspec.convert(query, Window, strict=False)
        recall = self._needed()

        def answer() -> bytes:
            return _encode(recall.purges(window, before))

        return Reply(_OK, await self._reader.read(answer))

    def _needed(self) -> Recall:
        if self._recall is None:
            raise RequestError(404, _KEEPS_NONE)
        return self._recall

    @staticmethod
    def _body_of(status: int, body: bytes) -> bytes:
        """Return what a worker answered.

        Raises:
            StoreError: it could not tell.
        """
        if status != _OK:
            raise StoreError("a worker of this engine cannot read its history")
        return body

"""Finding tasks: in memory, in the store, and with the other workers of this engine."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import time
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec

from engine.errors import RequestError, StoreError
from engine.intake.validate import ID
from engine.tasks import documents
from engine.tasks.words import FINAL_STATES, State

if TYPE_CHECKING:
    from engine.intake.auth import Token
    from engine.process.lifecycle import Engine
    from engine.saver.saver import Saver
    from engine.tasks.task import Task
    from engine.workers.peers import Peer

_STORED: Final = "s"  #: cursor of a page that begins in the store
_CURSOR_MAX: Final = 64
_NO_PAGE: Final = 2**62
_WRITE_LIMIT_S: Final = 5.0
_ADOPT_LIMIT_S: Final = 10.0
_POLL_S: Final = 0.05
_SCAN_TASKS: Final = 20_000  #: tasks one page of a filtered listing looks at
_OK: Final = 200

Documents = list[dict[str, Any]]


class Lookup:
    """Answers questions about tasks. *Private* documents have what the store keeps besides."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._background: set[asyncio.Task[None]] = set()

    # One task

    async def document(self, task_id: str, token: Token) -> dict[str, Any]:
        """Return a task's public document, whichever worker has it.

        Raises:
            RequestError: 404, no such task, or none that *token* may see.
            StoreError: the store cannot be read, or the worker that has it does not answer.
        """
        if not ID.fullmatch(task_id):
            raise self._no_task(task_id)
        peers = self._engine.task_peers
        is_mine = peers is None or peers.is_mine(task_id)
        found = await self.here(task_id) if is_mine else None
        if found is None and peers is not None:
            found = await peers.find(task_id, is_sure=True)
            if found is None and is_mine:  # it may have come here meanwhile, or be on its way
                await self._take_up()
                found = await self.here(task_id)
        if found is None or not token.may_see(found.get("token", "")):
            raise self._no_task(task_id)
        return documents.public(found)

    async def here(self, task_id: str) -> dict[str, Any] | None:
        """Return a task's private document if this worker has it.

        What a worker before this one left is waited for, once that one has gone.
        """
        engine = self._engine
        while True:
            task = self._in_memory(task_id)
            if task is not None:
                return msgspec.to_builtins(documents.document(task, private=True))  # type: ignore[no-any-return]
            text = await engine.reader.read(engine.savers.of(task_id).store.document, task_id)
            if text is not None:
                return msgspec.json.decode(text)  # type: ignore[no-any-return]
            peers = engine.task_peers
            if engine.takeup.done.is_set() or (peers is not None and peers.has_predecessor()):
                return None
            await self._take_up()

    async def _take_up(self) -> None:
        """Wait until nothing is left that another worker accepted.

        Raises:
            StoreError: that takes long; the client should ask again.
        """
        try:
            await asyncio.wait_for(self._engine.takeup.done.wait(), _ADOPT_LIMIT_S)
        except TimeoutError:
            raise StoreError("what another worker left is not taken up yet") from None

    def _in_memory(self, task_id: str) -> Task | None:
        task = self._engine.regions.get(task_id)
        return task if task is not None and task.is_committed else None

    def _no_task(self, task_id: str) -> RequestError:
        days = self._engine.config.engine.retention_days
        return RequestError(404, f"there is no task {task_id!r}; settled ones are kept {days:g} days")

    # Cancelling

    async def cancel(self, task_id: str, token: Token) -> dict[str, Any]:
        """Cancel what was not sent of a task, and return its document.

        Raises:
            RequestError: 404 no such task that *token* may see, 409 it has settled.
            StoreError: the store fails, or the worker that has it does not answer.
        """
        if not ID.fullmatch(task_id):
            raise self._no_task(task_id)
        peers = self._engine.task_peers
        if peers is not None and (self._in_memory(task_id) is None or not peers.is_mine(task_id)):
            path = f"/worker/task/{task_id}?token={token.name}"
            reply = await peers.ask_owner("DELETE", path, task_id)
            if reply is not None:
                answer = msgspec.json.decode(reply.body)
                if reply.status == _OK:
                    return answer  # type: ignore[no-any-return]
                raise RequestError(reply.status, answer["detail"])
            if not peers.is_mine(task_id):
                raise self._no_task(task_id)
        return await self.cancel_here(task_id, token)

    async def cancel_here(self, task_id: str, token: Token) -> dict[str, Any]:
        """See `cancel`, for what this worker has."""
        engine = self._engine
        task = self._in_memory(task_id)
        if task is not None and task.is_handed:
            await self._written(engine.savers.of(task_id))
            task = None
        if task is not None and token.may_see(task.token):
            if task.state in FINAL_STATES or not engine.dispatch.cancel(task):
                raise RequestError(409, f"task {task_id!r} is {task.state}; nothing is left to cancel")
            shown = msgspec.to_builtins(documents.document(task))
            saver = engine.savers.of(task_id)
            saver.after_all(self._start_recount)
            if task.state in FINAL_STATES:  # else some of it is on its way, and is answered first
                await self._written(saver)
            return shown  # type: ignore[no-any-return]
        stored = await self.here(task_id)
        if stored is None or not token.may_see(stored.get("token", "")):
            raise self._no_task(task_id)
        if engine.cluster is not None and await self._cancel_elsewhere(task_id):
            stored = await self.here(task_id) or stored
            if stored["state"] == State.CANCELLED:
                return documents.public(stored)
        if stored["state"] != State.PARTIAL and not (engine.is_shared and stored["delayed"]):
            raise RequestError(409, f"task {task_id!r} is {stored['state']}; nothing is left to cancel")
        saver = engine.savers.of(task_id)
        saver.cancel_stored(task_id, time.time())
        saver.after_all(self._start_recount)
        await self._written(saver)  # a GET straight after this answer must see it
        return documents.public(await self.here(task_id) or stored)

    async def _cancel_elsewhere(self, task_id: str) -> bool:
        """Let the engine that works on a task cancel it; False when none does.

        Raises:
            StoreError: that engine does not do it in time; it may be dead, and others take over soon.
        """
        cluster = self._engine.cluster
        assert cluster is not None
        asked = False
        until = asyncio.get_running_loop().time() + _WRITE_LIMIT_S
        while live := await self._engine.reader.read(cluster.members.store.live, task_id):
            if not asked:
                await cluster.cancel_elsewhere(live.consumer, task_id)
                asked = True
            if asyncio.get_running_loop().time() > until:
                raise StoreError(f"the engine {live.consumer} that works on the task does not answer")
            await asyncio.sleep(_POLL_S)
        return asked

    async def _written(self, saver: Saver) -> None:
        """Wait until everything queued so far is on disk.

        Raises:
            StoreError: the store cannot be written at the moment.
        """
        await saver.flushed(self._engine.config.engine.saver_push_timeout_s + _WRITE_LIMIT_S)

    def _start_recount(self) -> None:
        task = asyncio.get_running_loop().create_task(self._recount())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _recount(self) -> None:
        """Rows were deleted without counting them."""
        with contextlib.suppress(StoreError):
            for name in self._engine.delay.names():
                await self._engine.delay.recount(name)

    # Listing

    async def page(self, state: str | None, cursor: str, limit: int, token: Token) -> tuple[Documents, str]:
        """Return a page of public documents, and the cursor of the next page or nothing.

        Worker by worker; of each the tasks in memory, newest first, then the stored ones.

        Raises:
            RequestError: 422, the cursor is none of ours.
            StoreError: the store cannot be read.
        """
        peers = self._engine.task_peers
        if self._engine.is_shared:
            found, following = await self._page_of_store(state, cursor, limit)
        elif peers is None or not peers.others():
            found, following = await self.page_here(state, cursor, limit, token)
        else:
            found, following = await self._page_of_all(peers.all(), state, cursor, limit)
        return [documents.public(one) for one in found if token.may_see(one.get("token", ""))], following

    async def _page_of_all(
        self, workers: list[Peer], state: str | None, cursor: str, limit: int
    ) -> tuple[Documents, str]:
        number, _, inner = cursor[1:].partition(":") if cursor else ("0", "", "")
        if cursor and (cursor[0] != "w" or not number.isdecimal() or len(cursor) > 2 * _CURSOR_MAX):
            raise _bad_cursor()
        peers = self._engine.task_peers
        assert peers is not None
        for place in range(int(number), len(workers)):
            worker = workers[place]
            if worker.generation == peers.generation:
                found, inner = await self.page_here(state, inner, limit)
            else:
                path = f"/worker/tasks?limit={limit}&state={state or ''}&cursor={inner}"
                try:
                    reply = await peers.ask(worker, "GET", path)
                except (aiohttp.ClientError, OSError, TimeoutError):
                    found, inner = [], ""  # it has gone; what it had is elsewhere by now
                else:
                    answer = msgspec.json.decode(reply.body)
                    found, inner = answer.get("tasks", []), answer.get("cursor", "")
            if inner:
                return found, f"w{place}:{inner}"
            if found and place + 1 < len(workers):
                return found, f"w{place + 1}:"
            if found:
                return found, ""
        return [], ""

    async def _page_of_store(self, state: str | None, cursor: str, limit: int) -> tuple[Documents, str]:
        """Return a page of a shared store; of tasks in memory what is known here."""
        engine = self._engine
        store = engine.savers.savers[0].store
        if cursor and not cursor.startswith(_STORED):
            raise _bad_cursor()
        _, before = _parse_stored_cursor(cursor.removeprefix(_STORED))
        found: Documents = []
        looked_at = 0
        while before and len(found) < limit and looked_at < _SCAN_TASKS:
            wanted = limit - len(found)
            page, before = await engine.reader.read(store.documents, None, before, wanted)
            looked_at += max(1, len(page))
            for one in map(msgspec.json.decode, page):
                task = self._in_memory(one["task_id"])
                shown = one if task is None else msgspec.to_builtins(documents.document(task, private=True))
                if state is None or shown["state"] == state:
                    found.append(shown)
        return found, f"{_STORED}0.{before}" if before else ""

    async def page_here(
        self, state: str | None, cursor: str, limit: int, token: Token | None = None
    ) -> tuple[Documents, str]:
        """Return a page of this worker's private documents and the next cursor; see `page`."""
        found: Documents = []
        if not cursor.startswith(_STORED):
            after = _cursor_time(cursor)
            tasks = heapq.nlargest(
                limit + 1,
                (
                    task
                    for task in self._engine.regions.tasks()
                    if task.is_committed
                    and (token is None or token.may_see(task.token))
                    and (task.created_at, task.id) < after
                    and (state is None or task.state == state)
                ),
                key=lambda task: (task.created_at, task.id),
            )
            found = [msgspec.to_builtins(documents.document(task, private=True)) for task in tasks[:limit]]
            if len(tasks) > limit:
                return found, f"{found[-1]['created_at']!r}~{found[-1]['task_id']}"
            cursor = _STORED
        stored, following = await self._stored_page(state, cursor.removeprefix(_STORED), limit - len(found))
        return found + stored, f"{_STORED}{following}" if following else ""

    async def _stored_page(self, state: str | None, cursor: str, limit: int) -> tuple[Documents, str]:
        engine = self._engine
        savers = engine.savers.savers
        number, before = _parse_stored_cursor(cursor)
        found: Documents = []
        while number < len(savers) and len(found) < limit:
            page, before = await engine.reader.read(
                savers[number].store.documents, state, before, limit - len(found)
            )
            found += [
                document
                for document in map(msgspec.json.decode, page)
                if engine.regions.get(document["task_id"]) is None  # those were on a page before
            ]
            if before:
                break
            number, before = number + 1, _NO_PAGE
        return found, f"{number}.{before}" if number < len(savers) else ""


def _bad_cursor() -> RequestError:
    return RequestError(422, "cursor: takes the cursor of the page before", field="cursor")


def _parse_stored_cursor(cursor: str) -> tuple[int, int]:
    if not cursor:
        return 0, _NO_PAGE
    number, _, before = cursor.partition(".")
    if not (
        len(cursor) <= _CURSOR_MAX and number.isdecimal() and before.isdecimal() and int(before) <= _NO_PAGE
    ):
        raise _bad_cursor()
    return int(number), int(before)


def _cursor_time(cursor: str) -> tuple[float, str]:
    if not cursor:
        return (math.inf, "")
    at, _, task_id = cursor.partition("~")
    try:
        created_at = float(at)
    except ValueError:
        created_at = math.nan
    if not math.isfinite(created_at):
        raise _bad_cursor()
    return (created_at, task_id)

"""One engine from start to exit.

Start order: store, savers, journal replayed, notifier, nodes, listener. Stop order is its reverse:
stop accepting and finish the requests under way, give what is on its way to nodes time to be answered,
then the savers, the notifier, the store. What could not be finished is in the store and goes on at the
next start. SIGTERM (or SIGINT) once drains; a second one stops at once: nothing acknowledged is lost
by that either, it is only done again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web
from loguru import logger

from engine import _version, logs, result
from engine.accept import Accept
from engine.api import ApiProtocol, make_app
from engine.auth import Auth
from engine.buffers import BufferPool
from engine.delay import DelayQueues, settle_once
from engine.dispatch import Dispatch
from engine.errors import ConfigError, RequestError, StoreError
from engine.intake import Gate
from engine.listener import Listener
from engine.model import FINAL_STATES, State, Task
from engine.node import Node, NodeState
from engine.notify import CallbackJob, Notifier
from engine.plan import Topology
from engine.region import RegionMap
from engine.saver import Saver, SaverPool
from engine.stats import EngineCollector, NodeSample, Stats
from engine.store import Callback
from engine.store.sqlite import SqliteStore
from engine.timer import Timer
from engine.validate import Validator, decode

if TYPE_CHECKING:
    import socket

    from engine.auth import Token
    from engine.config import Config
    from engine.store import Accepted

_GRACE_S: Final = 1.0
"""After the listener is closed: time for clients that are between two requests on a connection."""
_FORGET_EVERY_S: Final = 60.0
_READERS: Final = 4
_SAVERS_MAX: Final = 1024
_CURSOR_MAX: Final = 32
_WRITE_LIMIT_S: Final = 5.0
_NO_PAGE: Final = 2**62


class Engine:
    """Everything that runs, wired together.

    Args:
        config: checked configuration.
        log: the process's log.
    """

    def __init__(self, config: Config, log: logs.Logs) -> None:
        self.config = config
        self.logs = log
        settings = config.engine
        loop = asyncio.get_running_loop()
        self.server = f"purgeline/{_version.__version__}"
        self._loop = loop
        self._started_at = time.monotonic()
        self._stop_requested = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._is_started = False
        self._background: set[asyncio.Task[None]] = set()
        self._data_dir = Path(settings.data_dir)
        self.stats = Stats()
        self.timer = Timer(loop, granularity_s=0.01, on_error=_log_timer_error)
        self.dues = Timer(loop, on_error=_log_timer_error)
        self.regions = RegionMap(settings.region_count)
        self.auth = Auth(config.auth, config.site)
        self.notifier = Notifier(
            config.callback, config.alert, self.timer, on_settled=self._callback_over, stats=self.stats
        )
        self.dispatch = Dispatch(
            self.regions,
            self.dues,
            self.timer,
            self.stats,
            attempts_max=settings.attempts_max,
            on_alert=self._alert,
        )
        self.validator = Validator(
            Topology(config), due_s=settings.due_s, allows_callback=self.notifier.allows
        )
        self.accept = Accept(
            self.validator,
            self.regions,
            self.dispatch,
            self.stats,
            live_max=settings.live_subtasks_max,
            wait_s=settings.saver_push_timeout_s,
            waiting_max=settings.saver_backlog_count,
            on_alert=self._alert,
        )
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        self.savers = SaverPool([self._make_saver(number) for number in range(settings.saver_count)])
        self.delay = DelayQueues(self.dispatch, self._readers)
        for part in (self.accept, self.dispatch):
            part.savers = self.savers
        self.dispatch.delay = self.delay
        self.metrics = EngineCollector(
            self.stats, _version.__version__, _version.__revision__, self._node_samples
        )
        self.gate: Gate
        self._runner: web.AppRunner
        self._listener: Listener | None = None
        self._register_gauges()

    def _make_saver(self, number: int) -> Saver:
        settings = self.config.engine
        return Saver(
            SqliteStore(self._data_dir / f"tasks-{number}.db"),
            self._loop,
            backlog_count=settings.saver_backlog_count,
            push_timeout_s=settings.saver_push_timeout_s,
            on_accepted=self.accept.accepted,
            on_known=self.accept.known,
            on_saved=self.dispatch.saved,
            on_callbacks=partial(self._callbacks_written, number),
            on_late=self._settled_late,
            on_state=self._store_state,
            name=f"saver-{number}",
        )

    def _register_gauges(self) -> None:
        stats = self.stats
        stats.gauge("alert_queue", lambda: self.notifier.alerts_waiting)
        stats.gauge("input_task_queue", lambda: self.dispatch.inbox_count)
        stats.gauge("notify_queue", lambda: len(self.notifier))
        stats.gauge("pushing_queue", lambda: self.dispatch.live)
        stats.gauge("reporting_queue", lambda: self.delay.unfolded)
        stats.gauge("saver_queue", lambda: len(self.savers))
        stats.gauge("tasks_in_cache", lambda: len(self.regions))
        stats.gauge("timer_tasks", lambda: len(self.dues))
        stats.gauge("delayed", self.delay.total)
        stats.gauge("connections", lambda: len(self.gate.connections))
        stats.check()

    # Start

    async def start(self, listener: socket.socket) -> None:
        """Open the store, take up what it holds, and accept connections on *listener*.

        Raises:
            StoreError: the store cannot be used.
            ConfigError: a node's CA file cannot be read.
        """
        await self._open_stores()
        self._make_nodes()
        for saver in self.savers.savers:
            saver.start()
        await self.notifier.start()
        await self._take_up()
        await self._open_gate(listener)
        self._is_started = True
        self._loop.call_later(_FORGET_EVERY_S, self._forget)
        _calm_gc()

    async def _open_stores(self) -> None:
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StoreError(f"{self._data_dir}: cannot be made: {exc} (engine.data_dir)") from exc
        found = len(list(self._data_dir.glob("tasks-*.db")))
        if found not in {0, self.config.engine.saver_count}:
            raise StoreError(
                f"{self._data_dir} is of an engine with engine.saver_count = {found}, and that number says "
                f"which file a task is in: it cannot be {self.config.engine.saver_count} there; set it back, "
                "or set another engine.data_dir"
            )
        for saver in self.savers.savers:
            await self.delay.read(saver.store.open)

    def _make_nodes(self) -> None:
        settings = self.config.engine
        buffers = BufferPool()
        log_subtask = self.logs.subtask if settings.log_subtasks else None
        for node in self.config.node:
            try:
                self.dispatch.nodes[node.name] = Node(
                    node, self.dispatch, settings, buffers, self.timer, log_subtask=log_subtask
                )
            except OSError as exc:
                raise ConfigError(f"node {node.name!r}: ca_file: {exc}") from exc

    async def _take_up(self) -> None:
        """Go on with what the store holds: the delay queues, the callbacks, the journal's tasks.

        In that order: rows of tasks that are worked again from the start are dropped while no task can
        add new ones, and a node with rows is not ready before they are delivered.
        """
        for number, saver in enumerate(self.savers.savers):
            await self.delay.read(saver.store.drop_orphans)
            behind = await self.delay.read(saver.store.nodes_behind)
            self.delay.load(await self.delay.read(saver.store.depths), behind)
            self._callbacks_written(number, await self.delay.read(saver.store.pending_callbacks))
        for name in self.delay.names():
            await self._take_up_rows(name)
        taken = 0
        for saver in self.savers.savers:
            for seq, records in await self.delay.read(_journal_of, saver):
                if not records:
                    saver.settle_journal(seq)
                for record in records:
                    self._replay(record, seq)
                taken += len(records)
        if taken:
            logger.info("{} unfinished tasks taken up from {}", taken, self._data_dir)

    async def _take_up_rows(self, name: str) -> None:
        if name in self.dispatch.nodes:
            self.dispatch.nodes[name].start_probe()
            return
        count = self.delay.depth(name)
        logger.warning("{} is not configured any more; its {} delayed subtasks fail", name, count)
        await self.delay.drop_unknown(name)

    def _replay(self, record: Accepted, seq: int) -> None:
        try:
            task = self.validator.replay(record.id, record.body, record.created_at, record.due_s)
        except RequestError as exc:
            task = Task.internal([], owner=None, task_id=record.id)
            task.created_at, task.due_s, task.due_at = record.created_at, record.due_s, record.created_at
            task.digest, task.token = record.digest, record.token
            with contextlib.suppress(RequestError):
                task.callback = decode(record.body).callback
            self.regions.add(task)
            self.dispatch.adopt_failed(task, seq, f"cannot go on after a restart: {exc}")
            return
        task.digest, task.token = record.digest, record.token
        self.regions.add(task)
        self.dispatch.live += task.total
        self.dispatch.submit(task, seq, left_s=task.due_at - time.time())

    async def _open_gate(self, listener: socket.socket) -> None:
        settings = self.config.engine
        self._runner = web.AppRunner(make_app(self), handle_signals=False, access_log=None)
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        self.gate = Gate(
            self.accept,
            self.auth,
            lambda: ApiProtocol(
                server,
                loop=self._loop,
                access_log=None,  # type: ignore[arg-type]
                keepalive_timeout=settings.idle_timeout_s,
                max_field_size=16 * 1024,
                max_line_size=16 * 1024,
                auto_decompress=False,
                lingering_time=1,
            ),
            server=self.server,
            connections_max=settings.connections_max,
            body_max_bytes=settings.body_max_bytes,
            header_timeout_s=settings.header_timeout_s,
            body_timeout_s=settings.body_timeout_s,
            idle_timeout_s=settings.idle_timeout_s,
        )
        self._listener = Listener(listener, self.gate)
        self._listener.start()

    # Run

    def stop(self) -> None:
        """Ask for the end; a second time, at once."""
        if self._stop_requested.is_set():
            self._stop_now.set()
        self._stop_requested.set()

    async def run_until_stopped(self) -> None:
        """Wait for the first `stop`, then drain."""
        await self._stop_requested.wait()
        drain = self._loop.create_task(self.drain())
        now = self._loop.create_task(self._stop_now.wait())
        await asyncio.wait({drain, now}, return_when=asyncio.FIRST_COMPLETED)
        now.cancel()
        if not drain.done():
            logger.warning("stopping at once; unfinished work goes on at the next start")
            drain.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await drain
            await self._close(flush_s=2)
        else:
            drain.result()

    async def drain(self) -> None:
        """Stop in order, within ``drain_timeout_s``."""
        until = self._loop.time() + self.config.engine.drain_timeout_s
        logger.info("draining: no new connections; {} subtasks on their way", self.dispatch.live)
        if self._listener is not None:
            self._listener.close()
        self.gate.drain()
        limit_s = self.config.engine.drain_timeout_s
        await self.gate.wait_closed(min(_GRACE_S, limit_s / 4))
        self.gate.close_idle()
        await self.gate.wait_closed(limit_s / 2)  # a slow client may not take all of the time
        left_s = max(0.0, until - self._loop.time() - min(2.0, self.config.engine.drain_timeout_s / 4))
        if not await self.dispatch.drain(left_s):
            logger.warning("{} subtasks are not done; they go on at the next start", self.dispatch.live)
        await self._close(flush_s=max(0.5, until - self._loop.time()))

    async def _close(self, flush_s: float) -> None:
        if self._listener is not None:
            self._listener.close()
        self.dispatch.is_stopped = True
        await self.delay.stop()
        for node in self.dispatch.nodes.values():
            node.close()
        for saver in self.savers.savers:
            if not await saver.drain(flush_s):
                logger.warning("not everything could be written: {}", saver.error or "out of time")
        self.gate.close()
        await self.notifier.drain(min(flush_s, 2.0))
        await self._runner.cleanup()
        self.timer.close()
        self.dues.close()
        for saver in self.savers.savers:
            saver.stop()
            saver.store.close()
        self._readers.shutdown(wait=False, cancel_futures=True)
        logger.info("stopped")

    def _forget(self) -> None:
        """Delete settled tasks after ``retention_days``."""
        before_at = time.time() - self.config.engine.retention_days * 86400
        for saver in self.savers.savers:
            saver.forget(before_at)
        if not self.dispatch.is_stopped:
            self._loop.call_later(_FORGET_EVERY_S, self._forget)

    # Told by the parts

    def _alert(self, key: str, level: str, message: str) -> None:
        self.notifier.alert(key, level, message)  # type: ignore[arg-type]

    def _store_state(self, error: StoreError | None) -> None:
        if error is None:
            self._alert("store", "resolved", "the store can be written again")
        else:
            self.stats.store_errors += 1
            self._alert("store", "error", f"new tasks are answered 503: {error}")

    def _callbacks_written(self, number: int, callbacks: list[Callback]) -> None:
        for callback in callbacks:
            key = callback.key * _SAVERS_MAX + number  # each saver's file counts its own
            self.notifier.add(CallbackJob(key, callback.task_id, callback.url, callback.body.encode()))

    def _callback_over(self, job: CallbackJob, is_delivered: bool) -> None:
        key, number = divmod(job.key, _SAVERS_MAX)
        self.savers.savers[number].callback_over(key)

    def _settled_late(self, states: list[str]) -> None:
        done = states.count(State.DONE)
        self.stats.tasks_done += done
        self.stats.tasks_failed += len(states) - done

    # Asked by the interface

    def not_ready_reason(self) -> str:
        """Return why new requests should go elsewhere, or an empty text."""
        if not self._is_started:
            return "the engine is starting"
        if self._stop_requested.is_set():
            return "the engine is draining"
        if self.savers.error is not None:
            return f"the store fails: {self.savers.error}"
        return ""

    def version_document(self) -> dict[str, Any]:
        """Return the body of ``GET /version``."""
        return {
            "version": _version.__version__,
            "revision": _version.__revision__,
            "built_at": _version.__built_at__,
            "python": platform.python_version(),
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started_at, 3),
        }

    def node_documents(self) -> list[dict[str, Any]]:
        """Return the nodes of ``GET /v1/engine/nodes``."""
        return [
            {
                "name": node.name,
                "layer": node.layer,
                "driver": node.config.driver,
                "url": node.config.url,
                "state": _shown_state(node),
                "waiting": node.waiting_count,
                "in_flight": node.in_flight,
                "delayed": self.delay.depth(node.name),
                "oldest_delayed_s": round(self.delay.oldest_s(node.name), 3),
                "acked": node.acked,
                "refused": node.refused,
                "failed": node.failed_count,
                "last_error": node.last_error,
                "last_error_at": node.last_error_at,
            }
            for node in self.dispatch.nodes.values()
        ]

    def _node_samples(self) -> list[NodeSample]:
        self.stats.coalesced = sum(node.coalesced for node in self.dispatch.nodes.values())
        self.stats.log_lines_dropped = self.logs.dropped
        return [
            NodeSample(
                node=node.name,
                layer=node.layer,
                driver=node.config.driver,
                ready=node.state is NodeState.READY,
                waiting=node.waiting_count,
                in_flight=node.in_flight,
                delayed=self.delay.depth(node.name),
                oldest_delayed_s=self.delay.oldest_s(node.name),
            )
            for node in self.dispatch.nodes.values()
        ]

    async def stored(self, task_id: str, token: Token) -> dict[str, Any]:
        """Return a task's document from the store.

        Raises:
            RequestError: 404, no such task, or none that *token* may see.
            StoreError: the store cannot be read.
        """
        text = await self.delay.read(self.savers.of(task_id).store.document, task_id)
        stored: dict[str, Any] | None = None if text is None else msgspec.json.decode(text)
        if stored is None or not token.may_see(stored.get("token", "")):
            days = self.config.engine.retention_days
            raise RequestError(404, f"there is no task {task_id!r}; settled ones are kept {days:g} days")
        return stored

    async def stored_page(
        self, state: str | None, cursor: str, limit: int
    ) -> tuple[list[dict[str, Any]], str]:
        """Return a page of stored documents, newest first, and the cursor of the next page or nothing."""
        number, before = self._parse_cursor(cursor)
        found: list[dict[str, Any]] = []
        while number < len(self.savers.savers) and len(found) < limit:
            store = self.savers.savers[number].store
            page, before = await self.delay.read(store.documents, state, before, limit - len(found))
            found += [
                document
                for document in map(msgspec.json.decode, page)
                if self.regions.get(document["task_id"]) is None  # those were on a page before
            ]
            if before:
                break
            number, before = number + 1, _NO_PAGE
        return found, f"{number}.{before}" if number < len(self.savers.savers) else ""

    @staticmethod
    def _parse_cursor(cursor: str) -> tuple[int, int]:
        if not cursor:
            return 0, _NO_PAGE
        number, _, before = cursor.partition(".")
        if not (
            len(cursor) <= _CURSOR_MAX
            and number.isdecimal()
            and before.isdecimal()
            and int(before) <= _NO_PAGE
        ):
            raise RequestError(422, "cursor: takes the cursor of the page before", field="cursor")
        return int(number), int(before)

    async def cancel(self, task_id: str, token: Token) -> dict[str, Any]:
        """Cancel what was not sent of a task, and return its document.

        Raises:
            RequestError: 404 no such task that *token* may see, 409 it has settled.
        """
        task = self.regions.get(task_id)
        if task is not None and task.waiters is None and token.may_see(task.token):
            if task.state in FINAL_STATES or not self.dispatch.cancel(task):
                raise RequestError(409, f"task {task_id!r} is {task.state}; nothing is left to cancel")
            return msgspec.to_builtins(result.document(task))  # type: ignore[no-any-return]
        stored = await self.stored(task_id, token)
        if stored["state"] != State.PARTIAL:
            raise RequestError(409, f"task {task_id!r} is {stored['state']}; nothing is left to cancel")
        saver = self.savers.of(task_id)
        result.cancel_stored(stored)
        stored["updated_at"] = time.time()
        public = result.public(stored)
        callback = None
        if "callback" in stored:
            callback = Callback(0, task_id, stored["callback"], msgspec.json.encode(public).decode())
        saver.unpark_task(task_id)
        saver.put_document(task_id, msgspec.json.encode(stored), callback)
        self.stats.tasks_cancelled += 1
        saver.after_all(self._start_recount)
        await self._written(saver)  # a GET straight after this answer must see it
        return public

    async def _written(self, saver: Saver) -> None:
        """Wait until everything queued so far is on disk.

        Raises:
            StoreError: the store cannot be written at the moment.
        """
        written: asyncio.Future[None] = self._loop.create_future()
        saver.after_all(partial(settle_once, written))
        try:
            await asyncio.wait_for(written, self.config.engine.saver_push_timeout_s + _WRITE_LIMIT_S)
        except TimeoutError:
            raise saver.error or StoreError("the store did not write in time") from None

    def _start_recount(self) -> None:
        task = self._loop.create_task(self._recount())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _recount(self) -> None:
        """Rows were deleted without counting them."""
        with contextlib.suppress(StoreError):
            for name in self.delay.names():
                await self.delay.recount(name)


def _journal_of(saver: Saver) -> list[tuple[int, list[Accepted]]]:
    return list(saver.store.journal())


def _calm_gc() -> None:
    """Keep the garbage collector from stopping the loop.

    Tasks are freed by their reference counts, so there is little to find, and a full pass has to look at
    every live task.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 1000)


def _shown_state(node: Node) -> str:
    if node.state is NodeState.READY and node.is_refusing:
        return "refusing"
    return "returning" if node.state is NodeState.CATCHING_UP else node.state.value


def _log_timer_error(key: object, exc: Exception) -> None:
    logger.opt(exception=exc).error("timer {} failed", key)

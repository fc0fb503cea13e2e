"""One engine from start to exit.

Start order: store, nodes, savers, notifier, what the store holds, listener. Stop order is its reverse:
stop accepting and finish the requests under way, give what is on its way to nodes time to be answered,
then the savers, the notifier, the store. What could not be finished is in the store and goes on at the
next start, or in the worker after this one. SIGTERM (or SIGINT) once drains; a second one stops at once:
nothing acknowledged is lost by that either, it is only done again.

`prepare` and `accept` are apart for hot reloads: a new worker is prepared whole, and asked whether it is,
before it takes a single connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import platform
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web
from loguru import logger

from engine import _version
from engine.api import worker_api
from engine.api.app import ApiProtocol, make_app
from engine.api.find import Lookup
from engine.base.buffers import BufferPool
from engine.base.timer import Timer
from engine.delivery.dispatch import Dispatch
from engine.delivery.queues import DelayQueues
from engine.errors import ConfigError, RequestError, StoreError
from engine.intake.admission import Admission
from engine.intake.auth import Auth
from engine.intake.fast_lane import ClientConnection
from engine.intake.gate import Gate
from engine.intake.listener import Listener
from engine.intake.plan import Topology
from engine.intake.validate import Validator
from engine.nodes.health import NodeState
from engine.nodes.node import Node
from engine.notify.callbacks import CallbackJob
from engine.notify.outbox import Outbox
from engine.observe import logs, merged
from engine.observe.counters import Stats
from engine.observe.prometheus import EngineCollector, NodeSample
from engine.recovery.journal import TakeUp
from engine.saver.pool import SaverPool
from engine.saver.reader import StoreReader
from engine.saver.saver import Saver
from engine.saver.sinks import Sinks
from engine.store.layout import check_layout
from engine.store.redis.records import bare_document
from engine.store.sqlite.store import SqliteStore
from engine.tasks import documents
from engine.tasks.region import RegionMap
from engine.tasks.words import State

if TYPE_CHECKING:
    import socket

    from engine.cluster.cluster import Cluster
    from engine.config.tables import Config
    from engine.store.store import Store
    from engine.tasks.records import Accepted, Callback
    from engine.workers.peers import Peers

_GRACE_S: Final = 1.0
"""After the listener is closed: time for clients that are between two requests on a connection."""
_FORGET_EVERY_S: Final = 60.0
_TRIM_EVERY_S: Final = 1.0
_TRIM_FROM: Final = 100_000  #: live and delayed subtasks; of less there is little to hand back
_TRIM_TO: Final = 8  #: when less than 1/8 of them are left
_TRIM_AFTER_TICKS: Final = 4
_COLLECT_BELOW_TASKS: Final = 10_000  #: beyond, a look at all of them would hold up the loop


class Engine:
    """Everything that runs, wired together.

    Args:
        config: checked configuration.
        log: the process's log.
        peers: the other workers, under a supervisor.
        has_predecessor: a worker of this slot still works with the store; see `TakeUp`.
    """

    def __init__(
        self, config: Config, log: logs.Logs, *, peers: Peers | None = None, has_predecessor: bool = False
    ) -> None:
        self.config = config
        self.peers = peers
        self.logs = log
        settings = config.engine
        loop = asyncio.get_running_loop()
        self.server = f"purgeline/{_version.__version__}"
        self._loop = loop
        self._started_at = time.monotonic()
        self.drain_limit_s = settings.drain_timeout_s
        self._stop_requested = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._prepared = asyncio.Event()
        self._is_taking_over = has_predecessor
        self._data_dir = Path(settings.data_dir)
        self._backlog_peak = self._low_ticks = 0
        self.is_shared = config.store.url != "sqlite:"
        self.cluster: Cluster | None = None
        self.stats = Stats()
        self.timer = Timer(loop, granularity_s=0.01, on_error=_log_timer_error)
        self.dues = Timer(loop, on_error=_log_timer_error)
        self.regions = RegionMap(settings.region_count)
        self.auth = Auth(config.auth, config.site)
        self.notifier = Outbox(
            config.callback, config.alert, self.timer, on_settled=self._callback_over, stats=self.stats
        )
        self.dispatch = Dispatch(
            self.regions,
            self.dues,
            self.timer,
            self.stats,
            attempts_max=settings.attempts_max,
            on_alert=self._alert,
            is_shared=self.is_shared,
        )
        self.task_peers = None if self.is_shared else peers  #: a shared store shows every task to all
        task_peers = self.task_peers
        self.validator = Validator(
            Topology(config),
            due_s=settings.due_s,
            allows_callback=self.notifier.allows,
            is_ours=None if task_peers is None or task_peers.count == 1 else task_peers.is_mine,
        )
        self.accept = Admission(
            self.validator,
            self.regions,
            self.dispatch,
            self.stats,
            live_max=settings.live_subtasks_max,
            wait_s=settings.saver_push_timeout_s,
            waiting_max=settings.saver_backlog_count,
            on_alert=self._alert,
        )
        self.reader = StoreReader()
        self.savers = SaverPool([self._make_saver(number) for number in range(settings.saver_count)])
        self.delay = DelayQueues(
            self.dispatch, self.reader, ttl_s=settings.delay_ttl_s if self.is_shared else 0
        )
        for part in (self.accept, self.dispatch):
            part.savers = self.savers
        self.accept.peers = self.task_peers
        self.dispatch.delay = self.delay
        self.takeup = TakeUp(
            self.regions,
            self.dispatch,
            self.delay,
            self.validator,
            self.accept,
            reader=self.reader,
            on_callbacks=self.callbacks_written,
            is_shared=peers is not None and not self.is_shared,
            is_waiting=has_predecessor and not self.is_shared,
        )
        self.accept.taken_up = self.takeup.done
        self.lookup = Lookup(self)
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
            self._make_store(number),
            self._loop,
            Sinks(
                accepted=self.accept.accepted,
                known=self.accept.known,
                saved=self.dispatch.saved,
                callbacks=partial(self.callbacks_written, number),
                late=self._settled_late,
                state=self._store_state,
                lost=self.dispatch.lost,
            ),
            backlog_count=settings.saver_backlog_count,
            push_timeout_s=settings.saver_push_timeout_s,
            has_peers=self.peers is not None and not self.is_shared,
            name=f"saver-{number}",
        )

    def _make_store(self, number: int) -> Store:
        settings = self.config.engine
        slot = 0 if self.peers is None else self.peers.slot
        if not self.is_shared:
            path = self._data_dir / f"tasks-{slot * settings.saver_count + number}.db"
            return SqliteStore(path, has_peers=self.peers is not None)
        from engine.store.redis.open import redis_store  # noqa: PLC0415 - an embedded store needs no Redis

        store = self.config.store
        name = settings.name or f"{platform.node()}:{self.config.listen_address()[1]}"
        return redis_store(
            store.url,
            f"{name}/{slot}.{os.getpid():x}{os.urandom(3).hex()}",
            region_count=store.region_count,
            prefix=store.prefix,
            timeout_s=store.timeout_s,
            connections_max=store.connections_max,
            wait_replicas=store.wait_replicas,
            retention_s=settings.retention_days * 86400,
            describe=self._describe,
        )

    def _describe(self, record: Accepted) -> bytes:
        """Return the private document of a task that another engine has accepted."""
        try:
            task = self.validator.replay(record.id, record.body, record.created_at, record.due_s)
        except RequestError:
            return bare_document(record)
        task.digest, task.token = record.digest, record.token
        return msgspec.json.encode(documents.document(task, private=True))

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
        """Prepare, and accept connections on *listener*.

        Raises:
            StoreError, ConfigError: see `prepare`.
        """
        await self.prepare()
        self.accept_on(listener)

    async def prepare(self) -> None:
        """Open the store, and take up what it holds unless a predecessor still works on it.

        Raises:
            StoreError: the store cannot be used.
            ConfigError: a node's CA file cannot be read.
        """
        await self._open_stores()
        self._make_nodes()
        for saver in self.savers.savers:
            saver.start()
        await self.notifier.start()
        if self.cluster is None:
            await self.takeup.at_start()
        else:
            self.takeup.done.set()
            await self.cluster.join()
        await self._make_gate()
        self._prepared.set()
        self._loop.call_later(_FORGET_EVERY_S, self._forget)
        self._loop.call_later(_TRIM_EVERY_S, self._trim)
        _calm_gc()

    @property
    def is_ending(self) -> bool:
        """Whether the store is being closed, or is closed."""
        return self.dispatch.is_stopped

    async def wait_prepared(self, limit_s: float) -> None:
        """Wait until `prepare` is done.

        Raises:
            StoreError: it takes longer than *limit_s*.
        """
        try:
            await asyncio.wait_for(self._prepared.wait(), limit_s)
        except TimeoutError:
            raise StoreError("the worker is starting") from None

    def accept_on(self, listener: socket.socket) -> None:
        """Accept connections on *listener*, which listens already."""
        self._listener = Listener(listener, partial(ClientConnection, self.gate, self._loop))
        self._listener.start()

    async def adopt(self) -> None:
        """The worker before this one has gone: take up what it left.

        Raises:
            StoreError: the store cannot be read or written.
        """
        if self.cluster is None:
            await self.takeup.adopt()
        else:
            await self.cluster.look()

    async def _open_shared(self) -> None:
        from engine.cluster.cluster import Cluster  # noqa: PLC0415 - an embedded store needs no Redis
        from engine.store.redis.checks import dangers  # noqa: PLC0415
        from engine.store.redis.store import RedisStore  # noqa: PLC0415

        [saver] = self.savers.savers
        store = saver.store
        assert isinstance(store, RedisStore)
        await self.reader.read(store.open)
        settings = self.config.store
        find = partial(dangers, store.link, wait_replicas=settings.wait_replicas)
        for danger in await self.reader.read(find):
            self._alert(f"store:{danger[:40]}", "warning", danger)
        if (self._data_dir / "layout").exists():
            text = (
                f"{self._data_dir} holds an embedded store: what is unfinished in there is not worked by an "
                "engine on Redis. Move it with `purgeline migrate --from sqlite: --to …`, or remove it"
            )
            self._alert("store:embedded", "warning", text)
        name = store.consumer.partition("/")[0]
        self.cluster = Cluster(self, store, ttl_s=settings.takeover_s, name=name)

    async def _open_stores(self) -> None:
        if self.is_shared:
            await self._open_shared()
            return
        count = self.config.engine.saver_count
        slots = 1 if self.peers is None else self.peers.count
        await self.reader.read(check_layout, self._data_dir, slots, count)
        for saver in self.savers.savers:
            await self.reader.read(partial(saver.store.open, is_in_use=self._is_taking_over))

    def _make_nodes(self) -> None:
        settings = self.config.engine
        buffers = BufferPool()
        log_subtasks = self.logs.subtasks if settings.log_subtasks else None
        for node in self.config.node:
            try:
                self.dispatch.nodes[node.name] = Node(
                    node,
                    self.dispatch,
                    settings,
                    buffers,
                    self.timer,
                    stats=self.stats,
                    log_subtasks=log_subtasks,
                )
            except OSError as exc:
                raise ConfigError(f"node {node.name!r}: ca_file: {exc}") from exc

    async def _make_gate(self) -> None:
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
        """Stop in order, within `drain_limit_s`."""
        limit_s = self.drain_limit_s
        until = self._loop.time() + limit_s
        logger.info("draining: no new connections; {} subtasks on their way", self.dispatch.live)
        if self._listener is not None:
            self._listener.close()
        self.gate.drain()
        await self.gate.wait_closed(min(_GRACE_S, limit_s / 4))
        self.gate.close_idle()
        await self.gate.wait_closed(limit_s / 2)  # a slow client may not take all of the time
        left_s = max(0.0, until - self._loop.time() - min(2.0, limit_s / 4))
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
        if self.peers is not None:
            await self.peers.close()
        if self.cluster is not None:
            await self.cluster.leave()
        self.timer.close()
        self.dues.close()
        for saver in self.savers.savers:
            saver.stop()
            saver.store.close()
        self.reader.close()
        logger.info("stopped")

    def _trim(self) -> None:
        """Hand memory back some seconds after a large backlog; `RegionMap` does after many tasks."""
        backlog = self.dispatch.live + int(self.delay.total())
        self._backlog_peak = max(self._backlog_peak, backlog)
        is_low = self._backlog_peak >= _TRIM_FROM and backlog < self._backlog_peak // _TRIM_TO
        self._low_ticks = self._low_ticks + 1 if is_low else 0
        if self._low_ticks == _TRIM_AFTER_TICKS:  # its last documents are written, too
            self._backlog_peak = backlog
            self.timer.sweep()
            self.dues.sweep()
            if len(self.regions) < _COLLECT_BELOW_TASKS:
                gc.collect()  # empties Python's lists of free objects; each of those keeps an arena of 1 MiB
            for saver in self.savers.savers:
                saver.trim()
        if not self.dispatch.is_stopped:
            self._loop.call_later(_TRIM_EVERY_S, self._trim)

    def _forget(self) -> None:
        """Delete settled tasks after ``retention_days``."""
        before_at = time.time() - self.config.engine.retention_days * 86400
        if self.cluster is None or self.cluster.leads():
            for saver in self.savers.savers:
                saver.forget(before_at)
        if not self.dispatch.is_stopped:
            self._loop.call_later(_FORGET_EVERY_S, self._forget)

    # Told by the parts

    def _alert(self, key: str, level: str, message: str, **facts: str | float) -> None:
        self.notifier.alert(key, level, message, **facts)  # type: ignore[arg-type]

    def _store_state(self, error: StoreError | None) -> None:
        if error is None:
            self._alert("store", "resolved", "the store can be written again")
        else:
            self.stats.store_errors += 1
            self._alert("store", "error", f"new tasks are answered 503: {error}")

    def callbacks_written(self, number: int, callbacks: list[Callback]) -> None:
        """Deliver callbacks that saver *number* has written, or that another engine had."""
        for callback in callbacks:
            job = CallbackJob((number, callback.key), callback.task_id, callback.url, callback.body.encode())
            self.notifier.add(job)

    def _callback_over(self, job: CallbackJob, is_delivered: bool) -> None:
        number, key = job.key
        self.savers.savers[number].callback_over(key)

    def _settled_late(self, states: list[str]) -> None:
        self.stats.tasks_done += states.count(State.DONE)
        self.stats.tasks_failed += states.count(State.FAILED)
        self.stats.tasks_cancelled += states.count(State.CANCELLED)

    # Asked by the parts

    @property
    def is_draining(self) -> bool:
        """Whether it has been asked to end."""
        return self._stop_requested.is_set()

    def journal_keys(self) -> set[str]:
        """Return what this engine has in a shared journal: entries with tasks, and callbacks."""
        known = {str(key) for _, key in self.notifier.waiting()}
        known |= {str(key) for _, key in self.dispatch.journal_rows()}
        return known | {str(key) for saver in self.savers.savers for key in saver.keys_going()}

    # Asked by the interface

    def not_ready_reason(self) -> str:
        """Return why new requests should go elsewhere, or an empty text."""
        if not self._prepared.is_set():
            return "the engine is starting"
        if self._stop_requested.is_set():
            return "the engine is draining"
        if self.savers.error is not None and not self.savers.is_partial:
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
        """Return this worker's nodes, as ``GET /v1/engine/nodes`` shows them."""
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
                "acked": node.acked_count,
                "refused": node.refused_count,
                "failed": node.failed_count,
                "last_error": node.health.last_error,
                "last_error_at": node.health.last_error_at,
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
                returns=node.health.returns,
            )
            for node in self.dispatch.nodes.values()
        ]

    async def cluster_document(self) -> dict[str, Any]:
        """Return the body of ``GET /v1/engine/cluster``.

        Raises:
            StoreError: the store cannot be read.
        """
        if self.cluster is not None:
            return await self.cluster.document()
        return {"mode": "embedded", "leader": None, "engines": []}

    # As one, whichever worker is asked

    async def all_stats(self) -> dict[str, Any]:
        """Return the body of ``GET /v1/engine/stats``."""
        own = self.stats.document()
        if self.peers is None or not self.peers.others():
            return own
        return merged.stats([own, *map(msgspec.json.decode, await self.peers.ask_all("/worker/stats"))])

    async def all_nodes(self) -> list[dict[str, Any]]:
        """Return the nodes of ``GET /v1/engine/nodes``."""
        own = self.node_documents()
        if self.peers is None or not self.peers.others():
            return own
        others = map(worker_api.documents, await self.peers.ask_all("/worker/nodes"))
        return merged.nodes([own, *others], is_shared=self.is_shared)

    async def all_metrics(self) -> bytes:
        """Return the Prometheus page."""
        own = self.metrics.render()
        if self.peers is None or not self.peers.others():
            return own
        pages = [own, *await self.peers.ask_all("/worker/metrics")]
        return merged.metrics([page.decode() for page in pages], is_shared=self.is_shared)

    async def swap_all_logs(self, name: str) -> None:
        """Have every worker use another format of log lines; one that starts later has the configured one.

        Raises:
            KeyError: there is no format of that name.
        """
        self.logs.swap(name)
        if self.peers is not None:
            await self.peers.ask_all(f"/worker/log-format/{name}", "PUT")


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

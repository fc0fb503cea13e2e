"""What most parts of an engine stand on."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from loguru import logger

from engine import _version
from engine.base.clock import SteadyClock
from engine.base.timer import Timer
from engine.delivery.silences import Silences
from engine.notify.outbox import Outbox
from engine.notify.stored import StoredCallbacks
from engine.observe.audit import Audit
from engine.observe.counters import Stats
from engine.saver.pool import SaverPool
from engine.saver.reader import StoreReader
from engine.tasks.region import RegionMap
from engine.tasks.told import replaces

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config.tables import Config
    from engine.nodes.node import Node
    from engine.notify.callbacks import CallbackJob
    from engine.observe.logs import Logs
    from engine.observe.tracing import Tracing
    from engine.workers.peers import Peers


@dataclass(frozen=True)
class Core:
    """Made first, and used by nearly every other part."""

    config: Config
    logs: Logs
    audit: Audit
    spans: Tracing | None  #: of tasks, where there is a receiver
    peers: Peers | None  #: the other workers, under a supervisor
    stats: Stats
    timer: Timer  #: fires at everything but due times
    dues: Timer  #: fires at the due times of tasks
    clock: SteadyClock  #: by which rows of delay queues wait
    regions: RegionMap
    nodes: dict[str, Node]  #: by name; filled last, because they tell other parts what comes of subtasks
    savers: SaverPool
    reader: StoreReader
    history_reader: StoreReader  #: its questions take long, and nothing else waits for them
    outbox: Outbox
    callbacks: StoredCallbacks
    silences: Silences

    @property
    def is_shared(self) -> bool:
        """Whether other engines work with the same store."""
        return self.config.store.url != "sqlite:"

    @property
    def task_peers(self) -> Peers | None:
        """The other workers, where a task is with one of them; with a shared store every worker sees it."""
        return None if self.is_shared else self.peers

    @property
    def on_alert(self) -> Callable[..., None]:
        """Takes what an operator should know: key, level, message, and facts by name."""
        return self.outbox.alert


def make_core(config: Config, logs: Logs, peers: Peers | None) -> Core:
    """Return the core; its pool has no savers yet, and its nodes are not made.

    Raises:
        ConfigError: spans are asked for, and what makes them is not installed.
    """
    loop = asyncio.get_running_loop()
    stats = Stats()
    timer = Timer(loop, granularity_s=0.01, on_error=_log_timer_error)
    spans = _spans(config)
    savers, regions = SaverPool([]), RegionMap(config.engine.region_count)

    def over(job: CallbackJob, _is_delivered: bool) -> None:
        _callback_over(savers, regions, job, partial(outbox.forget, job))

    outbox = Outbox(config.callback, config.alert, timer, on_settled=over, stats=stats)
    reader = StoreReader()
    return Core(
        config=config,
        logs=logs,
        audit=Audit(logs, loop, is_on=config.engine.log_audit, spans=spans),
        spans=spans,
        peers=peers,
        stats=stats,
        timer=timer,
        dues=Timer(loop, on_error=_log_timer_error),
        clock=SteadyClock(),
        regions=regions,
        nodes={},
        savers=savers,
        reader=reader,
        history_reader=StoreReader(2, "history"),
        outbox=outbox,
        callbacks=StoredCallbacks(outbox),
        silences=Silences(savers, reader, outbox.silence),
    )


def _spans(config: Config) -> Tracing | None:
    if not config.engine.trace_url:
        return None
    from engine.observe.tracing import Tracing  # noqa: PLC0415 - most engines have none

    name = config.engine.name or socket.gethostname()
    return Tracing(config.engine.trace_url, name=name, version=_version.__version__)


def _callback_over(savers: SaverPool, regions: RegionMap, job: CallbackJob, then: Callable[[], None]) -> None:
    """A callback was delivered or given up: drop it, and keep with its task what became of it."""
    number, key = job.key
    told, task = job.told, regions.get(job.task_id)
    if task is not None and replaces(told, task.told):
        task.told = told  # its next document has it
    savers.savers[number].tell(job.task_id, told, then)
    savers.savers[number].callback_over(key)


def _log_timer_error(key: object, exc: Exception) -> None:
    logger.opt(exception=exc).error("timer {} failed", key)

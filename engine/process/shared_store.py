"""The store that several engines share, and this engine's part in their cluster.

Imported only where ``store.url`` names a Redis: an engine with an embedded store needs none of its modules.
"""

from __future__ import annotations

import os
import socket
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine import _version
from engine.cluster.claims import QueueClaims
from engine.cluster.cluster import Cluster
from engine.cluster.eviction import EvictionWatch, RowsWatch
from engine.cluster.fetch_register import FetchRegister
from engine.cluster.inbox import Inbox
from engine.cluster.kept_elsewhere import KeptElsewhere
from engine.cluster.leader import Leader
from engine.cluster.membership import Membership
from engine.cluster.process_mark import process_mark
from engine.cluster.replication import ReplicationWatch
from engine.cluster.rounds import Duties, Rounds
from engine.cluster.takeover import Takeover
from engine.cluster.threads import Threads
from engine.cluster.watch import Watch
from engine.errors import EngineError
from engine.intake.validate import unplanned
from engine.nodes.register import SENT_WITHIN_S
from engine.process.names import consumer_name, engine_name
from engine.process.reports import StoreReports
from engine.store.history import HistoryLimits
from engine.store.redis.checks import dangers
from engine.store.redis.fetch_log import FetchLog
from engine.store.redis.members import About, Members
from engine.store.redis.missing_rows import MissingRows
from engine.store.redis.open import redis_store
from engine.store.redis.receipt_keys import SharedKeys
from engine.store.redis.rewinds import SharedRewinds
from engine.store.redis.triggers import SharedTriggers
from engine.tasks import documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.cluster.takeover import Rows
    from engine.config.tables import Config
    from engine.delivery.parts import Delivery
    from engine.intake.validate import Validator
    from engine.process.core import Core
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.store.redis.store import RedisStore
    from engine.tasks.records import Accepted
    from engine.tasks.task import Task


class SharedStore:
    """Makes and opens the store on Redis.

    Args:
        config: of this engine.
        slot: of this worker; 0 without a supervisor.
        validator: reads the bodies of tasks that other engines accepted.
        on_alert: told what an operator should know: key, level, message.
    """

    def __init__(
        self, config: Config, slot: int, validator: Validator, on_alert: Callable[..., None]
    ) -> None:
        self._config = config
        self._validator = validator
        self._on_alert = on_alert
        self.name = engine_name(config)
        store = config.store
        self.store: RedisStore = redis_store(
            store.url,
            consumer_name(config, slot),
            region_count=store.region_count,
            prefix=store.prefix,
            timeout_s=store.timeout_s,
            connections_max=store.connections_max,
            wait_replicas=store.wait_replicas,
            retention_s=config.engine.retention_days * 86400,
            history=HistoryLimits(config.engine.history_days * 86400, config.engine.history_max_bytes),
            describe=lambda record, plan: msgspec.json.encode(
                documents.stored_document(self._task_of(record, plan))
            ),
            task_of=self._task_of,
        )

    @property
    def shared_keys(self) -> SharedKeys:
        """Where all engines keep the public keys of receipts."""
        return SharedKeys(self.store.link, self.store.keys)

    def rewinds(self, is_nobody: Callable[[str], bool]) -> SharedRewinds:
        """Return where all engines note rewinds."""
        return SharedRewinds(self.store, is_nobody)

    def triggers(self) -> SharedTriggers:
        """Return where all engines keep triggers."""
        return SharedTriggers(self.store.link, self.store.keys)

    def make(self, _number: int) -> RedisStore:
        """Return the store, not open yet; there is one saver."""
        return self.store

    async def open(self, _savers: SaverPool, reader: StoreReader) -> None:
        """Open the store, and say what is dangerous about it.

        Raises:
            StoreError: it cannot be used.
        """
        store = self.store
        await reader.read(store.open)
        check = partial(dangers, store.link, self._config.store)
        for danger in await reader.read(check):
            self._on_alert(f"store:{danger[:40]}", "warning", danger)
        folder = Path(self._config.engine.data_dir)
        if (folder / "layout").exists():
            text = (
                f"{folder} holds an embedded store: what is unfinished in there is not worked by an "
                "engine on Redis. Move it with `purgeline migrate --from sqlite: --to …`, or remove it"
            )
            self._on_alert("store:embedded", "warning", text)

    def _task_of(self, record: Accepted, plan: bytes) -> Task:
        """Return a task that another engine has accepted."""
        try:
            return self._validator.replay(record, plan)
        except EngineError:
            return unplanned(record)


def make_cluster(
    shared: SharedStore, core: Core, delivery: Delivery, *, rows: Rows, is_draining: Callable[[], bool]
) -> Cluster:
    """Return this engine's part in the cluster.

    Args:
        shared: the store, that others work with too.
        core: its pool has its one saver.
        delivery: works the tasks.
        rows: begins with the tasks that are taken over.
        is_draining: whether this engine is about to end.
    """
    settings = core.config.store
    [saver] = core.savers.savers
    shared.store.now = core.clock.now
    members, threads = Members(shared.store, settings.takeover_s), Threads()
    membership = _membership(shared, members, threads, core=core, delivery=delivery, is_draining=is_draining)
    claims = delivery.redelivery.claims = QueueClaims(members, threads, membership)
    duties = _duties(membership, members, threads, core=core, delivery=delivery, rows=rows)
    rounds = Rounds(
        membership,
        members,
        threads,
        duties,
        redelivery=delivery.redelivery,
        pauses=delivery.pauses,
        silences=core.silences,
        touched=delivery.touched,
        saver=saver,
    )
    eviction = EvictionWatch(shared.store, threads, core.on_alert)
    return Cluster(
        membership,
        members,
        threads,
        claims=claims,
        rounds=rounds,
        inbox=_inbox(members, threads, duties.watch, core=core, delivery=delivery),
        fetches=_fetches(shared, core),
        replication=ReplicationWatch(shared.store.link.replicas, threads, core.on_alert),
        eviction=eviction,
        rows=_rows_watch(shared, eviction, membership, threads, core),
        on_alert=core.on_alert,
        ttl_s=settings.takeover_s,
    )


def _membership(
    shared: SharedStore,
    members: Members,
    threads: Threads,
    *,
    core: Core,
    delivery: Delivery,
    is_draining: Callable[[], bool],
) -> Membership:
    """Return this engine among the others, which hear of rows that its tasks keep, as it does of theirs."""
    kept = delivery.kept
    membership = Membership(
        members,
        threads,
        _about(shared.name, core.config),
        clock=core.clock,
        ttl_s=core.config.store.takeover_s,
        is_draining=is_draining,
        kept=lambda: (kept.count, kept.told(core.nodes)),
    )
    kept.elsewhere, kept.on_first = KeptElsewhere(membership).has_for, membership.is_news.set
    return membership


def _fetches(shared: SharedStore, core: Core) -> FetchRegister:
    store, settings = shared.store, core.config.engine
    longest_s = 2 * settings.prefetch_timeout_s + SENT_WITHIN_S
    log = FetchLog(store.link, store.keys, store.consumer, longest_s=longest_s)
    threads = Threads("fetches")
    return FetchRegister(log, store.consumer, threads, nodes=core.nodes, timer=core.timer)


def _duties(
    membership: Membership,
    members: Members,
    threads: Threads,
    *,
    core: Core,
    delivery: Delivery,
    rows: Rows,
) -> Duties:
    [saver] = core.savers.savers
    takeover = Takeover(
        members,
        threads,
        rows=rows,
        journal_rows=delivery.journal_rows,
        regions=core.regions,
        saver=saver,
        callbacks=core.callbacks,
        now=core.clock.now,
    )
    leader = Leader(
        membership,
        members,
        threads,
        on_alert=core.on_alert,
        gone=delivery.gone,
        callbacks=core.callbacks,
        stats=core.stats,
    )
    return Duties(Watch(membership, members, threads, takeover), takeover, leader)


def _about(name: str, config: Config) -> About:
    """Return what the other engines see of this one."""
    return About(
        name=name,
        host=socket.gethostname(),
        pid=os.getpid(),
        process=process_mark(os.getpid()),
        version=_version.__version__,
        listen=config.engine.listen,
        started_at=time.time(),
        nodes=[node.name for node in config.node],
    )


def _inbox(members: Members, threads: Threads, watch: Watch, *, core: Core, delivery: Delivery) -> Inbox:
    return Inbox(
        members,
        threads,
        watch,
        dispatch=delivery.dispatch,
        regions=core.regions,
        queues=delivery.queues,
        timeout_s=core.config.store.timeout_s,
    )


def _rows_watch(
    shared: SharedStore, eviction: EvictionWatch, membership: Membership, threads: Threads, core: Core
) -> RowsWatch:
    return RowsWatch(
        MissingRows(shared.store),
        eviction,
        membership,
        threads,
        on_alert=core.on_alert,
        callbacks=core.callbacks,
        on_settled=StoreReports(core.stats, core.audit, core.on_alert).settled_late,
    )

"""The assembly of what answers questions about tasks, to clients and to the other workers."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.api.cancel import WRITE_LIMIT_S, CancelElsewhere, CancelTask
from engine.api.debug_task import TaskLook
from engine.api.find import FindTask
from engine.api.listing import ListTasks
from engine.api.preview import PreviewTask
from engine.api.rewinding import Rewinding
from engine.proof.receipt_key import KeyFolder
from engine.proof.signer import Signer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from engine.cluster.cluster import Cluster
    from engine.delivery.parts import Delivery
    from engine.intake.validate import Validator
    from engine.nodes.origin_guard import OriginGuards
    from engine.process.core import Core
    from engine.process.proof import Proof
    from engine.process.stores import Stores
    from engine.proof.signer import SharesKeys


@dataclass(frozen=True)
class TaskAnswers:
    """What answers questions about tasks."""

    find: FindTask
    cancel: CancelTask
    listing: ListTasks
    preview: PreviewTask
    signer: Signer
    guards: OriginGuards
    rewinding: Rewinding
    lacks: Callable[[str, str, bool], str]  #: see `Validator.lacks`
    look: TaskLook
    replayed: asyncio.Event

    @classmethod
    def of(
        cls,
        core: Core,
        delivery: Delivery,
        cluster: Cluster | None,
        replayed: asyncio.Event,
        *,
        validator: Validator,
        stores: Stores,
        proof: Proof,
    ) -> TaskAnswers:
        """Return them for one engine."""
        settings, peers = core.config.engine, core.task_peers
        find = FindTask(
            core.regions,
            core.savers,
            core.reader,
            peers=peers,
            replayed=replayed,
            retention_days=settings.retention_days,
            told_of=core.outbox.told_of,
        )
        takeover_s = core.config.store.takeover_s
        elsewhere = None if cluster is None else CancelElsewhere(cluster, core.reader, takeover_s)
        cancel = CancelTask(
            find,
            delivery.dispatch,
            core.savers,
            delivery.queues,
            peers=peers,
            elsewhere=elsewhere,
            write_limit_s=settings.saver_push_timeout_s + WRITE_LIMIT_S,
        )
        listing = ListTasks(core.regions, core.savers, core.reader, peers=peers, is_shared=core.is_shared)
        preview = PreviewTask(validator, core.nodes)
        signer = _signer(core, stores.shared_keys)
        rewinds = stores.rewinds((lambda _: False) if cluster is None else cluster.is_nobody)
        rewinding = Rewinding(core.regions.rewinds, core.reader, peers=peers, shared=rewinds)
        look = TaskLook(
            find,
            delivery,
            core.savers,
            core.reader,
            outbox=core.outbox,
            nodes=core.nodes,
            cluster=cluster,
        )
        return cls(
            find, cancel, listing, preview, signer, proof.guards, rewinding, validator.lacks, look, replayed
        )


def _signer(core: Core, shared_keys: SharesKeys | None) -> Signer:
    settings = core.config.engine
    name = settings.name or f"{platform.node()}:{core.config.listen_address()[1]}"
    return Signer(KeyFolder(Path(settings.data_dir)), shared_keys, core.reader, engine=name)

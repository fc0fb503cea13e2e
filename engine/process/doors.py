"""The assembly of an engine's doors."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from engine.config.doors import CdniDoorConfig, HtcpDoorConfig, PurgeDoorConfig
from engine.doors.htcp.door import HtcpDoor
from engine.doors.htcp.tally import Tally
from engine.doors.ports import DoorPorts
from engine.doors.purge.door import PurgeDoor
from engine.doors.readers import Readers
from engine.doors.submitting import Submitting
from engine.intake.auth import ANONYMOUS
from engine.intake.client import Addresses
from engine.process.names import consumer_name
from engine.process.ports import SERVER, limits_of
from engine.saver.reader import StoreReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.api.readiness import Readiness
    from engine.cluster.cluster import Cluster
    from engine.config.doors import RedisDoorConfig
    from engine.delivery.parts import Delivery
    from engine.doors.cdni.door import CdniDoor
    from engine.doors.ports import DatagramDoor, Door
    from engine.doors.readers import Reader
    from engine.intake.admission import Admission
    from engine.intake.auth import Auth
    from engine.process.core import Core
    from engine.process.interface import Interface
    from engine.process.stores import Stores
    from engine.process.task_answers import TaskAnswers


class Around(NamedTuple):
    """What some doors use beside the intake."""

    tasks: TaskAnswers
    stores: Stores
    cluster: Cluster | None
    readiness: Readiness


def make_doors(
    core: Core, admission: Admission, delivery: Delivery, interface: Interface, around: Around
) -> DoorPorts:
    """Return the doors of an engine, not open yet.

    Raises:
        ConfigError: a certificate of one cannot be used.
    """
    config = core.config
    loop = asyncio.get_running_loop()
    submitting = Submitting(admission, core.regions, delivery.endings.watchers, loop)
    addresses = Addresses(config.engine.trusted_proxies)
    doors: dict[str, Door] = {}
    datagram_doors: dict[str, DatagramDoor] = {}
    readers: list[Reader] = []
    cdni: Callable[[CdniDoorConfig], CdniDoor] | None = None
    for door in config.door:
        if isinstance(door, CdniDoorConfig):
            cdni = cdni or _cdni(core, admission, interface.auth, around, addresses)
            doors[door.socket_name] = cdni(door)
        elif isinstance(door, HtcpDoorConfig):
            datagram_doors[door.socket_name] = _htcp(core, door, submitting, interface.auth)
        elif isinstance(door, PurgeDoorConfig):
            doors[door.socket_name] = PurgeDoor(door, config, interface.auth, submitting)
        else:
            readers.append(_redis_door(door, core, interface.auth, submitting, around.cluster))
    limits = limits_of(config.engine, addresses)
    return DoorPorts(doors, datagram_doors, limits, submitting, Readers(readers))


def _redis_door(
    door: RedisDoorConfig, core: Core, auth: Auth, submitting: Submitting, cluster: Cluster | None
) -> Reader:
    from engine.doors.redis import door as redis  # noqa: PLC0415 - other engines need no Redis

    slot = 0 if core.peers is None else core.peers.slot
    around = redis.Around(
        config=core.config,
        auth=auth,
        submitting=submitting,
        stats=core.stats,
        on_alert=core.on_alert,
        consumer=consumer_name(core.config, slot),
        is_shared=cluster is not None,
        hears=cluster is not None or slot == 0,
    )
    return redis.RedisDoor(door, around)


def _htcp(core: Core, door: HtcpDoorConfig, submitting: Submitting, auth: Auth) -> HtcpDoor:
    tells_drops = core.peers is None or core.peers.slot == 0  # all workers read one socket
    on_alert = core.on_alert if tells_drops else None
    counts = Tally(door.listen, core.stats, asyncio.get_running_loop(), on_alert)
    return HtcpDoor(door, auth, submitting, counts=counts, audit=core.audit)


def _cdni(
    core: Core, admission: Admission, auth: Auth, around: Around, addresses: Addresses
) -> Callable[[CdniDoorConfig], CdniDoor]:
    """Return what makes doors for triggers, which share those."""
    from engine.doors.cdni.door import CdniDoor  # noqa: PLC0415 - only engines with such a door pay for it
    from engine.doors.cdni.triggers import Triggers  # noqa: PLC0415 - as above

    config, peers, cluster = core.config, core.peers, around.cluster
    kept = [door.stale_resource_s for door in config.door if isinstance(door, CdniDoorConfig)]
    is_first = peers is None or peers.slot == 0
    triggers = Triggers.of(
        admission,
        around.tasks.find,
        around.tasks.cancel,
        around.stores.triggers(),
        StoreReader(2, "triggers"),
        auth=auth,
        audit=core.audit,
        tokens=sorted({ANONYMOUS, *(token.name for token in config.auth.tokens)}),
        due_s=config.engine.due_s,
        stale_s=max(kept),
        retention_s=config.engine.retention_days * 86400,
        may_sweep=lambda: is_first if cluster is None else cluster.leads(),
    )
    return lambda door: CdniDoor(
        door,
        config,
        auth,
        admission,
        triggers,
        addresses=addresses,
        readiness=around.readiness,
        audit=core.audit,
        server=SERVER,
    )

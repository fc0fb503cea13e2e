"""What all ports of an engine have alike, and the assembly of its doors."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from engine import _version
from engine.config.doors import HtcpDoorConfig, PurgeDoorConfig
from engine.doors.htcp.door import HtcpDoor
from engine.doors.htcp.tally import Tally
from engine.doors.ports import DoorPorts
from engine.doors.purge.door import PurgeDoor
from engine.doors.readers import Readers
from engine.doors.submitting import Submitting
from engine.intake.client import Addresses
from engine.intake.gate import Gate
from engine.process.names import consumer_name

if TYPE_CHECKING:
    from engine.cluster.cluster import Cluster
    from engine.config.doors import RedisDoorConfig
    from engine.config.tables import EngineConfig
    from engine.delivery.watchers import Watchers
    from engine.doors.ports import DatagramDoor, Door
    from engine.doors.readers import Reader
    from engine.intake.admission import Admission
    from engine.intake.auth import Auth
    from engine.process.core import Core

SERVER: Final = f"purgeline/{_version.__version__}"


def limits_of(settings: EngineConfig, addresses: Addresses) -> dict[str, Any]:
    """Return the limits that every port has, each for itself."""
    return {
        "addresses": addresses,
        "server": SERVER,
        "connections_max": settings.connections_max,
        "header_timeout_s": settings.header_timeout_s,
        "body_timeout_s": settings.body_timeout_s,
        "idle_timeout_s": settings.idle_timeout_s,
    }


def make_doors(
    core: Core, admission: Admission, watchers: Watchers, auth: Auth, cluster: Cluster | None
) -> DoorPorts:
    """Return the doors of an engine, not open yet."""
    config = core.config
    submitting = Submitting(admission, core.regions, watchers, asyncio.get_running_loop())
    doors: dict[str, Door] = {}
    datagram_doors: dict[str, DatagramDoor] = {}
    readers: list[Reader] = []
    for door in config.door:
        if isinstance(door, HtcpDoorConfig):
            datagram_doors[door.socket_name] = _htcp(core, door, submitting, auth)
        elif isinstance(door, PurgeDoorConfig):
            doors[door.socket_name] = PurgeDoor(door, config, auth, submitting)
        else:
            readers.append(_redis_door(door, core, auth, submitting, cluster))
    limits = limits_of(config.engine, Addresses(config.engine.trusted_proxies))
    return DoorPorts(doors, datagram_doors, lambda: Gate(**limits), submitting, Readers(readers))


def _htcp(core: Core, door: HtcpDoorConfig, submitting: Submitting, auth: Auth) -> HtcpDoor:
    tells_drops = core.peers is None or core.peers.slot == 0  # all workers read one socket
    counts = Tally(
        f"door {door.listen!r}",
        core.stats,
        asyncio.get_running_loop(),
        core.on_alert if tells_drops else None,
    )
    return HtcpDoor(door, auth, submitting, counts=counts, audit=core.audit)


def _redis_door(
    door: RedisDoorConfig, core: Core, auth: Auth, submitting: Submitting, cluster: Cluster | None
) -> Reader:
    from engine.doors.redis.door import Around, RedisDoor  # noqa: PLC0415 - other engines need no Redis

    slot = 0 if core.peers is None else core.peers.slot
    around = Around(
        config=core.config,
        auth=auth,
        submitting=submitting,
        stats=core.stats,
        on_alert=core.on_alert,
        consumer=consumer_name(core.config, slot),
        cluster=cluster,
        hears=cluster is not None or slot == 0,
    )
    return RedisDoor(door, around)

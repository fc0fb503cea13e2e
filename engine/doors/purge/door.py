"""``kind = "purge"``: what content management systems and frameworks send to caches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.doors.hosts import every_host
from engine.doors.purge.connection import KIND, PurgeConnection
from engine.doors.purge.desk import PurgeDesk
from engine.intake.gate import Gate

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from engine.config.doors import PurgeDoorConfig
    from engine.config.tables import Config
    from engine.doors.submitting import Submitting
    from engine.intake.auth import Auth


class PurgeDoor:
    """One door of this kind; see `ports.Door`.

    Args:
        door: its table.
        config: all of them.
        auth: knows the token.
        submitting: takes what is asked for.
    """

    def __init__(self, door: PurgeDoorConfig, config: Config, auth: Auth, submitting: Submitting) -> None:
        token = next((token for token in config.auth.tokens if token.name == door.token), None)
        sites = every_host(token.sites if token is not None else (), [site.host for site in config.site])
        self._desk = PurgeDesk(door, sites, auth, submitting)

    @property
    def tls(self) -> None:
        """No client of caches asks for it."""

    def gate(self, limits: Mapping[str, Any]) -> Gate:
        """Return the gate of its port."""
        gate = Gate(**limits)
        gate.count_in(self._desk.admission.stats.responses_of(KIND))
        return gate

    async def open(self) -> None:
        """Do nothing: it keeps nothing."""

    async def close(self) -> None:
        """Do nothing, as above."""

    def connection(self, gate: Gate, loop: asyncio.AbstractEventLoop) -> PurgeConnection:
        """Return the protocol of a new connection."""
        return PurgeConnection(self._desk, gate, loop)

"""``kind = "cdni"``: its port, with aiohttp on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.api.app import Requests
from engine.api.bodies import Bodies
from engine.api.server import ApiServer
from engine.doors.cdni.access import CdniCallers
from engine.doors.cdni.connection import CdniConnection
from engine.doors.cdni.planning import Rules
from engine.doors.cdni.routes import BASE, CdniRoutes
from engine.doors.cdni.tls import context_of
from engine.doors.hosts import every_host
from engine.intake.gate import Gate, PortGate
from engine.intake.host_rules import HostRules
from engine.recordings.tap import Tap

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from engine.api.readiness import Readiness
    from engine.config.doors import CdniDoorConfig
    from engine.config.tables import Config
    from engine.doors.cdni.triggers import Triggers
    from engine.intake.admission import Admission
    from engine.intake.auth import Auth
    from engine.intake.client import Addresses
    from engine.observe.audit import Audit


class CdniDoor:
    """One door of this kind; see `ports.Door`.

    Args:
        door: its table.
        config: all of them.
        auth: knows the tokens.
        admission: counts and refuses requests.
        triggers: those of all doors of this kind.
        addresses: tells where a request came from.
        readiness: a draining engine ends its connections with their next answer.
        audit: told of what is refused.
        server: value of ``Server``.

    Attributes:
        tls: of its port.

    Raises:
        ConfigError: its certificate cannot be used.
    """

    def __init__(
        self,
        door: CdniDoorConfig,
        config: Config,
        auth: Auth,
        admission: Admission,
        triggers: Triggers,
        *,
        addresses: Addresses,
        readiness: Readiness,
        audit: Audit,
        server: str,
    ) -> None:
        self.tls = context_of(door)
        self._config, self._door = config, door
        self._auth, self._admission = auth, admission
        self._triggers = triggers
        self._is_site = HostRules([site.host for site in config.site]).allows
        settings = config.engine
        callers = CdniCallers(door, auth, addresses)
        routes = CdniRoutes(door, callers, Bodies(settings.body_timeout_s), triggers, self._rules_of)
        requests = Requests(
            admission.stats,
            readiness,
            admission.refuse,
            callers,
            audit,
            tap=Tap(),  # which shows nobody anything: recordings have its tasks
            server=server,
            body_max_bytes=settings.body_max_bytes,
            base=BASE,
            door=door.kind,
        )
        app = routes.app(settings.body_max_bytes)
        self._api = ApiServer(app, requests, idle_timeout_s=settings.idle_timeout_s)

    def gate(self, limits: Mapping[str, Any]) -> PortGate:
        """Return the gate of its port."""
        settings = self._config.engine
        gate = PortGate(
            self._admission,
            self._auth,
            self._api.make_protocol,
            body_max_bytes=settings.body_max_bytes,
            **limits,
        )
        gate.parse = _nothing_is_plain
        gate.count_in(self._admission.stats.responses_of(self._door.kind))
        return gate

    async def open(self) -> None:
        """Be ready for connections.

        Raises:
            StoreError: what keeps triggers cannot be used.
        """
        await self._triggers.open()
        await self._api.start()

    def connection(self, gate: Gate, loop: asyncio.AbstractEventLoop) -> CdniConnection:
        """Return the protocol of a new connection."""
        assert isinstance(gate, PortGate)
        return CdniConnection(gate, loop, self._door.kind, has_tls=self.tls is not None)

    async def close(self) -> None:
        """End what it began."""
        await self._api.close()
        await self._triggers.close()

    def _rules_of(self, token: str) -> Rules:
        """Return whose hosts are whose, for a token."""
        tokens = self._config.auth.tokens
        own = next((one.sites for one in tokens if one.name == token), [])
        hosts = every_host(own, [site.host for site in self._config.site])
        allows = self._auth.named(token).hosts.allows
        return Rules(self._is_site, allows, self._door.default_hosts if hosts is None else hosts)


def _nothing_is_plain(text: bytes) -> None:
    """Read no head: the fast lane serves the engine's own port."""

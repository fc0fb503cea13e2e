"""The assembly of canaries: what runs them, and the origin that caches fetch them from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.api.canary_origin import CanaryOrigin, CanaryServer
from engine.nodes import drivers
from engine.nodes.canary import Canary
from engine.process.canary_stores import canary_store
from engine.proof.canaries import Canaries

if TYPE_CHECKING:
    from engine.cluster.cluster import Cluster
    from engine.delivery.parts import Delivery
    from engine.process.core import Core
    from engine.process.stores import Stores


_STALE_MAX: Final = 20  #: of which the supervisor is told each second


@dataclass(frozen=True)
class CanarySide:
    """The canaries of an engine; nothing, where none are set up."""

    canaries: Canaries | None = None
    origin: CanaryOrigin | None = None  #: on the engine's own port
    server: CanaryServer | None = None  #: or on one for itself

    async def open(self) -> None:
        """Read the key of the values from the store, which is open.

        Raises:
            StoreError: the store cannot be read or written.
        """
        if self.canaries is not None:
            await self.canaries.open()

    async def listen(self) -> None:
        """Answer caches, where the origin has a port for itself.

        Raises:
            ConfigError: the port cannot be had.
        """
        if self.server is not None:
            await self.server.start()

    def start(self) -> None:
        """Begin with the rounds: the engine accepts connections."""
        if self.canaries is not None:
            self.canaries.start()

    async def stop(self) -> None:
        """End the rounds."""
        if self.canaries is not None:
            await self.canaries.stop()

    async def close(self) -> None:
        """End the origin."""
        if self.server is not None:
            await self.server.close()

    def stale(self) -> dict[str, str]:
        """Return the nodes whose last canary was stale, with the reason; not all, when they are many."""
        found = {} if self.canaries is None else self.canaries.results.stale_nodes()
        return dict(list(found.items())[:_STALE_MAX])

    def progress(self) -> str:
        """Return whether this process has tried its nodes, see `Canaries.progress`; empty: nobody does."""
        return "" if self.canaries is None else self.canaries.progress

    def document(self, node: str) -> dict[str, Any] | None:
        """Return what the last canaries showed of a node; None: there was none."""
        return None if self.canaries is None else self.canaries.results.document(node)


def make_canaries(core: Core, delivery: Delivery, stores: Stores, cluster: Cluster | None) -> CanarySide:
    """Return the canaries of an engine, whose nodes are made."""
    settings = core.config.canary
    if not settings.interval_s:
        return CanarySide()
    canary = Canary(settings)
    canaries = Canaries(
        canary,
        {name: node for name, node in core.nodes.items() if not drivers.is_engine(node.config)},
        [layer.name for layer in core.config.layer] or ["edge"],
        store=canary_store(core, stores),
        stats=core.stats,
        interval_s=settings.interval_s,
        timeout_s=core.config.engine.request_timeout_s,
        may_run=cluster.leads if cluster is not None else lambda: core.peers is None or core.peers.slot == 0,
        on_alert=core.on_alert,
    )
    delivery.gate.canary = canaries
    for node in core.nodes.values():
        node.proving.prober.canary = canary
    origin = CanaryOrigin(canaries, settings.path)
    if settings.listen:
        return CanarySide(canaries, server=CanaryServer(origin, settings.listen))
    return CanarySide(canaries, origin)

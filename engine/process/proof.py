"""The assembly of what shows that visitors get what was purged."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from engine.errors import ConfigError
from engine.nodes.fetch_guard import FetchGuard
from engine.nodes.origin_guard import OriginGuards
from engine.proof.freshness import Freshness
from engine.proof.lookout import Lookout
from engine.proof.looks import Looks
from engine.proof.report import ProofReport
from engine.proof.truth import Origins
from engine.proof.verification import verify
from engine.proof.visitor import Visitor

if TYPE_CHECKING:
    from engine.delivery.layout import Layout
    from engine.process.core import Core


@dataclass(frozen=True)
class Proof:
    """What visits, what has the truth, and what verifies."""

    visitor: Visitor
    guards: OriginGuards
    origins: Origins
    looks: Looks
    lookout: Lookout
    freshness: Freshness
    report: ProofReport

    def stop(self) -> None:
        """Look at nothing more."""
        self.lookout.close()

    async def close(self) -> None:
        """Close the connections to nodes and origins."""
        await self.visitor.close()


def make_guards(core: Core) -> OriginGuards:
    """Return the guards of the origins; the workers of an engine divide their rates."""
    return OriginGuards(core.config.origin, time.monotonic, _share(core))


def make_proof(core: Core, guards: OriginGuards, layout: Layout) -> Proof:
    """Return the parts, and have tasks verified by them; nothing is asked yet.

    Raises:
        ConfigError: a CA file cannot be read.
    """
    config = core.config
    visitor = Visitor(body_max_bytes=config.proof.body_max_bytes)
    try:
        origins = Origins(config.origin, guards, visitor)
        looks = Looks(
            config.node, config.site, visitor=visitor, origins=origins, guards=guards, stats=core.stats
        )
    except OSError as exc:
        raise ConfigError(f"ca_file of a node or an origin: {exc}") from exc
    freshness = Freshness(config.proof, core.stats, core.on_alert)
    lookout = Lookout(
        looks,
        rate_per_s=config.proof.rate_per_s * _share(core),
        stats=core.stats,
        freshness=freshness,
        on_alert=core.on_alert,
    )
    for node in core.nodes.values() if guards.all else ():
        channel = node.prefetches
        node.fetches.guard = FetchGuard(guards, core.timer, channel.now, channel.wake)
    layout.verify = partial(verify, lookout)
    report = ProofReport(config.proof, guards, lookout, freshness)
    core.stats.gauge("origins_paused", report.paused_count)
    if config.proof.objective_s:
        core.stats.gauge("fresh_budget_left", report.budget_left)
    return Proof(visitor, guards, origins, looks, lookout, freshness, report)


def _share(core: Core) -> float:
    return 1.0 if core.peers is None else 1 / core.peers.count

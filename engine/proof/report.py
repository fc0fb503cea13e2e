"""What ``GET /v1/engine/stats`` says of proof: this worker's part, and the parts of all as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.proof.freshness import document

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.config.tables import ProofConfig
    from engine.nodes.origin_guard import OriginGuards
    from engine.proof.freshness import Freshness
    from engine.proof.lookout import Lookout


class ProofReport:
    """Tells of one engine's proof.

    Args:
        config: has the objective.
        guards: of the origins.
        lookout: has what waits to be looked at.
        freshness: has the error budget.
    """

    def __init__(
        self, config: ProofConfig, guards: OriginGuards, lookout: Lookout, freshness: Freshness
    ) -> None:
        self._config = config
        self._guards = guards
        self._lookout = lookout
        self._freshness = freshness

    def own(self) -> dict[str, Any]:
        """Return this worker's part."""
        counted, missed = self._freshness.window()
        origins = [
            {
                "host": guard.host,
                "paused_s": round(guard.pauses_s, 3),
                "reason": guard.reason,
                "held": guard.held_count,
            }
            for guard in self._guards.all
        ]
        waiting = self._lookout.waiting
        return {"looks_waiting": waiting, "counted": counted, "missed": missed, "origins": origins}

    def joined(self, parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """Return the parts of all workers as one; each of them has guards of its own."""
        waiting = counted = missed = 0
        origins: dict[str, dict[str, Any]] = {}
        for part in parts:
            waiting += part["looks_waiting"]
            counted += part["counted"]
            missed += part["missed"]
            for origin in part["origins"]:
                joined = origins.setdefault(origin["host"], origin)
                if joined is not origin:
                    joined["held"] += origin["held"]
                    joined["paused_s"] = max(joined["paused_s"], origin["paused_s"])
                    joined["reason"] = joined["reason"] or origin["reason"]
        objective = document(self._config, counted, missed) if self._config.objective_s else None
        return {"looks_waiting": waiting, "objective": objective, "origins": list(origins.values())}

    def budget_left(self) -> float:
        """Return the part of this worker's error budget that is left."""
        return document(self._config, *self._freshness.window())["budget_left"]

    def paused_count(self) -> int:
        """Return for how many origins nothing is fetched at the moment."""
        return sum(guard.pauses_s > 0 for guard in self._guards.all)

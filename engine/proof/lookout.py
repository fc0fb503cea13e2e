"""What all verifications share: the turns of each node's visits, what is told of stale nodes, freshness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.proof.visit_lane import VisitLane

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.observe.counters import Stats
    from engine.proof.freshness import Freshness
    from engine.proof.looks import Looks


class Lookout:
    """Has nodes looked at in their turn, and tells what was found.

    Args:
        looks: looks at nodes.
        rate_per_s: visits of one node.
        stats: counts what is found.
        freshness: told of each time to fresh.
        on_alert: told of nodes that serve what was purged: key, level, message, and facts by name.
    """

    def __init__(
        self,
        looks: Looks,
        *,
        rate_per_s: float,
        stats: Stats,
        freshness: Freshness,
        on_alert: Callable[..., None],
    ) -> None:
        self.looks = looks
        self.stats = stats
        self._rate_per_s = rate_per_s
        self._freshness = freshness
        self._on_alert = on_alert
        self._lanes: dict[str, VisitLane] = {}
        self._stale: set[str] = set()

    def lane(self, node: str) -> VisitLane:
        """Return the turns of a node's visits."""
        lane = self._lanes.get(node)
        if lane is None:
            lane = self._lanes[node] = VisitLane(self._rate_per_s)
        return lane

    @property
    def waiting(self) -> int:
        """Looks that wait or are under way."""
        return sum(map(len, self._lanes.values()))

    def stale(self, node: str, layer: str, url: str, reason: str, task_id: str) -> None:
        """Tell that a node still serves what it acked a purge of, after a second one."""
        self._stale.add(node)
        text = f"{node} {reason}: {url}, task {task_id}"
        self._on_alert(f"stale:{node}", "error", text, event="node.stale", node=node, layer=layer)

    def fresh_again(self, node: str) -> None:
        """Tell that a node that was stale serves what it should."""
        if node in self._stale:
            self._stale.discard(node)
            self._on_alert(f"stale:{node}", "resolved", f"{node} serves what it should again", node=node)

    def fresh(self, layer: str, fresh_s: float) -> None:
        """Take a task's time to fresh in a layer; infinity: visitors still get the old object there."""
        self._freshness.note(layer, fresh_s)

    def close(self) -> None:
        """Look at nothing more; what is not over is verified by whoever goes on with the task."""
        for lane in self._lanes.values():
            lane.close()

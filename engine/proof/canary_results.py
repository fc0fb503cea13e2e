"""What came of the canaries of each node, as operators are shown it."""

from __future__ import annotations

import enum
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.observe.counters import Stats


class CanaryState(enum.StrEnum):
    """What a canary shows of a node, the worst first."""

    STALE = "stale"  #: the purge was acked, and visitors get the old object
    UNPURGED = "unpurged"  #: the purge was not acked
    UNREACHABLE = "unreachable"  #: visitors got no answer, or an error
    BEHIND = "behind"  #: a parent still has the old object, so the node could only fetch that
    NOT_ROUTED = "not_routed"  #: requests for canaries do not come to the engine from there
    NOT_CACHED = "not_cached"  #: the node keeps no canaries, so nothing can be shown by them
    FRESH = "fresh"  #: visitors get the new object


_WORST: Final = tuple(CanaryState)


class Found(msgspec.Struct, frozen=True):
    """What one canary showed: of one node, and one kind of purge."""

    state: CanaryState
    reason: str = ""  #: it is not fresh, in words
    fresh_s: float | None = None  #: from the purge to the first visit that got the new object


class NodeCanary(msgspec.Struct, frozen=True):
    """The last canaries of a node. Fields are only added: engines of two versions read it."""

    state: CanaryState
    reason: str
    at: float  #: UNIX time
    kinds: dict[str, Found]


def result_of(found: Mapping[str, Found], at: float | None = None) -> NodeCanary:
    """Return the result of a round for one node: the state is the worst of its kinds."""
    worst = min(found.values(), key=lambda one: _WORST.index(one.state))
    return NodeCanary(worst.state, worst.reason, time.time() if at is None else at, dict(found))


class CanaryResults:
    """The last result of each node, which `stats` counts; owned by `Canaries`."""

    def __init__(self, stats: Stats) -> None:
        self.last: dict[str, NodeCanary] = {}
        self._stats = stats

    def __repr__(self) -> str:
        return f"<CanaryResults of {len(self.last)} nodes>"

    def take(self, node: str, found: Mapping[str, Found]) -> NodeCanary:
        """Keep what a round has shown of a node."""
        for kind, one in found.items():
            if one.fresh_s is not None:
                self._stats.canary_histogram(node, kind).observe(one.fresh_s)
            stale = self._stats.canary_stale
            stale[node, kind] = stale.get((node, kind), 0) + (one.state is CanaryState.STALE)
        result = self.last[node] = result_of(found)
        canaries, key = self._stats.canaries, (node, result.state.value)
        canaries[key] = canaries.get(key, 0) + 1
        return result

    def adopt(self, results: Mapping[str, NodeCanary], nodes: Iterable[str]) -> None:
        """Take over what another engine has found of these nodes."""
        self.last.update({name: results[name] for name in nodes if name in results})

    def document(self, node: str) -> dict[str, Any] | None:
        """Return what is shown of a node; None: no canary was there yet."""
        result = self.last.get(node)
        return None if result is None else msgspec.to_builtins(result)

    def stale_nodes(self) -> dict[str, str]:
        """Return the nodes whose last canary was stale, with the reason."""
        return {name: one.reason for name, one in self.last.items() if one.state is CanaryState.STALE}

"""What ``purgeline top`` sees of an engine: nodes, tasks, and rates from one look to the next."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from engine.cli.leaves import reason_of

if TYPE_CHECKING:
    from engine.cli.client import EngineClient
    from engine.client.bodies import Document

TASKS: Final = 50  #: asked for, the newest; as many as a screen shows
_WELL: Final = "ready"


@dataclass(frozen=True, kw_only=True)
class Look:
    """An engine at one moment.

    Attributes:
        at: UNIX time; 0: it was not seen yet.
        nodes: those that are not well first, then those for which most waits; each with ``acked_per_s``.
        tasks: the newest first.
        acked_per_s: of all nodes; None until there are two looks.
        away: why the engine does not answer now; empty: it does.
    """

    at: float = 0.0
    nodes: list[Document] = field(default_factory=list)
    tasks: list[Document] = field(default_factory=list)
    acked_per_s: float | None = None
    away: str = ""

    def missed(self, why: str) -> Look:
        """Return the same, of an engine that does not answer."""
        return replace(self, away=why)


def looked(client: EngineClient, before: Look, now: float) -> Look:
    """Ask for nodes and tasks.

    Args:
        client: asks the engine.
        before: the look before, from which rates are counted.
        now: UNIX time.
    """
    nodes = client.nodes()["nodes"]
    tasks = client.tasks(limit=TASKS)["tasks"]
    old = {str(node.get("name")): int(node.get("acked") or 0) for node in before.nodes}
    past_s = now - before.at
    rates = []
    for node in nodes:
        node["reason"] = node.get("reason") or reason_of(node)
        name, acked = str(node.get("name")), int(node.get("acked") or 0)
        if name in old and past_s > 0:
            node["acked_per_s"] = round(max(0, acked - old[name]) / past_s, 1)
            rates.append(node["acked_per_s"])
    nodes.sort(key=_unwell_first)
    return Look(at=now, nodes=nodes, tasks=tasks, acked_per_s=sum(rates) if before.at else None)


def _unwell_first(node: Document) -> tuple[bool, int, str]:
    waits = sum(int(node.get(key) or 0) for key in ("waiting", "in_flight", "delayed"))
    is_well = node.get("state") == _WELL and not reason_of(node)
    return is_well, -waits, str(node.get("name"))

"""What is known of a task below one of its nodes, where that is an engine itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the annotations
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.tasks.plan import GROUP, LAYER, Note, Skipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.tasks.plan import Plan

MARK: Final = "/"  #: between the names of a node and of one below it


class Lower(msgspec.Struct, omit_defaults=True):
    """Of one node.

    Attributes:
        nodes: which of its own nodes the task is for; empty: all.
        digests: of what it was handed and holds: its id there → digest of the body.
        skipped: nodes below it that cannot do it, by names as seen from here.
        notes: what those do otherwise than was asked.
        reason: why it does not do the rest now; of an internal task only.
    """

    nodes: Sequence[str] = ()
    digests: dict[str, str] = {}
    skipped: Sequence[Skipped] = ()
    notes: Sequence[Note] = ()
    reason: str = ""

    @property
    def has_remarks(self) -> bool:
        """Whether something of the task is done otherwise than was asked."""
        return bool(self.skipped or self.notes)


def narrow_of(plan: Plan) -> dict[str, Lower]:
    """Return which nodes of engines a plan is for, by the names of those."""
    return {step.node: Lower(step.below) for step in plan.steps if step.below}


def below_of(nodes: Sequence[str], lower: Mapping[str, Sequence[str]]) -> list[dict[str, list[str]]]:
    """Return how bodies name nodes, and what of each is meant: layers and groups take a body of their own.

    Args:
        nodes: names of nodes.
        lower: of those that are engines, which of theirs; see `Lower.nodes`.
    """
    together: list[str] = []
    alone: list[dict[str, list[str]]] = []
    for node in nodes:
        names = lower.get(node, ())
        ways = [f"{node}{MARK}{name}" for name in names if name[0] not in LAYER + GROUP]
        layers = [f"{node}{MARK}{name[1:]}" for name in names if name[0] == LAYER]
        groups = [f"{node}{MARK}{name[1:]}" for name in names if name[0] == GROUP]
        if not layers and not groups:
            together += ways or [node]
            continue
        named = {"nodes": ways or [node], "layers": layers, "groups": groups}
        alone.append({kind: given for kind, given in named.items() if given})
    return [*([{"nodes": together}] if together else []), *alone]


def remark(stored: dict[str, Any], node: str, skipped: Iterable[Skipped], notes: Iterable[Note]) -> None:
    """Have a stored document tell what is done otherwise below a node, in place of what it told before."""
    start = node + MARK
    kept = [one for one in stored.get("skipped", ()) if not one["name"].startswith(start)]
    stored["skipped"] = [*kept, *msgspec.to_builtins(list(skipped))]
    said = [one for one in stored.get("notes", ()) if not one["nodes"][0].startswith(start)]
    stored["notes"] = [*said, *msgspec.to_builtins(list(notes))]

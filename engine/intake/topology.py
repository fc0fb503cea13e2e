"""Which nodes a task goes to, and which of them wait for which.

Layers are worked in the order of the configuration. A node waits for its own ``parents``; one
without ``parents`` waits for the whole layer before it. Only nodes that the task targets count: when
a task leaves a layer out, nodes wait for the nearest targeted ancestors instead.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from engine.errors import RequestError
from engine.nodes import drivers
from engine.tasks.plan import Plan, Step
from engine.tasks.words import operation_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config.tables import Config, NodeConfig

_NAME_MAX: Final = 64
_PLANS_MAX: Final = 1024  #: plans kept; a client may ask for any subset of the nodes


class Topology:
    """The configured nodes, and the plans made of them so far."""

    def __init__(self, config: Config) -> None:
        self._layers = [layer.name for layer in config.layer] or ["edge"]
        self._nodes = sorted(config.node, key=lambda node: self._layers.index(node.layer))
        self._ancestors = {node.name: self._parents_of(node) for node in self._nodes}
        self._plans: dict[tuple[frozenset[str], frozenset[str]], Plan] = {}

    def plan(self, layers: Sequence[str] = (), nodes: Sequence[str] = ()) -> Plan:
        """Return the plan of a task for these layers and nodes; empty means all.

        Raises:
            RequestError: 422, an unknown name (the nearest known one is named), or no node left.
        """
        wanted = (frozenset(layers), frozenset(nodes))
        plan = self._plans.get(wanted)
        if plan is None:
            _refuse_unknown("layers", layers, self._layers)
            _refuse_unknown("nodes", nodes, [node.name for node in self._nodes])
            plan = self._make(*wanted)
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            self._plans[wanted] = plan
        return plan

    def check(self, plan: Plan, action: str, kind: str) -> None:
        """Refuse a purge that some nodes of the plan cannot do.

        Raises:
            RequestError: 422, naming the nodes and their drivers.
        """
        operation = operation_of(action, kind, soft=False)
        if operation in drivers.EVERYWHERE:
            return
        unable = [step.node for step in plan.steps if operation not in step.operations]
        if unable:
            names = ", ".join(f"{node.name} ({node.driver})" for node in self._nodes if node.name in unable)
            raise RequestError(
                422,
                f"kind: {action} by {kind} cannot be done by {names}; "
                "name other nodes or layers, or purge by url",
                field="kind",
            )

    def _parents_of(self, node: NodeConfig) -> list[str]:
        if node.parents is not None:
            return list(node.parents)
        depth = self._layers.index(node.layer)
        for layer in reversed(self._layers[:depth]):
            above = [other.name for other in self._nodes if other.layer == layer]
            if above:
                return above
        return []

    def _make(self, layers: frozenset[str], nodes: frozenset[str]) -> Plan:
        chosen = [
            node
            for node in self._nodes
            if (not layers or node.layer in layers) and (not nodes or node.name in nodes)
        ]
        if not chosen:
            what = "no node is in both layers and nodes" if self._nodes else "no [[node]] is configured"
            raise RequestError(422, f"nodes: {what}, so there is nothing to purge", field="nodes")
        places = {node.name: index for index, node in enumerate(chosen)}
        parents = [self._nearest(node.name, places) for node in chosen]
        waited_for = {index for indexes in parents for index in indexes}
        return Plan(
            tuple(
                Step(node.name, node.layer, drivers.capabilities(node), indexes, place in waited_for)
                for place, (node, indexes) in enumerate(zip(chosen, parents, strict=True))
            )
        )

    def _nearest(self, name: str, places: dict[str, int]) -> tuple[int, ...]:
        """Return the nearest ancestors of a node that are part of the plan."""
        nearest: set[int] = set()
        seen: set[str] = set()
        ahead = list(self._ancestors[name])
        while ahead:
            ancestor = ahead.pop()
            if ancestor in seen:
                continue
            seen.add(ancestor)
            if ancestor in places:
                nearest.add(places[ancestor])
            else:
                ahead.extend(self._ancestors[ancestor])
        return tuple(sorted(nearest))


def _refuse_unknown(field: str, names: Sequence[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            if len(name) > _NAME_MAX:
                raise RequestError(422, f"{field}: a name has at most {_NAME_MAX} characters", field=field)
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known[:20]) or 'none'}"
            raise RequestError(422, f"{field}: {name!r} is not configured; {hint}", field=field)

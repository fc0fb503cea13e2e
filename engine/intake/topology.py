"""Which nodes a task goes to, and which of them wait for which.

Layers are worked in the order of the configuration. A node waits for its own ``parents``, which without that
key are the whole layer before it. Only nodes that the task targets count: when
a task leaves a layer out, nodes wait for the nearest targeted ancestors instead. So they do when a parent
is skipped, because its cache cannot do what the task asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from engine.errors import RequestError
from engine.intake.naming import Naming
from engine.nodes import drivers
from engine.nodes.ability import incapable_reason
from engine.tasks.plan import GONE, Note, Plan, Skipped, Step, read_plan, storable
from engine.tasks.words import Action, Kind, operation_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config.tables import Config, NodeConfig
    from engine.intake.naming import Names
    from engine.tasks.words import Operation

_PLANS_MAX: Final = 1024  #: plans kept; a client may ask for any subset of the nodes
_WHOLE: Final[dict[str, tuple[str, ...]]] = {}
_PARENT_IS_HARD: Final = "purged hard: a stale object of a parent would be fresh to its edges"


class Topology:
    """The configured nodes, and the plans made of them so far."""

    def __init__(self, config: Config) -> None:
        self._layers = [layer.name for layer in config.layer] or ["edge"]
        self._nodes = sorted(config.node, key=lambda node: self._layers.index(node.layer))
        self._by_name = {node.name: node for node in self._nodes}
        self._ancestors = {node.name: node.parents or [] for node in self._nodes}
        self._naming = Naming(self._nodes, self._layers)
        self._all = frozenset(self._by_name)
        self._plans: dict[
            tuple[frozenset[str], tuple[tuple[str, tuple[str, ...]], ...], str, str, bool, bool, bool], Plan
        ] = {}
        self._stored: dict[tuple[bytes, bool], Plan] = {}

    @property
    def names(self) -> Names:
        """What knows the names below nodes that are engines."""
        return self._naming.names

    @names.setter
    def names(self, names: Names) -> None:
        self._naming.names = names

    def plan(
        self,
        layers: Sequence[str] = (),
        nodes: Sequence[str] = (),
        groups: Sequence[str] = (),
        *,
        action: str = Action.PURGE.value,
        kind: str = Kind.URL.value,
        soft: bool = False,
        skip: bool = False,
        host_pattern: bool = False,
        is_handed: bool = False,
    ) -> Plan:
        """Return the plan of a task; it is made once for all tasks that ask for the same.

        Args:
            layers: names; empty: all; see `engine.intake.naming`.
            nodes: names; empty: all.
            groups: names; empty: all.
            action: of the task.
            kind: of its targets.
            soft: whether a soft purge is asked for.
            skip: leave out the nodes that cannot do it, as long as one of them can.
            host_pattern: whether a host of its targets is one.
            is_handed: an engine above hands it down, and knows the names in it.

        Raises:
            RequestError: 422, an unknown name (the nearest known one is named), no node left, or nodes that
                cannot do it: they are named with their drivers; 503, see `Naming.choose`.
        """
        names, below = self._named(layers, nodes, groups, is_handed=is_handed)
        wanted = (names, tuple(sorted(below.items())), action, kind, soft, skip, host_pattern)
        plan = self._plans.get(wanted)
        if plan is None:
            chosen = [node for node in self._nodes if node.name in names]
            able, skipped = _part(chosen, action, kind, skip=skip, host_pattern=host_pattern)
            steps = self._steps(able, action, kind, soft=soft and not host_pattern, below=below)
            of = f"{kind} of a host pattern" if host_pattern else kind
            plan = storable(Plan(steps, skipped, _notes(steps, able, action, kind, soft=soft, of=of)))
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            self._plans[wanted] = plan
        return plan

    def _named(
        self, layers: Sequence[str], nodes: Sequence[str], groups: Sequence[str], *, is_handed: bool
    ) -> tuple[frozenset[str], dict[str, tuple[str, ...]]]:
        """Return the nodes of a task, and of those that are engines which of theirs."""
        if self._all and not layers and not nodes and not groups:
            return self._all, _WHOLE
        chosen = self._naming.chosen(layers, nodes, groups, is_handed=is_handed)
        return chosen.names, chosen.below

    def stored(self, key: bytes, text: bytes, *, host_pattern: bool = False) -> Plan:
        """Return the plan that a task of the journal was accepted for, as it can be carried out now.

        It has the same steps, whatever is configured now. A step says so when its node is gone, or when the
        cache that the node is now can do nothing of the kind.

        Raises:
            StoreError: *text* is no plan.
        """
        plan = self._stored.get((key, host_pattern))
        if plan is None:
            read = read_plan(key, text)
            steps = tuple(self._fitted(step, host_pattern=host_pattern) for step in read.steps)
            plan = msgspec.structs.replace(read, steps=steps)
            if len(self._stored) >= _PLANS_MAX:
                self._stored.clear()
            self._stored[key, host_pattern] = plan
        return plan

    def _fitted(self, step: Step, *, host_pattern: bool) -> Step:
        node = self._by_name.get(step.node)
        if node is None:
            return msgspec.structs.replace(step, lacks=GONE)
        lacks_patterns = host_pattern and not drivers.takes_host_patterns(node)
        if lacks_patterns or drivers.sent_for(node, step.operation) is None:
            return msgspec.structs.replace(step, lacks=incapable_reason(node, step.operation))
        return step

    def _steps(
        self,
        chosen: Sequence[NodeConfig],
        action: str,
        kind: str,
        *,
        soft: bool,
        below: dict[str, tuple[str, ...]],
    ) -> tuple[Step, ...]:
        places = {node.name: index for index, node in enumerate(chosen)}
        parents = [self._nearest(node.name, places) for node in chosen]
        waited_for = {index for indexes in parents for index in indexes}
        steps = []
        for place, (node, indexes) in enumerate(zip(chosen, parents, strict=True)):
            is_parent = place in waited_for
            operation = _operation_at(node, action, kind, soft=soft and not is_parent)
            step = Step(node.name, node.layer, operation, indexes, is_parent, node.driver)
            named = below.get(node.name)
            steps.append(msgspec.structs.replace(step, below=named) if named else step)
        return tuple(steps)

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


def _part(
    chosen: Sequence[NodeConfig], action: str, kind: str, *, skip: bool, host_pattern: bool
) -> tuple[list[NodeConfig], tuple[Skipped, ...]]:
    """Return the nodes that can do it, and those that are skipped: none, unless *skip* says so."""
    operation = operation_of(action, kind, soft=False)
    able: list[NodeConfig] = []
    unable: list[NodeConfig] = []
    for node in chosen:
        can = operation in drivers.capabilities(node)
        can = can and (not host_pattern or drivers.takes_host_patterns(node))
        (able if can else unable).append(node)
    if host_pattern:
        kind = f"{kind} of a host pattern"
    if unable and not (skip and able):
        names = ", ".join(f"{node.name} ({node.driver})" for node in unable)
        way_out = 'purge by url, or skip them (on_incapable "skip")' if able else "or purge by url"
        detail = f"kind: {action} by {kind} cannot be done by {names}; name other nodes or layers, {way_out}"
        raise RequestError(422, detail, field="kind")
    reason = f"as configured, cannot {action} by {kind}"
    return able, tuple(Skipped(node.name, f"{node.driver}, {reason}") for node in unable)


def _operation_at(node: NodeConfig, action: str, kind: str, *, soft: bool) -> Operation:
    """Return what a node is sent. A soft purge is hard where the cache has none; at parents it always is.

    A parent keeps the stale object of a soft purge and hands it to its edges as fresh, so only the last
    layer may be soft.
    """
    softened = operation_of(action, kind, soft=soft)
    return softened if softened in drivers.capabilities(node) else operation_of(action, kind, soft=False)


def _notes(
    steps: Sequence[Step], nodes: Sequence[NodeConfig], action: str, kind: str, *, soft: bool, of: str
) -> tuple[Note, ...]:
    """Return what the nodes of a plan do otherwise than a task asks, the same of several nodes once."""
    if action == Action.PREFETCH:
        return ()
    softened = operation_of(action, kind, soft=True)
    names: dict[str, list[str]] = {}
    for step, node in zip(steps, nodes, strict=True):
        is_soft = drivers.marks_stale(node, step.operation)
        if soft and step.is_parent and not is_soft:
            names.setdefault(_PARENT_IS_HARD, []).append(node.name)
        elif soft and step.operation is not softened and not is_soft:
            text = f"purged hard: {node.driver}, as configured, has no soft purge by {of}"
            names.setdefault(text, []).append(node.name)
        if kind == Kind.URL and node.driver in drivers.ONE_VARIANT:
            names.setdefault(drivers.ONE_VARIANT_NOTE, []).append(node.name)
        if more := drivers.wide_note(node, step.operation):
            names.setdefault(more, []).append(node.name)
    return tuple(Note(tuple(of_text), text) for text, of_text in names.items())

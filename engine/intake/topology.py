"""Which nodes a task goes to, and which of them wait for which.

Layers are worked in the order of the configuration. A node waits for its own ``parents``, which without that
key are the whole layer before it. Only nodes that the task targets count: when
a task leaves a layer out, nodes wait for the nearest targeted ancestors instead. So they do when a parent
is skipped, because its cache cannot do what the task asks.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from engine.config.hints import nearest
from engine.errors import RequestError
from engine.nodes import drivers
from engine.nodes.ability import incapable_reason
from engine.tasks.plan import GONE, LAYER, Note, Plan, Skipped, Step, read_plan, storable
from engine.tasks.words import Action, Kind, operation_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config.tables import Config, NodeConfig
    from engine.tasks.words import Operation

MARK: Final = "/"  #: between the name of a node and one below it
_NAME_MAX: Final = 64
_PLANS_MAX: Final = 1024  #: plans kept; a client may ask for any subset of the nodes
_ALL: Final[frozenset[str]] = frozenset()
_PARENT_IS_HARD: Final = "purged hard: a stale object of a parent would be fresh to its edges"


class Topology:
    """The configured nodes, and the plans made of them so far."""

    def __init__(self, config: Config) -> None:
        self._layers = [layer.name for layer in config.layer] or ["edge"]
        self._nodes = sorted(config.node, key=lambda node: self._layers.index(node.layer))
        self._by_name = {node.name: node for node in self._nodes}
        self._ancestors = {node.name: node.parents or [] for node in self._nodes}
        self._plans: dict[tuple[frozenset[str], frozenset[str], str, str, bool, bool, bool], Plan] = {}
        self._stored: dict[tuple[bytes, bool], Plan] = {}

    def plan(
        self,
        layers: Sequence[str] = (),
        nodes: Sequence[str] = (),
        *,
        action: str = Action.PURGE.value,
        kind: str = Kind.URL.value,
        soft: bool = False,
        skip: bool = False,
        host_pattern: bool = False,
    ) -> Plan:
        """Return the plan of a task; it is made once for all tasks that ask for the same.

        Args:
            layers: names; empty: all. ``eu/edge`` is one of the engine that the node ``eu`` is.
            nodes: names; empty: all.
            action: of the task.
            kind: of its targets.
            soft: whether a soft purge is asked for.
            skip: leave out the nodes that cannot do it, as long as one of them can.
            host_pattern: whether a host of its targets is one.

        Raises:
            RequestError: 422, an unknown name (the nearest known one is named), no node left, or nodes that
                cannot do it: they are named with their drivers.
        """
        layer_names = frozenset(layers) if layers else _ALL
        node_names = frozenset(nodes) if nodes else _ALL
        wanted = (layer_names, node_names, action, kind, soft, skip, host_pattern)
        plan = self._plans.get(wanted)
        if plan is None:
            in_layers, of_layers = self._split_layers(layers)
            own, below = self._split(nodes)
            for head, names in of_layers.items():
                below[head] = (*names, *below.get(head, ()))
            chosen = self._choose(in_layers, own)
            able, skipped = _part(chosen, action, kind, skip=skip, host_pattern=host_pattern)
            steps = self._steps(able, action, kind, soft=soft and not host_pattern, below=below)
            of = f"{kind} of a host pattern" if host_pattern else kind
            plan = storable(Plan(steps, skipped, _notes(steps, able, action, kind, soft=soft, of=of)))
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            self._plans[wanted] = plan
        return plan

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

    def _split(self, nodes: Sequence[str]) -> tuple[frozenset[str], dict[str, tuple[str, ...]]]:
        """Return the names of own nodes, and of those that are engines which of their nodes are meant.

        ``eu/edge-7`` is a node of the engine that the node ``eu`` is; where ``eu`` is named too, all are.

        Raises:
            RequestError: 422, an unknown name, or one below a node that is a cache.
        """
        heads = {name: name.partition("/") for name in nodes}
        known = [node.name for node in self._nodes]
        _refuse_unknown("nodes", [head for head, _, _ in heads.values()], known)
        below: dict[str, list[str]] = {}
        for name, (head, slash, rest) in heads.items():
            if slash and not drivers.is_engine(self._by_name[head]):
                detail = f"nodes: {name[:_NAME_MAX]!r}: {head} is a cache, and has no nodes below it"
                raise RequestError(422, detail, field="nodes")
            if slash and not rest:
                detail = f"nodes: {name[:_NAME_MAX]!r} names no node behind the /"
                raise RequestError(422, detail, field="nodes")
            if slash and head not in nodes:
                below.setdefault(head, []).append(rest)
        own = frozenset(head for head, _, _ in heads.values())
        return own, {head: tuple(sorted(rests)) for head, rests in below.items()}

    def _split_layers(self, layers: Sequence[str]) -> tuple[frozenset[str], dict[str, tuple[str, ...]]]:
        """Return the nodes in layers, or with layers of their own that are named; and these: `Step.below`.

        Raises:
            RequestError: 422, an unknown name, or one below a node that is a cache.
        """
        own = [name for name in layers if MARK not in name]
        _refuse_unknown("layers", own, self._layers)
        chosen = {node.name for node in self._nodes if node.layer in own}
        of: dict[str, list[str]] = {}
        for name in layers:
            head, mark, rest = name.partition(MARK)
            if not mark:
                continue
            _refuse_unknown("layers", [head], [node.name for node in self._nodes])
            if not drivers.is_engine(self._by_name[head]) or not rest:
                what = "names no layer behind the /" if not rest else f"{head} is a cache, and has no layers"
                raise RequestError(422, f"layers: {name[:_NAME_MAX]!r}: {what}", field="layers")
            if head not in chosen:
                of.setdefault(head, []).append(LAYER + rest)
        everything = frozenset(node.name for node in self._nodes) if not layers else frozenset({*chosen, *of})
        return everything, {head: tuple(sorted(rests)) for head, rests in of.items()}

    def _choose(self, in_layers: frozenset[str], nodes: frozenset[str]) -> list[NodeConfig]:
        chosen = [
            node for node in self._nodes if node.name in in_layers and (not nodes or node.name in nodes)
        ]
        if not chosen:
            what = "no node is in both layers and nodes" if self._nodes else "no [[node]] is configured"
            raise RequestError(422, f"nodes: {what}, so there is nothing to purge", field="nodes")
        return chosen

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


def _refuse_unknown(field: str, names: Sequence[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            if len(name) > _NAME_MAX:
                raise RequestError(422, f"{field}: a name has at most {_NAME_MAX} characters", field=field)
            detail = f"{field}: {name!r} is not configured"
            raise RequestError(422, detail, field=field, hint=partial(nearest, name, known))

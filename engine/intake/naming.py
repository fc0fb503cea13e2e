"""Which nodes the names in a task choose: nodes, layers, groups, of this engine and of those below it. Pure.

A name with a way in front, ``eu/edge``, is one of the engine that the node ``eu`` is. A layer or group
without a way is meant wherever it is: of this engine's nodes, and below each that is an engine, as it told.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from engine.config.hints import nearest
from engine.errors import RequestError
from engine.nodes import drivers
from engine.tasks.plan import GROUP, LAYER

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from engine.config.tables import NodeConfig

MARK: Final = "/"  #: between the name of a node and one below it
NAME_MAX: Final = 64
_WAY_MAX: Final = 9 * NAME_MAX
_UNKNOWN: Final = 422
_NOT_YET: Final = 503
_ASK_AGAIN_S: Final = "2"
_KNOWN_MAX: Final = 1024  #: a client may ask for any subset of the nodes


class ToldLeaf(NamedTuple):
    """A node below one that is an engine."""

    name: str  #: as seen from there: ``edge-7``, ``fr/edge-7``
    layer: str
    groups: Collection[str]  #: those of the engines on the way to it, too


class Told(NamedTuple):
    """What is known of the names below a node that is an engine, as seen from there.

    Attributes:
        is_told: it has told of all of its nodes, and each engine below it of its own.
        is_sure: it has done so just now, and left none out: what is not named is not there.
        nodes: engines on the way to others, too.
        layers: with the way to those that engines below it have: ``edge``, ``fr/edge``.
        groups: as *layers*.
        leaves: of those that are told one by one.
    """

    is_told: bool = False
    is_sure: bool = False
    nodes: frozenset[str] = frozenset()
    layers: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    leaves: Sequence[ToldLeaf] = ()


class Names(Protocol):
    """Knows the names below the nodes that are engines."""

    @property
    def changes(self) -> int:
        """Another number when what is known has changed."""

    def below(self, region: str) -> Told:
        """Return what is known of one."""


class NoNames:
    """Of an engine below which nothing is known."""

    changes = 0

    def below(self, region: str) -> Told:
        """Return that nothing is."""
        return Told()


class Chosen(NamedTuple):
    """Nodes that a task's names choose.

    Attributes:
        names: of the nodes.
        below: of nodes that are engines, which of theirs; those that are not here are meant whole.
    """

    names: frozenset[str]
    below: dict[str, tuple[str, ...]]


class _Found(NamedTuple):
    """What the names of one kind choose."""

    whole: set[str]
    parts: dict[str, set[str]]  # node → names there, with ways as seen from it

    def has(self, node: str) -> bool:
        return node in self.whole or node in self.parts


class Naming:
    """Of one configuration.

    Args:
        nodes: configured ones.
        layers: their names.
    """

    def __init__(self, nodes: Sequence[NodeConfig], layers: Sequence[str]) -> None:
        self._nodes = nodes
        self._layers = layers
        self._by_name = {node.name: node for node in nodes}
        self._regions = [node for node in nodes if drivers.is_engine(node)]
        self._groups = sorted({group for node in nodes for group in node.groups})
        self.names: Names = NoNames()  #: what is known below
        self._known: dict[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], bool], Chosen] = {}
        self._changes = 0

    def chosen(
        self, layers: Sequence[str], nodes: Sequence[str], groups: Sequence[str], *, is_handed: bool
    ) -> Chosen:
        """Return what `choose` does, once for all tasks with the same names, as long as as much is known."""
        changes = self.names.changes
        if changes != self._changes or len(self._known) >= _KNOWN_MAX:
            self._known.clear()
            self._changes = changes
        asked = (tuple(layers), tuple(nodes), tuple(groups), is_handed)
        chosen = self._known.get(asked)
        if chosen is None:
            chosen = self._known[asked] = self.choose(layers, nodes, groups, is_handed=is_handed)
        return chosen

    def choose(
        self, layers: Sequence[str], nodes: Sequence[str], groups: Sequence[str], *, is_handed: bool
    ) -> Chosen:
        """Return the nodes that are in one of *layers*, one of *groups*, and among *nodes*.

        Args:
            layers: names; empty: all.
            nodes: as *layers*.
            groups: as *layers*.
            is_handed: an engine above has chosen names that it knows of: what is not known here is none.

        Raises:
            RequestError: 422 an unknown name: the nearest known one is named, or no node is left; 503 an
                engine below has not told yet whether it has that name.
        """
        found: list[_Found] = []
        if layers:
            found.append(self._of_kind("layers", layers, is_handed=is_handed))
        if groups:
            found.append(self._of_kind("groups", groups, is_handed=is_handed))
        if nodes:
            found.append(self._of_nodes(nodes, is_handed=is_handed))
        names = [node.name for node in self._nodes if all(one.has(node.name) for one in found)]
        below: dict[str, tuple[str, ...]] = {}
        chosen: list[str] = []
        for name in names:
            parts = [one.parts[name] for one in found if name not in one.whole]
            if parts and _is_empty(self.names.below(name), parts):
                continue
            chosen.append(name)
            if parts:
                below[name] = tuple(sorted(one for part in parts for one in part))
        if not chosen:
            raise _nothing(self._nodes, layers, nodes, groups)
        return Chosen(frozenset(chosen), below)

    def _of_nodes(self, names: Sequence[str], *, is_handed: bool) -> _Found:
        found = _Found(set(), {})
        known = [node.name for node in self._nodes]
        for name in names:
            head, mark, rest = name.partition(MARK)
            _refuse_unknown("nodes", head, known)
            if not mark:
                found.whole.add(head)
                continue
            self._check_way("nodes", name, head, rest)
            told = self.names.below(head)
            if not is_handed and told.is_sure and rest not in told.nodes:
                raise _unknown_below("nodes", head, rest, told.nodes)
            found.parts.setdefault(head, set()).add(rest)
        return found

    def _of_kind(self, field: str, names: Sequence[str], *, is_handed: bool) -> _Found:
        """Return what layers or groups choose; *field* names the kind."""
        found = _Found(set(), {})
        start = LAYER if field == "layers" else GROUP
        for name in names:
            head, mark, rest = name.partition(MARK)
            if mark:
                _refuse_unknown(field, head, [node.name for node in self._nodes])
                self._check_way(field, name, head, rest)
                told = self.names.below(head)
                if not is_handed and told.is_sure and rest not in _told_of(told, field):
                    raise _unknown_below(field, head, rest, _told_of(told, field))
                found.parts.setdefault(head, set()).add(start + rest)
            else:
                self._add_everywhere(field, name, found, is_handed=is_handed)
        return found

    def _add_everywhere(self, field: str, name: str, found: _Found, *, is_handed: bool) -> None:
        """Add the nodes of a layer or group, and what engines below have of it.

        A node that is an engine is meant whole where it is in a group itself; or in a layer, when none of its
        own is called so.
        """
        is_layer = field == "layers"
        start = LAYER if is_layer else GROUP
        own = [node for node in self._nodes if (node.layer == name if is_layer else name in node.groups)]
        whole = {node.name for node in own}
        parts = {region.name: self._ways_to(field, name, region.name) for region in self._regions}
        has_parts = any(parts.values())
        if not own and not has_parts and name not in (self._layers if is_layer else ()):
            self._refuse_bare(field, name, is_handed=is_handed)
        for region, ways in parts.items():
            if ways and (is_layer or region not in whole):
                whole.discard(region)
                found.parts.setdefault(region, set()).update(start + way for way in ways)
            elif region not in whole and not is_handed and not self.names.below(region).is_told:
                raise _not_yet(field, name, region)
        found.whole.update(whole)

    def _ways_to(self, field: str, name: str, region: str) -> list[str]:
        told = _told_of(self.names.below(region), field)
        return [one for one in told if one == name or one.endswith(MARK + name)]

    def _check_way(self, field: str, name: str, head: str, rest: str) -> None:
        what = field.removesuffix("s")
        if len(name) > _WAY_MAX:
            raise RequestError(_UNKNOWN, f"{field}: a name has at most {_WAY_MAX} characters", field=field)
        if not drivers.is_engine(self._by_name[head]):
            detail = f"{field}: {name!r}: {head} is a cache, and has no {field} below it"
        elif not rest:
            detail = f"{field}: {name!r} names no {what} behind the {MARK}"
        else:
            return
        raise RequestError(_UNKNOWN, detail, field=field)

    def _refuse_bare(self, field: str, name: str, *, is_handed: bool) -> None:
        """Refuse a layer or group that nobody has, as far as that is known."""
        untold = [one.name for one in self._regions if not self.names.below(one.name).is_told]
        if untold and not is_handed:
            raise _not_yet(field, name, untold[0])
        known = list(self._layers if field == "layers" else self._groups)
        for region in self._regions:
            told = sorted(_told_of(self.names.below(region.name), field))
            known += [one.rpartition(MARK)[2] for one in told]
        raise _unknown(field, name, dict.fromkeys(known))


def _told_of(told: Told, field: str) -> frozenset[str]:
    return told.layers if field == "layers" else told.groups


def _is_empty(told: Told, parts: Iterable[Collection[str]]) -> bool:
    """Tell whether it is sure that no leaf is in all of *parts*: in one of the names of each."""
    if not told.is_sure:
        return False
    left = told.leaves
    for names in parts:
        kind = next(iter(names))[0]
        ends = {name.lstrip(LAYER + GROUP).rpartition(MARK)[2] for name in names}
        if kind == LAYER:
            some = [leaf for leaf in left if leaf.layer in ends]
            left = some or (left if not any(leaf.layer in ends for leaf in told.leaves) else [])
        elif kind == GROUP:
            left = [leaf for leaf in left if not ends.isdisjoint(leaf.groups)]
        else:
            left = [leaf for leaf in left if _is_under(leaf.name, names)]
    return not left


def _is_under(leaf: str, names: Collection[str]) -> bool:
    """Tell whether a leaf, or an engine on the way to it, is named."""
    if leaf in names:
        return True
    at = leaf.find(MARK)
    while at > 0:
        if leaf[:at] in names:
            return True
        at = leaf.find(MARK, at + 1)
    return False


def _refuse_unknown(field: str, name: str, known: list[str]) -> None:
    if name not in known:
        raise _unknown(field, name, known)


def _unknown(field: str, name: str, known: Iterable[str]) -> RequestError:
    if len(name) > _WAY_MAX or len(name.partition(MARK)[0]) > NAME_MAX:
        return RequestError(_UNKNOWN, f"{field}: a name has at most {NAME_MAX} characters", field=field)
    detail = f"{field}: {name!r} is not configured"
    return RequestError(_UNKNOWN, detail, field=field, hint=partial(nearest, name, list(known)))


def _unknown_below(field: str, head: str, name: str, known: Iterable[str]) -> RequestError:
    detail = f"{field}: {name!r} is not configured below {head}"
    return RequestError(_UNKNOWN, detail, field=field, hint=partial(nearest, name, sorted(known)))


def _not_yet(field: str, name: str, region: str) -> RequestError:
    what = field.removesuffix("s")
    detail = (
        f"{field}: whether {region} has a {what} {name!r} is not known yet: it has not told of its nodes "
        f"since this engine started; name the {what} by its way ({region}/{name}), or ask again"
    )
    return RequestError(_NOT_YET, detail, headers={"Retry-After": _ASK_AGAIN_S})


def _nothing(
    nodes: Sequence[NodeConfig], layers: Sequence[str], names: Sequence[str], groups: Sequence[str]
) -> RequestError:
    if not nodes:
        what = "no [[node]] is configured"
    elif not groups:
        what = "no node is in both layers and nodes"
    else:
        asked = {"layers": layers, "nodes": names, "groups": groups}
        what = f"no node is in all of {', '.join(kind for kind, given in asked.items() if given)}"
        if not layers and not names:
            what = "no node is in these groups"
    return RequestError(_UNKNOWN, f"nodes: {what}, so there is nothing to purge", field="nodes")

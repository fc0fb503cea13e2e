"""What an engine tells of the nodes below it: made here, and read by the engine above. Pure."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import msgspec

from engine.api.below import MARK, is_leaf, one_line
from engine.intake.naming import Told, ToldLeaf
from engine.tree.words import LEAVES_MAX, Leaf, Leaves

if TYPE_CHECKING:
    from collections.abc import Iterable

READY: Final = "ready"
NAMES_MAX: Final = 10_000  #: layers, or groups, that are taken over
_ENGINE: Final = "engine"  #: the driver of a node that is one
STATES: Final = ("paused", "down", "sick", "unproven", "refusing", "gone", "catching_up", "unknown", READY)
"""Of leaves, the worst first."""
_CONCERN: Final = {state: place for place, state in enumerate(STATES)}
_encode = msgspec.json.encode


def leaves_of(
    rows: Iterable[Leaf],
    layers: Iterable[str] = (),
    groups: Iterable[str] = (),
    untold: Iterable[str] = (),
) -> Leaves:
    """Return what is told of leaves: those with something wrong first, where they are too many.

    Args:
        rows: all of them.
        layers: see `Leaves`.
        groups: see `Leaves`.
        untold: see `Leaves`.
    """
    all_rows = list(rows)
    left_out = max(0, len(all_rows) - LEAVES_MAX)
    if left_out:
        all_rows = sorted(all_rows, key=concern)[:LEAVES_MAX]
    told = Leaves("", all_rows, left_out, sorted(set(layers)), sorted(set(groups)), sorted(set(untold)))
    told.seen = f"{zlib.crc32(_encode(told)):08x}"
    return told


def readable(told: Leaves) -> Leaves:
    """Return what a child told, as far as names are names and states are states; its leaves are changed.

    What it says is shown to operators: it can forge no other node, drive no terminal, and be of any length.
    """
    plain: set[str] = {""}  # thousands of leaves have few layers, drivers and reasons
    leaves = [leaf for leaf in told.leaves[:LEAVES_MAX] if is_leaf(leaf.name)]
    for leaf in leaves:
        if leaf.state not in _CONCERN:
            leaf.state = "unknown"
        if leaf.layer not in plain or leaf.driver not in plain or leaf.reason not in plain:
            leaf.layer, leaf.driver, leaf.reason = map(one_line, (leaf.layer, leaf.driver, leaf.reason))
            plain.update((leaf.layer, leaf.driver, leaf.reason))
        if not leaf.delayed >= 0:
            leaf.delayed = 0
        if not leaf.oldest_delayed_s >= 0:
            leaf.oldest_delayed_s = 0.0
        if not leaf.age_s >= 0:
            leaf.age_s = 0.0
        if leaf.groups:
            leaf.groups = [group for group in leaf.groups[:NAMES_MAX] if is_leaf(group)]
    beyond = len(told.leaves) - len(leaves)
    names = ([name for name in some[:NAMES_MAX] if is_leaf(name)] for some in _names_of(told))
    return Leaves(told.seen, leaves, max(0, told.left_out) + beyond, *names)


def _names_of(told: Leaves) -> tuple[list[str], list[str], list[str]]:
    return told.layers, told.groups, told.untold


def names_of(told: Leaves, *, is_current: bool) -> Told:
    """Return what tasks may name below a child, of what it told; see `readable`.

    Args:
        told: by it.
        is_current: it tells, and not what it told once is all that is known.
    """
    nodes = {leaf.name for leaf in told.leaves}
    for name in list(nodes):
        nodes.update(_ways_to(name))
    layers, untold = told.layers, told.untold
    if told.leaves and not layers:  # by a version before
        layers = [leaf.name.rpartition(MARK)[0] + MARK + leaf.layer for leaf in told.leaves]
        layers = [name.removeprefix(MARK) for name in layers]
        untold = [leaf.name for leaf in told.leaves if leaf.driver == _ENGINE]
    is_whole = not told.left_out and not untold
    return Told(
        is_told=bool(told.seen) and not untold,
        is_sure=is_current and is_whole and bool(told.seen),
        nodes=frozenset(nodes),
        layers=frozenset(layers),
        groups=frozenset(told.groups),
        leaves=[ToldLeaf(leaf.name, leaf.layer, leaf.groups) for leaf in told.leaves],
    )


def _ways_to(name: str) -> Iterable[str]:
    at = name.find(MARK)
    while at > 0:
        yield name[:at]
        at = name.find(MARK, at + 1)


def concern(leaf: Leaf) -> int:
    """Return a leaf's place in `STATES`."""
    return _CONCERN.get(leaf.state, 0)

"""What an engine tells of the nodes below it: made here, and read by the engine above. Pure."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import msgspec

from engine.api.below import is_leaf, one_line
from engine.tree.words import LEAVES_MAX, Leaf, Leaves

if TYPE_CHECKING:
    from collections.abc import Iterable

READY: Final = "ready"
STATES: Final = ("paused", "down", "sick", "unproven", "refusing", "gone", "catching_up", "unknown", READY)
"""Of leaves, the worst first."""
_CONCERN: Final = {state: place for place, state in enumerate(STATES)}
_encode = msgspec.json.encode


def leaves_of(rows: Iterable[Leaf]) -> Leaves:
    """Return what is told of leaves: those with something wrong first, where they are too many."""
    all_rows = list(rows)
    left_out = max(0, len(all_rows) - LEAVES_MAX)
    if left_out:
        all_rows = sorted(all_rows, key=concern)[:LEAVES_MAX]
    told = Leaves("", all_rows, left_out)
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
    beyond = len(told.leaves) - len(leaves)
    return Leaves(told.seen, leaves, max(0, told.left_out) + beyond)


def concern(leaf: Leaf) -> int:
    """Return a leaf's place in `STATES`."""
    return _CONCERN.get(leaf.state, 0)

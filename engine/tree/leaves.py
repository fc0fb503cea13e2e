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
    """Return what a child told, as far as names are names and states are states.

    What it says is shown to operators: it can forge no other node, drive no terminal, and be of any length.
    """
    leaves = []
    for leaf in told.leaves[:LEAVES_MAX]:
        if not is_leaf(leaf.name):
            continue
        leaves.append(
            Leaf(
                leaf.name,
                leaf.state if leaf.state in STATES else "unknown",
                one_line(leaf.layer),
                one_line(leaf.driver),
                one_line(leaf.reason),
                max(0, leaf.delayed),
                max(0.0, leaf.oldest_delayed_s),
                max(0.0, leaf.age_s),
            )
        )
    beyond = len(told.leaves) - len(leaves)
    return Leaves(told.seen, leaves, max(0, told.left_out) + beyond)


def concern(leaf: Leaf) -> int:
    """Return a leaf's place in `STATES`."""
    return STATES.index(leaf.state) if leaf.state in STATES else 0

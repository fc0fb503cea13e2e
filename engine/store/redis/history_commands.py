"""Commands of the history of a region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.store.redis.history_scripts import BLOCK
from engine.store.redis.keys import PLAN_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.store.redis.script import Command
    from engine.tasks.blocks import Block

_NAMES: Final = (
    *("settled", "settled:packing", "settled:count", "settled:by"),
    *("blocks", "blocks:kept", "blocks:sizes"),
)
_encode = msgspec.json.encode


def put_block(tag: str, block: Block, mine: str, keep_ms: int, bytes_max: int) -> Command:
    """Return the command that writes a block.

    Args:
        tag: of the region.
        block: what is written.
        mine: the token of who packed it.
        keep_ms: it is kept so long.
        bytes_max: of all blocks of the region; the oldest ones are dropped.
    """
    size = len(block.body) + len(block.hashes) + len(block.hosts) + len(block.starts)
    names = ("settled:packing", "settled:by", "blocks", "blocks:kept", "blocks:sizes", "blocks:last")
    fields: list[Any] = [
        *("first_at", repr(block.first_at), "last_at", repr(block.last_at), "actions", block.actions),
        *("states", block.states, "who", _encode(block.who), "nodes", _encode(block.nodes)),
        *("hosts", block.hosts, "hashes", block.hashes, "starts", block.starts),
        *("patterns", _encode(block.patterns), "body", block.body),
    ]
    told = [tag, mine, repr(block.last_at), size, keep_ms, bytes_max]
    return BLOCK.call([f"{tag}{name}" for name in names], [*told, *fields])


def put_plans(plans: Mapping[str, bytes]) -> list[Command]:
    """Return the commands that write plans, by their keys."""
    return [("SET", key, text, "PX", PLAN_MS) for key, text in plans.items()]


def drop_all(tag: str, blocks: Iterable[bytes], since: float, keep_ms: int) -> list[Command]:
    """Return the commands that drop a region's history, of these blocks, and say since when it is whole."""
    names = [*(f"{tag}block:{number.decode()}" for number in blocks), *(f"{tag}{name}" for name in _NAMES)]
    drop: list[Command] = [("DEL", name) for name in names]
    return [*drop, ("SET", f"{tag}blocks:since", repr(since), "PX", keep_ms)]

"""Engines that break one rule between engines, see `tests.model.fleet.start`.

A run has to find each; see `tests.model.broken` for the rules of one engine.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import msgspec

from engine.recovery.rows import ReplayRows

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Broken:
    """A rule, how it is broken, and the faults that show it."""

    rule: str
    patches: tuple[tuple[str, Any], ...]  #: what is replaced, and by what
    faults: frozenset[str]
    topology: str = "single"


_replay: Final = ReplayRows._replay


def _no_commands(*_: object) -> list[Any]:
    return []


def _none(*_: object) -> None:
    return None


def _planned_anew(rows: Any, record: Any, key: Any, progress: Any, plan: bytes, **left_s: float) -> None:
    _replay(rows, msgspec.structs.replace(record, plan=b""), key, progress, b"", **left_s)


def _by_own_clock(_queues: Any) -> Callable[[Any], bool]:
    until = time.time()
    return lambda row: row.seq < until


async def _nothing(*_: object) -> None:
    return None


BROKEN: Final = {
    "wait": Broken(
        "what the replicas do not have is not answered 202",
        (("engine.store.redis.replicas.Replicas.tail", _no_commands),),
        frozenset({"lag, then master killed"}),
        "sentinel",
    ),
    "plan": Broken(
        "a task that is taken over goes on as it was accepted",
        (("engine.recovery.rows.ReplayRows._replay", _planned_anew),),
        frozenset({"node removed", "slow", "hang"}),
    ),
    "clock": Broken(
        "no clock of an engine tells which rows came first, or how old they are",
        (
            ("engine.store.redis.queues.RedisQueues.moment", _by_own_clock),
            ("engine.base.clock.SteadyClock.follow", _none),
        ),
        frozenset({"clock", "down", "slow"}),
    ),
    "takeover": Broken(
        "what a dead engine had is taken over",
        (("engine.cluster.takeover.Takeover.take_from", _nothing),),
        frozenset({"killed", "slow"}),
    ),
}


def break_rule(name: str) -> None:
    """Break a rule in this process, for good."""
    if name in BROKEN:
        patches = BROKEN[name].patches
    else:  # of a tree, whose rules are in another module
        from tests.model.tree.broken import BROKEN as OF_A_TREE  # noqa: PLC0415 - it imports this one

        patches = OF_A_TREE[name].patches
    for target, new in patches:
        mock.patch(target, new).start()

"""One purge more of what a node still serves, on the way of all purges; who asked for it waits."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Final

from engine.tasks.task import Share, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.tasks.task import NodeRef
    from engine.tasks.words import Operation

_LIMIT_S: Final = 10.0


class _Again:
    """Owner of such a purge: see `engine.tasks.task.Owner`."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.is_acked: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def _end(self, *, is_acked: bool) -> None:
        if not self.is_acked.done():
            self.is_acked.set_result(is_acked)

    def acked(self, share: Share, indexes: Sequence[int], *, is_absent: bool = False) -> None:
        """Count what the cache did."""
        self._left -= len(indexes)
        if self._left <= 0:
            self._end(is_acked=True)

    def failed(self, share: Share, indexes: Sequence[int], reason: str) -> None:
        """Give up: the cache does not do it."""
        self._end(is_acked=False)

    def parked(self, share: Share, indexes: Sequence[int]) -> None:
        """Give up: the node went away."""
        self._end(is_acked=False)

    def postponed(self, share: Share, indexes: Sequence[int]) -> None:
        """Give up: the cache answered wrongly again and again."""
        self._end(is_acked=False)

    def acked_beside(self, _share: Share, _index: int, _began_at: float, _now: float) -> float:
        """Count it, whatever is prefetched beside it: a visit looks at what came of it."""
        return -inf


async def purge_again(node: NodeRef, operation: Operation, targets: list[str], task_id: str) -> bool:
    """Purge *targets* on *node*; return whether it acked them all in time."""
    owner = _Again(len(targets))
    task = Task.internal(targets, owner=owner, task_id=task_id)
    node.add_backlog(Share(task, node, operation, len(targets)), range(len(targets)))
    try:
        return await asyncio.wait_for(owner.is_acked, _LIMIT_S)
    except TimeoutError:
        return False

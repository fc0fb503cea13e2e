"""The purge of one canary on one node: by the queue, connections and driver that clients' purges have.

The purge stands where all stand that the engine sends on its own account, such as late ones. What the node
answers is read, judged and held as for a client's subtask; only that nothing of it is stored.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

from engine.tasks.task import Share, Task
from engine.tasks.words import CANCELLED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.nodes.node import Node
    from engine.tasks.words import Operation


async def purge(node: Node, operation: Operation, target: str, *, timeout_s: float) -> str:
    """Purge a canary; return why the node did not ack it, or an empty text: it did."""
    waiting = _Waiting()
    task = Task.internal([target], owner=waiting, task_id="canary")
    share = Share(task, node, operation, 1)
    node.add_backlog(share, range(1))
    try:
        async with asyncio.timeout(timeout_s):
            reason = await waiting.reason
    except TimeoutError:
        return f"did not ack the purge of the canary within {timeout_s:g} s"
    finally:
        if not waiting.is_over:
            share.states[0] = CANCELLED
            node.forget(share, range(1))
    if reason == _KEPT:
        return node.health.last_error or f"is {node.state}"
    return reason


_KEPT = "kept"  #: the node has said why


class _Waiting:
    """Owner of the purge; see `engine.tasks.task.Owner`."""

    def __init__(self) -> None:
        self.reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def is_over(self) -> bool:
        """Whether the node said what became of the purge."""
        return self.reason.done() and not self.reason.cancelled()

    def acked(self, share: Share, indexes: Sequence[int], *, is_absent: bool = False) -> None:
        """The purge is done."""
        self._end("")

    def failed(self, share: Share, indexes: Sequence[int], reason: str) -> None:
        """The purge will not be done."""
        self._end(reason)

    def parked(self, share: Share, indexes: Sequence[int]) -> None:
        """The node is down."""
        self._end(_KEPT)

    def postponed(self, share: Share, indexes: Sequence[int]) -> None:
        """The node refuses the purge, answers it wrongly, or is unproven."""
        self._end(_KEPT)

    def acked_beside(self, _share: Share, _index: int, _began_at: float, _now: float) -> float:
        """The purge counts: no prefetch fetches canaries."""
        return -inf

    def _end(self, reason: str) -> None:
        if not self.reason.done():
            self.reason.set_result(reason)

"""The rows that one delivery sends: chunk by chunk, each folded when all of it is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.delivery.chunk import Chunk, too_old
from engine.delivery.last_look import LastLook
from engine.delivery.sent import SentTo
from engine.nodes import drivers

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.delivery.claims import Claims
    from engine.delivery.handed_rows import HandedRows
    from engine.delivery.late import LateResults
    from engine.delivery.reasons import Reasons
    from engine.nodes.node import Node
    from engine.saver.reader import StoreReader
    from engine.saver.saver import Saver
    from engine.tasks.records import ParkedRow


class RowsOut:
    """Sends rows of nodes.

    Args:
        results: folds what became of them.
        reader: reads the stores.
        reasons: tells tasks what engines that are nodes told of their rows.
        handed: knows what those were handed.
        now: UNIX time that the age of rows is counted to, see `SteadyClock`.
        ttl_s: older rows fail unsent, see `Chunk`; 0: none does.
    """

    def __init__(
        self,
        results: LateResults,
        reader: StoreReader,
        reasons: Reasons,
        handed: HandedRows,
        *,
        now: Callable[[], float],
        ttl_s: float,
    ) -> None:
        self._results = results
        self._reader = reader
        self._reasons = reasons
        self._handed = handed
        self._now = now
        self._ttl_s = ttl_s
        self._sent = SentTo()
        self._chunks: dict[str, Chunk] = {}  # of each node that is being delivered

    def __repr__(self) -> str:
        return f"<RowsOut [{len(self._chunks)} nodes]>"

    def forget(self, task_id: str) -> None:
        """See `Chunk.forget`."""
        for chunk in self._chunks.values():
            chunk.forget(task_id)

    def end(self, name: str) -> None:
        """The delivery of a node is over."""
        self._sent.end(name)
        self._chunks.pop(name, None)

    async def send(
        self, node: Node, saver: Saver, rows: list[ParkedRow], claims: Claims | None
    ) -> tuple[Chunk, bool]:
        """Send rows of a node in a file; return them, and whether some were settled, so that others may go.

        Raises:
            StoreError: the store cannot be read.
        """
        is_engine = drivers.is_engine(node.config)
        were_old = False
        if is_engine and self._ttl_s:
            rows, were_old = await self._look_last(node, saver, rows)
        chunk = Chunk(
            node,
            saver.store,
            self._reader,
            postponed=node.postponed,
            sent=await self._sent.begin(node.name, claims),
            now=self._now(),
            ttl_s=self._ttl_s,
            handed=self._handed if is_engine else None,
        )
        self._chunks[node.name] = chunk
        await chunk.run(rows)
        if chunk.below:
            self._reasons.tell_below(chunk.below)
        were_settled = await self._results.fold(
            node, saver, chunk.done_rows, chunk.failed_rows, absent=chunk.absent_rows
        )
        return chunk, were_settled or were_old

    async def _look_last(
        self, node: Node, saver: Saver, rows: list[ParkedRow]
    ) -> tuple[list[ParkedRow], bool]:
        """Settle rows that waited too long, as the engine that the node is tells; return the others."""
        now = self._now()
        old = [row for row in rows if row.parked_at < now - self._ttl_s]
        if not old:
            return rows, False
        known = await self._handed.known(saver.store, node.name, {row.task_id for row in old})
        look = LastLook(node, known)
        await look.ask(old)
        failed = [
            (row, too_old(now - row.parked_at, self._ttl_s, engine=node.name)) for row in look.failed_rows
        ]
        were_settled = await self._results.fold(node, saver, look.done_rows, failed)
        return [row for row in rows if row.parked_at >= now - self._ttl_s], were_settled

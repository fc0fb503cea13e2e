"""Late delivery: a node that answers again gets the rows of its delay queue, oldest first, a chunk at a time.

- Rows for the same operation and target are one request and all settled by it.
- The row of a prefix or host purge supersedes the older rows of URLs under it.
- A row that waits for its parents' own delivery is let go by that.
- A row whose request went wrong again and again waits for its time (`Postponed`), and nothing waits for it.

A node counts as ready when none of its other rows is left. New subtasks go out beside the delivery, and wait
in memory behind the last chunk; if they joined the queue, a busy engine would never catch up.

With a shared store one engine at a time delivers a node's queue (`Claims`), while the others wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from engine.delivery.due_rows import CHUNK_ROWS, DueRows
from engine.delivery.early import send_rows_early
from engine.delivery.later import Later
from engine.delivery.rows_out import RowsOut
from engine.errors import StoreError
from engine.nodes.health import NodeState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from engine.delivery.claims import Claims
    from engine.delivery.handed_rows import HandedRows
    from engine.delivery.host_wide import HostWide
    from engine.delivery.late import LateResults
    from engine.delivery.queues import DelayQueues
    from engine.delivery.reasons import Reasons
    from engine.delivery.return_gate import ReturnGate
    from engine.nodes.node import Node
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.tasks.records import Depth, Parked

_EARLY_ROWS: Final = 20_000
_READ_RETRY_S: Final = 1.0
_OTHERS_S: Final = 0.2  #: another engine delivers, or a task at work keeps rows
_LATER_LEAST_S: Final = 0.25  #: rows that may be sent again at nearly the same time go together


class Redelivery:
    """Delivers the delay queues of nodes that can be reached.

    Args:
        queues: what is known of the rows.
        results: folds what became of them.
        nodes: the configured nodes by name.
        savers: write the rows, each to a file of its own; *reader* reads those.
        gate: asked before a node counts as ready.
        reasons: tells stored tasks why their rows wait.
        handed: knows what nodes that are engines were handed.
        on_alert: told what an operator should know: key, level, message.
        now: UNIX time that the age of rows is counted to, see `SteadyClock`.
        ttl_s: older rows fail unsent, see `Chunk`; 0: none does.
    """

    def __init__(
        self,
        queues: DelayQueues,
        results: LateResults,
        nodes: Mapping[str, Node],
        savers: SaverPool,
        reader: StoreReader,
        *,
        gate: ReturnGate,
        reasons: Reasons,
        handed: HandedRows,
        on_alert: Callable[[str, str, str], None],
        now: Callable[[], float],
        ttl_s: float = 0,
    ) -> None:
        self.claims: Claims | None = None  #: with a shared store
        self.host_wide: HostWide | None = None
        self._queues = queues
        self._nodes = nodes
        self._savers = savers
        self._reader = reader
        self._on_alert = on_alert
        self._loop = asyncio.get_running_loop()
        self._due_rows = DueRows(reader, reasons, self._loop.time, row_now=now, ttl_s=ttl_s)
        self._out = RowsOut(results, reader, reasons, handed, now=now, ttl_s=ttl_s)
        self._gate = gate
        self._again: set[str] = set()  # nodes to look at once more
        self._unparted: set[str] = set()  # nodes that may have host-wide rows which they refuse
        self._deliveries: dict[str, asyncio.Task[Any]] = {}
        self._later = Later(self._deliver_now)
        self._looked_at: dict[str, float] = {}  # when a node's rows were read last
        self._is_held = False  # nothing is delivered; see `hold`
        self._is_stopped = False
        queues.on_written = self._deliver_written
        queues.on_cancelled = self._out.forget

    # What is delivered when

    def deliver(self, name: str) -> None:
        """Deliver a node's queue, unless that is under way."""
        node = self._nodes[name]
        running = self._deliveries.get(name)
        self._again.add(name)
        if self._is_held:
            node.begin_delivery()
            return
        if running is None or running.done():
            self._deliveries[name] = self._loop.create_task(self._deliver(node))

    def deliver_later(self, name: str, wait_s: float) -> None:
        """Deliver a node's queue in *wait_s* or before, if the node can be reached then."""
        if not self._is_stopped:
            self._later.set(name, max(wait_s, _LATER_LEAST_S))

    def _deliver_now(self, name: str) -> None:
        if self._is_held:
            self.deliver_later(name, _READ_RETRY_S)
        elif not self._nodes[name].health.keeps_rows:
            self.deliver(name)

    def hold(self) -> None:
        """Deliver nothing: another worker of this slot is there, and has tasks that rows belong to."""
        self._is_held = True
        for node in self._nodes.values():
            if node.state is NodeState.CATCHING_UP:
                node.is_ready_now()
            elif node.state is NodeState.RETURNING:
                node.begin_delivery()

    def let_go(self) -> None:
        """Deliver from here on; nodes that came back meanwhile need a `deliver_if_returned`."""
        self._is_held = False

    def deliver_if_returned(self, node: Node) -> None:
        """Deliver the queue of a node that came back while deliveries were held."""
        if node.health.is_returning:
            self.deliver(node.name)

    def deliver_released(self) -> None:
        """Rows may have been let go by their parents: deliver those of reachable nodes."""
        for name in self._queues.behind:
            self._deliver_reachable(name)

    def _deliver_reachable(self, name: str) -> None:
        node = self._nodes.get(name)
        if node is None or node.state not in {NodeState.READY, NodeState.CATCHING_UP}:
            return
        rests_s = self._due_rows.rests_s(name)
        if rests_s > 0:
            self.deliver_later(name, rests_s)
        else:
            self.deliver(name)

    def _deliver_written(self, name: str, rows: Sequence[Parked]) -> None:
        """Rows have come into a shared store: deliver them, unless each of them has to wait."""
        node = self._nodes.get(name)
        if node is not None and not self._due_rows.all_wait(node, rows):
            self._deliver_reachable(name)

    def refresh(self, depths: dict[str, Depth]) -> None:
        """Take over how full a shared store's queues are, and deliver what nodes that are ready have.

        Rows that all have to wait are looked at when their time has come, or when others are among them.
        """
        self._queues.refresh(depths)
        for name, depth in depths.items():
            node = self._nodes.get(name)
            if node is None or not depth.ready or node.state is not NodeState.READY:
                continue
            if self._due_rows.may_have_others(name, depth.ready):
                self.deliver(name)

    async def in_between(self, name: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Change a node's rows while nobody delivers them; False: somebody does, or may not yet.

        Raises:
            StoreError: the claim cannot be taken, or *work* failed.
        """
        running = self._deliveries.get(name)
        is_busy = running is not None and not running.done()
        if is_busy or self._is_held or self._is_stopped:
            return False
        task = self._loop.create_task(self._claimed(name, work))
        self._deliveries[name] = task
        try:
            return await task
        finally:
            if name in self._again and name in self._nodes:
                self.deliver(name)

    async def _claimed(self, name: str, work: Callable[[], Awaitable[None]]) -> bool:
        if self.claims is None:
            await work()
            return True
        if not await self.claims.take(name):
            return False
        try:
            await work()
        finally:
            await self.claims.give_back(name)
        return True

    async def stop(self) -> None:
        """Stop delivering; the rows stay."""
        self._is_stopped = True
        if self.host_wide is not None:
            self.host_wide.stop()
        self._later.stop()
        for task in self._deliveries.values():
            task.cancel()
        await asyncio.gather(*self._deliveries.values(), return_exceptions=True)

    # One node

    async def _deliver(self, node: Node) -> None:
        """Deliver until nothing is left, or the node goes down again.

        Between the last look at `_again` and the end nothing is awaited: who asks for a delivery meanwhile
        would find this one under way, and it would not come.
        """
        self._again.add(node.name)
        while node.name in self._again and not self._is_over(node):
            self._again.discard(node.name)
            self._due_rows.begin(node.name)
            try:
                self._unparted.add(node.name)
                if node.state is NodeState.RETURNING:
                    await self._send_early(node)
                while await self._deliver_turn(node):
                    pass
                self._out.end(node.name)
                if self.claims is not None:
                    await self.claims.give_back(node.name)
                with contextlib.suppress(StoreError):  # what is known here stays the count
                    await self._queues.recount(node.name)
            except Exception as exc:  # noqa: BLE001 - a delivery that ends for good would leave its rows
                if not isinstance(exc, StoreError):
                    logger.exception("the delivery of {} failed and is tried again", node.name)
                self._on_alert("store:read", "error", str(exc))
                self._again.add(node.name)
                if self.claims is not None:
                    with contextlib.suppress(StoreError):
                        await self.claims.give_back(node.name)
                await asyncio.sleep(_READ_RETRY_S)
        wait_s = node.postponed.next_s(self._looked_at.get(node.name, 0.0))
        if wait_s is not None:
            self.deliver_later(node.name, wait_s)

    async def _send_early(self, node: Node) -> None:
        """Purge what waits for parents: when it was parked it was not, if the node was away, too."""
        for saver in self._savers.savers:
            rows = await self._reader.read(saver.store.behind_parked, node.name, _EARLY_ROWS)
            send_rows_early(node, rows, cannot=node.postponed.cannot)

    async def _deliver_turn(self, node: Node) -> bool:
        """Deliver a chunk, unless another engine does; return whether to go on."""
        if self.claims is None or self._is_over(node) or await self.claims.take(node.name):
            return await self._deliver_chunk(node)
        if node.state is NodeState.READY:
            return False
        node.begin_delivery()
        store = self._savers.savers[0].store
        if not await self._reader.read(store.oldest_parked, node.name, 1, True):
            return await self._nothing_left(node)
        await asyncio.sleep(_OTHERS_S)
        return not self._is_over(node)

    def _is_over(self, node: Node) -> bool:
        return node.health.keeps_rows or self._is_stopped or self._is_held

    async def _deliver_chunk(self, node: Node) -> bool:
        """Deliver the oldest rows; return whether to go on.

        A node is ready when its purges are delivered; prefetches may take long and come after that.
        """
        if self._is_over(node):
            return False
        if self.host_wide is not None and node.name in self._unparted:
            self._unparted.discard(node.name)
            await self.host_wide.part_refused(node)
        purges_only = node.state is not NodeState.READY
        self._looked_at[node.name] = self._loop.time()
        chunks = [
            await self._due_rows.read(node, saver.store, purges_only=purges_only)
            for saver in self._savers.savers
        ]
        if not any(chunks):
            return await self._nothing_left(node)
        self._queues.note_oldest(node.name, min(rows[0].parked_at for rows in chunks if rows))
        is_last = sum(map(len, chunks)) < CHUNK_ROWS
        if node.state is NodeState.RETURNING and is_last and self._gate.is_prompt:
            await self._catch_up(node)
        for saver, rows in zip(self._savers.savers, chunks, strict=True):
            if not rows:
                continue
            chunk, were_settled = await self._out.send(node, saver, rows, self.claims)
            if were_settled:
                self.deliver_released()
            if chunk.parted_rows and self.host_wide is not None:
                await self.host_wide.part_failed(node, saver, chunk.parted_rows)
            if chunk.is_cut:
                break  # the node went down, and may be back by now: ask again
        return True

    async def _catch_up(self, node: Node) -> bool:
        """Keep new subtasks back: the last rows are sent. False: the node has to wait for something else."""
        if not await self._gate.is_open(node) or self._is_over(node) or node.state is not NodeState.RETURNING:
            return False
        node.health.catch_up()
        return True

    async def _nothing_left(self, node: Node) -> bool:
        """Take the node one state further; return whether to look for rows again."""
        if self._queues.is_coming(node.name):
            await self._savers.flushed()  # then the rows that come can be read
        elif node.state is NodeState.RETURNING:
            if not await self._catch_up(node):  # else one more look, with new ones kept back
                node.begin_delivery()  # what keeps rows may wait for subtasks of this node
                await asyncio.sleep(_OTHERS_S)
        elif node.state is NodeState.CATCHING_UP:
            node.is_ready_now()
        else:
            return False
        return True

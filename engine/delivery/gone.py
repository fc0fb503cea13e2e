"""Nodes that are not configured any more, and the rows that wait for them.

A node may be taken out of the configuration by mistake, or for an hour; so its rows wait. The store notes
which nodes are configured, whichever engine configures them, and since when one is not: since an engine found
that, so the time in which no engine runs does not count. After ``gone_after_s``, or when an operator says so,
the node's subtasks fail with that reason: just these, and what waits for them goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from loguru import logger

from engine.errors import StoreError
from engine.tasks.records import LastSeen, Sighting, rows_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from engine.delivery.late import LateResults
    from engine.delivery.queues import DelayQueues
    from engine.delivery.reasons import Reasons
    from engine.saver.pool import SaverPool
    from engine.saver.reader import StoreReader
    from engine.tasks.task import NodeRef

_SEE_EVERY_S: Final = 30.0
_PARTS: Final = 4  #: looks in the time after which a node counts as gone
_ROWS: Final = 2000
_NOTED_ROWS: Final = 50_000  #: the oldest rows, whose tasks say why they wait
_NEVER_S: Final = 10 * 365 * 86400.0  #: a node that was seen longer ago was forgotten
_WRITE_LIMIT_S: Final = 30.0
_InBetween: TypeAlias = "Callable[[str, Callable[[], Awaitable[None]]], Awaitable[bool]]"


class GoneNodes:
    """Keeps note of which nodes are configured, and settles what is left of those that are not.

    Args:
        nodes: the configured ones, by name.
        queues: tell which nodes have rows.
        results: fold what became of rows.
        savers: write the rows; *reader* reads them.
        in_between: does something with a node's rows, unless another engine or worker has them.
        on_released: told when rows may have been let go.
        reasons: tells stored tasks why their rows wait.
        on_alert: told what an operator should know: key, level, message.
        gone_after_s: how long rows of such a node wait.
        is_shared: other engines work with the same store: of those the leader decides, see `look`.
    """

    def __init__(
        self,
        nodes: Mapping[str, NodeRef],
        queues: DelayQueues,
        results: LateResults,
        savers: SaverPool,
        reader: StoreReader,
        *,
        in_between: _InBetween,
        on_released: Callable[[], None],
        reasons: Reasons,
        on_alert: Callable[[str, str, str], None],
        gone_after_s: float,
        is_shared: bool,
    ) -> None:
        self._nodes = nodes
        self._queues = queues
        self._results = results
        self._savers = savers
        self._reader = reader
        self._in_between = in_between
        self._on_released = on_released
        self._reasons = reasons
        self._on_alert = on_alert
        self._gone_after_s = gone_after_s
        self._is_shared = is_shared
        self._last_seen: dict[str, LastSeen] = {}
        self._read_at = time.time()
        self._told: set[str] = set()  # nodes that operators were told of
        self._looking = asyncio.Lock()
        self._soon = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<GoneNodes [{len(self._told)} with rows]>"

    # What is known

    async def refresh(self) -> Mapping[str, LastSeen]:
        """Read when each node was configured last.

        Raises:
            StoreError: the store cannot be read.
        """
        last_seen: dict[str, LastSeen] = {}
        for saver in self._savers.savers:
            for name, seen in (await self._reader.read(saver.store.last_seen)).items():
                known = last_seen.get(name)
                # A node is told to be configured to every file, but to be gone where it has rows.
                if known is None or (seen.is_gone, -seen.ago_s) > (known.is_gone, -known.ago_s):
                    last_seen[name] = seen
        self._last_seen, self._read_at = last_seen, time.time()
        return last_seen

    def why(self, name: str) -> str:
        """Return why the subtasks of a node that is not configured wait."""
        return (
            f"{self._since(name)}; it is sent when the node is configured again, and fails after "
            f"gone_after_s ({self._gone_after_s:g} s)"
        )

    def since(self, name: str) -> float:
        """Return since when a node was found to be gone, UNIX time; of one that was not until now: now."""
        seen = self._last_seen.get(name)
        return self._read_at - seen.ago_s if seen is not None and seen.is_gone else time.time()

    def layer(self, name: str) -> str:
        """Return the layer that a node was in when it was configured last; empty: nobody knows."""
        seen = self._last_seen.get(name)
        return "" if seen is None else seen.layer

    def _since(self, name: str) -> str:
        seen = self._last_seen.get(name)
        if seen is not None and seen.ago_s > _NEVER_S:
            return "gone: not configured, and forgotten by an operator"
        at = time.gmtime(round(self.since(name)))
        return f"gone: not configured since {time.strftime('%Y-%m-%dT%H:%M:%SZ', at)}"

    # Again and again

    def start(self) -> None:
        """Begin to note which nodes are configured; with a store of its own also to look."""
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End that."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                self._note_configured()
                if not self._is_shared:
                    await self.look()
            except StoreError as exc:
                self._on_alert("store:read", "error", str(exc))
            except Exception:  # noqa: BLE001 - without it rows of gone nodes would wait for ever
                logger.exception("the look at nodes that are not configured failed")
            self._soon.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._soon.wait(), min(_SEE_EVERY_S, self._gone_after_s / _PARTS))

    def look_soon(self) -> None:
        """Look now: rows that another process left are known here since a moment ago."""
        self._soon.set()

    def _note_configured(self) -> None:
        for saver in self._savers.savers:
            if saver.error is None and self._nodes:
                saver.see([Sighting(name, node.layer) for name, node in self._nodes.items()])

    async def look(self, elsewhere: Collection[str] = ()) -> None:
        """Fail the rows of nodes that have been gone for too long, and tell operators of the others.

        Args:
            elsewhere: nodes that other engines configure.

        Raises:
            StoreError: the store cannot be read.
        """
        async with self._looking:
            names = [name for name in self._queues.names() if self.is_gone(name, elsewhere)]
            for name in self._told.difference(names):
                self._told.discard(name)
                self._on_alert(f"gone:{name}", "resolved", f"nothing waits for {name} any more")
            if not names:
                return
            last_seen = await self.refresh()
            for name in names:
                seen = last_seen.get(name)
                if seen is None or not seen.is_gone:
                    seen = LastSeen(0.0, "", is_gone=True)
                    for saver in self._savers.savers:
                        saver.see([Sighting(name, "", is_gone=True)])
                if seen.ago_s >= self._gone_after_s:
                    await self._fail(name)
                elif name not in self._told:
                    await self._tell(name, seen.ago_s)

    def is_gone(self, name: str, elsewhere: Collection[str] = ()) -> bool:
        """Tell whether no engine configures a node."""
        return name not in self._nodes and name not in elsewhere

    def is_configured(self, name: str) -> bool:
        """Tell whether this engine configures a node."""
        return name in self._nodes

    async def is_known(self, name: str) -> bool:
        """Tell whether a node was ever seen, or has rows.

        Raises:
            StoreError: the store cannot be read.
        """
        return bool(self._queues.depth(name)) or name in await self.refresh()

    async def _tell(self, name: str, ago_s: float) -> None:
        self._told.add(name)
        left_s = max(0.0, self._gone_after_s - ago_s)
        text = (
            f"{name} is not configured any more; its {self._queues.depth(name)} delayed subtasks wait, and "
            f"fail in {left_s:.0f} s: configure it again, or `purgeline forget {name}`"
        )
        self._on_alert(f"gone:{name}", "warning", text)
        for saver in self._savers.savers:
            rows = await self._reader.read(saver.store.parked_of, name, _NOTED_ROWS)
            self._reasons.tell(rows, self.why(name))

    # Their end

    async def forget(self, name: str) -> int:
        """Fail what is left of a node now, and what still comes; return how many rows that were.

        Raises:
            StoreError: the store cannot be read or written.
        """
        async with self._looking:
            for saver in self._savers.savers:
                saver.see([Sighting(name, "", is_forgotten=True)])
            for saver in self._savers.savers:
                await saver.flushed(_WRITE_LIMIT_S)
            await self.refresh()
            return await self._fail(name)

    async def _fail(self, name: str) -> int:
        failed: list[int] = []
        await self._in_between(name, partial(self._fail_rows, name, failed))  # or another engine does it
        return sum(failed)

    async def _fail_rows(self, name: str, failed: list[int]) -> None:
        seen = self._last_seen.get(name)
        reason = self._since(name)
        if seen is None or seen.ago_s < _NEVER_S:
            reason = f"{reason}, longer than gone_after_s ({self._gone_after_s:g} s)"
        for saver in self._savers.savers:
            while rows := await self._reader.read(saver.store.parked_of, name, _ROWS):
                await self._results.fail(name, saver, rows, reason, layer="" if seen is None else seen.layer)
                failed += [len(rows_of(row)) for row in rows]
        if failed:
            logger.warning("{} subtasks of {} have failed: {}", sum(failed), name, reason)
            self._on_released()

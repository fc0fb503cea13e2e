"""The register of prefetches of all engines of one Redis; see `engine.nodes.register.Register`.

- An engine sends a prefetch when the log has it. With Redis away prefetches wait.
- A purge that was acked counts after a look at the log that began then. With Redis away it waits, too: it
  could not be written down either.
- What an engine that was killed had under way counts until it surely has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from engine.cluster.fetch_changes import Begun
from engine.cluster.fetch_looks import FetchLooks
from engine.cluster.fetch_mirror import FetchMirror
from engine.cluster.fetch_writer import FetchWriter
from engine.nodes.underway import Linked
from engine.tasks.words import host_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from engine.base.timer import Timer
    from engine.cluster.threads import Threads
    from engine.nodes.register import Acks, Register
    from engine.store.redis.fetch_log import FetchLog

_FLUSH_S: Final = 1.0


class Sharing(Linked, Protocol):
    """A node, as far as other engines send prefetches to it, too."""

    def share(self, register: Register) -> None:
        """Use a register of all engines."""


class FetchRegister:
    """The register as one engine process uses it.

    Args:
        log: of all engines.
        consumer: name of this process.
        threads: where the log is read and written; theirs alone.
        nodes: by name.
        timer: of the engine.
    """

    def __init__(
        self, log: FetchLog, consumer: str, threads: Threads, *, nodes: Mapping[str, Sharing], timer: Timer
    ) -> None:
        self._log = log
        self._nodes = nodes
        self._threads = threads
        self._count = 0
        self._own: dict[int, Begun] = {}  # entered, or about to be, and not ended
        # Of each part those that no look has found yet, and when they were written.
        self._unseen: list[dict[int, float]] = [{} for _ in range(log.parts)]
        mirror = FetchMirror(nodes, timer, time.monotonic)
        self._writer = FetchWriter(log, self._threads, consumer)
        self._looks = FetchLooks(log, self._threads, mirror, consumer, self._found)

    def __repr__(self) -> str:
        return f"<FetchRegister [{len(self._own)} of its own]>"

    def open(self) -> None:
        """Have the nodes use it, from now on."""
        for node in self._nodes.values():
            node.share(self)
        self._writer.lanes.start()
        self._looks.lanes.start()
        self._looks.lanes.ask()

    async def close(self) -> None:
        """Stop: what waits for a look is in the journal; what was sent counts until it surely has ended."""
        await self._looks.lanes.close()
        await self._writer.lanes.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_S):
                await self._writer.flush()
        self._threads.close()

    # For the nodes

    def enter(
        self,
        url: str,
        nodes: Sequence[str],
        task_ids: Sequence[str],
        *,
        lasts_s: float,
        on_entered: Callable[[], None],
    ) -> int:
        """See `Register.enter`."""
        part = self._log.part_of(host_of(url))
        self._count += 1
        number = self._count * self._log.parts + part
        begun = self._own[number] = Begun(number, lasts_s, url, list(nodes), list(task_ids))
        self._writer.begin(part, begun, partial(self._written, number, on_entered))
        return number

    def end(self, number: int) -> None:
        """See `Register.end`."""
        if self._own.pop(number, None) is not None:
            part = number % self._log.parts
            self._unseen[part].pop(number, None)
            self._writer.end(part, number)

    def look(self, acks: Acks) -> None:
        """See `Register.look`."""
        self._looks.look(acks)

    def _written(self, number: int, on_entered: Callable[[], None]) -> None:
        if number in self._own:
            self._unseen[number % self._log.parts][number] = time.monotonic()
            on_entered()

    def _found(self, part: int, own: set[int], began_at: float, *, is_whole: bool) -> None:
        """Enter once more what is not in the log and should be: a failover may have lost it."""
        unseen = self._unseen[part]
        for number in own:
            unseen.pop(number, None)
        lost = {number for number, written_at in unseen.items() if written_at < began_at}
        if is_whole:
            lost.update(n for n in self._own if n % self._log.parts == part and n not in own | unseen.keys())
        for number in lost:
            unseen.pop(number, None)
            self._writer.begin(part, self._own[number], partial(self._written, number, _nothing))


def _nothing() -> None:
    """Tell nobody."""

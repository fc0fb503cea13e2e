"""The thread of one saver: it takes work from a queue, commits it, and tells the loop."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Final

from engine.base.memory import trim_memory
from engine.errors import StoreError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from engine.saver.work import Work
    from engine.store.store import Store
    from engine.tasks.records import Committed

_FORGET_ROWS: Final = 5000
_STOP_LIMIT_S: Final = 5.0


class SaverThread:
    """A thread that commits one work after the other.

    Args:
        store: written by this thread only.
        loop: the engine's loop.
        on_committed: called on the loop with each work and what came of it.
        name: of the thread.
    """

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        on_committed: Callable[[Work, Committed | StoreError], None],
        name: str,
    ) -> None:
        self.name = name
        self._store = store
        self._loop = loop
        self._on_committed = on_committed
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._running = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._running.start()

    def send(self, work: Work) -> None:
        """Have *work* committed."""
        work.sent_at = time.monotonic()
        self._queue.put(work)

    def stop(self) -> None:
        """End the thread after the batch that it is writing."""
        self._queue.put(None)
        if self._running.is_alive():
            self._running.join(_STOP_LIMIT_S)

    def _run(self) -> None:
        """Write batches until None comes. The thread's whole life."""
        while (work := self._queue.get()) is not None:
            work.begun_at = time.monotonic()
            outcome = self._commit(work)
            work.ended_at = time.monotonic()
            if work.is_trim:
                self._store.shrink()
                trim_memory()
            try:
                self._loop.call_soon_threadsafe(self._on_committed, work, outcome)
            except RuntimeError:  # the loop is gone: a second SIGTERM
                return
            self._store.tidy()

    def _commit(self, work: Work) -> Committed | StoreError:
        try:
            if work.saved and self._store.histories:
                work.batch.settling = work.tasks_saved()
            outcome = self._store.commit(work.batch)
            with contextlib.suppress(StoreError):  # the batch is written all the same
                work.pins = [self._store.pin() for _ in work.on_pinned]
            if work.forget_before:
                with contextlib.suppress(StoreError):  # the batch is written; this is asked for again
                    work.forgotten = self._store.forget(work.forget_before, _FORGET_ROWS)
        except StoreError as exc:
            return exc
        except Exception as exc:  # noqa: BLE001 - a saver that dies would hang every client
            return StoreError(f"unexpected error while saving: {exc!r}")
        return outcome

"""Callbacks that a saver has written: from the store to the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.notify.callbacks import CallbackJob

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.notify.outbox import Outbox
    from engine.tasks.records import Callback


class StoredCallbacks:
    """Has callbacks delivered that are in the store, whoever wrote them there."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def written(self, saver_number: int, callbacks: Iterable[Callback]) -> None:
        """Deliver callbacks that are in the store of a saver.

        Args:
            saver_number: of the saver that drops them when they are over.
            callbacks: written by that saver, or left in its store by another engine or process.
        """
        for callback in callbacks:
            key = (saver_number, callback.key)
            job = CallbackJob(key, callback.task_id, callback.url, callback.body.encode())
            self._outbox.add(job)

    def keys(self) -> set[str]:
        """Return the keys of the callbacks that are not over."""
        return {str(key) for _, key in self._outbox.waiting()}

"""What savers report of their stores: to the operator, and into the counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.tasks.words import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.errors import StoreError
    from engine.observe.audit import Audit
    from engine.observe.counters import Stats


class StoreReports:
    """Passes reports of savers on.

    Args:
        stats: the counters.
        audit: told of tasks that settle.
        on_alert: told what an operator should know: key, level, message.
    """

    def __init__(self, stats: Stats, audit: Audit, on_alert: Callable[..., None]) -> None:
        self._stats = stats
        self._audit = audit
        self._on_alert = on_alert

    def store_state(self, error: StoreError | None) -> None:
        """A store begins to fail, or (None) can be written again."""
        if error is None:
            self._on_alert("store", "resolved", "the store can be written again")
        else:
            self._stats.store_errors += 1
            self._on_alert("store", "error", f"new tasks are answered 503: {error}")

    def settled_late(self, settled: list[dict[str, Any]]) -> None:
        """Tasks that were in the store only have settled; these are their documents."""
        states = [document["state"] for document in settled]
        for document in settled:
            self._audit.settled_late(document)
        self._stats.tasks_done += states.count(State.DONE)
        self._stats.tasks_failed += states.count(State.FAILED)
        self._stats.tasks_cancelled += states.count(State.CANCELLED)

"""A saver that writes nothing: a test takes what it has been handed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.saver.saver import Saver
from engine.saver.work import Work
from tests.fakes.still_loop import StillLoop

if TYPE_CHECKING:
    from collections.abc import Callable


class _IdleLoop(StillLoop):
    def call_soon(self, callback: Callable[[], None]) -> None:
        """Never: the saver does not send to its thread."""


def held_saver(store: Any = None) -> Saver:
    """Return a saver whose loop never calls it, so all stays in its work."""
    loop: Any = _IdleLoop()
    sinks: Any = None
    return Saver(store, loop, sinks, backlog_count=1000, push_timeout_s=1)


def taken(saver: Saver) -> Work:
    """Return what has come together, as the thread would get it."""
    work, saver._own = saver._own, Work()
    return work

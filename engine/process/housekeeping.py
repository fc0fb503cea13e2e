"""What is done now and then: old tasks go, memory is handed back, a history that is not whole is told of."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.base.timer import Timer
    from engine.delivery.sweep import Sweep
    from engine.saver.pool import SaverPool
    from engine.tasks.region import RegionMap

_FORGET_EVERY_S: Final = 60.0
_TRIM_EVERY_S: Final = 1.0
_TRIM_FROM: Final = 100_000  #: live and delayed subtasks; of less there is little to hand back
_TRIM_TO: Final = 8  #: when less than 1/8 of them are left
_TRIM_AFTER_TICKS: Final = 4
_WHOLE_TICKS: Final = 60
_COLLECT_BELOW_TASKS: Final = 10_000  #: beyond, a look at all of them would hold up the loop


class Housekeeping:
    """Runs from `start` to `stop`.

    Args:
        savers: delete old tasks, and hand memory back.
        regions: the tasks in memory.
        timers: hand memory back.
        backlog: gives the number of subtasks that are live or delayed.
        may_forget: tells whether this engine deletes old tasks; of those that share a store one does.
        retention_s: settled tasks are kept so long.
        now: UNIX time by the clock of the store, see `SteadyClock`.
        sweep: fails rows of delay queues that are too old.
        on_alert: told when some of the history is missing, and when it is whole again.
    """

    def __init__(
        self,
        savers: SaverPool,
        regions: RegionMap,
        timers: Sequence[Timer],
        *,
        backlog: Callable[[], int],
        may_forget: Callable[[], bool],
        retention_s: float,
        now: Callable[[], float],
        sweep: Sweep,
        on_alert: Callable[..., None],
    ) -> None:
        self._savers = savers
        self._regions = regions
        self._timers = timers
        self._backlog = backlog
        self._may_forget = may_forget
        self._retention_s = retention_s
        self._now = now
        self._sweep = sweep
        self._on_alert = on_alert
        self._missing = ""  # why some of the history is, as it was told
        self._whole_ticks = 0
        self._loop = asyncio.get_running_loop()
        self._peak = self._low_ticks = 0
        self._handles: dict[str, asyncio.TimerHandle] = {}

    def start(self) -> None:
        """Begin."""
        self._handles["forget"] = self._loop.call_later(_FORGET_EVERY_S, self._forget)
        self._handles["trim"] = self._loop.call_later(_TRIM_EVERY_S, self._trim)
        calm_gc()

    def stop(self) -> None:
        """End: the savers stop soon."""
        for handle in self._handles.values():
            handle.cancel()
        self._sweep.stop()

    def _forget(self) -> None:
        self._handles["forget"] = self._loop.call_later(_FORGET_EVERY_S, self._forget)
        self.forget()

    def _trim(self) -> None:
        self._handles["trim"] = self._loop.call_later(_TRIM_EVERY_S, self._trim)
        self.trim()
        self.look_at_history()

    def look_at_history(self) -> None:
        """Tell when some of the history is missing, and when for a while nothing more of it was.

        A block that is written ends an error, a page that is whole ends one of reading, and the next look at
        a damaged block is one again.
        """
        histories = (part for saver in self._savers.savers for part in saver.store.histories)
        missing = next((part.errors.text for part in histories if part.errors.text), "")
        self._whole_ticks = 0 if missing else self._whole_ticks + 1
        if missing and missing != self._missing:
            self._missing = missing
            said = f"purges go on, and some of their history is missing: {missing}"
            self._on_alert("history", "warning", said)
        elif self._missing and self._whole_ticks >= _WHOLE_TICKS:
            self._missing = ""
            self._on_alert("history", "resolved", "nothing more of the history is missing")

    def forget(self) -> None:
        """Have tasks deleted that settled long ago, and rows of delay queues failed that waited too long."""
        # The wall clock of this host may be wrong for tasks of others, or set while it runs: none goes early.
        before_at = min(time.time(), self._now()) - self._retention_s
        if self._may_forget():
            for saver in self._savers.savers:
                saver.forget(before_at)
            self._sweep.start()

    def trim(self) -> None:
        """Hand memory back some seconds after a large backlog; `RegionMap` does after many tasks."""
        backlog = self._backlog()
        self._peak = max(self._peak, backlog)
        is_low = self._peak >= _TRIM_FROM and backlog < self._peak // _TRIM_TO
        self._low_ticks = self._low_ticks + 1 if is_low else 0
        if self._low_ticks == _TRIM_AFTER_TICKS:  # its last documents are written, too
            self._peak = backlog
            for timer in self._timers:
                timer.sweep()
            if len(self._regions) < _COLLECT_BELOW_TASKS:
                gc.collect()  # empties Python's lists of free objects; each of those keeps an arena of 1 MiB
            for saver in self._savers.savers:
                saver.trim()


def calm_gc() -> None:
    """Keep the garbage collector from stopping the loop.

    Tasks are freed by their reference counts, so there is little to find, and a full pass has to look at
    every live task. What aiohttp leaves of a closed connection are cycles: a young pass frees those of 10,000
    objects at the most, some 15 ms; of 100,000 it took 200 ms. What was made until now stays, and is never
    looked at again: a start leaves no garbage that were worth the search, some 75 ms before it is ready.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 10_000)

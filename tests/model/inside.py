"""What stands in for the clock, the threads and the log of an engine that runs on a virtual loop."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from loguru import logger

import engine.process.build  # noqa: F401 - all modules are there before their clocks change
from engine.saver.thread import SaverThread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.saver.work import Work
    from tests.model.loop import VirtualLoop

LOGS: Any = SimpleNamespace(subtasks=None, dropped=0, format_name="struct", cycle=lambda: "struct")
_COMMIT_S = (0.0003, 0.0003, 0.002, 0.02)


class LoopSaver(SaverThread):
    """A saver that commits on the loop: a moment after work was sent, and a moment before that is told."""

    def start(self) -> None:
        """Start nothing."""

    def send(self, work: Work) -> None:
        """Commit, later."""
        rng = self._loop.rng  # type: ignore[attr-defined]
        self._loop.call_later(rng.choice(_COMMIT_S), self._work, work, rng.choice(_COMMIT_S))

    def stop(self) -> None:
        """End nothing."""

    def _work(self, work: Work, told_after_s: float) -> None:
        outcome = self._commit(work)
        self._loop.call_later(told_after_s, self._on_committed, work, outcome)


def _clock(loop: VirtualLoop) -> Any:
    """Return what engine modules find under the name ``time``."""
    return SimpleNamespace(
        time=loop.wall,
        monotonic=loop.time,
        perf_counter=loop.time,
        sleep=_never,
        strftime=time.strftime,
        gmtime=time.gmtime,
        localtime=time.localtime,
    )


def _never(_: float) -> None:
    raise AssertionError("the engine's loop would block")


@contextlib.contextmanager
def installed(loop: VirtualLoop, seed: int) -> Iterator[list[str]]:
    """Let engines run on *loop*; give the list of errors that they log with a traceback."""
    state = random.getstate()
    random.seed(seed)
    errors: list[str] = []

    def note(message: Any) -> None:
        if message.record["exception"] is not None or os.environ.get("MODEL_LOG"):
            errors.append(str(message))
            if os.environ.get("MODEL_LOG"):
                print(f"{loop.time():12.4f} {str(message).strip()}", file=sys.stderr)

    logger.remove()
    sink = logger.add(
        note, level=os.environ.get("MODEL_LOG") or "ERROR", format="{message}{exception}", diagnose=False
    )
    clock = _clock(loop)
    with contextlib.ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("engine.") and getattr(module, "time", None) is time:
                stack.enter_context(mock.patch.object(module, "time", clock))
        stack.enter_context(mock.patch("engine.saver.saver.SaverThread", LoopSaver))
        stack.enter_context(mock.patch("engine.process.housekeeping.calm_gc"))
        try:
            yield errors
        finally:
            logger.remove(sink)
            random.setstate(state)

"""What stands in for the clock, the threads and the log of an engine that runs on a virtual loop."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

from loguru import logger

import engine.process.build  # noqa: F401 - all modules are there before their clocks change
from engine.saver.thread import SaverThread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.saver.work import Work
    from tests.model.loop import VirtualLoop

LOGS: Any = SimpleNamespace(
    subtasks=None,
    dropped=0,
    format_name="struct",
    cycle=lambda: "struct",
    service="purgeline/model",
    write=lambda _lines: None,
)
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


class Heard:
    """What engines log: each error that comes with a traceback is one of theirs.

    The log is listened to over many runs, because loguru takes long to begin.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.loop: VirtualLoop | None = None
        self._shows_all = bool(os.environ.get("MODEL_LOG"))

    def __enter__(self) -> Self:
        logger.remove()
        level = os.environ.get("MODEL_LOG") or "ERROR"
        logger.add(self._note, level=level, format="{message}{exception}", diagnose=False)
        return self

    def __exit__(self, *exc: object) -> None:
        logger.remove()

    def _note(self, message: Any) -> None:
        if message.record["exception"] is not None:
            self.errors.append(str(message))
        if self._shows_all and self.loop is not None:
            print(f"{self.loop.time():12.4f} {str(message).strip()}", file=sys.stderr)


@contextlib.contextmanager
def installed(loop: VirtualLoop, seed: int, heard: Heard) -> Iterator[None]:
    """Let engines run on *loop*."""
    state = random.getstate()
    random.seed(seed)
    heard.errors, heard.loop = [], loop
    clock = _clock(loop)
    with contextlib.ExitStack() as stack:
        for module in _timed():
            stack.enter_context(mock.patch.object(module, "time", clock))
        for name in ("time", "monotonic", "perf_counter"):  # compiled modules ask the module itself
            stack.enter_context(mock.patch.object(time, name, getattr(clock, name)))
        stack.enter_context(mock.patch("engine.saver.saver.SaverThread", LoopSaver))
        stack.enter_context(mock.patch("engine.process.housekeeping.calm_gc"))
        try:
            yield
        finally:
            random.setstate(state)


def _timed() -> list[Any]:
    """Return the modules of the engine that look at the clock."""
    return [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("engine.") and getattr(module, "time", None) is time
    ]

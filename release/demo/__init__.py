"""The project's main job on this machine: ``./inv demo``.

``stage`` starts an origin, three caches and the engine on free loopback ports; ``story`` takes them through
a purge, a prefetch and the death of a node; ``show`` prints. With ``--cluster`` there are three engines on
one Redis (``cluster``), and ``cluster_story`` kills one of them under load, and Redis. A story claims
nothing that it did not check: a claim that is not true ends the demo with exit code 1, what was expected
and what was seen.
"""

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from release.demo import cluster_story, story
from release.demo.cluster import ClusterStage
from release.demo.program import StageError
from release.demo.screen import ClaimError, StoryScreen
from release.demo.stage import Stage
from release.lab.caches import CacheError

DONE, FAILED, INTERRUPTED = 0, 1, 130  #: exit codes

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(*, keep: bool = False, builtin: bool = False, cluster: bool = False) -> int:
    """Run the demo and return its exit code. Only the main thread may call it, because of Ctrl-C.

    Args:
        keep: leave everything running at the end, until Ctrl-C.
        builtin: use the built-in caching proxy even where real caches are installed.
        cluster: three engines on one Redis instead of one engine on its own.
    """
    screen = StoryScreen()
    began = time.monotonic()
    with _signals() as interrupted:
        try:
            with _stage(ClusterStage if cluster else Stage, builtin=builtin) as stage:
                code = _play(stage, screen, keep=keep)
        except KeyboardInterrupt:
            screen.say("\nInterrupted; all that was started is stopped.")
            return 128 + interrupted[0] if interrupted else INTERRUPTED
    if code == DONE:
        screen.say(f"\nAll stopped and tidied up, after {time.monotonic() - began:.1f} s.")
    return code


def _play(stage: Stage, screen: StoryScreen, *, keep: bool) -> int:
    try:
        screen.opening()
        with screen.waiting("starting an origin, three caches and the engine"):
            stage.start()
        if isinstance(stage, ClusterStage):
            cluster_story.tell(stage, screen)
            if keep:
                cluster_story.invite(stage, screen)
        else:
            story.tell(stage, screen)
            if keep:
                story.invite(stage, screen)
        for name, code in stage.stop_engines().items():
            screen.claim(f"{'the engine' if name == 'engine' else name} drained and left, exit code", 0, code)
    except ClaimError as exc:
        screen.failure(str(exc), log=stage.log_tail())
        return FAILED
    except (StageError, CacheError, OSError, subprocess.TimeoutExpired) as exc:
        screen.failure(f"the demo cannot go on: {exc}", log=stage.log_tail())
        return FAILED
    return DONE


@contextlib.contextmanager
def _stage(kind: type[Stage], *, builtin: bool) -> Iterator[Stage]:
    """Give a stage in a temporary folder. Both are gone at the end; another Ctrl-C does not stop that."""
    folder = Path(tempfile.mkdtemp(prefix="purgeline-demo-"))
    stage = kind(folder, builtin=builtin)
    try:
        yield stage
    finally:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
        try:
            stage.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Let SIGTERM and a closed terminal clean up as Ctrl-C does; gives the list of the signals that came."""
    came: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

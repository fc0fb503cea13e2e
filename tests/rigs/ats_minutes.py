"""An Apache Traffic Server whose minutes a test makes pass: its plug-ins look at their files every 60 s."""

from __future__ import annotations

import contextlib
import shutil
from functools import partial
from typing import TYPE_CHECKING

from release.lab import caches
from tests.rigs.wall_clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from release.lab.caches import Cache

_MINUTE_S = 61


@contextlib.contextmanager
def ats_with_rules(folder: Path, *, name: str, backend: str) -> Iterator[tuple[Cache, Callable[[], None]]]:
    """Start one with regex_revalidate; give it, and what sets its clock a minute forward, once.

    Its timers go by the wall clock; afterwards they sleep until the real one has come as far. The server's
    user has to be able to read the library and its file, so both are in its directory.
    """
    with caches.start_ats(folder, name=name, backend=backend, rules=True) as cache:
        cache.stop()
        clock = WallClock(cache.workdir)
        library = cache.workdir / "wall_clock.so"
        shutil.copyfile(clock.env["LD_PRELOAD"], library)
        library.chmod(0o755)
        cache.run_under(
            "/usr/bin/env", "LD_PRELOAD=/proc/self/cwd/wall_clock.so", "WALL_CLOCK=/proc/self/cwd/clock"
        )
        cache.start()
        yield cache, partial(clock.set, _MINUTE_S)

"""What controllers bring to a host's ``cache``, and when it goes: artefacts, and the agent itself."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from . import package

STALE_S = 86400.0  #: an artefact that no operation took, or half of one, is nobody's after a day
OWN = Path(__file__).resolve().parent  #: the agent that runs
AGENT_STALE_S = 7 * 86400.0  #: an agent that no controller has used for a week


def tidy(cache: Path) -> None:
    """Remove what is left in a cache and nobody will come back for; what cannot be removed stays."""
    now = time.time()
    limits = [(cache.glob("purgeline-*"), STALE_S), (cache.glob("agent-*"), AGENT_STALE_S)]
    for paths, limit_s in limits:
        for path in paths:
            with contextlib.suppress(OSError):
                if path.resolve() != OWN and path.lstat().st_mtime < now - limit_s:
                    package.remove(path)

"""Whether a version has tried the caches of its host by canaries since its reload.

The first round comes a moment after the start, and takes as long as the caches do: longer than a short bake.
Its status says of each worker ``waiting`` until that is over, then ``seen``; ``elsewhere`` where another
engine of the same Redis, or another worker, runs them. Without canaries, and of a version before, it says
nothing, and nothing is waited for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from release.hosts.remote import Fleet, Outcome

ROUND_MAX_S: Final = 30.0  #: for which a round is waited for
ELSEWHERE_MAX_S: Final = 3.0  #: who leads may be about to change, from the worker before to this one
_POLL_S: Final = 0.5


def wait_tried(
    fleet: Fleet,
    answers: Mapping[str, Outcome],
    versions: Mapping[str, str],
    *,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Wait until each host has ended a round of its canaries; return the hosts that had to be waited for.

    Args:
        fleet: the hosts.
        answers: their status of a moment ago.
        versions: what each serves.
        say: told of a host of whose version no round was seen.
        sleep: `time.sleep`.
        now: `time.monotonic`.
    """
    began = now()
    found = {name: _progress(outcome, versions[name]) for name, outcome in answers.items()}
    waited = [name for name, progress in found.items() if _patience_s(progress)]
    while pending := [name for name in waited if now() - began < _patience_s(found[name])]:
        sleep(_POLL_S)
        for name, outcome in fleet.run("status", hosts=pending).items():
            found[name] = _progress(outcome, versions[name])
    for name in waited:
        if found[name] == "waiting":
            say(f"{name}: no round of canaries ended within {ROUND_MAX_S:g} s: its caches are not tried yet")
        elif found[name] == "elsewhere":
            say(f"{name}: another engine runs the canaries: none of {versions[name]} was seen")
    return waited


def _patience_s(progress: str) -> float:
    return {"waiting": ROUND_MAX_S, "elsewhere": ELSEWHERE_MAX_S}.get(progress, 0.0)


def _progress(outcome: Outcome, version: str) -> str:
    """Return how far the workers of a version are, the furthest; empty: nothing is to be waited for."""
    workers: list[Any] = outcome.answer.get("workers") or []
    said = {
        str(worker.get("canaries") or "")
        for worker in workers
        if isinstance(worker, dict)
        and worker.get("version") == version
        and worker.get("state") == "accepting"
    }
    return next((progress for progress in ("seen", "waiting", "elsewhere") if progress in said), "")

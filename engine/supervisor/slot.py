"""One place of ``--workers``: who works there, and how soon a worker that died is started again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

    from .worker import Worker

_YOUNG_S: Final = 10.0  #: a worker that dies sooner than this after its start dies young
_BACKOFF_S: Final = (0.1, 5.0)  #: the shortest and the longest pause


@dataclass(slots=True)
class Slot:
    """One place of ``--workers``: the worker that serves, with those before and after it in a reload."""

    number: int
    workers: list[Worker] = field(default_factory=list)  #: oldest first
    restarts: int = 0
    streak: int = 0  #: deaths in a row, each soon after its start
    is_held: bool = False  #: a reload decides what runs here: no respawn
    has_leftovers: bool = False  #: a worker has exited whose work no other was told to take over
    timer: asyncio.TimerHandle | None = None  #: of the next start

    @property
    def serving(self) -> Worker | None:
        """The worker that is there to stay, ready or not."""
        stay = [worker for worker in self.workers if not worker.is_candidate and not worker.is_leaving]
        return stay[-1] if stay else None

    def backoff_s(self, lived_s: float) -> float:
        """Count a death and return the pause before the next start."""
        self.restarts += 1
        self.streak = self.streak + 1 if lived_s < _YOUNG_S else 1
        if self.streak == 1:
            return 0
        least, most = _BACKOFF_S
        pause_s: float = min(most, least * 2 ** min(self.streak - 2, 20))
        return pause_s * random.uniform(0.5, 1)  # noqa: S311 - jitter

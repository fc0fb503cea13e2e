"""The proof for a node whose answers do not tell whose they are: fill, purge, look again (`inspection`).

A canary of the host is looked at where canaries are set up, else a page that waits to be purged there, so
nothing is purged that nobody asked for. A host is tried a few times, with pauses that grow, then with another
page that waits, or when more of it comes to wait.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from engine.base.background import Background
from engine.base.backoff import backoff_s
from engine.nodes.findings import Verdict
from engine.nodes.inspection import prove
from engine.tasks.words import URLS, host_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.nodes.canary import Canary
    from engine.nodes.findings import Finding, Place
    from engine.nodes.judge import Judge

_PAUSE_FIRST_S: Final = 2.0
_PAUSE_MAX_S: Final = 60.0
_TRIES_MAX: Final = 8
_HOSTS_MAX: Final = 64  #: at a time
_GIVEN_UP_MAX: Final = 1024


class Prober:
    """Proves hosts of one node.

    Args:
        place: the node.
        above: returns its parents and their parents, those next to the origin first.
        judge: given the proofs.
        timeout_s: of one request.
        on_proven: called after a proof.
        on_failed: told why a host could not be proven.
    """

    def __init__(
        self,
        place: Place,
        above: Callable[[], list[Place]],
        judge: Judge,
        *,
        timeout_s: float,
        on_proven: Callable[[], None],
        on_failed: Callable[[str], None],
    ) -> None:
        self._place = place
        self._above = above
        self._judge = judge
        self._timeout_s = timeout_s
        self._on_proven = on_proven
        self._on_failed = on_failed
        self.visit: Callable[[str], Awaitable[Callable[[bool], None]]] = _unnoted  #: see `Fetches.visit`
        self.canary: Canary | None = None  #: where canaries are set up
        self._hosts: set[str] = set()  # being proven
        self.begun = 0  #: hosts, so far
        self._given_up: set[str] = set()  # pages
        self._background = Background()

    @property
    def is_at_work(self) -> bool:
        """Whether a host is being proven."""
        return bool(self._hosts)

    def begin_anew(self) -> None:
        """Try pages again that showed nothing."""
        self._given_up.clear()

    def offer(self, operation: int, target: str) -> None:
        """Take a subtask that waits: if it is of a page, its host is proven with it."""
        host = host_of(target)
        if operation not in URLS or host in self._hosts or len(self._hosts) >= _HOSTS_MAX:
            return
        if target in self._given_up:
            return
        if self._judge.sign is not None and not self._judge.is_proven(target):
            self._hosts.add(host)
            self.begun += 1
            self._background.start(self._prove(host, target))

    def close(self) -> None:
        """Stop."""
        self._background.cancel()
        self._hosts.clear()

    async def _look(self, target: str) -> Finding:
        """Look at a page; purges of it wait, as beside a prefetch, until that is over."""
        over, is_answered = await self.visit(target), False
        try:
            finding = await prove(
                self._place, self._above(), url=target, timeout_s=self._timeout_s, canary=self.canary
            )
            is_answered = finding.verdict is not Verdict.UNREACHABLE
        finally:
            over(is_answered)
        return finding

    async def _prove(self, host: str, target: str) -> None:
        try:
            await self._try(target)
        finally:
            self._hosts.discard(host)
        if self._judge.is_proven(target):
            self._on_proven()
            return
        if len(self._given_up) >= _GIVEN_UP_MAX:
            self._given_up.clear()
        self._given_up.add(target)

    async def _try(self, target: str) -> None:
        for attempt in range(_TRIES_MAX):
            finding = await self._look(target)
            if self._judge.is_proven(target):
                break  # by an answer that came meanwhile
            if finding.verdict is Verdict.PROVEN:
                self._judge.prove(target)
                break
            self._on_failed(f"a fill, a purge and a look at {target} did not show it either: {finding.why}")
            await asyncio.sleep(backoff_s(attempt, first_s=_PAUSE_FIRST_S, max_s=_PAUSE_MAX_S))


async def _unnoted(_: str) -> Callable[[bool], None]:
    return lambda _: None

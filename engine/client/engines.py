"""Which engine is asked next: those that answered lately, in the order they were named; then the others."""

from __future__ import annotations

import time

TYPE_CHECKING = False  # see `engine.base.tuples`
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.client.address import Address

AWAY_FIRST_S = 1.0  #: an engine that failed once comes after the others for so long, then twice as long
AWAY_MAX_S = 30.0


class Engines:
    """Engines of one client, and which of them failed lately. One that is away is tried last, never left out.

    Args:
        addresses: at least one; the first that answers is used.
        now: monotonic seconds; for tests.
    """

    def __init__(self, addresses: Sequence[Address], *, now: Callable[[], float] = time.monotonic) -> None:
        if not addresses:
            raise ValueError("name at least one engine, such as http://127.0.0.1:9181")
        self.addresses = list(addresses)
        self.now = now
        self._failures = [0] * len(addresses)
        self._away_until = [0.0] * len(addresses)

    def __repr__(self) -> str:
        return f"<Engines {self.order()} of {self.url}>"

    @property
    def url(self) -> str:
        """All addresses, as an error names them."""
        return ", ".join(address.url for address in self.addresses)

    def order(self) -> list[int]:
        """Return the places of all engines, as they are to be tried now."""
        now = self.now()
        return sorted(
            range(len(self.addresses)),
            key=lambda place: self._away_until[place] if self._away_until[place] > now else 0.0,
        )

    def answered(self, place: int) -> None:
        """Note that an engine answered."""
        self._failures[place] = 0
        self._away_until[place] = 0.0

    def failed(self, place: int, *, retry_after_s: float = 0.0) -> None:
        """Note that an engine did not answer, or asked to be left alone for *retry_after_s*."""
        from engine.base.backoff import backoff_s  # noqa: PLC0415 - random, which no start should wait for

        pause_s = backoff_s(self._failures[place], first_s=AWAY_FIRST_S, max_s=AWAY_MAX_S)
        self._failures[place] += 1
        self._away_until[place] = self.now() + max(pause_s, min(retry_after_s, AWAY_MAX_S))

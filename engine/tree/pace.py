"""How long a request to a child may take whose body, or answer, is long: as long as bytes pass.

A link between two places may be slow. What is long is given time for each part that has passed, so it is not
begun again and again for ever; a link that passes nothing is noticed nearly as soon as with a short one.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SLOWEST: Final = 4096  #: bytes a second that a link passes for a request, at the least
_PART: Final = 16 * 1024
_AHEAD: Final = 256 * 1024  #: bytes that were written and may be on their way yet


class Pace:
    """Moves the end of a time limit as bytes pass.

    Args:
        limit: of the request.
        within_s: for an answer that is short, to a body that is.
    """

    def __init__(self, limit: asyncio.Timeout, within_s: float) -> None:
        self._limit = limit
        self._within_s = within_s
        self._written = 0

    def __repr__(self) -> str:
        return f"<Pace [{self._written} bytes written]>"

    async def parts(self, body: bytes) -> AsyncIterator[bytes]:
        """Yield a body; the next part is asked for when there is room for it."""
        for start in range(0, len(body), _PART):
            part = body[start : start + _PART]
            self._written += len(part)
            self._move(min(self._written, _AHEAD))
            yield part

    def read(self, count: int) -> None:
        """Note that so many bytes of the answer have come."""
        self._move(count)

    def _move(self, count: int) -> None:
        now = asyncio.get_running_loop().time()
        until = now + self._within_s + count / SLOWEST
        if until > (self._limit.when() or 0.0):
            with contextlib.suppress(RuntimeError):  # it is over: the answer came before the whole body went
                self._limit.reschedule(until)

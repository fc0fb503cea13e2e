"""Waiting for what other threads and processes do: ask again and again, and fail when it takes too long.

Where something tells of a change (an event, a line on a socket, a process that ends), a test waits for that.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

POLL_S = 0.01
POLL_MAX_S = 0.05  #: between two looks once it has taken a while: whoever asks an engine keeps it busy, too
POLL_GROWTH = 1.2

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    *,
    what: str | Callable[[], str] = "it",
    timeout_s: float = 45,
    errors: tuple[type[Exception], ...] = (),
) -> T:
    """Wait for a condition, and return what it returned.

    Args:
        condition: asked every `POLL_S`, less often later, until what it returns is true.
        what: is waited for, as the failure names it.
        timeout_s: seconds until the test fails.
        errors: count as no.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = POLL_S
    while True:
        try:
            result = condition()
        except errors:
            pass
        else:
            if result:
                return result
        assert time.monotonic() < deadline, _in_vain(what, timeout_s)
        time.sleep(pause_s)
        pause_s = min(pause_s * POLL_GROWTH, POLL_MAX_S)


async def until(
    condition: Callable[[], T],
    what: str | Callable[[], str] = "it",
    *,
    news: asyncio.Event | None = None,
    timeout_s: float = 60,
) -> T:
    """Wait for a condition on a running loop, and return what it returned.

    Args:
        condition: asked every `POLL_S`, or whenever *news* is set.
        what: is waited for, as the failure names it.
        news: set on this loop after each change, where there is such an event; the caller leaves it alone.
        timeout_s: seconds until the test fails.
    """
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline, _in_vain(what, timeout_s)
        if news is None:
            await asyncio.sleep(POLL_S)
        else:
            news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), max(0.0, deadline - time.monotonic()))
    return result


def _in_vain(what: str | Callable[[], str], timeout_s: float) -> str:
    return f"{what if isinstance(what, str) else what()} did not happen within {timeout_s:g} s"
